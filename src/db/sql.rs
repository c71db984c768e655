//! Running hand-written SQL: `$1` placeholders, which both databases take.

use sea_orm::{ConnectionTrait, FromQueryResult, QueryResult, Statement, Value};

use super::error::DbError;
use super::txn::answered;

/// Values for placeholders, in order.
macro_rules! vals {
    ($($value:expr),* $(,)?) => { vec![$(sea_orm::Value::from($value)),*] };
}
pub(super) use vals;

/// Rows touched.
pub(super) async fn exec<C: ConnectionTrait>(
    c: &C,
    sql: impl Into<String>,
    values: Vec<Value>,
) -> Result<u64, DbError> {
    let asked = c.execute_raw(statement(c, sql, values));
    Ok(answered(c.get_database_backend(), asked)
        .await?
        .rows_affected())
}

pub(super) async fn all<C: ConnectionTrait>(
    c: &C,
    sql: impl Into<String>,
    values: Vec<Value>,
) -> Result<Vec<QueryResult>, DbError> {
    let asked = c.query_all_raw(statement(c, sql, values));
    answered(c.get_database_backend(), asked).await
}

pub(super) async fn one<C: ConnectionTrait>(
    c: &C,
    sql: impl Into<String>,
    values: Vec<Value>,
) -> Result<Option<QueryResult>, DbError> {
    let asked = c.query_one_raw(statement(c, sql, values));
    answered(c.get_database_backend(), asked).await
}

/// Whole rows as entities.
pub(super) async fn models<M: FromQueryResult, C: ConnectionTrait>(
    c: &C,
    sql: impl Into<String>,
    values: Vec<Value>,
) -> Result<Vec<M>, DbError> {
    all(c, sql, values)
        .await?
        .iter()
        .map(|row| M::from_query_result(row, "").map_err(DbError::from))
        .collect()
}

pub(super) async fn count<C: ConnectionTrait>(
    c: &C,
    sql: impl Into<String>,
    values: Vec<Value>,
) -> Result<u64, DbError> {
    let row = one(c, sql, values).await?;
    let n: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0))?;
    Ok(u64::try_from(n).unwrap_or(0))
}

/// `($1, $2), ($3, $4)`: `rows` groups of `columns` placeholders, the first being `$first`.
pub(super) fn groups(first: usize, rows: usize, columns: usize) -> String {
    let mut text = String::with_capacity(rows * columns * 5);
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ",(" });
        for column in 0..columns {
            if column > 0 {
                text.push(',');
            }
            text.push('$');
            text.push_str(&(first + row * columns + column).to_string());
        }
        text.push(')');
    }
    text
}

/// `($3, $4, $5)` for `in`; a list without items matches nothing.
pub(super) fn list(first: usize, items: usize) -> String {
    if items == 0 {
        "(null)".to_owned()
    } else {
        groups(first, 1, items)
    }
}

fn statement<C: ConnectionTrait>(
    c: &C,
    sql: impl Into<String>,
    mut values: Vec<Value>,
) -> Statement {
    // PostgreSQL refuses the character NUL in text, and vendors may send anything.
    for value in &mut values {
        if let Value::String(Some(text)) = value
            && text.contains('\0')
        {
            *text = text.replace('\0', "\u{fffd}");
        }
    }
    let sql = sql.into();
    super::explain::tell(&sql, &values);
    Statement::from_sql_and_values(c.get_database_backend(), sql, values)
}
