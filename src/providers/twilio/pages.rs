//! The list of recordings: pages that name the next one, of each account in its turn.

use chrono::DateTime;
use serde_json::{Map, Value};

use crate::domain::clock::Timestamp;
use crate::providers::contract::{ListPage, ProviderError, Told, Window};

use super::reading;
use super::rest::Rest;
use super::settings::{Settings, is_sid};

const LISTING: &str = "listing recordings";
/// "max 1000"; smaller pages are lost less often.
const PAGE_SIZE: u32 = 200;
/// A call has a handful of recordings; a longer list is not believed.
const MOST_PAGES_OF_A_CALL: usize = 10;
const DAY_MS: i64 = 24 * 3600 * 1000;

/// One page of one account. A page's name is the account's number and the vendor's own `next_page_uri`,
/// which is followed as it was given.
pub async fn list(
    rest: &Rest,
    settings: &Settings,
    window: Window,
    page: Option<&str>,
) -> Result<ListPage, ProviderError> {
    let stale = || rest.error(LISTING, "page_token_unknown: the list begins again");
    let (number, uri) = match page {
        None => (0, None),
        Some(page) => {
            let (number, uri) = page.split_once('|').ok_or_else(stale)?;
            let number = number.parse::<usize>().map_err(|_| stale())?;
            (number, Some(uri).filter(|uri| !uri.is_empty()))
        }
    };
    let account = settings.accounts.keys().nth(number).ok_or_else(stale)?;
    let first = format!(
        "/2010-04-01/Accounts/{account}/Recordings.json?PageSize={PAGE_SIZE}&DateCreated%3E={}&DateCreated%3C={}",
        date(window.from),
        // Days count whole, and the sign's own day may or may not.
        date(window.to.plus_ms(DAY_MS)),
    );
    let path = uri.unwrap_or(&first);
    let Some(answer) = rest.object(settings, account, path, LISTING).await? else {
        return Err(rest.error(LISTING, "the page is gone: the list begins again"));
    };
    let told = entries(&answer, account);
    let next = match next_page(&answer, path, settings) {
        Next::Page(uri) => Some(format!("{number}|{uri}")),
        Next::None if number + 1 < settings.accounts.len() => Some(format!("{}|", number + 1)),
        Next::None => None,
        // What was read before still counts.
        Next::Wrong(code) => {
            tracing::warn!(account, code, "the list ends before its time");
            None
        }
    };
    Ok(ListPage { told, next })
}

/// All recordings of one call or conference, in whichever account they are.
pub async fn of_call(
    rest: &Rest,
    settings: &Settings,
    sid: &str,
) -> Result<Vec<Told>, ProviderError> {
    let name = match sid {
        sid if is_sid(sid, "CA") => "CallSid",
        sid if is_sid(sid, "CF") => "ConferenceSid",
        _ => return Ok(Vec::new()),
    };
    let mut told = Vec::new();
    for account in settings.accounts.keys() {
        let mut path = format!(
            "/2010-04-01/Accounts/{account}/Recordings.json?PageSize={PAGE_SIZE}&{name}={sid}"
        );
        for _ in 0..MOST_PAGES_OF_A_CALL {
            let Some(answer) = rest.object(settings, account, &path, LISTING).await? else {
                break;
            };
            told.extend(entries(&answer, account));
            match next_page(&answer, &path, settings) {
                Next::Page(uri) => path = uri,
                Next::None | Next::Wrong(_) => break,
            }
        }
    }
    Ok(told)
}

#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Page(String),
    None,
    /// `page_loop` or `next_page_host`.
    Wrong(&'static str),
}

/// Relative to the vendor's own host, or an address there; nowhere else, and not the same page again.
pub fn next_page(answer: &Map<String, Value>, this: &str, settings: &Settings) -> Next {
    let Some(uri) = answer.get("next_page_uri").and_then(Value::as_str) else {
        return Next::None;
    };
    let uri = uri.strip_prefix(settings.base_url.as_str()).unwrap_or(uri);
    if uri.is_empty() {
        return Next::None;
    }
    if !uri.starts_with('/') || uri.starts_with("//") {
        return Next::Wrong("next_page_host");
    }
    if uri == this {
        return Next::Wrong("page_loop");
    }
    Next::Page(uri.to_owned())
}

/// Entries of this account that are not deleted.
fn entries(answer: &Map<String, Value>, account: &str) -> Vec<Told> {
    let items = answer.get("recordings").and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .filter(|entry| {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
            is_sid(text("sid"), "RE")
                && text("account_sid") == account
                && text("status") != "deleted"
        })
        .map(told)
        .collect()
}

/// One recording as the vendor tells it, without addresses.
pub fn told(entry: &Map<String, Value>) -> Told {
    let mut entry = entry.clone();
    entry.retain(|name, _| !matches!(name.as_str(), "media_url" | "uri" | "subresource_uris"));
    let text = |name: &str| match entry.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let dedup_key = format!(
        "{}:{}:{}:{}:{}",
        reading::LISTED,
        text("sid"),
        text("status"),
        text("duration"),
        text("channels")
    );
    Told {
        topic: reading::LISTED.to_owned(),
        body: Value::Object(entry).to_string().into(),
        dedup_key,
        unreadable: None,
    }
}

fn date(at: Timestamp) -> String {
    let at = DateTime::from_timestamp_millis(at.ms()).unwrap_or_default();
    at.format("%Y-%m-%d").to_string()
}
