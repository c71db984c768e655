//! The customer's bucket: objects and their list, both behind the same signature (documents 436/7778 and 436/7734).

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::DateTime;
use http::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::house::locked;
use super::super::plan::Mishap;
use super::super::sign;
use super::super::wire::{Reply, Request};
use super::Trtc;
use super::store::{Stored, Where};

/// "Not more than max-keys": the vendor may give fewer, and this one does, so that every list has pages.
const PAGE: usize = 7;
const MOST_KEYS: usize = 1000;
const IN_KEYS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'/');

/// An object as the list shows it.
struct Entry {
    file: Arc<Stored>,
    size: usize,
}

impl Trtc {
    /// The bucket: signature and time first, then whether the object is there.
    pub(super) fn object(&self, request: &Request) -> Reply {
        if let Err(refusal) = self.may_read(request) {
            return refusal;
        }
        let found = locked(&self.store).at(&request.path);
        let now = self.house.now_ms();
        let Some((file, segment)) = found.filter(|(file, _)| file.is_there(now)) else {
            return fault(StatusCode::NOT_FOUND, "NoSuchKey");
        };
        if now < file.ready_ms || file.call.strikes(Mishap::NotReady) {
            return fault(StatusCode::NOT_FOUND, "NoSuchKey");
        }
        if file.call.strikes(Mishap::LinkExpired) {
            return fault(StatusCode::FORBIDDEN, "AccessDenied");
        }
        self.deliver_file(&file, segment, request)
    }

    /// `GET /`: keys in order, those behind the marker, no more than one page of them.
    pub(super) fn list_objects(&self, request: &Request) -> Reply {
        if let Err(refusal) = self.may_read(request) {
            return refusal;
        }
        let known = ["encoding-type", "marker", "max-keys", "prefix"];
        let is_known = |(name, _): &(String, String)| known.contains(&name.as_str());
        let is_coded = match request.field("encoding-type") {
            "" => false,
            "url" => true,
            _ => return fault(StatusCode::BAD_REQUEST, "InvalidArgument"),
        };
        let most = match request.field("max-keys") {
            "" => Some(MOST_KEYS),
            told => told.parse().ok().filter(|n| *n <= MOST_KEYS),
        };
        let Some(most) = most.filter(|_| request.fields.iter().all(is_known)) else {
            return fault(StatusCode::BAD_REQUEST, "InvalidArgument");
        };
        let (prefix, marker) = (request.field("prefix"), request.field("marker"));
        let mut found = self.entries();
        found.retain(|key, _| key.starts_with(prefix) && key.as_str() > marker);
        let page: Vec<(&String, &Entry)> = found.iter().take(most.min(PAGE)).collect();
        if let Some(refusal) = page
            .iter()
            .find_map(|(_, entry)| in_a_bad_mood(&entry.file))
        {
            return refusal;
        }
        let is_cut = page.len() < found.len();
        let shown = |key: &str| match is_coded {
            true => utf8_percent_encode(key, IN_KEYS).to_string(),
            false => key.replace('&', "&amp;").replace('<', "&lt;"),
        };
        let mut body = format!(
            "<?xml version='1.0' encoding='utf-8' ?>\n<ListBucketResult>\n\t<Name>recordings-1250000000</Name>\n\t\
             <Prefix>{}</Prefix>\n\t<Marker>{}</Marker>\n\t<MaxKeys>{most}</MaxKeys>\n\t<IsTruncated>{is_cut}</IsTruncated>\n",
            shown(prefix),
            shown(marker),
        );
        if is_coded {
            body.push_str("\t<EncodingType>url</EncodingType>\n");
        }
        if let Some((last, _)) = page.last().filter(|_| is_cut) {
            body.push_str(&format!("\t<NextMarker>{}</NextMarker>\n", shown(last)));
        }
        for (key, entry) in page {
            let at = DateTime::from_timestamp_millis(entry.file.ready_ms).unwrap_or_default();
            body.push_str(&format!(
                "\t<Contents>\n\t\t<Key>{}</Key>\n\t\t<LastModified>{}</LastModified>\n\t\t<ETag>&quot;{:032x}&quot;</ETag>\n\t\t\
                 <Size>{}</Size>\n\t\t<Owner>\n\t\t\t<ID>1250000000</ID>\n\t\t\t<DisplayName>1250000000</DisplayName>\n\t\t\
                 </Owner>\n\t\t<StorageClass>STANDARD</StorageClass>\n\t</Contents>\n",
                shown(key),
                at.format("%Y-%m-%dT%H:%M:%S.000Z"),
                entry.size,
                entry.size,
            ));
        }
        body.push_str("</ListBucketResult>");
        Reply::new(StatusCode::OK, "application/xml", body)
    }

    /// All objects that are there by now, segments among them, and what the customer keeps beside them.
    fn entries(&self) -> BTreeMap<String, Entry> {
        let now = self.house.now_ms();
        let mut found = BTreeMap::new();
        for file in &locked(&self.store).files {
            if file.place != Where::Bucket || !file.is_there(now) || now < file.ready_ms {
                continue;
            }
            let key = file.path().trim_start_matches('/').to_owned();
            let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
            let mut add = |key: String, size: usize| {
                let file = Arc::clone(file);
                found.insert(key, Entry { file, size });
            };
            for (name, bytes) in &file.segments {
                add(format!("{folder}/{name}"), bytes.len());
            }
            add(format!("{folder}/notes.txt"), 12);
            add(key.clone(), file.audio.bytes.len());
        }
        found
    }

    fn may_read(&self, request: &Request) -> Result<(), Reply> {
        let denied = |code| Err(fault(StatusCode::FORBIDDEN, code));
        let told = request.header("authorization");
        let field = |name: &str| {
            let mut fields = told.split('&').filter_map(|pair| pair.split_once('='));
            fields
                .find(|(key, _)| *key == name)
                .map_or("", |(_, value)| value)
        };
        if told.is_empty() {
            return denied("AccessDenied");
        }
        if field("q-ak") != self.reader_id {
            return denied("InvalidAccessKeyId");
        }
        let times = field("q-key-time");
        let now = self.house.now_ms() / 1000;
        let is_good = times.split_once(';').is_some_and(|(from, until)| {
            let read = |text: &str| text.parse::<i64>().unwrap_or(0);
            read(from) <= now && now <= read(until)
        });
        if !is_good || field("q-sign-time") != times {
            return denied("RequestTimeTooSkewed");
        }
        let mut query = request.fields.clone();
        query.sort();
        let names: Vec<&str> = query.iter().map(|(name, _)| name.as_str()).collect();
        if field("q-header-list") != "host" || field("q-url-param-list") != names.join(";") {
            return denied("AccessDenied");
        }
        let host = request.header("host");
        let expected = sign::cos_get(&self.reader_key, &request.path, &query, host, times);
        if field("q-signature") != expected || field("q-sign-algorithm") != "sha1" {
            return denied("SignatureDoesNotMatch");
        }
        Ok(())
    }
}

/// Half of the calls whose vendor is out of humour show it here, the others when the sound is fetched.
fn in_a_bad_mood(file: &Stored) -> Option<Reply> {
    let call = &file.call;
    if !call.dice("where it fails").happens(1, 2) {
        return None;
    }
    if call.strikes(Mishap::TooMany) {
        return Some(fault(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"));
    }
    if call.strikes(Mishap::Failing) {
        return Some(fault(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"));
    }
    call.strikes(Mishap::Html).then(|| {
        let page = "<html><body>busy</body></html>";
        Reply::new(StatusCode::OK, "text/html", page)
    })
}

/// An error of COS, in its XML.
fn fault(status: StatusCode, code: &str) -> Reply {
    let body = format!(
        "<?xml version='1.0' encoding='utf-8' ?>\n<Error>\n\t<Code>{code}</Code>\n\t<Message>refused</Message>\n</Error>"
    );
    Reply::new(status, "application/xml", body)
}
