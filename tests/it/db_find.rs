//! Search, show, status, the audit trail, and rows made again from manifests.

use callvault::db::audit::AuditEvent;
use callvault::db::recordings::Settle;
use callvault::db::search::{Query, Target};
use callvault::domain::call::{CallFacts, Direction, Party};
use callvault::domain::manifest::{
    Manifest, ManifestCall, ManifestObject, ManifestRecording, SCHEMA,
};
use callvault::domain::recording::Role;
use serde_json::json;

use crate::db::*;

/// Three calls: an archived one, a pending one, and one without a recording.
async fn fill(house: &House) {
    let wang = CallFacts {
        caller: Some("+86 139-0000-0001".into()),
        callee: Some("057188881234".into()),
        direction: Some(Direction::Inbound),
        correlation_ids: vec!["CRM-77".into()],
        parties: vec![Party {
            role: Some("agent".into()),
            id: Some("agent7".into()),
            name: Some("Wang Li".into()),
            number: None,
        }],
        ..call("100200300", at(0))
    };
    house
        .tell(
            &reading(vec![wang], vec![announced("100200300", None)]),
            &feiyu(),
            at(5),
        )
        .await;
    let leased = house.claim(at(5), 1).await.remove(0);
    house.archive(&leased, b"sound", at(6)).await;
    house
        .db
        .settle(&leased.lease, Settle::AccessDone, at(6))
        .await
        .unwrap();
    let wu = CallFacts {
        caller: Some("13900000002".into()),
        direction: Some(Direction::Outbound),
        duration_ms: Some(600_000),
        ..call("Call-B", at(60))
    };
    house
        .tell(
            &reading(vec![wu], vec![announced("Call-B", None)]),
            &feiyu(),
            at(70),
        )
        .await;
    let none = CallFacts {
        caller: Some("13900000001".into()),
        ..call("call-c", at(120))
    };
    house
        .tell(&reading(vec![none], vec![]), &feiyu(), at(130))
        .await;
}

async fn found(house: &House, query: &Query) -> Vec<String> {
    let page = house.db.search(query, None, 100).await.unwrap();
    assert_eq!(page.next, None);
    page.items
        .into_iter()
        .map(|item| item.provider_call_id)
        .collect()
}

#[test]
fn search_finds_by_every_filter() {
    on_both(async |house| {
        fill(&house).await;
        let (a, b, c) = ("100200300", "Call-B", "call-c");
        for (text, expected) in [
            ("", vec![c, b, a]),
            ("0001", vec![c, a]),
            ("001", vec![c, a]),
            ("13", vec![]),
            ("13900000001", vec![c, a]),
            ("139", vec![]),
            ("88881234", vec![a]),
            ("0571-8888-1234", vec![a]),
            ("100200300", vec![a]),
            ("200300", vec![]),
            ("wang", vec![a]),
            ("WANG li", vec![a]),
            ("ang", vec![]),
            ("call", vec![c, b]),
            ("CALL-b", vec![b]),
            ("crm", vec![a]),
            ("crm-77 0001", vec![a]),
            ("crm-77 0002", vec![]),
            ("rec-call", vec![b]),
            ("'; drop table call;--", vec![]),
            ("%", vec![]),
        ] {
            let query = Query {
                text: text.into(),
                ..Query::default()
            };
            assert_eq!(found(&house, &query).await, expected, "text {text:?}");
        }
        let number = |number: &str| Query {
            number: Some(number.into()),
            ..Query::default()
        };
        for (text, expected) in [
            ("+86 139 0000 0001", vec![a]),
            ("008613900000001", vec![a]),
            ("13900000001", vec![c, a]),
            ("+13900000001", vec![]),
            ("(0001)", vec![c, a]),
            ("abc", vec![]),
        ] {
            assert_eq!(
                found(&house, &number(text)).await,
                expected,
                "number {text:?}"
            );
        }
        let base = Query::default;
        let some = |text: &str| Some(text.to_owned());
        for (query, expected) in [
            (
                Query {
                    source: some("feiyu-main"),
                    ..base()
                },
                vec![c, b, a],
            ),
            (
                Query {
                    source: some("other"),
                    ..base()
                },
                vec![],
            ),
            (
                Query {
                    party: some("AGENT7"),
                    ..base()
                },
                vec![a],
            ),
            (
                Query {
                    party: some("agent"),
                    ..base()
                },
                vec![],
            ),
            (
                Query {
                    party: some("wang l"),
                    ..base()
                },
                vec![a],
            ),
            (
                Query {
                    direction: Some(Direction::Outbound),
                    ..base()
                },
                vec![b],
            ),
            (
                Query {
                    state: some("archived"),
                    ..base()
                },
                vec![a],
            ),
            (
                Query {
                    state: some("pending"),
                    ..base()
                },
                vec![b],
            ),
            (
                Query {
                    state: some("none"),
                    ..base()
                },
                vec![c],
            ),
            (
                Query {
                    min_duration_ms: Some(600_000),
                    ..base()
                },
                vec![b],
            ),
            (
                Query {
                    max_duration_ms: Some(599_999),
                    ..base()
                },
                vec![c, a],
            ),
            (
                Query {
                    from: Some(at(60)),
                    ..base()
                },
                vec![c, b],
            ),
            (
                Query {
                    to: Some(at(60)),
                    ..base()
                },
                vec![a],
            ),
            (
                Query {
                    from: Some(at(60)),
                    to: Some(at(61)),
                    text: "call".into(),
                    ..base()
                },
                vec![b],
            ),
            (
                Query {
                    state: some("none"),
                    text: "0001".into(),
                    ..base()
                },
                vec![c],
            ),
        ] {
            assert_eq!(found(&house, &query).await, expected, "{query:?}");
        }
    });
}

#[test]
fn pages_follow_each_other_without_gap_or_repeat() {
    on_both(async |house| {
        for i in 0..23 {
            // Several at one moment, and every third without a recording.
            let id = format!("c{i:02}");
            let recordings = if i % 3 == 0 {
                vec![]
            } else {
                vec![announced(&id, None)]
            };
            house
                .tell(
                    &reading(vec![call(&id, at(i / 5))], recordings),
                    &feiyu(),
                    at(i),
                )
                .await;
        }
        let query = Query::default();
        let whole = house.db.search(&query, None, 100).await.unwrap();
        assert_eq!((whole.items.len(), whole.next), (23, None));
        for size in [1, 4, 23] {
            let mut after = None;
            let mut seen = Vec::new();
            loop {
                let page = house
                    .db
                    .search(&query, after.as_deref(), size)
                    .await
                    .unwrap();
                if let Some(last) = page.items.last() {
                    assert!(page.next.is_none() || page.next.as_ref() == Some(&last.cursor));
                }
                seen.extend(page.items.into_iter().map(|item| item.provider_call_id));
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            let all: Vec<_> = whole
                .items
                .iter()
                .map(|item| item.provider_call_id.clone())
                .collect();
            assert_eq!(seen, all, "pages of {size}");
        }
        let bad = house
            .db
            .search(&query, Some("nonsense"), 1)
            .await
            .unwrap_err();
        assert!(bad.is_bad_cursor());
    });
}

#[test]
fn an_id_is_a_recording_a_call_or_ambiguous() {
    on_both(async |house| {
        fill(&house).await;
        let db = &house.db;
        let view = db
            .recordings_of_call("feiyu-main", "100200300")
            .await
            .unwrap()
            .remove(0);
        let (recording, call_id) = (view.recording_id.unwrap(), view.call_id);
        for (id, expected) in [
            (recording.to_string(), vec![Target::Recording(recording)]),
            (call_id.to_string(), vec![Target::Call(call_id)]),
            ("100200300".to_owned(), vec![Target::Call(call_id)]),
            (
                "rec-100200300".to_owned(),
                vec![Target::Recording(recording)],
            ),
            ("crm-77".to_owned(), vec![Target::Call(call_id)]),
            ("unknown".to_owned(), vec![]),
            (uuid::Uuid::nil().to_string(), vec![]),
        ] {
            assert_eq!(db.resolve_id(&id).await.unwrap(), expected, "{id}");
        }
        let twin = CallFacts {
            correlation_ids: vec!["CRM-77".into()],
            ..call("twin", at(200))
        };
        house
            .tell(&reading(vec![twin], vec![]), &feiyu(), at(201))
            .await;
        assert_eq!(db.resolve_id("CRM-77").await.unwrap().len(), 2);

        let show = db.show_call(call_id).await.unwrap().unwrap();
        assert_eq!(show.call.parties[0].name.as_deref(), Some("Wang Li"));
        assert_eq!(show.call.notices.len(), 1);
        let shown = &show.recordings[0];
        assert_eq!(shown.objects.len(), 2);
        assert_eq!(shown.notices[0].result, "read");
        let states: Vec<_> = shown.history.iter().map(|h| h.to.as_str()).collect();
        assert_eq!(states, ["pending", "staged", "archived"]);
        assert_eq!(shown.recording.original.as_ref().unwrap().bytes, 5);
        assert_eq!(shown.recording.next_try_at, None);
        assert!(shown.recording.slack_s.unwrap() > 29 * 24 * 3600);
        assert!(db.show_call(uuid::Uuid::nil()).await.unwrap().is_none());
    });
}

#[test]
fn status_tells_queues_oldest_work_and_slack() {
    on_both(async |house| {
        fill(&house).await;
        house
            .db
            .add_notice(notice("aliyun-main", at(140)))
            .await
            .unwrap();
        let status = house.db.status_view(at(150)).await.unwrap();
        assert_eq!(status.queues.notices.waiting, 1);
        assert_eq!(status.queues.recordings["archived"], 1);
        assert_eq!(status.queues.recordings["pending"], 1);
        assert_eq!(status.queues.recordings.len(), 8);
        assert_eq!(status.queues.transcode_waiting, 0);
        assert_eq!(status.oldest_work_at, Some(at(70)));
        assert_eq!(status.least_slack.unwrap().seconds, 30 * 24 * 3600 - 5 * 60);
        let names: Vec<_> = status.sources.iter().map(|s| s.source.as_str()).collect();
        assert_eq!(names, ["aliyun-main", "feiyu-main"]);
        assert_eq!(status.sources[1].archived, 1);
        let by_source = house.db.count_by_source().await.unwrap();
        assert_eq!(by_source[0], ("feiyu-main".into(), "archived".into(), 1));
    });
}

#[test]
fn the_audit_trail_keeps_who_saw_what() {
    on_both(async |house| {
        let event = AuditEvent {
            actor: "cli:anna".into(),
            action: "search".into(),
            subject: "0001".into(),
            detail: json!({"n": 1}),
            from: "local".into(),
            at: at(1),
        };
        house.db.audit(event.clone()).await.unwrap();
        assert_eq!(house.db.audit_trail(5).await.unwrap(), [event]);
    });
}

#[test]
fn manifests_give_back_equal_rows_in_an_empty_database() {
    on_both(async |house| {
        let mut facts = call("a", at(0));
        facts.aliases = vec!["group:g".into()];
        facts.caller = Some("+8613900000001".into());
        facts.legs = vec![callvault::domain::call::LegFacts {
            provider_leg_id: "leg".into(),
            ..Default::default()
        }];
        house
            .tell(
                &reading(vec![facts], vec![announced("a", None)]),
                &feiyu(),
                at(1),
            )
            .await;
        let leased = house.claim(at(1), 1).await.remove(0);
        house.archive(&leased, b"sound", at(2)).await;
        house
            .db
            .settle(&leased.lease, Settle::AccessDone, at(2))
            .await
            .unwrap();
        let id = leased.lease.recording_id;
        let before = house.db.load(id).await.unwrap();
        let manifest = manifest_of(&before);
        let bytes = manifest.to_bytes().unwrap();
        let manifest = Manifest::from_bytes(&bytes).unwrap();
        let folder = before.row.folder.clone().unwrap();
        let (_, proof) = object(&folder, Role::Manifest, 1, b"{}", at(2));
        let stored = callvault::db::rebuild::StoredManifest {
            n: 1,
            object_id: manifest.object_id,
            written_at: manifest.written_at,
            proof,
        };

        let held = manifest
            .objects
            .iter()
            .map(|object| (object.key.to_string(), object.bytes))
            .collect();
        let empty = sqlite(Some(true)).await;
        for _ in 0..2 {
            empty
                .db
                .insert_manifest(&manifest, std::slice::from_ref(&stored), &held, at(90))
                .await
                .unwrap();
        }
        assert_eq!(empty.db.count_recordings().await.unwrap(), 1);
        let after = empty.db.load(id).await.unwrap();
        assert_eq!(after.row.call, before.row.call);
        assert_eq!(after.row.clocks, before.row.clocks);
        assert_eq!(after.row.archived_at, before.row.archived_at);
        assert_eq!(after.row.folder, before.row.folder);
        assert_eq!(
            (after.aliases, after.notices),
            (before.aliases, before.notices)
        );
        let originals = |objects: Vec<callvault::db::recordings::ObjectRow>| {
            let of = objects.into_iter().filter(|o| o.role == Role::Original);
            of.collect::<Vec<_>>()
        };
        assert_eq!(originals(after.objects), originals(before.objects));
        let query = Query {
            text: "0001".into(),
            ..Query::default()
        };
        let (there, here) = (found(&house, &query).await, found(&empty, &query).await);
        assert_eq!(there, here);
        assert_eq!(
            empty.db.resolve_id("rec-a").await.unwrap(),
            [Target::Recording(id)]
        );
        assert_eq!(empty.db.resolve_id("group:g").await.unwrap().len(), 1);
    });
}

#[test]
fn manifests_from_before_and_after_two_calls_were_joined_give_one_call_in_any_order() {
    on_both(async |house| {
        let mut manifests = Vec::new();
        for (n, name) in [(1, "a"), (2, "b")] {
            house
                .tell(
                    &reading(vec![call(name, at(0))], vec![announced(name, None)]),
                    &feiyu(),
                    at(n),
                )
                .await;
            let leased = house.claim(at(n), 1).await.remove(0);
            house.archive(&leased, name.as_bytes(), at(n)).await;
            house
                .db
                .settle(&leased.lease, Settle::AccessDone, at(n))
                .await
                .unwrap();
            let loaded = house.db.load(leased.lease.recording_id).await.unwrap();
            manifests.push(manifest_of(&loaded));
        }
        let first = manifests[0].call.call_id;
        assert!(first < manifests[1].call.call_id);
        // A late CDR joined them; only the first recording's manifest tells of it.
        manifests[0].call.facts.aliases.push("b".into());
        for order in [[0, 1], [1, 0]] {
            let empty = sqlite(Some(true)).await;
            for i in order {
                let manifest = &manifests[i];
                let held = manifest
                    .objects
                    .iter()
                    .map(|object| (object.key.to_string(), object.bytes))
                    .collect();
                empty
                    .db
                    .insert_manifest(manifest, &[], &held, at(90))
                    .await
                    .unwrap();
            }
            let views = empty
                .db
                .recordings_of_call("feiyu-main", "a")
                .await
                .unwrap();
            assert_eq!(views.len(), 2, "{order:?}");
            for manifest in &manifests {
                let id = manifest.recording.recording_id;
                assert_eq!(empty.db.load(id).await.unwrap().row.call_id, first);
            }
            assert_eq!(empty.db.count_not_rebuilt().await.unwrap(), 0);
        }
    });
}

fn manifest_of(loaded: &callvault::db::recordings::Loaded) -> Manifest {
    let row = &loaded.row;
    let mut facts = row.call.clone();
    let legs = std::mem::take(&mut facts.legs);
    Manifest {
        united_into: None,
        object_id: uuid::Uuid::from_u128(1),
        written_at: at(1),
        schema: SCHEMA.into(),
        n: 2,
        source: row.source.clone(),
        kind: row.kind.clone(),
        folder: row.folder.as_ref().unwrap().as_str().into(),
        call: ManifestCall {
            call_id: row.call_id,
            facts,
            arrived_at: row.call_arrived_at,
        },
        legs,
        recording: ManifestRecording {
            recording_id: row.recording_id,
            provider_recording_id: row.provider_recording_id.clone(),
            aliases: loaded.aliases.clone(),
            part: row.part,
            began_at: None,
            party: None,
            arrived_at: row.arrived_at,
            clocks: row.clocks,
            confirmed_at: row.confirmed_at,
            archived_at: row.archived_at,
            notes: row.notes.clone(),
        },
        objects: loaded
            .objects
            .iter()
            .filter(|o| o.role != Role::Manifest)
            .map(|o| ManifestObject {
                object_id: o.object_id,
                role: o.role,
                n: o.n,
                key: o.key.clone(),
                bytes: o.bytes,
                sha256: o.sha256,
                mime: o.mime.clone(),
                version_id: o.version_id.clone(),
                codec: o.codec.clone(),
                sample_rate_hz: o.sample_rate_hz,
                channels: o.channels,
                duration_ms: o.duration_ms,
                created_at: o.created_at,
                verified_at: o.verified_at,
                made_from: o.made_from,
                tool: o.tool.clone(),
                settings: o.settings.clone(),
            })
            .collect(),
        notices: loaded.notices.clone(),
    }
}
