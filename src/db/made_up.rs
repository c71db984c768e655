//! Calls whose id somebody only made up from a file's name: such a call gives way to the one that is there.
//!
//! What a newcomer gets wrong: which of the two is told first does not matter. The made-up id stays as an alias, so
//! that whatever tells it once more finds the call.

use std::borrow::Cow;

use sea_orm::{DatabaseTransaction, Value};

use crate::domain::call::CallFacts;
use crate::domain::reading::{Announced, Reading};

use super::error::DbError;
use super::names::names;
use super::rows;
use super::sql::{list, models};

/// Whether the reading itself says that this id of a call is made up.
pub(super) fn is_made_up(reading: &Reading, provider_call_id: &str) -> bool {
    let mut of_call = reading
        .calls
        .iter()
        .filter(|call| call.provider_call_id == provider_call_id)
        .peekable();
    of_call.peek().is_some() && of_call.all(|call| call.made_up)
}

/// The reading, its calls under names by which the calls of recordings that are known already are found, where
/// one of the two ids is made up.
pub(super) async fn give_way<'a>(
    txn: &DatabaseTransaction,
    source: &str,
    reading: &'a Reading,
) -> Result<Cow<'a, Reading>, DbError> {
    let mut reading = Cow::Borrowed(reading);
    for n in 0..reading.recordings.len() {
        let announced = &reading.recordings[n];
        let Some(known) = call_of(txn, source, announced).await? else {
            continue;
        };
        let told = announced.provider_call_id.clone();
        let told_is_made_up = is_made_up(&reading, &told);
        if known.provider_call_id == told || !(told_is_made_up || known.made_up) {
            continue;
        }
        let known = known.provider_call_id;
        let reading = reading.to_mut();
        let of_told = |id: &String| *id == told;
        for call in &mut reading.calls {
            if of_told(&call.provider_call_id) {
                call.aliases.push(known.clone());
            }
        }
        for other in &mut reading.recordings {
            if of_told(&other.provider_call_id) {
                other.call_aliases.push(known.clone());
            }
        }
    }
    Ok(reading)
}

/// The call that has the announced recording.
async fn call_of(
    txn: &DatabaseTransaction,
    source: &str,
    announced: &Announced,
) -> Result<Option<CallFacts>, DbError> {
    let names = names(announced);
    let mut values = vec![Value::from(source)];
    values.extend(names.iter().map(|name| Value::from(name.as_str())));
    let sql = format!(
        "select * from call where call_id in (select r.call_id from recording r join recording_alias a \
         on a.recording_id = r.recording_id where a.source = $1 and a.alias in {}) order by call_id",
        list(2, names.len())
    );
    let calls: Vec<entity::call::Model> = models(txn, sql, values).await?;
    let first = calls.into_iter().next();
    first
        .map(|call| rows::call_facts(&call.facts, Vec::new()))
        .transpose()
}
