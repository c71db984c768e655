//! Questions for single calls: those that should have a recording and have none.

use crate::db::asking::Asking;
use crate::domain::clock::Timestamp;
use crate::domain::retry::asking;
use crate::providers::contract::{AskedCall, ProviderErrorKind};

use super::{Halt, Run};

/// Calls of one source in one scheduled pass.
const IN_A_PASS: usize = 500;
/// Senseless answers in a row after which the vendor is left alone until the next pass.
const SENSELESS: u32 = 5;

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
        let mut senseless = 0;
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
            match self.provider.ask(&asked, now).await {
                Ok(told) => {
                    senseless = 0;
                    self.report.asked += 1;
                    self.store(told).await?;
                    self.worked("ask").await;
                }
                Err(error) => {
                    self.failed("ask", &error).await;
                    senseless += 1;
                    if error.kind != ProviderErrorKind::BadAnswer || senseless >= SENSELESS {
                        return Err(Halt::Vendor);
                    }
                }
            }
            fail::fail_point!("sweep.answer_stored");
            // Until its recording is announced: an answer may tell of another part, or cannot be read.
            let again = now.plus(asking(&plan, call.asks));
            self.sweeper
                .db
                .mark_asked(call.call_id, Some(again))
                .await?;
            if self.time_is_up() {
                break;
            }
        }
        Ok(())
    }

    /// The vendor's time to keep anything of the call is over.
    fn is_over(&self, call: &Asking, now: Timestamp) -> bool {
        let facts = &call.facts;
        let since = facts.ended_at.or(facts.started_at);
        now >= since.unwrap_or(call.arrived_at).plus(self.life())
    }
}
