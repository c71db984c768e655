//! Bodies that do not come as they should, against the guarded client: cut, silent, dripping, too large.

use std::sync::Arc;
use std::time::Duration;

use callvault::providers::http::{FetchErrorKind as Kind, Limits, ResumeFrom};

use crate::support::network::*;

#[tokio::test]
async fn a_body_that_does_not_come_whole_is_truncated() {
    let world = Arc::new(World::default());
    world.name("a.example", &[&[PUBLIC]]);
    world
        .serve(&format!("{PUBLIC}:80"), |target| {
            match target.split('?').next().unwrap() {
                "/short" => say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"),
                "/chunks" => {
                    say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
                }
                "/half" => say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nhello"),
                "/reset" => vec![
                    Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly".to_vec()),
                    Step::Pause(Duration::from_millis(50)),
                    Step::Reset,
                ],
                "/silent" => vec![],
                "/noise" => say("SSH-2.0-OpenSSH_9.2\r\n\r\n"),
                _ => say(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                ),
            }
        })
        .await;
    for (path, expected) in [
        ("/short", Err(Kind::Truncated)),
        ("/chunks", Err(Kind::Truncated)),
        ("/half", Err(Kind::Truncated)),
        ("/reset", Err(Kind::Reset)),
        ("/silent", Err(Kind::Reset)),
        ("/noise", Err(Kind::Http)),
        ("/whole", Ok("hello".to_owned())),
    ] {
        let url = format!("http://a.example{path}?Signature=s3cret");
        let ended = match fetch(&world, &public(), &url).await {
            Ok(fetched) => whole(fetched).await,
            Err(e) => Err(e),
        };
        if let Err(e) = &ended {
            assert!(!e.to_string().contains("s3cret"), "{e}");
        }
        assert_eq!(ended.map_err(|e| e.kind), expected, "{path}");
    }
}

#[tokio::test]
async fn silence_and_dripping_end() {
    let world = Arc::new(World::default());
    world.name("a.example", &[&[PUBLIC]]);
    world
        .serve(&format!("{PUBLIC}:80"), |target| {
            let mut steps = say("HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n");
            match target {
                "/never" => return vec![Step::Stall],
                "/stall" => steps.extend([Step::Send(b"abc".to_vec()), Step::Stall]),
                _ => {
                    for _ in 0..400 {
                        steps.push(Step::Send(b"x".to_vec()));
                        steps.push(Step::Pause(Duration::from_millis(20)));
                    }
                }
            }
            steps
        })
        .await;
    let hasty = Limits {
        first_byte: Duration::from_millis(200),
        idle: Duration::from_millis(200),
        ..limits()
    };
    let dripping = Limits {
        total: Duration::from_millis(400),
        ..limits()
    };
    for (path, limits, expected) in [
        ("/never", &hasty, "no answer in time"),
        ("/stall", &hasty, "the body stopped coming after 3 bytes"),
        ("/drip", &dripping, "the body came too slowly"),
    ] {
        let url = format!("http://a.example{path}");
        let ended = match client(&world)
            .fetch(&public(), &url, &[], None, limits)
            .await
        {
            Ok(fetched) => whole(fetched).await,
            Err(e) => Err(e),
        };
        let error = ended.unwrap_err();
        assert_eq!(error.kind, Kind::TimedOut, "{path}");
        assert!(error.detail.starts_with(expected), "{path}: {error}");
    }
}

#[tokio::test]
async fn a_body_larger_than_allowed_is_not_taken() {
    let world = Arc::new(World::default());
    world.name("a.example", &[&[PUBLIC]]);
    world
        .serve(&format!("{PUBLIC}:80"), |target| match target {
            "/told" => ok("12345678901"),
            "/untold" => say("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n12345678901"),
            "/rest" => say(
                "HTTP/1.1 206 x\r\nContent-Range: bytes 8-11/12\r\nContent-Length: 4\r\n\r\n1234",
            ),
            _ => ok("1234567890"),
        })
        .await;
    let small = Limits::media(10);
    let resume = ResumeFrom {
        offset: 8,
        validator: "\"tag\"".into(),
    };
    for (path, resume, expected) in [
        ("/told", None, Err(Kind::TooLarge)),
        ("/untold", None, Err(Kind::TooLarge)),
        ("/rest", Some(&resume), Err(Kind::TooLarge)),
        ("/fits", None, Ok("1234567890".to_owned())),
    ] {
        let url = format!("http://a.example{path}");
        let ended = match client(&world)
            .fetch(&public(), &url, &[], resume, &small)
            .await
        {
            Ok(fetched) => whole(fetched).await,
            Err(e) => Err(e),
        };
        assert_eq!(ended.map_err(|e| e.kind), expected, "{path}");
    }
}

#[tokio::test]
async fn a_resume_asks_for_the_rest_of_the_same_file() {
    let world = Arc::new(World::default());
    world.name("a.example", &[&[PUBLIC]]);
    world
        .serve(&format!("{PUBLIC}:80"), |_| {
            say("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\
                 ETag: \"tag\"\r\nAccept-Ranges: bytes\r\nContent-Type: audio/wav\r\n\
                 Retry-After: Tue, 05 Mar 2024 00:01:30 GMT\r\n\r\nworld")
        })
        .await;
    let resume = ResumeFrom {
        offset: 5,
        validator: "\"tag\"".into(),
    };
    let fetched = client(&world)
        .fetch(
            &public(),
            "http://a.example/",
            &[],
            Some(&resume),
            &limits(),
        )
        .await
        .unwrap();
    assert_eq!(fetched.status, 206);
    assert_eq!(fetched.content_range, Some((5, Some(10))));
    assert_eq!(fetched.content_length, Some(5));
    assert_eq!(fetched.validator().as_deref(), Some("\"tag\""));
    assert!(fetched.accept_ranges && !fetched.plain_http);
    assert_eq!(fetched.retry_after, Some(Duration::from_secs(90)));
    assert_eq!(whole(fetched).await.unwrap(), "world");
    let head = world.heads()[0].to_ascii_lowercase();
    assert!(head.contains("\r\nrange: bytes=5-\r\n"), "{head}");
    assert!(head.contains("\r\nif-range: \"tag\"\r\n"), "{head}");
}
