//! Yunxin's calls and the copies of their events: signed, in no order, and never sent twice but by mishap.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::super::house::Call;
use super::super::plan::{Mishap, Plan};
use super::super::push::{Answered, Push};
use super::super::{Error, all_done, sign};
use super::{Generation, Stored, Yunxin};

/// Five seconds are documented for the check of an address.
const PATIENCE: Duration = Duration::from_secs(5);

/// A copy to come.
#[derive(Debug)]
struct Copy {
    after_s: u64,
    is_g2: bool,
    body: Value,
}

impl Yunxin {
    pub async fn play_all(&self, plans: Vec<Plan>) -> Result<(), Error> {
        // Saving the address in the console sends an empty object there.
        self.send("{}".to_owned(), false).await?;
        let mut playing = JoinSet::new();
        for plan in plans {
            if !playing.is_empty() {
                tokio::time::sleep(self.house.options.call_interval).await;
            }
            let vendor = self.clone();
            playing.spawn(async move { vendor.play(plan).await });
        }
        all_done(playing).await
    }

    async fn play(&self, plan: Plan) -> Result<(), Error> {
        let (call, files) = self.make(plan, self.house.now_ms());
        let vids: Vec<String> = files.iter().map(|file| file.vid.to_string()).collect();
        let lines: Vec<_> = files
            .iter()
            .zip(&vids)
            .map(|(file, vid)| (Some(vid.as_str()), &file.audio))
            .collect();
        self.house.enter_files(&call, &lines)?;
        let (mut report_s, mut files_s) = (5, 60);
        if call.plan.has(Mishap::Late) {
            files_s += 1200;
        }
        if call.plan.has(Mishap::OutOfOrder) {
            report_s = files_s + 300;
        }
        let mut copies = Vec::new();
        if !call.plan.has(Mishap::Never) {
            copies.extend(self.reports(&call).into_iter().map(|(is_g2, body)| Copy {
                after_s: report_s,
                is_g2,
                body,
            }));
        }
        let chat = json!({
            "eventType": "1", "convType": "PERSON", "fromAccount": "a", "to": "b", "msgType": "TEXT",
            "msgTimestamp": self.house.now_ms().to_string(), "body": "see you on Saturday", "resendFlag": "0",
        });
        if call.dice("chat").happens(1, 3) {
            copies.push(Copy {
                after_s: report_s,
                is_g2: false,
                body: chat,
            });
        }
        // What is told of files is made when it is sent: addresses are signed then.
        let again = call.plan.has(Mishap::Twice);
        let told = async {
            self.wait(files_s).await;
            for _ in 0..=u8::from(again) {
                for (is_g2, body) in self.file_events(&call, &files) {
                    self.send(body.to_string(), is_g2).await?;
                }
                self.wait(90).await;
            }
            Ok(())
        };
        let reports = async {
            for copy in &copies {
                self.wait(copy.after_s).await;
                for _ in 0..=u8::from(again) {
                    self.send(copy.body.to_string(), copy.is_g2).await?;
                }
            }
            Ok(())
        };
        futures::future::try_join(told, reports).await.map(|_| ())
    }

    async fn wait(&self, seconds: u64) {
        tokio::time::sleep(self.house.paced(seconds)).await;
    }

    async fn send(&self, body: String, is_g2: bool) -> Result<(), Error> {
        let url = self.house.hook(None)?;
        let make = || {
            let time = self.house.now_ms().to_string();
            let (md5, sum) = sign::yunxin_copy(&self.app_secret, body.as_bytes(), &time);
            let mut headers = vec![
                ("AppKey", self.app_key.clone()),
                ("CurTime", time),
                ("MD5", md5),
                ("CheckSum", sum),
            ];
            if is_g2 {
                headers.push(("type", "G2".to_owned()));
            }
            Push {
                method: Method::POST,
                url: url.clone(),
                mime: "application/json;charset=utf-8",
                headers,
                body: body.clone().into(),
            }
        };
        let taken = |answer: &Answered| answer.code("code") == Some(200.into());
        self.house.deliver(make, PATIENCE, &[], taken).await;
        Ok(())
    }

    /// The call report, or the room's opening, its members and its closing.
    fn reports(&self, call: &Call) -> Vec<(bool, Value)> {
        let (agent, customer) = Self::accounts(call);
        let talk_s = call.talk_s();
        let mut dice = call.dice("report");
        if Self::generation(call.seed) == Generation::One {
            let members = json!([
                {"accid": agent, "duration": talk_s, "caller": true},
                {"accid": customer, "duration": talk_s - 1},
            ]);
            let mut report = json!({
                "channelId": call.id,
                "createtime": call.started_ms.to_string(),
                "duration": (2 * talk_s - 1).to_string(),
                "eventType": "5",
                "live": "0",
                "members": members.to_string(),
                "status": "SUCCESS",
                "type": dice.pick(&["AUDIO", "VEDIO"]),
            });
            if dice.happens(1, 2) {
                report["ext"] = format!("order-{}", dice.digits(4)).into();
            }
            let mut interim = report.clone();
            let mut reports = vec![(false, report)];
            if dice.happens(1, 4) {
                interim["running"] = true.into();
                interim["duration"] = "4".into();
                interim["members"] = json!([{"accid": agent, "duration": 2, "caller": true},
                    {"accid": customer, "duration": 2}])
                .to_string()
                .into();
                reports.insert(0, (false, interim));
            }
            return reports;
        }
        let room = |event: u8, more: Value| {
            let mut data = json!({
                "channelId": number(&call.id),
                "channelName": format!("support-desk-{}", call.plan.index),
                "timestamp": call.ended_ms,
            });
            for (name, value) in more.as_object().into_iter().flatten() {
                data[name] = value.clone();
            }
            (true, json!({"eventType": event, "data": data}))
        };
        let spelled = dice.pick(&["createtime", "creaetime"]);
        vec![
            room(1, json!({ spelled: call.started_ms })),
            room(
                4,
                json!({"user": agent, "uid": 70_001, "platform": 1, "userRole": 0}),
            ),
            room(
                5,
                json!({"user": customer, "uid": 70_002, "duration": talk_s, "platform": 2, "userRole": 0}),
            ),
            room(
                5,
                json!({"user": agent, "uid": 70_001, "duration": talk_s, "platform": 1, "userRole": 0}),
            ),
            room(2, json!({"createtime": call.started_ms})),
        ]
    }

    fn file_events(&self, call: &Call, files: &[Arc<Stored>]) -> Vec<(bool, Value)> {
        let mut dice = call.dice("file events");
        let mut events = Vec::new();
        if Self::generation(call.seed) == Generation::One {
            // All at once, or each by itself: then nobody is told that there are just two.
            let size = if dice.happens(2, 3) { files.len() } else { 1 };
            for some in files.chunks(size.max(1)) {
                let infos: Vec<Value> = some.iter().map(|file| self.first_info(file)).collect();
                let text = Value::Array(infos).to_string();
                events.push((false, json!({"eventType": "6", "fileinfo": text})));
            }
            return events;
        }
        // Some customers switched both kinds of callback on.
        let both = dice.happens(1, 3);
        for file in files {
            events.push((
                true,
                json!({"eventType": 3, "data": self.second_info(file)}),
            ));
            if both {
                events.push((false, self.room_record(file)));
            }
        }
        events
    }

    fn url_now(&self, file: &Stored) -> Value {
        if file.call.plan.has(Mishap::NotReady) {
            return Value::Null;
        }
        self.told_url(file).into()
    }

    fn first_info(&self, file: &Stored) -> Value {
        let mut info = json!({
            "channelid": file.call.id,
            "filename": file.name,
            "md5": file.md5,
            "mix": file.user.is_none(),
            "pieceindex": file.piece.to_string(),
            "size": file.audio.bytes.len().to_string(),
            "timestamp": (file.began_ms / 1000).to_string(),
            "type": file.ext,
            "url": self.url_now(file),
            "user": file.user.as_deref().unwrap_or("0"),
            "vid": file.vid.to_string(),
        });
        if file.is_caller {
            info["caller"] = true.into();
        }
        info
    }

    fn second_info(&self, file: &Stored) -> Value {
        json!({
            "channelId": number(&file.call.id),
            "channelName": format!("support-desk-{}", file.call.plan.index),
            "filename": file.name,
            "md5": file.md5,
            "size": file.audio.bytes.len().to_string(),
            "type": file.ext,
            "url": self.url_now(file),
            "uid": file.uid,
            "mix": file.user.is_none(),
            "vid": file.vid.to_string(),
            "pieceIndex": file.piece,
            "timestamp": file.began_ms,
        })
    }

    fn room_record(&self, file: &Stored) -> Value {
        let body = json!({
            "roomArchiveId": format!("88{}", file.call.plan.index),
            "roomUuid": format!("support-desk-{}", file.call.plan.index),
            "userUuid": file.user.as_deref().unwrap_or(""),
            "type": file.ext,
            "mix": file.user.is_none(),
            "filename": file.name,
            "md5": file.md5,
            "url": self.url_now(file),
            "size": file.audio.bytes.len(),
            "vid": file.vid,
            "pieceIndex": file.piece,
            "timestamp": file.began_ms,
        });
        json!({
            "requestId": format!("req-{}", file.vid),
            "eventType": "RTC_RECORD",
            "timestamp": file.call.ended_ms,
            "body": body,
        })
    }
}

/// Digits as a number, which this generation writes them as.
fn number(digits: &str) -> Value {
    digits.parse::<u64>().map_or(Value::Null, Value::from)
}
