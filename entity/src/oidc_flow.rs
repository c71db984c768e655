//! A sign-in that is under way at an OpenID Connect provider; used up by the first that comes back with it.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "oidc_flow")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Blob")]
    pub state_sha256: Vec<u8>,
    /// Where to go behind the sign-in; an address of ours.
    #[sea_orm(column_type = "Text")]
    pub next: String,
    pub expires_at_ms: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
