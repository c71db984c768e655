//! Questions to Alibaba's RPC gateway ("POP"): signed by either scheme, a used-up number asked again with a new one.

use serde::Deserialize;
use serde_json::Value;

use crate::domain::clock::{SharedClock, Timestamp};
use crate::domain::ids::new_id;
use crate::domain::secret::Secret;
use crate::providers::api::Api;
use crate::providers::contract::ProviderError;
use crate::providers::http::{ApiRequest, WebAddress};
use crate::providers::settings::BaseUrl;

use super::fault::{self, Meaning};
use super::sign;

const VERSION: &str = "2017-05-25";
/// A number that was used before is bad luck once; more often it is something else.
const NONCES: u32 = 3;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// In headers: what the vendor's present packages send.
    #[default]
    Acs3,
    /// In the query: what the older ones send.
    HmacSha1,
}

/// The account's own key.
#[derive(Clone, Debug)]
pub struct Key {
    pub id: String,
    pub secret: Secret,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Ok(Value),
    /// What was asked for is not there (yet).
    Missing {
        code: String,
    },
}

/// Asks as one account.
#[derive(Clone, Debug)]
pub struct Pop {
    pub api: Api,
    pub clock: SharedClock,
    pub key: Key,
    pub scheme: Scheme,
    pub region: String,
}

impl Pop {
    pub async fn ask(
        &self,
        base: &BaseUrl,
        action: &str,
        params: &[(&str, &str)],
        doing: &'static str,
    ) -> Result<Answer, ProviderError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let now = self.clock.now();
            let nonce = new_id(now).to_string();
            let request = match self.scheme {
                Scheme::Acs3 => self.acs3(base, action, params, &nonce, now),
                Scheme::HmacSha1 => self.rpc(action, params, &nonce, now),
            };
            let answer = self.api.call(base, request, doing).await?;
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let text = |name: &str| match &body[name] {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => String::new(),
            };
            let code = text("Code");
            if answer.status == 200 && code == "OK" {
                return Ok(Answer::Ok(body));
            }
            match fault::meaning(answer.status, &code) {
                Meaning::Missing => return Ok(Answer::Missing { code }),
                Meaning::NonceUsed if tries < NONCES => {}
                _ => {
                    let said = text("Message");
                    let code = if code.is_empty() {
                        "no code".to_owned()
                    } else {
                        code
                    };
                    return Err(fault::error(&self.api, &answer, &code, &said, doing, now).await);
                }
            }
        }
    }

    /// Parameters in the query of a POST without body, the rest in signed headers.
    pub(super) fn acs3(
        &self,
        base: &BaseUrl,
        action: &str,
        params: &[(&str, &str)],
        nonce: &str,
        now: Timestamp,
    ) -> ApiRequest {
        let query = sign::canonical_query(params.iter().copied());
        // The client sends this very host.
        let host = WebAddress::parse(base.as_str()).map(|address| address.authority());
        let own = [
            ("host", host.unwrap_or_default()),
            ("x-acs-action", action.to_owned()),
            ("x-acs-content-sha256", sign::sha256_hex(b"")),
            ("x-acs-date", time(now)),
            ("x-acs-signature-nonce", nonce.to_owned()),
            ("x-acs-version", VERSION.to_owned()),
        ];
        let headers: Vec<_> = own.map(|(name, value)| (name.to_owned(), value)).into();
        let (request, names) = sign::acs3_request("POST", &query, &headers, b"");
        let authorization = sign::acs3(
            &self.key.id,
            self.key.secret.expose(),
            &sign::acs3_string(&request),
            &names,
        );
        headers
            .iter()
            .filter(|(name, _)| name != "host")
            .fold(
                ApiRequest::new(http::Method::POST, format!("/?{query}")),
                |request, (name, value)| request.header(name, value),
            )
            .header("accept", "application/json")
            .header("authorization", &authorization)
    }

    /// Everything in the query of a POST.
    pub(super) fn rpc(
        &self,
        action: &str,
        params: &[(&str, &str)],
        nonce: &str,
        now: Timestamp,
    ) -> ApiRequest {
        let timestamp = time(now);
        let common = [
            ("AccessKeyId", self.key.id.as_str()),
            ("Action", action),
            ("Format", "JSON"),
            ("RegionId", &self.region),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureNonce", nonce),
            ("SignatureVersion", "1.0"),
            ("Timestamp", &timestamp),
            ("Version", VERSION),
        ];
        let query = sign::canonical_query(common.into_iter().chain(params.iter().copied()));
        let signature = sign::rpc(self.key.secret.expose(), &sign::rpc_string("POST", &query));
        let target = format!("/?{query}&Signature={}", sign::percent_encode(&signature));
        ApiRequest::new(http::Method::POST, target).header("accept", "application/json")
    }
}

fn time(now: Timestamp) -> String {
    now.utc().format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
