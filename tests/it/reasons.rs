//! Where the configuration asks why: no byte leaves before somebody said it, and the trail holds it.

use callvault::db::audit::{AuditRow, TrailQuery};
use callvault::domain::rights::{Role, Scope};
use callvault::web::access::settings::{Asked, Settings as Access};
use callvault::web::settings::Settings;
use http::Method;

use crate::accounts::{add, send, sign_in, word_of};
use crate::desk::{ACCESS, call};
use crate::support::http::{ask, get_with};
use crate::support::web::WebHouse;

struct Asking {
    house: WebHouse,
    id: String,
    call: String,
}

async fn asking(ask_reason: Vec<Asked>, of: Vec<Role>) -> Asking {
    let house = WebHouse::open_with(Settings {
        access: Access {
            ask_reason,
            ask_reason_of: of,
            ..Access::default()
        },
        ..Settings::default()
    })
    .await;
    house.learn(call("c1", 20), Some("r1")).await;
    let id = house.archive_next(b"RIFF", Some(ACCESS)).await;
    let call = house.db.call_of_recording(id).await.unwrap().unwrap();
    Asking {
        house,
        id: id.to_string(),
        call: call.to_string(),
    }
}

impl Asking {
    async fn said(&self, action: &str) -> Vec<String> {
        let query = TrailQuery {
            action: Some(action.to_owned()),
            ..TrailQuery::default()
        };
        let rows = self.house.db.audit_rows(&query, 100).await.unwrap();
        let detail =
            |row: AuditRow| serde_json::from_str::<serde_json::Value>(&row.detail).unwrap();
        rows.into_iter()
            .map(|row| detail(row)["reason"].as_str().unwrap_or("-").to_owned())
            .collect()
    }
}

#[tokio::test]
async fn no_byte_leaves_without_a_reason() {
    let asking = asking(vec![Asked::Play, Asked::Download], Vec::new()).await;
    let at = asking.house.at;
    let audio = format!("/api/v1/recordings/{}/audio", asking.id);
    let original = format!("{audio}?role=original");
    let waveform = format!("/api/v1/recordings/{}/waveform", asking.id);
    let missing = "/api/v1/recordings/00000000-0000-0000-0000-000000000000/audio";
    let range = [("range", "bytes=0-3")];
    for (method, target, headers) in [
        (Method::GET, &audio, &[][..]),
        (Method::HEAD, &audio, &[][..]),
        (Method::GET, &audio, &range[..]),
        (Method::HEAD, &audio, &range[..]),
        (Method::GET, &audio, &[("if-none-match", "*")][..]),
        (Method::GET, &original, &range[..]),
        (Method::GET, &waveform, &[][..]),
        // What is not there looks no other.
        (Method::GET, &missing.to_owned(), &[][..]),
    ] {
        let answer = ask(at, method.clone(), target, headers, "").await;
        assert_eq!(answer.status.as_u16(), 428, "{method} {target}");
        assert!(!answer.headers.contains_key("etag"), "{method} {target}");
        if method == Method::GET {
            assert_eq!(answer.problem(), "reason_required", "{target}");
        }
    }
    assert!(asking.said("play").await.is_empty(), "nothing was played");
    // A reason in each request, by header or parameter; once, and one that says something.
    let why = [(
        "x-callvault-reason",
        "%E5%AE%A2%E6%88%B7%E6%8A%95%E8%AF%89%204711",
    )];
    let answer = get_with(at, &audio, &why).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, ACCESS));
    let answer = get_with(at, &format!("{original}&reason=case+12"), &range).await;
    assert_eq!(answer.status.as_u16(), 206);
    assert_eq!(asking.said("play").await, ["case 12", "客户投诉 4711"]);
    assert_eq!(
        get_with(at, &audio, &[]).await.status.as_u16(),
        428,
        "it was not kept"
    );
    for (target, headers) in [
        (format!("{audio}?reason=x"), &[][..]),
        (format!("{audio}?reason=%0A%0A%0Aab"), &[][..]),
        (format!("{audio}?reason=case+12"), &why[..]),
        (audio.clone(), &[("x-callvault-reason", "%FF%FF%FF")][..]),
    ] {
        let answer = get_with(at, &target, headers).await;
        assert_eq!(answer.problem(), "bad_request", "{target}");
    }
    asking.house.stop().await;
}

#[tokio::test]
async fn a_page_asks_once_for_a_call_and_a_while() {
    let asking = asking(vec![Asked::Play], vec![Role::Listener]).await;
    let house = &asking.house;
    add(house, "lin", Role::Listener, Scope::default()).await;
    add(house, "olga", Role::Officer, Scope::default()).await;
    let cookie = sign_in(house, "lin").await;
    let word = word_of(&cookie);
    let mine = [("cookie", cookie.as_str())];
    let page = format!("/recordings/{}", asking.id);
    let audio = format!("/api/v1/recordings/{}/audio", asking.id);
    for (language, words) in [
        ("en", "Why do you want to hear this call?"),
        ("zh-CN", "您为什么要收听此通话？"),
    ] {
        let headers = [mine[0], ("accept-language", language)];
        let shown = get_with(house.at, &page, &headers).await;
        assert!(shown.text().contains(words), "{language}");
        assert!(!shown.text().contains("<audio id"), "no player before");
        assert!(!shown.text().contains("lane-1"), "no waveform before");
    }
    let list = get_with(house.at, "/", &mine).await;
    assert!(
        !list.text().contains("data-audio"),
        "the list plays nothing by itself"
    );

    let (call, back) = (asking.call.as_str(), page.as_str());
    let give = async |cookie: &str, reason: &str| {
        let word = word_of(cookie);
        let fields = [
            ("word", word.as_str()),
            ("call", call),
            ("reason", reason),
            ("back", back),
        ];
        send(house, "/do/reason", &[("cookie", cookie)], &fields).await
    };
    for bad in ["", "  ", "x"] {
        assert_eq!(give(&cookie, bad).await.status.as_u16(), 400, "{bad:?}");
    }
    let stranger = [
        ("word", word.as_str()),
        ("call", "00000000-0000-0000-0000-000000000000"),
        ("reason", "case 12"),
    ];
    assert_eq!(
        send(house, "/do/reason", &mine, &stranger)
            .await
            .status
            .as_u16(),
        404
    );
    assert_eq!(get_with(house.at, &audio, &mine).await.status.as_u16(), 428);

    let given = give(&cookie, " complaint 4711 ").await;
    assert_eq!(
        (given.status.as_u16(), given.header("location")),
        (303, back)
    );
    let shown = get_with(house.at, &page, &mine).await;
    assert!(shown.text().contains("<audio id") && !shown.text().contains("why-text"));
    for range in ["bytes=0-3", "bytes=4-"] {
        let headers = [mine[0], ("range", range)];
        assert_eq!(
            get_with(house.at, &audio, &headers).await.status.as_u16(),
            206
        );
    }
    assert_eq!(
        asking.said("play").await,
        ["complaint 4711", "complaint 4711"]
    );
    assert_eq!(asking.said("reason").await[0], "complaint 4711");
    // Another session of the same person is asked again, another role is not, and a while is over some time.
    let other = sign_in(house, "lin").await;
    assert_eq!(
        get_with(house.at, &audio, &[("cookie", &other)])
            .await
            .status
            .as_u16(),
        428
    );
    let olga = sign_in(house, "olga").await;
    assert_eq!(
        get_with(house.at, &audio, &[("cookie", &olga)])
            .await
            .status
            .as_u16(),
        200
    );
    for _ in 0..3 {
        house.clock.advance_ms(21 * 60_000);
        get_with(house.at, "/account", &mine).await;
    }
    assert_eq!(get_with(house.at, &audio, &mine).await.status.as_u16(), 428);
    asking.house.stop().await;
}
