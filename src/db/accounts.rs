//! Accounts: who may sign in, the tries that fail, and the links that sign in once.
//!
//! What a newcomer gets wrong: a try counts *before* the password is looked at (`take_try`). Else a hundred tries at
//! once would all pass a lock that only the fifth failure closes.

use sea_orm::ConnectionTrait;
use serde::Serialize;
use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::digest::Sha256;
use crate::domain::ids::new_id;
use crate::domain::rights::{Role, Scope};

use super::Database;
use super::error::{DbError, DbErrorKind};
use super::rows;
use super::sql::{all, exec, models, one, vals};

/// Tries that cost nothing but the time of one.
const FREE_TRIES: i64 = 5;
/// The wait after the first try too many; it doubles with each further one.
const FIRST_WAIT_MS: i64 = 30_000;
const LONGEST_WAIT_MS: i64 = 3_600_000;

/// Without the password's hash, which never leaves this room but to be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Account {
    pub account_id: Uuid,
    pub name: String,
    pub role: Role,
    pub scope: Scope,
    /// `en` or `zh-CN`; null follows the browser.
    pub language: Option<String>,
    pub has_password: bool,
    pub must_change: bool,
    pub disabled: bool,
    /// Tries since the last that was right.
    pub failures: u32,
    pub locked_until: Option<Timestamp>,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewAccount {
    /// As `account_name` gives it.
    pub name: String,
    pub password_hash: Option<String>,
    pub role: Role,
    pub scope: Scope,
    pub language: Option<String>,
    pub must_change: bool,
}

/// What may be changed of an account; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct AccountChange {
    pub role: Option<Role>,
    pub scope: Option<Scope>,
    /// `Some(None)` follows the browser again.
    pub language: Option<Option<String>>,
    pub disabled: Option<bool>,
}

/// The name as it is kept: lower case. `None` when it is no name.
pub fn account_name(text: &str) -> Option<String> {
    let name = text.trim().to_lowercase();
    let good = |c: char| c.is_ascii_alphanumeric() || "._@-".contains(c);
    let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    (starts && name.len() <= 64 && name.chars().all(good)).then_some(name)
}

impl Database {
    /// Whether anybody has an account: then nobody reads without one, or a token.
    pub async fn has_accounts(&self) -> Result<bool, DbError> {
        let row = one(self.reader(), "select 1 from account limit 1", vec![]).await?;
        Ok(row.is_some())
    }

    /// An error of kind `Conflict` when the name is taken.
    pub async fn add_account(&self, new: NewAccount, now: Timestamp) -> Result<Account, DbError> {
        let id = new_id(now);
        exec(
            self.writer(),
            "insert into account (account_id, name, password_hash, role, scope, language, failures, \
             locked_until_ms, must_change, disabled, created_at_ms, changed_at_ms) \
             values ($1, $2, $3, $4, $5, $6, 0, null, $7, $8, $9, $9)",
            vals![
                id,
                new.name.as_str(),
                new.password_hash,
                new.role.as_str(),
                rows::text(&new.scope),
                new.language,
                new.must_change,
                false,
                now.ms()
            ],
        )
        .await?;
        self.account(id).await?.ok_or_else(|| {
            DbError::new(
                DbErrorKind::Other,
                "the account that was added is not there",
            )
        })
    }

    /// By name.
    pub async fn accounts(&self) -> Result<Vec<Account>, DbError> {
        let found: Vec<entity::account::Model> =
            models(self.reader(), "select * from account order by name", vec![]).await?;
        found.into_iter().map(account).collect()
    }

    pub async fn account(&self, id: Uuid) -> Result<Option<Account>, DbError> {
        let found: Vec<entity::account::Model> = models(
            self.reader(),
            "select * from account where account_id = $1",
            vals![id],
        )
        .await?;
        found.into_iter().next().map(account).transpose()
    }

    pub async fn find_account(&self, name: &str) -> Result<Option<Account>, DbError> {
        let found: Vec<entity::account::Model> = models(
            self.reader(),
            "select * from account where name = $1",
            vals![name],
        )
        .await?;
        found.into_iter().next().map(account).transpose()
    }

    /// To be compared with what somebody typed, and for nothing else.
    pub async fn password_hash(&self, account: Uuid) -> Result<Option<String>, DbError> {
        let row = one(
            self.reader(),
            "select password_hash from account where account_id = $1",
            vals![account],
        )
        .await?;
        Ok(row
            .map(|row| row.try_get_by_index(0))
            .transpose()?
            .flatten())
    }

    /// Sets the password, forgets failed tries, and ends the account's sessions and links.
    pub async fn set_password(
        &self,
        account: Uuid,
        hash: &str,
        must_change: bool,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let txn = self.begin().await?;
        exec(
            &txn,
            "update account set password_hash = $2, must_change = $3, failures = 0, locked_until_ms = null, \
             changed_at_ms = $4 where account_id = $1",
            vals![account, hash, must_change, now.ms()],
        )
        .await?;
        end_all(&txn, account).await?;
        txn.commit().await?;
        Ok(())
    }

    /// Less than before ends the account's sessions as well: the next request signs in again.
    pub async fn change_account(
        &self,
        account: Uuid,
        change: AccountChange,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let txn = self.begin().await?;
        let narrows =
            change.role.is_some() || change.scope.is_some() || change.disabled == Some(true);
        exec(
            &txn,
            "update account set role = coalesce($2, role), scope = coalesce($3, scope), \
             disabled = coalesce($4, disabled), changed_at_ms = $5 where account_id = $1",
            vals![
                account,
                change.role.map(Role::as_str),
                change.scope.as_ref().map(rows::text),
                change.disabled,
                now.ms()
            ],
        )
        .await?;
        if let Some(language) = change.language {
            exec(
                &txn,
                "update account set language = $2 where account_id = $1",
                vals![account, language],
            )
            .await?;
        }
        if narrows {
            end_all(&txn, account).await?;
        }
        txn.commit().await?;
        Ok(())
    }

    /// Counts a try to sign in, and says whether its password may be looked at: not while the account is locked,
    /// and only for as many at once as are free.
    pub async fn take_try(&self, account: Uuid, now: Timestamp) -> Result<bool, DbError> {
        // Tries that meet count one after another; whoever finds no turn waits as if locked.
        for _ in 0..8 {
            let Some(known) = self.account(account).await? else {
                return Ok(false);
            };
            if known.disabled || known.locked_until.is_some_and(|until| until > now) {
                return Ok(false);
            }
            let before = i64::from(known.failures);
            let touched = exec(
                self.writer(),
                "update account set failures = $2, locked_until_ms = $3 where account_id = $1 \
                 and failures = $4 and (locked_until_ms is null or locked_until_ms <= $5)",
                vals![
                    account,
                    before + 1,
                    wait_ms(before + 1).map(|wait| now.ms() + wait),
                    before,
                    now.ms()
                ],
            )
            .await?;
            if touched > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The password was right.
    pub async fn forget_tries(&self, account: Uuid) -> Result<(), DbError> {
        exec(
            self.writer(),
            "update account set failures = 0, locked_until_ms = null where account_id = $1",
            vals![account],
        )
        .await?;
        Ok(())
    }

    /// Whether anybody but this account administers: enabled, so that somebody is left who can let others in.
    pub async fn has_other_administrator(&self, account: Uuid) -> Result<bool, DbError> {
        let row = one(
            self.reader(),
            "select 1 from account where role = $1 and disabled = $2 and account_id <> $3 limit 1",
            vals![Role::Administrator.as_str(), false, account],
        )
        .await?;
        Ok(row.is_some())
    }

    /// A link that signs this account in once, until then.
    pub async fn add_link(
        &self,
        account: Uuid,
        token: Sha256,
        expires: Timestamp,
    ) -> Result<(), DbError> {
        exec(
            self.writer(),
            "insert into one_time_link (token_sha256, account_id, expires_at_ms) values ($1, $2, $3)",
            vals![token.as_bytes().to_vec(), account, expires.ms()],
        )
        .await?;
        Ok(())
    }

    /// Uses a link up. `None`: there is none, it was used, it is too late, or its account is disabled.
    pub async fn take_link(
        &self,
        token: Sha256,
        now: Timestamp,
    ) -> Result<Option<Account>, DbError> {
        // Two who hold the same link: one delete finds the row.
        let rows = all(
            self.writer(),
            "delete from one_time_link where token_sha256 = $1 returning account_id, expires_at_ms",
            vals![token.as_bytes().to_vec()],
        )
        .await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        if row.try_get_by_index::<i64>(1)? <= now.ms() {
            return Ok(None);
        }
        let account = self.account(row.try_get_by_index(0)?).await?;
        Ok(account.filter(|account| !account.disabled))
    }
}

async fn end_all<C: ConnectionTrait>(c: &C, account: Uuid) -> Result<(), DbError> {
    for table in ["session", "one_time_link"] {
        exec(
            c,
            format!("delete from {table} where account_id = $1"),
            vals![account],
        )
        .await?;
    }
    Ok(())
}

/// How long the account is locked after so many tries in a row that were not right.
fn wait_ms(tries: i64) -> Option<i64> {
    let over = u32::try_from(tries - FREE_TRIES).ok()?;
    Some(
        FIRST_WAIT_MS
            .saturating_mul(1 << over.min(20))
            .min(LONGEST_WAIT_MS),
    )
}

pub(super) fn role(text: &str) -> Result<Role, DbError> {
    Role::parse(text).ok_or_else(|| DbError::unknown("role", text))
}

fn account(row: entity::account::Model) -> Result<Account, DbError> {
    Ok(Account {
        account_id: row.account_id,
        role: role(&row.role)?,
        scope: rows::json(&row.scope)?,
        name: row.name,
        language: row.language,
        has_password: row.password_hash.is_some(),
        must_change: row.must_change,
        disabled: row.disabled,
        failures: rows::small(row.failures),
        locked_until: rows::at(row.locked_until_ms),
        created_at: Timestamp::from_ms(row.created_at_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let waits: Vec<_> = (1..=14).map(wait_ms).collect();
        assert_eq!(waits[..4], [None; 4]);
        assert_eq!(waits[4..7], [Some(30_000), Some(60_000), Some(120_000)]);
        assert_eq!(waits[13], Some(LONGEST_WAIT_MS));
        assert_eq!(wait_ms(1_000_000), Some(LONGEST_WAIT_MS));
    }

    #[test]
    fn names_are_folded_and_narrow() {
        assert_eq!(
            account_name(" Ann.Li@example.com "),
            Some("ann.li@example.com".into())
        );
        for bad in ["", "-a", "a b", "<script>", "王", &"a".repeat(65)] {
            assert_eq!(account_name(bad), None, "{bad}");
        }
    }
}
