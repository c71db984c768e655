//! The keys of a `kind = "trtc"` source, with the defaults of tencent.md.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::domain::secret::Secret;
use crate::domain::units::Span;
use crate::providers::settings::{BaseUrl, CommonSettings, SettingsError, read_own};

/// `SearchMedia` takes so many applications at once.
const MOST_APPS: usize = 10;

/// How room ids of digits are read where the vendor does not say whether they are numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomIds {
    /// A JSON number is a number; digits as text are what a file's name shows, else either.
    #[default]
    Auto,
    Number,
    Text,
}

/// One application's way to sign.
#[derive(Clone, Debug)]
pub struct App {
    pub id: String,
    /// One key, or two while rotating; none: unsigned.
    pub keys: Vec<Secret>,
}

/// One account's settings, complete.
#[derive(Clone, Debug)]
pub struct Settings {
    pub apps: Vec<App>,
    /// Callbacks without a signature are taken.
    pub unsigned: bool,
    /// Callbacks of the call kit without a signature are taken.
    pub unsigned_wrapper: bool,
    /// Of the legacy recording's callbacks; none: they are refused.
    pub legacy_keys: Vec<Secret>,
    /// A right legacy signature is taken so long after its end.
    pub legacy_grace: Duration,
    pub api: Option<ApiKeys>,
    pub sub_app_id: Option<u64>,
    pub region: String,
    pub trtc: BaseUrl,
    pub vod: BaseUrl,
    pub cos: Option<Cos>,
    pub room_ids: RoomIds,
    /// User ids that begin so are recorders, not people.
    pub recorder_prefixes: Vec<String>,
    pub ready_after: Duration,
    /// The announced address is tried so long before the vendor is asked for a new one.
    pub ask_after: Duration,
    pub retry_plan: Vec<Duration>,
    pub ready_deadline: Duration,
}

#[derive(Clone, Debug)]
pub struct ApiKeys {
    pub secret_id: Secret,
    pub secret_key: Secret,
    /// Of temporary credentials.
    pub token: Option<Secret>,
}

/// The customer's own bucket.
#[derive(Clone, Debug)]
pub struct Cos {
    /// Scheme and host of the bucket.
    pub base: BaseUrl,
    /// Parts of `FileNamePrefix`, joined, without slashes at its ends.
    pub prefix: String,
    pub keys: ApiKeys,
    /// The sweep reads what lies below the prefix.
    pub list: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    sdk_app_id: Option<Id>,
    #[serde(default, deserialize_with = "one_or_two")]
    callback_key: Vec<Secret>,
    #[serde(default)]
    apps: BTreeMap<String, WrittenApp>,
    #[serde(default)]
    unsigned: bool,
    #[serde(default)]
    unsigned_wrapper: bool,
    #[serde(default, deserialize_with = "one_or_two")]
    legacy_key: Vec<Secret>,
    legacy_grace: Option<Span>,
    secret_id: Option<Secret>,
    secret_key: Option<Secret>,
    token: Option<Secret>,
    sub_app_id: Option<u64>,
    region: Option<String>,
    #[serde(default)]
    base_url: Endpoints,
    cos: Option<WrittenCos>,
    #[serde(default)]
    room_ids: RoomIds,
    recorder_prefixes: Option<Vec<String>>,
    ready_after: Option<Span>,
    ask_after: Option<Span>,
    retry_plan: Option<Vec<Span>>,
    ready_deadline: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenApp {
    #[serde(default, deserialize_with = "one_or_two")]
    callback_key: Vec<Secret>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Endpoints {
    trtc: Option<BaseUrl>,
    vod: Option<BaseUrl>,
    cos: Option<BaseUrl>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCos {
    bucket: String,
    region: String,
    #[serde(default)]
    prefix: String,
    secret_id: Option<Secret>,
    secret_key: Option<Secret>,
    #[serde(default = "yes")]
    list: bool,
}

const fn yes() -> bool {
    true
}

/// Written as a number or as text; digits exact.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Text(String),
}

fn one_or_two<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Secret>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Keys {
        Many(Vec<Secret>),
        One(Secret),
    }
    Ok(match Keys::deserialize(d)? {
        Keys::One(key) => vec![key],
        Keys::Many(keys) => keys,
    })
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Settings {
    pub fn read(own: toml::Table, common: &CommonSettings) -> Result<Self, SettingsError> {
        let source = common.name.as_str();
        let written: Written = read_own(own, source)?;
        let wrong =
            |key: &str, what: &str, remedy: &str| SettingsError::new(source, key, what, remedy);
        let mut apps = Vec::new();
        match written.sdk_app_id {
            Some(id) => apps.push(App {
                id: match id {
                    Id::Number(number) => number.to_string(),
                    Id::Text(text) => text,
                },
                keys: written.callback_key,
            }),
            None if !written.callback_key.is_empty() => {
                return Err(wrong(
                    "sdk_app_id",
                    "callback_key stands there without it",
                    "add the application's SdkAppId",
                ));
            }
            None => {}
        }
        apps.extend(written.apps.into_iter().map(|(id, app)| App {
            id,
            keys: app.callback_key,
        }));
        check_apps(source, &apps, written.unsigned)?;
        check_keys(source, "legacy_key", &written.legacy_key)?;
        let opens = [
            (
                written.unsigned,
                "unsigned = true takes callbacks that prove nothing",
            ),
            (
                written.unsigned_wrapper,
                "unsigned_wrapper = true takes callbacks that prove nothing",
            ),
            (
                !written.legacy_key.is_empty(),
                "a legacy callback's sign does not cover its body",
            ),
        ];
        for (_, why) in opens.iter().filter(|(is_so, _)| *is_so) {
            common.require_token(why)?;
        }
        let api = match (written.secret_id, written.secret_key) {
            (Some(secret_id), Some(secret_key)) => Some(ApiKeys {
                secret_id,
                secret_key,
                token: written.token,
            }),
            (None, None) => None,
            _ => {
                return Err(wrong(
                    "secret_key",
                    "secret_id and secret_key go together",
                    "write both, or neither",
                ));
            }
        };
        let endpoint = |key: &str, given: Option<BaseUrl>, default: &str| match given {
            Some(url) => Ok(url),
            None => BaseUrl::parse(default).map_err(|e| wrong(key, &e, "set it")),
        };
        let cos = match written.cos {
            None => None,
            Some(cos) => Some(read_cos(source, cos, written.base_url.cos, api.as_ref())?),
        };
        let or = |text: Option<Span>, default| text.map_or(default, Span::duration);
        let retry_plan: Vec<Duration> = written.retry_plan.map_or_else(
            || {
                [30, 60, 60, 120, 300, 600, 1800, 3600]
                    .map(seconds)
                    .to_vec()
            },
            |plan| plan.into_iter().map(Span::duration).collect(),
        );
        if retry_plan.is_empty() || retry_plan.contains(&Duration::ZERO) {
            return Err(wrong(
                "retry_plan",
                "it is empty or has a wait of nothing",
                "write the waits between two tries, like [\"30s\", \"2m\", \"10m\"]",
            ));
        }
        Ok(Self {
            apps,
            unsigned: written.unsigned,
            unsigned_wrapper: written.unsigned_wrapper,
            legacy_keys: written.legacy_key,
            legacy_grace: or(written.legacy_grace, seconds(1800)),
            api,
            sub_app_id: written.sub_app_id,
            region: written.region.unwrap_or_else(|| "ap-guangzhou".to_owned()),
            trtc: endpoint(
                "base_url.trtc",
                written.base_url.trtc,
                "https://trtc.tencentcloudapi.com",
            )?,
            vod: endpoint(
                "base_url.vod",
                written.base_url.vod,
                "https://vod.tencentcloudapi.com",
            )?,
            cos,
            room_ids: written.room_ids,
            recorder_prefixes: written
                .recorder_prefixes
                .unwrap_or_else(|| vec!["recorder_".to_owned()]),
            ready_after: or(written.ready_after, seconds(30)),
            ask_after: or(written.ask_after, seconds(300)),
            retry_plan,
            ready_deadline: or(written.ready_deadline, seconds(24 * 3600)),
        })
    }

    pub fn app(&self, id: &str) -> Option<&App> {
        self.apps.iter().find(|app| app.id == id)
    }
}

fn check_apps(source: &str, apps: &[App], unsigned: bool) -> Result<(), SettingsError> {
    let wrong =
        |key: &str, what: String, remedy: &str| Err(SettingsError::new(source, key, what, remedy));
    if apps.is_empty() {
        return wrong(
            "sdk_app_id",
            "the key \"sdk_app_id\" is missing".to_owned(),
            "add the application's SdkAppId",
        );
    }
    if apps.len() > MOST_APPS {
        return wrong(
            "apps",
            format!("more than {MOST_APPS} applications"),
            "divide them among several sources",
        );
    }
    for app in apps {
        if app.id.is_empty() || !app.id.bytes().all(|b| b.is_ascii_digit()) {
            return wrong(
                "sdk_app_id",
                format!("{:?} is no SdkAppId", app.id),
                "write the number that the console shows",
            );
        }
        check_keys(source, "callback_key", &app.keys)?;
        if app.keys.is_empty() && !unsigned {
            return wrong(
                "callback_key",
                format!("application {} has no callback key", app.id),
                "add the key from the console, or unsigned = true with a hook_token",
            );
        }
    }
    Ok(())
}

fn check_keys(source: &str, key: &str, keys: &[Secret]) -> Result<(), SettingsError> {
    let remedy = "write one key, or two while rotating";
    if keys.len() > 2 {
        return Err(SettingsError::new(
            source,
            key,
            "more than two keys",
            remedy,
        ));
    }
    if keys.iter().any(Secret::is_empty) {
        return Err(SettingsError::new(source, key, "an empty key", remedy));
    }
    Ok(())
}

fn read_cos(
    source: &str,
    cos: WrittenCos,
    base: Option<BaseUrl>,
    api: Option<&ApiKeys>,
) -> Result<Cos, SettingsError> {
    let keys = match (cos.secret_id, cos.secret_key, api) {
        (Some(secret_id), Some(secret_key), _) => ApiKeys {
            secret_id,
            secret_key,
            token: None,
        },
        (None, None, Some(api)) => api.clone(),
        _ => {
            return Err(SettingsError::new(
                source,
                "cos.secret_key",
                "the bucket needs a key that may read it",
                "write secret_id and secret_key in cos, or in the source for both",
            ));
        }
    };
    let base = match base {
        Some(base) => base,
        None => BaseUrl::parse(&format!(
            "https://{}.cos.{}.myqcloud.com",
            cos.bucket, cos.region
        ))
        .map_err(|e| SettingsError::new(source, "cos.bucket", e, "write name-appid"))?,
    };
    Ok(Cos {
        base,
        prefix: cos.prefix.trim_matches('/').to_owned(),
        keys,
        list: cos.list,
    })
}
