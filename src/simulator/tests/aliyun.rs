//! Alibaba: what it pushes, and its bucket with everything that can go wrong in a download.

use super::*;

#[tokio::test]
async fn every_broken_download_heals_and_is_the_ledgers() {
    for mishap in [
        "429",
        "500",
        "reset",
        "truncated",
        "html200",
        "wrong_length",
        "not_ready",
    ] {
        let world = played(VendorKind::Aliyun, |options| {
            options.only = vec![mishap.to_owned()]
        })
        .await;
        let (line, url) = (world.line(0), world.record_file());
        assert_eq!(
            (line.expect.as_str(), &line.mishaps[..]),
            ("archived", &[mishap.to_owned()][..])
        );
        let mut tries = 0;
        loop {
            let got = get(&url, &[]).await;
            let length = got.headers[http::header::CONTENT_LENGTH]
                .to_str()
                .unwrap()
                .parse::<u64>()
                .unwrap();
            let healthy = got.status == StatusCode::OK
                && got.body.as_ref().is_some_and(|b| b.starts_with(b"RIFF"));
            if healthy {
                assert_is(&line, &got);
                break;
            }
            match mishap {
                "429" => assert_eq!(got.status, StatusCode::TOO_MANY_REQUESTS),
                "500" => assert_eq!(got.status, StatusCode::INTERNAL_SERVER_ERROR),
                "html200" => assert!(
                    got.status == StatusCode::OK && got.text().starts_with("<!DOCTYPE html>")
                ),
                "not_ready" => assert_eq!(got.status, StatusCode::NOT_FOUND),
                "wrong_length" => {
                    assert_eq!((got.body, length), (None, line.bytes.unwrap() + 1000))
                }
                _ => assert_eq!((got.body, length), (None, line.bytes.unwrap())),
            }
            tries += 1;
        }
        assert!((1..=2).contains(&tries), "{mishap}: {tries}");
    }
}

#[tokio::test]
async fn a_reset_is_a_reset_and_a_truncation_is_an_orderly_end() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for (mishap, reset) in [("reset", true), ("truncated", false)] {
        let world = played(VendorKind::Aliyun, |options| {
            options.only = vec![mishap.to_owned()]
        })
        .await;
        let url: http::Uri = world.record_file().parse().unwrap();
        let mut line = tokio::net::TcpStream::connect(world.vendor.addr())
            .await
            .unwrap();
        let head = format!(
            "GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            url.path_and_query().unwrap()
        );
        line.write_all(head.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let ended = line.read_to_end(&mut bytes).await;
        let broke = ended.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset);
        assert_eq!(broke, reset, "{mishap}");
        assert!(bytes.len() > 10_000, "{mishap}: {} bytes came", bytes.len());
    }
}

#[tokio::test]
async fn the_bucket_honours_ranges_and_refuses_dead_or_forged_addresses() {
    let world = played(VendorKind::Aliyun, |options| options.speed = 604_800.0).await;
    let (line, url) = (world.line(0), world.record_file());
    let whole = get(&url, &[]).await;
    assert_is(&line, &whole);
    let body = whole.body.unwrap();
    let etag = whole.headers[http::header::ETAG]
        .to_str()
        .unwrap()
        .to_owned();
    let part = get(&url, &[("Range", "bytes=100-"), ("If-Range", &etag)]).await;
    assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.body.unwrap(), body.slice(100..));
    assert_eq!(
        part.headers[http::header::CONTENT_RANGE],
        format!("bytes 100-{}/{}", body.len() - 1, body.len())
    );
    let other = get(
        &url,
        &[("Range", "bytes=100-"), ("If-Range", "\"another\"")],
    )
    .await;
    assert_eq!(
        (other.status, other.body.unwrap()),
        (StatusCode::OK, body.clone())
    );
    let beyond = get(&url, &[("Range", &format!("bytes={}-", body.len()))]).await;
    assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
    let forged = get(&url.replace("_record.wav", "_record.wav%20"), &[]).await;
    assert_eq!(forged.status, StatusCode::NOT_FOUND);
    let (start, rest) = url.split_once("Expires=").unwrap();
    let (expires, rest) = rest.split_once('&').unwrap();
    let later = format!(
        "{start}Expires={}&{rest}",
        expires.parse::<i64>().unwrap() + 1
    );
    assert!(
        get(&later, &[])
            .await
            .text()
            .contains("<Code>SignatureDoesNotMatch</Code>")
    );
    // Seven days are a second here, and the address says so.
    assert_eq!(expires.parse::<i64>().unwrap(), NOW / 1000 + 1);
    world.clock.advance_ms(1000);
    let dead = get(&url, &[]).await;
    assert_eq!(dead.status, StatusCode::FORBIDDEN);
    assert!(dead.text().contains("Request has expired."));
}

#[tokio::test]
async fn alibaba_pushes_arrays_and_objects_and_repeats_what_was_not_taken() {
    let world = played(VendorKind::Aliyun, |options| options.calls = 12).await;
    let mut announced = Vec::new();
    let (mut arrays, mut several, mut bare) = (0, 0, 0);
    for seen in world.customer.seen() {
        let body: Value = serde_json::from_str(&seen.body).unwrap();
        let elements = match body.as_array() {
            Some(elements) => {
                arrays += 1;
                several += u32::from(elements.len() > 1);
                elements.clone()
            }
            None => {
                bare += 1;
                vec![body]
            }
        };
        match seen.path.rsplit_once('/').unwrap().1 {
            "VoiceRecordReport" => announced.extend(
                elements
                    .iter()
                    .map(|e| e["call_id"].as_str().unwrap().to_owned()),
            ),
            "VoiceReport" => assert!(
                elements
                    .iter()
                    .all(|e| e["end_time"] == "2024-04-06 03:50:00")
            ),
            topic => assert_eq!(topic, "ArtcCdrReport"),
        }
    }
    assert!(
        arrays > 0 && several > 0 && bare > 0,
        "{arrays} {several} {bare}"
    );
    announced.sort();
    let mut made: Vec<_> = world
        .vendor
        .ledger()
        .into_iter()
        .map(|line| line.provider_call_id)
        .collect();
    made.sort();
    assert_eq!(announced, made);

    let world = played(VendorKind::Aliyun, |_| ()).await;
    let before = world.customer.seen().len();
    *world.customer.refuses.lock().unwrap() = 1;
    world.vendor.make_calls().await.unwrap();
    let seen = world.customer.seen().split_off(before);
    let repeats = seen
        .iter()
        .filter(|one| seen.iter().filter(|two| two.body == one.body).count() == 2)
        .count();
    assert_eq!(repeats, 2, "the refused message came again, word for word");
    assert_eq!(world.vendor.progress().pushes_given_up, 0);
}
