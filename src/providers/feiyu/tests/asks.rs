//! Questions for addresses, put to a small server that answers by call id.

use std::collections::HashMap;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::domain::retry::RetryAdvice;

/// A vendor that answers by call id and keeps what it was asked.
struct Vendor {
    base_url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

async fn vendor(answers: &[(&str, &str)]) -> Vendor {
    let answers: HashMap<String, String> = answers
        .iter()
        .map(|(id, answer)| ((*id).to_owned(), (*answer).to_owned()))
        .collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            let body = loop {
                let mut buffer = [0; 4096];
                let read = stream.read(&mut buffer).await.unwrap();
                request.extend(&buffer[..read]);
                let text = String::from_utf8_lossy(&request).into_owned();
                if let Some((_, body)) = text.split_once("\r\n\r\n")
                    && (read == 0 || body.contains("au=") || body.contains("signature="))
                {
                    break body.to_owned();
                }
            };
            let id = form_urlencoded::parse(body.as_bytes())
                .find(|(name, _)| name == "fyCallId")
                .map(|(_, id)| id.into_owned())
                .unwrap();
            let first = String::from_utf8_lossy(&request);
            let line = first.lines().next().unwrap_or_default().to_owned();
            log.lock().unwrap().push(format!("{line} {body}"));
            let (head, content) = answers[&id].split_once('|').unwrap();
            let answer = format!(
                "HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{content}",
                content.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    Vendor { base_url, asked }
}

fn wanted(call_ids: &[&str]) -> Wanted {
    Wanted {
        recording_id: Uuid::nil(),
        provider_call_id: call_ids[0].to_owned(),
        provider_recording_id: None,
        handle: json!({ "call_ids": call_ids }),
        link: None,
        call_ended_at: None,
        arrived_at: Timestamp::from_ms(ARRIVED),
    }
}

#[tokio::test]
async fn each_leg_is_asked_for_until_one_is_ready() {
    let vendor = vendor(&[
        ("gone", "200 OK|{\"resultCode\":\"7\"}"),
        ("late", "200 OK|{\"resultCode\":9}"),
        (
            "ready",
            "200 OK|{\"resultCode\":0,\"result\":\"http://f.example/a.mp3?k=1\"}",
        ),
        ("busy", "429 Slow\r\nretry-after: 30|"),
        ("no", "403 No\r\ndate: Fri, 05 Apr 2024 18:00:00 GMT|"),
        ("page", "200 OK|<html>"),
    ])
    .await;
    let provider = source(&format!(
        "base_url = \"{}\"\nrequests_per_second = 1000\ncodes.gone = [\"7\"]",
        vendor.base_url
    ));
    let now = Timestamp::from_ms(ARRIVED);
    let locate = async |ids: &[&str]| provider.locate(&wanted(ids), now).await;

    let ready = locate(&["gone", "late", "ready"]).await.unwrap();
    let Located::Ready(address) = ready else {
        panic!("{ready:?}");
    };
    assert_eq!(address.url, "http://f.example/a.mp3?k=1");
    assert_eq!(ms(address.until), json!(ARRIVED + 25 * 60 * 1000));
    let code = |code: &str| Some(code.to_owned());
    assert_eq!(
        locate(&["gone"]).await.unwrap(),
        Located::Gone { code: code("7") }
    );
    let not_ready = Located::NotReady { code: code("9") };
    assert_eq!(locate(&["gone", "late"]).await.unwrap(), not_ready);

    let mut announced = wanted(&["gone", "late"]);
    announced.provider_recording_id = Some("gone".to_owned());
    assert_eq!(
        provider.locate(&announced, now).await.unwrap(),
        Located::Gone { code: code("7") }
    );

    let refused = locate(&["no"]).await.unwrap_err();
    assert_eq!(refused.kind, ProviderErrorKind::CredentialsRefused);
    assert!(
        refused.detail.contains("clock is 110 min ahead of"),
        "{refused}"
    );
    let page = locate(&["page"]).await.unwrap_err();
    assert_eq!(page.kind, ProviderErrorKind::Unreachable);
    assert!(!format!("{refused} {page:?}").contains(APP_TOKEN));
    // Last: from here on the source keeps still.
    let busy = locate(&["busy", "ready"]).await.unwrap_err();
    assert_eq!(busy.kind, ProviderErrorKind::Throttled);
    assert_eq!(busy.advice, RetryAdvice::After(Duration::from_secs(30)));

    let asked = vendor.asked.lock().unwrap().clone();
    let au = push::signature(&settings(APP_ID, APP_TOKEN, "v2_au"), &ARRIVED.to_string());
    assert_eq!(
        asked[0],
        format!(
            "POST /api/getRecordDownUrl HTTP/1.1 appId={APP_ID}&fyCallId=gone&ti={ARRIVED}&ver=2.1.0&au={au}"
        )
    );
}

#[tokio::test]
async fn an_unreachable_vendor_is_a_finding() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let findings = source(&format!("base_url = \"{base_url}\"")).check().await;
    assert_eq!(findings[0].code, "provider_unreachable");
    let vendor = vendor(&[(NO_CALL, "200 OK|{\"resultCode\":\"100\"}")]).await;
    let fine = source(&format!("base_url = \"{}\"", vendor.base_url));
    assert_eq!(fine.check().await, []);
}
