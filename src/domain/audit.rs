//! The chain of the audit trail: the hash of a row covers the row before it and everything that this one says.
//!
//! What a newcomer gets wrong: a chain shows that rows were changed, taken out or put in between. Whoever can write
//! the whole table can forge the whole chain, so note its end (`audit verify` prints it) somewhere else now and then.

use serde::Serialize;
use uuid::Uuid;

use super::clock::Timestamp;
use super::digest::Sha256;

/// What a row says, as it is stored, word for word.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    pub seq: i64,
    pub audit_id: Uuid,
    pub at: Timestamp,
    pub actor: &'a str,
    pub action: &'a str,
    pub subject: &'a str,
    /// JSON text.
    pub detail: &'a str,
    pub from: &'a str,
}

/// Where the chain of an installation begins: `earlier` rows were there before it.
pub fn beginning(earlier: i64) -> Sha256 {
    Sha256::of(format!("callvault.audit/1\n{earlier}").as_bytes())
}

/// The hash of a row behind another one.
///
/// Over the hex of the hash before it, a line feed, and the JSON array `[seq, audit_id, at_ms, actor, action,
/// subject, detail, from]` without spaces. Whoever has an export can compute it again.
pub fn link(before: &Sha256, said: &Said<'_>) -> Sha256 {
    let content = serde_json::json!([
        said.seq,
        said.audit_id,
        said.at.ms(),
        said.actor,
        said.action,
        said.subject,
        said.detail,
        said.from,
    ]);
    Sha256::of(format!("{before}\n{content}").as_bytes())
}

/// What a look at the whole chain found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ChainReport {
    pub whole: bool,
    /// Rows that were looked at and are right.
    pub rows: u64,
    /// Rows from before the chain, which it counts and does not cover.
    pub earlier: u64,
    /// The last row that was appended.
    pub last_seq: i64,
    /// Of the last row: to be noted elsewhere.
    #[schema(value_type = String)]
    pub last_hash: Sha256,
    /// The first row that is not what it was.
    pub broken_seq: Option<i64>,
    pub what: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_row_counts() {
        let said = Said {
            seq: 1,
            audit_id: Uuid::from_u128(7),
            at: Timestamp::from_ms(1_712_346_600_500),
            actor: "account:ann",
            action: "play",
            subject: "x",
            detail: "{}",
            from: "127.0.0.1",
        };
        let before = beginning(0);
        let hash = link(&before, &said);
        // The format is a promise: exports are checked by other programs.
        let by_hand = format!(
            "{before}\n[1,\"00000000-0000-0000-0000-000000000007\",1712346600500,\"account:ann\",\"play\",\"x\",\"{{}}\",\"127.0.0.1\"]"
        );
        assert_eq!(hash, Sha256::of(by_hand.as_bytes()));
        let others = [
            link(&beginning(1), &said),
            link(&before, &Said { seq: 2, ..said }),
            link(
                &before,
                &Said {
                    at: Timestamp::from_ms(0),
                    ..said
                },
            ),
            link(
                &before,
                &Said {
                    audit_id: Uuid::nil(),
                    ..said
                },
            ),
            link(
                &before,
                &Said {
                    actor: "account:bob",
                    ..said
                },
            ),
            link(
                &before,
                &Said {
                    action: "get",
                    ..said
                },
            ),
            link(
                &before,
                &Said {
                    subject: "y",
                    ..said
                },
            ),
            link(
                &before,
                &Said {
                    detail: "null",
                    ..said
                },
            ),
            link(&before, &Said { from: "", ..said }),
            // Words do not run into each other.
            link(
                &before,
                &Said {
                    action: "play\",\"x",
                    subject: "",
                    ..said
                },
            ),
        ];
        assert!(others.iter().all(|other| *other != hash));
    }
}
