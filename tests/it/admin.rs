//! The pages of administrators and auditors, as a browser without script uses them.

use callvault::domain::rights::{Role, Scope};
use callvault::web::settings::Settings;

use crate::accounts::{PASSWORD, add, send, sign_in, word_of};
use crate::support::http::{get, get_with};
use crate::support::web::WebHouse;

/// What the page shows once.
fn secret_in(page: &str) -> String {
    let (_, rest) = page.split_once("<code class=\"secret\">").unwrap();
    rest.split('<').next().unwrap().to_owned()
}

#[tokio::test]
async fn an_administrator_lets_somebody_in_and_out_again() {
    let house = WebHouse::open().await;
    add(&house, "ann", Role::Administrator, Scope::default()).await;
    let ann = sign_in(&house, "ann").await;
    let word = word_of(&ann);
    let mine = [("cookie", ann.as_str())];
    let post = async |target: &str, fields: &[(&str, &str)]| {
        let mut all = vec![("word", word.as_str())];
        all.extend_from_slice(fields);
        send(&house, target, &mine, &all).await
    };
    let new = [
        ("name", "Li"),
        ("role", "listener"),
        ("sources", "desk, guarded"),
    ];
    let made = post("/admin/accounts", &new).await;
    assert_eq!(made.status.as_u16(), 200);
    let link = secret_in(made.text());
    assert_eq!(
        post("/admin/accounts", &new).await.status.as_u16(),
        409,
        "the name is taken"
    );
    for (bad, status) in [
        (
            [("name", "a b"), ("role", "listener"), ("sources", "")],
            400,
        ),
        ([("name", "x"), ("role", "boss"), ("sources", "")], 400),
        (
            [("name", "x"), ("role", "auditor"), ("sources", "desk")],
            409,
        ),
    ] {
        assert_eq!(
            post("/admin/accounts", &bad).await.status.as_u16(),
            status,
            "{bad:?}"
        );
    }
    // Li comes in by the link and chooses a password before anything else.
    let token = link.split_once("?t=").unwrap().1;
    let entered = send(&house, "/sign-in/link", &[], &[("t", token)]).await;
    let li = entered
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let led = get_with(house.at, "/", &[("cookie", &li)]).await;
    assert_eq!(led.header("location"), "/account");
    let fields = [
        ("word", &*word_of(&li)),
        ("new", PASSWORD),
        ("again", PASSWORD),
    ];
    let chosen = send(&house, "/account/password", &[("cookie", &li)], &fields).await;
    assert_eq!(chosen.status.as_u16(), 303);
    let li = sign_in(&house, "li").await;
    let known = house.db.find_account("li").await.unwrap().unwrap();
    assert_eq!(
        (known.role, known.scope.sources),
        (Role::Listener, vec!["desk".into(), "guarded".into()])
    );
    // And out: the session ends at once.
    assert_eq!(
        post("/admin/accounts/disable", &[("name", "li")])
            .await
            .status
            .as_u16(),
        303
    );
    let gone = get_with(house.at, "/api/v1/recordings", &[("cookie", &li)]).await;
    assert_eq!(gone.status.as_u16(), 401);
    assert_eq!(
        post("/admin/accounts/disable", &[("name", "ann")])
            .await
            .status
            .as_u16(),
        409,
        "not oneself"
    );
    assert_eq!(
        post("/admin/accounts/enable", &[("name", "li")])
            .await
            .status
            .as_u16(),
        303
    );
    sign_in(&house, "li").await;

    let fields = [("name", "export"), ("role", "officer"), ("days", "30")];
    let token = secret_in(post("/admin/tokens", &fields).await.text());
    let bearer = format!("Bearer {token}");
    let with = async || {
        let headers = [("authorization", bearer.as_str())];
        get_with(house.at, "/api/v1/recordings", &headers)
            .await
            .status
            .as_u16()
    };
    assert_eq!(with().await, 200);
    let listed = get_with(house.at, "/admin/tokens", &mine).await;
    assert!(listed.text().contains("export") && !listed.text().contains(&token));
    assert_eq!(
        post("/admin/tokens/revoke", &[("name", "export")])
            .await
            .status
            .as_u16(),
        303
    );
    assert_eq!(with().await, 401);
    assert_eq!(
        post(
            "/admin/tokens",
            &[("name", "x"), ("role", "officer"), ("days", "0")]
        )
        .await
        .status
        .as_u16(),
        400
    );

    let trail = house.audited().await;
    for row in [
        "account_add li listener",
        "account_disable li",
        "token_add export officer",
        "token_revoke export",
    ] {
        assert!(
            trail.contains(&format!("account:ann {row}")),
            "{row}: {trail:?}"
        );
    }
    house.stop().await;
}

#[tokio::test]
async fn sources_and_configuration_are_shown_without_secrets() {
    let settings = Settings {
        in_force: "[server]\napi_token = \"(secret)\"\n".into(),
        ..Settings::default()
    };
    let house = WebHouse::open_with(settings).await;
    add(&house, "ann", Role::Administrator, Scope::default()).await;
    let ann = sign_in(&house, "ann").await;
    let mine = [("cookie", ann.as_str())];
    let page = get_with(house.at, "/admin/sources", &mine).await;
    for shown in ["desk", "guarded", "/hooks/desk", "alipush"] {
        assert!(page.text().contains(shown), "{shown}");
    }
    assert!(
        !page.text().contains("0F1E2D3C4B5A69788796A5B4C3D2E1F0"),
        "the app's own secret"
    );
    let page = get_with(house.at, "/admin/configuration", &mine).await;
    assert!(page.text().contains("(secret)"), "{}", page.text());
    let none = send(
        &house,
        "/admin/sources",
        &mine,
        &[("word", &word_of(&ann)), ("test", "nothing")],
    )
    .await;
    assert_eq!(none.status.as_u16(), 404);
    house.stop().await;
}

#[tokio::test]
async fn the_trail_is_read_verified_and_exported() {
    let house = WebHouse::open().await;
    add(&house, "audrey", Role::Auditor, Scope::default()).await;
    add(&house, "root", Role::Administrator, Scope::default()).await;
    let root = sign_in(&house, "root").await;
    let headers = [("cookie", root.as_str())];
    get_with(
        house.at,
        "/api/v1/recordings?q=13900000001%20%3Cscript%3E",
        &headers,
    )
    .await;
    let audrey = sign_in(&house, "audrey").await;
    let mine = [("cookie", audrey.as_str()), ("accept-language", "zh-CN")];
    let page = get_with(house.at, "/audit?action=search", &mine).await;
    assert!(page.text().contains("审计记录") && page.text().contains("account:root"));
    assert!(page.text().contains("*******0001") && !page.text().contains("13900000001"));
    assert!(
        !page.text().contains("<script>"),
        "what was searched for is text"
    );
    let own = get_with(house.at, "/audit?action=search", &headers).await;
    assert!(
        own.text().contains("13900000001"),
        "an administrator sees numbers whole"
    );
    let word = word_of(&audrey);
    let verified = send(&house, "/audit/verify", &mine, &[("word", &word)]).await;
    assert!(
        verified.text().contains("哈希链完整"),
        "{}",
        verified.text()
    );
    let export = get_with(house.at, "/audit/export", &headers).await;
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    let rows: Vec<serde_json::Value> = export
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        rows.last().unwrap()["action"],
        "audit_export",
        "no entry, no access"
    );
    let seqs: Vec<_> = rows
        .iter()
        .map(|row| row["seq"].as_i64().unwrap())
        .collect();
    assert_eq!(seqs, (1..=rows.len() as i64).collect::<Vec<_>>());
    assert_eq!(get(house.at, "/audit/export").await.status.as_u16(), 303);
    house.stop().await;
}

#[tokio::test]
async fn no_row_of_the_trail_no_way_in() {
    use sea_orm::ConnectionTrait as _;
    let house = WebHouse::open().await;
    add(&house, "ann", Role::Administrator, Scope::default()).await;
    let ann = sign_in(&house, "ann").await;
    let file = house.dir.path().join("callvault.db");
    let raw = sea_orm::Database::connect(format!("sqlite://{}", file.display()))
        .await
        .unwrap();
    raw.execute_unprepared("alter table audit_event rename to elsewhere")
        .await
        .unwrap();
    let mine = [("cookie", ann.as_str())];
    for target in [
        "/api/v1/recordings",
        "/audit",
        "/admin/accounts",
        "/admin/tokens",
        "/admin/configuration",
    ] {
        let answer = get_with(house.at, target, &mine).await;
        assert_eq!(answer.status.as_u16(), 503, "{target}");
    }
    let fields = [("name", "ann"), ("password", PASSWORD)];
    assert_eq!(
        send(&house, "/sign-in", &[], &fields).await.status.as_u16(),
        503
    );
    // Nor does a door open that cannot ask who is there.
    raw.execute_unprepared("alter table session rename to nowhere")
        .await
        .unwrap();
    assert_eq!(
        get_with(house.at, "/api/v1/recordings", &mine)
            .await
            .status
            .as_u16(),
        503
    );
    house.stop().await;
}
