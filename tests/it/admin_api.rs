//! What administrators, auditors and everybody with their own account do, through `/api/v1`: by session and by token.

use callvault::db::tokens::token_name;
use callvault::domain::clock::Timestamp;
use callvault::domain::rights::{Role, Scope};
use http::Method;
use serde_json::{Value, json};

use crate::accounts::{PASSWORD, add, send, sign_in, word_of};
use crate::support::http::{Answer, ask, get_with};
use crate::support::web::WebHouse;

/// One who is signed in, asking as a script of our own pages does.
struct Seat<'a> {
    house: &'a WebHouse,
    cookie: String,
}

impl<'a> Seat<'a> {
    async fn of(house: &'a WebHouse, name: &str) -> Self {
        Self {
            house,
            cookie: sign_in(house, name).await,
        }
    }

    async fn get(&self, target: &str) -> Answer {
        get_with(self.house.at, target, &[("cookie", &self.cookie)]).await
    }

    async fn ask(&self, method: Method, target: &str, body: Value) -> Answer {
        let word = word_of(&self.cookie);
        let headers = [
            ("cookie", self.cookie.as_str()),
            ("x-callvault-word", word.as_str()),
            ("content-type", "application/json"),
        ];
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        ask(self.house.at, method, target, &headers, body).await
    }
}

fn told(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.problem())
}

#[tokio::test]
async fn accounts_are_made_changed_and_kept_from_locking_everybody_out() {
    let house = WebHouse::open().await;
    add(&house, "ann", Role::Administrator, Scope::default()).await;
    let ann = Seat::of(&house, "ann").await;
    let accounts = "/api/v1/accounts";
    let new = json!({ "name": "Li", "role": "listener", "scope": { "sources": ["desk"] } });
    let made = ann.ask(Method::POST, accounts, new.clone()).await;
    assert_eq!(made.status.as_u16(), 201, "{}", made.text());
    let made = made.json();
    assert_eq!(made["account"]["name"], "li");
    let url = made["link"]["url"].as_str().unwrap();
    let token = url.split_once("?t=").unwrap().1;
    let entered = send(&house, "/sign-in/link", &[], &[("t", token)]).await;
    assert_eq!(entered.status.as_u16(), 303, "the link signs in");
    for (body, status, code) in [
        (new, 409, "name_taken"),
        (json!({ "name": "-x", "role": "listener" }), 400, "bad_name"),
        (
            json!({ "name": "x", "role": "auditor", "scope": { "sources": ["desk"] } }),
            409,
            "whole_house",
        ),
        (
            json!({ "name": "x", "role": "listener", "scope": { "parties": ["\u{0}"] } }),
            400,
            "bad_scope",
        ),
        (json!({ "name": "x", "role": "boss" }), 400, "bad_request"),
        (
            json!({ "name": "x", "role": "listener", "admin": true }),
            400,
            "bad_request",
        ),
    ] {
        let answer = ann.ask(Method::POST, accounts, body.clone()).await;
        assert_eq!(told(&answer), (status, code.to_owned()), "{body}");
    }
    // Another role and scope end the sessions, the same ones do not.
    house
        .db
        .set_password(
            house
                .db
                .find_account("li")
                .await
                .unwrap()
                .unwrap()
                .account_id,
            &callvault::domain::password::hash(&callvault::domain::secret::Secret::new(PASSWORD))
                .unwrap(),
            false,
            Timestamp::from_ms(1),
        )
        .await
        .unwrap();
    let li = Seat::of(&house, "li").await;
    let same = json!({ "role": "listener", "scope": { "sources": ["desk"] } });
    let answer = ann.ask(Method::PATCH, "/api/v1/accounts/li", same).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    assert_eq!(li.get("/api/v1/account").await.status.as_u16(), 200);
    let more = json!({ "role": "officer", "scope": {} });
    let answer = ann.ask(Method::PATCH, "/api/v1/accounts/li", more).await;
    assert_eq!(answer.json()["role"], "officer");
    assert_eq!(answer.json()["scope"]["sources"], json!([]));
    assert_eq!(li.get("/api/v1/account").await.status.as_u16(), 401);
    // Locked by wrong tries, and let in again.
    let id = house
        .db
        .find_account("li")
        .await
        .unwrap()
        .unwrap()
        .account_id;
    for _ in 0..5 {
        house.db.take_try(id, house_now(&house)).await.unwrap();
    }
    let shown = ann.get("/api/v1/accounts/li").await.json();
    assert_eq!(shown["failures"], 5);
    assert!(shown["locked_until"].is_string(), "{shown}");
    let open = ann
        .ask(Method::POST, "/api/v1/accounts/li/unlock", Value::Null)
        .await;
    assert!(open.json()["locked_until"].is_null());
    sign_in(&house, "li").await;
    // Nobody changes their own rights; and whoever has none, such as a token, leaves an administrator.
    let me = ann
        .ask(
            Method::PATCH,
            "/api/v1/accounts/ann",
            json!({ "role": "officer" }),
        )
        .await;
    assert_eq!(told(&me), (409, "not_yourself".into()));
    let made = ann
        .ask(
            Method::POST,
            "/api/v1/tokens",
            json!({ "name": "robot", "role": "administrator", "days": 1 }),
        )
        .await;
    let bearer = format!("Bearer {}", made.json()["secret"].as_str().unwrap());
    let robot = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    for body in [r#"{"role":"officer"}"#, r#"{"disabled":true}"#] {
        let answer = ask(
            house.at,
            Method::PATCH,
            "/api/v1/accounts/ann",
            &robot,
            body,
        )
        .await;
        assert_eq!(told(&answer), (409, "last_administrator".into()), "{body}");
    }
    let off = ask(
        house.at,
        Method::PATCH,
        "/api/v1/accounts/li",
        &robot,
        r#"{"disabled":true}"#,
    )
    .await;
    assert_eq!(off.json()["disabled"], true);
    let link = ann
        .ask(Method::POST, "/api/v1/accounts/li/link", Value::Null)
        .await;
    assert_eq!(told(&link), (409, "disabled".into()));
    let none = ann
        .ask(Method::PATCH, "/api/v1/accounts/nobody", json!({}))
        .await;
    assert_eq!(told(&none), (404, "not_found".into()));
    // Without the word of our own pages a session changes nothing.
    let cookie = [
        ("cookie", ann.cookie.as_str()),
        ("content-type", "application/json"),
    ];
    let forged = ask(
        house.at,
        Method::PATCH,
        "/api/v1/accounts/li",
        &cookie,
        "{}",
    )
    .await;
    assert_eq!(told(&forged), (403, "stale_form".into()));
    let trail = house.audited().await;
    for row in [
        "account:ann account_add li listener",
        "account:ann account_set li",
        "account:ann account_unlock li",
        "token:robot account_disable li",
    ] {
        assert!(trail.contains(&row.to_owned()), "{row}: {trail:?}");
    }
    house.stop().await;
}

fn house_now(house: &WebHouse) -> Timestamp {
    use callvault::domain::clock::Clock as _;
    house.clock.now()
}

#[tokio::test]
async fn tokens_are_told_once_and_never_take_the_configured_ones_name() {
    let house = WebHouse::open().await;
    add(&house, "ann", Role::Administrator, Scope::default()).await;
    let ann = Seat::of(&house, "ann").await;
    let new = |name: &str, days: i64| json!({ "name": name, "role": "officer", "days": days });
    for (name, days, status, code) in [
        ("api_token", 1, 400, "reserved_name"),
        ("API_Token", 1, 400, "reserved_name"),
        ("a b", 1, 400, "bad_name"),
        ("x", 0, 400, "bad_days"),
        ("x", 3651, 400, "bad_days"),
    ] {
        let answer = ann
            .ask(Method::POST, "/api/v1/tokens", new(name, days))
            .await;
        assert_eq!(told(&answer), (status, code.to_owned()), "{name} {days}");
    }
    assert_eq!(token_name("api_token"), None);
    let made = ann
        .ask(Method::POST, "/api/v1/tokens", new("export", 30))
        .await;
    assert_eq!(made.status.as_u16(), 201);
    let made = made.json();
    let secret = made["secret"].as_str().unwrap().to_owned();
    let again = ann
        .ask(Method::POST, "/api/v1/tokens", new("export", 30))
        .await;
    assert_eq!(told(&again), (409, "name_taken".into()));
    let listed = ann.get("/api/v1/tokens").await;
    assert_eq!(
        listed.json()["items"][0]["token_id"],
        made["token"]["token_id"]
    );
    assert!(!listed.text().contains(&secret));
    let etag = listed.header("etag").to_owned();
    let known = [
        ("cookie", ann.cookie.as_str()),
        ("if-none-match", etag.as_str()),
    ];
    let unchanged = get_with(house.at, "/api/v1/tokens", &known).await;
    assert_eq!(unchanged.status.as_u16(), 304, "lists have validators");
    let bearer = format!("Bearer {secret}");
    let with = async || {
        let shown = [("authorization", bearer.as_str())];
        get_with(house.at, "/api/v1/account", &shown).await
    };
    let own = with().await.json();
    assert_eq!(
        (&own["actor"], &own["role"]),
        (&json!("token:export"), &json!("officer"))
    );
    assert!(own["account"].is_null());
    let gone = ann
        .ask(Method::DELETE, "/api/v1/tokens/export", Value::Null)
        .await;
    assert_eq!(gone.status.as_u16(), 204);
    assert_eq!(with().await.status.as_u16(), 401);
    let twice = ann
        .ask(Method::DELETE, "/api/v1/tokens/export", Value::Null)
        .await;
    assert_eq!(told(&twice), (404, "not_found".into()));
    house.stop().await;
}

#[tokio::test]
async fn five_wrong_passwords_end_the_session_and_leave_the_account_alone() {
    let house = WebHouse::open().await;
    add(&house, "li", Role::Listener, Scope::default()).await;
    let li = Seat::of(&house, "li").await;
    let other = Seat::of(&house, "li").await;
    let change = |old: &str, new: &str| json!({ "old": old, "new": new });
    let target = "/api/v1/account/password";
    for _ in 0..4 {
        let answer = li.ask(Method::PUT, target, change("wrong", "y")).await;
        assert_eq!(told(&answer), (400, "wrong_password".into()));
    }
    // The right one gives all tries back, even where the new one is no good.
    let answer = li.ask(Method::PUT, target, change(PASSWORD, "y")).await;
    assert_eq!(told(&answer), (400, "weak_password".into()));
    for _ in 0..4 {
        let answer = li.ask(Method::PUT, target, change("wrong", "y")).await;
        assert_eq!(told(&answer), (400, "wrong_password".into()));
    }
    let answer = li.ask(Method::PUT, target, change("wrong", "y")).await;
    assert_eq!(told(&answer), (403, "session_ended".into()));
    assert_eq!(li.get("/api/v1/account").await.status.as_u16(), 401);
    // Neither the owner's other browser nor signing in suffers from it.
    let shown = other.get("/api/v1/account").await.json();
    assert_eq!(shown["account"]["failures"], 0);
    assert!(shown["account"]["locked_until"].is_null());
    let again = Seat::of(&house, "li").await;
    // On the page the same: signed out, and told so.
    let word = word_of(&again.cookie);
    let mine = [
        ("cookie", again.cookie.as_str()),
        ("accept-language", "zh-CN"),
    ];
    let typed = [
        ("word", word.as_str()),
        ("old", "wrong"),
        ("new", "a new sentence"),
        ("again", "a new sentence"),
    ];
    for _ in 0..4 {
        let page = send(&house, "/account/password", &mine, &typed).await;
        assert_eq!(page.status.as_u16(), 400);
        assert!(page.text().contains("当前密码不正确"), "{}", page.text());
    }
    let page = send(&house, "/account/password", &mine, &typed).await;
    assert_eq!(page.status.as_u16(), 403);
    assert!(page.text().contains("您已退出"), "{}", page.text());
    assert!(page.header("set-cookie").contains("Max-Age=0"));
    // A new password ends the other browsers, and gives this one a new session.
    let last = Seat::of(&house, "li").await;
    let fresh = "a fresh sentence of my own";
    let answer = last.ask(Method::PUT, target, change(PASSWORD, fresh)).await;
    assert_eq!(answer.status.as_u16(), 204, "{}", answer.text());
    assert!(answer.header("set-cookie").starts_with("callvault="));
    assert_eq!(other.get("/api/v1/account").await.status.as_u16(), 401);
    house.stop().await;
}

#[tokio::test]
async fn the_trail_pages_without_gaps_while_rows_are_appended() {
    let house = WebHouse::open().await;
    add(&house, "audrey", Role::Auditor, Scope::default()).await;
    let audrey = Seat::of(&house, "audrey").await;
    for n in 0..6 {
        audrey.get(&format!("/api/v1/recordings?q=find{n}")).await;
    }
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = audrey
            .get(&format!("/api/v1/audit?action=search&limit=2{after}"))
            .await
            .json();
        let subjects = page["items"].as_array().unwrap().iter();
        seen.extend(subjects.map(|row| row["subject"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        after = format!("&after={next}");
        // What comes meanwhile is newer than the cursor.
        audrey.get("/api/v1/recordings?q=meanwhile").await;
    }
    assert_eq!(seen, ["find5", "find4", "find3", "find2", "find1", "find0"]);
    for wrong in [
        "after=x",
        "after=-1",
        "limit=0",
        "limit=x",
        "from=soon",
        "who=x",
        "actor=a&actor=b",
    ] {
        let answer = audrey.get(&format!("/api/v1/audit?{wrong}")).await;
        assert_eq!(answer.status.as_u16(), 400, "{wrong}");
    }
    let none = audrey.get("/api/v1/audit?to=2000-01-01").await.json();
    assert_eq!(none["items"], json!([]));
    let report = audrey
        .ask(Method::POST, "/api/v1/audit/verify", Value::Null)
        .await
        .json();
    assert_eq!(report["whole"], true);
    let lines = audrey.get("/api/v1/audit.ndjson").await;
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let last: Value = serde_json::from_str(lines.text().lines().last().unwrap()).unwrap();
    assert_eq!(last["action"], "audit_export");
    house.stop().await;
}

#[tokio::test]
async fn sources_schedule_and_configuration_are_told_as_on_the_pages() {
    let house = WebHouse::open().await;
    add(&house, "ann", Role::Administrator, Scope::default()).await;
    let ann = Seat::of(&house, "ann").await;
    let sources = ann.get("/api/v1/sources").await.json();
    let guarded = sources["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|source| source["source"] == "guarded")
        .unwrap();
    let url = guarded["hooks"][0]["url"].as_str().unwrap();
    let page = ann.get("/admin/sources").await;
    assert!(page.text().contains(url), "{url}");
    let none = ann
        .ask(Method::POST, "/api/v1/sources/nothing/test", Value::Null)
        .await;
    assert_eq!(told(&none), (404, "not_found".into()));
    let configuration = ann.get("/api/v1/configuration").await.json();
    assert!(configuration["toml"].is_string());

    // The workers name their jobs; nobody does so here.
    let now = house_now(&house);
    house
        .db
        .name_jobs(&[("poll", "0 */5 * * * *"), ("fixity", "soon")], now)
        .await
        .unwrap();
    let run = house
        .db
        .tick("poll", now.plus_ms(-60_000), "tests", now)
        .await
        .unwrap()
        .unwrap();
    house
        .db
        .finish_run(&run, "failed: <b>away</b>", now)
        .await
        .unwrap();
    let jobs = ann.get("/api/v1/schedule").await.json();
    let poll = &jobs["items"][1];
    assert_eq!(poll["name"], "poll");
    assert_eq!(poll["next_at"], "2024-04-05T19:55:00.000Z");
    assert_eq!(poll["runs"][0]["result"], "failed: <b>away</b>");
    assert!(
        jobs["items"][0]["next_at"].is_null(),
        "what cannot be read is never due"
    );
    let page = ann.get("/admin/schedule").await;
    assert!(
        page.text().contains("2024-04-05 19:55:00"),
        "{}",
        page.text()
    );
    assert!(!page.text().contains("<b>away"), "{}", page.text());
    let asked = ann
        .ask(Method::POST, "/api/v1/schedule/poll/run", Value::Null)
        .await;
    assert_eq!(asked.status.as_u16(), 202);
    let jobs = ann.get("/api/v1/schedule").await.json();
    assert_eq!(jobs["items"][1]["asked_by"], "account:ann");
    assert!(house.db.take_asked("poll").await.unwrap());
    assert!(
        !house.db.take_asked("poll").await.unwrap(),
        "one worker takes it"
    );
    let form = [("word", word_of(&ann.cookie)), ("run", "poll".to_owned())];
    let form = form.each_ref().map(|(name, value)| (*name, value.as_str()));
    let page = send(&house, "/admin/schedule", &[("cookie", &ann.cookie)], &form).await;
    assert_eq!(page.status.as_u16(), 303);
    let none = ann
        .ask(Method::POST, "/api/v1/schedule/nothing/run", Value::Null)
        .await;
    assert_eq!(told(&none), (404, "not_found".into()));
    // No worker has said anything for long: nothing is promised.
    house.clock.advance_ms(4 * 60_000);
    let jobs = ann.get("/api/v1/schedule").await.json();
    assert_eq!(jobs["items"][1]["is_alive"], false);
    assert!(jobs["items"][1]["next_at"].is_null());
    house.stop().await;
}

#[tokio::test]
async fn every_page_of_administration_speaks_both_languages_and_leads_to_the_others() {
    let house = WebHouse::open_with(callvault::web::settings::Settings {
        banner: Some(("A demo", "演示")),
        ..Default::default()
    })
    .await;
    add(&house, "ann", Role::Administrator, Scope::default()).await;
    let ann = Seat::of(&house, "ann").await;
    for target in [
        "/admin/accounts",
        "/admin/account/ann",
        "/admin/tokens",
        "/admin/sources",
        "/admin/schedule",
        "/admin/configuration",
        "/audit",
        "/account",
    ] {
        for (cookie, tag, banner, nav) in [
            ("language=en", "en", "A demo", "Operations"),
            ("language=zh", "zh-Hans", "演示", "运行"),
        ] {
            let cookies = format!("{}; {cookie}", ann.cookie);
            let page = get_with(house.at, target, &[("cookie", &cookies)]).await;
            assert_eq!(page.status.as_u16(), 200, "{target}");
            let text = page.text();
            for expected in [
                format!("lang=\"{tag}\""),
                format!("{banner}</p>"),
                format!("{nav}</a>"),
                "action=\"/do/language\"".to_owned(),
                "action=\"/sign-out\"".to_owned(),
            ] {
                assert!(text.contains(&expected), "{target}: {expected}\n{text}");
            }
        }
    }
    // Strangers choose by a link, and the browser remembers it.
    let page = get_with(house.at, "/sign-in?language=zh", &[]).await;
    assert!(page.text().contains("登录") && page.text().contains("演示"));
    assert!(page.header("set-cookie").starts_with("language=zh"));
    assert!(!page.text().contains("/admin/"), "{}", page.text());
    house.stop().await;
}
