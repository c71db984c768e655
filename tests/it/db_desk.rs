//! What people leave beside calls, and the numbers of the page of operations, on both databases.

use callvault::db::search::Query;
use callvault::domain::call::CallFacts;
use callvault::domain::clock::Timestamp;
use uuid::Uuid;

use crate::db::*;

/// Two calls with a recording each, the first told of an hour before the second: (call, recording) of both.
async fn two(house: &House) -> [(Uuid, Uuid); 2] {
    let mut found = Vec::new();
    for (id, minutes) in [("a", 0), ("b", 60)] {
        let gone_at = Some(at(minutes + 90));
        let facts = call(id, at(minutes));
        house
            .tell(
                &reading(vec![facts], vec![announced(id, gone_at)]),
                &feiyu(),
                at(minutes),
            )
            .await;
        let view = house
            .db
            .recordings_of_call("feiyu-main", id)
            .await
            .unwrap()
            .remove(0);
        found.push((view.call_id, view.recording_id.unwrap()));
    }
    [found[0], found[1]]
}

async fn found(house: &House, query: Query) -> Vec<Uuid> {
    let page = house.db.search(&query, None, 10).await.unwrap();
    page.items.iter().map(|item| item.call_id).collect()
}

#[test]
fn markers_stand_in_the_order_of_the_sound_until_they_are_taken_away() {
    on_both(async |house| {
        let [(_, recording), (_, other)] = two(&house).await;
        let late = house
            .db
            .add_marker(recording, 9_000, "late", "anna", at(61))
            .await
            .unwrap();
        let early = house
            .db
            .add_marker(recording, 1_500, "早\0", "anna", at(62))
            .await
            .unwrap();
        house
            .db
            .add_marker(other, 1, "elsewhere", "anna", at(62))
            .await
            .unwrap();
        let ids = |markers: Vec<callvault::domain::view::Marker>| -> Vec<Uuid> {
            markers.iter().map(|marker| marker.marker_id).collect()
        };
        assert_eq!(
            ids(house.db.markers(recording).await.unwrap()),
            [early.marker_id, late.marker_id]
        );
        assert_eq!(
            house
                .db
                .remove_marker(early.marker_id, at(63))
                .await
                .unwrap(),
            Some(recording)
        );
        assert_eq!(
            house
                .db
                .remove_marker(early.marker_id, at(64))
                .await
                .unwrap(),
            None
        );
        assert_eq!(
            ids(house.db.markers(recording).await.unwrap()),
            [late.marker_id]
        );
        // The row stays: somebody may have acted on it.
        assert_eq!(
            house
                .number("select count(*) from marker where removed_at_ms is not null")
                .await,
            1
        );
    });
}

#[test]
fn calls_are_found_by_tag_and_by_note() {
    on_both(async |house| {
        let [(first, _), (second, _)] = two(&house).await;
        assert!(
            house
                .db
                .add_tag(first, " Needs  Review ", "anna", at(61))
                .await
                .unwrap()
        );
        assert!(
            !house
                .db
                .add_tag(first, "needs review", "ben", at(62))
                .await
                .unwrap()
        );
        house
            .db
            .add_tag(second, "vip", "anna", at(62))
            .await
            .unwrap();
        let tagged = |tag: &str, text: &str| Query {
            tag: Some(tag.into()),
            text: text.into(),
            ..Query::default()
        };
        assert_eq!(found(&house, tagged("NEEDS REVIEW", "")).await, [first]);
        assert_eq!(found(&house, tagged("vip", "b")).await, [second]);
        assert!(found(&house, tagged("vip", "a")).await.is_empty());
        assert!(found(&house, tagged("nobody", "")).await.is_empty());
        let tags = house.db.tags_of(&[first, second]).await.unwrap();
        assert_eq!(
            tags,
            [(first, "needs review".into()), (second, "vip".into())]
        );
        let noted = |note: &str| Query {
            note: Some(note.into()),
            ..Query::default()
        };
        assert!(found(&house, noted("one_way_audio")).await.is_empty());
        house.sql("update recording set notes = '[\"one_way_audio\"]' where provider_recording_id = 'rec-a'").await;
        assert_eq!(found(&house, noted("one_way_audio")).await, [first]);
        for other in ["clipped", "", "%", "one_way_audio\""] {
            assert!(found(&house, noted(other)).await.is_empty(), "{other}");
        }
        assert!(house.db.remove_tag(second, "VIP").await.unwrap());
        assert!(house.db.call_tags(second).await.unwrap().is_empty());
    });
}

#[test]
fn what_was_left_moves_along_when_two_calls_are_one() {
    on_both(async |house| {
        let [(first, _), (second, _)] = two(&house).await;
        house
            .db
            .add_call_note(second, "call back", "anna", at(61))
            .await
            .unwrap();
        for call in [first, second] {
            house.db.add_tag(call, "vip", "anna", at(61)).await.unwrap();
        }
        house
            .db
            .add_tag(second, "late", "anna", at(61))
            .await
            .unwrap();
        let joined = CallFacts {
            aliases: vec!["a".into()],
            ..call("b", at(60))
        };
        house
            .tell(&reading(vec![joined], vec![]), &feiyu(), at(70))
            .await;
        let kept = house
            .db
            .find_call("feiyu-main", "b")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(house.db.call_tags(kept).await.unwrap(), ["late", "vip"]);
        assert_eq!(
            house.db.call_notes(kept).await.unwrap()[0].text,
            "call back"
        );
        let gone = if kept == first { second } else { first };
        assert!(house.db.call_tags(gone).await.unwrap().is_empty());
    });
}

#[test]
fn a_kept_search_belongs_to_one_person_and_a_name_to_one_search() {
    on_both(async |house| {
        house
            .db
            .save_search("anna", "mine", "q=1", at(0))
            .await
            .unwrap();
        let kept = house
            .db
            .save_search("anna", "mine", "q=2", at(1))
            .await
            .unwrap();
        house
            .db
            .save_search("ben", "mine", "q=3", at(1))
            .await
            .unwrap();
        let mine = house.db.saved_searches("anna").await.unwrap();
        assert_eq!(mine, std::slice::from_ref(&kept));
        assert!(!house.db.forget_search("ben", kept.search_id).await.unwrap());
        assert!(
            house
                .db
                .forget_search("anna", kept.search_id)
                .await
                .unwrap()
        );
        assert_eq!(house.db.saved_searches("ben").await.unwrap().len(), 1);
    });
}

#[test]
fn operations_count_what_came_and_what_is_near_its_end() {
    on_both(async |house| {
        let [(_, first), (_, second)] = two(&house).await;
        // The first is deleted at minute 90, the second at minute 150.
        let now = at(80);
        let hours = house.db.notices_by_hour(3, now).await.unwrap();
        let of = |time: Timestamp| {
            let hour = hours.iter().rfind(|hour| hour.from <= time).unwrap();
            hour.notices
        };
        assert_eq!((hours.len(), of(at(0)), of(at(60))), (3, 1, 1));
        let expiry = house.db.time_to_expiry(now).await.unwrap();
        let within = |hours: i64| {
            let bucket = expiry
                .iter()
                .find(|bucket| bucket.below_hours == Some(hours));
            bucket.unwrap().recordings
        };
        assert_eq!((within(0), within(1), within(6)), (0, 1, 1));
        let later = house.db.time_to_expiry(at(100)).await.unwrap();
        assert_eq!(
            (later[0].recordings, later[1].recordings),
            (1, 1),
            "one is past its end"
        );
        let nearest = house.db.nearest_loss(10).await.unwrap();
        let ids: Vec<_> = nearest
            .iter()
            .filter_map(|view| view.recording_id)
            .collect();
        assert_eq!(ids, [first, second]);
        house.sql("update recording set reason = 'throttled'").await;
        let reasons = house.db.wait_reasons().await.unwrap();
        assert_eq!(
            (reasons[0].reason.as_str(), reasons[0].recordings),
            ("throttled", 2)
        );
        assert!(house.db.put_aside(10).await.unwrap().is_empty());
    });
}
