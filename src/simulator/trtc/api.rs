//! The two APIs: TC3 signatures, five minutes for the clock, and errors that come with status 200.

use std::sync::Arc;

use chrono::DateTime;
use serde_json::{Value, json};

use super::super::house::locked;
use super::super::plan::Mishap;
use super::super::sign;
use super::super::wire::{Reply, Request};
use super::Trtc;
use super::store::{Stored, Where};

/// "TotalCount stops at 5000", and so does Offset + Limit.
const MOST: usize = 5000;
const CLOCK_S: i64 = 300;
/// A task is known so long after its recorder left.
const TASK_LIVES_S: u64 = 60;

impl Trtc {
    pub(super) fn api(&self, request: &Request) -> Reply {
        let action = request.header("x-tc-action");
        let (service, version) = match action {
            "SearchMedia" | "DescribeMediaInfos" => ("vod", "2018-07-17"),
            _ => ("trtc", "2019-07-22"),
        };
        if let Err(code) = self.is_signed(request, service) {
            return error(code);
        }
        if request.header("x-tc-version") != version {
            return error("NoSuchVersion");
        }
        if service == "trtc" && request.header("x-tc-region").is_empty() {
            return error("MissingParameter");
        }
        let Ok(asked) = serde_json::from_slice::<Value>(&request.body) else {
            return error("InvalidParameter");
        };
        if service == "vod" && asked["SubAppId"] != self.sub_app {
            return error("InvalidParameterValue.SubAppId");
        }
        if service == "trtc" && asked["SdkAppId"] != self.app {
            return error("InvalidParameter.SdkAppId");
        }
        match action {
            "SearchMedia" => self.search(&asked),
            "DescribeMediaInfos" => self.infos(&asked),
            "DescribeCloudRecording" => self.task(&asked),
            "DescribeRoomInfo" => self.rooms(&asked),
            _ => error("InvalidAction"),
        }
    }

    fn is_signed(&self, request: &Request, service: &str) -> Result<(), &'static str> {
        let told = request.header("authorization");
        let Some(rest) = told.strip_prefix("TC3-HMAC-SHA256 Credential=") else {
            return Err("AuthFailure.SignatureFailure");
        };
        let Ok(second) = request.header("x-tc-timestamp").parse::<i64>() else {
            return Err("AuthFailure.SignatureFailure");
        };
        if (self.house.now_ms() / 1000 - second).abs() > CLOCK_S {
            return Err("AuthFailure.SignatureExpire");
        }
        let date = DateTime::from_timestamp(second, 0)
            .map_or_else(String::new, |at| at.format("%Y-%m-%d").to_string());
        let (id, rest) = rest.split_once('/').unwrap_or_default();
        if id != self.secret_id {
            return Err("AuthFailure.SecretIdNotFound");
        }
        let expected = sign::tc3(
            &self.secret_key,
            service,
            request.header("host"),
            request.header("content-type"),
            &request.body,
            second,
            &date,
        );
        let wanted = format!(
            "{date}/{service}/tc3_request, SignedHeaders=content-type;host, Signature={expected}"
        );
        if rest == wanted {
            Ok(())
        } else {
            Err("AuthFailure.SignatureFailure")
        }
    }

    fn search(&self, asked: &Value) -> Reply {
        let now = self.house.now_ms();
        let offset = asked["Offset"].as_u64().unwrap_or(0) as usize;
        let limit = asked["Limit"].as_u64().unwrap_or(10) as usize;
        if offset + limit > MOST {
            return error("InvalidParameterValue.OffsetTooLarge");
        }
        let texts = |name: &str| -> Option<Vec<String>> {
            let list = asked[name].as_array()?;
            Some(
                list.iter()
                    .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
                    .collect(),
            )
        };
        let edge = |name: &str| {
            let text = asked["CreateTime"][name].as_str()?;
            Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis())
        };
        let (after, before) = (edge("After"), edge("Before"));
        let is_in = |list: &Option<Vec<String>>, value: &str| {
            list.as_ref()
                .is_none_or(|list| list.iter().any(|v| v == value))
        };
        let (sources, apps) = (texts("SourceTypes"), texts("TrtcSdkAppIds"));
        let (rooms, names) = (texts("TrtcRoomIds"), texts("Names"));
        let app = self.app.to_string();
        let all: Vec<Arc<Stored>> = locked(&self.store)
            .files
            .iter()
            .filter(|file| file.place == Where::Media && file.is_there(now))
            // Whole seconds, both ends included.
            .filter(|file| after.is_none_or(|after| file.created_ms / 1000 * 1000 >= after))
            .filter(|file| before.is_none_or(|before| file.created_ms / 1000 * 1000 <= before))
            .filter(|file| is_in(&sources, if file.legacy { "Record" } else { "TrtcRecord" }))
            .filter(|file| file.legacy && apps.is_none() || !file.legacy && is_in(&apps, &app))
            .filter(|file| is_in(&rooms, &file.room.shown()) && is_in(&names, &file.name))
            .cloned()
            .collect();
        let page = all.iter().skip(offset).take(limit);
        let items: Vec<Value> = page.map(|file| self.info(file)).collect();
        response(json!({ "TotalCount": all.len().min(MOST), "MediaInfoSet": items }))
    }

    fn infos(&self, asked: &Value) -> Reply {
        let now = self.house.now_ms();
        let ids = asked["FileIds"].as_array().cloned().unwrap_or_default();
        if ids.is_empty() || ids.len() > 20 {
            return error("InvalidParameterValue.FileIdsTooMany");
        }
        let (mut items, mut gone) = (Vec::new(), Vec::new());
        for id in &ids {
            let found = locked(&self.store).by_id(id.as_str().unwrap_or_default());
            let Some(file) = found else {
                gone.push(id.clone());
                continue;
            };
            if file.call.dice("where it fails").happens(1, 2) {
                if file.call.strikes(Mishap::TooMany) {
                    return error("RequestLimitExceeded");
                }
                if file.call.strikes(Mishap::Failing) {
                    return error("InternalError.ServiceError");
                }
                if file.call.strikes(Mishap::Html) {
                    let page = "<html><body>busy</body></html>";
                    return Reply::new(http::StatusCode::OK, "text/html", page);
                }
            }
            // Lost at the vendor: it was there while the task announced it.
            if file.is_there(now) {
                items.push(self.info(&file));
            } else {
                gone.push(id.clone());
            }
        }
        response(json!({ "MediaInfoSet": items, "NotExistFileIdSet": gone }))
    }

    /// `MediaInfo`; the address stays blank and the facts null until the store has looked into the file.
    fn info(&self, file: &Stored) -> Value {
        let date = |ms: i64| {
            DateTime::from_timestamp_millis(ms).map_or_else(String::new, |at| {
                at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
            })
        };
        let is_ready = self.house.now_ms() >= file.ready_ms;
        let address = if is_ready {
            format!("http://{}{}", self.house.authority(), file.path())
        } else {
            String::new()
        };
        let users: Vec<&String> = file.user.iter().collect();
        let source = if file.legacy {
            json!({ "SourceType": "Record", "SourceContext": "", "LiveRecordInfo": {
                "Domain": "", "Path": "", "StreamId": format!("{}_{}_{}_main", self.app, file.room.shown(), file.user.clone().unwrap_or_default()) } })
        } else {
            json!({ "SourceType": "TrtcRecord", "SourceContext": "", "TrtcRecordInfo": {
                "SdkAppId": self.app, "RoomId": file.room.shown(), "TaskId": file.task, "UserIds": users } })
        };
        json!({
            "FileId": file.file_id,
            "BasicInfo": {
                "Name": file.name,
                "CreateTime": date(file.created_ms),
                "ExpireTime": file.expires_ms.map_or_else(|| "9999-12-31T23:59:59Z".to_owned(), date),
                "Type": file.name.rsplit('.').next(),
                "MediaUrl": address,
                "SourceInfo": source,
            },
            "MetaData": is_ready.then(|| json!({
                "Size": file.audio.bytes.len(), "Duration": file.audio.duration_ms as f64 / 1000.0,
                "AudioDuration": file.audio.duration_ms as f64 / 1000.0,
                "AudioStreamSet": [{ "Bitrate": 24000, "SamplingRate": 16000, "Codec": "aac" }],
            })),
        })
    }

    fn task(&self, asked: &Value) -> Reply {
        let now = self.house.now_ms();
        let lives = self.house.paced_ms(TASK_LIVES_S);
        let task = asked["TaskId"].as_str().unwrap_or_default();
        let files: Vec<Value> = locked(&self.store)
            .files
            .iter()
            .filter(|file| file.task == task && now < file.call.ended_ms + lives)
            .map(|file| match file.place {
                // "The list is empty for VOD."
                Where::Media => Value::Null,
                Where::Bucket => json!({
                    "UserId": file.user.clone().unwrap_or_default(), "FileName": file.name,
                    "TrackType": "audio", "BeginTimeStamp": file.started_ms,
                }),
            })
            .collect();
        if files.is_empty() {
            return error("FailedOperation.TaskNotExist");
        }
        let files: Vec<Value> = files.into_iter().filter(|file| !file.is_null()).collect();
        response(json!({ "TaskId": task, "Status": "Exited", "StorageFileList": files }))
    }

    fn rooms(&self, asked: &Value) -> Reply {
        let second = |name: &str| asked[name].as_i64().unwrap_or(0) * 1000;
        let (from, to) = (second("StartTime"), second("EndTime"));
        if to - from > 24 * 3600 * 1000 {
            return error("InvalidParameter.QueryScaleOversize");
        }
        let mut lives: Vec<(i64, Value)> = locked(&self.store)
            .files
            .iter()
            .filter(|file| (from..=to).contains(&file.room_began_ms))
            .filter(|file| asked["RoomId"].is_null() || asked["RoomId"] == file.room.shown())
            .map(|file| {
                let began = file.room_began_ms / 1000;
                let life = json!({
                    "CommId": format!("{}_{}_{began}", self.app, file.room.shown()),
                    "RoomString": file.room.shown(), "CreateTime": began,
                    "DestroyTime": file.call.ended_ms / 1000 + 1, "IsFinished": true,
                });
                (began, life)
            })
            .collect();
        lives.sort_by_key(|(began, _)| *began);
        lives.dedup_by(|one, other| one.1 == other.1);
        let lives: Vec<Value> = lives.into_iter().map(|(_, life)| life).collect();
        response(json!({ "Total": lives.len(), "RoomList": lives }))
    }
}

fn response(mut answer: Value) -> Reply {
    answer["RequestId"] = json!("f8a1c2d3-0000-4000-8000-00000000c0de");
    Reply::json(&json!({ "Response": answer }))
}

fn error(code: &str) -> Reply {
    response(json!({ "Error": { "Code": code, "Message": "refused" } }))
}
