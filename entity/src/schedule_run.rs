//! Scheduled runs, claimed once by name and due time.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "schedule_run")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub name: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub due_at_ms: i64,
    #[sea_orm(column_type = "Text")]
    pub instance: String,
    pub started_at_ms: i64,
    pub finished_at_ms: Option<i64>,
    #[sea_orm(column_type = "Text")]
    pub result: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
