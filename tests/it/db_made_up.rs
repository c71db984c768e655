//! A call whose id was made from a file's name gives way to the call that is there, whichever is told first.

use callvault::db::recordings::Settle;
use callvault::domain::call::{CallFacts, Place};
use callvault::domain::reading::{Announced, Reading};

use crate::db::*;

const MADE_UP: &str = "STREAM_main@FILE";

fn file(call: &str) -> Announced {
    Announced {
        aliases: vec!["vod/FILE".to_owned()],
        ..announced(call, None)
    }
}

/// The vendor's list knows the file alone.
fn listed() -> Reading {
    let facts = CallFacts {
        made_up: true,
        started_at: Some(at(-9)),
        ..CallFacts::new(MADE_UP)
    };
    reading(vec![facts], vec![file(MADE_UP)])
}

/// Its callback knows where and when.
fn told() -> Reading {
    let mut facts = call("STREAM_main@1700000000", at(-10));
    facts.is_cdr = false;
    facts.place = Some(Place {
        name: "room".to_owned(),
        or: None,
        at: at(-10),
        opens: false,
    });
    let file = file(&facts.provider_call_id);
    reading(vec![facts], vec![file])
}

/// The life of the room, which names the call.
fn room() -> Reading {
    let mut facts = call("app_room_1699999999", at(-11));
    facts.place = Some(Place {
        name: "room".to_owned(),
        or: None,
        at: at(-11),
        opens: true,
    });
    reading(vec![facts], vec![])
}

#[test]
fn a_made_up_call_takes_no_recording_away_and_gives_way_in_any_order() {
    const WAYS: [[fn() -> Reading; 4]; 5] = [
        [room, told, listed, listed],
        [told, listed, room, listed],
        [listed, told, room, listed],
        [listed, listed, room, told],
        [room, listed, told, listed],
    ];
    on_both(async |house| {
        for (n, way) in WAYS.iter().enumerate() {
            for table in [
                "recording_alias",
                "recording_event",
                "archive_object",
                "search_key",
                "call_leg",
                "call_alias",
                "notice_link",
                "recording",
                "call",
            ] {
                house.sql(&format!("delete from {table}")).await;
            }
            for (minute, step) in way.iter().enumerate() {
                let now = at(minute as i64);
                house.tell(&step(), &feiyu(), now).await;
                // As late as the list is walked, the recording is in the archive.
                for leased in house.claim(now, 9).await {
                    if leased.loaded.row.archived_at.is_none() {
                        house.archive(&leased, b"sound", now).await;
                    }
                    let _ = house.db.settle(&leased.lease, Settle::Done, now).await;
                }
            }
            for table in ["call", "recording"] {
                let rows = house.number(&format!("select count(*) from {table}")).await;
                assert_eq!(rows, 1, "way {n}: {table}");
            }
            // Either id finds it, and the vendor's own names it.
            for name in [MADE_UP, "app_room_1699999999"] {
                let views = house.db.recordings_of_call("feiyu-main", name).await;
                let views = views.unwrap();
                assert_eq!(views.len(), 1, "way {n}: {name}");
                assert_eq!(views[0].provider_call_id, "app_room_1699999999", "way {n}");
            }
        }
    });
}

#[test]
fn a_call_that_nothing_but_a_file_tells_of_keeps_its_made_up_id() {
    on_both(async |house| {
        for minute in 0..2 {
            house.tell(&listed(), &feiyu(), at(minute)).await;
        }
        let views = house.db.recordings_of_call("feiyu-main", MADE_UP).await;
        assert_eq!(views.unwrap().len(), 1);
        assert_eq!(house.number("select count(*) from call").await, 1);
    });
}
