//! Accounts from the command line to the door: signing in, sessions, tokens, lock-out, forms of other sites.

use callvault::db::accounts::{Account, NewAccount};
use callvault::db::tokens::NewToken;
use callvault::domain::clock::{Clock as _, Timestamp};
use callvault::domain::rights::{Role, Scope};
use callvault::domain::secret::Secret;
use callvault::domain::{password, token};
use callvault::web::settings::Settings;
use http::Method;

use crate::db::on_both;
use crate::support::http::{Answer, ask, get, get_with};
use crate::support::web::WebHouse;

pub const PASSWORD: &str = "correct horse battery staple";

/// An account as `account add` makes it, with the password above.
pub async fn add(house: &WebHouse, name: &str, role: Role, scope: Scope) -> Account {
    static HASH: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| password::hash(&Secret::new(PASSWORD)).unwrap());
    let new = NewAccount {
        name: name.into(),
        password_hash: Some(HASH.clone()),
        role,
        scope,
        language: None,
        must_change: false,
    };
    house.db.add_account(new, house.clock.now()).await.unwrap()
}

fn form(fields: &[(&str, &str)]) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields {
        form.append_pair(name, value);
    }
    form.finish()
}

pub async fn send(
    house: &WebHouse,
    target: &str,
    headers: &[(&str, &str)],
    fields: &[(&str, &str)],
) -> Answer {
    let mut all = vec![("content-type", "application/x-www-form-urlencoded")];
    all.extend_from_slice(headers);
    ask(house.at, Method::POST, target, &all, form(fields)).await
}

async fn try_in(house: &WebHouse, name: &str, password: &str) -> Answer {
    send(
        house,
        "/sign-in",
        &[],
        &[("name", name), ("password", password), ("next", "/")],
    )
    .await
}

/// `callvault=TOKEN`, as a browser sends it back.
fn cookie_of(answer: &Answer) -> String {
    let set = answer.header("set-cookie");
    assert!(
        set.contains("HttpOnly") && set.contains("SameSite=Lax"),
        "{set}"
    );
    set.split(';').next().unwrap().to_owned()
}

/// Signs in and gives the cookie back.
pub async fn sign_in(house: &WebHouse, name: &str) -> String {
    let answer = try_in(house, name, PASSWORD).await;
    assert_eq!(answer.status.as_u16(), 303, "{}", answer.text());
    cookie_of(&answer)
}

/// The word that forms of this session carry.
pub fn word_of(cookie: &str) -> String {
    token::form_word(cookie.split_once('=').unwrap().1)
}

#[tokio::test]
async fn from_the_first_account_on_nobody_reads_without_one() {
    let house = WebHouse::open().await;
    assert_eq!(get(house.at, "/").await.status.as_u16(), 200);
    add(&house, "ann", Role::Administrator, Scope::default()).await;
    let page = get(house.at, "/recordings/x?a=b").await;
    assert_eq!(page.status.as_u16(), 303);
    assert_eq!(
        page.header("location"),
        "/sign-in?next=%2Frecordings%2Fx%3Fa%3Db"
    );
    let api = get(house.at, "/api/v1/recordings").await;
    assert_eq!(
        (api.status.as_u16(), api.problem()),
        (401, "token_required".into())
    );
    for open in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/sign-in",
        "/sign-in/link?t=x",
    ] {
        assert_eq!(get(house.at, open).await.status.as_u16(), 200, "{open}");
    }
    let far = get_with(house.at, "/metrics", &[("host", "callvault.example")]).await;
    assert_eq!(
        far.status.as_u16(),
        401,
        "/metrics is open to this machine alone"
    );

    let cookie = sign_in(&house, "ann").await;
    let mine = [("cookie", cookie.as_str())];
    for target in ["/", "/account", "/api/v1/recordings", "/api/v1/status"] {
        let answer = get_with(house.at, target, &mine).await;
        assert_eq!(answer.status.as_u16(), 200, "{target}");
    }
    let audited = house.audited().await;
    assert!(
        audited.contains(&"account:ann sign_in ann".to_owned()),
        "{audited:?}"
    );
    assert!(
        audited.contains(&"account:ann search ".to_owned()),
        "{audited:?}"
    );
    // Nobody's cookie, and two at once, are none.
    let twice = format!("{cookie}; {cookie}");
    for cookie in [format!("callvault={}", "x".repeat(43)), twice] {
        let answer = get_with(house.at, "/api/v1/status", &[("cookie", &cookie)]).await;
        assert_eq!(answer.status.as_u16(), 401, "{cookie}");
    }
    house.stop().await;
}

#[tokio::test]
async fn who_may_not_enter_is_not_told_why() {
    let house = WebHouse::open().await;
    add(&house, "ann", Role::Officer, Scope::default()).await;
    let gone = add(&house, "gone", Role::Officer, Scope::default()).await;
    let change = callvault::db::accounts::AccountChange {
        disabled: Some(true),
        ..Default::default()
    };
    let now = house.clock.now();
    house
        .db
        .change_account(gone.account_id, change, now)
        .await
        .unwrap();
    let without_name = |answer: &Answer| {
        assert_eq!(answer.status.as_u16(), 403);
        assert!(!answer.headers.contains_key("set-cookie"));
        let text = answer.text().to_owned();
        text.replace("value=\"ann\"", "")
            .replace("value=\"gone\"", "")
            .replace("value=\"nobody\"", "")
    };
    let wrong = without_name(&try_in(&house, "ann", "not the password").await);
    assert_eq!(
        without_name(&try_in(&house, "nobody", PASSWORD).await),
        wrong
    );
    assert_eq!(without_name(&try_in(&house, "gone", PASSWORD).await), wrong);
    // Four more and the right one is refused as well, with the same words.
    for _ in 0..4 {
        without_name(&try_in(&house, "ann", "not the password").await);
    }
    assert_eq!(without_name(&try_in(&house, "ann", PASSWORD).await), wrong);
    house.clock.advance_ms(31 * 1000);
    sign_in(&house, "ann").await;
    let audited = house.audited().await.join("\n");
    assert!(
        audited.contains("(nobody) sign_in_refused ann"),
        "{audited}"
    );
    assert!(
        audited.contains("(nobody) sign_in_refused (unknown name)"),
        "{audited}"
    );
    assert!(
        !audited.contains("sign_in_refused nobody"),
        "what is no name may be a password"
    );
    house.stop().await;
}

#[test]
fn a_hundred_tries_at_once_are_five() {
    on_both(async |house| {
        let new = NewAccount {
            name: "ann".into(),
            password_hash: None,
            role: Role::Listener,
            scope: Scope::default(),
            language: None,
            must_change: false,
        };
        let now = house.clock.now();
        let account = house.db.add_account(new.clone(), now).await.unwrap();
        assert!(
            house.db.add_account(new, now).await.is_err(),
            "a name is given once"
        );
        let tries = (0..100).map(|_| house.db.take_try(account.account_id, now));
        let taken = futures::future::join_all(tries).await;
        let free = taken
            .into_iter()
            .filter(|may| *may.as_ref().unwrap())
            .count();
        assert_eq!(free, 5);
        let later = now.plus_ms(30_001);
        assert!(house.db.take_try(account.account_id, later).await.unwrap());
        assert!(
            !house.db.take_try(account.account_id, later).await.unwrap(),
            "the wait doubles"
        );
        house.db.forget_tries(account.account_id).await.unwrap();
        assert!(house.db.take_try(account.account_id, later).await.unwrap());
    });
}

#[tokio::test]
async fn a_session_ends_by_time_by_word_and_with_its_password() {
    let house = WebHouse::open().await;
    let ann = add(&house, "ann", Role::Officer, Scope::default()).await;
    let status = async |cookie: &str| {
        let answer = get_with(house.at, "/api/v1/recordings", &[("cookie", cookie)]).await;
        answer.status.as_u16()
    };
    let minutes = |n: i64| house.clock.advance_ms(n * 60_000);
    // Idle.
    let idle = sign_in(&house, "ann").await;
    minutes(29);
    assert_eq!(status(&idle).await, 200);
    minutes(29);
    assert_eq!(status(&idle).await, 200, "seeing it makes it live on");
    minutes(31);
    assert_eq!(status(&idle).await, 401);
    // Absolute: busy all the time.
    let busy = sign_in(&house, "ann").await;
    for _ in 0..36 {
        minutes(20);
        let _ = status(&busy).await;
    }
    assert_eq!(status(&busy).await, 401, "twelve hours are over");
    // Signing in again leaves no session behind in the same browser.
    let first = sign_in(&house, "ann").await;
    let again = send(
        &house,
        "/sign-in",
        &[("cookie", &first)],
        &[("name", "ann"), ("password", PASSWORD)],
    )
    .await;
    let second = cookie_of(&again);
    assert_ne!(first, second);
    assert_eq!((status(&first).await, status(&second).await), (401, 200));
    // A new password ends the others.
    let other = sign_in(&house, "ann").await;
    let new = "another sentence of mine";
    let fields = [
        ("word", &*word_of(&second)),
        ("old", PASSWORD),
        ("new", new),
        ("again", new),
    ];
    let changed = send(&house, "/account/password", &[("cookie", &second)], &fields).await;
    assert_eq!(changed.status.as_u16(), 303, "{}", changed.text());
    let third = cookie_of(&changed);
    assert_eq!(
        (
            status(&second).await,
            status(&other).await,
            status(&third).await
        ),
        (401, 401, 200)
    );
    assert_eq!(try_in(&house, "ann", PASSWORD).await.status.as_u16(), 403);
    assert_eq!(try_in(&house, "ann", new).await.status.as_u16(), 303);
    // Signing out.
    let out = send(
        &house,
        "/sign-out",
        &[("cookie", &third)],
        &[("word", &word_of(&third))],
    )
    .await;
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(status(&third).await, 401);
    assert_eq!(house.db.sessions(ann.account_id).await.unwrap().len(), 1);
    house.stop().await;
}

#[tokio::test]
async fn a_form_of_another_site_changes_nothing() {
    let house = WebHouse::open().await;
    add(&house, "ann", Role::Officer, Scope::default()).await;
    let cookie = sign_in(&house, "ann").await;
    let word = word_of(&cookie);
    let mine = ("cookie", cookie.as_str());
    for (headers, fields, code) in [
        (vec![mine], vec![], "stale_form"),
        (vec![mine], vec![("word", "0".repeat(64))], "stale_form"),
        (
            vec![mine, ("origin", "https://evil.example")],
            vec![("word", word.clone())],
            "cross_site",
        ),
        (
            vec![
                mine,
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
            ],
            vec![("word", word.clone())],
            "cross_site",
        ),
        (
            vec![mine, ("x-callvault-word", "wrong")],
            vec![("word", word.clone())],
            "stale_form",
        ),
    ] {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let answer = send(&house, "/sign-out", &headers, &fields).await;
        assert_eq!(answer.status.as_u16(), 403, "{headers:?}");
        let told = answer.text();
        let page = code == "stale_form" && told.contains("from an earlier session");
        assert!(page || told.contains(code), "{code}: {told}");
    }
    let still = get_with(house.at, "/account", &[mine]).await;
    assert_eq!(still.status.as_u16(), 200);
    // Nor does another site sign anybody in.
    let fields = [("name", "ann"), ("password", PASSWORD)];
    let foreign = send(
        &house,
        "/sign-in",
        &[("origin", "https://evil.example")],
        &fields,
    )
    .await;
    assert_eq!(foreign.problem(), "cross_site");
    house.stop().await;
}

#[tokio::test]
async fn a_link_signs_in_once_and_only_when_a_person_says_so() {
    let house = WebHouse::open().await;
    let ann = add(&house, "ann", Role::Listener, Scope::default()).await;
    let now = house.clock.now();
    let until = |ms: i64| Timestamp::from_ms(now.ms() + ms);
    for (link, ms) in [("good", 60_000), ("late", 0)] {
        house
            .db
            .add_link(ann.account_id, token::hash(link), until(ms))
            .await
            .unwrap();
    }
    let looked = get(house.at, "/sign-in/link?t=good").await;
    assert!(looked.text().contains("value=\"good\"") && !looked.headers.contains_key("set-cookie"));
    let in_by = async |link: &str| send(&house, "/sign-in/link", &[], &[("t", link)]).await;
    let entered = in_by("good").await;
    let cookie = cookie_of(&entered);
    assert_eq!(
        get_with(house.at, "/", &[("cookie", &cookie)])
            .await
            .status
            .as_u16(),
        200
    );
    for link in ["good", "late", "never"] {
        assert_eq!(in_by(link).await.status.as_u16(), 403, "{link}");
    }
    house.stop().await;
}

#[tokio::test]
async fn a_password_that_somebody_else_made_is_changed_first() {
    let house = WebHouse::open().await;
    let ann = add(&house, "ann", Role::Administrator, Scope::default()).await;
    let hash = password::hash(&Secret::new(PASSWORD)).unwrap();
    house
        .db
        .set_password(ann.account_id, &hash, true, house.clock.now())
        .await
        .unwrap();
    let cookie = sign_in(&house, "ann").await;
    let mine = [("cookie", cookie.as_str())];
    let led = get_with(house.at, "/", &mine).await;
    assert_eq!(
        (led.status.as_u16(), led.header("location")),
        (303, "/account")
    );
    let api = get_with(house.at, "/api/v1/recordings", &mine).await;
    assert_eq!(api.problem(), "password_change_required");
    assert_eq!(
        get_with(house.at, "/account", &mine).await.status.as_u16(),
        200
    );
    let word = word_of(&cookie);
    for new in ["short", "callvault callvault", PASSWORD] {
        let fields = [
            ("word", &*word),
            ("old", PASSWORD),
            ("new", new),
            ("again", new),
        ];
        let answer = send(&house, "/account/password", &mine, &fields).await;
        let expected = if new == PASSWORD { 303 } else { 400 };
        assert_eq!(answer.status.as_u16(), expected, "{new}");
    }
    house.stop().await;
}

#[tokio::test]
async fn a_token_opens_what_its_role_does_until_it_ends() {
    let mut settings = Settings::default();
    settings.access.token_requests_per_minute = 20;
    let house = WebHouse::open_with(settings).await;
    add(&house, "ann", Role::Administrator, Scope::default()).await;
    let now = house.clock.now();
    let secret = token::new_api_token().unwrap();
    let new = NewToken {
        name: "export".into(),
        sha256: token::hash(secret.expose()),
        role: Role::Listener,
        scope: Scope::default(),
        created_by: "cli:test".into(),
        expires_at: Some(now.plus_ms(60_000)),
    };
    house.db.add_token(new.clone(), now).await.unwrap();
    assert!(
        house.db.add_token(new, now).await.is_err(),
        "a name is given once"
    );
    let bearer = format!("Bearer {}", secret.expose());
    let with = async |target: &str, bearer: &str| {
        get_with(house.at, target, &[("authorization", bearer)]).await
    };
    assert_eq!(
        with("/api/v1/recordings", &bearer).await.status.as_u16(),
        200
    );
    assert_eq!(
        with("/api/v1/status", &bearer).await.problem(),
        "not_allowed"
    );
    let audited = house.audited().await;
    assert!(
        audited.contains(&"token:export search ".to_owned()),
        "{audited:?}"
    );
    assert!(
        audited.contains(&"token:export denied /api/v1/status".to_owned()),
        "{audited:?}"
    );
    assert_eq!(
        with("/api/v1/recordings", "Bearer cvt_wrong")
            .await
            .status
            .as_u16(),
        401
    );
    // A token that does not hold is not helped by a session.
    let cookie = sign_in(&house, "ann").await;
    let both = [
        ("cookie", cookie.as_str()),
        ("authorization", "Bearer cvt_wrong"),
    ];
    assert_eq!(
        get_with(house.at, "/api/v1/status", &both)
            .await
            .status
            .as_u16(),
        401
    );
    for _ in 0..18 {
        with("/healthz", &bearer).await;
        assert_eq!(
            with("/api/v1/recordings", &bearer).await.status.as_u16(),
            200
        );
    }
    let limited = with("/api/v1/recordings", &bearer).await;
    assert_eq!(
        (limited.status.as_u16(), limited.problem()),
        (429, "rate_limited".into())
    );
    assert!(limited.header("retry-after").parse::<u64>().unwrap() >= 1);
    house.clock.advance_ms(61 * 1000);
    assert_eq!(
        with("/api/v1/recordings", &bearer).await.status.as_u16(),
        401,
        "expired"
    );
    house.stop().await;
}

#[tokio::test]
async fn behind_tls_the_cookie_goes_by_tls_alone() {
    let house = WebHouse::open_with(Settings {
        public_url: Some("https://calls.example.com".into()),
        ..Settings::default()
    })
    .await;
    add(&house, "ann", Role::Listener, Scope::default()).await;
    let answer = try_in(&house, "ann", PASSWORD).await;
    let set = answer.header("set-cookie");
    assert!(
        set.starts_with("__Host-callvault=") && set.contains("; Secure"),
        "{set}"
    );
    house.stop().await;
}
