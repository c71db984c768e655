//! Calls: all facts as JSON, and beside them what is searched and sorted by.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "call")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub call_id: Uuid,
    #[sea_orm(column_type = "Text")]
    pub source: String,
    #[sea_orm(column_type = "Text")]
    pub kind: String,
    #[sea_orm(column_type = "Text")]
    pub provider_call_id: String,
    #[sea_orm(column_type = "Text")]
    pub facts: String,
    #[sea_orm(column_type = "Text")]
    pub direction: Option<String>,
    pub started_at_ms: Option<i64>,
    pub duration_ms: Option<i64>,
    pub arrived_at_ms: i64,
    pub at_ms: i64,
    pub has_recording: bool,
    pub expect_until_ms: Option<i64>,
    pub ask_at_ms: Option<i64>,
    pub asks: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
