//! Sign-in through a provider of OpenID Connect: what it may make of somebody, and everything that it may do wrong.

use callvault::config::Config;
use callvault::db::accounts::AccountChange;
use callvault::db::audit::TrailQuery;
use callvault::db::identities::NewIdentity;
use callvault::domain::clock::{Clock as _, SharedClock, SystemClock};
use callvault::domain::rights::{Role, Scope};
use callvault::web::access::oidc::check::check;
use callvault::web::access::oidc::settings as oidc;
use callvault::web::access::settings::Settings as Access;
use callvault::web::settings::Settings;
use serde_json::{Value, json};

use crate::accounts::{PASSWORD, add, send, sign_in, word_of};
use crate::db::on_both;
use crate::support::http::{Answer, get, get_with};
use crate::support::issuer::{CLIENT, CLIENT_SECRET, Issuer};
use crate::support::web::{NOW_MS, WebHouse};

pub const BASE: &str = "http://calls.test";
pub const NOW_S: i64 = NOW_MS / 1000;

pub fn settings(issuer: &str, more: &str) -> oidc::Settings {
    let text = format!(
        "issuer = {issuer:?}\nclient_id = {CLIENT:?}\nclient_secret = {CLIENT_SECRET:?}\nlabel = \"Acme\"\n\
         contact = \"the desk, extension 4711\"\n{more}\n[roles]\nlistener = [\"call-desk\"]\nofficer = [\"legal\"]\n\
         auditor = [\"audit\"]\nadministrator = [\"it\"]\n"
    );
    toml::from_str(&text).unwrap()
}

pub async fn house(oidc: oidc::Settings) -> WebHouse {
    WebHouse::open_with(Settings {
        public_url: Some(BASE.into()),
        access: Access {
            oidc: Some(oidc),
            ..Access::default()
        },
        ..Settings::default()
    })
    .await
}

pub async fn both(more: &str) -> (Issuer, WebHouse) {
    let issuer = Issuer::open(NOW_S).await;
    let house = house(settings(&issuer.url, more)).await;
    (issuer, house)
}

/// A sign-in that left for the provider.
pub struct Left {
    pub cookie: String,
    pub state: String,
}

fn parameter(address: &str, name: &str) -> String {
    let url = url::Url::parse(address).unwrap();
    let found = url.query_pairs().find(|(known, _)| known == name);
    found
        .unwrap_or_else(|| panic!("{name} in {address}"))
        .1
        .into_owned()
}

pub async fn leave(house: &WebHouse, issuer: &Issuer, next: &str) -> Left {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("next", next)
        .finish();
    let answer = get(house.at, &format!("/sign-in/oidc?{query}")).await;
    assert_eq!(answer.status.as_u16(), 303, "{}", answer.text());
    let to = answer.header("location");
    assert!(
        to.starts_with(&format!("{}/authorize?", issuer.url)),
        "{to}"
    );
    for (name, expected) in [
        ("response_type", "code"),
        ("client_id", CLIENT),
        ("redirect_uri", "http://calls.test/sign-in/oidc/back"),
        ("scope", "openid profile email"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(parameter(to, name), expected);
    }
    let set = answer.header("set-cookie");
    assert!(set.starts_with("callvault-oidc=") && set.contains("HttpOnly; SameSite=Lax"));
    let mut mood = issuer.mood();
    mood.challenge = parameter(to, "code_challenge");
    mood.nonce = parameter(to, "nonce");
    Left {
        cookie: set.split(';').next().unwrap().to_owned(),
        state: parameter(to, "state"),
    }
}

pub async fn back(house: &WebHouse, cookie: &str, query: &str) -> Answer {
    let target = format!("/sign-in/oidc/back?{query}");
    get_with(house.at, &target, &[("cookie", cookie)]).await
}

pub async fn through(house: &WebHouse, issuer: &Issuer) -> Answer {
    let left = leave(house, issuer, "/account").await;
    back(house, &left.cookie, &format!("code=c&state={}", left.state)).await
}

/// The cookie of a session that has begun.
pub fn session(answer: &Answer) -> String {
    assert_eq!(answer.status.as_u16(), 303, "{}", answer.text());
    let mut cookies = answer.headers.get_all("set-cookie").iter();
    let cookie = cookies.find_map(|set| {
        let set = set.to_str().unwrap();
        set.starts_with("callvault=")
            .then(|| set.split(';').next().unwrap().to_owned())
    });
    cookie.unwrap()
}

/// The newest row of the trail: actor and action, and its detail.
pub async fn newest(house: &WebHouse) -> (String, Value) {
    let row = house
        .db
        .audit_rows(&TrailQuery::default(), 1)
        .await
        .unwrap()
        .remove(0);
    let detail = serde_json::from_str(&row.detail).unwrap();
    (
        format!("{} {} {}", row.actor, row.action, row.subject),
        detail,
    )
}

#[track_caller]
pub fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status.as_u16(), status, "{code}: {}", answer.text());
    assert!(
        answer.text().contains(&format!("<code>{code}</code>")),
        "{code}: {}",
        answer.text()
    );
    let set = answer.headers.get_all("set-cookie").iter();
    assert_eq!(set.count(), 0, "{code}: no session and no other cookie");
}

#[tokio::test]
async fn a_person_comes_in_with_the_role_that_a_group_gives() {
    let (issuer, house) = both("").await;
    // From the start nobody reads without signing in, though there is no account yet.
    assert_eq!(get(house.at, "/").await.header("location"), "/sign-in");
    let page = get(house.at, "/sign-in?next=/operations").await;
    assert!(page.text().contains("Sign in with Acme"));
    assert!(
        page.text().contains("/sign-in/oidc?next=%2Foperations"),
        "{}",
        page.text()
    );
    let chinese = get_with(house.at, "/sign-in", &[("accept-language", "zh-CN")]).await;
    assert!(chinese.text().contains("使用 Acme 登录"));

    let answer = through(&house, &issuer).await;
    assert_eq!(answer.header("location"), "/account");
    let cookie = session(&answer);
    let (row, detail) = newest(&house).await;
    assert_eq!(row.split(' ').nth(1), Some("sign_in_oidc"));
    assert_eq!(
        (&detail["subject"], &detail["role"], &detail["made"]),
        (&json!("s-1"), &json!("listener"), &json!(true))
    );
    let mine = [("cookie", cookie.as_str())];
    assert_eq!(
        get_with(house.at, "/api/v1/recordings", &mine)
            .await
            .status
            .as_u16(),
        200
    );
    assert_eq!(
        get_with(house.at, "/audit", &mine).await.status.as_u16(),
        403
    );

    // The role follows the groups, and what was open before ends.
    issuer.mood().claims = json!({"groups": ["call-desk", "audit"]})
        .as_object()
        .unwrap()
        .clone();
    let auditor = session(&through(&house, &issuer).await);
    let (_, detail) = newest(&house).await;
    assert_eq!(
        (&detail["role"], &detail["before"]["role"]),
        (&json!("auditor"), &json!("listener"))
    );
    assert_eq!(
        get_with(house.at, "/audit", &[("cookie", &auditor)])
            .await
            .status
            .as_u16(),
        200
    );
    assert_eq!(
        get_with(house.at, "/api/v1/recordings", &mine)
            .await
            .status
            .as_u16(),
        401
    );
    assert_eq!(
        house.db.accounts().await.unwrap().len(),
        1,
        "one person, one account"
    );

    // Who lost every group is out, here and in the browser that was open.
    issuer.mood().claims = json!({"groups": ["visitors"]}).as_object().unwrap().clone();
    let answer = through(&house, &issuer).await;
    refused(&answer, 403, "no_role");
    assert!(answer.text().contains("Ask: the desk, extension 4711"));
    assert_eq!(
        get_with(house.at, "/audit", &[("cookie", &auditor)])
            .await
            .header("location"),
        "/sign-in?next=%2Faudit"
    );

    // A disabled account stays out, whatever the provider says.
    issuer.mood().claims.clear();
    let account = house.db.accounts().await.unwrap().remove(0);
    let change = AccountChange {
        disabled: Some(true),
        ..AccountChange::default()
    };
    house
        .db
        .change_account(account.account_id, change, house.clock.now())
        .await
        .unwrap();
    refused(&through(&house, &issuer).await, 403, "account_disabled");
    house.stop().await;
}

#[tokio::test]
async fn nobody_takes_over_an_account_by_its_name_or_address() {
    let (issuer, house) = both("").await;
    let ann = add(&house, "ann", Role::Administrator, Scope::default()).await;
    let local = sign_in(&house, "ann").await;
    issuer.mood().claims = json!({
        "preferred_username": "Ann", "email": "ann", "email_verified": true, "groups": ["legal"],
    })
    .as_object()
    .unwrap()
    .clone();
    let cookie = session(&through(&house, &issuer).await);
    let page = get_with(house.at, "/account", &[("cookie", &cookie)]).await;
    assert!(
        page.text().contains("ann-"),
        "another account under another name"
    );
    let kept = house.db.account(ann.account_id).await.unwrap().unwrap();
    assert_eq!(kept.role, Role::Administrator);
    assert_eq!(
        get_with(house.at, "/audit", &[("cookie", &local)])
            .await
            .status
            .as_u16(),
        200
    );
    // Another subject is another person, though all else is the same.
    issuer.mood().claims.insert("sub".into(), "s-2".into());
    session(&through(&house, &issuer).await);
    assert_eq!(house.db.accounts().await.unwrap().len(), 3);
    house.stop().await;
}

#[tokio::test]
async fn signing_out_offers_the_provider_as_well() {
    let (issuer, house) = both("").await;
    let cookie = session(&through(&house, &issuer).await);
    let word = word_of(&cookie);
    let answer = send(
        &house,
        "/sign-out",
        &[("cookie", &cookie)],
        &[("word", &word)],
    )
    .await;
    assert_eq!(answer.header("location"), "/sign-in?left=1");
    let page = get(house.at, "/sign-in?left=1").await;
    assert!(page.text().contains("href=\"/sign-in/oidc/out\""));
    let out = get(house.at, "/sign-in/oidc/out").await;
    let to = out.header("location");
    assert!(to.starts_with(&format!("{}/end?", issuer.url)), "{to}");
    assert_eq!(
        parameter(to, "post_logout_redirect_uri"),
        "http://calls.test/sign-in"
    );
    assert_eq!(parameter(to, "client_id"), CLIENT);
    house.stop().await;
}

#[tokio::test]
async fn claims_may_come_from_userinfo_of_the_same_person() {
    let (issuer, house) = both("").await;
    issuer.mood().claims.insert("groups".into(), Value::Null);
    issuer.mood().userinfo =
        json!({"sub": "s-1", "groups": ["legal"], "iss": "https://evil.example"});
    session(&through(&house, &issuer).await);
    assert_eq!(newest(&house).await.1["role"], "officer");
    issuer.mood().userinfo = json!({"sub": "s-2", "groups": ["it"]});
    refused(&through(&house, &issuer).await, 403, "missing_claims");
    issuer.mood().userinfo = json!({"sub": "s-1"});
    refused(&through(&house, &issuer).await, 403, "no_role");
    house.stop().await;
}

#[tokio::test]
async fn a_provider_that_is_away_or_odd_leaves_local_accounts() {
    let (issuer, house) = both("local_sign_in = \"administrators\"").await;
    add(&house, "ann", Role::Administrator, Scope::default()).await;
    add(&house, "olga", Role::Officer, Scope::default()).await;
    let fields = [("name", "olga"), ("password", PASSWORD), ("next", "/")];
    let answer = send(&house, "/sign-in", &[], &fields).await;
    assert_eq!(
        answer.status.as_u16(),
        403,
        "passwords are for administrators alone here"
    );
    assert!(answer.text().contains("for administrators alone"));
    let url = issuer.url.clone();
    let clock: SharedClock = house.clock.clone();
    let found = check(&settings(&url, ""), BASE, &clock).await;
    assert!(
        found
            .iter()
            .any(|f| f.what.contains("http://calls.test/sign-in/oidc/back"))
    );
    // Answers carry the machine's own time, and the test's clock stands in 2024.
    let codes: Vec<_> = found.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["oidc_return_address", "oidc_clock"], "{found:?}");
    let clock: SharedClock = std::sync::Arc::new(SystemClock);
    let found = check(&settings(&url, ""), BASE, &clock).await;
    assert_eq!(found.len(), 1, "{found:?}");
    issuer.go_away().await;

    let answer = get_with(house.at, "/sign-in/oidc", &[("accept-language", "zh-CN")]).await;
    refused(&answer, 503, "provider_away");
    assert!(answer.text().contains("登录服务没有响应"));
    assert_eq!(answer.header("retry-after"), "60");
    assert_eq!(newest(&house).await.1["code"], "provider_away");
    sign_in(&house, "ann").await;
    let found = check(&settings(&url, ""), BASE, &clock).await;
    let codes: Vec<_> = found.iter().map(|finding| finding.code).collect();
    assert_eq!(
        codes,
        ["oidc_return_address", "oidc_provider_away"],
        "{found:?}"
    );
    house.stop().await;
}

#[tokio::test]
async fn without_a_provider_there_is_no_such_page() {
    let house = WebHouse::open().await;
    for target in [
        "/sign-in/oidc",
        "/sign-in/oidc/back?code=c&state=s",
        "/sign-in/oidc/out",
    ] {
        assert_eq!(get(house.at, target).await.status.as_u16(), 404, "{target}");
    }
    assert!(!get(house.at, "/sign-in").await.text().contains("oidc"));
    house.stop().await;
}

#[test]
fn two_who_are_one_get_one_account_and_a_state_is_taken_once() {
    on_both(async |house| {
        let (db, now) = (&house.db, house.clock.now());
        let new = NewIdentity {
            issuer: "https://id.example.com".into(),
            subject: "s-1".into(),
            names: vec!["ann".into(), "ann-1".into()],
            role: Role::Listener,
            scope: Scope::default(),
        };
        let both = futures::future::join_all((0..8).map(|_| db.add_identity(new.clone(), now)));
        let ids: Vec<_> = both
            .await
            .into_iter()
            .map(|made| made.unwrap().account_id)
            .collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(db.accounts().await.unwrap().len(), 1);
        assert_eq!(
            db.issuer_of(ids[0]).await.unwrap().as_deref(),
            Some("https://id.example.com")
        );
        let other = NewIdentity {
            subject: "s-2".into(),
            ..new.clone()
        };
        assert_eq!(db.add_identity(other, now).await.unwrap().name, "ann-1");
        let none = NewIdentity {
            subject: "s-3".into(),
            ..new
        };
        assert!(db.add_identity(none, now).await.is_err(), "no name is left");

        let state = callvault::domain::token::hash("state");
        db.add_oidc_flow(state, "/x", now.plus_ms(1000), now)
            .await
            .unwrap();
        let taken = futures::future::join_all((0..4).map(|_| db.take_oidc_flow(state, now))).await;
        let taken: Vec<_> = taken.into_iter().filter_map(|next| next.unwrap()).collect();
        assert_eq!(taken, ["/x"]);
        db.add_oidc_flow(state, "/x", now.plus_ms(1000), now)
            .await
            .unwrap();
        assert_eq!(
            db.take_oidc_flow(state, now.plus_ms(1000)).await.unwrap(),
            None
        );

        let call = uuid::Uuid::from_u128(7);
        let until = now.plus_ms(1000);
        db.give_reason("session:1", call, "one", until, now)
            .await
            .unwrap();
        db.give_reason("session:1", call, "two", until, now)
            .await
            .unwrap();
        let given = |who: &'static str, at| db.given_reason(who, call, at);
        assert_eq!(
            given("session:1", now).await.unwrap().as_deref(),
            Some("two")
        );
        assert_eq!(given("session:1", until).await.unwrap(), None);
        assert_eq!(given("session:2", now).await.unwrap(), None);
    });
}

#[test]
fn the_section_of_the_example_is_one_and_mistakes_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let load = |text: &str, variables: &[(&str, &str)]| {
        let file = dir.path().join("callvault.toml");
        std::fs::write(&file, text).unwrap();
        let own = |pair: &(&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
        Config::load_from(Some(&file), variables.iter().map(own), dir.path())
    };
    let example = include_str!("../../deploy/callvault.example.toml");
    let (_, rest) = example.split_once("# [access.oidc]").unwrap();
    let (keys, _) = rest.split_once("\n[database]").unwrap();
    let keys = keys.replace("\n# ", "\n");
    let server = "[server]\npublic_url = \"https://calls.example.com\"\n";
    let section = format!("[access.oidc]\n{keys}");
    std::fs::write(dir.path().join("oidc"), "of-a-file\n").unwrap();
    let section = section.replace("/run/secrets/oidc", "oidc");
    let config = load(&format!("{server}{section}"), &[]).unwrap();
    let oidc = config.server.access.oidc.unwrap();
    assert_eq!(oidc.client_secret.unwrap().expose(), "of-a-file");
    assert_eq!(oidc.roles.administrator, ["it"]);
    assert_eq!(oidc.group_scopes[0].sources, ["desk-north"]);
    assert!(!config.server.in_force.contains("of-a-file"));

    let variables = [("CALLVAULT__ACCESS__OIDC__CLIENT_SECRET", "of-a-variable")];
    let config = load(&format!("{server}{section}"), &variables).unwrap();
    let secret = config.server.access.oidc.unwrap().client_secret.unwrap();
    assert_eq!(secret.expose(), "of-a-variable");
    for (text, told) in [
        (section.clone(), "needs [server] public_url"),
        (
            format!("{server}{section}").replace("role_claim", "rol_claim"),
            "did you mean \"role_claim\"?",
        ),
        (
            format!("{server}{section}").replace("https://id.", "http://id."),
            "[access.oidc] issuer",
        ),
        (
            format!("{server}[access]\nask_reason = [\"listen\"]\n"),
            "is none of play, download",
        ),
    ] {
        let error = load(&text, &[]).unwrap_err().to_string();
        assert!(error.contains(told), "{told}: {error}");
    }
}
