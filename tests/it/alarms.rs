//! What a person is told of, when, and how often; on both databases.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use callvault::domain::clock::Timestamp;
use callvault::domain::notice::Door;
use callvault::domain::recording::reason;
use callvault::domain::secret::Secret;
use callvault::domain::view::Alarm;
use callvault::jobs::{status, tell};
use callvault::providers::contract::{Capabilities, Provider};
use callvault::providers::http::GuardedClient;
use callvault::providers::sources::Sources;
use callvault::spool::Usage;
use serde_json::Value;

use crate::db::{DAY, House, MINUTE, announced, at, call, feiyu, notice, on_both, reading};
use crate::support::shelf::Shelf;

const HOUR: i64 = 60;

fn sources(keys: &str) -> Sources {
    let shelf = Shelf::named("feiyu-main", keys, Capabilities::default());
    Sources::new([shelf as Arc<dyn Provider>])
}

async fn alarms(house: &House, sources: &Sources, now: Timestamp) -> Vec<Alarm> {
    let spool = Usage {
        used_bytes: 0,
        limit_bytes: 1 << 30,
        disk_used_percent: Some(10),
        parked_notices: 0,
    };
    let mut alarms = status::status(&house.db, sources, spool, None, now)
        .await
        .unwrap()
        .alarms;
    // The clock of a test stands years from the database's, and this machine's disk is nobody's matter here.
    alarms.retain(|alarm| !["clock", "disk_full"].contains(&alarm.code.as_str()));
    alarms
}

async fn codes(house: &House, sources: &Sources, now: Timestamp) -> Vec<String> {
    let alarms = alarms(house, sources, now).await;
    alarms.into_iter().map(|alarm| alarm.code).collect()
}

#[test]
fn work_that_dies_soon_is_told_with_the_narrowest_step() {
    on_both(async |house| {
        let quiet = sources("quiet_after = \"400d\"");
        let recording = |id: &str| {
            reading(
                vec![call(id, at(-1))],
                vec![announced(id, Some(at(0).plus_ms(30 * DAY)))],
            )
        };
        house.tell(&recording("a"), &feiyu(), at(0)).await;
        house.tell(&recording("b"), &feiyu(), at(0)).await;
        let after = |days: i64| at(0).plus_ms(days * DAY);
        for (day, expected) in [
            (19, None),
            (21, Some("slack_10d")),
            (26, Some("slack_5d")),
            (28, Some("slack_5d")),
            (29, Some("slack_2d")),
        ] {
            let told = codes(&house, &quiet, after(day)).await;
            assert_eq!(told, Vec::from_iter(expected), "day {day}");
        }
        let last = alarms(&house, &quiet, after(30)).await.remove(0);
        assert_eq!((last.code.as_str(), last.count), ("slack_1d", 2));
        assert_eq!(last.source.as_deref(), Some("feiyu-main"));
        // One of a vendor that keeps it for a day alone is no alarm while it is young.
        let short = reading(
            vec![call("c", after(40))],
            vec![announced("c", Some(after(41)))],
        );
        house.sql("update recording set work_class = null").await;
        house.tell(&short, &feiyu(), after(40)).await;
        assert_eq!(
            codes(&house, &quiet, after(40).plus_ms(HOUR * MINUTE)).await,
            [] as [&str; 0]
        );
        let told = codes(&house, &quiet, after(40).plus_ms(13 * HOUR * MINUTE)).await;
        assert_eq!(told, ["slack_1d"]);
    });
}

#[test]
fn refused_credentials_are_one_alarm_whoever_met_them_and_short_faults_are_none() {
    on_both(async |house| {
        let sources = sources("quiet_after = \"400d\"");
        let note = async |doing: &str, code: &str, now| {
            house
                .db
                .note_fault("feiyu-main", doing, code, now)
                .await
                .unwrap();
        };
        note("list", reason::CREDENTIALS_REFUSED, at(0)).await;
        note("draw", reason::CREDENTIALS_REFUSED, at(5)).await;
        note("ask", reason::PROVIDER_UNREACHABLE, at(5)).await;
        house
            .db
            .note_fault("nobody", "list", reason::CREDENTIALS_REFUSED, at(0))
            .await
            .unwrap();
        let told = alarms(&house, &sources, at(10)).await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].code, "credentials_refused");
        assert_eq!(told[0].since, Some(at(0)));
        note("ask", reason::PROVIDER_UNREACHABLE, at(66)).await;
        assert_eq!(
            codes(&house, &sources, at(66)).await,
            ["credentials_refused", "questions_failing"]
        );
        for doing in ["list", "draw", "ask"] {
            house.db.clear_fault("feiyu-main", doing).await.unwrap();
        }
        assert!(codes(&house, &sources, at(66)).await.is_empty());
    });
}

#[test]
fn a_clock_that_a_worker_found_off_is_told_until_it_is_set_or_the_worker_is_gone() {
    on_both(async |house| {
        let sources = sources("");
        house
            .db
            .note_fault("", "clock box-1", "clock", at(0))
            .await
            .unwrap();
        let spool = Usage {
            used_bytes: 0,
            limit_bytes: 1,
            disk_used_percent: None,
            parked_notices: 0,
        };
        let told = async |now| {
            let view = status::status(&house.db, &sources, spool, None, now)
                .await
                .unwrap();
            view.alarms
                .into_iter()
                .any(|alarm| alarm.what.contains("box-1"))
        };
        assert!(told(at(5)).await);
        assert!(!told(at(15)).await);
    });
}

#[test]
fn a_source_that_only_the_sweep_hears_is_quiet() {
    on_both(async |house| {
        let sources = sources("");
        for minute in [0, 10, 20] {
            house
                .db
                .add_notice(notice("feiyu-main", at(minute)))
                .await
                .unwrap();
        }
        let after = |days: i64| at(20).plus_ms(days * DAY);
        assert!(codes(&house, &sources, after(2)).await.is_empty());
        let mut swept = notice("feiyu-main", after(2));
        swept.door = Door::Poll;
        house.db.add_notice(swept).await.unwrap();
        assert_eq!(codes(&house, &sources, after(4)).await, ["source_quiet"]);
        let alarm = alarms(&house, &sources, after(4)).await.remove(0);
        assert_eq!(alarm.since, Some(at(20)));
        let patient = self::sources("quiet_after = \"30d\"");
        assert!(codes(&house, &patient, after(4)).await.is_empty());
        let eager = self::sources("quiet_after = \"1h\"");
        assert_eq!(codes(&house, &eager, at(81)).await, ["source_quiet"]);
    });
}

/// What was told, in order.
type Heard = Arc<Mutex<Vec<Value>>>;

/// An address that keeps what is posted, and answers as it is told.
async fn listener() -> (String, Arc<Mutex<Vec<Value>>>, Arc<Mutex<u16>>) {
    let heard: Arc<Mutex<Vec<Value>>> = Arc::default();
    let status = Arc::new(Mutex::new(200));
    async fn take(
        State((heard, status)): State<(Heard, Arc<Mutex<u16>>)>,
        request: axum::extract::Request,
    ) -> http::StatusCode {
        let target = request.uri().to_string();
        let body = axum::body::to_bytes(request.into_body(), 1 << 20)
            .await
            .unwrap();
        let mut message: Value = serde_json::from_slice(&body).unwrap();
        message["target"] = target.into();
        heard.lock().unwrap().push(message);
        http::StatusCode::from_u16(*status.lock().unwrap()).unwrap()
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/alarm?key=s3cret", listener.local_addr().unwrap());
    let app = Router::new()
        .fallback(take)
        .with_state((heard.clone(), status.clone()));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, heard, status)
}

fn alarm(code: &str, source: &str) -> Alarm {
    Alarm {
        code: code.to_owned(),
        source: Some(source.to_owned()),
        count: 2,
        since: Some(at(0)),
        what: "something".to_owned(),
        remedy: "do something".to_owned(),
    }
}

#[test]
fn a_reason_is_told_once_an_hour_whoever_runs_and_again_sooner_when_nobody_took_it() {
    on_both(async |house| {
        let (url, heard, answer) = listener().await;
        let settings = tell::Settings {
            url: Some(Secret::new(url)),
            ..tell::Settings::default()
        };
        let client = GuardedClient::new(house.clock.clone());
        let other = house.neighbour().await;
        let both = [alarm("lost", "a"), alarm("lost", "b")];
        let tell = async |db, alarms: &[Alarm], minute| {
            let told = tell::tell(&settings, db, &client, alarms, at(minute))
                .await
                .unwrap();
            (told.told, told.failed)
        };
        assert_eq!(tell(&house.db, &both, 0).await, (1, 0));
        let message = heard.lock().unwrap().remove(0);
        assert_eq!(message["schema"], "callvault.alarm/1");
        assert_eq!(message["code"], "lost");
        assert_eq!(message["count"], 4);
        assert_eq!(message["alarms"][1]["source"], "b");
        assert_eq!(message["alarms"][0]["do"], "do something");
        assert_eq!(message["target"], "/alarm?key=s3cret");
        assert_eq!(tell(&other, &both, 59).await, (0, 0));
        // Another reason does not wait for the first.
        assert_eq!(
            tell(&other, &[both[0].clone(), alarm("clock", "a")], 59).await,
            (1, 0)
        );
        assert_eq!(tell(&other, &both, 60).await, (1, 0));
        assert_eq!(tell(&house.db, &both, 61).await, (0, 0));
        *answer.lock().unwrap() = 503;
        assert_eq!(tell(&house.db, &both, 121).await, (0, 1));
        *answer.lock().unwrap() = 200;
        assert_eq!(tell(&other, &both, 124).await, (0, 0));
        assert_eq!(tell(&other, &both, 126).await, (1, 0));
    });
}

#[test]
fn a_command_gets_the_message_on_its_input_and_its_failure_is_seen() {
    on_both(async |house| {
        let file = house.folder().join("told.json");
        let script = format!("cat > {}; exit ${{1:-0}}", file.display());
        let settings = |code: &str| tell::Settings {
            command: ["sh", "-c", &script, "sh", code]
                .map(str::to_owned)
                .to_vec(),
            url: None,
        };
        let client = GuardedClient::new(house.clock.clone());
        let alarms = [alarm("quarantined", "a")];
        let told = tell::tell(&settings("3"), &house.db, &client, &alarms, at(0))
            .await
            .unwrap();
        assert_eq!((told.told, told.failed), (0, 1));
        let told = tell::tell(&settings("0"), &house.db, &client, &alarms, at(5))
            .await
            .unwrap();
        assert_eq!((told.told, told.failed), (1, 0));
        let message: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(message["code"], "quarantined");
        let nobody = tell::Settings {
            command: vec!["/no/such/program".to_owned()],
            url: None,
        };
        let alarms = [alarm("lost", "a")];
        let told = tell::tell(&nobody, &house.db, &client, &alarms, at(5))
            .await
            .unwrap();
        assert_eq!((told.told, told.failed), (0, 1));
    });
}
