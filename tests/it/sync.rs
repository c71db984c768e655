//! `callvault sync` as a person or a script calls it.

use std::process::Command;

use crate::support::house::program;

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn sync(dir: &std::path::Path, args: &[&str]) -> Ran {
    let done = Command::new(program())
        .arg("--config")
        .arg(dir.join("callvault.toml"))
        .arg("sync")
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    Ran {
        code: done.status.code().unwrap(),
        out: String::from_utf8(done.stdout).unwrap(),
        err: String::from_utf8(done.stderr).unwrap(),
    }
}

fn installation(sources: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "[database]\nurl = \"sqlite://callvault.db\"\n[spool]\npath = \"spool\"\n{sources}"
    );
    std::fs::write(dir.path().join("callvault.toml"), text).unwrap();
    dir
}

const PUSHED: &str = "[sources.feiyu-main]\nkind = \"feiyu\"\napp_id = \"A1B2C3D4E5F60718293A4B5C6D7E8F90\"\n\
    app_token = \"0F1E2D3C4B5A69788796A5B4C3D2E1F0\"\n";

#[test]
fn a_source_that_cannot_be_listed_is_said_to_be_so() {
    let dir = installation(PUSHED);
    let ran = sync(dir.path(), &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.out.contains("feiyu-main: cannot be listed or asked"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("nothing was asked"), "{}", ran.out);
    let ran = sync(dir.path(), &["--json", "--source", "feiyu-main"]);
    assert_eq!((ran.code, ran.out.lines().count()), (0, 1));
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    for (key, value) in [("can_list", false), ("can_ask", false), ("busy", false)] {
        assert_eq!(report[key], value, "{key}");
    }
    for key in [
        "listed",
        "new",
        "repeated",
        "asked",
        "found",
        "forecast_lost",
    ] {
        assert_eq!(report[key], 0, "{key}");
    }
    assert_eq!(report["problems"], serde_json::json!([]));
}

#[test]
fn a_source_that_nobody_configured_is_named_with_the_nearest_one() {
    let dir = installation(PUSHED);
    let ran = sync(dir.path(), &["--source", "feiyu-mian", "--json"]);
    assert_eq!(ran.code, 2);
    assert_eq!(ran.out, "");
    let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(error["error"]["code"], "unknown_source");
    assert!(
        error["error"]["do"]
            .as_str()
            .unwrap()
            .contains("feiyu-main"),
        "{error}"
    );
    let ran = sync(installation("").path(), &[]);
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains("no source is configured"), "{}", ran.out);
}
