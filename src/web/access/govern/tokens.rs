//! Tokens of scripts. A token is told once, when it is made.

use super::{bad_name, name_taken, sensible, tidy, unless_taken};
use crate::db::accounts::account_name;
use crate::db::tokens::{NewToken, Token, token_name};
use crate::domain::rights::{Right, Role, Scope};
use crate::domain::secret::Secret;
use crate::domain::token;
use crate::web::access::Reader;
use crate::web::problem::ApiError;
use crate::web::reads::{Reads, ask};
use crate::web::state::WebState;

const DAY_MS: i64 = 86_400_000;
/// Days that a token may be good for.
pub const MOST_DAYS: i64 = 3650;

/// The tokens, in the hands of one administrator.
#[derive(Debug)]
pub struct Tokens<'a> {
    state: &'a WebState,
    reader: &'a Reader,
}

impl<'a> Tokens<'a> {
    pub fn of(state: &'a WebState, reader: &'a Reader) -> Result<Self, ApiError> {
        reader.needs(Right::Administer)?;
        Ok(Self { state, reader })
    }

    /// By name, revoked and expired ones too.
    pub async fn list(&self) -> Result<Vec<Token>, ApiError> {
        self.reads().note("token_list", "").await?;
        self.rows().await
    }

    /// The same beneath the answer to a change, which has its own row in the trail.
    pub async fn rows(&self) -> Result<Vec<Token>, ApiError> {
        ask(self.state, self.state.db.tokens()).await
    }

    pub async fn add(
        &self,
        name: &str,
        role: Role,
        scope: Scope,
        days: i64,
    ) -> Result<(Token, Secret), ApiError> {
        account_name(name).ok_or_else(bad_name)?;
        let name = token_name(name).ok_or_else(|| {
            ApiError::refused(
                "reserved_name",
                "api_token is the name of [server] api_token in the trail; choose another one",
            )
        })?;
        let scope = tidy(scope);
        sensible(role, &scope)?;
        if !(1..=MOST_DAYS).contains(&days) {
            return Err(ApiError::refused(
                "bad_days",
                format!("days is not between 1 and {MOST_DAYS}"),
            ));
        }
        if self.rows().await?.iter().any(|token| token.name == name) {
            return Err(name_taken());
        }
        let secret = token::new_api_token()
            .ok_or_else(|| ApiError::unavailable("source of random bytes"))?;
        let said = format!("{name} {}", role.as_str());
        self.reads().note("token_add", &said).await?;
        let now = self.state.clock.now();
        let new = NewToken {
            name,
            sha256: token::hash(secret.expose()),
            role,
            scope: scope.clone(),
            created_by: self.reader.actor.clone(),
            expires_at: Some(now.plus_ms(days * DAY_MS)),
        };
        let made = Token {
            token_id: uuid::Uuid::nil(),
            name: new.name.clone(),
            role,
            scope,
            created_at: now,
            created_by: new.created_by.clone(),
            expires_at: new.expires_at,
            last_used_at: None,
            revoked_at: None,
        };
        let token_id = unless_taken(self.state, self.state.db.add_token(new, now)).await?;
        Ok((Token { token_id, ..made }, secret))
    }

    /// No good any more, from the next request on.
    pub async fn revoke(&self, name: &str) -> Result<(), ApiError> {
        let missing = || ApiError::not_found("token");
        let name = account_name(name).ok_or_else(missing)?;
        self.reads().note("token_revoke", &name).await?;
        let now = self.state.clock.now();
        if ask(self.state, self.state.db.revoke_token(&name, now)).await? {
            Ok(())
        } else {
            Err(missing())
        }
    }

    fn reads(&self) -> Reads<'a> {
        Reads::of(self.state, self.reader)
    }
}
