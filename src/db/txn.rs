//! A transaction that ends: at a commit, at a drop, or when PostgreSQL does not answer any more.
//!
//! What a newcomer gets wrong: a server that lost its power sends no reset. A question whose answer never comes
//! would hold its asker, and one of the pool's connections, until somebody starts the process again. What was
//! committed when no answer came is unknown; every change of ours can be made again.

use std::ops::Deref;
use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement,
};

use super::error::{DbError, DbErrorKind};

/// For one answer of PostgreSQL. SQLite is a file: it answers, or waits for its writer within `busy_timeout`.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Waits for an answer, but not for ever.
pub(super) async fn answered<T>(
    backend: DbBackend,
    asked: impl Future<Output = Result<T, DbErr>>,
) -> Result<T, DbError> {
    if backend != DbBackend::Postgres {
        return Ok(asked.await?);
    }
    match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(DbError::new(
            DbErrorKind::Unavailable,
            format!("database: no answer within {} s", ANSWER_WITHIN.as_secs()),
        )),
    }
}

/// Rolls back when it is dropped.
#[derive(Debug)]
pub(super) struct Txn(pub DatabaseTransaction);

impl Txn {
    /// An error may hide a commit: what is done again must be able to meet itself.
    pub async fn commit(self) -> Result<(), DbError> {
        answered(self.0.get_database_backend(), self.0.commit()).await
    }
}

impl Deref for Txn {
    type Target = DatabaseTransaction;

    fn deref(&self) -> &DatabaseTransaction {
        &self.0
    }
}

#[async_trait]
impl ConnectionTrait for Txn {
    fn get_database_backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    async fn execute_raw(&self, stmt: Statement) -> Result<ExecResult, DbErr> {
        self.0.execute_raw(stmt).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.0.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, stmt: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.0.query_one_raw(stmt).await
    }

    async fn query_all_raw(&self, stmt: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.0.query_all_raw(stmt).await
    }
}
