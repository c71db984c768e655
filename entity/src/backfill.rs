//! Backfills that were begun and not finished.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "backfill")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub source: String,
    /// What is walked: a range of time, or a file by its content.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub plan: String,
    #[sea_orm(column_type = "Text")]
    pub cursor: String,
    pub updated_at_ms: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
