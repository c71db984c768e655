//! The keys of a `kind = "twilio"` source (twilio.md, section 7), with their defaults.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::domain::secret::Secret;
use crate::domain::units::Span;
use crate::providers::settings::{BaseUrl, SettingsError, read_own};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prefer {
    #[default]
    Wav,
    Mp3,
}

/// Where the account keeps its media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExternalStorage {
    /// At Twilio.
    #[default]
    None,
    /// In the customer's bucket: fetched from there like from anywhere.
    Copy,
    /// Left there and only registered: not part of this version.
    Adopt,
}

/// One account or sub-account: how it signs, and how it is asked.
#[derive(Clone, Debug)]
pub struct Account {
    pub webhook_secrets: Vec<Secret>,
    pub user: String,
    pub password: Secret,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub base_url: BaseUrl,
    pub account_sid: String,
    /// The main account's, and those of its sub-accounts.
    pub accounts: BTreeMap<String, Account>,
    pub shared_keys: BTreeMap<String, Secret>,
    pub signed_url_suffix: String,
    /// The scheme and host that vendors reach us at; none: what the request itself says.
    pub public_url: Option<String>,
    pub prefer: Prefer,
    pub dual_channel: bool,
    pub external_storage: ExternalStorage,
    pub delete_after_archive: bool,
    pub retry_plan: Vec<Duration>,
    pub not_ready_deadline: Duration,
    /// So soon after it was announced, metadata that is missing is late and not deleted.
    pub replication_delay: Duration,
    pub max_concurrency: usize,
    pub has_list_interval: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth {
    user: String,
    password: Secret,
}

/// One secret is as good as a list of one.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SubAccount {
    webhook_secrets: Vec<Secret>,
    auth: Option<Auth>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    account_sid: String,
    auth: Option<Auth>,
    #[serde(default)]
    webhook_secrets: Vec<Secret>,
    #[serde(default)]
    shared_keys: BTreeMap<String, Secret>,
    #[serde(default)]
    subaccounts: BTreeMap<String, SubAccount>,
    signed_url_suffix: Option<String>,
    base_url: Option<BaseUrl>,
    #[serde(default)]
    prefer: Prefer,
    dual_channel: Option<bool>,
    #[serde(default)]
    external_storage: ExternalStorage,
    #[serde(default)]
    delete_after_archive: bool,
    retry_plan: Option<Vec<Span>>,
    not_ready_deadline: Option<Span>,
    replication_delay: Option<Span>,
    max_concurrency: Option<usize>,
    list_interval: Option<Span>,
}

/// "5 s … 15 min" (twilio.md, section 9.5).
const RETRY_PLAN_S: [u64; 7] = [5, 15, 30, 60, 180, 600, 900];

impl Settings {
    pub fn read(
        own: toml::Table,
        source: &str,
        public_url: Option<String>,
    ) -> Result<Self, SettingsError> {
        let written: Written = read_own(own, source)?;
        let wrong =
            |key: &str, what: &str, remedy: &str| SettingsError::new(source, key, what, remedy);
        if written.external_storage == ExternalStorage::Adopt {
            return Err(wrong(
                "external_storage",
                "recordings that stay in another bucket are not part of this version",
                "write \"copy\" to fetch them from there, or \"none\"",
            ));
        }
        let mut accounts = BTreeMap::new();
        let main = read_account(
            source,
            "",
            &written.account_sid,
            written.webhook_secrets,
            written.auth,
        )?;
        accounts.insert(written.account_sid.clone(), main);
        for (sid, sub) in written.subaccounts {
            let place = format!("subaccounts.{sid}.");
            let account = read_account(source, &place, &sid, sub.webhook_secrets, sub.auth)?;
            accounts.insert(sid, account);
        }
        if written.shared_keys.values().any(Secret::is_empty) {
            return Err(wrong("shared_keys", "a key is empty", "write its secret"));
        }
        let max_concurrency = written.max_concurrency.unwrap_or(8);
        if !(1..=1000).contains(&max_concurrency) {
            return Err(wrong(
                "max_concurrency",
                "it is not between 1 and 1000",
                "write 8, or leave it out",
            ));
        }
        let retry_plan: Vec<Duration> = written.retry_plan.map_or_else(
            || RETRY_PLAN_S.map(Duration::from_secs).to_vec(),
            |plan| plan.into_iter().map(Span::duration).collect(),
        );
        if retry_plan.is_empty() || retry_plan.contains(&Duration::ZERO) {
            return Err(wrong(
                "retry_plan",
                "it is empty or has a wait of nothing",
                "write the waits between two questions, like [\"5s\", \"1m\", \"15m\"]",
            ));
        }
        Ok(Self {
            base_url: match written.base_url {
                Some(url) => url,
                None => BaseUrl::parse("https://api.twilio.com")
                    .map_err(|e| SettingsError::new(source, "base_url", e, "set it"))?,
            },
            account_sid: written.account_sid,
            accounts,
            shared_keys: written.shared_keys,
            signed_url_suffix: written.signed_url_suffix.unwrap_or_default(),
            public_url: public_url.map(|url| url.trim_end_matches('/').to_owned()),
            prefer: written.prefer,
            dual_channel: written.dual_channel.unwrap_or(true),
            external_storage: written.external_storage,
            delete_after_archive: written.delete_after_archive,
            retry_plan,
            not_ready_deadline: written
                .not_ready_deadline
                .map_or(Duration::from_secs(24 * 3600), Span::duration),
            replication_delay: written
                .replication_delay
                .map_or(Duration::from_secs(900), Span::duration),
            max_concurrency,
            has_list_interval: written.list_interval.is_some(),
        })
    }
}

fn read_account(
    source: &str,
    place: &str,
    sid: &str,
    webhook_secrets: Vec<Secret>,
    auth: Option<Auth>,
) -> Result<Account, SettingsError> {
    let wrong = |key: &str, what: &str, remedy: &str| {
        SettingsError::new(source, format!("{place}{key}"), what, remedy)
    };
    if !is_sid(sid, "AC") {
        return Err(wrong(
            "account_sid",
            "it is no account sid",
            "write AC and 32 hexadecimal digits in lower case",
        ));
    }
    if webhook_secrets.is_empty() || webhook_secrets.iter().any(Secret::is_empty) {
        return Err(wrong(
            "webhook_secrets",
            "there is none, or one is empty",
            "write the account's auth token: [{ file = \"...\" }], two while it is rotated",
        ));
    }
    let (user, password) = match auth {
        Some(auth) => (auth.user, auth.password),
        // The account's own name and token.
        None => (sid.to_owned(), webhook_secrets[0].clone()),
    };
    if user.is_empty() || user.contains(':') || password.is_empty() {
        return Err(wrong(
            "auth",
            "user or password is empty, or the user holds a colon",
            "write { user = \"SK...\", password = { file = \"...\" } }",
        ));
    }
    Ok(Account {
        webhook_secrets,
        user,
        password,
    })
}

/// Two capitals and 32 hexadecimal digits in lower case.
pub fn is_sid(text: &str, prefix: &str) -> bool {
    text.len() == 34
        && text.strip_prefix(prefix).is_some_and(|rest| {
            rest.bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        })
}
