//! Scheduled jobs as the workers know them, and whether somebody asked for a run now.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "schedule_job")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub name: String,
    #[sea_orm(column_type = "Text")]
    pub cron: String,
    pub seen_at_ms: i64,
    pub asked_at_ms: Option<i64>,
    #[sea_orm(column_type = "Text", nullable)]
    pub asked_by: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
