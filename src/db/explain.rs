//! How the database goes about what it is asked. For tests, which see by it that no question walks over a big table.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use sea_orm::{ConnectionTrait, DbBackend, TransactionTrait, Value};

use super::Database;
use super::error::DbError;
use super::sql::{all, exec};

/// A statement as it was sent, with its values.
#[derive(Clone, Debug)]
pub struct Asked {
    pub sql: String,
    values: Vec<Value>,
}

type Heard = Arc<Mutex<Vec<Asked>>>;

tokio::task_local! {
    static HEARD: Heard;
}

/// Runs `asking` and gives every statement that it sent by itself; what other tasks send for it is not among them.
pub async fn listen<F: Future>(asking: F) -> (F::Output, Vec<Asked>) {
    let heard = Heard::default();
    let answer = HEARD.scope(Arc::clone(&heard), asking).await;
    let asked = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    (answer, asked)
}

/// Tells whoever listens.
pub(super) fn tell(sql: &str, values: &[Value]) {
    let _ = HEARD.try_with(|heard| {
        heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Asked {
                sql: sql.to_owned(),
                values: values.to_vec(),
            });
    });
}

impl Database {
    /// The plan of a statement, a line for each step, without running it. PostgreSQL is asked as if reading a whole
    /// table cost too much: where it does so all the same, no index leads to the rows.
    pub async fn plan(&self, asked: &Asked) -> Result<Vec<String>, DbError> {
        let txn = self.writer().begin().await?;
        let (explain, column) = match txn.get_database_backend() {
            DbBackend::Postgres => {
                exec(&txn, "set local enable_seqscan = off", vec![]).await?;
                ("explain", 0)
            }
            _ => ("explain query plan", 3),
        };
        let rows = all(
            &txn,
            format!("{explain} {}", asked.sql),
            asked.values.clone(),
        )
        .await?;
        txn.rollback().await?;
        rows.iter()
            .map(|row| Ok(row.try_get_by_index(column)?))
            .collect()
    }

    /// Brings the database's statistics up to date, as PostgreSQL's autovacuum does by itself, and gives for each index
    /// how many rows it holds: (table, index, rows). SQLite plans without statistics until somebody asks for this.
    pub async fn analyze(&self) -> Result<Vec<(String, String, i64)>, DbError> {
        exec(self.writer(), "analyze", vec![]).await?;
        let sql = match self.writer().get_database_backend() {
            DbBackend::Postgres => {
                "select t.relname::text, i.relname::text, i.reltuples::bigint from pg_index x \
                 join pg_class i on i.oid = x.indexrelid join pg_class t on t.oid = x.indrelid \
                 where t.relnamespace = current_schema()::regnamespace"
            }
            _ => {
                "select tbl, idx, cast(substr(stat, 1, instr(stat || ' ', ' ') - 1) as integer) \
                 from sqlite_stat1 where idx is not null"
            }
        };
        all(self.writer(), sql, vec![])
            .await?
            .iter()
            .map(|row| {
                Ok((
                    row.try_get_by_index(0)?,
                    row.try_get_by_index(1)?,
                    row.try_get_by_index(2)?,
                ))
            })
            .collect()
    }
}
