//! `retry`: another go for what waits or was put aside.

use clap::Args;
use uuid::Uuid;

use crate::db::search::Target;
use crate::domain::clock::{Clock as _, SystemClock};

use super::{Failure, Global, Out, exit, find};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  callvault retry RECORDING_ID\n  callvault retry --access RECORDING_ID"
)]
pub struct Retry {
    /// Makes the access copy again (the original stays as it is)
    #[arg(long)]
    access: bool,
    /// Recordings, or calls for all their recordings
    #[arg(required = true, value_name = "ID", allow_hyphen_values = true)]
    ids: Vec<String>,
}

impl Retry {
    pub async fn run(self, global: &Global, out: &Out) -> Result<u8, Failure> {
        let config = super::run::load(global)?;
        let db = find::open(&config).await?;
        let now = SystemClock.now();
        // The others are still done; the first that was not is the error.
        let mut refused = None;
        for id in &self.ids {
            let recordings: Vec<Uuid> = match find::resolve(&db, id).await? {
                Target::Recording(recording) => vec![recording],
                Target::Call(call) => db.show_call(call).await?.map_or(Vec::new(), |view| {
                    view.recordings
                        .iter()
                        .filter_map(|detail| detail.recording.recording_id)
                        .collect()
                }),
            };
            if recordings.is_empty() {
                refused.get_or_insert_with(|| no_recording(id));
            }
            for recording in recordings {
                find::audit(&db, "retry", &recording.to_string()).await?;
                let queued = if self.access {
                    db.request_access_again(recording, now).await?
                } else {
                    db.retry(recording, now).await?
                };
                if !queued {
                    refused.get_or_insert_with(|| not_queued(recording, self.access));
                }
                let done = serde_json::json!({ "recording_id": recording, "queued": queued });
                out.item(&done, || {
                    if queued {
                        format!("{recording} is next in its queue")
                    } else if self.access {
                        format!("{recording} is not archived: there is nothing to make a copy of")
                    } else {
                        format!("{recording} needs no retry in its present state")
                    }
                });
            }
        }
        refused.map_or(Ok(exit::DONE), Err)
    }
}

fn no_recording(id: &str) -> Failure {
    let what = format!("the call {id} has no recording");
    let remedy = "there is nothing to try again; `callvault show` tells what is known of the call";
    Failure::failed("not_archived", what, id.to_owned(), remedy)
}

fn not_queued(recording: Uuid, access: bool) -> Failure {
    let place = recording.to_string();
    if access {
        let what = format!("{recording} is not archived: there is nothing to make a copy of");
        let remedy = "retry it without --access, and make the copy when it is archived";
        return Failure::failed("not_archived", what, place, remedy);
    }
    let what = format!("{recording} needs no retry in its present state");
    let remedy = "see `callvault show`; an access copy is made again with --access";
    Failure::failed("not_retryable", what, place, remedy)
}
