//! What TRTC tells of a call: callbacks of rooms, media and recordings, with about seven tries within a minute for
//! each.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use super::super::plan::Mishap;
use super::super::push::{Answered, Push};
use super::super::{Error, sign};
use super::Trtc;
use super::calls::{Made, Shape};
use super::store::{Room, Stored};

const PATIENCE: Duration = Duration::from_secs(5);
/// At once, then every ten seconds until a minute is over. However fast the vendor runs, callvault must have
/// time to start again in between.
const WAITS_S: [u64; 6] = [10; 6];
const LEAST_WAIT: Duration = Duration::from_millis(1500);

/// A callback to come.
#[derive(Debug)]
pub(super) struct Callback {
    after: Duration,
    body: Value,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Signed,
    /// In the call kit's wrapper, with or without `Sign`.
    CallKit {
        signed: bool,
    },
    Legacy,
}

impl Trtc {
    /// What is sent of a call, and when.
    pub(super) fn callbacks(&self, made: &Made) -> Vec<Callback> {
        let call = &made.call;
        let plan = &call.plan;
        let mut dice = call.dice("callbacks");
        let (mut room_s, mut file_s) = (1, 60 + dice.below(60));
        if plan.has(Mishap::Late) {
            file_s += 1800;
        }
        if plan.has(Mishap::OutOfOrder) {
            room_s = file_s + 120;
        }
        let mut events: Vec<(u64, Value, How)> = Vec::new();
        for (n, event) in self.room_events(made).into_iter().enumerate() {
            events.push((room_s + n as u64 / 3, event, How::Signed));
        }
        if plan.has(Mishap::Never) {
            // The beginning of the room, or whatever else the dice say; what tells of files comes.
            let lost = if dice.happens(1, 2) {
                0
            } else {
                dice.below(events.len() as u64) as usize
            };
            events.remove(lost);
        }
        let kit = How::CallKit {
            signed: dice.happens(1, 2),
        };
        for (after_s, event) in self.file_events(made, file_s) {
            let how = match made.shape {
                Shape::CallKit => kit,
                Shape::Legacy => How::Legacy,
                _ => How::Signed,
            };
            events.push((after_s, event, how));
        }
        if dice.happens(1, 6) {
            // A type that came after the manual was written.
            let payload = json!({ "Whatever": 1 });
            events.push((
                30,
                self.task_event(made, 399, payload, call.ended_ms),
                How::Signed,
            ));
        }
        let mut callbacks: Vec<Callback> = events
            .into_iter()
            .map(|(after_s, body, how)| Callback {
                after: self.house.paced(after_s),
                body,
                how,
            })
            .collect();
        if plan.has(Mishap::Twice) {
            let again: Vec<_> = callbacks
                .iter()
                .map(|first| Callback {
                    after: first.after + self.house.paced(20),
                    body: first.body.clone(),
                    how: first.how,
                })
                .collect();
            callbacks.extend(again);
        }
        callbacks
    }

    /// Groups 1 and 2, and the recorder's coming and going.
    fn room_events(&self, made: &Made) -> Vec<Value> {
        let (began, call) = (made.began_ms, &made.call);
        let [agent, customer] = &made.users;
        let event = |group: u64, kind: u64, at: i64, user: Option<&str>, more: Value| {
            let mut info =
                json!({ "RoomId": self.room_id(made), "EventTs": at / 1000, "EventMsTs": at });
            if let Some(user) = user {
                info["UserId"] = json!(user);
            }
            if let (Value::Object(info), Value::Object(more)) = (&mut info, more) {
                info.extend(more);
            }
            json!({ "EventGroupId": group, "EventType": kind, "CallbackTs": 0, "EventInfo": info })
        };
        let role =
            |reason: u64| json!({ "Role": 20, "TerminalType": 2, "UserType": 3, "Reason": reason });
        let mut events = vec![event(1, 101, began, Some(agent), json!({}))];
        if made.shape != Shape::Legacy {
            events.push(self.task_event(made, 301, json!({ "Status": 0 }), began + 900));
        }
        for (n, user) in [agent, customer].into_iter().enumerate() {
            let at = began + 100 + 400 * n as i64;
            events.push(event(1, 103, at, Some(user), role(1)));
            events.push(event(2, 203, at + 100, Some(user), json!({ "Reason": 0 })));
            events.push(event(
                1,
                104,
                call.ended_ms + 300 * n as i64,
                Some(user),
                role(1),
            ));
        }
        let mut closed = event(1, 102, call.ended_ms + 900, None, json!({}));
        // Seen in the vendor's own samples: numbers as text.
        if let Room::Number(number) = made.room {
            closed["EventInfo"]["RoomId"] = json!(number.to_string());
        }
        closed["EventInfo"]["EventTs"] = json!(((call.ended_ms + 900) / 1000).to_string());
        events.push(closed);
        if made.shape != Shape::Legacy {
            events.push(self.task_event(
                made,
                302,
                json!({ "LeaveCode": 0 }),
                call.ended_ms + 2000,
            ));
        }
        events
    }

    fn room_id(&self, made: &Made) -> Value {
        match &made.room {
            Room::Number(number) => json!(number),
            Room::Text(text) => json!(text),
        }
    }

    fn task_event(&self, made: &Made, kind: u64, payload: Value, at: i64) -> Value {
        json!({ "EventGroupId": 3, "EventType": kind, "CallbackTs": 0, "EventInfo": {
            "RoomId": self.room_id(made), "EventTs": at / 1000, "EventMsTs": at,
            "UserId": format!("recorder_{}", self.app), "TaskId": made.call.id, "Payload": payload } })
    }

    /// What tells of the files, each with its time in seconds after the end.
    fn file_events(&self, made: &Made, file_s: u64) -> Vec<(u64, Value)> {
        let call = &made.call;
        let at = call.ended_ms + self.house.paced_ms(file_s);
        let address = |file: &Stored| format!("http://{}{}", self.house.authority(), file.path());
        match made.shape {
            Shape::SinglesInBucket => {
                let messages: Vec<Value> = made
                    .files
                    .iter()
                    .map(|file| {
                        json!({ "FileName": file.name, "UserId": file.user, "TrackType": "audio",
                            "MediaId": "main", "StartTimeStamp": file.started_ms, "EndTimeStamp": file.ended_ms })
                    })
                    .collect();
                let names: Vec<&String> = made.files.iter().map(|file| &file.name).collect();
                let payload = json!({ "Status": 0, "FileList": names, "FileMessage": messages });
                vec![(file_s, self.task_event(made, 310, payload, at))]
            }
            Shape::PlaylistInBucket => {
                let file = &made.files[0];
                let begun = json!({ "FileName": file.name, "UserId": "", "TrackType": "audio",
                    "BeginTimeStamp": file.started_ms });
                vec![
                    (1, self.task_event(made, 307, begun, file.started_ms + 5000)),
                    (
                        file_s,
                        self.task_event(made, 305, json!({ "Status": 0 }), at),
                    ),
                ]
            }
            Shape::Legacy => {
                let file = &made.files[0];
                let user = file.user.clone().unwrap_or_default();
                let stream = format!("{}_{}_{user}_main", self.app, made.room.shown());
                let query = form_urlencoded::Serializer::new(String::new())
                    .append_pair("txSecret", "x")
                    .append_pair("userid", &STANDARD.encode(&user))
                    .finish();
                let body = json!({ "event_type": 100, "appid": 1_300_000_001, "app": "12345.livepush.example.test",
                    "appname": format!("trtc_{}", self.app), "stream_id": stream, "channel_id": stream,
                    "file_id": file.file_id, "record_file_id": file.file_id, "file_format": "aac",
                    "task_id": call.id, "start_time": file.started_ms / 1000, "end_time": file.ended_ms / 1000,
                    "start_time_usec": 0, "end_time_usec": 0, "duration": file.audio.duration_ms / 1000,
                    "file_size": file.audio.bytes.len(), "stream_param": query, "video_url": address(file),
                    "video_id": "1300000001_abc", "media_start_time": 12, "record_bps": 0,
                    "callback_ext": "{\"session_id\":\"88\"}" });
                vec![(file_s, body)]
            }
            _ => {
                let mut events = Vec::new();
                for (n, file) in made.files.iter().enumerate() {
                    let after_s = file_s + 5 * n as u64;
                    let at = at + 5 * n as i64;
                    let mut told = json!({ "UserId": file.user.clone().unwrap_or_default(), "TrackType": "audio",
                        "CacheFile": file.name });
                    if call.dice("failed first").happens(1, 5) && n == 0 {
                        let payload =
                            json!({ "Status": 2, "Errmsg": "upload error", "TencentVod": told });
                        events.push((after_s / 2, self.task_event(made, 311, payload, at - 1000)));
                    }
                    told["MediaId"] = json!(if file.user.is_some() { "main" } else { "mix" });
                    told["FileId"] = json!(file.file_id);
                    told["VideoUrl"] = json!(address(file));
                    let payload = if call.dice("older page").happens(1, 4) {
                        // The fields lie directly in the payload, the time in seconds.
                        told["BeginTimeStamp"] = json!(file.started_ms / 1000);
                        told["Status"] = json!(0);
                        told
                    } else {
                        told["StartTimeStamp"] = json!(file.started_ms);
                        told["EndTimeStamp"] = json!(file.ended_ms);
                        json!({ "Status": 0, "Errmsg": "", "TencentVod": told })
                    };
                    events.push((after_s, self.task_event(made, 311, payload, at)));
                }
                events.push((
                    file_s + 60,
                    self.task_event(made, 312, json!({ "Status": 0 }), at),
                ));
                events
            }
        }
    }

    pub(super) async fn send(&self, callback: &Callback) -> Result<(), Error> {
        tokio::time::sleep(callback.after).await;
        let url = self.house.hook(None)?;
        let make = || self.push(callback, &url);
        let is_kit = matches!(callback.how, How::CallKit { .. });
        let taken = |answer: &Answered| {
            let code = answer.code(if is_kit { "ErrorCode" } else { "code" });
            code.is_some_and(|code| code == 0)
        };
        let waits = WAITS_S.map(|seconds| self.house.paced(seconds).max(LEAST_WAIT));
        self.house.deliver(make, PATIENCE, &waits, taken).await;
        Ok(())
    }

    /// One delivery: its own time, the vendor's tabs, and the signature over the bytes as they leave.
    fn push(&self, callback: &Callback, url: &str) -> Push {
        let now = self.house.now_ms();
        let mut body = callback.body.clone();
        let mut url = url.to_owned();
        if callback.how == How::Legacy {
            // Good for ten minutes.
            let t = now / 1000 + 600;
            body["t"] = json!(t);
            body["sign"] = json!(sign::trtc_legacy(&self.legacy_key, t));
        } else {
            body["CallbackTs"] = json!(now);
        }
        let is_signed = match callback.how {
            How::CallKit { signed } => {
                let command = "Call.CallbackAfterCloudRecordingChanged";
                url = format!(
                    "{url}?SdkAppid={}&CallbackCommand={command}&contenttype=json&ClientIP=10.0.0.7&OptPlatform=RESTAPI",
                    self.app
                );
                let call_id = body["EventInfo"]["TaskId"].clone();
                // The call kit's id of the call is its own; the task has another one.
                body["EventInfo"]["TaskId"] =
                    json!(format!("kit{}", call_id.as_str().unwrap_or_default()));
                body["KitType"] = json!("TUICallKit");
                body = json!({ "CallId": call_id, "Callback": body, "CallbackCommand": command, "EventTime": now });
                signed
            }
            How::Signed => true,
            How::Legacy => false,
        };
        let text = if callback.how == How::Legacy {
            body.to_string()
        } else {
            tabbed(&body, 0)
        };
        let mut headers = Vec::new();
        if callback.how == How::Signed || is_signed {
            headers.push(("SdkAppId", self.app.to_string()));
            headers.push((
                "Sign",
                sign::trtc_callback(&self.callback_key, text.as_bytes()),
            ));
        }
        Push {
            method: Method::POST,
            url,
            mime: "application/json",
            headers,
            body: text.into(),
        }
    }
}

/// JSON as the vendor prints it: a tab behind each colon, a line for each field.
fn tabbed(value: &Value, depth: usize) -> String {
    let indent = "\t".repeat(depth + 1);
    let close = "\t".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(key, value)| {
                    format!("{indent}{}:\t{}", json!(key), tabbed(value, depth + 1))
                })
                .collect();
            format!("{{\n{}\n{close}}}", fields.join(",\n"))
        }
        Value::Array(items) if !items.is_empty() => {
            let items: Vec<String> = items
                .iter()
                .map(|item| format!("{indent}{}", tabbed(item, depth + 1)))
                .collect();
            format!("[\n{}\n{close}]", items.join(",\n"))
        }
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_printed_with_the_vendors_tabs() {
        let body = json!({"EventGroupId": 2, "EventInfo": {"RoomId": 8489, "List": ["a"]}});
        assert_eq!(
            tabbed(&body, 0),
            "{\n\t\"EventGroupId\":\t2,\n\t\"EventInfo\":\t{\n\t\t\"RoomId\":\t8489,\n\t\t\"List\":\t[\n\t\t\t\"a\"\n\t\t]\n\t}\n}"
        );
    }
}
