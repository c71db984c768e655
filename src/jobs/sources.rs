//! What to tell a vendor about each source: addresses, and what we know of its habits.

use serde::Serialize;

use crate::providers::contract::{Finding, Provider, Severity};
use crate::providers::sources::Sources;

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct SourceView {
    pub source: String,
    pub kind: String,
    pub hooks: Vec<HookView>,
    /// The vendor's own queues that are drawn from: nothing has to be entered for them.
    pub queues: Vec<String>,
    pub can_list: bool,
    pub provider_keeps_s: Option<u64>,
    /// `null`: any public address.
    pub allow_hosts: Option<Vec<String>>,
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct HookView {
    pub topic: String,
    pub url: String,
    pub what: String,
}

/// One view a source; `base` is the address under which the world reaches us.
pub fn views(sources: &Sources, base: &str) -> Vec<SourceView> {
    sources
        .snapshot()
        .values()
        .map(|provider| view(provider.as_ref(), base))
        .collect()
}

fn view(provider: &dyn Provider, base: &str) -> SourceView {
    let common = provider.common();
    let mut path = format!("{}/hooks/{}", base.trim_end_matches('/'), common.name);
    if let Some(token) = common.hook_tokens.first() {
        path = format!("{path}/{}", token.expose());
    }
    // Without the token that it needs a source has no address: what it knows comes by another way.
    let hooks = provider
        .topics()
        .iter()
        .filter(|_| !is_closed(provider))
        .map(|topic| HookView {
            topic: topic.name.to_owned(),
            url: if topic.name.is_empty() {
                path.clone()
            } else {
                format!("{path}/{}", topic.name)
            },
            what: topic.what.to_owned(),
        })
        .collect();
    SourceView {
        source: common.name.clone(),
        kind: provider.kind().to_owned(),
        hooks,
        queues: provider.queues(),
        can_list: provider.capabilities().lists(),
        provider_keeps_s: common.provider_keeps.map(|keeps| keeps.as_secs()),
        allow_hosts: common
            .allow_hosts
            .as_ref()
            .map(|hosts| hosts.iter().map(ToString::to_string).collect()),
        findings: findings(provider, base),
    }
}

/// A kind that takes nothing without a token, and has none: its messages come from a queue or a folder.
fn is_closed(provider: &dyn Provider) -> bool {
    provider.common().hook_tokens.is_empty() && provider.capabilities().token_required
}

fn findings(provider: &dyn Provider, base: &str) -> Vec<Finding> {
    let common = provider.common();
    let place = format!("[sources.{}]", common.name);
    let mut findings = Vec::new();
    if common.hook_tokens.is_empty() && !is_closed(provider) {
        findings.push(Finding {
            code: "no_hook_token",
            severity: Severity::Warning,
            what: "the addresses carry no secret token; the vendor's signature alone protects them"
                .into(),
            place: place.clone(),
            remedy:
                "set hook_token to 32 random letters and digits and give the vendor the new address"
                    .into(),
        });
    }
    if base.starts_with("http://127.") || base.starts_with("http://localhost") {
        findings.push(Finding {
            code: "no_public_url",
            severity: Severity::Info,
            what: "the addresses point to this machine only".into(),
            place: "[server]".into(),
            remedy:
                "set public_url to the address under which the vendor reaches your reverse proxy"
                    .into(),
        });
    }
    findings
}
