//! An object that lies verified in the archive that is moved to.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "archive_move")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub object_key: String,
    pub size_bytes: i64,
    #[sea_orm(column_type = "Blob")]
    pub sha256: Vec<u8>,
    #[sea_orm(column_type = "Text")]
    pub version_id: Option<String>,
    pub verified_at_ms: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
