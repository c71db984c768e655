//! Walks over a vendor's list, day by day and page by page, with a cursor that survives the process.

use std::collections::HashSet;
use std::time::Duration;

use crate::db::sweep::{Cursor, Walk};
use crate::domain::clock::Timestamp;
use crate::pipeline::faults::BAD_ANSWER;
use crate::providers::contract::{ListPage, ProviderErrorKind, Window};

use super::{DAY_S, Halt, Run};

/// What is new is listed again for so long: vendors list some recordings later than they end.
pub(super) const OVERLAP: Duration = Duration::from_secs(2 * 3600);
/// A list is read in stretches of this length, oldest first: what dies first is heard first, and a page
/// token that dies costs one stretch.
const STRETCH: Duration = Duration::from_secs(DAY_S);
/// How often the whole life is listed.
pub(super) const WHOLE_EVERY: Duration = Duration::from_secs(DAY_S);
/// Beginnings of one stretch in one pass, when its page tokens die.
const RESTARTS: u32 = 3;
/// No stretch has so many pages: a list that goes on for ever is left.
const MOST_PAGES: u32 = 20_000;

/// The pages of one stretch that were read, to see that they go round in circles.
#[derive(Default)]
struct Seen {
    tokens: HashSet<String>,
    last: Vec<String>,
}

impl Seen {
    /// Whether this page, or the way on from it, was there before.
    fn repeats(&mut self, page: &ListPage) -> bool {
        let keys: Vec<String> = page.told.iter().map(|t| t.dedup_key.clone()).collect();
        let same_page = !keys.is_empty() && keys == self.last;
        self.last = keys;
        let same_token = page
            .next
            .as_ref()
            .is_some_and(|next| !self.tokens.insert(next.clone()));
        same_page || same_token
    }
}

/// How a stretch ended.
enum Stretch {
    Read,
    /// The vendor's answer made no sense, whatever was tried.
    Senseless,
}

impl Run<'_> {
    /// What is new first, then the whole life when that is due.
    pub(super) async fn walks(&mut self) -> Result<(), Halt> {
        let (db, name) = (&self.sweeper.db, self.provider.name());
        let oldest = self.begun.plus_ms(-ms(self.life()));
        let begun = self.begun;
        let after = |end: Timestamp| {
            let from = end.plus_ms(-ms(OVERLAP)).max(oldest);
            Some(Cursor::over(from, begun))
        };
        let recent = match db.walk(name, Walk::Recent).await? {
            None => after(self.begun),
            Some(mut open) if open.is_open() => {
                stay_within(&mut open, oldest);
                if open.page.is_none() || open.from.plus(STRETCH) <= open.to {
                    open.to = open.to.max(self.begun);
                    Some(open)
                } else {
                    // In the middle of its last stretch: that one to its end, as its page means it.
                    let end = open.to;
                    let ended = self.walk(Walk::Recent, open).await?;
                    ended.then(|| after(end)).flatten()
                }
            }
            Some(done) => after(done.to),
        };
        if let Some(recent) = recent {
            self.walk(Walk::Recent, recent).await?;
        }
        let whole = match db.walk(name, Walk::Whole).await? {
            Some(mut open) if open.is_open() => {
                stay_within(&mut open, oldest);
                open
            }
            Some(done) if done.to.plus(WHOLE_EVERY) > self.begun => return Ok(()),
            _ => Cursor::over(oldest, self.begun),
        };
        self.walk(Walk::Whole, whole).await.map(|_| ())
    }

    /// Reads from the cursor to its end; says whether nothing of it is left for the next pass.
    async fn walk(&mut self, walk: Walk, mut cursor: Cursor) -> Result<bool, Halt> {
        // A stretch that makes no sense stays the cursor of what is new, and what follows is listed all the
        // same; the whole life goes past it and comes again tomorrow.
        let mut stays = false;
        let mut ahead = cursor.clone();
        if cursor.is_open() {
            self.sweeper.db.save_walk(self.lease, walk, &cursor).await?;
        }
        while ahead.is_open() {
            let end = ahead.from.plus(STRETCH).min(ahead.to);
            let window = Window {
                from: ahead.from,
                to: end,
            };
            let committed = (!stays).then_some(walk);
            let read = self.stretch(window, &mut ahead, committed).await?;
            if matches!(read, Stretch::Senseless) && walk == Walk::Recent && !stays {
                stays = true;
                cursor = Cursor::over(window.from, cursor.to);
                self.sweeper.db.save_walk(self.lease, walk, &cursor).await?;
            }
            ahead.from = end;
            ahead.page = None;
            if !stays {
                cursor.clone_from(&ahead);
                self.sweeper.db.save_walk(self.lease, walk, &cursor).await?;
            }
            if self.time_is_up() && walk == Walk::Whole {
                break;
            }
        }
        Ok(!cursor.is_open())
    }

    /// Reads one stretch page by page; with `committed` the cursor goes along.
    async fn stretch(
        &mut self,
        window: Window,
        cursor: &mut Cursor,
        committed: Option<Walk>,
    ) -> Result<Stretch, Halt> {
        let (mut seen, mut restarts, mut pages) = (Seen::default(), 0, 0);
        loop {
            let now = self.sweeper.clock.now();
            let page = match self
                .provider
                .list(window, cursor.page.as_deref(), now)
                .await
            {
                Ok(page) => page,
                Err(error) => {
                    self.failed("list", &error).await;
                    if error.kind != ProviderErrorKind::BadAnswer {
                        return Err(Halt::Vendor);
                    }
                    // Perhaps only the page token is dead: from the beginning.
                    restarts += 1;
                    if cursor.page.take().is_none() || restarts > RESTARTS {
                        return Ok(Stretch::Senseless);
                    }
                    seen = Seen::default();
                    self.report
                        .problems
                        .retain(|known| known.code != BAD_ANSWER);
                    continue;
                }
            };
            pages += 1;
            self.report.listed += page.told.len() as u64;
            let goes_round = seen.repeats(&page);
            self.store(page.told).await?;
            self.worked("list").await;
            fail::fail_point!("sweep.page_stored");
            let Some(next) = page.next else {
                return Ok(Stretch::Read);
            };
            if goes_round || pages >= MOST_PAGES {
                let (code, what) = if goes_round {
                    ("list_repeats", "repeats a page for ever")
                } else {
                    ("list_too_long", "does not end")
                };
                tracing::warn!(source = self.provider.name(), code, "sweep");
                self.report.problem(
                    code,
                    format!(
                        "the vendor's list from {} to {} {what}",
                        window.from, window.to
                    ),
                );
                return Ok(Stretch::Read);
            }
            cursor.page = Some(next);
            if let Some(walk) = committed {
                self.sweeper.db.save_walk(self.lease, walk, cursor).await?;
            }
        }
    }
}

/// What the vendor has deleted meanwhile is not listed any more.
fn stay_within(cursor: &mut Cursor, oldest: Timestamp) {
    if cursor.from < oldest {
        cursor.from = oldest;
        cursor.page = None;
    }
}

pub(super) fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
