//! Every word that a page says, in both languages. Codes with their meaning are in `words`.
//!
//! A word that is missing in a language does not compile.

use http::HeaderMap;
use http::header::{ACCEPT_LANGUAGE, COOKIE};

/// What pages are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lang {
    En,
    /// Simplified Chinese.
    Zh,
}

/// The name of the cookie that remembers a chosen language.
pub const COOKIE_NAME: &str = "language";

impl Lang {
    /// By the cookie, else by the account's own choice, else by what the browser asks for, else English.
    pub fn of(headers: &HeaderMap, account: Option<&str>) -> Self {
        let cookies = headers.get_all(COOKIE).iter();
        let chosen = cookies
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, _)| *name == COOKIE_NAME)
            .and_then(|(_, value)| Self::parse(value));
        let account = account.and_then(|code| Self::parse(code.split('-').next()?));
        chosen.or(account).unwrap_or_else(|| {
            let asked = headers
                .get(ACCEPT_LANGUAGE)
                .and_then(|value| value.to_str().ok());
            Self::accepted(asked.unwrap_or_default())
        })
    }

    /// `en` or `zh`.
    pub fn parse(code: &str) -> Option<Self> {
        match code {
            "en" => Some(Self::En),
            "zh" => Some(Self::Zh),
            _ => None,
        }
    }

    /// The best of a list such as `zh-CN,zh;q=0.9,en;q=0.8`.
    fn accepted(list: &str) -> Self {
        let mut best = (Self::En, 0.0);
        for item in list.split(',') {
            let (tag, rest) = item.split_once(';').unwrap_or((item, ""));
            let weight = rest.trim().strip_prefix("q=");
            let weight: f32 = weight.map_or(1.0, |weight| weight.trim().parse().unwrap_or(0.0));
            let tag = tag.trim().to_ascii_lowercase();
            let lang = Self::parse(tag.split('-').next().unwrap_or_default());
            if let Some(lang) = lang
                && weight > best.1
            {
                best = (lang, weight);
            }
        }
        best.0
    }

    /// As `<html lang>` wants it.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh-Hans",
        }
    }

    pub const fn text(self) -> &'static Text {
        match self {
            Self::En => &EN,
            Self::Zh => &ZH,
        }
    }

    /// One of two.
    pub const fn pick<T: Copy>(self, en: T, zh: T) -> T {
        match self {
            Self::En => en,
            Self::Zh => zh,
        }
    }
}

macro_rules! texts {
    ($($name:ident: $en:literal, $zh:literal;)*) => {
        /// The words of one language.
        #[derive(Debug)]
        pub struct Text { $(pub $name: &'static str,)* }
        static EN: Text = Text { $($name: $en,)* };
        static ZH: Text = Text { $($name: $zh,)* };
    };
}

texts! {
    // What is asked before a call is heard.
    why_title: "Why do you want to hear this call?", "您为什么要收听此通话？";
    why_more: "Your reason goes into the audit trail with your name. It holds for this call for a while.", "您的理由将与您的姓名一起写入审计记录，并在一段时间内对此通话有效。";
    why_text: "Reason, for example the number of a complaint", "理由，例如投诉编号";
    why_go: "Go on", "继续";
    // The frame.
    skip: "Skip to the content", "跳到正文";
    nav: "Main", "主导航";
    search: "Search", "查找";
    operations: "Operations", "运行";
    administration: "Administration", "管理";
    trail: "Audit trail", "审计记录";
    account: "Account", "账户";
    sign_out: "Sign out", "退出";
    help: "Keys", "快捷键";
    close: "Close", "关闭";
    other_language: "中文", "English";
    other_code: "zh", "en";
    switch_language: "切换到中文", "Switch to English";
    times_in: "Times in", "时间所用时区";
    api: "API", "接口文档";
    readiness: "Readiness", "就绪状态";
    // The search page.
    title_search: "Recordings", "录音";
    box_label: "Number, name, id or day", "号码、姓名、编号或日期";
    box_hint: "1234 yesterday afternoon", "1234 昨天下午";
    box_help: "Any form of a number, or its last digits; a name; an id; a day such as yesterday, last week, 3 March or 14:30. All must fit.", "号码可用任意写法，或只写末几位；也可写姓名、编号；日期可写“昨天”“上周”“3月3日”“14:30”。所有条件须同时满足。";
    filters: "Filters", "筛选";
    any: "any", "不限";
    state: "State", "状态";
    source: "Source", "来源";
    direction: "Direction", "方向";
    party: "Party", "相关人员";
    party_hint: "id or name", "工号或姓名";
    from: "From", "从";
    before: "Before", "早于";
    min_duration: "At least", "最短";
    max_duration: "At most", "最长";
    duration_hint: "90s, 5m", "90s、5m";
    note_filter: "Note on the sound", "声音提示";
    tag: "Tag", "标签";
    clear: "Clear", "清除";
    understood: "Read as", "理解为";
    nothing_found: "Nothing fits this search", "没有符合条件的通话";
    nothing_found_more: "Three or more digits find the end of any number; letters find the start of a name or of an id. Fewer words find more.", "三位及以上数字匹配任意号码的结尾；文字匹配姓名或编号的开头。条件越少，结果越多。";
    show_newest: "Show the newest", "查看最新通话";
    empty: "No recordings yet", "还没有录音";
    empty_more: "As soon as a provider tells of a call, it stands here. Operations shows what comes in; callvault sources prints the addresses to give to a provider.", "厂商一通知有通话，就会显示在这里。“运行”页可看到接入情况；callvault sources 会列出要填给厂商的地址。";
    newer: "Newer", "较新";
    older: "Older", "较早";
    pages: "Pages", "分页";
    results: "Results", "结果";
    arrived: "arrived", "到达";
    to: "to", "呼叫";
    unknown: "unknown", "未知";
    play: "Play", "播放";
    pause: "Pause", "暂停";
    open_call: "Open the call", "打开通话";
    export: "Export", "导出";
    export_csv: "CSV", "CSV";
    export_csv_excel: "CSV for Excel", "CSV（Excel 适用）";
    export_ndjson: "NDJSON", "NDJSON";
    saved: "Saved searches", "已存的查找";
    save: "Save this search", "保存此次查找";
    save_name: "Name", "名称";
    save_do: "Save", "保存";
    forget: "Remove", "移除";
    lines: "on this page", "条（本页）";
    copy_waits: "the copy to play is being made", "可播放的副本正在生成";
    listening: "Listening", "正在收听";
    failed_live: "The list could not be fetched. It shows what was found before.", "未能取得列表，所示为先前的结果。";
    // The call page.
    all_recordings: "All recordings", "全部录音";
    player: "Player", "播放器";
    waveform: "Waveform", "波形";
    channel: "Channel", "声道";
    back_10: "Back 10 seconds", "后退 10 秒";
    ahead_10: "Ahead 10 seconds", "前进 10 秒";
    speed: "Speed", "速度";
    skip_silence: "Skip silence", "跳过静音";
    level: "Even volume", "音量均衡";
    hear: "Hear", "收听";
    both: "both", "双方";
    only_1: "channel 1", "声道 1";
    only_2: "channel 2", "声道 2";
    loop_passage: "Loop", "循环";
    loop_begin: "Loop: now choose its end", "循环：请选择结尾";
    loop_on: "Loop on", "循环中";
    copy_link: "Copy link to this second", "复制此刻的链接";
    copied: "Copied", "已复制";
    position: "Position", "位置";
    play_failed: "The sound could not be fetched", "未能取得声音";
    play_failed_more: "The archive did not hand it out. The original may still be safe: Operations shows how the storage is.", "存档未能提供声音。原始文件可能完好：可在“运行”页查看存储状况。";
    try_again: "Try again", "重试";
    download_original: "Original", "原始文件";
    download_access: "Access copy (MP3)", "收听副本（MP3）";
    download: "Download", "下载";
    no_sound: "There is nothing to play", "没有可播放的声音";
    markers: "Markers", "标记";
    marker_text: "What is at this second?", "这一秒有什么？";
    marker_add: "Mark this second", "标记此刻";
    marker_at: "At second", "第几秒";
    no_markers: "None yet. M marks the second that plays.", "还没有。按 M 标记正在播放的这一秒。";
    joint: "Both sides of the call, left and right", "通话双方（左右声道）";
    notes: "Notes", "备注";
    note_text: "Note on this call", "关于此通话的备注";
    note_add: "Add the note", "添加备注";
    no_notes: "None yet.", "还没有。";
    tags: "Tags", "标签";
    tag_add: "Add tag", "添加标签";
    tag_remove: "Remove tag", "移除标签";
    time_line: "Legs and pieces", "通话段与录音段";
    leg: "Leg", "通话段";
    piece: "Piece", "录音段";
    this_one: "this recording", "此录音";
    call_whole: "Call", "通话";
    facts: "Facts", "事实";
    lineage: "In the archive", "存档内容";
    lineage_more: "The original is exactly what the provider sent. Everything else was made from it.", "原始文件与厂商所发完全一致，其余均由它生成。";
    role: "What", "内容";
    bytes: "Bytes", "字节";
    read_back: "Last read and found right", "最近一次读回并核对无误";
    key: "Key", "键";
    made_from: "Made from", "由何生成";
    made_by: "Made by", "生成工具";
    not_yet: "not yet", "尚未";
    history: "History", "经过";
    when: "When", "时间";
    what: "What happened", "发生了什么";
    notices: "What the provider told", "厂商的通知";
    by: "By", "途径";
    topic: "Topic", "主题";
    result: "Result", "结果";
    clocks: "Clocks", "时限";
    // Names of facts.
    f_began: "Began", "开始";
    f_answered: "Answered", "接听";
    f_ended: "Ended", "结束";
    f_hung_up: "Hung up", "挂断原因";
    f_party: "Party", "相关人员";
    f_call_name: "Provider's call id", "厂商通话编号";
    f_correlation: "Correlation ids", "关联编号";
    f_call_id: "Call id", "通话编号";
    f_recording_id: "Recording id", "录音编号";
    f_recording_name: "Provider's recording id", "厂商录音编号";
    f_tries: "Tries", "尝试次数";
    f_next_try: "Next try", "下次尝试";
    f_link_dies: "Link dies", "链接失效";
    f_deleted: "Provider deletes it", "厂商删除";
    f_archived: "Archived", "存档";
    f_slack: "Time left when archived", "存档时剩余时间";
    f_original: "Original", "原始格式";
    f_length: "Length of the sound", "声音长度";
    f_files: "Files of the original", "原始文件数";
    f_arrived: "First told of", "首次得知";
    days: "days", "天";
    hours: "hours", "小时";
    one_channel: "one channel", "单声道";
    channels: "channels", "声道";
    // Operations.
    title_operations: "Operations", "运行";
    all_well: "Nothing needs a person.", "没有需要人处理的事项。";
    needs_you: "Needs a person", "需要处理";
    since: "since", "自";
    coming_in: "What came in, by hour", "每小时接入";
    most_in_hour: "Most in one hour", "单小时最多";
    waiting: "What waits", "等待中的工作";
    notices_waiting: "Notices to read", "待读通知";
    notices_unreadable: "Notices that cannot be read", "无法读取的通知";
    pending: "Recordings to fetch", "待取录音";
    staged: "Being stored", "正在存入";
    copies_waiting: "Copies to make", "待生成副本";
    quarantined: "Put aside", "已隔离";
    oldest_work: "Oldest work", "最早的工作";
    nothing_waits: "nothing waits", "无等待";
    least_slack: "Least time left at archiving", "存档时最少剩余时间";
    expiry: "Time until the provider deletes what is not yet archived", "未存档录音距厂商删除的时间";
    expiry_none: "Nothing un-archived has a known end.", "未存档的录音均无已知期限。";
    overdue: "past", "已过";
    unknown_end: "end unknown", "期限未知";
    errors: "Why recordings wait", "录音等待的原因";
    errors_none: "No recording waits for a reason.", "没有录音因故等待。";
    count: "Count", "数量";
    why: "Why", "原因";
    what_to_do: "What to do", "如何处理";
    sources: "Sources", "来源";
    doors: "Came by (new, again, refused)", "接入途径（新/重复/拒绝）";
    archived_n: "Archived", "已存档";
    swept: "Found by asking alone", "仅由轮询发现";
    last_notice: "Last notice", "最近通知";
    health: "Health", "健康状况";
    database: "Database", "数据库";
    storage: "Storage", "存储";
    spool: "Spool", "缓存盘";
    ok: "answers", "正常";
    away: "away", "不可用";
    put_aside: "Put aside: what came is no recording", "已隔离：所得并非录音";
    put_aside_none: "Nothing is put aside.", "没有被隔离的录音。";
    waits_longest: "Closest to being lost", "最接近丢失";
    retry: "Try again", "重试";
    retried: "It is next in its queue.", "已排到队首。";
    not_retried: "Its state has changed; there is nothing to try again.", "其状态已变化，无需重试。";
    recording: "Recording", "录音";
    no_sources: "No source is configured, so nothing will be archived. See the README on sources.", "尚未配置来源，因此不会存档任何内容。请参阅 README 中关于来源的说明。";
    // Key help.
    keys_title: "Keys", "快捷键";
    k_search: "to the search box", "转到查找框";
    k_rows: "next, previous line", "下一条、上一条";
    k_open: "open the line", "打开该条";
    k_play: "play, pause", "播放、暂停";
    k_jump: "10 seconds back, ahead", "后退、前进 10 秒";
    k_jump_small: "1 second back, ahead", "后退、前进 1 秒";
    k_speed: "slower, faster", "减速、加速";
    k_mark: "mark this second", "标记此刻";
    k_loop: "loop: begin, end, off", "循环：起点、终点、关闭";
    k_silence: "skip silence", "跳过静音";
    k_level: "even volume", "音量均衡";
    k_sides: "both, channel 1, channel 2", "双方、声道 1、声道 2";
    k_link: "copy link to this second", "复制此刻链接";
    k_help: "this sheet", "本说明";
    // Problems.
    p_not_found: "Nothing is here", "这里没有内容";
    p_not_found_more: "There is no such page, call or recording, or it is not for you to see.", "没有这样的页面、通话或录音，或您无权查看。";
    p_bad_request: "This could not be understood", "无法理解此请求";
    p_unavailable: "A part of the archive is away", "存档的一部分暂不可用";
    p_unavailable_more: "Nothing is lost by it. Try again in a moment; Operations shows which part it is.", "不会因此丢失任何内容。请稍后重试；“运行”页会显示是哪一部分。";
    p_forbidden: "This is not open to you", "您无权访问";
    p_not_allowed: "Your role does not go that far. An administrator gives out roles and scopes.", "您的角色没有此权限；角色与范围由管理员授予。";
    p_stale_form: "The form was from an earlier session. Open its page again and send it from there.", "该表单来自之前的会话。请重新打开页面后再提交。";
    p_session_ended: "You are signed out", "您已退出";
    p_session_ended_more: "The present password was wrong five times, so this session has ended. Your account is as it was: sign in again.", "当前密码连续五次不正确，本次会话已结束。您的账户不受影响，请重新登录。";
    p_too_often: "Too many requests", "请求过多";
    p_too_often_more: "Wait a moment and try again.", "请稍候再试。";
    p_other: "This did not work", "操作未成功";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    http::HeaderName::from_static(name),
                    http::HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn the_cookie_outweighs_the_browser_and_english_is_the_rest() {
        for (pairs, expected) in [
            (vec![], Lang::En),
            (
                vec![("accept-language", "zh-CN,zh;q=0.9,en;q=0.8")],
                Lang::Zh,
            ),
            (vec![("accept-language", "en;q=0.5, zh-TW;q=0.7")], Lang::Zh),
            (vec![("accept-language", "de, en;q=0.9")], Lang::En),
            (vec![("accept-language", "zh;q=x")], Lang::En),
            (
                vec![("accept-language", "zh"), ("cookie", "a=b; language=en")],
                Lang::En,
            ),
            (
                vec![("accept-language", "zh"), ("cookie", "language=<x>")],
                Lang::Zh,
            ),
        ] {
            assert_eq!(Lang::of(&headers(&pairs), None), expected, "{pairs:?}");
        }
    }

    #[test]
    fn each_language_says_its_own() {
        assert_eq!(Lang::Zh.text().search, "查找");
        assert_eq!(Lang::En.text().search, "Search");
    }
}
