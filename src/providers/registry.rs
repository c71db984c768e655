//! The list of kinds that this version knows; whoever needs a provider by its name asks here.

use std::sync::Arc;

use super::aliyun::AliyunKind;
use super::cdr::PbxKind;
use super::contract::{BuildContext, Provider, ProviderKind};
use super::feiyu::FeiyuKind;
use super::settings::{CommonSettings, SettingsError};
use super::trtc::TrtcKind;
use super::twilio::TwilioKind;
use super::vcrtc::VcrtcKind;
use super::yunxin::YunxinKind;

/// One line for each kind.
#[rustfmt::skip]
static KINDS: &[&dyn ProviderKind] = &[
    &FeiyuKind,
    &AliyunKind,
    &YunxinKind,
    &VcrtcKind,
    &TrtcKind,
    &PbxKind("freeswitch"),
    &PbxKind("asterisk"),
    &PbxKind("cdr"),
    &TwilioKind,
];

pub fn kinds() -> &'static [&'static dyn ProviderKind] {
    KINDS
}

/// The kind of that name; the error names the known ones.
pub fn find(source: &str, kind: &str) -> Result<&'static dyn ProviderKind, SettingsError> {
    if let Some(found) = KINDS.iter().find(|known| known.kind() == kind) {
        return Ok(*found);
    }
    let known: Vec<&str> = KINDS.iter().map(|known| known.kind()).collect();
    let known = known.join(", ");
    let what = format!("kind {kind:?} is unknown; known: {known}");
    Err(SettingsError::new(
        source,
        "kind",
        what,
        "take one of the known kinds",
    ))
}

/// Builds one configured source.
pub fn build(
    kind: &str,
    common: CommonSettings,
    own: toml::Table,
    ctx: &BuildContext,
) -> Result<Arc<dyn Provider>, SettingsError> {
    ctx.accounts.register(&common.name, kind, &common.name);
    find(&common.name, kind)?.build(common, own, ctx)
}
