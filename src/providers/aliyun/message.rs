//! The message types of Alibaba voice, as the vendor writes them, and what each is to us.

use crate::providers::contract::Topic;

/// What a message of a type is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Recording,
    Cdr,
    RtcCdr,
    /// Number protection: a call record, which may name addresses.
    ProtectedCdr,
    /// Number protection: recording ready, to be asked for.
    ProtectedRecording,
    /// Kept and not read, for this reason.
    Ignored(&'static str),
}

pub struct MessageType {
    pub topic: Topic,
    pub used_as: Use,
}

const fn message(name: &'static str, what: &'static str, used_as: Use) -> MessageType {
    MessageType {
        topic: Topic { name, what },
        used_as,
    }
}

const STATES: Use = Use::Ignored("an intermediate state of a call, not its end");
/// In front of the type where the message came from a queue: nobody can push to such a topic.
const QUEUE: &str = "mns:";
/// The topic of what `QueryRecordFileDownloadUrl` told, in the shape of a `SecretRecording`.
pub const ASKED: &str = "asked:SecretRecording";

/// aliyun.md, section 1. The body does not name its type, so each has its own address.
pub const TYPES: [MessageType; 15] = [
    message(
        "VoiceRecordReport",
        "recording ready: each recording's address; without it nothing is archived",
        Use::Recording,
    ),
    message(
        "VoiceReport",
        "call records of the voice service: numbers, times, result",
        Use::Cdr,
    ),
    message(
        "ArtcCdrReport",
        "call records of RTC voice: numbers, times, legs",
        Use::RtcCdr,
    ),
    message(
        "VoiceRecordReportAiccs",
        "recording ready, contact centre",
        Use::Recording,
    ),
    message(
        "LlmSmartCallRecord",
        "recording ready, smart outbound calls",
        Use::Recording,
    ),
    message(
        "AlicomAgentCallRecord",
        "recording ready, agents' calls",
        Use::Recording,
    ),
    message(
        "VoiceCallReport",
        "kept, not read: states during a call",
        STATES,
    ),
    message(
        "ArtcTempStatusReport",
        "kept, not read: states during an RTC call",
        STATES,
    ),
    message(
        "VoiceRTASRReport",
        "kept, not read: live transcripts",
        Use::Ignored("a transcript, not a recording"),
    ),
    message(
        "SecretStartReport",
        "kept, not read: states during a protected call",
        STATES,
    ),
    message(
        "SecretRingReport",
        "kept, not read: states during a protected call",
        STATES,
    ),
    message(
        "SecretPickUpReport",
        "kept, not read: states during a protected call",
        STATES,
    ),
    message(
        "SecretReport",
        "call records of number protection: numbers, times, result",
        Use::ProtectedCdr,
    ),
    message(
        "SecretRecording",
        "recording ready, number protection; asked for with the access key",
        Use::ProtectedRecording,
    ),
    message(
        "SecretAsrReport",
        "kept, not read: transcripts of protected calls",
        Use::Ignored("a transcript, not a recording"),
    ),
];

/// The addresses to give to the vendor.
pub const TOPICS: [Topic; TYPES.len()] = {
    let mut topics = [TYPES[0].topic; TYPES.len()];
    let mut at = 0;
    while at < TYPES.len() {
        topics[at] = TYPES[at].topic;
        at += 1;
    }
    topics
};

pub fn queue_topic(name: &str) -> String {
    format!("{QUEUE}{name}")
}

/// The type behind a notice's topic, whichever door it came through.
pub fn of_topic(topic: &str) -> Option<&'static MessageType> {
    match topic {
        ASKED => find("SecretRecording"),
        _ => find(topic.strip_prefix(QUEUE).unwrap_or(topic)),
    }
}

/// A type by the vendor's name for it.
pub fn find(name: &str) -> Option<&'static MessageType> {
    const ALL: &[MessageType] = &TYPES;
    ALL.iter().find(|known| known.topic.name == name)
}
