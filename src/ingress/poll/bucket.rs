//! The walk over the customer's bucket: all its keys from the first to the last, with a cursor of its own.
//!
//! What a newcomer gets wrong: the bucket has no list by time, so one walk reads it once, however long the time
//! that it is read for; and it is another door than the vendor's API, so what fails there stops nothing else.

use std::time::Duration;

use crate::db::sweep::{Cursor, Walk};
use crate::domain::clock::Timestamp;
use crate::providers::contract::{ProviderErrorKind, Window};

use super::walk::{OVERLAP, WHOLE_EVERY, ms};
use super::{Halt, Run};

/// What the faults call it.
const DOING: &str = "list_bucket";
/// The bucket's clock may be ahead of ours: what it wrote "tomorrow" is there now.
const AHEAD: Duration = Duration::from_secs(24 * 3600);

/// Where the bucket is gone on with: with all that was written within the vendor's time when that is due, else
/// with what was written since the last walk began.
fn next_walk(
    (recent, whole): (Option<Cursor>, Option<Cursor>),
    oldest: Timestamp,
    begun: Timestamp,
) -> (Walk, Cursor) {
    let whole = match whole {
        Some(open) if open.is_open() => return (Walk::BucketWhole, open),
        Some(done) if done.to.plus(WHOLE_EVERY) > begun => done,
        _ => return (Walk::BucketWhole, Cursor::over(oldest, begun)),
    };
    let last = match recent {
        // Unless a younger walk over everything has made it needless.
        Some(open) if open.is_open() && open.to > whole.to => return (Walk::Bucket, open),
        Some(done) if !done.is_open() => done.to.max(whole.to),
        _ => whole.to,
    };
    let from = last.plus_ms(-ms(OVERLAP)).max(oldest);
    (Walk::Bucket, Cursor::over(from, begun))
}

impl Run<'_> {
    /// Reads the bucket on from its cursor to its end, or until the time for it is up.
    pub(super) async fn bucket(&mut self) -> Result<(), Halt> {
        let (db, name) = (&self.sweeper.db, self.provider.name());
        let oldest = self.begun.plus_ms(-ms(self.life()));
        let known = (
            db.walk(name, Walk::Bucket).await?,
            db.walk(name, Walk::BucketWhole).await?,
        );
        let (walk, mut cursor) = next_walk(known, oldest, self.begun);
        while cursor.is_open() {
            let now = self.sweeper.clock.now();
            let written = Window {
                from: cursor.from,
                to: now.plus(AHEAD),
            };
            let asked = cursor.page.as_deref();
            let page = match self.provider.list_bucket(written, asked, now).await {
                Ok(page) => page,
                Err(error) => {
                    self.failed(DOING, &error).await;
                    // Perhaps only this page is dead: the next pass begins the bucket again.
                    if error.kind == ProviderErrorKind::BadAnswer && cursor.page.take().is_some() {
                        self.sweeper.db.save_walk(self.lease, walk, &cursor).await?;
                    }
                    return Err(Halt::Vendor);
                }
            };
            self.report.listed += page.told.len() as u64;
            self.store(page.told).await?;
            self.worked(DOING).await;
            if page.next.is_none() {
                cursor.from = cursor.to;
            }
            cursor.page = page.next;
            self.sweeper.db.save_walk(self.lease, walk, &cursor).await?;
            if self.time_is_up() {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600 * 1000;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_ms(hour * HOUR)
    }

    fn open(from: i64, to: i64) -> Option<Cursor> {
        Some(Cursor {
            page: Some("calls/k".to_owned()),
            ..Cursor::over(at(from), at(to))
        })
    }

    fn done(to: i64) -> Option<Cursor> {
        Some(Cursor::over(at(to), at(to)))
    }

    #[test]
    fn one_walk_at_a_time_and_none_leaves_a_gap() {
        let begun = 1000;
        let over = |from: i64| Cursor::over(at(from), at(begun));
        for (recent, whole, expected) in [
            (None, None, (Walk::BucketWhole, over(900))),
            // Begun yesterday and not at its end: its page is gone on with.
            (
                None,
                open(800, 970),
                (Walk::BucketWhole, open(800, 970).unwrap()),
            ),
            (
                open(950, 999),
                open(800, 970),
                (Walk::BucketWhole, open(800, 970).unwrap()),
            ),
            (done(999), done(976), (Walk::BucketWhole, over(900))),
            (None, done(977), (Walk::Bucket, over(975))),
            (done(990), done(980), (Walk::Bucket, over(988))),
            (done(978), done(980), (Walk::Bucket, over(978))),
            (
                open(988, 995),
                done(980),
                (Walk::Bucket, open(988, 995).unwrap()),
            ),
            (open(970, 975), done(980), (Walk::Bucket, over(978))),
        ] {
            let shown = format!("{recent:?} {whole:?}");
            assert_eq!(
                next_walk((recent, whole), at(900), at(begun)),
                expected,
                "{shown}"
            );
        }
    }
}
