//! Every route against every role, and every answer against the calls that somebody may see.
//!
//! A new route fails here until it says who may use it: the list comes from the router.

use std::collections::BTreeSet;

use callvault::domain::call::{CallFacts, Party};
use callvault::domain::clock::Timestamp;
use callvault::domain::rights::{Role, Scope};
use callvault::web::router::patterns;
use http::Method;

use crate::accounts::{add, sign_in, word_of};
use crate::matrix::MATRIX;
use crate::matrix::May::{All, Everybody, House, In};
use crate::support::http::{Answer, ask, get_with};
use crate::support::web::{NOW_MS, WebHouse};

use Role::{Auditor, Listener, Officer};

fn call(id: &str, caller: &str, party: &str) -> CallFacts {
    let start = Timestamp::from_ms(NOW_MS - 20 * 60_000);
    CallFacts {
        started_at: Some(start),
        duration_ms: Some(90_000),
        caller: Some(caller.into()),
        callee: Some("057188881234".into()),
        parties: vec![Party {
            id: Some(party.into()),
            name: Some("Wang Li".into()),
            ..Party::default()
        }],
        recorded: Some(true),
        talked: Some(true),
        is_cdr: true,
        ..CallFacts::new(id)
    }
}

struct Desk {
    house: WebHouse,
    /// Recording and call.
    id: String,
    call: String,
}

/// One archived recording of a call from +8613900000001, party `agent7`, source `desk`.
async fn desk() -> Desk {
    let house = WebHouse::open().await;
    house
        .learn(call("c1", "+8613900000001", "Agent7"), Some("r1"))
        .await;
    let id = house
        .archive_joined(b"RIFF original", Some(b"0123456789abcdef"), true)
        .await;
    add(&house, "keeper", Listener, Scope::default()).await;
    let list = house
        .db
        .search(&Default::default(), None, 10)
        .await
        .unwrap();
    let call = list.items[0].call_id.to_string();
    Desk {
        house,
        id: id.to_string(),
        call,
    }
}

async fn asked(desk: &Desk, method: &str, target: &str, cookie: Option<&str>) -> Answer {
    let target = target
        .replace("{id}", &desk.id)
        .replace("{call}", &desk.call);
    let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
    let mut body = String::new();
    if let Some(cookie) = cookie {
        headers.push(("cookie", cookie));
        // Every field that any form has, so that each handler comes to ask for its right.
        body = format!(
            "word={}&name=nobody&role=boss&days=0&test=none&run=none&old=x&new=x&again=y&language=en\
             &session=00000000-0000-0000-0000-000000000000",
            word_of(cookie)
        );
    }
    let method: Method = method.parse().unwrap();
    let word = cookie.map(word_of).unwrap_or_default();
    if target.starts_with("/api/") && method != Method::GET {
        headers[0] = ("content-type", "application/json");
        headers.push(("x-callvault-word", &word));
        body = match target.rsplit('/').next().unwrap_or_default() {
            "markers" => r#"{"offset_ms":1,"text":"x"}"#,
            "heard" => r#"{"parts_ms":[[0,1]]}"#,
            "retry" => r#"{"access":true}"#,
            "searches" => r#"{"name":"x","query":"q=x"}"#,
            "notes" => r#"{"text":"x"}"#,
            "account" => r#"{"language":null}"#,
            "password" => r#"{"old":"","new":"x"}"#,
            "accounts" => r#"{"name":"-","role":"listener"}"#,
            "keeper" => "{}",
            "tokens" => r#"{"name":"-","role":"listener","days":1}"#,
            _ => "",
        }
        .to_owned();
    } else if target.starts_with("/do/") && cookie.is_some() {
        body = format!(
            "word={word}&recording={}&call={}&text=x",
            desk.id, desk.call
        );
    }
    ask(desk.house.at, method, &target, &headers, body).await
}

/// Refused at the door or for want of a right; what the handler itself says is no matter here.
fn is_refused(answer: &Answer) -> bool {
    // Signing out leads there as well, and takes the cookie away.
    let to_sign_in =
        answer.header("location").starts_with("/sign-in") && answer.header("set-cookie").is_empty();
    to_sign_in || matches!(answer.status.as_u16(), 401 | 403)
}

#[test]
fn every_route_says_who_may_use_it() {
    let routes: BTreeSet<&str> = patterns().into_iter().map(|(route, _)| route).collect();
    let told: BTreeSet<&str> = MATRIX.iter().map(|(_, route, _, _)| *route).collect();
    let differ: Vec<_> = routes.symmetric_difference(&told).collect();
    assert!(
        differ.is_empty(),
        "the router and this matrix agree on {differ:?}"
    );
    for (route, guarded) in patterns() {
        let open = MATRIX
            .iter()
            .any(|(_, of, _, may)| *of == route && *may == Everybody);
        assert_eq!(guarded, !open, "{route}");
    }
}

#[tokio::test]
async fn every_route_is_held_against_every_role() {
    let desk = desk().await;
    let mut wrong = Vec::new();
    for role in Role::ALL {
        for narrow in [false, true] {
            let name = format!("{}-{narrow}", role.as_str());
            let sources = if narrow {
                vec!["desk".to_owned()]
            } else {
                Vec::new()
            };
            let scope = Scope {
                sources,
                ..Scope::default()
            };
            add(&desk.house, &name, role, scope).await;
            let mut cookie = sign_in(&desk.house, &name).await;
            for (method, _, target, may) in MATRIX {
                let answer = asked(&desk, method, target, Some(&cookie)).await;
                let expected = match may {
                    Everybody | All => true,
                    In(roles) => roles.contains(&role),
                    House(roles) => roles.contains(&role) && !narrow,
                };
                let through = match may {
                    // What these say to strangers is their own matter.
                    Everybody => true,
                    _ => !is_refused(&answer),
                };
                if through != expected {
                    wrong.push(format!("{name}: {method} {target}: {}", answer.status));
                }
                if expected && *method == "GET" && *may != Everybody {
                    assert_eq!(answer.status.as_u16(), 200, "{name}: {method} {target}");
                }
                if *target == "/sign-out" {
                    cookie = sign_in(&desk.house, &name).await;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // And nobody at all.
    for (method, _, target, may) in MATRIX.iter().filter(|line| line.3 != Everybody) {
        if *target == "/metrics" {
            continue; // On loopback this one is open.
        }
        let answer = asked(&desk, method, target, None).await;
        assert!(
            is_refused(&answer),
            "nobody: {method} {target} {may:?}: {}",
            answer.status
        );
    }
    desk.house.stop().await;
}

#[tokio::test]
async fn what_is_out_of_scope_is_not_there() {
    let desk = desk().await;
    let lists = |sources: &[&str], numbers: &[&str], parties: &[&str]| {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Scope {
            sources: own(sources),
            numbers: own(numbers),
            parties: own(parties),
        }
    };
    let nobody = "00000000-0000-0000-0000-000000000000";
    for (n, (scope, sees)) in [
        (lists(&["desk"], &[], &[]), true),
        (lists(&["desk", "guarded"], &[], &[]), true),
        (lists(&[], &["+8613900000001"], &[]), true),
        (lists(&[], &["0086 139-0000-0001"], &[]), true),
        (lists(&[], &["900000001", "+8613911111111"], &[]), true),
        (lists(&[], &["88881234"], &[]), true),
        (lists(&[], &[], &["agent7"]), true),
        (lists(&["desk"], &["+8613911111111"], &["AGENT7"]), true),
        (lists(&["guarded"], &[], &[]), false),
        (lists(&["guarded"], &["+8613900000001"], &[]), false),
        (lists(&["desk"], &["+8613911111111"], &[]), false),
        (lists(&[], &["+86139000000012"], &[]), false),
        (lists(&[], &["+"], &[]), false),
        (lists(&[], &[], &["agent"]), false),
        (lists(&[], &[], &["wang li"]), false),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("officer{n}");
        add(&desk.house, &name, Officer, scope.clone()).await;
        let cookie = sign_in(&desk.house, &name).await;
        let mine = [("cookie", cookie.as_str())];
        let with = async |target: String| get_with(desk.house.at, &target, &mine).await;
        for query in [
            "",
            "?q=wang",
            "?number=1234",
            "?source=desk",
            "?party=agent7",
            "?q=c1",
        ] {
            let list = with(format!("/api/v1/recordings{query}")).await.json();
            let found = list["items"].as_array().unwrap().len();
            assert_eq!(found, usize::from(sees), "{scope:?} {query}");
        }
        for (target, missing) in [
            (
                format!("/api/v1/recordings/{}", desk.id),
                format!("/api/v1/recordings/{nobody}"),
            ),
            (
                format!("/api/v1/recordings/{}/audio", desk.id),
                format!("/api/v1/recordings/{nobody}/audio"),
            ),
            (
                format!("/api/v1/recordings/{}/audio?role=original", desk.id),
                format!("/api/v1/recordings/{nobody}/audio?role=original"),
            ),
            (
                format!("/api/v1/recordings/{}/waveform", desk.id),
                format!("/api/v1/recordings/{nobody}/waveform"),
            ),
            (
                format!("/api/v1/calls/{}", desk.call),
                format!("/api/v1/calls/{nobody}"),
            ),
            (
                format!("/api/v1/calls/{}/audio", desk.call),
                format!("/api/v1/calls/{nobody}/audio"),
            ),
            (
                "/api/v1/calls/by/desk/c1".into(),
                "/api/v1/calls/by/desk/c2".into(),
            ),
            (
                format!("/recordings/{}", desk.id),
                format!("/recordings/{nobody}"),
            ),
        ] {
            let answer = with(target.clone()).await;
            if sees {
                assert_eq!(answer.status.as_u16(), 200, "{scope:?} {target}");
            } else {
                let missing = with(missing).await;
                assert_eq!(answer.status.as_u16(), 404, "{scope:?} {target}");
                // A page that says so goes back to where one was.
                let same = |answer: &Answer| answer.text().replace(&desk.id, nobody);
                assert_eq!(
                    same(&answer),
                    same(&missing),
                    "forbidden and missing look alike: {target}"
                );
            }
        }
    }
    desk.house.stop().await;
}

#[tokio::test]
async fn whoever_sees_masked_numbers_sees_no_others() {
    let desk = desk().await;
    add(&desk.house, "audrey", Auditor, Scope::default()).await;
    add(&desk.house, "li", Listener, Scope::default()).await;
    let (audrey, li) = (
        sign_in(&desk.house, "audrey").await,
        sign_in(&desk.house, "li").await,
    );
    let text = async |cookie: &str, target: &str| {
        let target = target
            .replace("{id}", &desk.id)
            .replace("{call}", &desk.call);
        let answer = get_with(desk.house.at, &target, &[("cookie", cookie)]).await;
        assert_eq!(answer.status.as_u16(), 200, "{target}");
        answer.text().to_owned()
    };
    for target in [
        "/",
        "/recordings/{id}",
        "/api/v1/recordings",
        "/api/v1/recordings/{id}",
        "/api/v1/calls/{call}",
        "/api/v1/calls/by/desk/c1",
    ] {
        let (masked, whole) = (text(&audrey, target).await, text(&li, target).await);
        assert!(whole.contains("13900000001"), "{target}: {whole}");
        assert!(
            !masked.contains("13900000001") && !masked.contains("057188881234"),
            "{target}"
        );
        assert!(
            masked.contains("0001") && masked.contains("1234"),
            "{target}: {masked}"
        );
    }
    // What people wrote beside a call holds numbers, too.
    add(&desk.house, "olga", Officer, Scope::default()).await;
    let olga = sign_in(&desk.house, "olga").await;
    let word = word_of(&olga);
    let headers = [
        ("cookie", olga.as_str()),
        ("content-type", "application/json"),
        ("x-callvault-word", word.as_str()),
    ];
    let notes = format!("/api/v1/calls/{}/notes", desk.call);
    let said = r#"{"text":"call back 139.0000.0001"}"#;
    let answer = ask(desk.house.at, Method::POST, &notes, &headers, said).await;
    assert!(answer.status.is_success(), "{}", answer.text());
    for target in [notes.as_str(), "/recordings/{id}"] {
        assert!(text(&li, target).await.contains("139.0000.0001"));
        assert!(
            !text(&audrey, target).await.contains("139.0000"),
            "{target}"
        );
    }
    // Nor can more digits be tried out than are shown.
    for (query, found) in [
        ("number=1234", 1),
        ("number=991234", 1),
        ("number=%2B8613911110001", 1),
        ("q=5550001", 1),
        ("number=2234", 0),
        ("party=13900000", 0),
    ] {
        let list = text(&audrey, &format!("/api/v1/recordings?{query}")).await;
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        assert_eq!(list["items"].as_array().unwrap().len(), found, "{query}");
    }
    desk.house.stop().await;
}
