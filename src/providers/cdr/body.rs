//! The shapes in which FreeSWITCH posts a call record (pbx-cdr.md, section 1.1).
//!
//! What a newcomer gets wrong: the content type says nothing, a common setting replaces it. The body tells.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::Value;

use super::json;

/// What a record says, whichever way it was written.
#[derive(Debug, Default)]
pub struct Record {
    pub variables: BTreeMap<String, String>,
    /// `caller_profile` of the first `callflow` entry, the current one.
    pub profile: BTreeMap<String, String>,
    /// Name and data of each application, in order.
    pub applications: Vec<(String, String)>,
    pub switchname: Option<String>,
    pub has_duplicate_keys: bool,
}

/// Whether variables are percent-encoded: nothing in the document says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodedValues {
    /// Decoded when every `%` in all variables is followed by two hex digits.
    Auto,
    Always,
    Never,
}

/// The document within the body.
pub fn unwrapped(body: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let trimmed = body.trim_ascii_start();
    let Some(rest) = trimmed.strip_prefix(b"cdr=") else {
        return Ok(Cow::Borrowed(trimmed));
    };
    let start = rest.trim_ascii_start();
    if start.starts_with(b"{") || start.starts_with(b"<") {
        return Ok(Cow::Borrowed(start));
    }
    let begins = |with: &[u8]| {
        rest.get(..3)
            .is_some_and(|first| first.eq_ignore_ascii_case(with))
    };
    if begins(b"%7b") || begins(b"%3c") {
        return Ok(Cow::Owned(percent_decode(rest).collect()));
    }
    let packed: Vec<u8> = rest
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    STANDARD
        .decode(packed)
        .map(Cow::Owned)
        .map_err(|_| "not_json".to_owned())
}

/// Reads an unwrapped document.
pub fn read(document: &[u8], encoded: EncodedValues) -> Result<Record, String> {
    match document.trim_ascii_start().first() {
        Some(b'<') => xml(document),
        Some(b'{') => {
            let parsed = json::parse(document).map_err(|fault| match fault {
                json::Fault::NotJson => "not_json".to_owned(),
                json::Fault::TooDeep => "too_deep".to_owned(),
            })?;
            let mut record = of_json(&parsed.value);
            record.has_duplicate_keys = parsed.has_duplicate_keys;
            let decode = match encoded {
                EncodedValues::Always => true,
                EncodedValues::Never => false,
                EncodedValues::Auto => record.variables.values().all(|value| is_encoded(value)),
            };
            if decode {
                record.variables.values_mut().for_each(decoded);
            }
            Ok(record)
        }
        _ => Err("not_json".to_owned()),
    }
}

fn is_encoded(value: &str) -> bool {
    let bytes = value.as_bytes();
    (0..bytes.len()).all(|at| {
        bytes[at] != b'%'
            || bytes
                .get(at + 1..at + 3)
                .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    })
}

/// Percent sequences only: a plus stays a plus.
fn decoded(value: &mut String) {
    if value.contains('%') {
        *value = percent_decode(value.as_bytes())
            .decode_utf8_lossy()
            .into_owned();
    }
}

fn texts(of: Option<&Value>) -> BTreeMap<String, String> {
    let members = of.and_then(Value::as_object);
    members
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), text(value)?)))
        .collect()
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is) => Some(is.to_string()),
        _ => None,
    }
}

fn of_json(root: &Value) -> Record {
    let flow = match &root["callflow"] {
        Value::Array(flow) => flow.first(),
        one => Some(one),
    };
    let applications = root["app_log"]["applications"].as_array();
    Record {
        variables: texts(root.get("variables")),
        profile: texts(flow.and_then(|flow| flow.get("caller_profile"))),
        applications: applications
            .into_iter()
            .flatten()
            .filter_map(|one| Some((text(&one["app_name"])?, text(&one["app_data"])?)))
            .collect(),
        switchname: root.get("switchname").and_then(text),
        has_duplicate_keys: false,
    }
}

/// Refuses what could be more than text in elements: document types, other encodings, endless depth.
fn xml(document: &[u8]) -> Result<Record, String> {
    let bad = || "not_xml".to_owned();
    let text = std::str::from_utf8(document).map_err(|_| bad())?;
    let mut reader = Reader::from_str(text);
    let mut record = Record::default();
    let mut path: Vec<String> = Vec::new();
    let mut said = String::new();
    let mut flows = 0;
    loop {
        match reader.read_event().map_err(|_| bad())? {
            Event::Eof => break,
            Event::DocType(_) => return Err("doctype".to_owned()),
            Event::Decl(declared) => {
                if let Some(Ok(encoding)) = declared.encoding()
                    && !encoding.eq_ignore_ascii_case(b"utf-8")
                {
                    return Err("bad_value:encoding".to_owned());
                }
            }
            Event::Start(start) => {
                if path.len() >= json::DEEPEST {
                    return Err("too_deep".to_owned());
                }
                path.push(String::from_utf8_lossy(start.name().as_ref()).into_owned());
                said.clear();
                flows += usize::from(path.len() == 2 && path[1] == "callflow");
                noted(&start, &path, &mut record)?;
            }
            Event::Empty(start) => {
                path.push(String::from_utf8_lossy(start.name().as_ref()).into_owned());
                noted(&start, &path, &mut record)?;
                path.pop();
            }
            Event::Text(more) => said.push_str(&more.decode().map_err(|_| bad())?),
            Event::CData(more) => said.push_str(&more.decode().map_err(|_| bad())?),
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|_| bad())?;
                match reference.resolve_char_ref().map_err(|_| bad())? {
                    Some(sign) => said.push(sign),
                    None => said.push_str(
                        quick_xml::escape::resolve_predefined_entity(&name).ok_or_else(bad)?,
                    ),
                }
            }
            Event::End(_) => {
                let names: Vec<&str> = path.iter().map(String::as_str).collect();
                match names.as_slice() {
                    [_, "variables", name] => {
                        let mut value = said.clone();
                        decoded(&mut value);
                        record.variables.insert((*name).to_owned(), value);
                    }
                    [_, "callflow", "caller_profile", name] if flows == 1 => {
                        record.profile.insert((*name).to_owned(), said.clone());
                    }
                    _ => {}
                }
                path.pop();
                said.clear();
            }
            Event::Comment(_) | Event::PI(_) => {}
        }
    }
    if path.is_empty() {
        Ok(record)
    } else {
        Err(bad())
    }
}

/// What stands in attributes: the machine's name, the applications.
fn noted(start: &BytesStart<'_>, path: &[String], record: &mut Record) -> Result<(), String> {
    let attribute = |name: &str| -> Result<Option<String>, String> {
        let bad = |_| "not_xml".to_owned();
        let found = start
            .try_get_attribute(name)
            .map_err(|_| "not_xml".to_owned())?;
        found
            .map(|found| {
                let value = std::str::from_utf8(&found.value).map_err(|_| "not_xml".to_owned())?;
                quick_xml::escape::unescape(value)
                    .map(Cow::into_owned)
                    .map_err(bad)
            })
            .transpose()
    };
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    match names.as_slice() {
        ["cdr"] => record.switchname = attribute("switchname")?,
        [_, "app_log", "application"] => {
            if let (Some(name), Some(data)) = (attribute("app_name")?, attribute("app_data")?) {
                record.applications.push((name, data));
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_that_is_more_than_text_is_refused() {
        let read = |text: &str| read(text.as_bytes(), EncodedValues::Auto).map(|r| r.variables);
        let fine = read(
            "<cdr><variables><a>x%20y+&amp;&#65;</a><b><![CDATA[<c>]]></b><d/></variables></cdr>",
        );
        let fine = fine.unwrap();
        assert_eq!((&*fine["a"], &*fine["b"]), ("x y+&A", "<c>"));
        for (text, why) in [
            (
                "<!DOCTYPE cdr [<!ENTITY a \"b\">]><cdr><variables><uuid>&a;</uuid></variables></cdr>",
                "doctype",
            ),
            (
                "<?xml version=\"1.0\" encoding=\"GBK\"?><cdr/>",
                "bad_value:encoding",
            ),
            ("<cdr><variables>", "not_xml"),
            ("<cdr>&boom;</cdr>", "not_xml"),
        ] {
            assert_eq!(read(text).unwrap_err(), why, "{text}");
        }
        let deep = "<a>".repeat(70);
        assert_eq!(read(&deep).unwrap_err(), "too_deep");
    }

    #[test]
    fn a_plus_stays_a_plus_in_every_wrapping() {
        for body in [
            "cdr=eyJhIjoiKyJ9",
            "cdr=%7B%22a%22%3A%22%2B%22%7D",
            "cdr={\"a\":\"+\"}",
            " {\"a\":\"+\"}",
        ] {
            assert_eq!(
                unwrapped(body.as_bytes()).unwrap().as_ref(),
                b"{\"a\":\"+\"}",
                "{body}"
            );
        }
        assert!(unwrapped(b"cdr=***").is_err());
    }
}
