//! What an alarm means and what to do, in the page's language. English is the alarm's own.

use super::text::Lang;
use super::words;
use crate::domain::view::Alarm;

/// Alarms that are no reason of a recording, which have words already.
const OWN: &[(&str, &str, &str)] = &[
    (
        "lost",
        "录音确曾存在，但厂商处已不存在",
        "运行 `callvault search --state lost` 查看；询问厂商是否另有副本",
    ),
    (
        "quarantined",
        "所得内容并非录音",
        "运行 `callvault search --state quarantined` 查看；排除原因后运行 `callvault retry ID`",
    ),
    (
        "notices_unreadable",
        "通知真实有效，但此版本无法读取；已予保留",
        "请上报；新版本可以重新读取",
    ),
    (
        "notices_unreadable_in_part",
        "通知中有一部分此版本无法读取；其余照常计入，全文均已保留",
        "通话或录音的 `callvault show` 在通知下列出略去的部分；请上报，新版本可以重新读取",
    ),
    (
        "notices_parked",
        "有通知被数据库拒绝，仍保存在日志目录中",
        "日志中写明原因；每小时及每次启动都会重试",
    ),
    (
        "recording_not_announced",
        "通话已接通，却从未收到其录音的通知",
        "请在厂商处确认已开启录音，且录音通知发往此来源",
    ),
    (
        "spool_full",
        "缓存盘已满或将满，录音须等待",
        "存档是否不可用？见 `callvault check`；或提高 [spool] limit、腾出磁盘空间",
    ),
    (
        "disk_full",
        "缓存、存档或数据库所在磁盘将满",
        "请腾出空间或更换更大的磁盘，以免工作等待",
    ),
    (
        "slack_1d",
        "尚未存档的录音将在一天内被厂商删除",
        "运行 `callvault search --state pending` 查看原因；厂商、存档或工作进程是否不可用？",
    ),
    (
        "slack_2d",
        "尚未存档的录音将在两天内被厂商删除",
        "运行 `callvault search --state pending` 查看原因；厂商、存档或工作进程是否不可用？",
    ),
    (
        "slack_5d",
        "尚未存档的录音将在五天内被厂商删除",
        "运行 `callvault search --state pending` 查看原因；厂商、存档或工作进程是否不可用？",
    ),
    (
        "slack_10d",
        "尚未存档的录音将在十天内被厂商删除",
        "运行 `callvault search --state pending` 查看原因；厂商、存档或工作进程是否不可用？",
    ),
    (
        "queue_missing",
        "消息服务器上没有该来源所写的队列或流，且 create = false",
        "请在消息服务器上创建（每隔数秒会再查）、更正名称，或写 create = true",
    ),
    (
        "cannot_list_bucket",
        "该存储桶的密钥无权列出内容，未经回调通知的文件将无从得知",
        "请在 cos:GetObject 之外授予 cos:GetBucket，或在该来源的 cos 中写 list = false",
    ),
    (
        "questions_failing",
        "厂商未能正常应答",
        "`callvault sync` 会立即尝试并说明结果；`callvault check` 检查密钥",
    ),
    (
        "clock",
        "有机器的时钟与数据库相差超过 5 秒，其工作进程不再领取任务",
        "请用 NTP 校准本机与数据库的时钟",
    ),
    (
        "backup_failed",
        "数据库的定期备份失败",
        "`callvault backup` 会立即尝试并说明原因；每十分钟自动重试",
    ),
    (
        "restore_incomplete",
        "此数据库由备份恢复，与存档的核对尚未完成",
        "存档情况见 `callvault check`；遗漏之处由 `callvault rebuild --from-archive --missing` 列出；会自动重试",
    ),
    (
        "fixity_failing",
        "存档无法提供需复读的对象",
        "日志列出这些对象；存档情况见 `callvault check`；会自动重试",
    ),
    (
        "source_quiet",
        "厂商已很久没有发来通知",
        "其通知是否仍能到达？`callvault sources` 列出应提供给厂商的地址",
    ),
    (
        "object_missing",
        "已存档的对象不在存档中了",
        "`callvault fixity` 列出它们；请从备份或副本中取回，并查明谁能在那里删除",
    ),
    (
        "object_delete_marker",
        "已存档的对象被删除标记遮盖，内容仍在",
        "`callvault fixity` 列出它们；请在存储中删除该标记，并查明谁能在那里删除",
    ),
    (
        "object_changed",
        "已存档对象的内容与存入时不同",
        "`callvault fixity` 列出它们；请从旧版本、备份或副本中取回原内容，并检查磁盘",
    ),
    (
        "object_swapped",
        "已存档对象处是本存档另一对象的内容",
        "`callvault fixity` 列出它们及该处的内容；是否曾恢复到错误位置？",
    ),
    (
        "object_unreadable",
        "已存档的对象无法读取，而存储对其他对象正常",
        "`callvault fixity` 列出它们；请检查磁盘，或存储中的权限与密钥",
    ),
    (
        "manifest_wrong",
        "清单与索引不一致",
        "`callvault fixity` 列出它们；重建前请与 `callvault show ID` 及备份比对",
    ),
];

/// Words of this language; `None` where the alarm's own are those, or nothing is known of it.
pub fn words(alarm: &Alarm, lang: Lang) -> Option<(String, String)> {
    if lang == Lang::En {
        return None;
    }
    let code = alarm.code.as_str();
    if let Some((_, what, remedy)) = OWN.iter().find(|(own, ..)| *own == code) {
        return Some(((*what).to_owned(), (*remedy).to_owned()));
    }
    let what = words::words(code, lang)?.to_owned();
    // The line to paste is worth more than words.
    let line = alarm.remedy.split_once(": allow_hosts = ");
    let remedy = match (line, &alarm.source) {
        (Some((_, hosts)), Some(source)) => {
            format!("如这些主机属于厂商，请在 [sources.{source}] 中设置 `allow_hosts = {hosts}`")
        }
        _ => words::remedy(code, lang).to_owned(),
    };
    Some((what, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixity::Damage;
    use crate::domain::recording::reason;

    fn alarm(code: &str, remedy: &str) -> Alarm {
        Alarm {
            code: code.into(),
            source: Some("desk".into()),
            count: 1,
            since: None,
            what: "what".into(),
            remedy: remedy.into(),
        }
    }

    #[test]
    fn every_alarm_has_words_in_chinese() {
        let damages = Damage::ALL.map(Damage::code);
        let reasons = [
            reason::HOST_NOT_ALLOWED,
            reason::ADDRESS_FORBIDDEN,
            reason::CREDENTIALS_REFUSED,
            reason::ARCHIVE_UNAVAILABLE,
            reason::ARCHIVE_CONFLICT,
            reason::SPOOL_FULL,
            reason::RECORDING_NOT_ANNOUNCED,
            reason::SOURCE_UNCONFIGURED,
        ];
        let others = OWN.iter().map(|(code, ..)| *code);
        for code in damages.into_iter().chain(reasons).chain(others) {
            assert!(words(&alarm(code, ""), Lang::Zh).is_some(), "{code}");
            assert!(words(&alarm(code, ""), Lang::En).is_none(), "{code}");
        }
        let hosts = alarm(
            reason::HOST_NOT_ALLOWED,
            "if these hosts are the vendor's, set in [sources.desk]: allow_hosts = [\"a.example\"]",
        );
        let (_, remedy) = words(&hosts, Lang::Zh).unwrap();
        assert!(remedy.contains("allow_hosts = [\"a.example\"]"), "{remedy}");
    }
}
