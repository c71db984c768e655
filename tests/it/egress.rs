//! The guarded client against a staged network: who is connected to, what goes over the wire, how it ends.
//!
//! Names and addresses are staged, the sockets are real: every address that the guard lets through is
//! mapped to a local listener, and the list of connections shows what it did not let through.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use callvault::domain::retry::RetryAdvice;
use callvault::providers::http::{ApiRequest, FetchErrorKind as Kind, GuardPolicy};
use callvault::providers::settings::{BaseUrl, HttpLinks};

use crate::support::network::*;

#[tokio::test]
async fn no_inward_address_is_ever_connected_to() {
    let world = Arc::new(World::default());
    let inward = [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.100.100.200",
        "100.64.0.1",
        "168.63.129.16",
        "192.0.0.192",
        "198.18.0.1",
        "192.0.2.1",
        "203.0.113.9",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
        "[fe80::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[2001:db8::1]",
        "127.1",
        "0x7f.1",
        "2130706433",
        "0177.0.0.1",
        "0x7f000001",
        "017700000001",
    ];
    world.name("out.example", &[&[PUBLIC]]);
    for (n, host) in inward.iter().enumerate() {
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{host}/latest/meta-data?Signature=s3cret");
            for policy in [public(), only(&["*.example"])] {
                let error = fetch(&world, &policy, &url).await.unwrap_err();
                assert!(!error.to_string().contains("s3cret"), "{error}");
                assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
            }
        }
        // A redirect there.
        let there = format!("http://{host}/");
        let port = 2000 + u16::try_from(n).unwrap();
        world
            .serve(&format!("{PUBLIC}:{port}"), move |_| redirect(&there))
            .await;
        let from = format!("http://out.example:{port}/");
        let error = fetch(&world, &public(), &from).await.unwrap_err();
        assert_eq!(error.kind, Kind::AddressForbidden, "{host}: {error}");
        // A name that leads there.
        if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            world.name("in.example", &[&[&ip.to_string()]]);
            let error = fetch(&world, &public(), "http://in.example/").await;
            assert_eq!(error.unwrap_err().kind, Kind::AddressForbidden, "{host}");
        }
    }
    for at in world.connected() {
        assert!(at.starts_with(PUBLIC), "{at}");
    }
}

#[tokio::test]
async fn what_the_configuration_names_is_allowed() {
    let world = Arc::new(World::default());
    world.name("public.example", &[&[PUBLIC]]);
    world.name("files.internal", &[&["10.0.0.5"]]);
    world.name("deep.sub.internal", &[&["10.0.0.5"]]);
    world.name("sly.internal", &[&["169.254.169.254"]]);
    for at in [
        &format!("{PUBLIC}:80"),
        "10.0.0.5:80",
        "127.0.0.1:9000",
        "[::1]:80",
    ] {
        world.serve(at, |_| ok("audio")).await;
    }
    let private = GuardPolicy {
        allow_private_addresses: true,
        ..public()
    };
    for (policy, url, allowed) in [
        (public(), "http://public.example/", true),
        (public(), &format!("http://{PUBLIC}/"), true),
        (only(&["*.example"]), "http://public.example./", true),
        (only(&["files.internal"]), "http://FILES.internal/", true),
        (only(&["*.internal"]), "http://deep.sub.internal/", false),
        (only(&["127.0.0.1:9000"]), "http://127.0.0.1:9000/", true),
        (only(&["127.0.0.1:9001"]), "http://127.0.0.1:9000/", false),
        (only(&["[::1]"]), "http://[0:0::1]/", true),
        (private.clone(), "http://deep.sub.internal/", true),
        (private.clone(), "http://[::1]/", true),
        (private, "http://sly.internal/", false),
        (only(&["sly.internal"]), "http://sly.internal/", false),
    ] {
        let fetched = fetch(&world, &policy, url).await;
        assert_eq!(
            fetched.is_ok(),
            allowed,
            "{url} under {policy:?}: {fetched:?}"
        );
        if let Ok(fetched) = fetched {
            assert_eq!(whole(fetched).await.unwrap(), "audio");
        }
    }
}

#[tokio::test]
async fn a_host_that_is_not_named_waits_for_its_line() {
    let world = Arc::new(World::default());
    let policy = only(&["*.aliyuncs.com"]);
    for (url, host) in [
        (
            "http://aliyuncs.com.evil.example/x?y",
            "aliyuncs.com.evil.example",
        ),
        ("https://other.example:8443/x", "other.example:8443"),
    ] {
        let error = fetch(&world, &policy, url).await.unwrap_err();
        assert_eq!(
            error.kind,
            Kind::HostNotAllowed {
                host: host.to_owned()
            }
        );
        assert_eq!(
            error.kind.advice(),
            RetryAdvice::After(Duration::from_secs(600))
        );
    }
    let error = fetch(&world, &public(), "http://mail.example:25/").await;
    assert!(matches!(
        error.unwrap_err().kind,
        Kind::HostNotAllowed { .. }
    ));
    assert!(world.connected().is_empty());
}

#[tokio::test]
async fn of_mixed_answers_only_the_public_ones_are_tried() {
    let world = Arc::new(World::default());
    world.name("mixed.example", &[&["10.0.0.1", "::1", "8.8.4.4", PUBLIC]]);
    world.serve("10.0.0.1:80", |_| ok("inward")).await;
    world
        .serve(&format!("{PUBLIC}:80"), |_| ok("outward"))
        .await;
    let fetched = fetch(&world, &public(), "http://mixed.example/").await;
    assert_eq!(whole(fetched.unwrap()).await.unwrap(), "outward");
    assert_eq!(
        world.connected(),
        ["8.8.4.4:80".to_owned(), format!("{PUBLIC}:80")]
    );
}

#[tokio::test]
async fn a_name_that_turns_inward_between_hops_is_caught() {
    let world = Arc::new(World::default());
    world.name("turning.example", &[&[PUBLIC], &["127.0.0.1"]]);
    world
        .serve(&format!("{PUBLIC}:80"), |_| redirect("/again"))
        .await;
    world.serve("127.0.0.1:80", |_| ok("inward")).await;
    let error = fetch(&world, &public(), "http://turning.example/").await;
    assert_eq!(error.unwrap_err().kind, Kind::AddressForbidden);
    assert_eq!(world.connected(), [format!("{PUBLIC}:80")]);
}

#[tokio::test]
async fn the_target_goes_out_byte_for_byte() {
    let world = Arc::new(World::default());
    world.name("a.example", &[&[PUBLIC]]);
    let moved = "/%E5%BD%95/b'\"|c.wav?sig=\"<a>'%2B%zz|{}";
    world
        .serve(&format!("{PUBLIC}:80"), move |target| {
            if target.starts_with("/one") {
                redirect(&format!("http://a.example{moved}"))
            } else {
                ok("x")
            }
        })
        .await;
    let first = "/one/../'\"|^`{}%7e录音.mp3?Expires=1&Signature=a%2Fb+c/d=='\"<>\\";
    let fetched = fetch(&world, &public(), &format!("http://a.example{first}#frag")).await;
    assert_eq!(whole(fetched.unwrap()).await.unwrap(), "x");
    let heads = world.heads();
    assert_eq!(target_of(&heads[0]), first);
    assert_eq!(target_of(&heads[1]), moved);
    let head = heads[0].to_ascii_lowercase();
    assert!(head.contains("\r\nhost: a.example\r\n"), "{head}");
    assert!(head.contains("\r\naccept-encoding: identity\r\n"), "{head}");
}

#[tokio::test]
async fn headers_stay_with_the_first_host() {
    let world = Arc::new(World::default());
    world.name("a.example", &[&[PUBLIC]]);
    world.name("b.example", &[&["8.8.8.8"]]);
    world
        .serve(&format!("{PUBLIC}:80"), |target| match target {
            "/start" => redirect("/same"),
            "/same" => redirect("http://b.example/away"),
            _ => ok("x"),
        })
        .await;
    world
        .serve("8.8.8.8:80", |_| redirect("http://a.example/back"))
        .await;
    let headers = [("Authorization".to_owned(), "Basic c2VjcmV0".to_owned())];
    let fetched = client(&world)
        .fetch(
            &public(),
            "http://a.example/start",
            &headers,
            None,
            &limits(),
        )
        .await
        .unwrap();
    assert_eq!(fetched.redirects, 3);
    let told: Vec<(String, bool)> = world
        .heads()
        .iter()
        .map(|head| (target_of(head).to_owned(), head.contains("c2VjcmV0")))
        .collect();
    let expected = [
        ("/start", true),
        ("/same", true),
        ("/away", false),
        ("/back", false),
    ];
    assert_eq!(
        told,
        expected.map(|(target, told)| (target.to_owned(), told))
    );
}

#[tokio::test]
async fn redirects_end_after_five_hops_and_never_leave_http() {
    let world = Arc::new(World::default());
    world.name("a.example", &[&[PUBLIC]]);
    world
        .serve(&format!("{PUBLIC}:80"), |target| match target {
            "/loop" => redirect("/loop"),
            "/file" => redirect("file:///etc/passwd"),
            "/user" => redirect("http://u:p@a.example/"),
            "/nowhere" => say("HTTP/1.1 302 Found\r\nContent-Length: 2\r\n\r\nhi"),
            n => match n.trim_start_matches('/').parse::<u32>() {
                Ok(0) | Err(_) => ok("end"),
                Ok(n) => redirect(&format!("/{}", n - 1)),
            },
        })
        .await;
    let at = |path: &str| format!("http://a.example{path}");
    let error = fetch(&world, &public(), &at("/loop")).await.unwrap_err();
    assert_eq!(error.kind, Kind::TooManyRedirects);
    assert_eq!(world.heads().len(), 6, "one request and five redirects");
    for path in ["/file", "/user"] {
        let error = fetch(&world, &public(), &at(path)).await.unwrap_err();
        assert_eq!(error.kind, Kind::BadAddress);
    }
    let fetched = fetch(&world, &public(), &at("/5")).await.unwrap();
    assert_eq!((fetched.status, fetched.redirects), (200, 5));
    let nowhere = fetch(&world, &public(), &at("/nowhere")).await.unwrap();
    assert_eq!(nowhere.status, 302, "without a target it is an answer");
}

#[tokio::test]
async fn https_is_tried_first_and_plain_http_is_noted() {
    let (server, trust) = tls();
    let world = Arc::new(World::default());
    world.name("files.example", &[&[PUBLIC]]);
    world.name("old.example", &[&["8.8.8.8"]]);
    world.name("other.example", &[&["8.8.4.4"]]);
    world
        .serve_with(
            &format!("{PUBLIC}:443"),
            Some(server.clone()),
            |target| match target {
                "/missing" => say("HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n"),
                _ => ok("secure"),
            },
        )
        .await;
    // Speaks https under another name: its certificate does not fit.
    world
        .serve_with("8.8.4.4:443", Some(server), |_| ok("foreign"))
        .await;
    for at in [&format!("{PUBLIC}:80"), "8.8.8.8:80", "8.8.4.4:80"] {
        world.serve(at, |_| ok("plain")).await;
    }
    let client = client(&world).with_tls(trust);
    let policy = |http_links| GuardPolicy {
        http_links,
        ..public()
    };
    use HttpLinks::{Allow, Refuse, TryHttps};
    for (links, url, expected) in [
        (TryHttps, "http://files.example/a", Ok(("secure", false))),
        (TryHttps, "https://files.example/a", Ok(("secure", false))),
        (TryHttps, "http://old.example/a", Ok(("plain", true))),
        (TryHttps, "http://other.example/a", Ok(("plain", true))),
        (
            TryHttps,
            "http://files.example/missing",
            Ok(("plain", true)),
        ),
        (TryHttps, "https://other.example/a", Err(Kind::Tls)),
        (TryHttps, "https://old.example/a", Err(Kind::Connect)),
        (Allow, "http://files.example/a", Ok(("plain", false))),
        (
            Refuse,
            "http://files.example/a",
            Err(Kind::PlainHttpRefused),
        ),
        (Refuse, "https://files.example/a", Ok(("secure", false))),
    ] {
        let fetched = client
            .fetch(&policy(links), url, &[], None, &limits())
            .await;
        let seen = match fetched {
            Ok(fetched) => {
                let plain = fetched.plain_http;
                Ok((whole(fetched).await.unwrap(), plain))
            }
            Err(e) => Err(e.kind),
        };
        let expected = expected.map(|(body, plain)| (body.to_owned(), plain));
        assert_eq!(seen, expected, "{links:?} {url}");
    }
    let before = world.connected().len();
    let again = client
        .fetch(
            &policy(TryHttps),
            "http://old.example/b",
            &[],
            None,
            &limits(),
        )
        .await
        .unwrap();
    assert!(again.plain_http);
    assert_eq!(
        world.connected()[before..],
        ["8.8.8.8:80"],
        "a host without https is not asked for it every time"
    );
}

#[tokio::test]
async fn a_vendor_api_may_be_anywhere_and_answers_small() {
    let world = Arc::new(World::default());
    world
        .serve("127.0.0.1:9000", |target| match target {
            "/base/huge" => ok(&"x".repeat((1 << 20) + 1)),
            "/base/moved" => redirect("http://169.254.169.254/"),
            _ => say("HTTP/1.1 429 x\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}"),
        })
        .await;
    let base = BaseUrl::parse("http://127.0.0.1:9000/base/").unwrap();
    let client = client(&world);
    let request = ApiRequest::form("/ask?sig='\"|", "a=1&b=2");
    assert!(!format!("{request:?}").contains("sig"));
    let answer = client.call(&base, request).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (429, &b"{}"[..]));
    assert_eq!(answer.retry_after, Some(Duration::from_secs(7)));
    let head = &world.heads()[0];
    assert!(
        head.starts_with("POST /base/ask?sig='\"| HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(head.to_ascii_lowercase().contains("content-length: 7\r\n"));
    let moved = client.call(&base, ApiRequest::get("/moved")).await.unwrap();
    assert_eq!(moved.status, 302, "an API's redirect is not followed");
    let huge = client.call(&base, ApiRequest::get("/huge")).await;
    assert_eq!(huge.unwrap_err().kind, Kind::TooLarge);
    for bad in [
        "http://u:p@a.example",
        "ftp://a.example",
        "http://a.example?x",
    ] {
        let error = BaseUrl::parse(bad).unwrap_err();
        assert!(!error.contains("u:p"), "{error}");
    }
}
