//! Number protection (PNP): its messages, which bring no address for the recording, and its files, which are late.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::house::Call;
use super::super::plan::{Ending, Mishap, Plan};
use super::super::text::shanghai;
use super::super::voices;
use super::calls::{number, numbers, out_id};
use super::{Aliyun, KEEPS_S, PROTECTED};

/// "15 to 20 minutes after the call".
const FILE_AFTER_S: u64 = 15 * 60;
const FILE_AFTER_MORE_S: u64 = 5 * 60;

impl Aliyun {
    /// When the file of a call is there, in the vendor's seconds after the call's end.
    pub fn file_after_s(&self, call: &Call) -> u64 {
        if self.is_protection() {
            FILE_AFTER_S + call.dice("file").below(FILE_AFTER_MORE_S)
        } else {
            0
        }
    }

    pub fn file_at_ms(&self, call: &Call) -> i64 {
        match self.file_after_s(call) {
            0 => i64::MIN,
            seconds => call.ended_ms + self.house.paced_ms(seconds),
        }
    }

    /// An address of a protected call's file, dead from the start where that is the plan.
    pub fn protected_url(&self, call: &Call, lives_s: u64) -> String {
        let now = self.house.now_ms();
        let until_ms = if call.strikes(Mishap::LinkExpired) {
            now - 1000
        } else {
            now + self.house.paced_ms(lives_s)
        };
        self.signed(&object(&call.id), until_ms)
    }

    /// What was recorded while it rang, of every fourth call: a recording of its own.
    pub fn ring(&self, call: &Call) -> Option<Arc<Call>> {
        let mut dice = call.dice("ring");
        if !self.is_protection() || !dice.happens(1, 4) {
            return None;
        }
        let id = format!("{}-ring", call.id);
        let audio = voices::mp3(dice.roll(), 60 + dice.below(20), &id);
        let plan = Plan {
            index: call.plan.index,
            mishaps: Vec::new(),
            ending: call.plan.ending,
        };
        Some(Arc::new(Call::new(
            id,
            plan,
            audio,
            call.ended_ms,
            dice.roll(),
        )))
    }

    /// The ring recording where a message tells of it.
    pub fn announced_ring(&self, call: &Call) -> Option<Arc<Call>> {
        let is_told = call.plan.ending == Ending::Archived && !call.plan.has(Mishap::Never);
        self.ring(call).filter(|_| is_told)
    }

    /// Either of the documented spellings, longer than what a float holds.
    fn binding(call: &Call, message: &mut Value) {
        let mut dice = call.dice("binding");
        let name = dice.pick(&["sub_id", "subs_id"]);
        let text = format!("1000043068{}", dice.digits(9));
        message[name] = match text.parse::<u64>() {
            Ok(id) => id.into(),
            Err(_) => text.into(),
        };
    }

    pub fn protected_recording(&self, call: &Call) -> Value {
        let mut dice = call.dice("protected recording");
        let mut message = json!({
            "pool_key": self.pool_key,
            "call_id": call.id,
            "call_time": number(call.started_ms / 1000 * 1000, dice.happens(1, 3)),
            "out_id": if dice.happens(1, 2) { out_id(call) } else { "".into() },
        });
        Self::binding(call, &mut message);
        message
    }

    pub fn protected_cdr(&self, call: &Call) -> Value {
        let mut dice = call.dice("protected cdr");
        let (a, b) = numbers(call);
        let as_epoch = dice.happens(1, 4);
        let time = |ms: i64| -> Value {
            if as_epoch {
                (ms / 1000 * 1000).into()
            } else {
                shanghai(ms).into()
            }
        };
        let mut message = json!({
            "pool_key": self.pool_key,
            "partner_key": self.pool_key,
            "call_id": call.id,
            "phone_no": a,
            "secret_no": format!("1700000{}", dice.digits(4)),
            "peer_no": b,
            "call_type": number(dice.below(2) as i64, dice.happens(1, 2)),
            "call_time": time(call.started_ms),
            "call_out_time": time(call.started_ms),
            "ring_time": time(call.started_ms),
            "start_time": time(call.started_ms),
            "release_time": time(call.ended_ms),
            "release_dir": number(1 + dice.below(2) as i64, true),
            "release_cause": 16,
            "unconnected_cause": null,
            "out_id": out_id(call),
            "city": "杭州",
        });
        Self::binding(call, &mut message);
        let is_recorded = call.plan.ending == Ending::Archived;
        // The address of the call record is a month old before it dies; its file comes later.
        if is_recorded && dice.happens(1, 3) {
            let until_ms = self.house.now_ms() + self.house.paced_ms(KEEPS_S);
            message["record_url"] = self.signed(&object(&call.id), until_ms).into();
        }
        if let Some(ring) = self.ring(call).filter(|_| is_recorded) {
            let until_ms = self.house.now_ms() + self.house.paced_ms(KEEPS_S);
            message["ring_record_url"] = self.signed(&object(&ring.id), until_ms).into();
        }
        message
    }
}

fn object(id: &str) -> String {
    format!("{}{id}.mp3", &PROTECTED[1..])
}
