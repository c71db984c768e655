//! The columns of a table of call facts, in any order, and what a row of it says.

use chrono::{LocalResult, NaiveDateTime, TimeZone};
use chrono_tz::Tz;
use serde_json::Value;

use crate::domain::call::{Direction, Party};
use crate::domain::clock::Timestamp;
use crate::domain::reading::DirectoryEntry;
use crate::domain::values::nearest;
use crate::pipeline::foreign::Row;

/// Longest text of a cell that is taken; ids and names are far shorter.
const LONGEST_CELL: usize = 4096;
const LONGEST_ID: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Caller,
    Callee,
    Agent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Id,
    Name,
    Number,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Column {
    Source,
    CallId,
    StartedAt,
    AnsweredAt,
    EndedAt,
    Duration,
    Direction,
    Recorded,
    CorrelationIds,
    Party(Who, Of),
    /// Kept under its own name.
    Custom(String),
}

/// Names in a header, and what each means.
const KNOWN: [(&str, Column); 19] = [
    ("source", Column::Source),
    ("provider_call_id", Column::CallId),
    ("started_at", Column::StartedAt),
    ("answered_at", Column::AnsweredAt),
    ("ended_at", Column::EndedAt),
    ("duration_s", Column::Duration),
    ("direction", Column::Direction),
    ("recorded", Column::Recorded),
    ("correlation_id", Column::CorrelationIds),
    ("correlation_ids", Column::CorrelationIds),
    ("caller", Column::Party(Who::Caller, Of::Number)),
    ("caller_name", Column::Party(Who::Caller, Of::Name)),
    ("caller_id", Column::Party(Who::Caller, Of::Id)),
    ("callee", Column::Party(Who::Callee, Of::Number)),
    ("callee_name", Column::Party(Who::Callee, Of::Name)),
    ("callee_id", Column::Party(Who::Callee, Of::Id)),
    ("agent", Column::Party(Who::Agent, Of::Name)),
    ("agent_id", Column::Party(Who::Agent, Of::Id)),
    ("agent_number", Column::Party(Who::Agent, Of::Number)),
];

/// What a table is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Columns {
    Calls(Calls),
    Directory(Directory),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calls(Vec<Column>);

/// Places of the columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    columns: usize,
    source: Option<usize>,
    id: usize,
    name: Option<usize>,
    number: Option<usize>,
}

impl Columns {
    /// Reads a header; the error says which name is wrong and what to write.
    pub fn of(header: &[String]) -> Result<Self, String> {
        let names: Vec<String> = header.iter().map(|name| spelled(name)).collect();
        for (at, name) in names.iter().enumerate() {
            if name.is_empty() {
                return Err(format!("column {} has no name", at + 1));
            }
            if names[..at].contains(name) {
                return Err(format!("the column {name:?} stands twice"));
            }
        }
        let place = |wanted: &str| names.iter().position(|name| name == wanted);
        if place("provider_call_id").is_none()
            && let Some(id) = place("id")
        {
            let directory = Directory {
                columns: names.len(),
                source: place("source"),
                id,
                name: place("name"),
                number: place("number"),
            };
            if directory.name.is_none() && directory.number.is_none() {
                return Err(
                    "a party directory has the columns id, name, number; name or number is missing"
                        .to_owned(),
                );
            }
            return Ok(Self::Directory(directory));
        }
        let mut columns = Vec::with_capacity(names.len());
        for name in names {
            let known = KNOWN.iter().find(|(known, _)| *known == name);
            columns.push(match known {
                Some((_, column)) => column.clone(),
                None => match nearest(&name, KNOWN.iter().map(|(known, _)| *known)) {
                    // A slip of the pen would hide numbers in a place where nobody looks for them.
                    Some(near) => {
                        return Err(format!(
                            "the column {name:?} is unknown: did you mean {near:?}? (another meaning needs another name)"
                        ));
                    }
                    None => Column::Custom(name),
                },
            });
        }
        if !columns.contains(&Column::CallId) {
            return Err(
                "neither a column provider_call_id (call facts) nor id (a party directory)"
                    .to_owned(),
            );
        }
        Ok(Self::Calls(Calls(columns)))
    }
}

/// `Provider Call-ID` is `provider_call_id`.
fn spelled(name: &str) -> String {
    name.trim().to_lowercase().replace([' ', '-'], "_")
}

/// Why a row is not taken: a stable code.
pub type Why = String;

impl Calls {
    /// The row's own source, where it names one, and its facts.
    pub fn row(&self, cells: Vec<String>, zone: Tz) -> Result<(Option<String>, Row), Why> {
        if cells.len() > self.0.len() {
            return Err("more_cells_than_columns".to_owned());
        }
        let mut row = Row::default();
        let mut source = None;
        let mut parties = [Party::default(), Party::default(), Party::default()];
        for (column, cell) in self.0.iter().zip(cells) {
            let cell = cell.trim();
            if cell.is_empty() {
                continue;
            }
            let wrong = |name: &str| format!("bad_value:{name}");
            if cell.len() > LONGEST_CELL {
                return Err("too_long".to_owned());
            }
            let time = |name: &str| moment(cell, zone).map(Some).ok_or_else(|| wrong(name));
            match column {
                Column::Source => source = Some(cell.to_owned()),
                Column::CallId if cell.len() > LONGEST_ID => {
                    return Err(wrong("provider_call_id"));
                }
                Column::CallId => row.provider_call_id = cell.to_owned(),
                Column::StartedAt => row.started_at = time("started_at")?,
                Column::AnsweredAt => row.answered_at = time("answered_at")?,
                Column::EndedAt => row.ended_at = time("ended_at")?,
                Column::Duration => {
                    let seconds: Option<f64> = cell.parse().ok();
                    let seconds = seconds
                        .filter(|s| s.is_finite() && (0.0..=1e9).contains(s))
                        .ok_or_else(|| wrong("duration_s"))?;
                    row.duration_ms = Some((seconds * 1000.0).round() as i64);
                }
                Column::Direction => {
                    let word = cell.to_lowercase();
                    row.direction =
                        Some(Direction::parse(&word).ok_or_else(|| wrong("direction"))?);
                }
                Column::Recorded => {
                    row.recorded = Some(match cell.to_lowercase().as_str() {
                        "true" | "yes" | "1" => true,
                        "false" | "no" | "0" => false,
                        _ => return Err(wrong("recorded")),
                    });
                }
                Column::CorrelationIds => {
                    let ids = cell.split('|').map(str::trim).filter(|id| !id.is_empty());
                    row.correlation_ids.extend(ids.map(str::to_owned));
                }
                Column::Party(who, of) => {
                    let party = &mut parties[*who as usize];
                    let place = match of {
                        Of::Id => &mut party.id,
                        Of::Name => &mut party.name,
                        Of::Number => &mut party.number,
                    };
                    *place = Some(cell.to_owned());
                }
                Column::Custom(name) => {
                    row.custom.insert(name.clone(), Value::from(cell));
                }
            }
        }
        if row.provider_call_id.is_empty() {
            return Err("missing:provider_call_id".to_owned());
        }
        row.duration_ms = row.duration_ms.or_else(|| {
            let (from, to) = (row.started_at?, row.ended_at?);
            Some(to.since_ms(from)).filter(|ms| *ms >= 0)
        });
        row.correlation_ids.sort_unstable();
        row.correlation_ids.dedup();
        // In whatever order the columns stood: the same facts are the same row.
        row.custom.sort_keys();
        for (mut party, role) in parties.into_iter().zip(["caller", "callee", "agent"]) {
            if party != Party::default() {
                party.role = Some(role.to_owned());
                row.parties.push(party);
            }
        }
        Ok((source, row))
    }
}

impl Directory {
    pub fn row(&self, cells: &[String]) -> Result<(Option<String>, DirectoryEntry), Why> {
        if cells.len() > self.columns {
            return Err("more_cells_than_columns".to_owned());
        }
        if cells.iter().any(|cell| cell.len() > LONGEST_CELL) {
            return Err("too_long".to_owned());
        }
        let cell = |place: Option<usize>| {
            let text = cells.get(place?)?.trim();
            (!text.is_empty()).then(|| text.to_owned())
        };
        let id = cell(Some(self.id)).ok_or("missing:id")?;
        if id.len() > LONGEST_ID {
            return Err("bad_value:id".to_owned());
        }
        let entry = DirectoryEntry {
            id,
            name: cell(self.name),
            number: cell(self.number),
        };
        Ok((cell(self.source), entry))
    }
}

/// RFC 3339, or a date with a time in `zone`; of a time that comes twice the first.
fn moment(text: &str, zone: Tz) -> Option<Timestamp> {
    if let Some(at) = Timestamp::parse(text) {
        return Some(at);
    }
    let formats = [
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M",
    ];
    let local = formats
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())?;
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => {
            Some(Timestamp::from_ms(at.timestamp_millis()))
        }
        LocalResult::None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(names: &str) -> Vec<String> {
        names.split(',').map(str::to_owned).collect()
    }

    fn calls(names: &str) -> Calls {
        match Columns::of(&header(names)).unwrap() {
            Columns::Calls(calls) => calls,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn columns_stand_in_any_order_and_spelling() {
        let a = calls("Provider Call-ID,caller,started_at,CRM Ticket,zone");
        let b = calls("zone,started_at,crm_ticket,caller,provider_call_id");
        let row =
            |calls: &Calls, cells: &str| calls.row(header(cells), Tz::Asia__Shanghai).unwrap();
        let first = row(&a, "c1,+8613900000001,2024-04-05 20:30:02,T-1,z");
        let second = row(&b, "z,2024-04-05T12:30:02Z,T-1,+8613900000001,c1");
        assert_eq!(
            serde_json::to_string(&first.1).unwrap(),
            serde_json::to_string(&second.1).unwrap()
        );
        assert_eq!(first.1.custom["crm_ticket"], "T-1");
        assert_eq!(first.1.parties[0].role.as_deref(), Some("caller"));
    }

    #[test]
    fn a_header_that_is_wrong_says_so() {
        for (names, expected) in [
            ("provider_call_id,calller", "\"caller\""),
            ("provider_call_id,caller,Caller", "twice"),
            ("name,number", "provider_call_id"),
            ("id,phone", "name or number"),
            ("provider_call_id,,x", "column 2"),
        ] {
            let error = Columns::of(&header(names)).unwrap_err();
            assert!(error.contains(expected), "{names}: {error}");
        }
        assert!(matches!(
            Columns::of(&header("number,id")).unwrap(),
            Columns::Directory(_)
        ));
    }

    #[test]
    fn a_row_that_is_wrong_says_where() {
        let calls = calls("provider_call_id,started_at,duration_s,direction,recorded");
        for (cells, expected) in [
            (",2024-04-05T12:30:02Z", "missing:provider_call_id"),
            ("c,yesterday", "bad_value:started_at"),
            ("c,,-1", "bad_value:duration_s"),
            ("c,,NaN", "bad_value:duration_s"),
            ("c,,,sideways", "bad_value:direction"),
            ("c,,,,maybe", "bad_value:recorded"),
            ("c,,,,,x", "more_cells_than_columns"),
        ] {
            assert_eq!(calls.row(header(cells), Tz::UTC).unwrap_err(), expected);
        }
        assert!(
            calls.row(header("c"), Tz::UTC).is_ok(),
            "cells may be left out"
        );
    }
}
