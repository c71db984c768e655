//! Questions for single calls: those that should have a recording and have none.

use crate::db::asking::Asking;
use crate::domain::clock::Timestamp;
use crate::domain::retry::asking;
use crate::providers::contract::{AskedCall, ProviderError, ProviderErrorKind, Told};

use super::{Halt, Run};

/// Calls of one source in one scheduled pass.
const IN_A_PASS: usize = 500;
/// Senseless answers in a row after which the vendor is left alone until the next pass.
const SENSELESS: u32 = 5;

/// One of the doors at which calls are asked for.
struct Desk {
    /// What the faults call it.
    doing: &'static str,
    is_open: bool,
    /// It does not answer: left alone until the next pass.
    is_away: bool,
    /// Senseless answers in a row.
    senseless: u32,
}

impl Desk {
    fn new(doing: &'static str, is_open: bool) -> Self {
        Self {
            doing,
            is_open,
            is_away: false,
            senseless: 0,
        }
    }
}

impl Run<'_> {
    /// Asks for each call that is due; those that a person's `sync` asks for need not be.
    pub(super) async fn questions(&mut self) -> Result<(), Halt> {
        let name = self.provider.name();
        let due = if self.mode.thorough {
            Timestamp::from_ms(i64::MAX)
        } else {
            self.begun
        };
        let limit = if self.mode.thorough {
            100 * IN_A_PASS
        } else {
            IN_A_PASS
        };
        let plan = self.provider.waiting_plan().waits;
        let can = self.provider.capabilities();
        let mut api = Desk::new("ask", can.can_ask);
        let mut bucket = Desk::new("ask_bucket", can.can_ask_bucket);
        for call in self.sweeper.db.calls_to_ask(name, due, limit).await? {
            let now = self.sweeper.clock.now();
            if self.is_over(&call, now) {
                self.sweeper.db.mark_asked(call.call_id, None).await?;
                continue;
            }
            let asked = AskedCall {
                provider_call_id: call.facts.provider_call_id.clone(),
                aliases: call.facts.aliases.clone(),
                started_at: call.facts.started_at,
                ended_at: call.facts.ended_at,
                custom: call.facts.custom.clone(),
            };
            let mut is_answered = false;
            if api.is_open {
                let answer = self.provider.ask(&asked, now).await;
                is_answered |= self.answered(&mut api, answer).await?;
            }
            // Another door, which fails for itself: neither keeps the other's answer from us.
            if bucket.is_open {
                let answer = self.provider.ask_bucket(&asked, now).await;
                is_answered |= self.answered(&mut bucket, answer).await?;
            }
            self.report.asked += u64::from(is_answered);
            fail::fail_point!("sweep.answer_stored");
            let is_away = if can.can_ask {
                api.is_away
            } else {
                bucket.is_away
            };
            if is_away && !bucket.is_open {
                return Err(Halt::Vendor);
            }
            // What the vendor did not answer stays due.
            if !is_away {
                // Until its recording is announced: an answer may tell of another part, or cannot be read.
                let again = now.plus(asking(&plan, call.asks));
                self.sweeper
                    .db
                    .mark_asked(call.call_id, Some(again))
                    .await?;
            }
            if self.time_is_up() {
                break;
            }
        }
        match api.is_away {
            true => Err(Halt::Vendor),
            false => Ok(()),
        }
    }

    /// Stores an answer, or remembers why there is none; says whether it made sense.
    async fn answered(
        &mut self,
        desk: &mut Desk,
        answer: Result<Vec<Told>, ProviderError>,
    ) -> Result<bool, Halt> {
        match answer {
            Ok(told) => {
                desk.senseless = 0;
                self.store(told).await?;
                self.worked(desk.doing).await;
                Ok(true)
            }
            Err(error) => {
                self.failed(desk.doing, &error).await;
                desk.senseless += 1;
                if error.kind != ProviderErrorKind::BadAnswer || desk.senseless >= SENSELESS {
                    (desk.is_open, desk.is_away) = (false, true);
                }
                Ok(false)
            }
        }
    }

    /// The vendor's time to keep anything of the call is over.
    fn is_over(&self, call: &Asking, now: Timestamp) -> bool {
        let facts = &call.facts;
        let since = facts.ended_at.or(facts.started_at);
        now >= since.unwrap_or(call.arrived_at).plus(self.life())
    }
}
