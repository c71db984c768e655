//! The provider over the wire: its discovery, its keys, the exchange of a code, its word on a user.
//!
//! OpenID Connect Discovery 1.0 and Core 1.0. Every request goes through the one client for foreign addresses: the
//! issuer's host may be anywhere, because the operator wrote it; hosts that its discovery names beside it are public
//! ones, or written in `allow_hosts`.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::refusal::{Refusal, Refused};
use super::settings::{Settings, safe_address};
use crate::domain::clock::Timestamp;
use crate::providers::http::{ApiAnswer, ApiRequest, FetchErrorKind, GuardPolicy, GuardedClient};
use crate::providers::settings::HttpLinks;

/// Discovery and keys are asked for again after so long; keys at once where a token names one that is not known.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// Somebody waits before a white page.
const PATIENCE: Duration = Duration::from_secs(10);
const MOST_BYTES: u64 = 512 * 1024;
const MOST_KEYS: usize = 100;

/// What discovery tells; what is not used here is not read.
#[derive(Clone, Debug, Deserialize)]
pub struct Metadata {
    pub issuer: String,
    pub authorization_endpoint: String,
    pub token_endpoint: String,
    pub jwks_uri: String,
    pub userinfo_endpoint: Option<String>,
    pub end_session_endpoint: Option<String>,
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    pub id_token_signing_alg_values_supported: Option<Vec<String>>,
    pub code_challenge_methods_supported: Option<Vec<String>>,
    pub response_types_supported: Option<Vec<String>>,
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// Where people are sent, and the keys by which their tokens are known.
#[derive(Clone, Debug)]
pub struct Known {
    pub metadata: Arc<Metadata>,
    pub keys: Arc<JwkSet>,
}

/// What a code was worth. Neither text is shown or logged anywhere.
#[derive(Deserialize)]
pub struct Tokens {
    pub id_token: String,
    pub access_token: Option<String>,
}

#[derive(Debug)]
pub struct Provider {
    settings: Settings,
    client: GuardedClient,
    kept: Mutex<Option<(Instant, Known)>>,
}

impl Provider {
    pub fn new(settings: Settings, client: GuardedClient) -> Self {
        Self {
            settings,
            client,
            kept: Mutex::default(),
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Discovery and keys, from memory where they are fresh.
    pub async fn known(&self) -> Result<Known, Refused> {
        let mut kept = self.kept.lock().await;
        if let Some((at, known)) = &*kept
            && at.elapsed() < KEPT_FOR
        {
            return Ok(known.clone());
        }
        let metadata = Arc::new(self.discover().await?);
        let keys = Arc::new(self.keys(&metadata).await?);
        let known = Known { metadata, keys };
        *kept = Some((Instant::now(), known.clone()));
        Ok(known)
    }

    /// The keys as they are now: the provider may have changed them since.
    pub async fn fresh_keys(&self, metadata: &Arc<Metadata>) -> Result<Arc<JwkSet>, Refused> {
        let keys = Arc::new(self.keys(metadata).await?);
        let known = Known {
            metadata: metadata.clone(),
            keys: keys.clone(),
        };
        *self.kept.lock().await = Some((Instant::now(), known));
        Ok(keys)
    }

    /// The document at the issuer's well-known address, with all that it must hold.
    pub async fn discover(&self) -> Result<Metadata, Refused> {
        let issuer = &self.settings.issuer;
        let url = format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        );
        let metadata: Metadata = self.get("discovery", &url, None).await?;
        if metadata.issuer != *issuer {
            return Err(odd(format!(
                "discovery at {url} says that its issuer is {:?}, and the configuration says {issuer:?}; they must be the same to the letter",
                metadata.issuer
            )));
        }
        let addresses = [
            (
                "authorization_endpoint",
                Some(&metadata.authorization_endpoint),
            ),
            ("token_endpoint", Some(&metadata.token_endpoint)),
            ("jwks_uri", Some(&metadata.jwks_uri)),
            ("userinfo_endpoint", metadata.userinfo_endpoint.as_ref()),
            (
                "end_session_endpoint",
                metadata.end_session_endpoint.as_ref(),
            ),
        ];
        for (name, address) in addresses {
            if let Some(address) = address {
                safe_address(address)
                    .map_err(|what| odd(format!("{name} of discovery: {what}")))?;
            }
        }
        Ok(metadata)
    }

    /// The provider's clock, by the header `Date` of an answer.
    pub async fn clock(&self, metadata: &Metadata) -> Option<Timestamp> {
        let answer = self
            .ask("clock", &metadata.jwks_uri, get(None))
            .await
            .ok()?;
        let date = answer.headers.get(http::header::DATE)?.to_str().ok()?;
        let date = chrono::DateTime::parse_from_rfc2822(date).ok()?;
        Some(Timestamp::from_ms(date.timestamp_millis()))
    }

    /// What is there although it does not fit the strict form is passed over: providers publish keys for other uses.
    pub async fn keys(&self, metadata: &Metadata) -> Result<JwkSet, Refused> {
        #[derive(Deserialize)]
        struct Published {
            keys: Vec<Value>,
        }
        let published: Published = self.get("keys", &metadata.jwks_uri, None).await?;
        let keys = published.keys.into_iter().take(MOST_KEYS);
        let keys: Vec<Jwk> = keys
            .filter_map(|key| serde_json::from_value(key).ok())
            .collect();
        if keys.is_empty() {
            let at = &metadata.jwks_uri;
            return Err(odd(format!("no key that can be used at {at}")));
        }
        Ok(JwkSet { keys })
    }

    /// Trades the code that a browser brought for tokens.
    pub async fn exchange(
        &self,
        metadata: &Metadata,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<Tokens, Refused> {
        let request = self.code_request(metadata, code, verifier, redirect_uri);
        let answer = self.ask("token", &metadata.token_endpoint, request).await?;
        if (400..500).contains(&answer.status) {
            // `error` is a word of the protocol; `error_description` may hold anything.
            let told: Map<String, Value> = serde_json::from_slice(&answer.body).unwrap_or_default();
            let word = told
                .get("error")
                .and_then(Value::as_str)
                .unwrap_or("no reason");
            return Err(Refused::new(
                Refusal::CodeRefused,
                format!("status {}: {}", answer.status, protocol_word(word)),
            ));
        }
        read("token", answer.status, &answer.body)
    }

    /// Who we are, as this provider takes it, and the code.
    fn code_request(
        &self,
        metadata: &Metadata,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> ApiRequest {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("code_verifier", verifier);
        let mut basic = None;
        let id = &self.settings.client_id;
        match &self.settings.client_secret {
            None => {
                form.append_pair("client_id", id);
            }
            Some(secret) if takes_basic(metadata) => {
                // Both are form-encoded first: RFC 6749, section 2.3.1.
                let encoded = |text: &str| -> String {
                    form_urlencoded::byte_serialize(text.as_bytes()).collect()
                };
                let pair = format!("{}:{}", encoded(id), encoded(secret.expose()));
                basic = Some(format!("Basic {}", STANDARD.encode(pair)));
            }
            Some(secret) => {
                form.append_pair("client_id", id)
                    .append_pair("client_secret", secret.expose());
            }
        }
        let mut request = ApiRequest::form("", form.finish())
            .header("accept", "application/json")
            .at_most(MOST_BYTES);
        request.timeout = PATIENCE;
        match basic {
            Some(basic) => request.header("authorization", &basic),
            None => request,
        }
    }

    /// Claims that the provider tells on asking alone.
    pub async fn userinfo(
        &self,
        metadata: &Metadata,
        access_token: &str,
    ) -> Result<Option<Map<String, Value>>, Refused> {
        let Some(url) = &metadata.userinfo_endpoint else {
            return Ok(None);
        };
        self.get("userinfo", url, Some(access_token))
            .await
            .map(Some)
    }

    async fn get<T: DeserializeOwned>(
        &self,
        what: &str,
        url: &str,
        bearer: Option<&str>,
    ) -> Result<T, Refused> {
        let request = get(bearer);
        let answer = self.ask(what, url, request).await?;
        read(what, answer.status, &answer.body)
    }

    async fn ask(&self, what: &str, url: &str, request: ApiRequest) -> Result<ApiAnswer, Refused> {
        let named = self.settings.named_hosts();
        let is_named = safe_address(url).is_ok_and(|at| {
            let port = at.port_or_known_default().unwrap_or_default();
            let host = at.host().map(|host| host.to_string());
            host.is_some_and(|host| named.iter().any(|pattern| pattern.matches(&host, port)))
        });
        let policy = GuardPolicy {
            allow_hosts: is_named.then_some(named),
            // Plain http passes `safe_address` for this very machine alone.
            http_links: HttpLinks::Allow,
            allow_private_addresses: false,
        };
        self.client
            .call_told(&policy, url, request)
            .await
            .map_err(|error| {
                let why = match error.kind {
                    FetchErrorKind::AddressForbidden
                    | FetchErrorKind::HostNotAllowed { .. }
                    | FetchErrorKind::BadAddress
                    | FetchErrorKind::TooLarge
                    | FetchErrorKind::Http => Refusal::ProviderOdd,
                    _ => Refusal::ProviderAway,
                };
                let hint = match error.kind {
                    FetchErrorKind::AddressForbidden => {
                        "; discovery named it, so write its host in allow_hosts if this is right"
                    }
                    _ => "",
                };
                Refused::new(why, format!("{what}: {error}{hint}"))
            })
    }
}

fn get(bearer: Option<&str>) -> ApiRequest {
    let mut request = ApiRequest::get("").at_most(MOST_BYTES);
    request.timeout = PATIENCE;
    request = request.header("accept", "application/json");
    match bearer {
        Some(bearer) => request.header("authorization", &format!("Bearer {bearer}")),
        None => request,
    }
}

fn odd(detail: String) -> Refused {
    Refused::new(Refusal::ProviderOdd, detail)
}

fn read<T: DeserializeOwned>(what: &str, status: u16, body: &[u8]) -> Result<T, Refused> {
    match status {
        200 => serde_json::from_slice(body).map_err(|error| {
            // What came may be a token: of the text only that something is not in it.
            let told = error.to_string();
            let why = if told.starts_with("missing field") {
                told
            } else {
                "not of the form that OpenID Connect asks for".to_owned()
            };
            odd(format!("{what}: {}", protocol_text(&why)))
        }),
        500.. | 429 => Err(Refused::new(
            Refusal::ProviderAway,
            format!("{what}: status {status}"),
        )),
        _ => Err(odd(format!("{what}: status {status}"))),
    }
}

/// Where nothing is said, Basic is what a provider takes: Discovery 1.0, section 3.
fn takes_basic(metadata: &Metadata) -> bool {
    let methods = &metadata.token_endpoint_auth_methods_supported;
    methods.as_ref().is_none_or(|methods| {
        let has = |name: &str| methods.iter().any(|method| method == name);
        has("client_secret_basic") || !has("client_secret_post")
    })
}

/// A word of the protocol as another program wrote it: short, and of letters that harm no log.
pub fn protocol_word(text: &str) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || "_.-".contains(*c);
    text.chars().filter(plain).take(60).collect()
}

fn protocol_text(text: &str) -> String {
    let plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
    text.chars().filter(plain).take(120).collect()
}
