//! What an Alibaba source's settings leave out: for `check`, before anything is asked.

use crate::providers::contract::{Finding, Severity};

use super::message::{self, Use};
use super::settings::Settings;

const RECORDINGS: &str = "VoiceRecordReport";

/// Whether any type that reaches us is used so.
pub fn hears(settings: &Settings, is_wanted: impl Fn(Use) -> bool) -> bool {
    settings
        .heard()
        .filter_map(message::find)
        .any(|known| is_wanted(known.used_as))
}

pub fn configuration(settings: &Settings, source: &str) -> Vec<Finding> {
    let place = format!("sources.{source}.push");
    let mut findings = Vec::new();
    let is_recording = |used_as| matches!(used_as, Use::Recording | Use::ProtectedRecording);
    if !hears(settings, is_recording) {
        findings.push(Finding {
            code: "recordings_not_pushed",
            severity: Severity::Warning,
            what: format!(
                "{RECORDINGS} is neither among the pushed types nor among the queues, so no recording is ever announced"
            ),
            place: place.clone(),
            remedy: format!("subscribe {RECORDINGS} in the console and add it to push or queues"),
        });
    }
    let is_cdr = |used_as| matches!(used_as, Use::Cdr | Use::RtcCdr | Use::ProtectedCdr);
    if !hears(settings, is_cdr) {
        findings.push(Finding {
            code: "calls_not_pushed",
            severity: Severity::Warning,
            what: "no call record is among the pushed types and queues: calls have no numbers, and a recording that is never announced goes unnoticed".to_owned(),
            place: place.clone(),
            remedy: "subscribe VoiceReport (or ArtcCdrReport, SecretReport) in the console and add it to push or queues".to_owned(),
        });
    }
    let is_protected = |used_as| used_as == Use::ProtectedRecording;
    if settings.key.is_none() && hears(settings, is_protected) {
        findings.push(Finding {
            code: "access_key_missing",
            severity: Severity::Error,
            what: "SecretRecording brings no address, and without the account's key none can be asked for".to_owned(),
            place: format!("sources.{source}.access_key_id"),
            remedy: "add access_key_id and access_key_secret of a RAM user with rights for Dyplsapi"
                .to_owned(),
        });
    }
    for name in settings.heard() {
        if settings.push.contains(&name) && settings.queues.contains_key(name) {
            continue;
        }
        if let Some(Use::Ignored(why)) = message::find(name).map(|known| known.used_as) {
            findings.push(Finding {
                code: "type_not_read",
                severity: Severity::Info,
                what: format!("{name} is stored and not read: {why}"),
                place: place.clone(),
                remedy: "nothing, or take it out of push and queues".to_owned(),
            });
        }
    }
    for name in &settings.push {
        if settings.queues.contains_key(name) {
            findings.push(Finding {
                code: "two_doors",
                severity: Severity::Info,
                what: format!("{name} stands in push and in queues; the console delivers a type one way at a time"),
                place: place.clone(),
                remedy: "nothing while you change over; else take it out of one of them".to_owned(),
            });
        }
    }
    for key in &settings.without_effect {
        findings.push(Finding {
            code: "key_without_effect",
            severity: Severity::Info,
            what: format!("{key} is set, and nothing is asked of that API"),
            place: format!("sources.{source}.{key}"),
            remedy: "nothing, or leave it out".to_owned(),
        });
    }
    findings
}
