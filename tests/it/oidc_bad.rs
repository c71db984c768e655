//! A provider of OpenID Connect that lies, repeats itself, and leads elsewhere: nothing of it opens anything.

use serde_json::{Value, json};

use crate::oidc::{NOW_S, back, both, house, leave, newest, refused, session, settings, through};
use crate::support::http::get;
use crate::support::issuer::{CLIENT, Issuer, Key, Mood};

#[tokio::test]
async fn a_token_that_is_not_for_us_now_opens_nothing() {
    let (issuer, house) =
        both("email_domains = [\"example.com\"]\nrequired_groups = [\"call-desk\"]").await;
    let good = json!({"email": "a@example.com", "email_verified": true});
    issuer.mood().claims = good.as_object().unwrap().clone();
    session(&through(&house, &issuer).await);
    let accounts = house.db.accounts().await.unwrap().len();
    type Change = fn(&mut Mood);
    fn set(mood: &mut Mood, name: &str, value: Value) {
        mood.claims.insert(name.into(), value);
    }
    let faults: [(&str, u16, Change); 26] = [
        ("wrong_nonce", 403, |m| set(m, "nonce", json!("another"))),
        ("wrong_nonce", 403, |m| set(m, "nonce", Value::Null)),
        ("wrong_audience", 403, |m| set(m, "aud", json!("another"))),
        ("wrong_audience", 403, |m| {
            set(m, "aud", json!([CLIENT, "another"]))
        }),
        ("wrong_audience", 403, |m| set(m, "azp", json!("another"))),
        ("missing_claims", 403, |m| set(m, "aud", Value::Null)),
        ("wrong_issuer", 403, |m| {
            set(m, "iss", json!("https://evil.example"))
        }),
        ("missing_claims", 403, |m| set(m, "iss", Value::Null)),
        ("missing_claims", 403, |m| set(m, "sub", Value::Null)),
        ("missing_claims", 403, |m| set(m, "sub", json!(""))),
        ("missing_claims", 403, |m| set(m, "exp", Value::Null)),
        ("missing_claims", 403, |m| set(m, "exp", json!("tomorrow"))),
        ("missing_claims", 403, |m| set(m, "iat", Value::Null)),
        ("token_expired", 403, |m| set(m, "exp", json!(NOW_S - 61))),
        ("token_expired", 403, |m| set(m, "iat", json!(NOW_S - 3600))),
        // Their clock is three minutes ahead of ours.
        ("token_not_yet_valid", 403, |m| m.now_s = NOW_S + 180),
        ("token_not_yet_valid", 403, |m| {
            set(m, "nbf", json!(NOW_S + 180))
        }),
        ("bad_signature", 403, |m| m.alg = "none"),
        // Signed with what the provider and we both know, as if that were a key.
        ("bad_signature", 403, |m| m.alg = "HS256"),
        ("bad_signature", 403, |m| m.alg = "RS256"),
        ("bad_signature", 403, |m| m.key = Key::new("key-1")),
        ("bad_signature", 403, |m| {
            m.key = Key::new("nobody-published-me")
        }),
        ("code_refused", 403, |m| m.status = 400),
        ("provider_away", 503, |m| m.status = 500),
        ("other_domain", 403, |m| {
            set(m, "email", json!("a@evil.example"))
        }),
        ("not_in_group", 403, |m| set(m, "groups", json!(["it"]))),
    ];
    for (at, (code, status, change)) in faults.into_iter().enumerate() {
        let good = issuer.mood().clone();
        change(&mut issuer.mood());
        let left = leave(&house, &issuer, "/account").await;
        let query = format!("code=c&state={}", left.state);
        let answer = back(&house, &left.cookie, &query).await;
        assert_eq!(
            answer.status.as_u16(),
            status,
            "{at} {code}: {}",
            answer.text()
        );
        refused(&answer, status, code);
        let (row, detail) = newest(&house).await;
        assert_eq!(row, "(nobody) sign_in_refused (oidc)", "{at} {code}");
        assert_eq!(detail["code"], code, "{at} {detail}");
        let told = detail.to_string();
        assert!(
            !told.contains("script") && !told.contains("opaque"),
            "{at} {told}"
        );
        *issuer.mood() = good;
    }
    assert_eq!(house.db.accounts().await.unwrap().len(), accounts);
    session(&through(&house, &issuer).await);
    house.stop().await;
}

#[tokio::test]
async fn an_answer_is_believed_once_and_in_the_browser_that_asked() {
    let (issuer, house) = both("").await;
    let left = leave(&house, &issuer, "//evil.example/x").await;
    let query = format!("code=c&state={}", left.state);
    let other = leave(&house, &issuer, "/").await;
    for (cookie, query, code) in [
        ("", query.clone(), "state_of_another_browser"),
        (
            other.cookie.as_str(),
            query.clone(),
            "state_of_another_browser",
        ),
        (
            left.cookie.as_str(),
            "code=c".to_owned(),
            "state_of_another_browser",
        ),
        (
            left.cookie.as_str(),
            format!("{query}&state=x"),
            "state_of_another_browser",
        ),
        (
            left.cookie.as_str(),
            String::new(),
            "state_of_another_browser",
        ),
    ] {
        refused(&back(&house, cookie, &query).await, 403, code);
    }
    // The right browser comes in all the same, and not to where a stranger wanted it led.
    let left = leave(&house, &issuer, "//evil.example/x").await;
    let query = format!("code=c&state={}", left.state);
    let answer = back(&house, &left.cookie, &query).await;
    session(&answer);
    assert_eq!(answer.header("location"), "/");
    refused(
        &back(&house, &left.cookie, &query).await,
        403,
        "state_used_up",
    );
    for bad in [
        "https://evil.example",
        "/\\evil.example",
        "/sign-out",
        "javascript:x",
    ] {
        let left = leave(&house, &issuer, bad).await;
        let answer = back(
            &house,
            &left.cookie,
            &format!("code=c&state={}", left.state),
        )
        .await;
        assert_eq!(answer.header("location"), "/", "{bad}");
    }
    // What the provider itself says no to, and another provider's answer.
    for (more, code) in [
        (
            "error=access_denied&error_description=%3Cscript%3E",
            "provider_denied",
        ),
        ("error=%3Cscript%3E", "provider_denied"),
        ("nothing=x", "provider_denied"),
        ("code=c&iss=https%3A%2F%2Fevil.example", "wrong_issuer"),
    ] {
        let left = leave(&house, &issuer, "/").await;
        let answer = back(
            &house,
            &left.cookie,
            &format!("{more}&state={}", left.state),
        )
        .await;
        refused(&answer, 403, code);
        assert!(!answer.text().contains("<script>"), "{}", answer.text());
        assert!(!newest(&house).await.1.to_string().contains('<'));
    }
    // Too late.
    let left = leave(&house, &issuer, "/").await;
    house.clock.advance_ms(11 * 60_000);
    let answer = back(
        &house,
        &left.cookie,
        &format!("code=c&state={}", left.state),
    )
    .await;
    refused(&answer, 403, "state_used_up");
    let (_, detail) = newest(&house).await;
    assert_eq!(detail["code"], "state_used_up");
    house.stop().await;
}

#[tokio::test]
async fn the_provider_may_change_its_keys() {
    let (issuer, house) = both("").await;
    session(&through(&house, &issuer).await);
    // The new key beside the old one, then alone.
    let new = Key::new("key-2");
    {
        let mut mood = issuer.mood();
        mood.published.push(new.clone());
        mood.key = new;
    }
    session(&through(&house, &issuer).await);
    let old = {
        let mut mood = issuer.mood();
        let old = mood.published.remove(0);
        let newest = Key::new("key-3");
        mood.published = vec![newest.clone()];
        mood.key = newest;
        old
    };
    session(&through(&house, &issuer).await);
    // What the old key signs counts no more.
    issuer.mood().key = old;
    refused(&through(&house, &issuer).await, 403, "bad_signature");
    house.stop().await;
}

#[tokio::test]
async fn discovery_leads_nowhere_that_the_operator_did_not_mean() {
    for (name, value, hint) in [
        (
            "issuer",
            json!("https://evil.example"),
            "same to the letter",
        ),
        (
            "token_endpoint",
            json!("http://id.example.com/token"),
            "not https",
        ),
        (
            "authorization_endpoint",
            json!("javascript:alert(1)"),
            "authorization_endpoint",
        ),
        ("jwks_uri", json!("https://10.1.2.3/keys"), "allow_hosts"),
        (
            "jwks_uri",
            json!("https://169.254.169.254/keys"),
            "allow_hosts",
        ),
        ("jwks_uri", Value::Null, "not of the form"),
    ] {
        let issuer = Issuer::open(NOW_S).await;
        issuer.mood().discovery.insert(name.into(), value.clone());
        let house = house(settings(&issuer.url, "")).await;
        let answer = get(house.at, "/sign-in/oidc").await;
        refused(&answer, 503, "provider_odd");
        let (_, detail) = newest(&house).await;
        let what = detail["what"].as_str().unwrap();
        assert!(what.contains(hint), "{name} {value}: {what}");
        house.stop().await;
    }
}
