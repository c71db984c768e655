//! Questions to Tencent Cloud: TC3-signed, within the source's budget, and answered in our words.

use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::clock::Timestamp;
use crate::domain::retry::RetryAdvice;
use crate::providers::api::Api;
use crate::providers::contract::{ProviderError, ProviderErrorKind};
use crate::providers::http::{ApiRequest, WebAddress};
use crate::providers::settings::BaseUrl;

use super::answer::{Answer, Trouble};
use super::media::Media;
use super::settings::{ApiKeys, Settings};
use super::sign::{JSON, Signed};

/// Most files in one answer of `SearchMedia` that we ask for.
pub const PAGE: u64 = 100;
/// The page recommends six seconds for questions about recordings.
const ANSWER_WITHIN: Duration = Duration::from_secs(6);

#[derive(Clone, Copy, Debug)]
pub struct Service {
    pub name: &'static str,
    pub version: &'static str,
    /// trtc needs one, vod does not.
    pub with_region: bool,
}

pub const TRTC: Service = Service {
    name: "trtc",
    version: "2019-07-22",
    with_region: true,
};
pub const VOD: Service = Service {
    name: "vod",
    version: "2018-07-17",
    with_region: false,
};

/// What one search asks for.
#[derive(Clone, Debug, Default)]
pub struct Search<'a> {
    /// Of the legacy recording instead of TRTC's.
    pub legacy: bool,
    pub after: Option<Timestamp>,
    pub before: Option<Timestamp>,
    pub room: Option<&'a str>,
    pub app: Option<&'a str>,
    pub names: Vec<String>,
    pub offset: u64,
}

/// Asks one account.
#[derive(Debug)]
pub struct Asker {
    pub(super) api: Api,
}

impl Asker {
    pub fn new(api: Api) -> Self {
        Self { api }
    }

    /// One question; the error of a task that is over comes back as `None`.
    pub async fn ask(
        &self,
        settings: &Settings,
        service: Service,
        action: &'static str,
        payload: &Value,
        now: Timestamp,
    ) -> Result<Option<Value>, ProviderError> {
        let keys = settings.api.as_ref().ok_or_else(|| {
            self.api.error(
                ProviderErrorKind::CredentialsRefused,
                RetryAdvice::Never,
                action,
                "secret_id and secret_key are not configured",
            )
        })?;
        let base = match service.name {
            "trtc" => &settings.trtc,
            _ => &settings.vod,
        };
        let request = request(settings, keys, service, base, action, payload, now);
        let answer = self.api.call(base, request, action).await?;
        let (code, trouble) = match Answer::of(answer.status, &answer.body) {
            Answer::Ok(response) => return Ok(Some(response)),
            Answer::Error {
                trouble: Trouble::TaskOver | Trouble::Gone,
                ..
            } => return Ok(None),
            Answer::Error { code, trouble } => (code, trouble),
            Answer::Senseless(what) => {
                let advice = answer
                    .retry_after
                    .map_or(RetryAdvice::Backoff, RetryAdvice::After);
                let kind = ProviderErrorKind::Unreachable;
                return Err(self.api.error(kind, advice, action, what));
            }
        };
        let detail = format!("code {code}");
        Err(match trouble {
            Trouble::Throttled => {
                let wait = answer.retry_after;
                self.api.throttled(wait, action, detail).await
            }
            Trouble::Clock => self.refused(
                action,
                format!("{detail}: this machine's clock is more than five minutes off"),
            ),
            Trouble::Credentials => self.refused(action, detail),
            Trouble::Configuration => self.refused(
                action,
                format!("{detail}: look at sdk_app_id and sub_app_id"),
            ),
            // The vendor asks for pauses of 3, 6 and 12 seconds; the pipeline's begin at five.
            Trouble::Server | Trouble::Other | Trouble::TaskOver | Trouble::Gone => self.api.error(
                ProviderErrorKind::Unreachable,
                RetryAdvice::Backoff,
                action,
                detail,
            ),
            Trouble::TooWide | Trouble::Program => self.api.error(
                ProviderErrorKind::BadAnswer,
                RetryAdvice::Backoff,
                action,
                detail,
            ),
        })
    }

    fn refused(&self, action: &'static str, detail: String) -> ProviderError {
        self.api.error(
            ProviderErrorKind::CredentialsRefused,
            RetryAdvice::Backoff,
            action,
            detail,
        )
    }

    /// The fresh facts of these files, and the ids that the store does not have (any more).
    pub async fn media(
        &self,
        settings: &Settings,
        file_ids: &[String],
        now: Timestamp,
    ) -> Result<(Vec<Media>, Vec<String>), ProviderError> {
        let mut payload = json!({ "FileIds": file_ids, "Filters": ["basicInfo", "metaData"] });
        with_sub_app(&mut payload, settings);
        let answer = self
            .ask(settings, VOD, "DescribeMediaInfos", &payload, now)
            .await?
            .unwrap_or_default();
        let is_asked = |id: &String| file_ids.contains(id);
        let found = items(&answer, "MediaInfoSet")
            .filter_map(Media::of)
            // An answer about another file than the one asked for is none.
            .filter(|media| is_asked(&media.file_id))
            .collect();
        let gone = items(&answer, "NotExistFileIdSet")
            .filter_map(super::loose::id)
            .filter(is_asked)
            .collect();
        Ok((found, gone))
    }

    pub async fn search(
        &self,
        settings: &Settings,
        search: &Search<'_>,
        now: Timestamp,
    ) -> Result<Value, ProviderError> {
        let payload = search_payload(settings, search);
        let answer = self
            .ask(settings, VOD, "SearchMedia", &payload, now)
            .await?;
        Ok(answer.unwrap_or_default())
    }
}

/// The items of a set that may be null or missing.
pub fn items<'a>(answer: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    answer[name].as_array().into_iter().flatten()
}

fn with_sub_app(payload: &mut Value, settings: &Settings) {
    if let Some(sub_app_id) = settings.sub_app_id {
        payload["SubAppId"] = json!(sub_app_id);
    }
}

fn search_payload(settings: &Settings, search: &Search<'_>) -> Value {
    let mut payload = json!({
        "SourceTypes": [if search.legacy { "Record" } else { "TrtcRecord" }],
        "Filters": ["basicInfo", "metaData"],
        "Sort": { "Field": "CreateTime", "Order": "Asc" },
        "Offset": search.offset,
        "Limit": PAGE,
    });
    with_sub_app(&mut payload, settings);
    if !search.legacy {
        let all = settings.apps.iter().map(|app| app.id.as_str());
        let apps: Vec<u64> = match search.app {
            Some(app) => app.parse().into_iter().collect(),
            None => all.filter_map(|id| id.parse().ok()).collect(),
        };
        payload["TrtcSdkAppIds"] = json!(apps);
    }
    if search.after.is_some() || search.before.is_some() {
        let date = |at: Timestamp| {
            let seconds = Timestamp::from_ms(at.ms().div_euclid(1000) * 1000).to_string();
            seconds.replace(".000Z", "Z")
        };
        let mut range = json!({});
        if let Some(after) = search.after {
            range["After"] = json!(date(after));
        }
        if let Some(before) = search.before {
            range["Before"] = json!(date(before));
        }
        payload["CreateTime"] = range;
    }
    if let Some(room) = search.room {
        payload["TrtcRoomIds"] = json!([room]);
    }
    if !search.names.is_empty() {
        payload["Names"] = json!(search.names);
    }
    payload
}

/// The signed request; the bytes that are hashed are the bytes that are sent.
pub fn request(
    settings: &Settings,
    keys: &ApiKeys,
    service: Service,
    base: &BaseUrl,
    action: &str,
    payload: &Value,
    now: Timestamp,
) -> ApiRequest {
    let payload = payload.to_string();
    let host = WebAddress::parse(base.as_str()).map_or_else(|_| String::new(), |at| at.authority());
    let timestamp = now.ms().div_euclid(1000);
    let signed = Signed {
        service: service.name,
        host: &host,
        content_type: JSON,
        action: None,
        payload: payload.as_bytes(),
        timestamp,
    };
    let authorization = signed.authorization(keys.secret_id.expose(), keys.secret_key.expose());
    let mut request = ApiRequest::new(http::Method::POST, "/")
        .header("content-type", JSON)
        .header("authorization", &authorization)
        .header("x-tc-action", action)
        .header("x-tc-version", service.version)
        .header("x-tc-timestamp", &timestamp.to_string());
    if service.with_region {
        request = request.header("x-tc-region", &settings.region);
    }
    if let Some(token) = &keys.token {
        request = request.header("x-tc-token", token.expose());
    }
    request.timeout = ANSWER_WITHIN;
    request.body(payload)
}
