//! Alibaba's adapter at the simulated queue service: tokens, handles, refusals, and what is told of them.

use std::sync::Arc;
use std::time::Duration;

use callvault::domain::clock::{Clock, ManualClock, SharedClock, SystemClock};
use callvault::providers::contract::{
    BuildContext, Drawn, Finding, Provider, ProviderErrorKind, Severity,
};
use callvault::providers::http::GuardedClient;
use callvault::providers::registry;
use callvault::providers::settings::CommonSettings;
use callvault::simulator::{Mishaps, Options, Profile, Vendor, VendorKind};

const SOURCE: &str = "aliyun-q";

/// Calls whose announcements wait in the queue; nothing else leaves the vendor.
async fn vendor(only: &[&str]) -> Vendor {
    let options = Options {
        profile: Profile::Queue,
        mishaps: Mishaps::None,
        calls: only.len() as u32,
        only: only.iter().map(|&mishap| mishap.to_owned()).collect(),
        speed: 9000.0,
        call_interval: Duration::from_millis(1),
        push_to: Some("http://127.0.0.1:9".to_owned()),
        announce: false,
        ..Options::new(SOURCE)
    };
    let vendor = Vendor::start(VendorKind::Aliyun, options, Arc::new(SystemClock));
    let vendor = vendor.await.unwrap();
    vendor.make_calls().await.unwrap();
    vendor
}

fn adapter(
    vendor: &Vendor,
    clock: SharedClock,
    change: impl FnOnce(&mut toml::Table),
) -> Arc<dyn Provider> {
    let block: toml::Table = vendor.config_block().parse().unwrap();
    let mut table = block["sources"][SOURCE].as_table().unwrap().clone();
    table.remove("kind");
    table.insert("queue_wait".to_owned(), "0s".into());
    change(&mut table);
    let client = Arc::new(GuardedClient::new(clock.clone()));
    let known = registry::find(SOURCE, "aliyun").unwrap();
    let (common, own) = CommonSettings::split(SOURCE, &known.defaults(), table).unwrap();
    let context = BuildContext::local(client, clock);
    known.build(common, own, &context).unwrap()
}

fn now_adapter(vendor: &Vendor) -> Arc<dyn Provider> {
    adapter(vendor, Arc::new(SystemClock), |_| ())
}

fn queue(provider: &dyn Provider, message_type: &str) -> String {
    let queues = provider.queues();
    let found = queues.iter().find(|queue| queue.ends_with(message_type));
    found.unwrap().clone()
}

fn receipts(drawn: &[Drawn]) -> Vec<String> {
    drawn.iter().map(|drawn| drawn.receipt.clone()).collect()
}

fn tokens_asked_for(vendor: &Vendor) -> u64 {
    vendor.requests().get("/").copied().unwrap_or(0)
}

#[tokio::test]
async fn many_who_draw_at_once_ask_for_one_token() {
    let vendor = vendor(&["none"; 3]).await;
    let provider = now_adapter(&vendor);
    let name = queue(&*provider, "VoiceRecordReport");
    let draws = (0..8).map(|_| provider.draw(&name));
    let drawn: usize = futures::future::try_join_all(draws)
        .await
        .unwrap()
        .iter()
        .map(Vec::len)
        .sum();
    assert_eq!(drawn, 3, "each message to one of them");
    assert_eq!(tokens_asked_for(&vendor), 1);
    // The token lives for three seconds here: renewed at half of that, and never refused.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    provider.draw(&name).await.unwrap();
    assert_eq!(tokens_asked_for(&vendor), 2);
    vendor.stop().await;
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_then_the_queue_is_given_up() {
    let vendor = vendor(&["token_died"]).await;
    let provider = now_adapter(&vendor);
    let name = queue(&*provider, "VoiceRecordReport");
    // Withdrawn once or twice: the first draw may fail, the second does not.
    let mut drawn = provider.draw(&name).await;
    if drawn.is_err() {
        drawn = provider.draw(&name).await;
    }
    let drawn = drawn.unwrap();
    assert_eq!(drawn.len(), 1);
    assert!((2..=3).contains(&tokens_asked_for(&vendor)));
    provider.confirm(&name, &receipts(&drawn)).await.unwrap();
    // A queue of another type: the token is given, and the queue refuses it.
    let wrong = adapter(&vendor, Arc::new(SystemClock), |table| {
        let queues = table["queues"].as_table_mut().unwrap();
        let other = queues.remove("ArtcCdrReport").unwrap();
        queues.insert("VoiceRecordReport".to_owned(), other);
    });
    let before = tokens_asked_for(&vendor);
    let error = wrong
        .draw(&queue(&*wrong, "ArtcCdrReport"))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::CredentialsRefused);
    assert!(error.detail.contains("message type"), "{error}");
    assert_eq!(tokens_asked_for(&vendor) - before, 2);
    vendor.stop().await;
}

#[tokio::test]
async fn what_is_hidden_for_longer_goes_by_its_new_handle_alone() {
    let vendor = vendor(&["none"]).await;
    let provider = now_adapter(&vendor);
    let name = queue(&*provider, "VoiceRecordReport");
    let drawn = provider.draw(&name).await.unwrap();
    let hidden = drawn[0].hidden_for.unwrap();
    assert!(hidden < Duration::from_secs(2), "{hidden:?}");
    let longer = provider.prolong(&name, &drawn[0].receipt).await.unwrap();
    let longer = longer.unwrap();
    assert!(longer.hidden_for.unwrap() > Duration::from_secs(50));
    assert_eq!(
        provider.prolong(&name, &drawn[0].receipt).await.unwrap(),
        None
    );
    // The old handle is dead: done, as far as anybody can tell, and the message is still there.
    provider.confirm(&name, &receipts(&drawn)).await.unwrap();
    assert_eq!(vendor.progress().pushes_accepted, 0);
    provider
        .confirm(&name, std::slice::from_ref(&longer.receipt))
        .await
        .unwrap();
    assert_eq!(vendor.progress().pushes_accepted, 1);
    tokio::time::sleep(Duration::from_millis(1_700)).await;
    assert_eq!(provider.draw(&name).await.unwrap(), []);
    vendor.stop().await;
}

#[tokio::test]
async fn a_redelivered_message_has_the_same_key_and_poison_is_told_as_such() {
    let vendor = vendor(&["poison"]).await;
    let provider = now_adapter(&vendor);
    let name = queue(&*provider, "VoiceRecordReport");
    let first = provider.draw(&name).await.unwrap();
    assert_eq!(first.len(), 2);
    let unreadable: Vec<bool> = first
        .iter()
        .map(|drawn| drawn.told.unreadable.is_some())
        .collect();
    assert_eq!(unreadable, [true, false]);
    assert!(first.iter().all(|drawn| {
        !provider
            .topics()
            .iter()
            .any(|topic| topic.name == drawn.told.topic)
    }));
    // Not confirmed: both come again, and are known.
    tokio::time::sleep(Duration::from_millis(1_700)).await;
    let second = provider.draw(&name).await.unwrap();
    let keys = |drawn: &[Drawn]| -> Vec<String> {
        drawn.iter().map(|d| d.told.dedup_key.clone()).collect()
    };
    assert_eq!(keys(&first), keys(&second));
    // Dead handles beside living ones: all that lives is deleted, and that is no error.
    let mut mixed = receipts(&second);
    mixed.extend(receipts(&first));
    mixed.push("not a handle".to_owned());
    provider.confirm(&name, &mixed).await.unwrap();
    assert_eq!(vendor.progress().pushes_accepted, 2);
    vendor.stop().await;
}

#[tokio::test]
async fn a_clock_that_is_an_hour_off_is_named() {
    let vendor = vendor(&["none"]).await;
    for (scheme, ms, words) in [
        ("acs3", 3_600_000, "60 min ahead of"),
        ("hmac_sha1", -3_600_000, "60 min behind"),
    ] {
        let clock = ManualClock::at(SystemClock.now().plus_ms(ms));
        let provider = adapter(&vendor, clock, |table| {
            table.insert("signature".to_owned(), scheme.into());
        });
        let name = queue(&*provider, "VoiceRecordReport");
        let error = provider.draw(&name).await.unwrap_err();
        assert_eq!(error.kind, ProviderErrorKind::CredentialsRefused);
        let hinted = error.detail.replace("59 min", "60 min");
        assert!(hinted.contains(words), "{error}");
        let findings = provider.check().await;
        let refused: Vec<_> = findings
            .iter()
            .filter(|finding| finding.code == "credentials_refused")
            .collect();
        assert_eq!(refused.len(), 2, "one for each queue: {findings:#?}");
        assert!(refused[0].remedy.contains("clock"));
    }
    vendor.stop().await;
}

#[tokio::test]
async fn check_asks_for_a_token_for_each_queue_and_shows_no_secret() {
    let vendor = vendor(&["none"]).await;
    let fine = now_adapter(&vendor);
    // The simulator repeats by the other door, so its types stand in both places; that is no fault.
    let codes = |findings: &[Finding]| -> Vec<&'static str> {
        let worse = findings.iter().filter(|f| f.severity != Severity::Info);
        worse.map(|finding| finding.code).collect()
    };
    assert_eq!(codes(&fine.check().await), Vec::<&str>::new());
    assert_eq!(tokens_asked_for(&vendor), 2);
    for scheme in ["acs3", "hmac_sha1"] {
        let wrong = adapter(&vendor, Arc::new(SystemClock), |table| {
            table.insert("signature".to_owned(), scheme.into());
            table.insert("access_key_secret".to_owned(), "quite-another".into());
        });
        let findings = wrong.check().await;
        assert_eq!(codes(&findings), ["credentials_refused"; 2]);
        let told = findings
            .iter()
            .filter(|f| f.what.contains("SignatureDoesNotMatch"));
        assert_eq!(told.count(), 2, "{findings:#?}");
        let shown = format!("{findings:?} {wrong:?}");
        for secret in ["quite-another", "string to sign", "Signature=", "CAIS"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
    vendor.set_outage(true);
    let findings = fine.check().await;
    assert_eq!(codes(&findings), ["provider_unreachable"; 2]);
    vendor.stop().await;
}
