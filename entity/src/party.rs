//! The party directory: who stands behind an id of a source's, and how far its calls know it.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "party")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub source: String,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub party_id: String,
    #[sea_orm(column_type = "Text", nullable)]
    pub name: Option<String>,
    #[sea_orm(column_type = "Text", nullable)]
    pub number: Option<String>,
    /// JSON: names and numbers that this entry had before.
    #[sea_orm(column_type = "Text")]
    pub earlier: String,
    /// Walks over the known calls that are still to be made.
    pub passes: i64,
    /// The walk has come this far.
    pub after_call: Option<Uuid>,
    pub available_at_ms: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
