//! `callvault account`, as a shell sees it: no password on the command line, none in what it prints but a made one.

fn callvault(dir: &std::path::Path, args: &[&str], stdin: &str) -> (i32, serde_json::Value) {
    use std::io::Write as _;
    let mut child = std::process::Command::new(crate::support::house::program())
        .args(["--json", "account"])
        .args(args)
        .current_dir(dir)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(stdin.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let told = if output.status.success() {
        output.stdout
    } else {
        output.stderr
    };
    let text = String::from_utf8(told).unwrap();
    let last = text.lines().last().unwrap_or("null");
    (
        output.status.code().unwrap(),
        serde_json::from_str(last).unwrap(),
    )
}

#[test]
fn the_command_line_makes_the_first_administrator() {
    let dir = tempfile::tempdir().unwrap();
    let config = "[database]\nurl = \"sqlite://callvault.db\"\n";
    std::fs::write(dir.path().join("callvault.toml"), config).unwrap();
    let run = |args: &[&str], stdin: &str| callvault(dir.path(), args, stdin);
    let add = ["add", "Ann", "--role", "administrator", "--password-stdin"];
    assert_eq!(run(&add, "short\n").1["error"]["code"], "weak_password");
    let (code, ann) = run(&add, "a sentence that is mine\n");
    assert_eq!(
        (code, &ann["name"], &ann["role"]),
        (0, &"ann".into(), &"administrator".into())
    );
    assert!(ann.get("password").is_none() && !ann.to_string().contains("argon2"));
    assert_eq!(
        run(&add, "a sentence that is mine\n").1["error"]["code"],
        "name_taken"
    );
    let made = [
        "add",
        "li",
        "--role",
        "listener",
        "--source",
        "desk",
        "--generate",
    ];
    let (_, li) = run(&made, "");
    assert_eq!(li["password"].as_str().unwrap().len(), 43);
    assert_eq!(
        (&li["scope"]["sources"][0], &li["must_change"]),
        (&"desk".into(), &true.into())
    );
    for (args, exit, error) in [
        (
            &["add", "x", "--role", "boss", "--generate"][..],
            2,
            "usage",
        ),
        (
            &["add", "x y", "--role", "officer", "--generate"],
            2,
            "usage",
        ),
        (
            &[
                "add",
                "x",
                "--role",
                "auditor",
                "--source",
                "desk",
                "--generate",
            ],
            2,
            "usage",
        ),
        (&["add", "x", "--role", "officer"], 2, "usage"),
        (&["disable", "nobody"], 1, "not_found"),
        (&["set", "li", "--role", "administrator"], 2, "usage"),
        (&["token", "revoke", "nothing"], 1, "not_found"),
        (
            &[
                "token",
                "add",
                "t",
                "--role",
                "officer",
                "--expires",
                "soon",
            ],
            2,
            "usage",
        ),
    ] {
        let (code, told) = run(args, "");
        assert_eq!(
            (code, &told["error"]["code"]),
            (exit, &error.into()),
            "{args:?}"
        );
    }
    let (_, li) = run(&["set", "li", "--everything", "--role", "officer"], "");
    assert_eq!(
        (&li["role"], &li["scope"]["sources"]),
        (&"officer".into(), &serde_json::json!([]))
    );
    assert_eq!(run(&["disable", "li"], "").1["disabled"], true);
    let (_, token) = run(
        &[
            "token",
            "add",
            "export",
            "--role",
            "officer",
            "--expires",
            "90d",
        ],
        "",
    );
    assert!(token["token"].as_str().unwrap().starts_with("cvt_"));
    let (_, listed) = run(&["token", "list"], "");
    assert_eq!(listed["name"], "export");
    assert!(!listed.to_string().contains("cvt_"));
    let (_, link) = run(&["link", "ann"], "");
    assert!(link["link"].as_str().unwrap().contains("/sign-in/link?t="));
    assert_eq!(run(&["list"], "").1["name"], "li", "by name, the last one");
}
