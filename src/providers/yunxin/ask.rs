//! Questions to the vendor's servers: the files of a channel, the address of one file, the whole store.
//!
//! What a newcomer gets wrong: status 200 says nothing, the body's `code` does too; and code 414 is a wrong
//! parameter as well as a wrong or old check sum (netease.md, section 6).

use chrono::DateTime;
use serde_json::{Map, Value, json};

use crate::domain::clock::Timestamp;
use crate::domain::retry::RetryAdvice;
use crate::providers::api::Api;
use crate::providers::contract::{
    Address, AskedCall, ListPage, Located, ProviderError, ProviderErrorKind, Told, Wanted, Window,
};
use crate::providers::http::{ApiAnswer, ApiRequest};
use crate::providers::settings::BaseUrl;

use super::settings::Settings;
use super::{file, loose, names, reading, sign};

const QUERY: &str = "/nimserver/history/queryMediaFileByChannelId.action";
const VIDEO: &str = "/app/vod/video/get";
const LIST: &str = "/app/vod/video/list";
const ASKING_CHANNEL: &str = "asking for the files of a channel";
const ASKING_VIDEO: &str = "asking for a file's address";
const LISTING: &str = "listing the video store";
/// Entries of one page of the list.
pub const PAGE: usize = 100;
/// A clock further off than this explains a refused check sum: it is good for 5 minutes.
const CLOCK_OFF_MS: i64 = 4 * 60 * 1000;

/// Asks one application.
#[derive(Debug)]
pub struct Asker {
    api: Api,
}

/// A stored file by its id.
enum Video {
    Ready(Address),
    NotReady(String),
    /// Blocked, or its making failed: there will be no file.
    Never(String),
    Unknown(String),
}

impl Asker {
    pub fn new(api: Api) -> Self {
        Self { api }
    }

    /// The address of the notice while it lives; then by `vid`; then by channel (netease.md, section 8.4).
    pub async fn locate(
        &self,
        settings: &Settings,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<Located, ProviderError> {
        let announced = Address {
            expected_bytes: least_bytes(&wanted.handle),
            expected_md5: md5s(&wanted.handle),
            expected_sha256: None,
            ..Address::default()
        };
        if let Some(link) = &wanted.link
            && link.until.is_none_or(|until| now < until)
        {
            return Ok(Located::Ready(Address {
                url: link.url.clone(),
                until: link.until,
                ..announced
            }));
        }
        let mut gone = None;
        if let Some(vid) = &wanted.provider_recording_id {
            match self.video(settings, vid, now).await? {
                Video::Ready(found) => {
                    return Ok(Located::Ready(Address {
                        url: found.url,
                        until: found.until,
                        expected_bytes: announced.expected_bytes.or(found.expected_bytes),
                        ..announced
                    }));
                }
                Video::NotReady(code) => return Ok(Located::NotReady { code: Some(code) }),
                Video::Never(code) => return Ok(Located::Gone { code: Some(code) }),
                Video::Unknown(code) => gone = Some(code),
            }
        }
        if is_channel(&wanted.provider_call_id) {
            let known = known_names(&wanted.handle);
            let files = self.files(settings, &wanted.provider_call_id, now).await?;
            let found = files.iter().filter_map(|file| {
                let url = loose::text(file, &["url"])?;
                let object = loose::text(file, &["objectName"]).unwrap_or_default();
                let last = names::last_part(&url).unwrap_or_default();
                known
                    .iter()
                    .any(|name| *name == object || *name == last)
                    .then_some(url)
            });
            // The file name alone may be shared by pieces: the one with the wanted piece, or the only one.
            let piece = wanted.handle.get("piece").and_then(Value::as_u64);
            let mut found: Vec<String> = found.collect();
            if found.len() > 1 {
                found.retain(|url| {
                    names::last_part(url).and_then(|name| names::parse(name).piece) == piece
                });
            }
            if let [url] = found.as_slice() {
                let link = file::link(url).map_err(|what| self.bad_answer(ASKING_CHANNEL, what))?;
                return Ok(Located::Ready(Address {
                    url: link.url,
                    until: link.until,
                    ..announced
                }));
            }
        }
        Ok(match gone {
            Some(code) => Located::Gone { code: Some(code) },
            None => Located::NotReady {
                code: Some("not listed".to_owned()),
            },
        })
    }

    async fn video(
        &self,
        settings: &Settings,
        vid: &str,
        now: Timestamp,
    ) -> Result<Video, ProviderError> {
        // The vendor's samples send a number; text keeps digits that a number might lose on its way.
        let asked = match vid.parse::<u64>() {
            Ok(number) => json!({ "vid": number }),
            Err(_) => json!({ "vid": vid }),
        };
        let request = json_request(VIDEO, &asked);
        let said = match self
            .call(settings, &settings.vod, request, ASKING_VIDEO, now)
            .await?
        {
            Said::Done(said) => said,
            Said::NoneThere(code) => return Ok(Video::Unknown(code)),
        };
        let Some(Value::Object(ret)) = said.get("ret").map(loose::unpacked) else {
            return Err(self.bad_answer(ASKING_VIDEO, "no ret in the answer"));
        };
        if loose::text(&ret, &["vid"]).is_some_and(|told| told != vid) {
            return Err(self.bad_answer(ASKING_VIDEO, "the answer is about another vid"));
        }
        let status = loose::count(&ret, &["status"]);
        Ok(match status {
            Some(10 | 30) => Video::NotReady(format!("vod status {}", status.unwrap_or_default())),
            Some(20) => Video::Never("vod status 20, failed".to_owned()),
            Some(50) => Video::Never("vod status 50, blocked".to_owned()),
            _ => match loose::text(&ret, &["downloadOrigUrl"])
                .or_else(|| loose::text(&ret, &["origUrl"]))
            {
                None => Video::NotReady("vod gives no address".to_owned()),
                Some(url) => {
                    let link =
                        file::link(&url).map_err(|what| self.bad_answer(ASKING_VIDEO, what))?;
                    Video::Ready(Address {
                        url: link.url,
                        until: link.until,
                        expected_bytes: loose::count(&ret, &["initialSize"]).filter(|n| *n > 0),
                        ..Address::default()
                    })
                }
            },
        })
    }

    /// The files of a channel; empty as long as there is none.
    async fn files(
        &self,
        settings: &Settings,
        channel: &str,
        now: Timestamp,
    ) -> Result<Vec<Map<String, Value>>, ProviderError> {
        let request = ApiRequest::form(QUERY, format!("channelId={channel}"));
        let said = match self
            .call(settings, &settings.im, request, ASKING_CHANNEL, now)
            .await?
        {
            Said::Done(said) => said,
            Said::NoneThere(_) => return Ok(Vec::new()),
        };
        let list = match said.get("fileInfos") {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(list) => loose::elements(list)
                .ok_or_else(|| self.bad_answer(ASKING_CHANNEL, "fileInfos is no list"))?,
        };
        let mut files = Vec::new();
        for item in list {
            let Value::Object(file) = loose::unpacked(&item) else {
                return Err(self.bad_answer(ASKING_CHANNEL, "a file that is no object"));
            };
            let name = loose::text(&file, &["objectName"]).unwrap_or_default();
            if names::parse(&name).channel.is_some_and(|of| of != channel) {
                return Err(self.bad_answer(ASKING_CHANNEL, "the answer is about another channel"));
            }
            files.push(file);
        }
        Ok(files)
    }

    pub async fn ask(
        &self,
        settings: &Settings,
        call: &AskedCall,
        now: Timestamp,
    ) -> Result<Vec<Told>, ProviderError> {
        let ids = std::iter::once(&call.provider_call_id).chain(&call.aliases);
        let mut told = Vec::new();
        for channel in ids.filter(|id| is_channel(id)) {
            for file in self.files(settings, channel, now).await? {
                let object = loose::text(&file, &["objectName"]);
                let url = loose::text(&file, &["url"]);
                let last = url.as_deref().and_then(names::last_part);
                let name = object.as_deref().or(last).unwrap_or_default();
                told.push(Told {
                    topic: reading::TOPIC_FILE.to_owned(),
                    dedup_key: format!(
                        "{}:{channel}/{name}/{}/{}",
                        reading::TOPIC_FILE,
                        last.unwrap_or_default(),
                        loose::text(&file, &["createTime"]).unwrap_or_default()
                    ),
                    body: json!({ "channelId": channel, "fileInfo": file })
                        .to_string()
                        .into(),
                    unreadable: None,
                });
            }
        }
        Ok(told)
    }

    /// One page of the video store, which has no list by time: entries made outside of the window, and
    /// those whose names belong to no channel (other people's videos), are left out.
    pub async fn list(
        &self,
        settings: &Settings,
        window: Window,
        page: Option<&str>,
        now: Timestamp,
    ) -> Result<ListPage, ProviderError> {
        let number: u64 = match page {
            None => 1,
            Some(page) => page
                .parse()
                .map_err(|_| self.bad_answer(LISTING, "a page that is none"))?,
        };
        let asked = json!({ "currentPage": number, "pageSize": PAGE, "status": 0, "type": 0 });
        let request = json_request(LIST, &asked);
        let said = match self
            .call(settings, &settings.vod, request, LISTING, now)
            .await?
        {
            Said::Done(said) => said,
            Said::NoneThere(_) => return Ok(ListPage::default()),
        };
        let ret = said.get("ret").map(loose::unpacked);
        let list = match ret.as_ref().and_then(|ret| ret.get("list")) {
            None | Some(Value::Null) => Vec::new(),
            Some(list) => {
                loose::elements(list).ok_or_else(|| self.bad_answer(LISTING, "the list is none"))?
            }
        };
        let is_last = list.len() < PAGE;
        let told = list
            .iter()
            .filter_map(|item| listed(item, window))
            .collect();
        Ok(ListPage {
            told,
            next: (!is_last).then(|| (number + 1).to_string()),
        })
    }

    /// Whether key and secret work: a channel that nobody has, has no files.
    pub async fn try_out(&self, settings: &Settings, now: Timestamp) -> Result<(), ProviderError> {
        self.files(settings, "1", now).await.map(|_| ())
    }

    async fn call(
        &self,
        settings: &Settings,
        base: &BaseUrl,
        mut request: ApiRequest,
        doing: &'static str,
        now: Timestamp,
    ) -> Result<Said, ProviderError> {
        let nonce = hex::encode(rand::random::<[u8; 16]>());
        for (name, value) in sign::of_question(&settings.app_key, &settings.app_secret, &nonce, now)
        {
            request = request.header(name, &value);
        }
        let answer = self.api.call(base, request, doing).await?;
        match judge(answer.status, &answer.body) {
            Judgement::Done(said) => Ok(Said::Done(said)),
            Judgement::NoneThere(code) => Ok(Said::NoneThere(code)),
            Judgement::Throttled(code) => {
                Err(self.api.throttled(answer.retry_after, doing, code).await)
            }
            Judgement::Refused(what) => Err(self.api.error(
                ProviderErrorKind::CredentialsRefused,
                RetryAdvice::Backoff,
                doing,
                format!("{what}{}", clock_hint(&answer, now).unwrap_or_default()),
            )),
            Judgement::Away(what) => Err(self.api.error(
                ProviderErrorKind::Unreachable,
                answer
                    .retry_after
                    .map_or(RetryAdvice::Backoff, RetryAdvice::After),
                doing,
                what,
            )),
            Judgement::Senseless(what) => Err(self.bad_answer(doing, what)),
        }
    }

    fn bad_answer(&self, doing: &'static str, what: impl ToString) -> ProviderError {
        self.api.error(
            ProviderErrorKind::BadAnswer,
            RetryAdvice::Backoff,
            doing,
            what,
        )
    }
}

enum Said {
    Done(Map<String, Value>),
    NoneThere(String),
}

/// An answer in our words.
#[derive(Clone, Debug, PartialEq)]
pub enum Judgement {
    Done(Map<String, Value>),
    /// What was asked for is not there.
    NoneThere(String),
    Throttled(String),
    /// Key, secret, rights, address or clock.
    Refused(String),
    /// The vendor's front, not its word.
    Away(String),
    Senseless(String),
}

/// Status and `code` together (netease.md, section 6; the IM table of codes).
pub fn judge(status: u16, body: &[u8]) -> Judgement {
    match status {
        429 => return Judgement::Throttled("status 429".to_owned()),
        401 | 403 => return Judgement::Refused(format!("status {status}")),
        404 => return Judgement::NoneThere("status 404".to_owned()),
        500.. => return Judgement::Away(format!("status {status}")),
        200 => {}
        other => return Judgement::Senseless(format!("status {other}")),
    }
    let Ok(Value::Object(said)) = loose::parse(body) else {
        return Judgement::Away(format!(
            "status 200 with {} bytes that are no JSON object",
            body.len()
        ));
    };
    let Some(code) = loose::count(&said, &["code"]) else {
        return Judgement::Senseless("no code in the answer".to_owned());
    };
    let words = || {
        let words = loose::text(&said, &["desc", "msg"]).unwrap_or_default();
        let words: String = words.chars().filter(|c| !c.is_control()).take(80).collect();
        format!("code {code} {words:?}")
    };
    match code {
        200 => Judgement::Done(said),
        404 => Judgement::NoneThere("code 404".to_owned()),
        416 | 419 => Judgement::Throttled(words()),
        301 | 302 | 315 | 403 | 413 | 414 | 422 => Judgement::Refused(words()),
        408 | 415 | 431 | 500..=599 => Judgement::Away(words()),
        _ => Judgement::Senseless(words()),
    }
}

fn json_request(path: &str, body: &Value) -> ApiRequest {
    // A form here is answered with a misleading "channelId is empty!".
    ApiRequest::new(http::Method::POST, path)
        .header("content-type", "application/json;charset=utf-8")
        .body(body.to_string())
}

fn is_channel(id: &str) -> bool {
    (1..=20).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_digit())
}

fn known_names(handle: &Value) -> Vec<&str> {
    let names = handle.get("names").and_then(Value::as_array);
    names
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// The smallest of the announced sizes: a file that was announced anew may have become another one.
fn least_bytes(handle: &Value) -> Option<u64> {
    let bytes = handle.get("bytes")?.as_array()?;
    bytes.iter().filter_map(Value::as_u64).min()
}

fn md5s(handle: &Value) -> Vec<[u8; 16]> {
    let all = handle.get("md5").and_then(Value::as_array);
    let digests = all.into_iter().flatten().filter_map(Value::as_str);
    digests
        .filter_map(|hex| {
            let mut md5 = [0; 16];
            hex::decode_to_slice(hex, &mut md5).ok()?;
            Some(md5)
        })
        .collect()
}

fn name_of(video: &Map<String, Value>) -> String {
    loose::text(video, &["videoName"]).unwrap_or_default()
}

fn listed(item: &Value, window: Window) -> Option<Told> {
    let Value::Object(video) = loose::unpacked(item) else {
        return None;
    };
    names::parse(&name_of(&video)).channel?;
    let vid = loose::text(&video, &["vid"])?;
    let made = loose::time(&video, &["completeTime", "createTime"]);
    if made.is_some_and(|made| made < window.from || made >= window.to) {
        return None;
    }
    // Addresses may be signed, and live shorter than this notice.
    let last = ["origUrl", "downloadOrigUrl"].iter().find_map(|name| {
        let url = loose::text(&video, &[name])?;
        let last = names::last_part(&url)?.to_owned();
        // The store may name its objects as it likes: only what is this file's name by form counts.
        (names::parse(&last).channel == names::parse(&name_of(&video)).channel).then_some(last)
    });
    let mut kept: Map<String, Value> = video
        .iter()
        .filter(|(name, _)| !name.to_ascii_lowercase().ends_with("url"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if let Some(last) = last {
        kept.insert(file::URL_NAME.to_owned(), last.into());
    }
    Some(Told {
        topic: reading::TOPIC_VIDEO.to_owned(),
        dedup_key: format!(
            "{}:{vid}/{}/{}",
            reading::TOPIC_VIDEO,
            loose::count(&video, &["status"]).unwrap_or_default(),
            loose::count(&video, &["initialSize"]).unwrap_or_default()
        ),
        body: Value::Object(kept).to_string().into(),
        unreadable: None,
    })
}

/// A refused check sum together with a clock that is off: says so.
fn clock_hint(answer: &ApiAnswer, now: Timestamp) -> Option<String> {
    let date = answer.headers.get("date")?.to_str().ok()?;
    let theirs = DateTime::parse_from_rfc2822(date).ok()?.timestamp_millis();
    let off = now.since_ms(Timestamp::from_ms(theirs));
    (off.abs() > CLOCK_OFF_MS).then(|| {
        let direction = if off > 0 { "ahead of" } else { "behind" };
        format!(
            "; this machine's clock is {} min {direction} the vendor's, set it right",
            off.abs() / 60_000
        )
    })
}
