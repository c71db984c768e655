//! What `callvault check` says of the provider: asked now, from this machine.

use super::provider::Provider;
use super::refusal::{Refusal, Refused};
use super::settings::Settings;
use super::signature::ALGORITHMS;
use super::{BACK, id_token};
use crate::domain::clock::{SharedClock, Timestamp};
use crate::providers::contract::{Finding, Severity};
use crate::providers::http::GuardedClient;

const PLACE: &str = "[access.oidc]";

/// Discovery, keys and what they offer; and the address that the provider must know.
pub async fn check(settings: &Settings, public_base: &str, clock: &SharedClock) -> Vec<Finding> {
    let client = GuardedClient::new(clock.clone());
    let provider = Provider::new(settings.clone(), client);
    let mut findings = vec![finding(
        "oidc_return_address",
        Severity::Info,
        format!("the provider's client must allow the return address {public_base}{BACK}"),
        "compare it with the client's settings at the provider; after signing out it may lead to /sign-in",
    )];
    let metadata = match provider.discover().await {
        Ok(metadata) => metadata,
        Err(refused) => {
            findings.push(unreachable(&refused));
            return findings;
        }
    };
    if let Err(refused) = provider.keys(&metadata).await {
        findings.push(unreachable(&refused));
    }
    if let Some(date) = provider.clock(&metadata).await {
        findings.extend(clock_finding(date, clock.now()));
    }
    let has = |list: &Option<Vec<String>>, wanted: &str| {
        let names = list.as_ref();
        names.is_none_or(|names| names.iter().any(|name| name == wanted))
    };
    if !has(&metadata.response_types_supported, "code") {
        findings.push(finding(
            "oidc_no_code_flow",
            Severity::Error,
            "the provider does not offer response_type=code".to_owned(),
            "allow the authorization code flow there",
        ));
    }
    let algorithms = &metadata.id_token_signing_alg_values_supported;
    let taken = ALGORITHMS.map(|algorithm| format!("{algorithm:?}"));
    if !taken.iter().any(|name| has(algorithms, name)) {
        findings.push(finding(
            "oidc_signatures",
            Severity::Error,
            format!(
                "the provider signs ID tokens by {:?} alone, and none of these is taken",
                algorithms.as_deref().unwrap_or_default()
            ),
            "let it sign by RS256 or ES256",
        ));
    }
    if metadata.code_challenge_methods_supported.is_some()
        && !has(&metadata.code_challenge_methods_supported, "S256")
    {
        findings.push(finding(
            "oidc_no_pkce",
            Severity::Warning,
            "the provider does not say that it takes PKCE with S256, which is sent in any case"
                .to_owned(),
            "switch PKCE on for this client",
        ));
    }
    let methods = &metadata.token_endpoint_auth_methods_supported;
    let wanted: &[&str] = match &settings.client_secret {
        Some(_) => &["client_secret_basic", "client_secret_post"],
        None => &["none"],
    };
    if methods.is_some() && !wanted.iter().any(|method| has(methods, method)) {
        findings.push(finding(
            "oidc_client_authentication",
            Severity::Warning,
            format!(
                "the provider names {:?} for clients, and this one can {}",
                methods.as_deref().unwrap_or_default(),
                wanted.join(" or ")
            ),
            "give client_secret for a confidential client, or leave it out for a public one",
        ));
    }
    findings
}

/// The difference of two clocks matters to tokens; a provider's answer tells its own in the header `Date`.
fn clock_finding(date: Timestamp, now: Timestamp) -> Option<Finding> {
    let ahead_s = date.ms().saturating_sub(now.ms()) / 1000;
    (ahead_s.abs() > id_token::CLOCK_LEEWAY_S).then(|| {
        finding(
            "oidc_clock",
            Severity::Error,
            format!("the provider's clock is {ahead_s} s ahead of this machine's"),
            "synchronise this machine's clock (NTP); tokens from the future are refused",
        )
    })
}

fn unreachable(refused: &Refused) -> Finding {
    let (code, remedy) = match refused.why {
        Refusal::ProviderAway => (
            "oidc_provider_away",
            "is the provider up, and may this machine reach it? until then only local accounts sign in",
        ),
        _ => (
            "oidc_provider_odd",
            "copy issuer from the provider's own discovery document, to the letter",
        ),
    };
    finding(code, Severity::Error, refused.detail.clone(), remedy)
}

fn finding(code: &'static str, severity: Severity, what: String, remedy: &str) -> Finding {
    Finding {
        code,
        severity,
        what,
        place: PLACE.to_owned(),
        remedy: remedy.to_owned(),
    }
}
