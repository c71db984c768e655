//! `callvault import`: rows from elsewhere become facts of known calls and ids of unknown ones, however often,
//! and a party directory gives names to ids, before and after.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use callvault::db::search::Query;
use callvault::domain::call::Party;
use callvault::domain::reading::{DirectoryEntry, Reading};
use callvault::simulator::{Mishaps, Options, VendorKind};
use serde_json::Value;

use crate::db::*;
use crate::support::house::{TestHouse, program};

/// Runs the program beside the house and gives its exit code and what it printed.
pub async fn callvault(house: &TestHouse, args: &[&str]) -> (i32, String, String) {
    let output = tokio::process::Command::new(program())
        .arg("--config")
        .arg(house.config_file())
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), output)
        .await
        .unwrap()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

async fn import(house: &TestHouse, file: &str, text: &str, more: &[&str]) -> (i32, Value) {
    let path = house.path().join(file);
    std::fs::write(&path, text).unwrap();
    let mut args = vec!["--json", "import", path.to_str().unwrap()];
    args.extend(more);
    let (code, out, error) = callvault(house, &args).await;
    let report = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code} {out} {error}"));
    (code, report)
}

async fn found(house: &TestHouse, words: &[&str]) -> Vec<Value> {
    let mut args = vec!["--json", "search"];
    args.extend(words);
    let (code, out, error) = callvault(house, &args).await;
    assert_eq!(code, 0, "{error}");
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_only_a_foreign_system_told_of_are_archived_with_its_facts() {
    let options = Options {
        calls: 5,
        speed: 1800.0,
        mishaps: Mishaps::None,
        announce: false,
        call_interval: Duration::from_millis(5),
        ..Options::new("feiyu-t")
    };
    let house = TestHouse::open(vec![(VendorKind::Feiyu, options)]).await;
    house.make_calls().await;
    let ids: Vec<String> = house
        .ledger()
        .iter()
        .map(|line| line.provider_call_id.clone())
        .collect();
    assert_eq!(ids.len(), 5);

    // Columns in another order, a byte-order mark, empty lines, semicolons, a row of nobody, a row without id.
    let mut text =
        "\u{feff}\r\nagent id;Caller;provider_call_id;correlation_ids;source;region\r\n".to_owned();
    for (i, id) in ids.iter().enumerate() {
        text += &format!("agent-7;+86139000000{i:02};{id};crm-{i}|order-{i};;east\r\n\r\n");
    }
    text += "a;1;c-x;;elsewhere;\r\na;1;;;;\r\n\"a;1\r\n";
    let (code, report) = import(&house, "calls.csv", &text, &[]).await;
    assert_eq!(code, 3, "{report}");
    assert_eq!(report["stored"], 5, "{report}");
    let refused: Vec<_> = report["refusals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["line"].as_u64().unwrap(), one["code"].as_str().unwrap()))
        .collect();
    let expected = [
        (13, "unknown_source"),
        (14, "missing:provider_call_id"),
        (15, "unclosed_quote"),
    ];
    assert_eq!(refused, expected);

    house
        .until(async |house| {
            let archived = found(house, &["--state", "archived"]).await;
            if archived.len() == 5 {
                Ok(())
            } else {
                Err(format!("{} archived", archived.len()))
            }
        })
        .await;
    assert_eq!(
        found(&house, &["crm-3"]).await[0]["provider_call_id"],
        ids[3]
    );
    assert_eq!(
        found(&house, &["--number", "+8613900000002"]).await.len(),
        1
    );
    assert_eq!(found(&house, &["--party", "agent-7"]).await.len(), 5);

    // Again: nothing new. Names for the agent: all his calls have them, and new manifests.
    let (code, report) = import(&house, "calls.csv", &text, &["--source", "feiyu-t"]).await;
    assert_eq!((code, &report["repeated"]), (3, &5.into()), "{report}");
    let people = "number,name,id\n,\"Wang Li\",agent-7\n0571-88881234,Zhao,agent-8\n";
    let (code, report) = import(&house, "people.csv", people, &[]).await;
    assert_eq!((code, &report["stored"]), (0, &2.into()), "{report}");
    let of_wang = found(&house, &["wang"]).await;
    assert_eq!(of_wang.len(), 5);
    let party = &of_wang[0]["parties"][0];
    assert_eq!(
        (&party["id"], &party["name"]),
        (&"agent-7".into(), &"Wang Li".into())
    );
    let (code, report) = import(&house, "people.csv", people, &[]).await;
    assert_eq!((code, &report["repeated"]), (0, &2.into()), "{report}");

    house
        .until(async |house| {
            let (_, out, _) = callvault(house, &["--json", "show", &ids[0]]).await;
            let shown: Value = serde_json::from_str(&out).unwrap();
            let recording = &shown["recordings"][0];
            let mut manifests: Vec<_> = recording["objects"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|object| object["role"] == "manifest")
                .map(|object| object["key"].as_str().unwrap().to_owned())
                .collect();
            manifests.sort();
            let newest = manifests.last().ok_or("no manifest")?;
            let text = std::fs::read_to_string(house.path().join("archive").join(newest)).unwrap();
            if text.contains("Wang Li") {
                assert!(manifests.len() > 1);
                Ok(())
            } else {
                Err(format!("{newest} knows no name"))
            }
        })
        .await;
    let (_, out, _) = callvault(&house, &["--json", "status"]).await;
    let status: Value = serde_json::from_str(&out).unwrap();
    let doors = &status["sources"][0]["doors"];
    assert_eq!(doors["import"]["notices"], 7, "{doors}");
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_cdr_1_are_told_of_their_sources_calls() {
    let house = TestHouse::open(vec![(VendorKind::Feiyu, Options::new("feiyu-t"))]).await;
    let line = |event: &str, account: &str, call: &str| {
        serde_json::json!({
            "spec": "cdr/1", "event_id": event, "event_type": "call.ended",
            "occurred_at": "2024-04-05T20:31:50.120+08:00",
            "source": {"provider": "feiyu", "account": account},
            "call": {"id": call, "caller": {"number": "+8613900000001", "name": "Li Na"}, "recorded": false},
        })
        .to_string()
    };
    let text = format!(
        "{}\n\n{}\n{}\nevent=1\n{{\"spec\":\"cdr/2\"}}\n",
        line("e1", "feiyu-t", "a@fy"),
        line("e2", "crm", "b@fy"),
        line("e1", "feiyu-t", "a@fy"),
    );
    let (code, report) = import(&house, "calls.ndjson", &text, &[]).await;
    assert_eq!(code, 3);
    assert_eq!(
        (&report["stored"], &report["repeated"]),
        (&1.into(), &1.into())
    );
    let codes: Vec<_> = report["refusals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["unknown_account", "not_json", "unsupported_spec"]);
    let (code, _) = import(
        &house,
        "more.ndjson",
        &line("e2", "crm", "b@fy"),
        &["--source", "feiyu-t"],
    )
    .await;
    assert_eq!(code, 0);
    assert_eq!(found(&house, &["li"]).await.len(), 2);
    let none = found(&house, &["--state", "pending"]).await;
    assert!(none.is_empty(), "told as not recorded: {none:?}");

    // What cannot be read at all changes nothing and says what to do.
    for (name, bytes, code) in [
        ("a.csv", &b"\xff\xfea\0"[..], 2),
        ("b.csv", b"", 2),
        ("c.csv", b"provider_call_id,calller\n", 2),
        ("d.csv", b"provider_call_id,source\nc,nobody\n", 1),
    ] {
        let path = house.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let (found, _, error) = callvault(&house, &["import", path.to_str().unwrap()]).await;
        assert_eq!(found, code, "{name} {error}");
    }
    let missing = Path::new("/nowhere/at-all.csv").to_str().unwrap();
    assert_eq!(callvault(&house, &["import", missing]).await.0, 2);
    house.finish().await;
}

fn directory(id: &str, name: Option<&str>, number: Option<&str>) -> Reading {
    Reading {
        directory: vec![DirectoryEntry {
            id: id.into(),
            name: name.map(str::to_owned),
            number: number.map(str::to_owned),
        }],
        ..Reading::default()
    }
}

fn agents_call(id: &str, agent: &str, name: Option<&str>) -> Reading {
    let mut told = call(id, at(-5));
    told.parties = vec![Party {
        role: Some("agent".into()),
        id: Some(agent.into()),
        name: name.map(str::to_owned),
        number: None,
    }];
    reading(vec![told], vec![])
}

async fn by_name(house: &House, name: &str) -> usize {
    let query = Query {
        text: name.to_owned(),
        ..Query::default()
    };
    house
        .db
        .search(&query, None, 1000)
        .await
        .unwrap()
        .items
        .len()
}

async fn walk(house: &House, minutes: i64) {
    while house
        .db
        .fill_known_calls(&sources(), at(minutes))
        .await
        .unwrap()
    {}
}

#[test]
fn a_directory_names_calls_known_before_and_calls_read_later() {
    on_both(|house| async move {
        for i in 0..120 {
            house
                .tell(
                    &agents_call(&format!("c{i}"), "Acc1", None),
                    &feiyu(),
                    at(0),
                )
                .await;
        }
        house
            .tell(
                &agents_call("vendor", "Acc1", Some("Nick")),
                &feiyu(),
                at(0),
            )
            .await;
        house
            .tell(&agents_call("other", "acc1", None), &feiyu(), at(0))
            .await;
        house
            .tell(
                &directory("Acc1", Some("Wang"), Some("0571-1")),
                &feiyu(),
                at(1),
            )
            .await;
        assert_eq!(by_name(&house, "wang").await, 0);
        walk(&house, 1).await;
        // The vendor's own name stays, ids are what they are to the letter.
        assert_eq!(by_name(&house, "wang").await, 120);
        assert_eq!(by_name(&house, "nick").await, 1);
        let again = house
            .tell(&agents_call("c5", "Acc1", None), &feiyu(), at(2))
            .await;
        assert_eq!(
            again.calls, 0,
            "a repeat of what the vendor said is none of a new party"
        );
        house
            .tell(&agents_call("later", "Acc1", None), &feiyu(), at(2))
            .await;
        assert_eq!(by_name(&house, "wang").await, 121);

        // Another name for the same id replaces what the directory had said, and that alone.
        house
            .tell(&directory("Acc1", Some("Zhao"), None), &feiyu(), at(3))
            .await;
        house
            .tell(&agents_call("c6", "Acc1", None), &feiyu(), at(3))
            .await;
        walk(&house, 3).await;
        assert_eq!(by_name(&house, "zhao").await, 121);
        assert_eq!(by_name(&house, "wang").await, 0);
        assert_eq!(by_name(&house, "nick").await, 1);
        let parties = house
            .number("select count(*) from party where passes = 1")
            .await;
        assert_eq!(parties, 1, "a second walk is to come");
        walk(&house, 10).await;
        let parties = house
            .number("select count(*) from party where passes = 0")
            .await;
        assert_eq!(parties, 1);
    });
}
