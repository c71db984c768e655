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
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

impl Retry {
    pub async fn run(self, global: &Global, out: &Out) -> Result<u8, Failure> {
        let config = super::run::load(global)?;
        let db = find::open(&config).await?;
        let now = SystemClock.now();
        let mut code = exit::DONE;
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
            for recording in recordings {
                find::audit(&db, "retry", &recording.to_string()).await?;
                let queued = if self.access {
                    db.request_access_again(recording, now).await?
                } else {
                    db.retry(recording, now).await?
                };
                if !queued {
                    code = exit::FAILED;
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
        Ok(code)
    }
}
