//! Who comes in through an OpenID Connect provider: the link from issuer and subject to an account, and the sign-ins
//! that are under way.
//!
//! What a newcomer gets wrong: issuer and subject are the whole identity. A name or an e-mail address is what a provider
//! says today, and may be somebody else's tomorrow; no account is ever found by one.

use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::digest::Sha256;
use crate::domain::ids::new_id;
use crate::domain::rights::{Role, Scope};

use super::accounts::Account;
use super::error::{DbError, DbErrorKind};
use super::sql::{all, exec, one, vals};
use super::{Database, rows};

/// An account to be made for somebody who came for the first time.
#[derive(Clone, Debug)]
pub struct NewIdentity {
    pub issuer: String,
    pub subject: String,
    /// Names to try, the best first, each as `account_name` gives it.
    pub names: Vec<String>,
    pub role: Role,
    pub scope: Scope,
}

impl Database {
    /// The account of this person, disabled or not.
    pub async fn account_of_identity(
        &self,
        issuer: &str,
        subject: &str,
    ) -> Result<Option<Account>, DbError> {
        let row = one(
            self.reader(),
            "select account_id from identity where issuer = $1 and subject = $2",
            vals![issuer, subject],
        )
        .await?;
        match row {
            Some(row) => self.account(row.try_get_by_index(0)?).await,
            None => Ok(None),
        }
    }

    /// The issuer through which this account comes in, where it does.
    pub async fn issuer_of(&self, account: Uuid) -> Result<Option<String>, DbError> {
        let row = one(
            self.reader(),
            "select issuer from identity where account_id = $1 order by issuer limit 1",
            vals![account],
        )
        .await?;
        Ok(row.map(|row| row.try_get_by_index(0)).transpose()?)
    }

    /// Makes account and link together, under the first name that is free. Who comes twice at once gets one account.
    pub async fn add_identity(&self, new: NewIdentity, now: Timestamp) -> Result<Account, DbError> {
        for name in &new.names {
            let txn = self.begin().await?;
            let id = new_id(now);
            let made = exec(
                &txn,
                "insert into account (account_id, name, password_hash, role, scope, language, failures, \
                 locked_until_ms, must_change, disabled, created_at_ms, changed_at_ms) \
                 values ($1, $2, null, $3, $4, null, 0, null, $5, $5, $6, $6) on conflict (name) do nothing",
                vals![
                    id,
                    name.as_str(),
                    new.role.as_str(),
                    rows::text(&new.scope),
                    false,
                    now.ms()
                ],
            )
            .await?;
            if made == 0 {
                continue;
            }
            let linked = exec(
                &txn,
                "insert into identity (issuer, subject, account_id, created_at_ms) values ($1, $2, $3, $4) \
                 on conflict (issuer, subject) do nothing",
                vals![new.issuer.as_str(), new.subject.as_str(), id, now.ms()],
            )
            .await?;
            if linked > 0 {
                txn.commit().await?;
            } else {
                drop(txn); // rolled back: somebody made the same person meanwhile
            }
            break;
        }
        let found = self.account_of_identity(&new.issuer, &new.subject).await?;
        found.ok_or_else(|| {
            DbError::new(
                DbErrorKind::Other,
                "no name is free for the account of a new person",
            )
        })
    }

    /// A sign-in that leaves for the provider. Forgets those whose time is over.
    pub async fn add_oidc_flow(
        &self,
        state: Sha256,
        next: &str,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<(), DbError> {
        exec(
            self.writer(),
            "delete from oidc_flow where expires_at_ms <= $1",
            vals![now.ms()],
        )
        .await?;
        exec(
            self.writer(),
            "insert into oidc_flow (state_sha256, next, expires_at_ms) values ($1, $2, $3)",
            vals![state.as_bytes().to_vec(), next, expires.ms()],
        )
        .await?;
        Ok(())
    }

    /// Uses a sign-in up and says where it leads. `None`: there is none such, it came back before, or it is too late.
    pub async fn take_oidc_flow(
        &self,
        state: Sha256,
        now: Timestamp,
    ) -> Result<Option<String>, DbError> {
        // Two who come back with the same state: one delete finds the row.
        let rows = all(
            self.writer(),
            "delete from oidc_flow where state_sha256 = $1 returning next, expires_at_ms",
            vals![state.as_bytes().to_vec()],
        )
        .await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        if row.try_get_by_index::<i64>(1)? <= now.ms() {
            return Ok(None);
        }
        Ok(Some(row.try_get_by_index(0)?))
    }
}
