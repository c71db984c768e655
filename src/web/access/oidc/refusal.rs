//! Why somebody who came back from the provider is not let in: a stable code for trail and log, words for people.

use http::StatusCode;

use crate::web::access::words::Words;

/// Everything that ends a sign-in through the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No answer, or none in time.
    ProviderAway,
    /// It answered, and not as OpenID Connect asks for.
    ProviderOdd,
    /// Its user turned back, or it does not want this client.
    Denied,
    /// The answer does not belong to a sign-in that this browser began.
    OtherBrowser,
    /// It came before, or too late.
    UsedUp,
    /// The provider does not take the code.
    CodeRefused,
    WrongIssuer,
    WrongAudience,
    BadSignature,
    WrongNonce,
    Expired,
    /// From the future.
    Clocks,
    MissingClaims,
    NoRole,
    NoScope,
    NotInGroup,
    OtherDomain,
    Disabled,
    TooOften,
}

impl Refusal {
    #[cfg(test)]
    pub const ALL: [Self; 19] = [
        Self::ProviderAway,
        Self::ProviderOdd,
        Self::Denied,
        Self::OtherBrowser,
        Self::UsedUp,
        Self::CodeRefused,
        Self::WrongIssuer,
        Self::WrongAudience,
        Self::BadSignature,
        Self::WrongNonce,
        Self::Expired,
        Self::Clocks,
        Self::MissingClaims,
        Self::NoRole,
        Self::NoScope,
        Self::NotInGroup,
        Self::OtherDomain,
        Self::Disabled,
        Self::TooOften,
    ];

    pub const fn code(self) -> &'static str {
        match self {
            Self::ProviderAway => "provider_away",
            Self::ProviderOdd => "provider_odd",
            Self::Denied => "provider_denied",
            Self::OtherBrowser => "state_of_another_browser",
            Self::UsedUp => "state_used_up",
            Self::CodeRefused => "code_refused",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::BadSignature => "bad_signature",
            Self::WrongNonce => "wrong_nonce",
            Self::Expired => "token_expired",
            Self::Clocks => "token_not_yet_valid",
            Self::MissingClaims => "missing_claims",
            Self::NoRole => "no_role",
            Self::NoScope => "no_scope",
            Self::NotInGroup => "not_in_group",
            Self::OtherDomain => "other_domain",
            Self::Disabled => "account_disabled",
            Self::TooOften => "too_often",
        }
    }

    pub const fn status(self) -> StatusCode {
        match self {
            Self::ProviderAway | Self::ProviderOdd => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooOften => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::FORBIDDEN,
        }
    }

    /// Something that an administrator must look at; the others are of everyday life.
    pub const fn is_alarming(self) -> bool {
        !matches!(
            self,
            Self::Denied
                | Self::OtherBrowser
                | Self::UsedUp
                | Self::NoRole
                | Self::NoScope
                | Self::NotInGroup
                | Self::OtherDomain
                | Self::Disabled
                | Self::TooOften
        )
    }

    /// Whether the person must ask somebody; the others may simply try again.
    pub const fn needs_somebody(self) -> bool {
        !matches!(
            self,
            Self::Denied | Self::OtherBrowser | Self::UsedUp | Self::TooOften
        )
    }

    /// What happened and what to do, in the reader's language.
    pub fn words(self, w: &Words) -> &'static str {
        let (english, chinese) = self.both();
        if w.lang == "en" { english } else { chinese }
    }

    const fn both(self) -> (&'static str, &'static str) {
        match self {
            Self::ProviderAway => (
                "The sign-in service does not answer. Try again in a minute.",
                "登录服务没有响应，请一分钟后重试。",
            ),
            Self::ProviderOdd => (
                "The sign-in service answered in a way that this archive cannot use. Its address or settings may have changed.",
                "登录服务的响应无法使用，其地址或设置可能已更改。",
            ),
            Self::Denied => (
                "The sign-in service did not let you through, or you turned back there.",
                "登录服务未予通过，或您已取消登录。",
            ),
            Self::OtherBrowser => (
                "This answer does not belong to a sign-in that this browser began. Begin again here.",
                "此响应不属于本浏览器发起的登录，请在此重新开始。",
            ),
            Self::UsedUp => (
                "This sign-in was used already or took too long. Begin again.",
                "此次登录已使用或已超时，请重新开始。",
            ),
            Self::CodeRefused => (
                "The sign-in service did not confirm the sign-in to this archive. The client's secret or return address may be wrong.",
                "登录服务未向本系统确认登录，客户端密钥或回调地址可能有误。",
            ),
            Self::WrongIssuer => (
                "The answer comes from another sign-in service than the one that is configured.",
                "响应来自未配置的登录服务。",
            ),
            Self::WrongAudience => (
                "The sign-in service's answer is meant for another program.",
                "登录服务的响应是发给其他程序的。",
            ),
            Self::BadSignature => (
                "The signature on the sign-in service's answer is not right.",
                "登录服务响应的签名不正确。",
            ),
            Self::WrongNonce => (
                "The sign-in service's answer belongs to another sign-in. Begin again.",
                "登录服务的响应属于另一次登录，请重新开始。",
            ),
            Self::Expired => (
                "The sign-in service's answer is out of date already. Its clock and this machine's may differ.",
                "登录服务的响应已过期，其时钟可能与本机不一致。",
            ),
            Self::Clocks => (
                "The sign-in service's answer is not valid yet: its clock and this machine's differ by more than a minute.",
                "登录服务的响应尚未生效：其时钟与本机相差超过一分钟。",
            ),
            Self::MissingClaims => (
                "The sign-in service's answer does not say all that this archive needs to know about you.",
                "登录服务的响应缺少本系统所需的信息。",
            ),
            Self::NoRole => (
                "You are known to the sign-in service, but none of your groups has a role in this archive.",
                "登录服务认识您，但您所在的组在本系统中没有角色。",
            ),
            Self::NoScope => (
                "You have a role in this archive, but none of your groups says which calls you may see.",
                "您在本系统中有角色，但您所在的组未指定可见的通话。",
            ),
            Self::NotInGroup => (
                "You are not in a group that may use this archive.",
                "您不在可使用本系统的组中。",
            ),
            Self::OtherDomain => (
                "Your e-mail address is not a confirmed one of a domain that may use this archive.",
                "您的电子邮件地址未经验证，或不属于可使用本系统的域。",
            ),
            Self::Disabled => (
                "Your account in this archive is disabled.",
                "您在本系统中的账户已停用。",
            ),
            Self::TooOften => (
                "Too many tries from this address. Wait a minute.",
                "来自此地址的尝试过多，请等一分钟。",
            ),
        }
    }
}

/// A refusal with what the trail and the log should know; never a token, code or secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub why: Refusal,
    pub detail: String,
    /// Issuer's name for the person, once the signature has proved it.
    pub subject: Option<String>,
}

impl Refused {
    pub fn new(why: Refusal, detail: impl Into<String>) -> Self {
        Self {
            why,
            detail: detail.into(),
            subject: None,
        }
    }

    pub fn of(mut self, subject: &str) -> Self {
        self.subject = Some(subject.to_owned());
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_refusal_has_a_code_and_words_of_its_own() {
        let codes: HashSet<_> = Refusal::ALL.iter().map(|why| why.code()).collect();
        assert_eq!(codes.len(), Refusal::ALL.len());
        for why in Refusal::ALL {
            let (english, chinese) = why.both();
            assert!(english.is_ascii() && english.ends_with('.'), "{english}");
            assert!(chinese.ends_with('。'), "{chinese}");
        }
    }
}
