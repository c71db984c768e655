//! Accounts. New ones get a link instead of a password that somebody else would know.

use serde::Serialize;
use serde_json::json;

use super::{bad_name, name_taken, sensible, tidy, unless_taken};
use crate::db::accounts::{Account, AccountChange, NewAccount, account_name};
use crate::domain::clock::Timestamp;
use crate::domain::rights::{Right, Role, Scope};
use crate::domain::token;
use crate::web::access::Reader;
use crate::web::problem::ApiError;
use crate::web::reads::{Reads, ask};
use crate::web::state::WebState;

/// Time to carry a link to its reader.
const LINK_FOR_MS: i64 = 24 * 3_600_000;

/// An address that signs its account in once; whoever holds it is that account.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Link {
    pub url: String,
    pub expires_at: Timestamp,
}

/// What is asked to be changed; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub role: Option<Role>,
    pub scope: Option<Scope>,
    pub disabled: Option<bool>,
}

/// The accounts, in the hands of one administrator.
#[derive(Debug)]
pub struct Accounts<'a> {
    state: &'a WebState,
    reader: &'a Reader,
}

impl<'a> Accounts<'a> {
    pub fn of(state: &'a WebState, reader: &'a Reader) -> Result<Self, ApiError> {
        reader.needs(Right::Administer)?;
        Ok(Self { state, reader })
    }

    /// By name.
    pub async fn list(&self) -> Result<Vec<Account>, ApiError> {
        self.reads().note("account_list", "").await?;
        self.rows().await
    }

    /// The same beneath the answer to a change, which has its own row in the trail.
    pub async fn rows(&self) -> Result<Vec<Account>, ApiError> {
        ask(self.state, self.state.db.accounts()).await
    }

    pub async fn show(&self, name: &str) -> Result<Account, ApiError> {
        let account = self.known(name).await?;
        self.reads().note("account_show", &account.name).await?;
        Ok(account)
    }

    pub async fn add(
        &self,
        name: &str,
        role: Role,
        scope: Scope,
    ) -> Result<(Account, Link), ApiError> {
        let name = account_name(name).ok_or_else(bad_name)?;
        let scope = tidy(scope);
        sensible(role, &scope)?;
        if ask(self.state, self.state.db.find_account(&name))
            .await?
            .is_some()
        {
            return Err(name_taken());
        }
        let said = format!("{name} {}", role.as_str());
        self.reads().note("account_add", &said).await?;
        let new = NewAccount {
            name,
            password_hash: None,
            role,
            scope,
            language: None,
            must_change: true,
        };
        let adding = self.state.db.add_account(new, self.state.clock.now());
        let account = unless_taken(self.state, adding).await?;
        let link = self.make_link(&account).await?;
        Ok((account, link))
    }

    pub async fn link(&self, name: &str) -> Result<Link, ApiError> {
        let account = self.known(name).await?;
        if account.disabled {
            return Err(ApiError::conflict(
                "disabled",
                "a disabled account cannot sign in; enable it first",
            ));
        }
        self.reads().note("account_link", &account.name).await?;
        self.make_link(&account).await
    }

    async fn make_link(&self, account: &Account) -> Result<Link, ApiError> {
        let lost = || ApiError::unavailable("source of random bytes");
        let secret = token::new_token().ok_or_else(lost)?;
        let expires_at = self.state.clock.now().plus_ms(LINK_FOR_MS);
        let hash = token::hash(secret.expose());
        let adding = self.state.db.add_link(account.account_id, hash, expires_at);
        ask(self.state, adding).await?;
        let base = self.state.settings.public_base();
        Ok(Link {
            url: format!("{base}/sign-in/link?t={}", secret.expose()),
            expires_at,
        })
    }

    /// Less than before ends the account's sessions. Nobody changes their own rights, and one administrator is left.
    pub async fn change(&self, name: &str, wish: Wish) -> Result<Account, ApiError> {
        let account = self.known(name).await?;
        let wish = Wish {
            scope: wish.scope.map(tidy),
            ..wish
        };
        let role = wish.role.unwrap_or(account.role);
        sensible(role, wish.scope.as_ref().unwrap_or(&account.scope))?;
        if self.reader.account == Some(account.account_id) {
            return Err(ApiError::conflict(
                "not_yourself",
                "somebody else must do this to your account",
            ));
        }
        let rules = role == Role::Administrator && !wish.disabled.unwrap_or(account.disabled);
        let ruled = account.role == Role::Administrator && !account.disabled;
        let id = account.account_id;
        if ruled && !rules && !ask(self.state, self.state.db.has_other_administrator(id)).await? {
            return Err(ApiError::conflict(
                "last_administrator",
                "no other account could administer any more; make another administrator first",
            ));
        }
        let (action, detail) = match wish.disabled {
            Some(true) => ("account_disable", json!(null)),
            Some(false) => ("account_enable", json!(null)),
            None => (
                "account_set",
                json!({ "role": wish.role, "scope": wish.scope }),
            ),
        };
        self.reads().audit(action, &account.name, detail).await?;
        // What stays as it is ends no session.
        let change = AccountChange {
            role: wish.role.filter(|role| *role != account.role),
            scope: wish.scope.filter(|scope| *scope != account.scope),
            language: None,
            disabled: wish.disabled,
        };
        let now = self.state.clock.now();
        ask(self.state, self.state.db.change_account(id, change, now)).await?;
        self.known(&account.name).await
    }

    /// Forgets the tries that failed, so that its owner need not wait.
    pub async fn unlock(&self, name: &str) -> Result<Account, ApiError> {
        let account = self.known(name).await?;
        self.reads().note("account_unlock", &account.name).await?;
        let id = account.account_id;
        ask(self.state, self.state.db.forget_tries(id)).await?;
        self.known(&account.name).await
    }

    async fn known(&self, name: &str) -> Result<Account, ApiError> {
        let missing = || ApiError::not_found("account");
        let name = account_name(name).ok_or_else(missing)?;
        let found = ask(self.state, self.state.db.find_account(&name)).await?;
        found.ok_or_else(missing)
    }

    fn reads(&self) -> Reads<'a> {
        Reads::of(self.state, self.reader)
    }
}
