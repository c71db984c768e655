//! Whether every row has its object with the right size: the archive's list against the rows, both in the byte
//! order of their keys, a page of each in memory.

use futures::StreamExt as _;

use crate::db::fixity::{Check, Kept};

use super::{FixityError, Next, Run};

const PAGE: usize = 500;

impl Run<'_> {
    /// What the list does not show as it should be is looked at by itself, and read if it really is not so:
    /// a list may be a moment older than the rows.
    pub(super) async fn structure(&mut self, check: &mut Check) -> Result<Next, FixityError> {
        let fixity = self.fixity;
        let mut listing = fixity.archive.list("");
        let mut shown = listing.next().await.transpose()?;
        let mut last: Option<Kept> = None;
        self.report.structure = Some(0);
        loop {
            let page = fixity.db.kept_by_key(last.as_ref(), PAGE).await?;
            for kept in &page {
                let key = kept.object.key.as_str();
                while shown.as_ref().is_some_and(|info| info.key.as_str() < key) {
                    shown = listing.next().await.transpose()?;
                }
                let fits = shown.as_ref().is_some_and(|info| {
                    info.key.as_str() == key && info.bytes == kept.object.bytes
                });
                if self.may_go_on(Some(&mut *check)).await? == Next::Stop {
                    return Ok(Next::Stop);
                }
                if !fits && self.suspect(kept, check).await? == Next::Stop {
                    return Ok(Next::Stop);
                }
                self.report.structure = self.report.structure.map(|n| n + 1);
            }
            (self.progress)(&self.report);
            match page.into_iter().next_back() {
                Some(kept) => last = Some(kept),
                None => return Ok(Next::On),
            }
        }
    }

    async fn suspect(&mut self, kept: &Kept, check: &mut Check) -> Result<Next, FixityError> {
        let there = self.fixity.archive.head(&kept.object.key).await;
        match there {
            Ok(Some(info)) if info.bytes == kept.object.bytes => Ok(Next::On),
            // Reading it tells what it is, or that the store is away.
            _ => self.read(kept, Some(check)).await,
        }
    }
}
