//! What the installation remembers of itself, by name: `archive_id` is the archive it belongs to.

use super::Database;
use super::error::DbError;
use super::sql::{exec, one, vals};

impl Database {
    pub async fn installation(&self, name: &str) -> Result<Option<String>, DbError> {
        let row = one(
            self.reader(),
            "select value from installation where name = $1",
            vals![name],
        )
        .await?;
        Ok(row.map(|row| row.try_get_by_index(0)).transpose()?)
    }

    pub async fn forget_installation(&self, name: &str) -> Result<(), DbError> {
        let sql = "delete from installation where name = $1";
        exec(self.writer(), sql, vals![name]).await?;
        Ok(())
    }

    pub async fn set_installation(&self, name: &str, value: &str) -> Result<(), DbError> {
        exec(
            self.writer(),
            "insert into installation (name, value) values ($1, $2) \
             on conflict (name) do update set value = excluded.value",
            vals![name, value],
        )
        .await?;
        Ok(())
    }
}
