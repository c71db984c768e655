//! Why somebody wants to hear a call, while it holds.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "given_reason")]
pub struct Model {
    /// `session:ID`, else the actor of the trail.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub who: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub call_id: Uuid,
    #[sea_orm(column_type = "Text")]
    pub reason: String,
    pub until_ms: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
