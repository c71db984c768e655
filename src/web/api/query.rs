//! The query string of lists: every parameter is known or the request is refused, so that a typo never widens a search.

use chrono_tz::Tz;

use crate::domain::call::Direction;
use crate::domain::clock::Timestamp;
use crate::domain::moment;
use crate::domain::recording::State;
use crate::domain::units::Span;
use crate::web::problem::ApiError;

/// One answer of the API holds so many at most.
pub const MOST: u64 = 1000;
pub const USUAL: u64 = 100;

/// Which recordings are asked for; `None` does not narrow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListQuery {
    pub q: Option<String>,
    pub source: Option<String>,
    /// Inclusive.
    pub from: Option<Timestamp>,
    /// Exclusive.
    pub to: Option<Timestamp>,
    pub number: Option<String>,
    pub party: Option<String>,
    pub direction: Option<Direction>,
    pub state: Option<Wanted>,
    pub min_duration_ms: Option<i64>,
    pub max_duration_ms: Option<i64>,
    /// A note on the sound, by its code.
    pub note: Option<String>,
    pub tag: Option<String>,
    pub limit: Option<u64>,
    pub after: Option<String>,
}

/// The parameters as the document tells them; `ListQuery` reads them.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the document alone looks at the fields")]
pub struct Filters {
    /// Words, see above.
    q: Option<String>,
    /// A source's name.
    source: Option<String>,
    /// Inclusive; a date is a day of `[server] time_zone`.
    #[param(value_type = Option<Moment>)]
    from: Option<Moment>,
    /// Exclusive; like `from`.
    #[param(value_type = Option<Moment>)]
    to: Option<Moment>,
    /// With a leading + or 00 exact E.164, else the end of a number.
    number: Option<String>,
    /// A party's id or name.
    party: Option<String>,
    direction: Option<Direction>,
    /// A state, or `none`: calls without any recording.
    #[param(value_type = Option<StateName>)]
    state: Option<StateName>,
    /// Such as 90s.
    #[param(pattern = "^[0-9]{1,6}(ms|s|m|h|d)$")]
    min_duration: Option<String>,
    /// Such as 90m.
    #[param(pattern = "^[0-9]{1,6}(ms|s|m|h|d)$")]
    max_duration: Option<String>,
    /// A note on the sound, such as `one_way_audio`.
    note: Option<String>,
    /// A tag of the call.
    tag: Option<String>,
    /// `next` or an item's `cursor` of an earlier answer.
    after: Option<String>,
}

/// In the document: a date, or RFC 3339.
pub struct Moment;

impl utoipa::PartialSchema for Moment {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{
            KnownFormat, ObjectBuilder, OneOfBuilder, SchemaFormat, Type,
        };
        let text = |format| {
            ObjectBuilder::new()
                .schema_type(Type::String)
                .format(Some(SchemaFormat::KnownFormat(format)))
        };
        OneOfBuilder::new()
            .item(text(KnownFormat::Date))
            .item(text(KnownFormat::DateTime))
            .into()
    }
}

impl utoipa::ToSchema for Moment {}

/// In the document: what `state` may be.
pub struct StateName;

impl utoipa::PartialSchema for StateName {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        let known = State::ALL.iter().map(|state| state.as_str());
        utoipa::openapi::schema::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .enum_values(Some(known.chain(["none"])))
            .into()
    }
}

impl utoipa::ToSchema for StateName {}

/// A state, or `none`: calls without any recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    State(State),
    NoRecording,
}

impl ListQuery {
    /// Reads a raw query string. Dates are days of `zone`.
    pub fn parse(raw: &str, zone: Tz) -> Result<Self, ApiError> {
        let mut query = Self::default();
        for (name, value) in pairs(raw)? {
            query.set(&name, value, zone)?;
        }
        Ok(query)
    }

    /// Sets one parameter; the error names it.
    pub fn set(&mut self, name: &str, value: String, zone: Tz) -> Result<(), ApiError> {
        let wrong = |what: &str| ApiError::bad_request(format!("{name}={value}: {what}"));
        let time = || {
            // An unencoded `+` of an offset arrives as a space.
            moment::parse(&value.replace(' ', "+"), zone).ok_or_else(|| {
                wrong("write a date as 2024-03-05 or a time as 2024-03-05T12:00:00Z")
            })
        };
        let length = || {
            let span = value
                .parse::<Span>()
                .map_err(|error| wrong(&error.to_string()))?;
            i64::try_from(span.duration().as_millis()).map_err(|_| wrong("is too long"))
        };
        match name {
            "q" => self.q = Some(value),
            "source" => self.source = Some(value),
            "from" => self.from = Some(time()?),
            "to" => self.to = Some(time()?),
            // An unencoded leading `+` arrives as a space, and means the same here.
            "number" => {
                self.number = Some(match value.strip_prefix(' ') {
                    Some(rest) => format!("+{rest}"),
                    None => value,
                });
            }
            "party" => self.party = Some(value),
            "direction" => {
                let direction = Direction::parse(&value)
                    .ok_or_else(|| wrong("is none of inbound, outbound, internal"))?;
                self.direction = Some(direction);
            }
            "state" => {
                let state = match value.as_str() {
                    "none" => Some(Wanted::NoRecording),
                    other => State::parse(other).map(Wanted::State),
                };
                self.state = Some(state.ok_or_else(|| {
                    let known: Vec<_> = State::ALL.iter().map(|state| state.as_str()).collect();
                    wrong(&format!("is none of {}, none", known.join(", ")))
                })?);
            }
            "min_duration" => self.min_duration_ms = Some(length()?),
            "max_duration" => self.max_duration_ms = Some(length()?),
            "note" => self.note = Some(value),
            "tag" => self.tag = Some(value),
            "limit" => {
                // 0 asks for all: a page holds so many, `next` leads on.
                let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
                let limit = is_number.then(|| value.parse().unwrap_or(MOST));
                let limit = limit.map(|limit| if limit == 0 { MOST } else { limit.min(MOST) });
                self.limit = Some(limit.ok_or_else(|| wrong("is not a whole number"))?);
            }
            "after" => self.after = Some(value),
            _ => {
                return Err(ApiError::bad_request(format!(
                    "{name} is no parameter here; known are q, source, from, to, number, party, direction, \
                     state, min_duration, max_duration, note, tag, limit, after"
                )));
            }
        }
        Ok(())
    }
}

/// Decoded names and values in their order. A name twice is refused: which of them counts is a guess.
pub fn pairs(raw: &str) -> Result<Vec<(String, String)>, ApiError> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (name, value) in form_urlencoded::parse(raw.as_bytes()) {
        if name.contains('\u{fffd}') || value.contains('\u{fffd}') || value.contains('\0') {
            return Err(ApiError::bad_request("a parameter is not UTF-8 text"));
        }
        if found.iter().any(|(known, _)| *known == name) {
            return Err(ApiError::bad_request(format!("{name} stands there twice")));
        }
        found.push((name.into_owned(), value.into_owned()));
    }
    Ok(found)
}

/// For addresses without parameters.
pub fn none(raw: Option<&str>) -> Result<(), ApiError> {
    match pairs(raw.unwrap_or_default())?.first() {
        None => Ok(()),
        Some((name, _)) => Err(ApiError::bad_request(format!(
            "{name} is no parameter here"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(raw: &str) -> Result<ListQuery, ApiError> {
        ListQuery::parse(raw, Tz::Asia__Shanghai)
    }

    #[test]
    fn every_parameter_is_understood() {
        let query = parse(
            "q=wang+1234&source=feiyu-main&from=2024-03-05&to=2024-03-06T00:00:00+08:00&number=+8613900000001\
             &party=a&direction=inbound&state=none&min_duration=90s&max_duration=1h30m&note=short&tag=vip&limit=1000&after=x",
        )
        .unwrap();
        assert_eq!(
            query,
            ListQuery {
                q: Some("wang 1234".into()),
                source: Some("feiyu-main".into()),
                from: Timestamp::parse("2024-03-04T16:00:00Z"),
                to: Timestamp::parse("2024-03-05T16:00:00Z"),
                number: Some("+8613900000001".into()),
                party: Some("a".into()),
                direction: Some(Direction::Inbound),
                state: Some(Wanted::NoRecording),
                min_duration_ms: Some(90_000),
                max_duration_ms: Some(5_400_000),
                note: Some("short".into()),
                tag: Some("vip".into()),
                limit: Some(1000),
                after: Some("x".into()),
            }
        );
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (raw, named) in [
            ("soruce=x", "soruce"),
            ("limit=-1", "limit"),
            ("state=archive", "state"),
            ("state=", "state"),
            ("direction=up", "direction"),
            ("from=yesterday", "from"),
            ("min_duration=90", "min_duration"),
            ("max_duration=99999999999y", "max_duration"),
            ("q=a&q=b", "q"),
            ("q=%ff", "UTF-8"),
        ] {
            let error = parse(raw).unwrap_err();
            assert_eq!(error.code(), "bad_request", "{raw}");
            assert!(error.detail().contains(named), "{raw}: {}", error.detail());
        }
        assert!(none(Some("x=1")).is_err());
        assert!(none(Some("")).is_ok());
    }
}
