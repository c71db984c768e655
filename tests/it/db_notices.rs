//! Notices: durable, counted, read once; and the schema they lie in.

use callvault::db::notices::Added;
use callvault::db::{Database, DbErrorKind};
use callvault::domain::notice::{Door, Notice};
use callvault::domain::reading::Reading;
use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, Iterable};

use crate::db::*;

#[test]
fn a_repeated_notice_is_counted_and_stored_once() {
    on_both(async |house| {
        let first = notice("feiyu-main", at(0));
        assert_eq!(
            house.db.add_notice(first.clone()).await.unwrap(),
            Added::Stored
        );
        for _ in 0..2 {
            let again = callvault::domain::notice::Notice {
                notice_id: notice("x", at(1)).notice_id,
                door: Door::Queue,
                ..first.clone()
            };
            assert_eq!(house.db.add_notice(again).await.unwrap(), Added::Repeated);
        }
        house.db.count_refused("feiyu-main", Door::Push);
        // The counter goes with the next batch.
        house
            .db
            .add_notice(notice("feiyu-main", at(2)))
            .await
            .unwrap();
        let status = house.db.status_view(at(3)).await.unwrap();
        let source = &status.sources[0];
        assert_eq!(source.doors["push"].notices, 2);
        assert_eq!(source.doors["push"].refused, 1);
        assert_eq!(source.doors["queue"].repeated, 2);
        assert_eq!(source.last_notice_at, Some(at(2)));
        assert_eq!(status.queues.notices.waiting, 2);
    });
}

#[test]
fn many_callers_share_commits_and_every_notice_is_there_afterwards() {
    on_both(async |house| {
        let tasks: Vec<_> = (0..64)
            .map(|_| {
                let db = house.db.clone();
                tokio::spawn(async move {
                    for _ in 0..10 {
                        let added = db.add_notice(notice("feiyu-main", at(0))).await.unwrap();
                        assert_eq!(added, Added::Stored);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        // Seen by another process: it is in the file, not in ours.
        let neighbour = house.neighbour().await;
        assert_eq!(
            neighbour
                .status_view(at(0))
                .await
                .unwrap()
                .queues
                .notices
                .waiting,
            640
        );
    });
}

#[test]
fn one_notice_that_cannot_be_written_leaves_the_others_alone() {
    on_both(async |house| {
        let twice = notice("feiyu-main", at(0));
        house.db.add_notice(twice.clone()).await.unwrap();
        // The same id under another key breaks the primary key.
        let broken = callvault::domain::notice::Notice {
            dedup_key: "other".into(),
            ..twice
        };
        let (bad, good) = tokio::join!(
            house.db.add_notice(broken),
            house.db.add_notice(notice("feiyu-main", at(0)))
        );
        assert_eq!(bad.unwrap_err().kind(), DbErrorKind::Conflict);
        assert_eq!(good.unwrap(), Added::Stored);
    });
}

#[test]
fn any_bytes_and_any_text_of_a_vendor_are_kept() {
    on_both(async |house| {
        let mut odd = notice("feiyu-main", at(0));
        odd.topic = "a\0b".into();
        odd.query = "q=😀&x='; drop table notice;--".into();
        odd.body = vec![0, 255, 1];
        house.db.add_notice(odd.clone()).await.unwrap();
        let claimed = house.claim_notice(at(0)).await;
        assert_eq!(claimed.notice.topic, "a\u{fffd}b");
        assert_eq!(claimed.notice.query, odd.query);
        assert_eq!(claimed.notice.body, odd.body);
        assert_eq!(claimed.notice.headers, odd.headers);
        assert_eq!(claimed.notice.sha256, odd.sha256);
    });
}

#[test]
fn a_notice_is_claimed_once_until_its_lease_ends() {
    on_both(async |house| {
        let db = &house.db;
        db.add_notice(notice("feiyu-main", at(0))).await.unwrap();
        db.add_notice(notice("elsewhere", at(0))).await.unwrap();
        let first = house.claim_notice(at(0)).await;
        let claim = async |minutes| {
            db.claim_notices(9, "i2", &sources(), at(minutes), LEASE)
                .await
                .unwrap()
        };
        assert!(
            claim(0).await.is_empty(),
            "leased, and the other source is not configured"
        );
        let second = claim(2).await.remove(0);
        let late = db
            .mark_ignored(&first, "too late", at(2))
            .await
            .unwrap_err();
        assert!(late.is_lease_lost());
        let late = db
            .apply_reading(&first, &feiyu(), &Reading::default(), at(2))
            .await;
        assert!(late.unwrap_err().is_lease_lost());
        db.mark_unreadable(&second, "broken", at(2)).await.unwrap();
        assert!(
            db.mark_unreadable(&second, "broken", at(2))
                .await
                .unwrap_err()
                .is_lease_lost()
        );
        assert!(!db.all_notices_read().await.unwrap());
        let status = db.status_view(at(2)).await.unwrap();
        assert_eq!(status.queues.notices.unreadable, 1);
        assert_eq!(status.alarms[0].code, "notices_unreadable");
        assert_eq!(db.read_again(&sources(), at(3)).await.unwrap(), 1);
        assert_eq!(claim(3).await.len(), 1);
    });
}

#[test]
fn the_schema_grows_step_by_step_over_tables_with_rows() {
    on_both_unmigrated(async |house| {
        let db = &house.db;
        let steps = db.migration_status().await.unwrap();
        assert!(steps.len() >= 4 && steps.iter().all(|step| !step.applied));
        db.migrate(Some(1)).await.unwrap();
        write_old(&house, &notice("feiyu-main", at(0))).await;
        for applied in 2..=steps.len() {
            db.migrate(Some(1)).await.unwrap();
            let now = db.migration_status().await.unwrap();
            assert_eq!(now.iter().filter(|step| step.applied).count(), applied);
        }
        db.migrate_up().await.unwrap();
        assert_eq!(house.claim_notice(at(0)).await.notice.arrived_at, at(0));
        assert_eq!(db.heard().await.unwrap()[0].last, at(0));
    });
}

/// A notice as the first version wrote it, whatever today's code needs beside.
async fn write_old(house: &House, notice: &Notice) {
    let sql = "insert into notice (notice_id, source, kind, door, topic, method, query, headers, body, sha256, \
               dedup_key, arrived_at_ms, result, available_at_ms) \
               values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    let values: Vec<sea_orm::Value> = vec![
        notice.notice_id.into(),
        notice.source.as_str().into(),
        notice.kind.as_str().into(),
        notice.door.as_str().into(),
        notice.topic.as_str().into(),
        notice.method.as_str().into(),
        notice.query.as_str().into(),
        serde_json::to_string(&notice.headers).unwrap().into(),
        notice.body.clone().into(),
        notice.sha256.as_bytes().to_vec().into(),
        notice.dedup_key.as_str().into(),
        notice.arrived_at.ms().into(),
        "waiting".into(),
        notice.arrived_at.ms().into(),
    ];
    let backend = house.raw.get_database_backend();
    let insert = sea_orm::Statement::from_sql_and_values(backend, sql, values);
    house.raw.execute_raw(insert).await.unwrap();
    // The counters of its door: later steps fill what is new about them.
    house
        .sql("insert into door_counter (source, door, notices) values ('feiyu-main', 'push', 1)")
        .await;
    let seen = format!(
        "insert into source_seen (source, kind, first_seen_at_ms, last_notice_at_ms) \
         values ('feiyu-main', 'feiyu', {0}, {0})",
        notice.arrived_at.ms()
    );
    house.sql(&seen).await;
}

#[test]
fn two_processes_may_bring_the_schema_up_at_once() {
    on_both_unmigrated(async |house| {
        let open = || {
            Database::connect_for_migration(&house.settings, house.folder(), house.clock.clone())
        };
        let other = open().await.unwrap();
        let (a, b) = tokio::join!(house.db.migrate_up(), other.migrate_up());
        a.unwrap();
        b.unwrap();
        assert!(
            other
                .migration_status()
                .await
                .unwrap()
                .iter()
                .all(|step| step.applied)
        );
    });
}

#[test]
fn a_schema_that_is_behind_or_ahead_is_refused() {
    on_both_unmigrated(async |house| {
        let settings = callvault::db::settings::Settings {
            auto_migrate: Some(false),
            ..house.settings.clone()
        };
        let open = || Database::connect(&settings, house.folder(), house.clock.clone());
        let behind = open().await.unwrap_err();
        assert_eq!(behind.kind(), DbErrorKind::Schema);
        assert!(behind.to_string().contains("migrate up"), "{behind}");
        house.db.migrate_up().await.unwrap();
        open().await.unwrap();
        house
            .sql("insert into seaql_migrations (version, applied_at) values ('m9999_tomorrow', 0)")
            .await;
        let ahead = open().await.unwrap_err();
        assert_eq!(ahead.kind(), DbErrorKind::Schema);
        assert!(ahead.to_string().contains("m9999_tomorrow"), "{ahead}");
        assert!(house.db.migrate_up().await.is_err());
    });
}

#[test]
fn the_schema_equals_the_entities() {
    on_both(async |house| {
        macro_rules! check {
            ($($table:ident),* $(,)?) => { $(
                let entity: Vec<String> = {
                    let columns = entity::$table::Column::iter();
                    let mut columns: Vec<String> = columns.map(|column| {
                        use sea_orm::{ColumnTrait, IdenStatic};
                        format!("{} {}", column.as_str(), column.def().is_null())
                    }).collect();
                    columns.sort();
                    columns
                };
                assert_eq!(columns(&house, stringify!($table)).await, entity, stringify!($table));
                // Every column can be read as the entity says, if only from no rows.
                entity::$table::Entity::find().all(&house.raw).await.unwrap();
            )* };
        }
        check!(
            account,
            alarm_told,
            api_token,
            archive_object,
            audit_event,
            audit_head,
            backfill,
            call,
            call_alias,
            call_leg,
            call_note,
            call_tag,
            door_counter,
            fault,
            fixity_finding,
            fixity_run,
            installation,
            marker,
            notice,
            notice_link,
            one_time_link,
            pace,
            party,
            provider_delete,
            recording,
            recording_alias,
            recording_event,
            saved_search,
            schedule_job,
            schedule_run,
            search_key,
            session,
            source_seen,
            sweep,
            sweep_walk,
        );
    });
}

/// `name nullable`, sorted.
async fn columns(house: &House, table: &str) -> Vec<String> {
    let backend = house.raw.get_database_backend();
    let sql = match backend {
        DbBackend::Postgres => format!(
            "select column_name::text, is_nullable = 'YES' from information_schema.columns \
             where table_schema = current_schema() and table_name = '{table}'"
        ),
        _ => format!("select name, not \"notnull\" from pragma_table_info('{table}')"),
    };
    let statement = sea_orm::Statement::from_string(backend, sql);
    let rows = house.raw.query_all_raw(statement).await.unwrap();
    let mut columns: Vec<String> = rows
        .iter()
        .map(|row| {
            let name: String = row.try_get_by_index(0).unwrap();
            let nullable: bool = row.try_get_by_index(1).unwrap();
            format!("{name} {nullable}")
        })
        .collect();
    columns.sort();
    columns
}

#[test]
fn an_sqlite_file_is_for_its_owner_alone_and_survives_power_cuts() {
    use std::os::unix::fs::PermissionsExt;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let house = sqlite(Some(true)).await;
        house
            .db
            .add_notice(notice("feiyu-main", at(0)))
            .await
            .unwrap();
        for name in ["callvault.db", "callvault.db-wal"] {
            let path = house.folder().join("data").join(name);
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert_eq!(house.db.clock_offset_ms().await.unwrap(), 0);
        assert_eq!(house.db.backend_name(), "sqlite");
    });
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let clock = callvault::domain::clock::ManualClock::at(at(0));
        let settings = callvault::db::settings::Settings {
            url: callvault::domain::secret::Secret::new("sqlite:///dev/null/x/callvault.db"),
            auto_migrate: None,
        };
        let error = Database::connect(&settings, std::path::Path::new("/"), clock)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), DbErrorKind::Unavailable);
        assert!(
            error.to_string().contains("/dev/null/x/callvault.db"),
            "{error}"
        );
    });
}

#[test]
fn a_tick_is_run_by_one_process() {
    on_both(async |house| {
        let other = house.neighbour().await;
        let (a, b) = tokio::join!(
            house.db.tick("poll", at(5), "i1", at(5)),
            other.tick("poll", at(5), "i2", at(5))
        );
        let runs: Vec<_> = [a.unwrap(), b.unwrap()].into_iter().flatten().collect();
        assert_eq!(runs.len(), 1);
        house.db.finish_run(&runs[0], "done", at(6)).await.unwrap();
        assert!(
            house
                .db
                .tick("poll", at(10), "i1", at(10))
                .await
                .unwrap()
                .is_some()
        );
        house.db.set_installation("archive_id", "a").await.unwrap();
        house.db.set_installation("archive_id", "b").await.unwrap();
        assert_eq!(
            house
                .db
                .installation("archive_id")
                .await
                .unwrap()
                .as_deref(),
            Some("b")
        );
        house.db.ping().await.unwrap();
    });
}

#[test]
fn a_notice_that_was_read_in_part_is_counted_and_shown_with_what_was_left_out() {
    on_both(async |house| {
        let whole = reading(vec![call("c", at(0))], vec![announced("c", None)]);
        house.tell(&whole, &feiyu(), at(0)).await;
        let none = house.db.status_view(at(1)).await.unwrap();
        assert_eq!(none.queues.notices.unreadable_in_part, 0);
        assert!(none.alarms.is_empty(), "{:?}", none.alarms);
        let part = Reading {
            unreadable: vec!["element 2: no object".to_owned()],
            ..whole
        };
        house.tell(&part, &feiyu(), at(1)).await;
        let status = house.db.status_view(at(2)).await.unwrap();
        assert_eq!(status.queues.notices.unreadable_in_part, 1);
        assert_eq!(status.queues.notices.unreadable, 0);
        assert_eq!(status.alarms[0].code, "notices_unreadable_in_part");
        assert_eq!(status.alarms[0].source.as_deref(), Some("feiyu-main"));
        let call = house
            .db
            .recordings_of_call("feiyu-main", "c")
            .await
            .unwrap();
        let shown = house.db.show_call(call[0].call_id).await.unwrap().unwrap();
        let details: Vec<_> = shown.recordings[0]
            .notices
            .iter()
            .map(|one| one.detail.clone())
            .collect();
        assert_eq!(
            details,
            [None, Some("in part: element 2: no object".to_owned())]
        );
    });
}
