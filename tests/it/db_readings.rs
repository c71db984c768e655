//! What notices say becomes calls and recordings, the same in any order.

use callvault::db::readings::SourceFacts;
use callvault::db::recordings::{Loaded, Settle};
use callvault::domain::call::{CallFacts, LegFacts, Party};
use callvault::domain::clock::Timestamp;
use callvault::domain::reading::{Announced, Link, Reading};
use callvault::domain::recording::{Part, State};
use serde_json::json;

use crate::db::*;

/// Three notices of one call as a vendor may send them: CDR, end of recording, forwarded auth.
fn three() -> [Reading; 3] {
    let mut cdr = call("c1", at(-5));
    cdr.aliases = vec!["group:g1".into()];
    cdr.recorded = Some(true);
    cdr.caller = Some("+8613900000001".into());
    cdr.legs = vec![LegFacts {
        provider_leg_id: "leg-a".into(),
        started_at: Some(at(-5)),
        ..LegFacts::default()
    }];
    let from_cdr = Announced {
        call_aliases: vec!["group:g1".into()],
        handle: json!({"call_ids": ["c1"]}),
        confirmed: true,
        clocks: callvault::domain::deadlines::Clocks {
            ready_after: Some(at(15)),
            gone_at: Some(at(0).plus_ms(30 * DAY)),
            link_until: None,
        },
        ..announced("c1", None)
    };
    let from_end = Announced {
        aliases: vec!["r:c1".into(), "group:g1".into()],
        part: Part::Mixed,
        handle: json!({"call_ids": ["b1"]}),
        ready_now: true,
        confirmed: true,
        ..announced("c1", Some(at(0).plus_ms(31 * DAY)))
    };
    let mut auth = CallFacts::new("c1");
    auth.callee = Some("057188881234".into());
    auth.parties = vec![Party {
        role: Some("agent".into()),
        name: Some("Wang".into()),
        ..Party::default()
    }];
    auth.custom.insert("lineNo".into(), json!(7));
    [
        reading(vec![cdr], vec![from_cdr]),
        reading(vec![], vec![from_end]),
        reading(vec![auth], vec![]),
    ]
}

/// Everything but our own ids and the work columns.
fn facts_of(loaded: &Loaded) -> serde_json::Value {
    let row = &loaded.row;
    json!({
        "call": row.call, "call_arrived_at": row.call_arrived_at, "part": row.part,
        "provider_recording_id": row.provider_recording_id, "handle": row.handle,
        "clocks": row.clocks, "arrived_at": row.arrived_at, "deadline_at": row.deadline_at,
        "confirmed_at": row.confirmed_at, "state": row.state, "aliases": loaded.aliases,
    })
}

#[test]
fn every_order_of_notices_and_their_repeats_gives_equal_rows() {
    let orders: [&[usize]; 8] = [
        &[0, 1, 2],
        &[0, 2, 1],
        &[1, 0, 2],
        &[1, 2, 0],
        &[2, 0, 1],
        &[2, 1, 0],
        &[0, 0, 1, 2, 1, 0],
        &[2, 1, 1, 0, 2, 0],
    ];
    let mut seen = std::collections::BTreeMap::new();
    let seen_in = std::sync::Mutex::new(&mut seen);
    for order in orders {
        on_both(async |house| {
            let notices = three();
            for &i in order {
                // Each notice came at one time, in whatever order it is read.
                let now = at(i64::try_from(i).unwrap());
                house
                    .db
                    .add_notice(notice("feiyu-main", now))
                    .await
                    .unwrap();
                let claimed = house.claim_notice(at(3)).await;
                house
                    .db
                    .apply_reading(&claimed, &feiyu(), &notices[i], at(3))
                    .await
                    .unwrap();
            }
            let views = house
                .db
                .recordings_of_call("feiyu-main", "group:g1")
                .await
                .unwrap();
            assert_eq!(views.len(), 1, "{order:?}");
            let loaded = house.db.load(views[0].recording_id.unwrap()).await.unwrap();
            assert_eq!(loaded.row.call.callee.as_deref(), Some("057188881234"));
            assert_eq!(loaded.row.handle, json!({"call_ids": ["b1", "c1"]}));
            let facts = facts_of(&loaded).to_string();
            seen_in
                .lock()
                .unwrap()
                .entry(facts)
                .or_insert_with(Vec::new)
                .push(order);
        });
    }
    assert_eq!(seen.len(), 1, "{seen:#?}");
}

#[test]
fn a_repeat_that_says_nothing_new_changes_no_row() {
    on_both(async |house| {
        let [cdr, end, auth] = three();
        for reading in [&cdr, &end, &auth] {
            house.tell(reading, &feiyu(), at(0)).await;
        }
        let id = house
            .db
            .recordings_of_call("feiyu-main", "c1")
            .await
            .unwrap()[0]
            .recording_id
            .unwrap();
        let before = house.db.load(id).await.unwrap();
        for reading in [&auth, &cdr, &end] {
            let applied = house.tell(reading, &feiyu(), at(1)).await;
            assert_eq!((applied.recordings_new, applied.recordings_changed), (0, 0));
            assert_eq!(applied.calls, 0);
        }
        let after = house.db.load(id).await.unwrap();
        assert_eq!(after.row, before.row);
        assert_eq!(
            after.notices.len(),
            before.notices.len() + 2,
            "but the notices are linked"
        );
    });
}

#[test]
fn ready_now_pulls_the_next_try_forward_and_never_back() {
    on_both(async |house| {
        let [cdr, end, _] = three();
        house.tell(&cdr, &feiyu(), at(0)).await;
        assert!(
            house.claim(at(14), 1).await.is_empty(),
            "the vendor said 15 minutes"
        );
        let leased = house.claim(at(15), 1).await.remove(0);
        let later = Settle::Retry {
            at: at(100),
            reason: "not_ready".into(),
            count: callvault::db::recordings::Count::NotReady,
        };
        house.db.settle(&leased.lease, later, at(15)).await.unwrap();
        house.tell(&end, &feiyu(), at(20)).await;
        assert_eq!(house.claim(at(20), 1).await.len(), 1);
    });
}

#[test]
fn a_new_sign_of_life_wakes_what_was_given_up() {
    on_both(async |house| {
        let [cdr, end, _] = three();
        house.tell(&cdr, &feiyu(), at(0)).await;
        let leased = house.claim(at(15), 1).await.remove(0);
        let lost = Settle::Lost {
            reason: "gone".into(),
            evidence: "404".into(),
        };
        house.db.settle(&leased.lease, lost, at(16)).await.unwrap();
        assert!(house.claim(at(1000), 1).await.is_empty());
        house.tell(&end, &feiyu(), at(20)).await;
        let again = house.claim(at(20), 1).await.remove(0);
        assert_eq!(again.loaded.row.state, State::Pending);
        assert_eq!(again.loaded.row.reason, None);
        let id = again.lease.recording_id;
        let view = house.db.show_recording(id).await.unwrap().unwrap();
        let history: Vec<_> = view.recordings[0]
            .history
            .iter()
            .map(|h| h.to.as_str())
            .collect();
        assert_eq!(history, ["pending", "lost", "pending"]);
        assert_eq!(
            view.recordings[0].history[1].reason.as_deref(),
            Some("gone")
        );
    });
}

#[test]
fn a_late_fact_of_an_archived_recording_asks_for_a_manifest() {
    on_both(async |house| {
        let [cdr, end, auth] = three();
        house.tell(&cdr, &feiyu(), at(0)).await;
        let leased = house.claim(at(15), 1).await.remove(0);
        house.archive(&leased, b"sound", at(16)).await;
        let done = Settle::AccessDone;
        // The manifest that tells of the access copy.
        let folder = house
            .db
            .load(leased.lease.recording_id)
            .await
            .unwrap()
            .row
            .folder
            .unwrap();
        let (manifest, proof) = object(
            &folder,
            callvault::domain::recording::Role::Manifest,
            2,
            b"{2}",
            at(16),
        );
        house
            .db
            .add_object(&leased.lease, manifest, at(16))
            .await
            .unwrap();
        // A fact arrives while it is being put.
        house.tell(&auth, &feiyu(), at(16)).await;
        house
            .db
            .mark_verified(&leased.lease, &proof, None, at(16))
            .await
            .unwrap();
        house
            .db
            .settle(&leased.lease, done.clone(), at(17))
            .await
            .unwrap();
        let again = house.claim(at(17), 1).await.remove(0);
        assert!(again.loaded.row.manifest_due && !again.loaded.row.access_due);
        let (manifest, proof) = object(
            &folder,
            callvault::domain::recording::Role::Manifest,
            3,
            b"{3}",
            at(17),
        );
        house
            .db
            .add_object(&again.lease, manifest, at(17))
            .await
            .unwrap();
        house
            .db
            .mark_verified(&again.lease, &proof, None, at(17))
            .await
            .unwrap();
        house
            .db
            .settle(&again.lease, Settle::Done, at(17))
            .await
            .unwrap();
        assert!(house.claim(at(999), 1).await.is_empty());
        // A repeat writes none; the end of recording brings an alias and a part.
        house.tell(&auth, &feiyu(), at(18)).await;
        assert!(house.claim(at(999), 1).await.is_empty());
        house.tell(&end, &feiyu(), at(19)).await;
        assert_eq!(house.claim(at(19), 1).await.len(), 1);
    });
}

#[test]
fn two_calls_that_turn_out_to_be_one_are_joined() {
    on_both(async |house| {
        let one = |id: &str, aliases: &[&str]| CallFacts {
            aliases: aliases.iter().map(|a| (*a).to_owned()).collect(),
            ..call(id, at(0))
        };
        house
            .tell(
                &reading(vec![one("a", &[])], vec![announced("a", None)]),
                &feiyu(),
                at(0),
            )
            .await;
        house
            .tell(
                &reading(vec![one("b", &[])], vec![announced("b", None)]),
                &feiyu(),
                at(1),
            )
            .await;
        house
            .tell(
                &reading(vec![one("b", &["a", "group:x"])], vec![]),
                &feiyu(),
                at(2),
            )
            .await;
        for name in ["a", "b", "group:x"] {
            let views = house
                .db
                .recordings_of_call("feiyu-main", name)
                .await
                .unwrap();
            assert_eq!(views.len(), 2, "{name}");
            assert_eq!(views[0].provider_call_id, "a");
        }
        assert_eq!(house.number("select count(*) from call").await, 1);
        let targets = house.db.resolve_id("b").await.unwrap();
        assert_eq!(targets.len(), 1);
    });
}

#[test]
fn one_recording_announced_under_two_names_becomes_one_row() {
    on_both(async |house| {
        let named = |names: &[&str]| Announced {
            aliases: names.iter().map(|n| (*n).to_owned()).collect(),
            ..announced("a", None)
        };
        house
            .tell(&reading(vec![], vec![named(&["by-id"])]), &feiyu(), at(0))
            .await;
        house
            .tell(&reading(vec![], vec![named(&["by-path"])]), &feiyu(), at(1))
            .await;
        assert_eq!(house.number("select count(*) from recording").await, 2);
        house
            .tell(
                &reading(vec![], vec![named(&["by-id", "by-path"])]),
                &feiyu(),
                at(2),
            )
            .await;
        let claimed = house.claim(at(3), 9).await;
        assert_eq!(claimed.len(), 1);
        assert_eq!(claimed[0].loaded.aliases, ["by-id", "by-path"]);
        assert_eq!(claimed[0].loaded.notices.len(), 3);
    });
}

#[test]
fn the_link_that_lives_longer_is_kept_and_rules_the_deadline() {
    on_both(async |house| {
        let with = |url: &str, until: Timestamp| Announced {
            link: Some(Link {
                url: url.into(),
                until: Some(until),
            }),
            ..announced("a", None)
        };
        let facts = SourceFacts {
            link_renewable: false,
            provider_keeps_ms: None,
            ..feiyu()
        };
        for (url, until) in [
            ("https://x/1", at(60)),
            ("https://x/2", at(90)),
            ("https://x/3", at(30)),
        ] {
            house
                .tell(&reading(vec![], vec![with(url, until)]), &facts, at(0))
                .await;
        }
        let row = house.claim(at(1), 1).await.remove(0).loaded.row;
        assert_eq!(row.link.unwrap().url, "https://x/2");
        assert_eq!(row.clocks.link_until, Some(at(90)));
        assert_eq!(row.deadline_at, at(90));
        assert_eq!(row.clocks.gone_at, None);
    });
}

#[test]
fn a_link_is_renewable_once_any_notice_says_so_whatever_the_source_can() {
    on_both(async |house| {
        let facts = SourceFacts {
            link_renewable: false,
            provider_keeps_ms: None,
            ..feiyu()
        };
        for (name, first) in [("a", None), ("b", Some(true))] {
            let with = |link_renewable| Announced {
                link: Some(Link {
                    url: "https://x/1".into(),
                    until: Some(at(60)),
                }),
                link_renewable,
                ..announced(name, None)
            };
            let second = if first.is_none() { Some(true) } else { None };
            for told in [first, second] {
                house
                    .tell(&reading(vec![], vec![with(told)]), &facts, at(0))
                    .await;
            }
        }
        for leased in house.claim(at(1), 2).await {
            let row = leased.loaded.row;
            assert!(row.link_renewable);
            assert_eq!(
                row.deadline_at,
                at(0).plus_ms(7 * DAY),
                "not the link's end"
            );
            assert!(!row.clocks.is_over(row.link_renewable, at(61)));
        }
    });
}

#[test]
fn a_talked_call_without_a_recording_is_watched() {
    on_both(async |house| {
        let facts = SourceFacts {
            expect_within_ms: Some(30 * MINUTE),
            ..feiyu()
        };
        let cdr = reading(vec![call("a", at(0))], vec![]);
        house.tell(&cdr, &facts, at(2)).await;
        let db = &house.db;
        assert_eq!(db.count_not_announced(at(30)).await.unwrap(), 0);
        assert_eq!(db.count_not_announced(at(31)).await.unwrap(), 1);
        let alarm = &db.status_view(at(31)).await.unwrap().alarms[0];
        assert_eq!(
            (alarm.code.as_str(), alarm.count),
            ("recording_not_announced", 1)
        );
        assert_eq!(alarm.since, Some(at(31)));
        let view = &db.recordings_of_call("feiyu-main", "a").await.unwrap()[0];
        assert_eq!((view.state.as_str(), view.recording_id), ("none", None));
        house
            .tell(&reading(vec![], vec![announced("a", None)]), &facts, at(40))
            .await;
        assert_eq!(db.count_not_announced(at(41)).await.unwrap(), 0);
    });
}

#[test]
fn one_notice_with_a_wrong_end_neither_loses_a_recording_nor_lets_it_sleep() {
    on_both(async |house| {
        let facts = feiyu();
        let ends = |start| reading(vec![call("a", start)], vec![announced("a", None)]);
        let clocks = async || {
            let db = &house.db;
            db.recordings_of_call("feiyu-main", "a").await.unwrap()[0].clone()
        };
        // The end lies twenty years back: the vendor's days are over, by this one notice's word.
        let long_ago = at(0).plus_ms(-20 * 365 * DAY);
        house.tell(&ends(long_ago), &facts, at(2)).await;
        assert_eq!(clocks().await.gone_at, Some(at(2).plus_ms(DAY)));
        // Another notice tells it right, in either order.
        house.tell(&ends(at(0)), &facts, at(3)).await;
        assert_eq!(clocks().await.gone_at, Some(at(1).plus_ms(30 * DAY)));
        house.tell(&ends(long_ago), &facts, at(4)).await;
        assert_eq!(clocks().await.gone_at, Some(at(1).plus_ms(30 * DAY)));

        // Not before ten years from now, says one notice of another call; it is tried in time all the same.
        let late = |call: &str, ready| {
            let mut recording = announced(call, None);
            recording.clocks.ready_after = Some(ready);
            reading(vec![], vec![recording])
        };
        let in_ten_years = at(0).plus_ms(3650 * DAY);
        house.tell(&late("b", in_ten_years), &facts, at(5)).await;
        let view = house
            .db
            .recordings_of_call("feiyu-main", "b")
            .await
            .unwrap()[0]
            .clone();
        assert!(view.next_try_at < view.gone_at, "{view:?}");
        house.tell(&late("b", at(20)), &facts, at(6)).await;
        let view = house
            .db
            .recordings_of_call("feiyu-main", "b")
            .await
            .unwrap()[0]
            .clone();
        assert_eq!(view.next_try_at, Some(at(20)));
    });
}

#[test]
fn an_expected_recording_is_the_one_that_is_announced_later() {
    on_both(async |house| {
        let facts = SourceFacts {
            expect_recordings: true,
            ..feiyu()
        };
        let applied = house
            .tell(&reading(vec![call("a", at(0))], vec![]), &facts, at(2))
            .await;
        assert_eq!(applied.recordings_new, 1);
        let quiet = CallFacts {
            talked: Some(false),
            ..call("b", at(0))
        };
        house
            .tell(&reading(vec![quiet], vec![]), &facts, at(2))
            .await;
        house
            .tell(&reading(vec![], vec![announced("a", None)]), &facts, at(3))
            .await;
        let claimed = house.claim(at(3), 9).await;
        assert_eq!(claimed.len(), 1);
        assert_eq!(claimed[0].loaded.aliases, ["r:a"]);
        assert_eq!(
            claimed[0].loaded.row.clocks.gone_at,
            Some(at(1).plus_ms(30 * DAY))
        );
    });
}

#[test]
fn workers_that_meet_over_one_call_make_it_once() {
    on_both(async |house| {
        for _ in 0..12 {
            house
                .db
                .add_notice(notice("feiyu-main", at(0)))
                .await
                .unwrap();
        }
        let neighbour = house.neighbour().await;
        let claimed = house
            .db
            .claim_notices(12, "i1", &sources(), at(0), LEASE)
            .await
            .unwrap();
        let tasks: Vec<_> = claimed
            .into_iter()
            .enumerate()
            .map(|(i, claimed)| {
                let db = if i % 2 == 0 {
                    house.db.clone()
                } else {
                    neighbour.clone()
                };
                tokio::spawn(async move {
                    let told = &three()[i % 3];
                    db.apply_reading(&claimed, &feiyu(), told, at(0))
                        .await
                        .unwrap();
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(house.number("select count(*) from call").await, 1);
        assert_eq!(house.number("select count(*) from recording").await, 1);
        assert!(house.db.all_notices_read().await.unwrap());
    });
}
