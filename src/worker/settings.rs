//! `[worker]` and `[schedule]` of the configuration.

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Recordings in flight at once.
    pub recordings: usize,
    /// Decoder children; 0 means one per core.
    pub transcodes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            recordings: 16,
            transcodes: 0,
        }
    }
}

impl Settings {
    pub fn decoder_children(&self) -> usize {
        if self.transcodes > 0 {
            return self.transcodes;
        }
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleSettings {
    /// Cron with seconds first, in UTC.
    pub poll: String,
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self {
            poll: "0 */5 * * * *".to_owned(),
        }
    }
}
