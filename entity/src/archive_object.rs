//! Stored objects; without `verified_at_ms` only planned.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "archive_object")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub object_id: Uuid,
    pub recording_id: Uuid,
    #[sea_orm(column_type = "Text")]
    pub role: String,
    pub n: i64,
    #[sea_orm(column_type = "Text")]
    pub object_key: String,
    pub size_bytes: i64,
    #[sea_orm(column_type = "Blob")]
    pub sha256: Vec<u8>,
    #[sea_orm(column_type = "Text")]
    pub mime: String,
    #[sea_orm(column_type = "Text")]
    pub version_id: Option<String>,
    #[sea_orm(column_type = "Text")]
    pub codec: Option<String>,
    pub sample_rate_hz: Option<i64>,
    pub channels: Option<i64>,
    pub duration_ms: Option<i64>,
    pub created_at_ms: i64,
    pub verified_at_ms: Option<i64>,
    #[sea_orm(column_type = "Blob")]
    pub made_from: Option<Vec<u8>>,
    #[sea_orm(column_type = "Text")]
    pub tool: Option<String>,
    #[sea_orm(column_type = "Text")]
    pub settings: Option<String>,
    pub facts_version: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(
        belongs_to = "super::recording::Entity",
        from = "Column::RecordingId",
        to = "super::recording::Column::RecordingId"
    )]
    Recording,
}

impl ActiveModelBehavior for ActiveModel {}
