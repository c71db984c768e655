//! The vendor's answers: recordings (family D) and the login (family A), in the several dresses that the manual's
//! own samples wear.

use chrono::DateTime;
use serde_json::{Map, Value, json};

use super::*;

pub(super) const ACCOUNT: &str = "archive@corp.example";
pub(super) const NO_SUCH_RECORD: &str = "200010";

const OPEN: &str = "/meeting/openRecord";
const CLOSE: &str = "/meeting/closeRecord";
const STATUS: &str = "/meeting/getLiveRecStatus";
const RECORDS: &str = "/meeting/getRecords";
const DELETE: &str = "/meeting/delRecordFile";
const LOGIN: &str = "/api/v3/app/user/login/verify_user.shtml";
pub(super) const PAGES: [&str; 6] = [OPEN, CLOSE, STATUS, RECORDS, DELETE, LOGIN];

impl Vcrtc {
    pub(super) fn question(&self, request: &Request) -> Reply {
        if !PAGES.contains(&request.path.as_str()) {
            return Reply::text(StatusCode::NOT_FOUND, "no such page");
        }
        if request.method != Method::POST {
            return Reply::text(StatusCode::METHOD_NOT_ALLOWED, "POST JSON");
        }
        let Ok(Value::Object(body)) = serde_json::from_slice(&request.body) else {
            return self.say(0, "400", "not JSON", Value::Null);
        };
        if request.path == LOGIN {
            return self.login(&body);
        }
        if request.header("auth") != self.0.auth {
            return self.say(0, "403", "auth", Value::Null);
        }
        if self.is_dedicated() && !self.has_session(request) {
            return self.say(0, "403", "session", Value::Null);
        }
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        match request.path.as_str() {
            RECORDS => self.records(text("recordId")),
            DELETE => self.delete(text("recordId")),
            STATUS => self.status(text("conferenceKey")),
            OPEN => self.open(text("conferenceKey")),
            _ => self.close(text("conferenceKey")),
        }
    }

    /// Code as text and as number, `state` left out at times, a trailing comma now and then.
    fn say(&self, seed: u64, code: &str, message: &str, data: Value) -> Reply {
        let mut dice = Dice::named(seed.wrapping_add(self.house().now_ms() as u64), "dress");
        let fine = code == "200";
        let mut answer = Map::new();
        answer.insert("code".to_owned(), number(code, dice.happens(1, 2)));
        answer.insert("data".to_owned(), data);
        let message = if fine { Value::Null } else { message.into() };
        answer.insert("message".to_owned(), message);
        if !fine || dice.happens(5, 6) {
            answer.insert("state".to_owned(), i32::from(fine).into());
        }
        let mut text = Value::Object(answer).to_string();
        if dice.happens(1, 4) {
            text = text.replace("}]", "},]");
            text.insert(text.len() - 1, ',');
        }
        Reply::new(StatusCode::OK, "application/json;charset=UTF-8", text)
    }

    fn records(&self, id: &str) -> Reply {
        let piece = locked(&self.0.state).pieces.get(id).cloned();
        if let Some(piece) = &piece
            && piece.call.dice("where it fails").happens(1, 2)
        {
            if piece.call.strikes(Mishap::TooMany) {
                return Reply::text(StatusCode::TOO_MANY_REQUESTS, "slow down")
                    .with(http::header::RETRY_AFTER, 1);
            }
            if piece.call.strikes(Mishap::Failing) {
                return self.say(0, "500", "server error", Value::Null);
            }
            if piece.call.strikes(Mishap::Html) {
                return Reply::new(StatusCode::OK, "text/html", "<html>502</html>");
            }
        }
        if id.is_empty() {
            // This installation lists.
            let all: Vec<(String, Piece)> = {
                let state = locked(&self.0.state);
                let pieces = state.pieces.iter();
                pieces
                    .map(|(id, piece)| (id.clone(), piece.clone()))
                    .collect()
            };
            let entries = all
                .iter()
                .filter_map(|(id, piece)| self.entry(id, piece))
                .collect();
            return self.say(1, "200", "", Value::Array(entries));
        }
        let Some(piece) = piece.filter(|piece| !piece.deleted) else {
            return self.say(2, "200", "", json!([]));
        };
        let mut dice = piece.call.dice("answer");
        let Some(entry) = self.entry(id, &piece) else {
            let nothing = if dice.happens(1, 2) {
                json!([])
            } else {
                Value::Null
            };
            return self.say(3, "200", "", nothing);
        };
        let data = match dice.below(4) {
            0 => entry,
            1 => json!([stranger(&piece.room, TENANT, &mut dice), entry]),
            2 => json!([
                stranger("9999", TENANT, &mut dice),
                entry,
                stranger(&piece.room, 77, &mut dice)
            ]),
            _ => json!([entry]),
        };
        self.say(piece.call.seed, "200", "", data)
    }

    /// None while there is no entry yet.
    fn entry(&self, id: &str, piece: &Piece) -> Option<Value> {
        let house = self.house();
        let now = house.now_ms();
        if piece.deleted || now < piece.on_ms + house.paced_ms(ENTRY_AFTER_S) {
            return None;
        }
        let call = &piece.call;
        let mut dice = call.dice("entry");
        let mut entry = json!({
            "recordId": id,
            "conferenceKey": number(&piece.room, dice.happens(1, 3)),
            "entId": TENANT,
            "startTime": utc(call.started_ms),
            "stopTime": "",
            "fileSize": 0,
            "downUrl": "",
        });
        if dice.happens(1, 3) {
            entry["cid"] = dice.digits(9).into();
        }
        let Some(off) = piece.off_ms else {
            return Some(entry);
        };
        let there = off + house.paced_ms(COMPLETE_AFTER_S);
        if now < there || call.strikes(Mishap::NotReady) {
            return Some(entry);
        }
        let whole = call.audio.bytes.len() as u64;
        let grows = house.paced_ms(GROWS_S).max(1);
        let share = (now - there).clamp(0, grows) as u64;
        // Another size at each look while it grows.
        let size = if share < grows as u64 {
            (whole * share / grows as u64).max(1)
        } else {
            whole
        };
        let until = now + house.paced_ms(LINK_LIVES_S);
        entry["stopTime"] = utc(call.ended_ms).into();
        entry["fileSize"] = match dice.below(3) {
            0 => size.into(),
            1 => (size as f64).into(),
            _ => size.to_string().into(),
        };
        entry["downUrl"] = self.address(id, until).into();
        Some(entry)
    }

    fn status(&self, room: &str) -> Reply {
        if !is_room(room) {
            return self.say(0, "200008", "no such meeting", Value::Null);
        }
        let status = locked(&self.0.state).rooms.get(room).cloned();
        let status = status.unwrap_or_default();
        let mut dice = Dice::named(self.house().now_ms() as u64, "status");
        let on = status.on.is_some();
        let mut data = json!({
            "conferenceKey": number(room, dice.happens(1, 4)),
            "live": false,
            "rtmpUrl": "",
            "record": if dice.happens(1, 4) { on.to_string().into() } else { Value::from(on) },
            "recordId": status.on.unwrap_or_default(),
        });
        if let Some(id) = status.failed {
            data["recordId"] = id.into();
            data["failedReason"] = "no recorder".into();
        }
        self.say(4, "200", "", data)
    }

    /// A meeting takes place where something is recorded; elsewhere nothing can be started.
    fn open(&self, room: &str) -> Reply {
        if !is_room(room) {
            return self.say(0, "200008", "no such meeting", Value::Null);
        }
        let on = locked(&self.0.state)
            .rooms
            .get(room)
            .is_some_and(|room| room.on.is_some());
        let code = if on { "200003" } else { "200006" };
        self.say(0, code, "cannot start", Value::Null)
    }

    fn close(&self, room: &str) -> Reply {
        let on = locked(&self.0.state)
            .rooms
            .get(room)
            .and_then(|room| room.on.clone());
        match on {
            Some(id) => {
                self.stop(&id, room);
                self.say(0, "200", "", json!({ "recordId": id }))
            }
            None => self.say(0, "200007", "未开启录制", Value::Null),
        }
    }

    fn delete(&self, id: &str) -> Reply {
        let mut state = locked(&self.0.state);
        match state.pieces.get_mut(id).filter(|piece| !piece.deleted) {
            Some(piece) => {
                piece.deleted = true;
                self.say(0, "200", "", json!({ "recordId": id }))
            }
            None => self.say(0, NO_SUCH_RECORD, "no such record", Value::Null),
        }
    }

    fn login(&self, body: &Map<String, Value>) -> Reply {
        let house = self.house();
        let is = |name: &str, value: &str| body.get(name).and_then(Value::as_str) == Some(value);
        let url = format!("http://{}{LOGIN}", house.authority());
        let of_dedicated =
            !self.is_dedicated() || is("host", &house.authority()) && is("plat_type", "webrtcios");
        let right = is("account", ACCOUNT)
            && is("pwd", &self.0.password)
            && is("login_url", &url)
            && of_dedicated;
        if !right {
            // HTTP 200, and a text where the account would stand.
            return Reply::json(&json!({ "code": "403", "results": "账号或密码错误" }));
        }
        let mut results = json!({
            "id": 4711, "account": ACCOUNT, "sipkey": "90211", "companyId": TENANT,
        });
        if self.is_dedicated() {
            let now = house.now_ms();
            let mut state = locked(&self.0.state);
            let number = state.sessions.len() as u64;
            let session = format!(
                "s-{}",
                Dice::named(house.seed + number, "session").token(12)
            );
            let until = now + house.paced_ms(SESSION_LIVES_S);
            state.sessions.insert(session.clone(), until);
            results["session_id"] = session.into();
        }
        Reply::json(&json!({ "code": 200, "timeStamp": utc(house.now_ms()), "results": results }))
    }

    /// The session is alive, and both authorisation headers say who it is.
    fn has_session(&self, request: &Request) -> bool {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        let user = ACCOUNT.split('@').next().unwrap_or_default();
        let basic = STANDARD.encode(format!("{user}:{}", self.0.password));
        let expected = format!("x-cloud-basic {basic}");
        let until = locked(&self.0.state)
            .sessions
            .get(request.header("sessionId"))
            .copied();
        until.is_some_and(|until| self.house().now_ms() <= until)
            && request.header("x-cloud-authorization") == expected
            && request.header("authorization") == expected
    }
}

fn is_room(room: &str) -> bool {
    ROOMS.contains(&room) || room == HIDDEN_ROOM
}

fn number(text: &str, as_number: bool) -> Value {
    match text.parse::<u64>() {
        Ok(number) if as_number => number.into(),
        _ => text.into(),
    }
}

/// `yyyy-MM-dd HH:mm:ss`, which is UTC in the manual's sample.
fn utc(ms: i64) -> String {
    let at = DateTime::from_timestamp_millis(ms).unwrap_or_default();
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// An entry that nobody asked for, of long ago.
fn stranger(room: &str, tenant: u64, dice: &mut Dice) -> Value {
    json!({
        "recordId": dice.hex(32).to_lowercase(),
        "conferenceKey": room,
        "entId": tenant,
        "startTime": "2022-11-01 02:00:00",
        "stopTime": "2022-11-01 03:00:00",
        "fileSize": 102_779_700,
        "downUrl": "http://127.0.0.1:9/nobody.mp4?sign=x",
    })
}
