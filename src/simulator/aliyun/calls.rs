//! Alibaba's calls and the messages of them: CDRs and "recording ready", pushed in arrays and single objects to one
//! address per message type, or laid into the type's queue one by one.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::super::house::Call;
use super::super::plan::{Ending, Mishap, Plan};
use super::super::push::{Answered, Push};
use super::super::text::shanghai;
use super::super::{Error, all_done};
use super::{Aliyun, CDR, PROTECTED_CDR, PROTECTED_RECORDING, RECORDING, RTC_CDR};

/// "The provider waits 700 ms"; that is about us, so the speed does not change it.
const PATIENCE: Duration = Duration::from_millis(700);
/// Again after 1, 5 and 10 minutes, then the message is gone for good.
const WAITS_S: [u64; 3] = [60, 300, 600];
/// However fast the vendor runs: callvault must have time to start again between two tries.
const LEAST_WAITS_MS: [u64; 3] = [1000, 3000, 6000];

/// A message to come.
#[derive(Debug)]
struct Message {
    kind: &'static str,
    after: Duration,
    call: Arc<Call>,
    door: Door,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Push,
    Queue,
}

/// Elements that leave in one POST.
#[derive(Debug)]
struct Batch {
    kind: &'static str,
    after: Duration,
    calls: Vec<Arc<Call>>,
    /// One element as a bare object instead of an array of one.
    bare: bool,
}

impl Aliyun {
    /// Plays the calls: up to three end together, and their messages leave together where nothing keeps them back.
    pub(in super::super) async fn make_calls(&self, plans: Vec<Plan>) -> Result<(), Error> {
        let mut playing = JoinSet::new();
        let mut plans = plans.into_iter().peekable();
        while let Some(plan) = plans.next() {
            if !playing.is_empty() {
                tokio::time::sleep(self.house.options.call_interval).await;
            }
            let together =
                1 + super::Dice::named(self.call_seed(plan.index), "together").below(3) as usize;
            let mut group = vec![plan];
            while group.len() < together && plans.peek().is_some() {
                group.extend(plans.next());
            }
            let vendor = self.clone();
            playing.spawn(async move { vendor.play(group).await });
        }
        all_done(playing).await
    }

    async fn play(&self, group: Vec<Plan>) -> Result<(), Error> {
        let mut calls = Vec::new();
        for plan in group {
            let call = self.make(plan, self.house.now_ms());
            // This vendor gives recordings no id of their own.
            let ring = self.announced_ring(&call);
            let mut files = vec![(None, &call.audio)];
            files.extend(ring.as_ref().map(|ring| (None, &ring.audio)));
            self.house.enter_files(&call, &files)?;
            calls.push(call);
        }
        let messages = calls.iter().flat_map(|call| self.messages(call));
        let (queued, pushed): (Vec<_>, Vec<_>) =
            messages.partition(|message| message.door == Door::Queue);
        let batches = batches(pushed);
        let pushing = futures::future::try_join_all(batches.iter().map(|batch| self.send(batch)));
        let queueing = futures::future::join_all(queued.iter().map(|one| self.lay(one)));
        futures::future::join(pushing, queueing).await.0?;
        Ok(())
    }

    /// What is sent of a call, and when. The CDR never tells whether there is a recording.
    fn messages(&self, call: &Arc<Call>) -> Vec<Message> {
        let plan = &call.plan;
        let mut dice = call.dice("messages");
        let (mut cdr_s, mut recording_s) = (10, 120);
        let (cdr, recording) = if self.is_protection() {
            // "Recording ready" comes when it is, but for a file that is late.
            if !plan.has(Mishap::NotReady) {
                recording_s = self.file_after_s(call);
            }
            (PROTECTED_CDR, PROTECTED_RECORDING)
        } else if dice.happens(1, 5) {
            (RTC_CDR, RECORDING)
        } else {
            (CDR, RECORDING)
        };
        if plan.has(Mishap::Late) {
            let late = if dice.happens(1, 2) {
                &mut cdr_s
            } else {
                &mut recording_s
            };
            *late += 1200;
        }
        if plan.has(Mishap::OutOfOrder) {
            cdr_s = recording_s + 300;
        }
        let message = |kind, after_s| Message {
            kind,
            after: self.house.paced(after_s),
            call: Arc::clone(call),
            door: if self.is_queued(kind) {
                Door::Queue
            } else {
                Door::Push
            },
        };
        let mut messages = Vec::new();
        if !plan.has(Mishap::Never) {
            messages.push(message(cdr, cdr_s));
        }
        if plan.ending != Ending::None {
            messages.push(message(recording, recording_s));
        }
        if plan.has(Mishap::Twice) {
            // A repeated announcement carries a freshly signed address; where there is a queue, some come by the
            // other door.
            let others = messages.iter().any(|first| first.door == Door::Queue);
            let swaps = others && dice.happens(1, 2);
            let again: Vec<_> = messages
                .iter()
                .map(|first| Message {
                    kind: first.kind,
                    after: first.after + self.house.paced(90),
                    call: Arc::clone(call),
                    door: match first.door {
                        Door::Queue if swaps => Door::Push,
                        door => door,
                    },
                })
                .collect();
            messages.extend(again);
        }
        messages
    }

    /// Into the type's queue: base64 or plain, now and then as an array of one.
    async fn lay(&self, message: &Message) {
        tokio::time::sleep(message.after).await;
        let call = &message.call;
        let mut dice = call.dice(&format!("laid {}", message.kind));
        let queue = self.queue_name(message.kind);
        let element = self.element(message.kind, call);
        let body = if dice.happens(1, 8) {
            Value::Array(vec![element])
        } else {
            element
        };
        let (plain, poison_plain) = (dice.happens(1, 3), dice.happens(1, 2));
        let is_recording = matches!(message.kind, RECORDING | PROTECTED_RECORDING);
        if is_recording && call.strikes(Mishap::Poison) {
            let poison = dice.pick(&["{\"call_id\":", "%%% not for you & me <", "\u{1}\u{2}"]);
            self.enqueue(
                &queue,
                poison,
                poison_plain && !poison.contains('\u{1}'),
                None,
            );
        }
        // Only the announcement meets the mishaps of the queue: a test can then count them.
        let struck = is_recording.then_some(call);
        self.enqueue(&queue, &body.to_string(), plain, struck);
    }

    async fn send(&self, batch: &Batch) -> Result<(), Error> {
        tokio::time::sleep(batch.after).await;
        let url = self.house.hook(Some(batch.kind))?;
        let mut elements: Vec<Value> = batch
            .calls
            .iter()
            .map(|call| self.element(batch.kind, call))
            .collect();
        let body = match elements.pop() {
            Some(one) if batch.bare && elements.is_empty() => one,
            last => {
                elements.extend(last);
                Value::Array(elements)
            }
        };
        // A repeat is the same message word for word, its address included.
        let push = Push {
            method: Method::POST,
            url,
            mime: "application/json;charset=UTF-8",
            headers: Vec::new(),
            body: body.to_string().into(),
        };
        let taken = |answer: &Answered| answer.code("code").is_some_and(|code| code.is_number());
        let mut waits = [Duration::ZERO; 3];
        for (wait, (seconds, least)) in waits
            .iter_mut()
            .zip(WAITS_S.into_iter().zip(LEAST_WAITS_MS))
        {
            *wait = self.house.paced(seconds).max(Duration::from_millis(least));
        }
        self.house
            .deliver(|| push.clone(), PATIENCE, &waits, taken)
            .await;
        Ok(())
    }

    fn element(&self, kind: &str, call: &Call) -> Value {
        match kind {
            RECORDING => self.recording(call),
            RTC_CDR => rtc_cdr(call),
            PROTECTED_CDR => self.protected_cdr(call),
            PROTECTED_RECORDING => self.protected_recording(call),
            _ => cdr(call),
        }
    }

    fn recording(&self, call: &Call) -> Value {
        let mut dice = call.dice("recording message");
        let mut message = json!({
            "call_id": call.id,
            "start_time": shanghai(call.started_ms),
            "end_time": shanghai(call.ended_ms),
            "duration": number(call.talk_s(), dice.happens(1, 2)),
            "status_code": "200000",
            "smart_status_code": "ANSWERED",
            "record_file": self.record_file(call),
        });
        if dice.happens(1, 2) {
            message["out_id"] = out_id(call);
        }
        if dice.happens(1, 4) {
            message["record_begin_time"] = shanghai(call.started_ms).into();
        }
        if dice.happens(1, 5) {
            message["tenant_tag"] = Value::Null;
        }
        message
    }
}

/// Messages of one kind that are due at the same time leave as one array; what is alone in its time leaves alone.
fn batches(messages: Vec<Message>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for message in messages {
        let fitting = batches
            .iter_mut()
            .find(|batch| batch.kind == message.kind && batch.after == message.after);
        match fitting {
            Some(batch) => batch.calls.push(message.call),
            None => batches.push(Batch {
                kind: message.kind,
                after: message.after,
                bare: message.call.dice("bare").happens(1, 2),
                calls: vec![message.call],
            }),
        }
    }
    batches
}

pub(super) fn number(value: i64, as_text: bool) -> Value {
    if as_text {
        value.to_string().into()
    } else {
        value.into()
    }
}

/// The customer's own value, often JSON inside the text.
pub(super) fn out_id(call: &Call) -> Value {
    let mut dice = call.dice("customer");
    let ticket = dice.digits(6);
    if dice.happens(1, 2) {
        json!({"crm": ticket, "desk": dice.below(9)})
            .to_string()
            .into()
    } else {
        format!("crm-{ticket}").into()
    }
}

/// Caller and callee: an office line and a mobile, in either direction.
pub(super) fn numbers(call: &Call) -> (String, String) {
    let mut dice = call.dice("numbers");
    let office = format!("05710000{}", dice.digits(4));
    let mobile = format!("1390000{}", dice.digits(4));
    if dice.happens(1, 2) {
        (office, mobile)
    } else {
        (mobile, office)
    }
}

fn cdr(call: &Call) -> Value {
    let mut dice = call.dice("cdr message");
    let (caller, callee) = numbers(call);
    let mut message = json!({
        "call_id": call.id,
        "originate_time": shanghai(call.started_ms - 9000),
        "ring_time": if dice.happens(3, 4) { shanghai(call.started_ms - 6000) } else { String::new() },
        "start_time": shanghai(call.started_ms),
        "end_time": shanghai(call.ended_ms),
        "caller": caller,
        "callee": callee,
        "duration": number(call.talk_s(), dice.happens(3, 4)),
        "status_code": "200000",
        "status_msg": "用户听完语音",
        "smart_status_code": "ANSWERED",
        "hangup_direction": dice.pick(&["用户", "机器"]),
        "voice_type": dice.pick(&["voice", "smart_transfer"]),
        "toll_type": "UNKNOWN",
        "dtmf": "",
        "out_id": if dice.happens(1, 2) { out_id(call) } else { "".into() },
    });
    if dice.happens(1, 5) {
        message["early_media_code"] = Value::Null;
    }
    message
}

/// The ids of the whole call and of its participants; where they stand is not documented, so both places are used.
fn rtc_cdr(call: &Call) -> Value {
    let mut dice = call.dice("cdr message");
    let (caller, callee) = numbers(call);
    let leg = |caller: &str, callee: &str| {
        json!({
            "caller": caller,
            "callee": callee,
            "startTime": shanghai(call.started_ms),
            "endTime": shanghai(call.ended_ms),
            "duration": call.talk_s().to_string(),
        })
    };
    // Longer than 2^53: to be kept as text.
    let user = format!("2000000000{}", dice.digits(7));
    let mut detail = json!({
        "callInInfo": leg(&user, &caller),
        "callOutInfo": [leg(&caller, &callee), {"caller": caller, "callee": "13900001111", "duration": "0"}],
    });
    let whole = [
        ("channelId", Value::from(call.id.as_str())),
        ("alicomRtcType", "voip2pstn".into()),
        ("extend", out_id(call)),
    ];
    let inside = dice.happens(1, 3);
    let mut message = json!({});
    for (name, value) in whole {
        let place = if inside { &mut detail } else { &mut message };
        place[name] = value;
    }
    message["detail"] = detail;
    message
}
