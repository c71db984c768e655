//! One's own account: password, language and sessions.
//!
//! What a newcomer gets wrong: whoever has stolen a session must not guess the password with it, and must not lock its
//! owner out either. So wrong present passwords are counted by session: five end it, and the account stays as it was.

use http::{HeaderMap, HeaderValue};
use serde::Serialize;
use uuid::Uuid;

use crate::db::accounts::{Account, AccountChange};
use crate::db::sessions::Session;
use crate::domain::password;
use crate::domain::rights::{Role, Scope};
use crate::domain::secret::Secret;
use crate::web::access::sign_in::{open_session, password_hash, password_matches};
use crate::web::access::{Reader, SignedIn};
use crate::web::problem::ApiError;
use crate::web::reads::{Reads, ask};
use crate::web::state::WebState;

/// Who asks, as this server knows them.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct OwnView {
    /// As the trail writes it.
    pub actor: String,
    pub role: Role,
    pub scope: Scope,
    /// Of numbers the last four digits alone are shown.
    pub masks_numbers: bool,
    /// Null for tokens, and for this machine.
    pub account: Option<Account>,
}

/// What belongs to the reader.
#[derive(Debug)]
pub struct Own<'a> {
    state: &'a WebState,
    reader: &'a Reader,
}

impl<'a> Own<'a> {
    pub fn of(state: &'a WebState, reader: &'a Reader) -> Self {
        Self { state, reader }
    }

    pub async fn show(&self) -> Result<OwnView, ApiError> {
        let account = match self.reader.account {
            Some(id) => ask(self.state, self.state.db.account(id)).await?,
            None => None,
        };
        Ok(OwnView {
            actor: self.reader.actor.clone(),
            role: self.reader.role,
            scope: self.reader.scope.clone(),
            masks_numbers: self.reader.masks_numbers,
            account,
        })
    }

    fn signed_in(&self) -> Result<(Uuid, &'a SignedIn), ApiError> {
        match (self.reader.account, &self.reader.signed_in) {
            (Some(id), Some(signed_in)) => Ok((id, signed_in)),
            _ => Err(ApiError::not_allowed(self.reader.role)),
        }
    }

    /// Ends every session of the account; the answer is the cookie of a new one for the browser that did it.
    pub async fn change_password(
        &self,
        old: Secret,
        new: String,
        headers: &HeaderMap,
    ) -> Result<HeaderValue, ApiError> {
        let (id, signed_in) = self.signed_in()?;
        let (state, db, reads) = (self.state, &self.state.db, self.reads());
        let hash = ask(state, db.password_hash(id)).await?;
        if hash.is_some() {
            let may_try = ask(state, db.take_own_try(signed_in.session)).await?;
            let right = may_try && password_matches(state, old, hash).await?;
            if !right {
                reads.note("password_refused", &signed_in.name).await?;
                if ask(state, db.has_tried_enough(signed_in.session)).await? {
                    reads
                        .note("session_end", &signed_in.session.to_string())
                        .await?;
                    ask(state, db.end_session(id, signed_in.session)).await?;
                    return Err(ApiError::session_ended());
                }
                return Err(ApiError::refused(
                    "wrong_password",
                    "the present password is not right",
                ));
            }
            ask(state, db.forget_own_tries(signed_in.session)).await?;
        }
        if password::problem(&new, &signed_in.name).is_some() {
            return Err(ApiError::refused(
                "weak_password",
                "that password is too short, too long, or among the first that anybody would try",
            ));
        }
        let hash = password_hash(state, Secret::new(new)).await?;
        reads.note("password", &signed_in.name).await?;
        ask(state, db.set_password(id, &hash, false, state.clock.now())).await?;
        open_session(state, id, &self.reader.from, headers).await
    }

    /// `None` follows the browser again. Without an account there is nothing to keep it in.
    pub async fn change_language(&self, language: Option<String>) -> Result<(), ApiError> {
        if !matches!(language.as_deref(), None | Some("en" | "zh-CN")) {
            return Err(ApiError::bad_request("language is none of en, zh-CN"));
        }
        let Some(id) = self.reader.account else {
            return Ok(());
        };
        let change = AccountChange {
            language: Some(language),
            ..AccountChange::default()
        };
        let now = self.state.clock.now();
        ask(self.state, self.state.db.change_account(id, change, now)).await
    }

    /// Browsers that are signed in, the newest first.
    pub async fn sessions(&self) -> Result<Vec<Session>, ApiError> {
        match self.reader.account {
            Some(id) => ask(self.state, self.state.db.sessions(id)).await,
            None => Ok(Vec::new()),
        }
    }

    pub async fn end_session(&self, session: Uuid) -> Result<(), ApiError> {
        let missing = || ApiError::not_found("session");
        let id = self.reader.account.ok_or_else(missing)?;
        self.reads()
            .note("session_end", &session.to_string())
            .await?;
        if ask(self.state, self.state.db.end_session(id, session)).await? {
            Ok(())
        } else {
            Err(missing())
        }
    }

    fn reads(&self) -> Reads<'a> {
        Reads::of(self.state, self.reader)
    }
}
