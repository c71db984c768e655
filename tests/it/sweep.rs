//! The sweep over a vendor of the tests' own, on both databases: what is listed and asked, in which
//! windows, and how it goes on after anything that breaks it off.
//!
//! Failure: something the vendor lists that is never heard. Not a failure: hearing it twice.

use std::sync::Arc;
use std::time::Duration;

use callvault::domain::clock::Timestamp;
use callvault::domain::notice::Door;
use callvault::ingress::poll::{Mode, SourceReport, Sweeper};
use callvault::pipeline::{inbox, intake::Intake};
use callvault::providers::contract::{Capabilities, Provider, ProviderErrorKind, Told};
use callvault::providers::sources::Sources;
use callvault::spool::journal::Journal;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::db::{DAY, House, MINUTE, at, on_both};
use crate::support::shelf::{Mood, Shelf};

const KEEPS: &str = "provider_keeps = \"3d\"";
const SCHEDULED: Mode = Mode { thorough: false };

struct Bench<'a> {
    house: &'a House,
    shelf: Arc<Shelf>,
    sources: Sources,
    intake: Intake,
    sweeper: Sweeper,
}

async fn bench(house: &House, shelf: Arc<Shelf>) -> Bench<'_> {
    let sources = Sources::new([shelf.clone() as Arc<dyn Provider>]);
    let journal = Journal::open(&house.folder().join("journal"))
        .await
        .unwrap();
    let intake = Intake::new(house.db.clone(), Arc::new(journal), house.clock.clone());
    let sweeper = sweeper(house, &sources, &intake, "i1");
    Bench {
        house,
        shelf,
        sources,
        intake,
        sweeper,
    }
}

fn sweeper(house: &House, sources: &Sources, intake: &Intake, instance: &str) -> Sweeper {
    Sweeper::new(
        house.db.clone(),
        sources.clone(),
        intake.clone(),
        house.clock.clone(),
        instance,
        CancellationToken::new(),
    )
}

impl Bench<'_> {
    fn set_time(&self, now: Timestamp) {
        self.house.clock.set(now);
    }

    async fn pass(&self) -> SourceReport {
        self.sweeper.pass(None, SCHEDULED).await.remove(0)
    }

    /// Reads all notices, as a worker does.
    async fn read(&self) {
        let now = callvault::domain::clock::Clock::now(self.house.clock.as_ref());
        while inbox::read_waiting(&self.house.db, &self.sources, "i1", now)
            .await
            .unwrap()
            > 0
        {}
    }

    async fn hear(&self, door: Door, key: &str, body: serde_json::Value) {
        let told = Told {
            topic: "item".to_owned(),
            body: body.to_string().into(),
            dedup_key: key.to_owned(),
            unreadable: None,
        };
        self.intake
            .take(self.shelf.as_ref(), door, told)
            .await
            .unwrap();
        self.read().await;
    }

    async fn recordings(&self) -> i64 {
        self.house.number("select count(*) from recording").await
    }

    async fn unannounced(&self) -> u64 {
        self.house.db.found_by_sweep("shelf").await.unwrap()
    }
}

/// `list FROM TO PAGE`, as the shelf writes it.
fn listed(from: Timestamp, to: Timestamp, page: &str) -> String {
    format!("list {} {} {page}", from.ms() / MINUTE, to.ms() / MINUTE)
}

#[test]
fn first_the_whole_life_is_listed_then_what_is_new_with_an_overlap_and_all_of_it_again_each_day() {
    on_both(async |house| {
        let bench = bench(&house, Shelf::listed(KEEPS)).await;
        for (day, call) in [(-2, "old"), (-1, "yesterday")] {
            bench.shelf.put(at(0).plus_ms(day * DAY), call);
        }
        bench.shelf.put(at(0).plus_ms(-4 * DAY), "too old");
        bench.shelf.put(at(-1), "new");
        let report = bench.pass().await;
        assert_eq!((report.listed, report.new, report.repeated), (4, 3, 1));
        assert!(report.problems.is_empty(), "{report:?}");
        let day = |n: i64| at(0).plus_ms(n * DAY);
        assert_eq!(
            bench.shelf.questions(),
            [
                listed(at(-120), at(0), "-"),
                listed(day(-3), day(-2), "-"),
                listed(day(-2), day(-1), "-"),
                listed(day(-1), day(0), "-"),
            ]
        );
        bench.read().await;
        assert_eq!(bench.recordings().await, 3);
        assert_eq!(bench.unannounced().await, 3);

        bench.set_time(at(5));
        bench.shelf.put(at(2), "newer");
        assert_eq!(bench.pass().await.new, 1);
        assert_eq!(bench.shelf.questions(), [listed(at(-120), at(5), "-")]);

        // The service was away for a day and a half: nothing between is left out.
        let later = at(5).plus_ms(DAY * 3 / 2);
        bench.set_time(later);
        bench.shelf.put(later.plus_ms(-DAY * 2 / 5), "while away");
        bench.pass().await;
        let asked = bench.shelf.questions();
        assert_eq!(asked[0], listed(at(-115), at(-115).plus_ms(DAY), "-"));
        assert_eq!(asked[1], listed(at(-115).plus_ms(DAY), later, "-"));
        assert_eq!(asked.len(), 5, "the whole life is due too: {asked:?}");
        bench.read().await;
        assert_eq!(bench.recordings().await, 5);
    });
}

#[test]
fn a_sweep_that_dies_anywhere_is_gone_on_with_at_its_page() {
    on_both(async |house| {
        let bench = bench(&house, Shelf::listed(KEEPS)).await;
        for n in 0..7 {
            bench.shelf.put(at(-10 + n), &format!("call-{n}"));
        }
        bench.shelf.set(Mood::HangsAt(2));
        let dies = tokio::time::timeout(Duration::from_secs(1), bench.pass()).await;
        assert!(dies.is_err(), "the process is gone in the middle of a page");
        assert_eq!(bench.shelf.questions().len(), 3);
        bench.shelf.set(Mood::Fine);
        // Another process: not while the dead one's lease runs.
        let other = sweeper(&house, &bench.sources, &bench.intake, "i2");
        assert!(other.pass(None, SCHEDULED).await[0].busy);
        assert!(bench.shelf.questions().is_empty());
        bench.set_time(at(2));
        let report = other.pass(None, SCHEDULED).await.remove(0);
        assert!(!report.busy);
        let asked = bench.shelf.questions();
        assert_eq!(asked[0], listed(at(-120), at(0), "2"), "{asked:?}");
        assert_eq!(asked[1], listed(at(-120), at(0), "3"), "{asked:?}");
        assert_eq!(asked[2], listed(at(-120), at(2), "-"), "{asked:?}");
        bench.read().await;
        assert_eq!(bench.recordings().await, 7);
    });
}

#[test]
fn a_dead_page_token_begins_the_stretch_again_and_costs_no_item() {
    on_both(async |house| {
        let bench = bench(&house, Shelf::listed(KEEPS)).await;
        for n in 0..5 {
            bench.shelf.put(at(-10 + n), &format!("call-{n}"));
        }
        bench.shelf.set(Mood::HangsAt(2));
        let _ = tokio::time::timeout(Duration::from_secs(1), bench.pass()).await;
        bench.shelf.questions();
        bench.set_time(at(2));
        // The token that was kept is dead when the next process uses it, and so are all others at first.
        bench.shelf.set(Mood::TokensDie);
        let report = bench.pass().await;
        let asked = bench.shelf.questions();
        assert_eq!(asked[0], listed(at(-120), at(0), "2"));
        assert_eq!(asked[1], listed(at(-120), at(0), "-"));
        assert_eq!(report.problems[0].code, "bad_answer", "{report:?}");
        let fault = house.db.faults().await.unwrap().remove(0);
        assert_eq!(
            (fault.doing.as_str(), fault.code.as_str()),
            ("list", "bad_answer")
        );
        bench.shelf.set(Mood::Fine);
        bench.set_time(at(5));
        assert!(bench.pass().await.problems.is_empty());
        assert_eq!(house.db.faults().await.unwrap(), []);
        bench.read().await;
        assert_eq!(bench.recordings().await, 5);
    });
}

#[test]
fn a_list_that_repeats_a_page_for_ever_is_left_and_told_of() {
    on_both(async |house| {
        let bench = bench(&house, Shelf::listed(KEEPS)).await;
        for n in 0..4 {
            bench.shelf.put(at(-10 + n), &format!("call-{n}"));
        }
        bench.shelf.set(Mood::GoesRound);
        let report = bench.pass().await;
        assert_eq!(report.problems[0].code, "list_repeats", "{report:?}");
        assert!(report.calls_for_a_look());
        assert!(bench.shelf.questions().len() < 20);
        bench.read().await;
        assert_eq!(bench.recordings().await, 4);
    });
}

#[test]
fn a_vendor_that_is_away_costs_no_stretch_and_a_stretch_without_sense_holds_up_no_other() {
    on_both(async |house| {
        let bench = bench(&house, Shelf::listed(KEEPS)).await;
        bench.pass().await;
        bench.shelf.questions();
        let away = at(0).plus_ms(2 * DAY);
        bench.shelf.put(at(60), "at first");
        bench.shelf.put(away.plus_ms(-MINUTE), "at last");
        bench.set_time(away);
        bench.shelf.set(Mood::Fails(ProviderErrorKind::Unreachable));
        let report = bench.pass().await;
        assert_eq!(report.problems[0].code, "provider_unreachable");
        assert_eq!(
            bench.shelf.questions().len(),
            1,
            "it is not asked again and again"
        );

        let begin = at(-120);
        bench.shelf.set(Mood::SenselessAt(begin.ms()));
        bench.pass().await;
        bench.read().await;
        let heard = "select count(*) from call where provider_call_id = 'at last'";
        assert_eq!(
            house.number(heard).await,
            1,
            "what follows is listed all the same"
        );
        bench.shelf.questions();
        bench.set_time(away.plus_ms(5 * MINUTE));
        bench.shelf.set(Mood::Fine);
        bench.pass().await;
        let asked = bench.shelf.questions();
        let first = listed(begin, begin.plus_ms(DAY), "-");
        assert_eq!(asked[0], first, "the stretch is not given up");
        bench.read().await;
        assert_eq!(bench.recordings().await, 2);
    });
}

fn asking() -> Capabilities {
    Capabilities {
        can_ask: true,
        ..Capabilities::default()
    }
}

#[test]
fn a_call_without_its_recording_is_asked_for_with_growing_waits_until_the_vendors_time_is_over() {
    on_both(async |house| {
        let bench = bench(&house, Shelf::new(KEEPS, asking())).await;
        let cdr = json!({ "call": "silent", "ended_at": at(0).ms() });
        bench.hear(Door::Push, "cdr", cdr).await;
        let mut asked_at = Vec::new();
        for minute in (0..6 * 24 * 60).step_by(5) {
            bench.set_time(at(minute));
            bench.pass().await;
            if !bench.shelf.questions().is_empty() {
                asked_at.push(minute);
            }
        }
        // A quarter of an hour for the vendor's own notice, its plan of 10 and 20 minutes, then doubled.
        assert_eq!(asked_at, [15, 25, 45, 85, 165, 325, 645, 1285, 2565]);
        let waiting = "select count(*) from call where ask_at_ms is not null";
        assert_eq!(
            house.number(waiting).await,
            0,
            "the vendor has nothing any more"
        );
    });
}

#[test]
fn an_answer_ends_the_questions_and_counts_as_found_by_nobody_else() {
    on_both(async |house| {
        let keys = "expect_recordings = true\nexpect_within = \"5m\"";
        let bench = bench(&house, Shelf::new(keys, asking())).await;
        for call in ["told", "asked"] {
            let cdr = json!({ "call": call, "ended_at": at(0).ms() });
            bench.hear(Door::Push, &format!("cdr {call}"), cdr).await;
        }
        assert_eq!(bench.recordings().await, 2, "one is expected of each");
        let news = json!({ "call": "told", "recording": "told-1" });
        bench.hear(Door::Push, "rec told", news).await;
        bench
            .shelf
            .answers
            .lock()
            .unwrap()
            .insert("asked".into(), 2);
        bench.shelf.answers.lock().unwrap().insert("told".into(), 1);
        bench.set_time(at(5));
        let report = bench.pass().await;
        assert_eq!((report.asked, report.new), (1, 2));
        assert_eq!(bench.shelf.questions(), ["ask asked"]);
        bench.read().await;
        assert_eq!(bench.recordings().await, 3);
        assert_eq!(
            bench.unannounced().await,
            2,
            "the expected row is one of them"
        );
        assert_eq!(house.db.count_not_announced(at(10_000)).await.unwrap(), 0);
        bench.set_time(at(5).plus_ms(DAY));
        assert_eq!(bench.pass().await.asked, 0);
    });
}

#[test]
fn a_call_that_only_another_system_knew_is_asked_for_at_once() {
    on_both(async |house| {
        let bench = bench(&house, Shelf::new("", asking())).await;
        let known = json!({ "call": "imported", "known": true });
        bench.hear(Door::Import, "import", known).await;
        bench
            .shelf
            .answers
            .lock()
            .unwrap()
            .insert("imported".into(), 1);
        assert_eq!(bench.pass().await.asked, 1);
        bench.read().await;
        assert_eq!(bench.unannounced().await, 1);
        let status = house.db.status_view(at(0)).await.unwrap();
        assert_eq!(status.sources[0].found_by_sweep, 1);
    });
}

#[test]
fn a_notice_after_the_sweep_changes_nothing_and_one_before_it_counts_as_a_notice() {
    on_both(async |house| {
        let bench = bench(&house, Shelf::listed("")).await;
        let news = |call: &str| json!({ "call": call, "recording": format!("{call}-1") });
        bench.hear(Door::Push, "rec early", news("early")).await;
        bench.shelf.put(at(-5), "early");
        bench.shelf.put(at(-4), "late");
        let report = bench.pass().await;
        assert_eq!(report.new, 2);
        bench.read().await;
        bench.hear(Door::Push, "rec late", news("late")).await;
        assert_eq!(bench.recordings().await, 2);
        assert_eq!(bench.unannounced().await, 1);
    });
}

#[test]
fn refused_credentials_are_remembered_and_a_pass_goes_on_with_other_sources() {
    on_both(async |house| {
        let (bad, good) = (
            Shelf::named(
                "bad",
                "",
                Capabilities {
                    can_list: true,
                    ..asking()
                },
            ),
            Shelf::named(
                "good",
                "",
                Capabilities {
                    can_list: true,
                    ..asking()
                },
            ),
        );
        let bench = bench(&house, bad.clone()).await;
        bench
            .sources
            .replace([bad.clone() as Arc<dyn Provider>, good.clone()]);
        bad.set(Mood::Fails(ProviderErrorKind::CredentialsRefused));
        good.put(at(-1), "fine");
        let reports = bench.sweeper.pass(None, SCHEDULED).await;
        assert_eq!(reports[0].problems[0].code, "credentials_refused");
        assert_eq!((reports[1].new, reports[1].problems.len()), (1, 0));
        let faults = house.db.faults().await.unwrap();
        assert_eq!(faults.len(), 1);
        assert_eq!((faults[0].source.as_str(), faults[0].since), ("bad", at(0)));
        // It fails since then, however often it is tried.
        bench.set_time(at(30));
        bench.sweeper.pass(Some("bad"), SCHEDULED).await;
        let fault = house.db.faults().await.unwrap().remove(0);
        assert_eq!((fault.since, fault.last), (at(0), at(30)));
    });
}

fn both_doors() -> Capabilities {
    Capabilities {
        can_list: true,
        can_list_bucket: true,
        can_ask_bucket: true,
        ..asking()
    }
}

#[test]
fn a_bucket_is_read_once_in_a_pass_whatever_the_time_and_told_is_what_was_written_since() {
    on_both(async |house| {
        let bench = bench(&house, Shelf::new("provider_keeps = \"30d\"", both_doors())).await;
        let read = |from: Timestamp, pages: &[&str]| -> Vec<String> {
            let from = from.ms() / MINUTE;
            pages
                .iter()
                .map(|page| format!("bucket {from} {page}"))
                .collect()
        };
        let asked = || -> Vec<String> {
            let mut asked = bench.shelf.questions();
            asked.retain(|question| question.starts_with("bucket"));
            asked
        };
        let day = |n: i64| at(0).plus_ms(n * DAY);
        for (key, written) in [
            ("a", day(-20)),
            ("b", day(-40)),
            ("c", at(-5)),
            ("d", day(-3)),
            ("e", at(-9)),
        ] {
            bench.shelf.put_in_bucket(written, key);
        }
        assert_eq!(bench.pass().await.new, 4);
        assert_eq!(
            asked(),
            read(day(-30), &["-", "1", "2"]),
            "not once for each of thirty days"
        );
        bench.set_time(at(5));
        bench.shelf.put_in_bucket(at(4), "f");
        assert_eq!(bench.pass().await.new, 1);
        assert_eq!(asked(), read(at(-120), &["-", "1", "2"]));

        // The process dies in the middle; what is written meanwhile before its page is not missed.
        bench.set_time(at(200));
        bench.shelf.set_bucket(Mood::HangsAt(2));
        let dies = tokio::time::timeout(Duration::from_secs(1), bench.pass()).await;
        assert!(dies.is_err());
        asked();
        bench.shelf.set_bucket(Mood::Fine);
        bench.shelf.put_in_bucket(at(201), "aa");
        bench.set_time(at(210));
        let other = sweeper(&house, &bench.sources, &bench.intake, "i2");
        other.pass(None, SCHEDULED).await;
        assert_eq!(
            asked(),
            read(at(-115), &["2", "3"]),
            "gone on with at its page"
        );
        bench.set_time(at(215));
        other.pass(None, SCHEDULED).await;
        assert_eq!(asked()[0], read(at(80), &["-"])[0]);
        bench.read().await;
        assert_eq!(bench.recordings().await, 6);

        // A day later all of the vendor's time is due again.
        bench.set_time(day(1));
        assert_eq!(bench.pass().await.new, 0);
        assert_eq!(asked()[0], read(day(-29), &["-"])[0]);
        // A page that died: the next pass begins again.
        bench.set_time(day(1).plus_ms(5 * MINUTE));
        bench.shelf.set_bucket(Mood::TokensDie);
        assert_eq!(bench.pass().await.problems[0].code, "bad_answer");
        asked();
        bench.shelf.set_bucket(Mood::Fine);
        bench.pass().await;
        assert_eq!(asked()[0].rsplit_once(' ').unwrap().1, "-");
    });
}

#[test]
fn a_bucket_that_fails_is_a_standing_fault_and_holds_up_neither_list_nor_questions() {
    on_both(async |house| {
        let bench = bench(&house, Shelf::new(KEEPS, both_doors())).await;
        for call in ["a", "b"] {
            let cdr = json!({ "call": call, "ended_at": at(-60).ms() });
            bench.hear(Door::Push, &format!("cdr {call}"), cdr).await;
        }
        bench.shelf.answers.lock().unwrap().insert("b".into(), 1);
        bench.shelf.put(at(-1), "listed");
        for (minute, kind, code) in [
            (
                15,
                ProviderErrorKind::CannotListBucket,
                "cannot_list_bucket",
            ),
            (
                60,
                ProviderErrorKind::CredentialsRefused,
                "credentials_refused",
            ),
            (200, ProviderErrorKind::Unreachable, "provider_unreachable"),
        ] {
            bench.set_time(at(minute));
            bench.shelf.set_bucket(Mood::Fails(kind));
            let report = bench.pass().await;
            let codes: Vec<_> = report.problems.iter().map(|known| known.code).collect();
            assert_eq!(codes, [code]);
            assert_eq!(report.asked, 2, "the vendor answers all the same");
            let faults = house.db.faults().await.unwrap();
            let faults: Vec<_> = faults
                .iter()
                .map(|f| (f.doing.as_str(), f.code.as_str()))
                .collect();
            assert_eq!(faults, [("ask_bucket", code), ("list_bucket", code)]);
            let asked = bench.shelf.questions();
            assert_eq!(
                asked.iter().filter(|one| one.starts_with("bucket")).count(),
                1
            );
            let of_bucket = asked.iter().filter(|one| one.starts_with("ask bucket"));
            assert_eq!(
                of_bucket.count(),
                1,
                "left alone until the next pass: {asked:?}"
            );
        }
        let alarms = callvault::jobs::alarms::faults;
        let mut told = Vec::new();
        house
            .db
            .note_fault("shelf", "list_bucket", "cannot_list_bucket", at(201))
            .await
            .unwrap();
        alarms(&house.db, &bench.sources, at(201), &mut told)
            .await
            .unwrap();
        let codes: Vec<_> = told.iter().map(|alarm| alarm.code.as_str()).collect();
        assert_eq!(codes, ["cannot_list_bucket"]);
        bench.read().await;
        assert_eq!(bench.recordings().await, 2, "listed, and found by question");

        // The other way round: the bucket is asked while the vendor is away, and the calls stay due.
        bench.shelf.set_bucket(Mood::Fine);
        bench.shelf.put_in_bucket(at(-60), "a");
        bench.shelf.set(Mood::Fails(ProviderErrorKind::Unreachable));
        bench.set_time(at(600));
        let report = bench.pass().await;
        assert_eq!(report.new, 1, "{report:?}");
        assert_eq!(report.problems[0].code, "provider_unreachable");
        let asked = bench.shelf.questions();
        assert!(asked.contains(&"ask bucket a".to_owned()), "{asked:?}");
        bench.shelf.set(Mood::Fine);
        bench.set_time(at(605));
        bench.pass().await;
        assert!(bench.shelf.questions().contains(&"ask a".to_owned()));
        assert_eq!(house.db.faults().await.unwrap(), []);
        bench.read().await;
        assert_eq!(bench.recordings().await, 3);
    });
}
