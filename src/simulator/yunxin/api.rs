//! The vendor's servers: check sums first, then the files of a channel, one stored file, or all of them.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::house::locked;
use super::super::plan::{Ending, Mishap};
use super::super::sign;
use super::super::wire::{Reply, Request};
use super::{Stored, Yunxin};

const QUERY: &str = "/nimserver/history/queryMediaFileByChannelId.action";
const VIDEO: &str = "/app/vod/video/get";
const LIST: &str = "/app/vod/video/list";

/// A check sum is good for five minutes; that is about the customer's clock, so the speed does not change it.
const CHECK_SUM_LIVES_S: i64 = 300;
/// The documented limit of a nonce.
const LONGEST_NONCE: usize = 128;

/// The page's name in the counters.
pub fn page(path: &str) -> &'static str {
    [QUERY, VIDEO, LIST]
        .into_iter()
        .find(|known| *known == path)
        .unwrap_or("other")
}

fn refusal(code: u16, words: &str) -> Reply {
    Reply::json(&json!({ "code": code, "desc": words }))
}

impl Yunxin {
    pub fn api(&self, request: &Request) -> Reply {
        if page(&request.path) == "other" {
            return Reply::text(StatusCode::NOT_FOUND, "not found");
        }
        if request.method != Method::POST {
            return Reply::text(StatusCode::METHOD_NOT_ALLOWED, "only POST");
        }
        if !self.is_signed(request) {
            return refusal(414, "bad check sum");
        }
        let mime = request.header("content-type");
        let is_json = mime.starts_with("application/json");
        match request.path.as_str() {
            QUERY if !is_json => self.query(request.field("channelId")),
            VIDEO | LIST if is_json => match serde_json::from_slice::<Value>(&request.body) {
                Ok(asked) if request.path == VIDEO => self.video(&asked),
                Ok(asked) => self.list(&asked),
                Err(_) => refusal(414, "bad json"),
            },
            // Whatever was forgotten, this is what the vendor complains of.
            _ => refusal(414, "channelId is empty!"),
        }
    }

    fn is_signed(&self, request: &Request) -> bool {
        let (nonce, time) = (request.header("nonce"), request.header("curtime"));
        let Ok(seconds) = time.parse::<i64>() else {
            return false;
        };
        let age = self.house.now_ms().div_euclid(1000) - seconds;
        request.header("appkey") == self.app_key
            && (1..=LONGEST_NONCE).contains(&nonce.len())
            && age.abs() <= CHECK_SUM_LIVES_S
            && request.header("checksum") == sign::yunxin_question(&self.app_secret, nonce, time)
    }

    /// A file that exists (any more).
    fn is_there(file: &Stored) -> bool {
        file.call.plan.ending == Ending::Archived
    }

    fn query(&self, channel: &str) -> Reply {
        if channel.is_empty() {
            return refusal(414, "channelId is empty!");
        }
        let mut files: Vec<Arc<Stored>> = {
            let store = locked(&self.store);
            let of_channel = store
                .by_object
                .values()
                .filter(|file| file.call.id == channel);
            of_channel
                .filter(|file| Self::is_there(file))
                .cloned()
                .collect()
        };
        let Some(first) = files.first() else {
            return Reply::json(&json!({ "code": 200, "fileInfos": null }));
        };
        if first.call.strikes(Mishap::TooMany) {
            return refusal(416, "frequency control");
        }
        if first.call.strikes(Mishap::NotReady) {
            return Reply::json(&json!({ "code": 200, "fileInfos": [] }));
        }
        files.sort_by(|one, other| one.object.cmp(&other.object));
        let infos: Vec<Value> = files
            .iter()
            .map(|file| {
                let made = file.call.ended_ms;
                json!({
                    "createTime": if file.is_open { made.into() } else { Value::from(made.to_string()) },
                    "objectName": file.object,
                    "url": self.fresh_url(file),
                })
            })
            .collect();
        Reply::json(&json!({ "code": 200, "fileInfos": infos }))
    }

    fn video(&self, asked: &Value) -> Reply {
        let vid = match &asked["vid"] {
            Value::Number(vid) => vid.as_u64(),
            Value::String(vid) => vid.parse().ok(),
            _ => None,
        };
        let Some(vid) = vid else {
            return refusal(414, "vid is empty!");
        };
        let stored = locked(&self.store).by_vid.get(&vid).cloned();
        let Some(file) = stored.filter(|file| Self::is_there(file)) else {
            return refusal(404, "video not exist");
        };
        if file.call.strikes(Mishap::TooMany) {
            return refusal(416, "frequency control");
        }
        let mut entry = self.entry(&file);
        if file.call.strikes(Mishap::NotReady) {
            entry["status"] = 30.into();
            entry["downloadOrigUrl"] = Value::Null;
            entry["origUrl"] = Value::Null;
        }
        Reply::json(&json!({ "code": 200, "ret": entry }))
    }

    /// The newest first.
    fn list(&self, asked: &Value) -> Reply {
        let page = asked["currentPage"].as_u64().unwrap_or(1).max(1) as usize;
        let size = match asked["pageSize"].as_i64() {
            Some(-1) | None => usize::MAX,
            Some(size) => size.max(1) as usize,
        };
        let files: Vec<Arc<Stored>> = {
            let store = locked(&self.store);
            let newest = store
                .vids
                .iter()
                .rev()
                .filter_map(|vid| store.by_vid.get(vid));
            newest
                .filter(|file| Self::is_there(file))
                .cloned()
                .collect()
        };
        let entries: Vec<Value> = files
            .iter()
            .skip((page - 1).saturating_mul(size))
            .take(size)
            .map(|file| self.entry(file))
            .collect();
        let ret = json!({ "totalNum": files.len(), "currentPage": page, "list": entries });
        Reply::json(&json!({ "code": 200, "ret": ret }))
    }

    fn entry(&self, file: &Stored) -> Value {
        let made = file.call.ended_ms;
        json!({
            "vid": file.vid,
            "videoName": file.name,
            "status": 40,
            "origUrl": format!("http://{}/gone/{}", self.house.authority(), file.object),
            "downloadOrigUrl": self.fresh_url(file),
            "initialSize": file.audio.bytes.len(),
            "duration": file.audio.duration_ms / 1000,
            "durationMsec": file.audio.duration_ms,
            "typeName": "录制",
            "createTime": made,
            "updateTime": made,
            "completeTime": made,
        })
    }
}
