//! Which generation a message copy is of: four of them share one address, and their event numbers collide.
//!
//! The shape of the body decides (netease.md, section 7, rule 1): 3 is a log-out in the first generation and a
//! recording file in the second, 5 is a call report there and "user left" here.

use serde_json::{Map, Value};

use super::loose;

/// A message copy, its generation known.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Nothing at all: the address check.
    Empty,
    /// IM and first-generation calls: flat, digits as event type.
    Av1 {
        event: String,
        fields: Map<String, Value>,
    },
    /// RTC 2.0, "G2": an object `data`.
    G2 {
        event: String,
        data: Map<String, Value>,
    },
    /// Room and meeting products: an object `body` under an event with a name.
    Room {
        event: String,
        body: Map<String, Value>,
    },
    /// The old meeting product: `msgBody`.
    Meeting {
        event: String,
        body: Map<String, Value>,
    },
}

/// Events of the first generation that are chats and logins: their content is nobody's business here.
const CHATS: [&str; 11] = ["1", "2", "3", "4", "7", "8", "9", "10", "11", "12", "14"];
/// Members that only chat messages have, for event numbers that nobody knows yet.
const CHAT_MEMBERS: [&str; 6] = [
    "fromAccount",
    "msgType",
    "convType",
    "attach",
    "msgidClient",
    "msgidServer",
];

impl Shape {
    pub fn of(body: &[u8]) -> Result<Self, String> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::Empty);
        }
        let Value::Object(mut fields) = loose::unpacked(&loose::parse(body)?) else {
            return Err("not a JSON object".to_owned());
        };
        if fields.is_empty() {
            return Ok(Self::Empty);
        }
        let event = loose::text(&fields, &["eventType"]);
        if let Some(Value::Object(data)) = fields.get("data").map(loose::unpacked) {
            let event = event.ok_or("no eventType")?;
            return Ok(Self::G2 { event, data });
        }
        // A chat's `body` is text, even where the text is JSON: it is not unpacked.
        if let (Some(Value::Object(body)), Some(event)) = (fields.get("body"), &event)
            && !event.bytes().all(|byte| byte.is_ascii_digit())
        {
            let mut body = body.clone();
            if let Some(id) = fields.remove("requestId") {
                body.entry("requestId").or_insert(id);
            }
            let event = event.clone();
            return Ok(Self::Room { event, body });
        }
        if let Some(Value::Object(body)) = fields.get("msgBody").map(loose::unpacked) {
            let event = loose::text(&fields, &["msgType"]).ok_or("no msgType")?;
            return Ok(Self::Meeting { event, body });
        }
        let event = event.ok_or("no eventType")?;
        Ok(Self::Av1 { event, fields })
    }

    /// Chats and logins: answered, and nothing of them is kept.
    pub fn is_chat(&self) -> bool {
        let Self::Av1 { event, fields } = self else {
            return false;
        };
        let known = matches!(event.as_str(), "5" | "6" | "13");
        CHATS.contains(&event.as_str())
            || !known && CHAT_MEMBERS.iter().any(|name| fields.contains_key(*name))
    }

    /// Whether the header `type` contradicts the body.
    pub fn contradicts(&self, header: Option<&str>) -> bool {
        let says_g2 = header.is_some_and(|value| value.eq_ignore_ascii_case("G2"));
        match self {
            Self::G2 { .. } => !says_g2,
            Self::Av1 { .. } => says_g2,
            Self::Empty | Self::Room { .. } | Self::Meeting { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Shape {
        Shape::of(body.as_bytes()).unwrap()
    }

    #[test]
    fn the_shape_decides_and_never_the_number() {
        assert!(matches!(
            of(r#"{"eventType":"3","accid":"a"}"#),
            Shape::Av1 { .. }
        ));
        assert!(matches!(
            of(r#"{"eventType":3,"data":{"channelId":1}}"#),
            Shape::G2 { .. }
        ));
        assert!(matches!(
            of(r#"{"eventType":"3","data":"{\"channelId\":1}"}"#),
            Shape::G2 { .. }
        ));
        assert!(matches!(
            of(r#"{"eventType":"RTC_RECORD","body":{}}"#),
            Shape::Room { .. }
        ));
        assert!(matches!(
            of(r#"{"msgType":7,"msgBody":"{\"fileInfo\":{}}"}"#),
            Shape::Meeting { .. }
        ));
        for empty in ["", " \n", "{}"] {
            assert_eq!(of(empty), Shape::Empty, "{empty:?}");
        }
        for broken in ["[]", "1", "{\"eventType\":", "{\"a\":1}", "\u{0}"] {
            assert!(Shape::of(broken.as_bytes()).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn a_chat_is_one_whatever_its_text_looks_like() {
        for chat in [
            r#"{"eventType":"1","body":"hi"}"#,
            r#"{"eventType":"1","body":"{\"eventType\":3,\"data\":{\"channelId\":1}}"}"#,
            r#"{"eventType":"1","body":{"text":"hi"}}"#,
            r#"{"eventType":"99","msgType":"TEXT","body":"hi"}"#,
        ] {
            assert!(of(chat).is_chat(), "{chat}");
        }
        for call in [
            r#"{"eventType":"5","channelId":"1"}"#,
            r#"{"eventType":"6","fileinfo":"[]"}"#,
            r#"{"eventType":"13","channelId":"1"}"#,
            r#"{"eventType":1,"data":{"channelId":1}}"#,
            r#"{"eventType":"99","channelId":"1"}"#,
        ] {
            assert!(!of(call).is_chat(), "{call}");
        }
    }
}
