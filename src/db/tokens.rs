//! Tokens that scripts show instead of a session. The room knows their hashes, never the tokens.

use serde::Serialize;
use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::digest::Sha256;
use crate::domain::ids::new_id;
use crate::domain::rights::{Role, Scope};

use super::Database;
use super::accounts::{account_name, role};
use super::error::DbError;
use super::rows;
use super::sql::{exec, models, vals};

/// Written down again only when it moved by so much.
const USED_STEP_MS: i64 = 60_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Token {
    pub token_id: Uuid,
    pub name: String,
    pub role: Role,
    pub scope: Scope,
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// Null: until it is revoked.
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub struct NewToken {
    /// As `token_name` gives it.
    pub name: String,
    pub sha256: Sha256,
    pub role: Role,
    pub scope: Scope,
    pub created_by: String,
    pub expires_at: Option<Timestamp>,
}

/// The name as it is kept. `None` when it is no name, or the one that `[server] api_token` has in the trail.
pub fn token_name(text: &str) -> Option<String> {
    account_name(text).filter(|name| name != "api_token")
}

impl Database {
    /// An error of kind `Conflict` when the name is taken, be it by a revoked one: the trail names tokens.
    pub async fn add_token(&self, new: NewToken, now: Timestamp) -> Result<Uuid, DbError> {
        let id = new_id(now);
        exec(
            self.writer(),
            "insert into api_token (token_id, token_sha256, name, role, scope, created_at_ms, created_by, \
             expires_at_ms) values ($1, $2, $3, $4, $5, $6, $7, $8)",
            vals![
                id,
                new.sha256.as_bytes().to_vec(),
                new.name,
                new.role.as_str(),
                rows::text(&new.scope),
                now.ms(),
                new.created_by,
                rows::ms(new.expires_at)
            ],
        )
        .await?;
        Ok(id)
    }

    /// By name, revoked and expired ones too.
    pub async fn tokens(&self) -> Result<Vec<Token>, DbError> {
        let found: Vec<entity::api_token::Model> = models(
            self.reader(),
            "select * from api_token order by name",
            vec![],
        )
        .await?;
        found.into_iter().map(token).collect()
    }

    /// The token of this hash, while it is good; seeing it is its use.
    pub async fn token(&self, sha256: Sha256, now: Timestamp) -> Result<Option<Token>, DbError> {
        let found: Vec<entity::api_token::Model> = models(
            self.reader(),
            "select * from api_token where token_sha256 = $1 and revoked_at_ms is null \
             and (expires_at_ms is null or expires_at_ms > $2)",
            vals![sha256.as_bytes().to_vec(), now.ms()],
        )
        .await?;
        let Some(row) = found.into_iter().next() else {
            return Ok(None);
        };
        let stale = row
            .last_used_at_ms
            .is_none_or(|last| now.ms() - last >= USED_STEP_MS);
        if stale {
            exec(
                self.writer(),
                "update api_token set last_used_at_ms = $2 where token_id = $1",
                vals![row.token_id, now.ms()],
            )
            .await?;
        }
        token(row).map(Some)
    }

    /// False when there is none of this name that is not revoked already.
    pub async fn revoke_token(&self, name: &str, now: Timestamp) -> Result<bool, DbError> {
        let touched = exec(
            self.writer(),
            "update api_token set revoked_at_ms = $2 where name = $1 and revoked_at_ms is null",
            vals![name, now.ms()],
        )
        .await?;
        Ok(touched > 0)
    }
}

fn token(row: entity::api_token::Model) -> Result<Token, DbError> {
    Ok(Token {
        token_id: row.token_id,
        role: role(&row.role)?,
        scope: rows::json(&row.scope)?,
        name: row.name,
        created_at: Timestamp::from_ms(row.created_at_ms),
        created_by: row.created_by,
        expires_at: rows::at(row.expires_at_ms),
        last_used_at: rows::at(row.last_used_at_ms),
        revoked_at: rows::at(row.revoked_at_ms),
    })
}
