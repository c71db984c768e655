//! The audit trail's chain: appended by many at once on both databases, and no change of it goes unseen.

use callvault::db::audit::{AuditEvent, AuditRow};
use callvault::domain::audit::{Said, beginning, link};
use callvault::domain::clock::Clock as _;

use crate::db::{House, on_both};

fn event(house: &House, n: usize) -> AuditEvent {
    AuditEvent {
        actor: "account:ann".into(),
        action: "search".into(),
        subject: format!("wang {n} \0 \"quoted\" 王"),
        detail: serde_json::json!({ "limit": n }),
        from: "127.0.0.1".into(),
        at: house.clock.now(),
    }
}

async fn fill(house: &House, rows: usize) {
    for n in 0..rows {
        house.db.audit(event(house, n)).await.unwrap();
    }
}

async fn all(house: &House) -> Vec<AuditRow> {
    house.db.audit_rows_after(0).await.unwrap()
}

#[test]
fn many_processes_append_to_one_chain() {
    on_both(async |house| {
        let other = house.neighbour().await;
        let appended = (0..200).map(|n| {
            let db = if n % 2 == 0 { &house.db } else { &other };
            db.audit(event(&house, n))
        });
        for done in futures::future::join_all(appended).await {
            done.unwrap();
        }
        let report = house.db.verify_audit().await.unwrap();
        assert!(report.whole, "{report:?}");
        assert_eq!(
            (report.rows, report.last_seq, report.earlier),
            (200, 200, 0)
        );
        // As another program would compute it from an export.
        let mut hash = beginning(0);
        for (i, row) in all(&house).await.into_iter().enumerate() {
            assert_eq!(row.seq, Some(i as i64 + 1));
            let said = Said {
                seq: row.seq.unwrap(),
                audit_id: row.audit_id,
                at: row.at,
                actor: &row.actor,
                action: &row.action,
                subject: &row.subject,
                detail: &row.detail,
                from: &row.from,
            };
            hash = link(&hash, &said);
            assert_eq!(row.hash, Some(hash));
        }
        assert_eq!(hash, report.last_hash);
        assert_eq!(other.audit_hash(200).await.unwrap(), Some(hash));
    });
}

#[test]
fn the_first_row_that_was_touched_is_named() {
    for (harm, broken) in [
        ("update audit_event set subject = 'nobody' where seq = 4", 4),
        ("update audit_event set at_ms = at_ms + 1 where seq = 4", 4),
        (
            "update audit_event set actor = 'account:bob' where seq = 1",
            1,
        ),
        ("update audit_event set detail = '{}' where seq = 10", 10),
        ("delete from audit_event where seq = 4", 4),
        ("delete from audit_event where seq = 10", 10),
        ("delete from audit_event where seq > 3", 4),
        ("delete from audit_event", 1),
        ("update audit_event set seq = 11 where seq = 4", 4),
        (
            "update audit_event set seq = null, hash = null where seq = 4",
            0,
        ),
        ("update audit_head set earlier = 3", 0),
        ("delete from audit_head", 0),
        (
            "update audit_event set hash = (select hash from audit_event where seq = 3) where seq = 10",
            10,
        ),
        (
            "update audit_head set hash = (select hash from audit_event where seq = 3)",
            10,
        ),
    ] {
        on_both(async |house| {
            fill(&house, 10).await;
            house.sql(harm).await;
            let report = house.db.verify_audit().await.unwrap();
            assert_eq!(report.broken_seq, Some(broken), "{harm}: {report:?}");
            assert!(!report.whole && report.what.is_some());
        });
    }
}

#[test]
fn rows_from_before_the_chain_are_counted() {
    crate::db::on_both_unmigrated(async |house| {
        house.db.migrate(Some(15)).await.unwrap();
        // A backup before an upgrade writes its row into the old table.
        fill(&house, 3).await;
        house.db.migrate_up().await.unwrap();
        fill(&house, 2).await;
        let report = house.db.verify_audit().await.unwrap();
        assert!(report.whole, "{report:?}");
        assert_eq!((report.earlier, report.rows, report.last_seq), (3, 2, 2));
        house.sql("delete from audit_event where seq is null and at_ms = (select min(at_ms) from audit_event where seq is null)").await;
        let report = house.db.verify_audit().await.unwrap();
        assert_eq!((report.whole, report.broken_seq), (false, Some(0)));
    });
}

#[test]
fn the_command_tells_by_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[database]\nurl = \"sqlite://callvault.db\"\n";
    std::fs::write(dir.path().join("callvault.toml"), config).unwrap();
    let run = |args: &[&str]| {
        let output = std::process::Command::new(crate::support::house::program())
            .arg("--json")
            .args(args)
            .current_dir(dir.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (output.status.code().unwrap(), lines)
    };
    assert_eq!(run(&["search", "wang"]).0, 0);
    let (code, report) = run(&["audit", "verify"]);
    assert_eq!(
        (code, &report[0]["whole"], &report[0]["rows"]),
        (0, &true.into(), &2.into())
    );
    let noted = format!("2:{}", report[0]["last_hash"].as_str().unwrap());
    assert_eq!(run(&["audit", "verify", "--expect", &noted]).0, 0);
    let (code, report) = run(&["audit", "verify", "--expect", &noted.replace("2:", "1:")]);
    assert_eq!((code, &report[0]["broken_seq"]), (3, &1.into()));
    let (code, rows) = run(&["audit", "export"]);
    assert_eq!((code, rows.len()), (0, 5));
    assert_eq!(
        (&rows[0]["action"], &rows[0]["seq"]),
        (&"search".into(), &1.into())
    );
    assert_eq!(run(&["audit", "verify", "--expect", "x"]).0, 2);
}
