//! What lies in the customer's bucket: a recording is known by its key, because no callback is needed for it to
//! be there.
//!
//! What a newcomer gets wrong: the list has no time, so whatever the window every key is walked over; a playlist
//! is one recording, and its segments beside it are none; and a name says nothing of when the call was.

use serde_json::{Value, json};

use crate::domain::call::CallFacts;
use crate::domain::clock::Timestamp;
use crate::domain::reading::Reading;
use crate::providers::api::Api;
use crate::providers::contract::{ListPage, ProviderError, ProviderErrorKind, Told, Window};

use super::cos::{self, Listing, Object};
use super::loose;
use super::names::FileName;
use super::reading::{File, ignored, keep_picture, party};
use super::settings::{Cos, Settings};

/// News under this name come from the bucket's list.
pub const BUCKET_FILE: &str = "bucket_file";

/// What the names of recordings end in; segments (`ts`) belong to their playlist.
const PLAYLIST: &str = "m3u8";
const SINGLE: [&str; 2] = ["mp4", "aac"];

/// Times are told in whole seconds.
const SECOND_MS: i64 = 1000;
/// Pages of one task's folder: 50 000 files.
const MOST_PAGES: usize = 50;

/// The first page of everything below the prefix.
pub async fn first(api: &Api, cos: &Cos, now: Timestamp) -> Result<Listing, ProviderError> {
    cos::page(api, cos, &folder(cos, None), "", now).await
}

/// One page of everything below the prefix, of which only what was written within the window is told. A page's
/// token is the key behind which it begins.
pub async fn list(
    api: &Api,
    settings: &Settings,
    written: Window,
    page: Option<&str>,
    now: Timestamp,
) -> Result<ListPage, ProviderError> {
    let Some(cos) = settings.cos.as_ref().filter(|cos| cos.list) else {
        // The configuration changed while a walk was under way.
        return Ok(ListPage::default());
    };
    let folder = folder(cos, None);
    // A key of another prefix is from before the configuration changed.
    let marker = page
        .filter(|page| page.starts_with(&folder))
        .unwrap_or_default();
    let listing = page_of(api, settings, cos, &folder, marker, now).await?;
    if listing.next.as_deref().is_some_and(|next| next <= marker) {
        let what = "a page of the list that goes on where it began";
        return Err(cos::senseless(api, what.to_owned()));
    }
    let within = |object: &&Object| {
        let (from, to) = (written.from.plus_ms(-SECOND_MS), written.to);
        // Without a time nothing is left out.
        object.modified.is_none_or(|at| from <= at && at <= to)
    };
    let objects = listing.objects.iter().filter(within);
    Ok(ListPage {
        told: objects.filter_map(|one| told(one, cos, settings)).collect(),
        next: listing.next,
    })
}

/// A page of the bucket. Without a key for the media store a bucket that may not be listed leaves nothing that
/// finds what no callback announced: then the credentials are no good at all.
async fn page_of(
    api: &Api,
    settings: &Settings,
    cos: &Cos,
    folder: &str,
    marker: &str,
    now: Timestamp,
) -> Result<Listing, ProviderError> {
    let page = cos::page(api, cos, folder, marker, now).await;
    page.map_err(|error| match (error.kind, &settings.api) {
        (ProviderErrorKind::CannotListBucket, None) => ProviderError {
            kind: ProviderErrorKind::CredentialsRefused,
            ..error
        },
        _ => error,
    })
}

/// What lies in the folder of one task.
pub async fn of_task(
    api: &Api,
    settings: &Settings,
    cos: &Cos,
    task: &str,
    now: Timestamp,
) -> Result<Vec<Told>, ProviderError> {
    let folder = folder(cos, Some(task));
    let (mut news, mut marker) = (Vec::new(), String::new());
    for _ in 0..MOST_PAGES {
        let listing = page_of(api, settings, cos, &folder, &marker, now).await?;
        let Listing { objects, next } = listing;
        let own = objects.iter().filter(|one| one.key.starts_with(&folder));
        news.extend(own.filter_map(|one| told(one, cos, settings)));
        match next {
            Some(next) if next > marker => marker = next,
            // The last page, or one that does not get on.
            _ => break,
        }
    }
    Ok(news)
}

/// `FileNamePrefix` parts and the task, with the slash behind them; empty: the whole bucket.
fn folder(cos: &Cos, task: Option<&str>) -> String {
    let parts = [Some(cos.prefix.as_str()), task];
    let parts = parts.into_iter().flatten().filter(|part| !part.is_empty());
    parts.map(|part| format!("{part}/")).collect()
}

/// Task and file name of a key.
fn place<'a>(key: &'a str, cos: &Cos) -> Option<(&'a str, &'a str)> {
    let rest = key.strip_prefix(&folder(cos, None))?;
    let (task, name) = rest.split_once('/')?;
    let is_good = |part: &str| !part.is_empty() && part.len() <= loose::LONGEST_ID;
    (is_good(task) && is_good(name) && !name.contains('/')).then_some((task, name))
}

/// A recording of one of our applications; anything else in the bucket is none of our business.
fn told(object: &Object, cos: &Cos, settings: &Settings) -> Option<Told> {
    let (task, name) = place(&object.key, cos)?;
    let known = FileName::of(name);
    let app = known.sdk_app_id.filter(|id| settings.app(id).is_some())?;
    let ext = known.ext.as_str();
    if ext != PLAYLIST && !SINGLE.contains(&ext) {
        return None;
    }
    // Written once more is news.
    let second = object.modified.map_or(0, |at| at.ms() / SECOND_MS);
    let modified = object.modified.map(|at| at.to_string());
    Some(Told {
        topic: BUCKET_FILE.to_owned(),
        body: json!({ "app": app, "task": task, "name": name, "modified": modified })
            .to_string()
            .into(),
        dedup_key: format!("bucket:{app}:{task}:{name}:{second}"),
        unreadable: None,
    })
}

/// `{"app", "task", "name", "modified"}`: an object of the bucket.
pub fn read(body: &Value, settings: &Settings) -> Result<Reading, String> {
    let told = |key: &str| loose::id(&body[key]).ok_or(format!("no {key}"));
    let (app, task, name) = (told("app")?, told("task")?, told("name")?);
    if settings.app(&app).is_none() {
        return ignored("an object of another application");
    }
    let modified = loose::date(&body["modified"]);
    let known = FileName::of(&name);
    let room = match known.has_text_room() {
        Some(true) => known.text_room(),
        Some(false) => known.room_raw.clone(),
        None => None,
    };
    let mixed = known.mixed.filter(|is_so| *is_so);
    let file = File {
        app,
        room,
        user: known.user(),
        // A playlist is there from its first segment on.
        ready_now: known.ext != PLAYLIST,
        media_id: known.media_id.or_else(|| mixed.map(|_| "mix".to_owned())),
        task: Some(task.clone()),
        name: Some(name),
        in_cos: true,
        confirmed: true,
        ready_after: modified.map(|at| at.plus(settings.ready_after)),
        ..File::default()
    };
    let mut call = CallFacts::new(task);
    // The latest that it can have been; whoever knows better tells an earlier time, and that one counts.
    call.started_at = modified;
    call.recorded = Some(true).filter(|_| file.has_sound());
    call.parties.extend(file.user.clone().map(party));
    call.custom.insert("sdk_app_id".to_owned(), json!(file.app));
    if let Some(room) = &file.room {
        call.custom.insert("room".to_owned(), json!(room));
    }
    let mut reading = Reading::default();
    if file.has_sound() {
        let announced = file.announced(&call.provider_call_id);
        reading.recordings.push(announced);
    } else {
        keep_picture(&mut call, &file, None, None);
    }
    reading.calls.push(call);
    Ok(reading)
}
