//! Browsers that are signed in. The room knows the hash of a session's token, never the token.

use serde::Serialize;
use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::digest::Sha256;
use crate::domain::ids::new_id;

use super::Database;
use super::accounts::Account;
use super::error::DbError;
use super::sql::{exec, models, one, vals};

/// Written down again only when it moved by so much.
const SEEN_STEP_MS: i64 = 60_000;
/// Wrong present passwords in one session. Whoever stole a session guesses no longer than that, and the account of
/// its owner is not locked by it.
const OWN_TRIES: i64 = 5;

/// How long a session lives.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    /// Without any request.
    pub idle_ms: i64,
    /// From signing in, whatever happens.
    pub max_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Session {
    pub session_id: Uuid,
    pub created_at: Timestamp,
    pub last_seen_at: Timestamp,
    pub expires_at: Timestamp,
    pub from: String,
    /// What the browser says it is.
    pub agent: String,
}

impl Database {
    /// Signs a browser in, and forgets sessions and links whose time is over.
    pub async fn add_session(
        &self,
        account: Uuid,
        token: Sha256,
        lifetime: Lifetime,
        from: &str,
        agent: &str,
        now: Timestamp,
    ) -> Result<Uuid, DbError> {
        let id = new_id(now);
        let txn = self.begin().await?;
        exec(
            &txn,
            "delete from session where expires_at_ms <= $1 or last_seen_at_ms <= $2",
            vals![now.ms(), now.ms() - lifetime.idle_ms],
        )
        .await?;
        exec(
            &txn,
            "delete from one_time_link where expires_at_ms <= $1",
            vals![now.ms()],
        )
        .await?;
        exec(
            &txn,
            "insert into session (token_sha256, session_id, account_id, created_at_ms, last_seen_at_ms, \
             expires_at_ms, came_from, agent) values ($1, $2, $3, $4, $4, $5, $6, $7)",
            vals![
                token.as_bytes().to_vec(),
                id,
                account,
                now.ms(),
                now.ms() + lifetime.max_ms,
                from,
                agent.chars().take(200).collect::<String>()
            ],
        )
        .await?;
        txn.commit().await?;
        Ok(id)
    }

    /// Whose session this is, while it lives; seeing it makes it live on.
    pub async fn session(
        &self,
        token: Sha256,
        idle_ms: i64,
        now: Timestamp,
    ) -> Result<Option<(Session, Account)>, DbError> {
        let token = token.as_bytes().to_vec();
        let found: Vec<entity::session::Model> = models(
            self.reader(),
            "select * from session where token_sha256 = $1 and expires_at_ms > $2 and last_seen_at_ms > $3",
            vals![token.clone(), now.ms(), now.ms() - idle_ms],
        )
        .await?;
        let Some(row) = found.into_iter().next() else {
            return Ok(None);
        };
        let account = self.account(row.account_id).await?;
        let Some(account) = account.filter(|account| !account.disabled) else {
            return Ok(None);
        };
        if now.ms() - row.last_seen_at_ms >= SEEN_STEP_MS {
            exec(
                self.writer(),
                "update session set last_seen_at_ms = $2 where token_sha256 = $1 and last_seen_at_ms < $2",
                vals![token, now.ms()],
            )
            .await?;
        }
        Ok(Some((session(row), account)))
    }

    /// Of one account, the newest first.
    pub async fn sessions(&self, account: Uuid) -> Result<Vec<Session>, DbError> {
        let found: Vec<entity::session::Model> = models(
            self.reader(),
            "select * from session where account_id = $1 order by created_at_ms desc, session_id desc",
            vals![account],
        )
        .await?;
        Ok(found.into_iter().map(session).collect())
    }

    /// Counts a try to prove the present password within this session, and says whether it may be looked at.
    pub async fn take_own_try(&self, session: Uuid) -> Result<bool, DbError> {
        let touched = exec(
            self.writer(),
            "update session set refused = refused + 1 where session_id = $1 and refused < $2",
            vals![session, OWN_TRIES],
        )
        .await?;
        Ok(touched > 0)
    }

    /// The present password was right; a session that was refused before has all its tries again.
    pub async fn forget_own_tries(&self, session: Uuid) -> Result<(), DbError> {
        exec(
            self.writer(),
            "update session set refused = 0 where session_id = $1",
            vals![session],
        )
        .await?;
        Ok(())
    }

    /// Whether this session has no try left.
    pub async fn has_tried_enough(&self, session: Uuid) -> Result<bool, DbError> {
        let left = one(
            self.reader(),
            "select 1 from session where session_id = $1 and refused < $2",
            vals![session, OWN_TRIES],
        )
        .await?;
        Ok(left.is_none())
    }

    /// Ends one session of this account; false when it has none such.
    pub async fn end_session(&self, account: Uuid, session: Uuid) -> Result<bool, DbError> {
        let touched = exec(
            self.writer(),
            "delete from session where account_id = $1 and session_id = $2",
            vals![account, session],
        )
        .await?;
        Ok(touched > 0)
    }
}

fn session(row: entity::session::Model) -> Session {
    Session {
        session_id: row.session_id,
        created_at: Timestamp::from_ms(row.created_at_ms),
        last_seen_at: Timestamp::from_ms(row.last_seen_at_ms),
        expires_at: Timestamp::from_ms(row.expires_at_ms),
        from: row.came_from,
        agent: row.agent,
    }
}
