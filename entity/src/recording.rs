//! Recordings: facts, state and work columns.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "recording")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub recording_id: Uuid,
    pub call_id: Uuid,
    #[sea_orm(column_type = "Text")]
    pub source: String,
    #[sea_orm(column_type = "Text")]
    pub kind: String,
    #[sea_orm(column_type = "Text")]
    pub provider_recording_id: Option<String>,
    #[sea_orm(column_type = "Text")]
    pub part: String,
    #[sea_orm(column_type = "Text")]
    pub handle: String,
    #[sea_orm(column_type = "Text")]
    pub link_url: Option<String>,
    pub link_url_until_ms: Option<i64>,
    pub link_renewable: bool,
    pub ready_after_ms: Option<i64>,
    pub link_until_ms: Option<i64>,
    pub gone_at_ms: Option<i64>,
    pub deadline_at_ms: i64,
    pub arrived_at_ms: i64,
    pub at_ms: i64,
    #[sea_orm(column_type = "Text")]
    pub found_by: String,
    pub confirmed_at_ms: Option<i64>,
    pub archived_at_ms: Option<i64>,
    #[sea_orm(column_type = "Text")]
    pub state: String,
    pub state_since_ms: i64,
    #[sea_orm(column_type = "Text")]
    pub reason: Option<String>,
    #[sea_orm(column_type = "Text")]
    pub evidence: Option<String>,
    #[sea_orm(column_type = "Text")]
    pub notes: String,
    #[sea_orm(column_type = "Text")]
    pub folder: Option<String>,
    pub facts_version: i64,
    pub work_class: Option<i64>,
    pub available_at_ms: i64,
    pub lease_token: i64,
    #[sea_orm(column_type = "Text")]
    pub lease_owner: Option<String>,
    pub attempts: i64,
    pub lapses: i64,
    pub not_ready_tries: i64,
    pub failures: i64,
    pub access_due: bool,
    pub access_tries: i64,
    pub access_lapses: i64,
    pub manifest_due: bool,
    pub recheck_at_ms: Option<i64>,
    pub recheck_planned: bool,
    /// The vendor's own word; without it `gone_at_ms` follows the call and the source's `provider_keeps`.
    pub gone_told_ms: Option<i64>,
    /// The older recording that this one turned out to be, until the two are united.
    pub same_as: Option<Uuid>,
    /// When its sound began, by the vendor's stamp.
    pub began_at_ms: Option<i64>,
    /// The vendor's id of the one person whose voice it is.
    #[sea_orm(column_type = "Text")]
    pub party: Option<String>,
    /// The call's joint access copy is to be looked at while this is ahead of `pair_done`.
    pub pair_wanted: i64,
    pub pair_done: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(
        belongs_to = "super::call::Entity",
        from = "Column::CallId",
        to = "super::call::Column::CallId"
    )]
    Call,
}

impl ActiveModelBehavior for ActiveModel {}
