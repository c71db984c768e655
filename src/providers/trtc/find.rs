//! What the vendor has: every recording of a window, and the recordings of one call.

use serde_json::{Value, json};

use crate::domain::clock::Timestamp;
use crate::providers::contract::{AskedCall, ListPage, ProviderError, Told, Window};

use super::answer::{MOST_COUNTED, is_cut};
use super::ask::{Asker, PAGE, Search, TRTC, items};
use super::bucket;
use super::loose;
use super::media::Media;
use super::reading::{MEDIA_INFO, TASK_FILE};
use super::settings::Settings;

/// A file is made some time after the end of its call; the vendor's upload may be stuck for a while.
const MADE_WITHIN_MS: i64 = 24 * 3600 * 1000;
/// Ids of a call that are asked for as tasks.
const MOST_TASKS: usize = 4;
/// Pages for one call.
const MOST_PAGES: u64 = MOST_COUNTED / PAGE;

/// The windows that are still to be listed, and how far the first of them is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Page {
    legacy: bool,
    offset: u64,
    windows: Vec<(i64, i64)>,
}

impl Page {
    fn read(token: &str) -> Option<Self> {
        let mut parts = token.split('|');
        let legacy = match parts.next()? {
            "trtc" => false,
            "live" => true,
            _ => return None,
        };
        let offset = parts.next()?.parse().ok()?;
        let windows: Option<Vec<_>> = parts
            .map(|window| {
                let (from, to) = window.split_once('-')?;
                Some((from.parse().ok()?, to.parse().ok()?))
            })
            .collect();
        Some(Self {
            legacy,
            offset,
            windows: windows.filter(|windows| !windows.is_empty())?,
        })
    }

    fn write(&self) -> String {
        let kind = if self.legacy { "live" } else { "trtc" };
        let mut token = format!("{kind}|{}", self.offset);
        for (from, to) in &self.windows {
            token.push_str(&format!("|{from}-{to}"));
        }
        token
    }

    /// What follows an answer about the first window.
    fn after(mut self, answer: &Value, settings: &Settings, whole: (i64, i64)) -> Option<Self> {
        let (from, to) = self.windows[0];
        let second = 1000;
        if is_cut(answer) && self.offset == 0 && to - from > second {
            // The count stops at 5000: each half by itself.
            let middle = (from + (to - from) / 2).div_euclid(second) * second;
            let middle = middle.max(from + second).min(to);
            self.windows.splice(0..1, [(from, middle), (middle, to)]);
            return Some(self);
        }
        let got = items(answer, "MediaInfoSet").count() as u64;
        let total = answer["TotalCount"].as_u64().unwrap_or(0);
        self.offset += PAGE;
        if got > 0 && self.offset < total && self.offset + PAGE <= MOST_COUNTED {
            return Some(self);
        }
        self.offset = 0;
        self.windows.remove(0);
        if !self.windows.is_empty() {
            return Some(self);
        }
        let then_legacy = !self.legacy && !settings.legacy_keys.is_empty();
        then_legacy.then(|| Self {
            legacy: true,
            offset: 0,
            windows: vec![whole],
        })
    }
}

pub async fn list(
    asker: &Asker,
    settings: &Settings,
    window: Window,
    page: Option<&str>,
    now: Timestamp,
) -> Result<ListPage, ProviderError> {
    let whole = (window.from.ms(), window.to.ms());
    let page = page.and_then(Page::read).unwrap_or(Page {
        legacy: false,
        offset: 0,
        windows: vec![whole],
    });
    let (from, to) = page.windows[0];
    let search = Search {
        legacy: page.legacy,
        after: Some(Timestamp::from_ms(from)),
        before: Some(Timestamp::from_ms(to)),
        offset: page.offset,
        ..Search::default()
    };
    let answer = asker.search(settings, &search, now).await?;
    let told = items(&answer, "MediaInfoSet")
        .filter_map(|item| told(item, None))
        .collect();
    Ok(ListPage {
        told,
        next: page
            .after(&answer, settings, whole)
            .map(|next| next.write()),
    })
}

fn told(item: &Value, call: Option<&str>) -> Option<Told> {
    let media = Media::of(item)?;
    let mut body = json!({ "media": item });
    let mut dedup_key = media.dedup_key();
    if let Some(call) = call {
        body["call"] = json!(call);
        dedup_key = format!("{dedup_key}@{call}");
    }
    Some(Told {
        topic: MEDIA_INFO.to_owned(),
        body: body.to_string().into(),
        dedup_key,
        unreadable: None,
    })
}

/// A call as the vendor's own ids describe it.
#[derive(Debug, Default)]
struct Known<'a> {
    names: Vec<&'a str>,
    app: Option<String>,
    room: Option<String>,
    began: Option<Timestamp>,
    ended: Option<Timestamp>,
}

impl<'a> Known<'a> {
    fn of(call: &'a AskedCall, settings: &Settings) -> Self {
        let mut names = vec![call.provider_call_id.as_str()];
        names.extend(call.aliases.iter().map(String::as_str));
        let told = |key: &str| loose::id(call.custom.get(key)?);
        let mut known = Self {
            app: told("sdk_app_id"),
            room: told("room"),
            began: call.started_at,
            ended: call.ended_at,
            names,
        };
        let lives = known
            .names
            .iter()
            .filter_map(|name| comm_id(name, settings));
        if let Some((app, room, began)) = lives.min_by_key(|(_, _, began)| *began) {
            known.app.get_or_insert(app);
            known.room.get_or_insert(room);
            known.began = Some(known.began.map_or(began, |at| at.min(began)));
        }
        known
    }
}

/// `SdkAppId_RoomId_CreateTime`.
fn comm_id(name: &str, settings: &Settings) -> Option<(String, String, Timestamp)> {
    let (app, rest) = name.split_once('_')?;
    settings.app(app)?;
    let (room, second) = rest.rsplit_once('_')?;
    let second: i64 = second.trim_start_matches('~').parse().ok()?;
    (1_000_000_000..100_000_000_000).contains(&second).then(|| {
        let room = room.trim_matches('"').to_owned();
        (app.to_owned(), room, Timestamp::from_ms(second * 1000))
    })
}

pub async fn ask(
    asker: &Asker,
    settings: &Settings,
    call: &AskedCall,
    now: Timestamp,
) -> Result<Vec<Told>, ProviderError> {
    let mut known = Known::of(call, settings);
    let mut news = Vec::new();
    if settings.cos.is_some() {
        for task in tasks(&known, settings) {
            news.extend(task_files(asker, settings, &known, task, now).await?);
        }
    }
    if known.ended.is_none()
        && let (Some(app), Some(room), Some(began)) = (&known.app, &known.room, known.began)
    {
        known.ended = room_end(asker, settings, app, room, began, now).await?;
    }
    // Without a room and without a time there is nothing to search by.
    let (None, None) = (&known.room, known.began) else {
        news.extend(searched(asker, settings, call, &known, now).await?);
        return Ok(news);
    };
    Ok(news)
}

/// What lies in the bucket in the folders of the call's tasks: what the vendor forgets with the task is still
/// there.
pub async fn ask_bucket(
    asker: &Asker,
    settings: &Settings,
    call: &AskedCall,
    now: Timestamp,
) -> Result<Vec<Told>, ProviderError> {
    let mut news = Vec::new();
    if let Some(cos) = &settings.cos {
        let known = Known::of(call, settings);
        for task in tasks(&known, settings) {
            news.extend(bucket::of_task(&asker.api, settings, cos, task, now).await?);
        }
    }
    Ok(news)
}

/// Names that can be a task's: no room's life, no name of ours.
fn tasks<'a>(known: &Known<'a>, settings: &Settings) -> Vec<&'a str> {
    let can_be = |name: &&&str| {
        !name.is_empty()
            && name.len() <= 256
            && !name.contains(['|', '/', '@'])
            && comm_id(name, settings).is_none()
    };
    let names = known.names.iter().filter(can_be).copied();
    names.take(MOST_TASKS).collect()
}

/// The files of a task that still lives; afterwards the vendor does not know it any more.
async fn task_files(
    asker: &Asker,
    settings: &Settings,
    known: &Known<'_>,
    task: &str,
    now: Timestamp,
) -> Result<Vec<Told>, ProviderError> {
    let app = known.app.as_deref().unwrap_or(&settings.apps[0].id);
    let payload = json!({ "SdkAppId": app.parse::<u64>().unwrap_or(0), "TaskId": task });
    let answer = asker
        .ask(settings, TRTC, "DescribeCloudRecording", &payload, now)
        .await?;
    let Some(answer) = answer else {
        return Ok(Vec::new());
    };
    if answer["TaskId"].as_str().is_some_and(|told| told != task) {
        // About another task than the one asked for.
        return Ok(Vec::new());
    }
    let files = items(&answer, "StorageFileList").filter_map(|file| {
        let name = loose::id(&file["FileName"])?;
        Some(Told {
            topic: TASK_FILE.to_owned(),
            body: json!({ "app": app, "task": task, "file": file })
                .to_string()
                .into(),
            dedup_key: format!("task:{app}:{task}:{name}"),
            unreadable: None,
        })
    });
    Ok(files.collect())
}

/// When this life of the room ended. Needs a paid plan at the vendor, so a refusal is no error here.
async fn room_end(
    asker: &Asker,
    settings: &Settings,
    app: &str,
    room: &str,
    began: Timestamp,
    now: Timestamp,
) -> Result<Option<Timestamp>, ProviderError> {
    use crate::providers::contract::ProviderErrorKind as Kind;
    let second = began.ms().div_euclid(1000);
    let payload = json!({
        "SdkAppId": app.parse::<u64>().unwrap_or(0), "RoomId": room,
        "StartTime": second - 60, "EndTime": second + 3600, "PageNumber": 0, "PageSize": 100,
    });
    let asked = asker
        .ask(settings, TRTC, "DescribeRoomInfo", &payload, now)
        .await;
    let answer = match asked {
        Ok(answer) => answer.unwrap_or_default(),
        Err(error) if matches!(error.kind, Kind::Throttled | Kind::Unreachable) => {
            return Err(error);
        }
        Err(_) => return Ok(None),
    };
    let lives = items(&answer, "RoomList");
    let ended = lives
        .filter(|life| loose::id(&life["RoomString"]).as_deref() == Some(room))
        .filter(|life| {
            loose::number(&life["CreateTime"]).is_some_and(|at| (at - second).abs() <= 1)
        })
        .find_map(|life| loose::moment(&life["DestroyTime"]));
    Ok(ended)
}

async fn searched(
    asker: &Asker,
    settings: &Settings,
    call: &AskedCall,
    known: &Known<'_>,
    now: Timestamp,
) -> Result<Vec<Told>, ProviderError> {
    let until = known.ended.or(known.began).unwrap_or(now);
    let mut news = Vec::new();
    for n in 0..MOST_PAGES {
        let search = Search {
            after: known.began,
            before: Some(until.plus_ms(MADE_WITHIN_MS)),
            room: known.room.as_deref(),
            app: known.app.as_deref(),
            offset: n * PAGE,
            ..Search::default()
        };
        let answer = asker.search(settings, &search, now).await?;
        let mut got = 0_u64;
        for item in items(&answer, "MediaInfoSet") {
            got += 1;
            let Some(media) = Media::of(item) else {
                continue;
            };
            let is_of_room = known.room.is_none() || media.room == known.room;
            let is_of_task = media
                .task
                .as_deref()
                .is_some_and(|task| known.names.contains(&task));
            let is_of_life = known.room.is_some() && is_of_room && within(&media, known);
            if is_of_task || is_of_life {
                news.extend(told(item, Some(&call.provider_call_id)));
            }
        }
        let total = answer["TotalCount"].as_u64().unwrap_or(0);
        if got == 0 || (n + 1) * PAGE >= total {
            break;
        }
    }
    Ok(news)
}

/// The file's sound began within the call; without the call's end nobody can tell, because rooms are used again.
fn within(media: &Media, known: &Known<'_>) -> bool {
    const SLACK_MS: i64 = 5_000;
    match (media.created, known.began, known.ended) {
        (Some(created), Some(began), Some(ended)) => {
            let start = media.began().unwrap_or(created);
            // The file is made after its end, so its beginning is known at the latest.
            created.ms() + SLACK_MS >= began.ms() && start.ms() <= ended.ms() + MADE_WITHIN_MS / 12
        }
        _ => false,
    }
}
