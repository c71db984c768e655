//! `sources`: each configured source with the exact addresses to give to its vendor.

use crate::domain::clock::SystemClock;
use crate::jobs::sources::{SourceView, views};
use crate::providers::http::GuardedClient;
use crate::providers::pace::LocalPace;

use super::{Failure, Global, Out, exit};

pub async fn run(global: &Global, out: &Out) -> Result<u8, Failure> {
    let config = super::run::load(global)?;
    let clock: crate::domain::clock::SharedClock = std::sync::Arc::new(SystemClock);
    let client = std::sync::Arc::new(GuardedClient::new(clock.clone()));
    let sources = crate::app::open_sources(&config, &client, &clock, &LocalPace::shared())?;
    let base = config.server.public_base();
    let views = views(&sources, &base);
    if views.is_empty() {
        out.say("no source is configured: add a [sources.NAME] block, see deploy/callvault.example.toml");
    }
    for view in views {
        out.item(&view, || text(&view));
    }
    Ok(exit::DONE)
}

fn text(view: &SourceView) -> String {
    let mut text = format!("{} ({})", view.source, view.kind);
    for hook in &view.hooks {
        text += &format!("\n  {}\n      {}", hook.url, hook.what);
    }
    for queue in &view.queues {
        text += &format!("\n  queue {queue}\n      drawn from; nothing to enter at the vendor");
    }
    match view.provider_keeps_s {
        Some(s) if s < 86_400 => text += &format!("\n  the vendor keeps audio {} minutes", s / 60),
        Some(s) => text += &format!("\n  the vendor keeps audio {} days", s / 86_400),
        None => text += "\n  how long the vendor keeps audio is not known",
    }
    match &view.allow_hosts {
        Some(hosts) => text += &format!("\n  audio may come from {}", hosts.join(", ")),
        None => text += "\n  audio may come from any public address",
    }
    for finding in &view.findings {
        text += &format!("\n  {}: {}; {}", finding.code, finding.what, finding.remedy);
    }
    text
}
