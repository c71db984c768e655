//! `[access]` of the configuration: how long a session lives, who sees whole numbers, how often a token may ask.

use std::time::Duration;

use serde::Deserialize;

use crate::db::sessions::Lifetime;
use crate::domain::rights::Role;
use crate::domain::units::Span;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A session without any request for so long ends.
    pub session_idle: Span,
    /// So long after signing in a session ends in any case.
    pub session_max: Span,
    /// Roles that see the last four digits of numbers alone.
    pub mask_numbers: Vec<Role>,
    /// Of each token; 0 does not count.
    pub token_requests_per_minute: u32,
    /// What needs a reason before it is given out.
    pub ask_reason: Vec<Asked>,
    /// Who is asked; empty asks everybody.
    pub ask_reason_of: Vec<Role>,
    /// So long a reason holds for its call in a session.
    pub reason_holds: Span,
    /// Sign-in through a provider of OpenID Connect.
    pub oidc: Option<super::oidc::settings::Settings>,
}

/// What a reason can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// The access copy and its waveform.
    Play,
    /// The original.
    Download,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            session_idle: Span::from_duration(Duration::from_secs(30 * 60)),
            session_max: Span::from_duration(Duration::from_secs(12 * 3600)),
            mask_numbers: vec![Role::Auditor],
            token_requests_per_minute: 1200,
            ask_reason: Vec::new(),
            ask_reason_of: Vec::new(),
            reason_holds: Span::from_duration(Duration::from_secs(3600)),
            oidc: None,
        }
    }
}

impl Settings {
    pub fn lifetime(&self) -> Lifetime {
        let ms = |span: &Span| i64::try_from(span.duration().as_millis()).unwrap_or(i64::MAX / 4);
        Lifetime {
            idle_ms: ms(&self.session_idle),
            max_ms: ms(&self.session_max),
        }
    }

    pub fn masks(&self, role: Role) -> bool {
        self.mask_numbers.contains(&role)
    }

    /// Whether somebody in this role must say why.
    pub fn asks(&self, role: Role, what: Asked) -> bool {
        self.ask_reason.contains(&what)
            && (self.ask_reason_of.is_empty() || self.ask_reason_of.contains(&role))
    }

    /// The key, and what is wrong with it, in words for a person.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let minute = Duration::from_secs(60);
        let year = Duration::from_secs(366 * 86_400);
        for (key, span) in [
            ("session_idle", self.session_idle),
            ("session_max", self.session_max),
            ("reason_holds", self.reason_holds),
        ] {
            if span.duration() < minute || span.duration() > year {
                return Some((key, "is not between a minute and a year".to_owned()));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auditors_alone_see_masked_numbers_unless_told_otherwise() {
        let usual = Settings::default();
        assert!(usual.masks(Role::Auditor) && !usual.masks(Role::Listener));
        assert_eq!(usual.problem(), None);
        let told: Settings = serde_json::from_value(serde_json::json!({
            "mask_numbers": ["listener"], "session_idle": "5s",
        }))
        .unwrap();
        assert!(!told.masks(Role::Auditor) && told.masks(Role::Listener));
        assert_eq!(told.problem().unwrap().0, "session_idle");
        let odd = serde_json::json!({ "mask_numbers": ["boss"] });
        assert!(serde_json::from_value::<Settings>(odd).is_err());
    }
}
