//! A browser that is signed in; the token itself is known to the browser alone.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "session")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Blob")]
    pub token_sha256: Vec<u8>,
    #[sea_orm(unique)]
    pub session_id: Uuid,
    pub account_id: Uuid,
    pub created_at_ms: i64,
    pub last_seen_at_ms: i64,
    pub expires_at_ms: i64,
    #[sea_orm(column_type = "Text")]
    pub came_from: String,
    #[sea_orm(column_type = "Text")]
    pub agent: String,
    pub refused: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
