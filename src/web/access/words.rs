//! The words of the pages for signing in, accounts and administration, in each language.

use crate::web::pages::text::Lang;

macro_rules! words {
    ($($name:ident: $en:literal, $zh:literal;)*) => {
        /// Every word is there in every language, or this does not compile.
        #[derive(Debug)]
        pub struct Words {
            /// `en` or `zh`, for pages with words of their own.
            pub lang: &'static str,
            $(pub $name: &'static str,)*
        }

        static ENGLISH: Words = Words { lang: "en", $($name: $en,)* };
        static CHINESE: Words = Words { lang: "zh", $($name: $zh,)* };
    };
}

words! {
    skip: "Skip to the content", "跳到正文";
    navigation: "Pages", "页面";
    times_in: "Times in", "时区";
    recordings: "Recordings", "录音";
    trail: "Audit trail", "审计记录";
    accounts: "Accounts", "账户";
    tokens: "Tokens", "令牌";
    sources: "Sources", "来源";
    configuration: "Configuration", "配置";
    sign_in: "Sign in", "登录";
    sign_out: "Sign out", "退出";
    name: "Name", "用户名";
    password: "Password", "密码";
    refused: "Name or password is not right, or there were too many tries. After several tries wait a while.", "用户名或密码不正确，或尝试次数过多。多次失败后请稍候再试。";
    link_explained: "This link signs you in once.", "此链接只能登录一次。";
    link_refused: "This link was used already or is too old. Ask for another one.", "此链接已使用或已过期，请重新索取。";
    too_often: "Too many tries from this address. Wait a minute.", "来自此地址的尝试过多，请等一分钟。";
    your_account: "Your account", "我的账户";
    no_account: "You read without an account. `callvault account add` makes the first one; from then on everybody signs in.", "当前未使用账户。运行 callvault account add 创建第一个账户后，所有人都须登录。";
    role: "Role", "角色";
    scope: "May see", "可见范围";
    everything: "everything", "全部";
    change_password: "Change the password", "修改密码";
    must_change: "Choose a password of your own first.", "请先设置您自己的密码。";
    old_password: "Present password", "当前密码";
    new_password: "New password", "新密码";
    password_hint: "at least 12 characters; a sentence is best", "至少 12 个字符，最好是一句话";
    again: "New password again", "再次输入新密码";
    differ: "The two new passwords differ.", "两次输入的新密码不一致。";
    wrong_old: "The present password is not right.", "当前密码不正确。";
    weak: "That password is too short, too long, or among the first that anybody would try.", "密码过短、过长或过于常见。";
    changed: "The password is changed. Other sessions have ended.", "密码已修改，其他会话已结束。";
    language: "Language", "语言";
    as_browser: "As the browser asks", "跟随浏览器";
    sessions: "Sessions", "会话";
    since: "Since", "开始";
    last_seen: "Last seen", "最近活动";
    from: "From", "来自";
    browser: "Browser", "浏览器";
    end: "End", "结束";
    this_session: "this one", "当前会话";
    ended: "The session has ended.", "会话已结束。";
    saved: "Saved.", "已保存。";
    add: "Add", "添加";
    state: "State", "状态";
    active: "active", "正常";
    disabled: "disabled", "已停用";
    locked: "locked", "已锁定";
    disable: "Disable", "停用";
    enable: "Enable", "启用";
    new_account: "New account", "新建账户";
    new_token: "New token", "新建令牌";
    shown_once: "Shown this once. Give it on by a safe way.", "仅显示一次，请以安全方式转交。";
    one_time_link: "Sign-in link", "登录链接";
    only_sources: "Only these sources", "仅限来源";
    only_numbers: "Only calls with these numbers", "仅限号码";
    only_parties: "Only calls with these party ids", "仅限参与者";
    list_hint: "separated by spaces or commas; empty: all", "以空格或逗号分隔；留空为全部";
    whole_house: "Auditors and administrators have no scope: these roles are for the whole house.", "审计员和管理员不设范围，其角色适用于整个系统。";
    bad_name: "A name has up to 64 of a-z 0-9 . _ @ -, and begins with a letter or digit.", "用户名最多 64 个字符，可用 a-z 0-9 . _ @ -，以字母或数字开头。";
    name_taken: "This name is taken.", "此名称已被使用。";
    not_yourself: "Somebody else must do this to your account.", "不能对自己的账户执行此操作。";
    expires: "Expires", "到期";
    expires_in_days: "Days until it expires", "有效天数";
    bad_days: "Write a number of days from 1 to 3650.", "请输入 1 到 3650 之间的天数。";
    never: "never", "永不";
    last_used: "Last used", "最近使用";
    made_by: "Made by", "创建者";
    revoke: "Revoke", "吊销";
    revoked: "revoked", "已吊销";
    kind: "Kind", "类型";
    addresses: "Addresses for the vendor", "提供给供应商的地址";
    test: "Test", "测试";
    test_good: "Everything that was asked answered.", "全部检查通过。";
    test_bad: "Not everything is well:", "发现问题：";
    no_sources: "No source is configured.", "尚未配置来源。";
    who: "Who", "操作者";
    when: "When", "时间";
    what: "What", "操作";
    subject: "Subject", "对象";
    detail: "Detail", "详情";
    export: "Export as NDJSON", "导出为 NDJSON";
    older: "Older", "更早";
    newest: "Newest", "最新";
    filter: "Show", "显示";
    chain: "Chain", "哈希链";
    verify: "Verify the chain", "验证哈希链";
    chain_whole: "The chain is whole.", "哈希链完整。";
    chain_broken: "The chain is broken.", "哈希链已断裂。";
    reserved_name: "api_token is the name of the configured token in the trail. Choose another one.", "api_token 是配置中令牌在审计记录里的名称，请另选名称。";
    bad_scope: "A list has up to 1000 entries of up to 200 characters.", "每个列表最多 1000 项，每项最多 200 个字符。";
    last_administrator: "No other account could administer any more. Make another administrator first.", "这样将没有其他管理员账户。请先设立另一名管理员。";
    disabled_no_link: "A disabled account cannot sign in. Enable it first.", "已停用的账户无法登录，请先启用。";
    administration: "Administration", "管理";
    change: "Change", "更改";
    change_hint: "When less may be done or seen than before, the account's sessions end.", "如权限或范围有变，该账户的会话即刻结束。";
    back_to_accounts: "All accounts", "所有账户";
    unlock: "Unlock", "解锁";
    tries_failed: "Failed tries", "失败次数";
    made: "Made", "创建时间";
    schedule: "Schedule", "计划任务";
    schedule_hint: "Cron lines have seconds first and are in UTC. A run that was asked for begins within seconds, or right after the one that goes on.", "Cron 以秒开头，按 UTC 计。手动请求的任务会在数秒内开始；如正在运行，则在其结束后立即开始。";
    no_jobs: "No worker has told of its jobs yet.", "尚无工作进程报告其任务。";
    job: "Job", "任务";
    next_run: "Next run", "下次运行";
    last_run: "Last run", "上次运行";
    result: "Result", "结果";
    run_now: "Run now", "立即运行";
    asked_for: "asked for", "已请求";
    asked_done: "It begins within seconds.", "将在数秒内开始。";
    runs_now: "runs now", "正在运行";
    not_alive: "no worker is there to run it", "没有可运行它的工作进程";
    earlier_runs: "Earlier runs", "此前运行";
    job_poll: "Ask the vendors, look for gaps", "询问厂商并查找缺口";
    job_provider_delete: "Delete at the vendors what is to be deleted there", "在厂商处删除应删内容";
    job_fixity: "Read stored objects again", "复读存档对象";
    job_alarms: "Tell of alarms", "发送告警";
    job_backup: "Back up the database", "备份数据库";
    from_day: "From", "自";
    to_day: "Before", "至（不含）";
    pages_of_administration: "Administration pages", "管理页面";
    queue: "Queue that is drawn from", "拉取的队列";
    nothing: "Nothing here.", "没有内容。";
    listener: "listener: searches and plays", "收听者：查询和播放";
    officer: "officer: also downloads, notes and tags", "专员：还可下载、备注和标记";
    auditor: "auditor: sees the trail, hears nothing", "审计员：查看审计记录，不能收听";
    administrator: "administrator: also accounts, sources, schedule", "管理员：还可管理账户、来源和计划";
}

pub fn of(lang: Lang) -> &'static Words {
    lang.pick(&ENGLISH, &CHINESE)
}

impl Words {
    /// What these pages say to a refusal; `None` for those that are no matter of a form.
    pub fn said(&self, code: &str) -> Option<&'static str> {
        let words = match code {
            "bad_name" => self.bad_name,
            "reserved_name" => self.reserved_name,
            "name_taken" => self.name_taken,
            "whole_house" => self.whole_house,
            "bad_scope" => self.bad_scope,
            "bad_days" => self.bad_days,
            "not_yourself" => self.not_yourself,
            "last_administrator" => self.last_administrator,
            "disabled" => self.disabled_no_link,
            "wrong_password" => self.wrong_old,
            "weak_password" => self.weak,
            _ => return None,
        };
        Some(words)
    }

    /// A scheduled job, for people.
    pub fn job<'n>(&self, name: &'n str) -> &'n str
    where
        'static: 'n,
    {
        match name {
            "poll" => self.job_poll,
            "provider_delete" => self.job_provider_delete,
            "fixity" => self.job_fixity,
            "alarms" => self.job_alarms,
            "backup" => self.job_backup,
            other => other,
        }
    }

    pub fn role(&self, role: crate::domain::rights::Role) -> &'static str {
        use crate::domain::rights::Role;
        match role {
            Role::Listener => self.listener,
            Role::Officer => self.officer,
            Role::Auditor => self.auditor,
            Role::Administrator => self.administrator,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_these_pages_has_words() {
        for code in [
            "bad_name",
            "reserved_name",
            "name_taken",
            "whole_house",
            "bad_scope",
            "bad_days",
            "not_yourself",
            "last_administrator",
            "disabled",
            "wrong_password",
            "weak_password",
        ] {
            for lang in [Lang::En, Lang::Zh] {
                assert!(of(lang).said(code).is_some(), "{code}");
            }
        }
        assert_eq!(of(Lang::En).said("unavailable"), None);
    }
}
