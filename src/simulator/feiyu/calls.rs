//! Feiyu's calls and the notices of them: the CDR, "recording finished", and the copy of the authorisation that a
//! customer's own server hands on.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tokio::task::JoinSet;

use super::super::house::Call;
use super::super::plan::{Ending, Mishap, Plan};
use super::super::push::{Answered, Push};
use super::super::{Error, Profile, sign};
use super::{Feiyu, Ids};

/// The manual says nothing of retries; this vendor tries for about half a minute, at its own pace.
const WAITS_MS: [u64; 8] = [500, 1000, 1000, 2000, 2000, 4000, 8000, 12_000];
const PATIENCE: Duration = Duration::from_secs(5);

type Fields = Vec<(&'static str, String)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Authorisation,
    Cdr,
    RecordEnd,
}

#[derive(Debug)]
struct Notice {
    what: What,
    after: Duration,
    /// The last segment of the address, when each push has its own.
    topic: Option<&'static str>,
    fields: Fields,
    by_get: bool,
    lower_case: bool,
}

impl Feiyu {
    /// Plays the calls, each a little after the one before.
    pub(in super::super) async fn make_calls(&self, plans: Vec<Plan>) -> Result<(), Error> {
        let mut playing = JoinSet::new();
        for plan in plans {
            if !playing.is_empty() {
                tokio::time::sleep(self.house.options.call_interval).await;
            }
            let vendor = self.clone();
            playing.spawn(async move { vendor.play(plan).await });
        }
        super::super::all_done(playing).await
    }

    async fn play(&self, plan: Plan) -> Result<(), Error> {
        let (call, ids) = self.make(plan, self.house.now_ms());
        self.house.enter(&call, Some(&call.id))?;
        let notices = self.notices(&call, &ids);
        futures::future::try_join_all(notices.iter().map(|notice| self.send(notice))).await?;
        Ok(())
    }

    /// What is sent of a call, and when.
    fn notices(&self, call: &Call, ids: &Ids) -> Vec<Notice> {
        if call.plan.ending == Ending::None {
            return Vec::new();
        }
        let house = &self.house;
        let v2 = house.options.profile != Profile::V3;
        let mut dice = call.dice("notices");
        let notice = |what, after_s, topic, fields| Notice {
            what,
            after: house.paced(after_s),
            topic,
            fields,
            by_get: false,
            lower_case: false,
        };
        let mut cdr_s = 20;
        let mut done_s = 300 + dice.below(900);
        if call.plan.has(Mishap::Late) {
            let late = if dice.happens(1, 2) {
                &mut cdr_s
            } else {
                &mut done_s
            };
            *late += 3600;
        }
        if call.plan.has(Mishap::OutOfOrder) {
            cdr_s = done_s + 180;
        }
        let own_address = dice.happens(1, 2);
        let topic = |name| own_address.then_some(name);
        let mut notices = Vec::new();
        if v2 && dice.happens(3, 5) {
            notices.push(notice(
                What::Authorisation,
                1,
                Some("auth"),
                self.authorisation(call),
            ));
        }
        if v2 {
            let mut fields = vec![("action", "callhangup".to_owned())];
            fields.extend(self.facts(call));
            notices.push(notice(What::Cdr, cdr_s, topic("cdr"), fields));
        } else {
            // The push of a leg has no action: only its address says what it is.
            for (leg, recorded) in [(&ids.call, true), (&ids.other_leg, false)] {
                let after_s = cdr_s + 30 * u64::from(recorded != ids.first_leg);
                notices.push(notice(
                    What::Cdr,
                    after_s,
                    Some("cdr"),
                    self.leg(call, ids, leg, recorded),
                ));
            }
        }
        if call.plan.ending != Ending::Absent {
            let id = if v2 { "fyCallId" } else { "callId" };
            let fields = vec![("action", "recordEnd".to_owned()), (id, call.id.clone())];
            notices.push(notice(What::RecordEnd, done_s, topic("recording"), fields));
        }
        if call.plan.has(Mishap::Never) {
            let dropped = if dice.happens(1, 2) {
                What::Cdr
            } else {
                What::RecordEnd
            };
            notices.retain(|notice| notice.what != dropped);
        }
        for notice in &mut notices {
            notice.by_get = dice.happens(1, 6);
            notice.lower_case = dice.happens(1, 8);
        }
        if call.plan.has(Mishap::Twice) {
            let again: Vec<_> = notices
                .iter()
                .map(|first| Notice {
                    after: first.after + house.paced(60),
                    topic: first.topic,
                    fields: first.fields.clone(),
                    ..*first
                })
                .collect();
            notices.extend(again);
        }
        notices
    }

    async fn send(&self, notice: &Notice) -> Result<(), Error> {
        tokio::time::sleep(notice.after).await;
        let url = self.house.hook(notice.topic)?;
        let make = || {
            let mut form = form_urlencoded::Serializer::new(String::new());
            for (name, value) in self.signed(notice) {
                form.append_pair(name, &value);
            }
            let form = form.finish();
            let mime = "application/x-www-form-urlencoded";
            if notice.by_get {
                let url = format!("{url}?{form}");
                return Push {
                    method: Method::GET,
                    url,
                    mime,
                    headers: Vec::new(),
                    body: Default::default(),
                };
            }
            Push {
                method: Method::POST,
                url: url.clone(),
                mime,
                headers: Vec::new(),
                body: form.into(),
            }
        };
        let taken = |answer: &Answered| {
            answer
                .code("resultCode")
                .is_some_and(|code| code == 0 || code == "0")
        };
        self.house
            .deliver(make, PATIENCE, &WAITS_MS.map(Duration::from_millis), taken)
            .await;
        Ok(())
    }

    /// The fields with application, time and signature, signed at this moment.
    fn signed(&self, notice: &Notice) -> Fields {
        let now = self.house.now_ms().to_string();
        let mut fields = notice.fields.clone();
        fields.push(("appId", self.app_id.clone()));
        let (signature, name) = match self.house.options.profile {
            Profile::V2 | Profile::Queue | Profile::Protection => {
                let au = sign::feiyu_v2(&self.app_id, &self.app_token, &now);
                fields.push(("ti", now));
                (au, "au")
            }
            Profile::V3 => {
                fields.push(("currentTime", now));
                (sign::feiyu_v3(&self.app_id, &self.app_token), "signature")
            }
        };
        let signature = if notice.lower_case {
            signature.to_lowercase()
        } else {
            signature
        };
        fields.push((name, signature));
        fields
    }

    /// The facts of a call, the same in `callhangup` and `fetchCallHistory`.
    pub(super) fn facts(&self, call: &Call) -> Fields {
        let mut dice = call.dice("facts");
        let (first_start, first_end) = if dice.happens(1, 2) {
            (call.started_ms - 8000, call.ended_ms)
        } else {
            (0, 0)
        };
        vec![
            ("appCallId", customer_id(call)),
            ("fyCallId", call.id.clone()),
            (
                "appServerExtraData",
                json!({"desk": format!("a-{}", 10 + dice.below(9))}).to_string(),
            ),
            ("callbackFirstStartTime", first_start.to_string()),
            ("callbackFirstEndTime", first_end.to_string()),
            ("callStartTime", call.started_ms.to_string()),
            ("callEndTime", call.ended_ms.to_string()),
            (
                "stopReason",
                if call.talk_s() > 0 {
                    dice.pick(&["1", "2"])
                } else {
                    "5"
                }
                .to_owned(),
            ),
            ("trueShowNumberType", "1".to_owned()),
            ("trueIfRecord", "1".to_owned()),
        ]
    }

    fn authorisation(&self, call: &Call) -> Fields {
        let mut dice = call.dice("numbers");
        vec![
            ("fyCallId", call.id.clone()),
            ("appCallId", customer_id(call)),
            ("fyAccountId", format!("FY{}", dice.digits(10))),
            ("appAccountId", format!("agent-{}", 100 + dice.below(20))),
            ("caller", format!("0210000{}", dice.digits(4))),
            ("callee", format!("1390000{}", dice.digits(4))),
            ("callType", "1".to_owned()),
            ("showNumberType", "1".to_owned()),
            ("ifRecord", "1".to_owned()),
            (
                "appExtraData",
                json!({"ticket": dice.below(10_000)}).to_string(),
            ),
        ]
    }

    /// v3: the CDR of one leg. The first leg was rung some seconds before both spoke.
    fn leg(&self, call: &Call, ids: &Ids, leg: &str, recorded: bool) -> Fields {
        let first = recorded == ids.first_leg;
        let head_start = if first && call.talk_s() > 0 && !recorded {
            6000
        } else {
            0
        };
        let yes_no = |yes| if yes { "Y" } else { "N" }.to_owned();
        vec![
            ("callId", leg.to_owned()),
            ("dialBackId", ids.dial_back.clone()),
            ("isRecorded", yes_no(recorded)),
            ("isDisplayed", yes_no(first)),
            ("startTime", (call.started_ms - head_start).to_string()),
            ("endTime", call.ended_ms.to_string()),
            ("hangupReason", "normal".to_owned()),
        ]
    }
}

/// The customer's own id of a call.
fn customer_id(call: &Call) -> String {
    format!("order-{}", call.dice("customer").digits(8))
}
