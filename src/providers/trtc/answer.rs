//! What an answer of Tencent Cloud means: errors come with status 200, and an error beside a result wins.

use serde_json::Value;

/// The classes of the page's error table (tencent.md, section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Throttled,
    /// The clock is more than five minutes off.
    Clock,
    Credentials,
    /// The vendor's own: again after 3, 6 and 12 seconds.
    Server,
    /// Normal once the recorder has left.
    TaskOver,
    Gone,
    /// The window or the page is too large.
    TooWide,
    Configuration,
    /// Ours: too many ids, an offset too large.
    Program,
    Other,
}

impl Trouble {
    pub fn of(code: &str) -> Self {
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| code.starts_with(prefix));
        match code {
            "AuthFailure.SignatureExpire" => Self::Clock,
            "FailedOperation.TaskNotExist" | "FailedOperation.TaskFinished" => Self::TaskOver,
            "FailedOperation.RoomNotExist" => Self::Gone,
            "InvalidParameter.StartTimeExpire"
            | "InvalidParameter.StartTimeOversize"
            | "InvalidParameter.QueryScaleOversize"
            | "InvalidParameter.PageSizeOversize" => Self::TooWide,
            "InvalidParameterValue.SubAppId"
            | "InvalidParameter.SdkAppId"
            | "FailedOperation.SdkAppIdNotUnderAppId" => Self::Configuration,
            "InvalidParameterValue.OffsetTooLarge"
            | "InvalidParameterValue.FileIdsTooMany"
            | "InvalidParameterValue.Limit" => Self::Program,
            "FailedOperation.RestrictedConcurrency" | "FailedOperation.RestrictedFrequency" => {
                Self::Throttled
            }
            _ if begins(&["RequestLimitExceeded", "LimitExceeded"]) => Self::Throttled,
            _ if begins(&["AuthFailure", "UnauthorizedOperation"]) => Self::Credentials,
            _ if begins(&["InternalError"]) => Self::Server,
            _ if begins(&["ResourceNotFound"]) => Self::Gone,
            _ => Self::Other,
        }
    }
}

/// An answer's content, or the code of its error.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Ok(Value),
    Error {
        code: String,
        trouble: Trouble,
    },
    /// A page, an empty body, JSON of something else.
    Senseless(String),
}

impl Answer {
    pub fn of(status: u16, body: &[u8]) -> Self {
        if status != 200 {
            return Self::Senseless(format!("status {status}"));
        }
        let mut answer = match serde_json::from_slice::<Value>(body) {
            Ok(answer) => answer,
            Err(_) => return Self::Senseless(format!("{} bytes that are no JSON", body.len())),
        };
        let response = answer["Response"].take();
        if !response.is_object() {
            return Self::Senseless("JSON without a Response".to_owned());
        }
        match response["Error"]["Code"].as_str() {
            Some(code) => Self::Error {
                trouble: Trouble::of(code),
                code: code.chars().take(100).collect(),
            },
            None => Self::Ok(response),
        }
    }
}

/// `SearchMedia` counts no further; then the window is halved.
pub const MOST_COUNTED: u64 = 5000;

pub fn is_cut(response: &Value) -> bool {
    response["TotalCount"]
        .as_u64()
        .is_some_and(|total| total >= MOST_COUNTED)
}
