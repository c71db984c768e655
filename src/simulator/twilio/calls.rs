//! The calls and their status callbacks: `in-progress`, then `completed` or `absent`, signed with the account's
//! token or with a shared key.

use std::time::Duration;

use tokio::task::JoinSet;

use super::super::all_done;
use super::super::push::{Answered, Push};
use super::*;

/// "read 15 s"; one retry by default, and only when there was no answer: these are a customer's overrides.
const PATIENCE: Duration = Duration::from_secs(15);
const WAITS_MS: [u64; 5] = [500, 1000, 2000, 4000, 8000];

impl Twilio {
    pub(super) async fn make_calls(&self, plans: Vec<Plan>) -> Result<(), Error> {
        let mut playing = JoinSet::new();
        for plan in plans {
            if !playing.is_empty() {
                tokio::time::sleep(self.house().options.call_interval).await;
            }
            let vendor = self.clone();
            playing.spawn(async move { vendor.play(plan).await });
        }
        all_done(playing).await
    }

    async fn play(&self, plan: Plan) -> Result<(), Error> {
        let house = self.house();
        let recording = self.make(plan, house.now_ms());
        let line = Call::new(
            self.sids(recording.index).1,
            recording.call.plan.clone(),
            recording.call.audio.clone(),
            recording.call.ended_ms,
            recording.call.seed,
        );
        house.enter(&line, Some(&recording.call.id))?;
        let callbacks = callbacks(&recording);
        let sent = callbacks
            .iter()
            .map(|(status, after_s)| self.send(&recording, status, *after_s));
        futures::future::try_join_all(sent).await?;
        Ok(())
    }

    async fn send(&self, recording: &Recording, status: &str, after_s: u64) -> Result<(), Error> {
        let house = self.house();
        tokio::time::sleep(house.paced(after_s)).await;
        let url = house.hook(None)?;
        let fields = self.fields(recording, status);
        let mut dice = recording.call.dice(status);
        let by_get = dice.happens(1, 5);
        let make = || self.callback(recording, &url, &fields, by_get);
        let taken = |answer: &Answered| answer.status.is_success() && answer.body.is_empty();
        house
            .deliver(make, PATIENCE, &WAITS_MS.map(Duration::from_millis), taken)
            .await;
        Ok(())
    }

    fn callback(
        &self,
        recording: &Recording,
        url: &str,
        fields: &[(String, String)],
        by_get: bool,
    ) -> Push {
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let (method, url, signed, body) = if by_get {
            (Method::GET, format!("{url}?{form}"), &[][..], String::new())
        } else {
            (Method::POST, url.to_owned(), fields, form)
        };
        let own = &self.0.accounts[recording.account];
        let with_key = self.house().options.profile == Profile::V3;
        let secret = if with_key {
            &self.0.shared_key
        } else {
            &own.token
        };
        let mut headers = vec![(
            "x-twilio-signature",
            signature(secret, with_key, &url, signed),
        )];
        if with_key {
            headers.push((
                "x-twilio-webhooks-signature-settings",
                format!("key={SHARED_KEY}, algorithm=hmac_sha256"),
            ));
        }
        Push {
            method,
            url,
            mime: "application/x-www-form-urlencoded; charset=UTF-8",
            headers,
            body: body.into(),
        }
    }

    fn fields(&self, recording: &Recording, status: &str) -> Vec<(String, String)> {
        let call = &recording.call;
        let account = &self.0.accounts[recording.account].sid;
        let is_absent = status == "absent";
        let mut fields = vec![
            ("AccountSid", account.clone()),
            ("RecordingSid", call.id.clone()),
            (
                "RecordingUrl",
                format!(
                    "https://api.twilio.com/2010-04-01/Accounts/{account}/Recordings/{}",
                    call.id
                ),
            ),
            ("RecordingStatus", status.to_owned()),
            ("RecordingChannels", recording.channels.to_string()),
            ("RecordingStartTime", rfc2822(call.started_ms)),
            ("RecordingSource", "DialVerb".to_owned()),
            ("RecordingTrack", "both".to_owned()),
            (
                "ErrorCode",
                if is_absent { "16101" } else { "0" }.to_owned(),
            ),
        ];
        match status {
            "completed" => fields.push(("RecordingDuration", call.talk_s().to_string())),
            "absent" => fields.push(("RecordingDuration", "-1".to_owned())),
            _ => {}
        }
        for (name, sid) in [
            ("CallSid", &recording.call_sid),
            ("ConferenceSid", &recording.conference_sid),
        ] {
            fields.extend(sid.clone().map(|sid| (name, sid)));
        }
        let own = fields.into_iter();
        own.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Which callbacks leave, and when.
fn callbacks(recording: &Recording) -> Vec<(&'static str, u64)> {
    let plan = &recording.call.plan;
    let last = if plan.ending == Ending::Absent {
        "absent"
    } else {
        "completed"
    };
    let mut callbacks = vec![("in-progress", 1), (last, 30)];
    if plan.has(Mishap::Late) {
        callbacks[1].1 += 3600;
    }
    if plan.has(Mishap::OutOfOrder) {
        callbacks[0].1 = 120;
    }
    if plan.has(Mishap::Never) {
        // Not the last word of what was never recorded, or nobody would know.
        callbacks.remove(usize::from(recording.call.dice("never").happens(1, 2)));
    }
    if plan.has(Mishap::Twice) {
        let again: Vec<_> = callbacks
            .iter()
            .map(|(what, at)| (*what, at + 60))
            .collect();
        callbacks.extend(again);
    }
    callbacks
}
