//! The end of the audit trail's chain: one row, changed together with each row that is appended.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_head")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub head: i64,
    pub seq: i64,
    #[sea_orm(column_type = "Blob", nullable)]
    pub hash: Option<Vec<u8>>,
    /// Rows from before the chain.
    pub earlier: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
