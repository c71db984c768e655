//! The few words in which the two databases differ, for every step.
//!
//! Steps are written as plain SQL with these words in braces: what is read here is what runs.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

/// Runs `sql` with `{uuid}`, `{bytes}` and `{ordered}` (text that sorts byte by byte, so that a
/// search for a beginning is a range of an index) written as this database wants them; what stands between
/// `{postgres}` and `{end}` runs there alone.
pub async fn run(manager: &SchemaManager<'_>, sql: &str) -> Result<(), DbErr> {
    let (uuid, bytes, ordered) = match manager.get_database_backend() {
        DbBackend::Postgres => ("uuid", "bytea", "text collate \"C\""),
        _ => ("blob", "blob", "text"),
    };
    let on_postgres = manager.get_database_backend() == DbBackend::Postgres;
    let sql = only(sql, "{postgres}", on_postgres)
        .replace("{uuid}", uuid)
        .replace("{bytes}", bytes)
        .replace("{ordered}", ordered);
    manager
        .get_connection()
        .execute_unprepared(&sql)
        .await
        .map(|_| ())
}

/// The text with the parts between `word` and `{end}`, or without them.
fn only(sql: &str, word: &str, keep: bool) -> String {
    let mut parts = sql.split(word);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (inside, behind) = part.split_once("{end}").unwrap_or((part, ""));
        if keep {
            text.push_str(inside);
        }
        text.push_str(behind);
    }
    text
}

/// A step made of SQL alone.
macro_rules! step {
    ($name:literal, $sql:expr) => {
        #[derive(Debug)]
        pub struct Step;

        impl sea_orm_migration::MigrationName for Step {
            fn name(&self) -> &str {
                $name
            }
        }

        #[async_trait::async_trait]
        impl sea_orm_migration::MigrationTrait for Step {
            async fn up(
                &self,
                manager: &sea_orm_migration::SchemaManager,
            ) -> Result<(), sea_orm_migration::sea_orm::DbErr> {
                $crate::dialect::run(manager, $sql).await
            }

            /// On SQLite too: a step that fails leaves nothing behind.
            fn use_transaction(&self) -> Option<bool> {
                Some(true)
            }
        }
    };
}
pub(crate) use step;
