//! Stable codes in words that a person at the page understands, and times and lengths as people read them.

use chrono::Datelike as _;
use chrono_tz::Tz;

use super::text::Lang;
use crate::domain::call::Direction;
use crate::domain::clock::Timestamp;
use crate::domain::media::note;
use crate::domain::recording::{Part, Role, reason};

/// A code and what it means.
#[derive(Debug, PartialEq, Eq)]
pub struct Coded {
    pub code: String,
    pub words: String,
}

impl Coded {
    pub fn new(code: &str, lang: Lang) -> Self {
        Self {
            code: code.to_owned(),
            words: words(code, lang).map_or_else(|| code.replace('_', " "), str::to_owned),
        }
    }
}

/// `None` for a code that this version does not know, such as a vendor's own.
pub fn words(code: &str, lang: Lang) -> Option<&'static str> {
    let (en, zh) = match code {
        reason::NOT_READY | reason::LINK_NOT_READY => {
            ("the provider is still making the file", "厂商仍在生成文件")
        }
        reason::PROVIDER_STUCK => (
            "the provider should have made the file long ago, and has not",
            "厂商早该生成文件，却一直没有",
        ),
        reason::RECORDING_NOT_ANNOUNCED => (
            "the provider never told where the recording is",
            "厂商从未告知录音在哪里",
        ),
        reason::HOST_NOT_ALLOWED => (
            "its address is on a host that is not allowed yet",
            "其地址所在主机尚未获准",
        ),
        reason::ADDRESS_FORBIDDEN => (
            "its address points into a private network, or its file lies outside of the allowed folders",
            "其地址指向内部网络，或其文件不在允许的目录内",
        ),
        reason::LINK_EXPIRED => (
            "the link died, a new one is asked for",
            "链接已失效，正在索取新链接",
        ),
        reason::THROTTLED => ("the provider asked to slow down", "厂商要求放慢请求"),
        reason::CREDENTIALS_REFUSED => (
            "the provider refused our credentials",
            "厂商拒绝了我们的凭据",
        ),
        reason::PROVIDER_UNREACHABLE => ("the provider does not answer", "厂商没有应答"),
        reason::TRUNCATED => ("fewer bytes came than were announced", "收到的字节少于所述"),
        reason::NOT_A_RECORDING => ("a page came instead of a recording", "收到的是网页而非录音"),
        reason::EMPTY_BODY => ("an empty file came", "收到空文件"),
        reason::TOO_LARGE => (
            "larger than max_recording allows",
            "超出 max_recording 允许的大小",
        ),
        reason::ARCHIVE_UNAVAILABLE => ("the archive does not answer", "存档没有应答"),
        reason::ARCHIVE_CONFLICT => (
            "the archive holds something else in its place",
            "存档中该位置已有别的内容",
        ),
        reason::DATABASE_UNAVAILABLE => ("the database does not answer", "数据库没有应答"),
        reason::SPOOL_FULL => ("no room in the spool", "缓存盘已满"),
        reason::GONE => ("the provider says that it is gone", "厂商称录音已不存在"),
        reason::EXPIRED_AT_PROVIDER => ("the provider keeps it no longer", "厂商已不再保留"),
        reason::NEVER_MADE => ("the provider never made it", "厂商从未录制"),
        reason::SOURCE_UNCONFIGURED => (
            "its source is not configured any more",
            "其来源已不在配置中",
        ),
        reason::DECODER_FAILED => ("the decoder failed", "解码失败"),
        reason::DECODER_UNAVAILABLE => ("the decoder could not be started", "解码程序无法启动"),
        reason::DELETED_AT_PROVIDER => (
            "deleted at the provider, as configured",
            "已按配置在厂商处删除",
        ),
        note::SHORT => ("shorter than announced", "短于所述长度"),
        note::TRUNCATED_AUDIO => ("the sound breaks off", "声音中断"),
        note::DECODE_ERRORS => ("parts could not be decoded", "部分内容无法解码"),
        note::DIGITAL_SILENCE => ("silent throughout", "全程无声"),
        note::ONE_WAY_AUDIO => ("only one side was recorded", "只录到一方"),
        note::CLIPPED => ("overdriven", "音量过载"),
        note::NO_AUDIO => ("there is no sound in it", "其中没有声音"),
        note::HE_AAC_UNSUPPORTED => (
            "HE-AAC, which this build cannot play",
            "HE-AAC 格式，此版本无法播放",
        ),
        note::UNSUPPORTED_CODEC => ("a codec that cannot be played yet", "尚不支持的编码"),
        note::UNDECODABLE => ("cannot be decoded", "无法解码"),
        note::TRANSCODE_GAVE_UP => ("the decoder gave up on it", "解码程序已放弃"),
        note::FORMAT_CHANGED => ("the format changes on the way", "中途格式改变"),
        note::MIXED_DOWN => ("several channels mixed into one", "多个声道已合为一个"),
        note::TOO_LONG => (
            "longer than an access copy may be",
            "超出收听副本允许的长度",
        ),
        note::FETCHED_PLAIN_HTTP => ("fetched without encryption", "取得时未加密"),
        note::DURATION_DIFFERS => ("its length differs from the call's", "长度与通话不符"),
        note::DTMF => ("keys were pressed", "有按键音"),
        note::MOSTLY_SILENT => ("mostly silent", "大部分无声"),
        note::HEADER_DIFFERS => (
            "its header says otherwise than its sound",
            "文件头与声音不符",
        ),
        note::CHANGED_AT_VENDOR => (
            "the provider changed the file later; both are kept",
            "厂商后来改动了文件；两份均已保留",
        ),
        note::OTHER_BYTES => (
            "another recording goes by its name, with other bytes",
            "另有同名录音，但内容不同",
        ),
        note::PAIRED => (
            "joined with the other side; the offset is as exact as the provider's time stamps",
            "已与另一方合并；对齐精度取决于厂商的时间戳",
        ),
        note::PAIRED_BY_BEGINNINGS => (
            "joined with the other side from both beginnings, for want of time stamps",
            "已与另一方合并；因无时间戳，按各自开头对齐",
        ),
        note::OTHER_PARTY_MISSING => ("the other side's recording is missing", "缺少另一方的录音"),
        note::NOT_PAIRED => (
            "not joined: more than two sides, or time stamps that cannot be",
            "未合并：多于两方，或时间戳不合理",
        ),
        note::PAIRING_GAVE_UP => ("joining both sides was given up", "已放弃合并双方录音"),
        note::ENCRYPTED => ("encrypted, and the key is not known", "已加密，且不知密钥"),
        "html_instead_of_audio" | "xml_instead_of_audio" | "json_instead_of_audio" => {
            ("a page came instead of a recording", "收到的是网页而非录音")
        }
        _ => return None,
    };
    Some(lang.pick(en, zh))
}

/// Text and commands of a line in which commands stand between backticks.
pub fn spans(line: &str) -> Vec<(bool, String)> {
    line.split('`')
        .enumerate()
        .filter(|(_, text)| !text.is_empty())
        .map(|(at, text)| (at % 2 == 1, text.to_owned()))
        .collect()
}

/// What a person does about recordings that wait for this reason.
pub fn remedy(code: &str, lang: Lang) -> &'static str {
    let (en, zh) = match code {
        reason::NOT_READY | reason::LINK_EXPIRED | reason::THROTTLED => {
            ("Nothing: it goes on by itself.", "无需处理，会自动继续。")
        }
        reason::PROVIDER_STUCK => (
            "Ask the provider about these calls.",
            "请就这些通话询问厂商。",
        ),
        reason::RECORDING_NOT_ANNOUNCED => (
            "Check at the provider that recording is on and that its notices come to this source.",
            "请在厂商处确认已开启录音，且通知发往此来源。",
        ),
        reason::HOST_NOT_ALLOWED => (
            "If the host is the provider's, add it to allow_hosts of the source.",
            "如该主机属于厂商，请将其加入该来源的 allow_hosts。",
        ),
        reason::ADDRESS_FORBIDDEN => (
            "If the provider really is there, set allow_private_addresses for the source; add a file's folder to file_roots.",
            "如厂商确在该网络，请为该来源设置 allow_private_addresses；文件所在目录请加入 file_roots。",
        ),
        reason::CREDENTIALS_REFUSED => (
            "Check the source's secrets: callvault check tells more.",
            "请检查该来源的密钥；callvault check 会给出详情。",
        ),
        reason::PROVIDER_UNREACHABLE => (
            "It is tried again. If it lasts, look at the network and at the provider's status page.",
            "会自动重试。如持续发生，请检查网络和厂商的状态页。",
        ),
        reason::ARCHIVE_UNAVAILABLE | reason::ARCHIVE_CONFLICT => (
            "Look at the storage: callvault check tells more. Nothing was overwritten.",
            "请检查存储；callvault check 会给出详情。没有内容被覆盖。",
        ),
        reason::SPOOL_FULL => (
            "Raise [spool] limit, or make room on its disk.",
            "请提高 [spool] limit，或在该磁盘上腾出空间。",
        ),
        reason::TOO_LARGE => (
            "Raise max_recording of the source, then try again.",
            "请提高该来源的 max_recording，然后重试。",
        ),
        reason::SOURCE_UNCONFIGURED => (
            "Put the source back into the configuration.",
            "请将该来源重新写入配置。",
        ),
        _ => (
            "Open one of them: its history tells what came.",
            "请打开其中一条，查看其经过。",
        ),
    };
    lang.pick(en, zh)
}

/// A state as the page says it.
pub fn state(state: &str, lang: Lang) -> &str {
    let (en, zh) = match state {
        "none" => ("no recording", "无录音"),
        "pending" => ("to be fetched", "待取"),
        "staged" => ("being stored", "正在存入"),
        "archived" => ("archived", "已存档"),
        "expired" => ("expired", "已到期"),
        "purged" => ("purged", "已清除"),
        "absent" => ("never made", "未录制"),
        "lost" => ("lost", "已丢失"),
        "quarantined" => ("put aside", "已隔离"),
        other => return other,
    };
    lang.pick(en, zh)
}

pub fn direction(direction: Direction, lang: Lang) -> &'static str {
    match direction {
        Direction::Inbound => lang.pick("inbound", "呼入"),
        Direction::Outbound => lang.pick("outbound", "呼出"),
        Direction::Internal => lang.pick("internal", "内部"),
    }
}

/// Whose side a recording holds; `None` where it is all of the call.
pub fn part(part: Part, lang: Lang) -> Option<&'static str> {
    match part {
        Part::Caller => Some(lang.pick("caller's side", "主叫方")),
        Part::Callee => Some(lang.pick("callee's side", "被叫方")),
        Part::Party => Some(lang.pick("one side", "单方")),
        Part::Mixed | Part::Unknown => None,
    }
}

pub fn role(role: Role, lang: Lang) -> &'static str {
    match role {
        Role::Original => lang.pick("original", "原始文件"),
        Role::Access => lang.pick("access copy", "收听副本"),
        Role::Waveform => lang.pick("waveform", "波形"),
        Role::Manifest => lang.pick("manifest", "清单"),
        Role::CallAccess => lang.pick("joint copy of the call", "整通话的合并副本"),
        Role::Duplicate => lang.pick("duplicate", "重复文件"),
    }
}

/// How a notice came.
pub fn door(door: &str, lang: Lang) -> &str {
    let (en, zh) = match door {
        "push" => ("pushed", "推送"),
        "poll" => ("asked for", "轮询"),
        "queue" => ("queue", "队列"),
        "import" => ("imported", "导入"),
        "folder" => ("folder", "文件夹"),
        other => return other,
    };
    lang.pick(en, zh)
}

/// What became of a notice.
pub fn result(result: &str, lang: Lang) -> &str {
    let (en, zh) = match result {
        "waiting" => ("waits to be read", "待读"),
        "done" | "read" => ("read", "已读"),
        "unreadable" => ("cannot be read", "无法读取"),
        other => return other,
    };
    lang.pick(en, zh)
}

/// A step in a recording's life as a sentence.
pub fn step(to: &str, lang: Lang) -> &str {
    let (en, zh) = match to {
        "pending" => ("waits to be fetched", "等待获取"),
        "staged" => ("fetched; being stored", "已取得，正在存入"),
        "archived" => (
            "in the archive, read back and found right",
            "已存档，读回核对无误",
        ),
        "absent" => ("never made by the provider", "厂商未录制"),
        "lost" => (
            "gone at the provider before it could be had",
            "未及获取，厂商处已不存在",
        ),
        "quarantined" => (
            "put aside: what came is no recording",
            "已隔离：所得并非录音",
        ),
        other => return other,
    };
    lang.pick(en, zh)
}

/// A moment in the page's zone.
#[derive(Debug)]
pub struct When {
    pub machine: String,
    pub date: String,
    pub time: String,
    /// The zone's offset at that moment.
    pub offset: String,
    pub full: String,
    pub weekday: chrono::Weekday,
    /// The call's start; else only the arrival of the first notice is known.
    pub is_start: bool,
}

impl When {
    pub fn new(at: Timestamp, zone: Tz, is_start: bool) -> Self {
        let local = at.utc().with_timezone(&zone);
        Self {
            machine: at.to_string(),
            date: local.format("%Y-%m-%d").to_string(),
            time: local.format("%H:%M:%S").to_string(),
            offset: local.format("%:z").to_string(),
            full: full(at, zone),
            weekday: local.weekday(),
            is_start,
        }
    }
}

/// With the zone's offset, so that nobody has to guess.
pub fn full(at: Timestamp, zone: Tz) -> String {
    let local = at.utc().with_timezone(&zone);
    local.format("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// A day as a heading has it.
pub fn weekday(day: chrono::Weekday, lang: Lang) -> &'static str {
    const EN: [&str; 7] = [
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
    ];
    const ZH: [&str; 7] = [
        "星期一",
        "星期二",
        "星期三",
        "星期四",
        "星期五",
        "星期六",
        "星期日",
    ];
    let at = day.num_days_from_monday() as usize % 7;
    lang.pick(EN[at], ZH[at])
}

/// A size as people read it.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            let digits = usize::from(unit != "B" && value < 10.0);
            return format!("{value:.digits$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// A span as people say it: `3 d 4 h`, `5 min`.
pub fn span(seconds: i64, lang: Lang) -> String {
    let (sign, seconds) = if seconds < 0 {
        ("−", -seconds)
    } else {
        ("", seconds)
    };
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let (d, h, m, s) = lang.pick((" d", " h", " min", " s"), ("天", "小时", "分钟", "秒"));
    let text = if days > 0 {
        format!("{days}{d} {hours}{h}")
    } else if hours > 0 {
        format!("{hours}{h} {minutes}{m}")
    } else if minutes > 0 {
        format!("{minutes}{m}")
    } else {
        format!("{seconds}{s}")
    };
    format!("{sign}{text}")
}

/// `3:07`, `1:02:03`.
pub fn length(duration_ms: i64) -> String {
    let seconds = (duration_ms.max(0) + 500) / 1000;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_note_has_words() {
        for code in note::ALL {
            assert!(words(code, Lang::En).is_some(), "{code}");
        }
        assert_eq!(
            Coded::new("vendor_said_no", Lang::Zh).words,
            "vendor said no"
        );
    }

    #[test]
    fn times_and_lengths_read_well() {
        let at = Timestamp::parse("2024-03-05T20:04:06Z").unwrap();
        assert_eq!(full(at, Tz::Asia__Shanghai), "2024-03-06 04:04:06 +08:00");
        assert_eq!(length(187_400), "3:07");
        assert_eq!(length(3_723_000), "1:02:03");
        assert_eq!(length(0), "0:00");
    }
}
