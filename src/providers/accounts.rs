//! Which configured source an account belongs to: messages of telephone systems name the account they are about.

use std::sync::{Arc, Mutex, PoisonError};

/// Filled while sources are built, asked when messages come; one for all sources of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Accounts(Arc<Mutex<Vec<Account>>>);

#[derive(Clone, Debug)]
struct Account {
    source: String,
    kind: String,
    /// `hq-pbx`, or `freeswitch/hq-pbx` where two systems have accounts of one name.
    account: String,
}

impl Accounts {
    /// A source answers to its own name, and to what a producer calls it.
    pub fn register(&self, source: &str, kind: &str, account: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.push(Account {
            source: source.to_owned(),
            kind: kind.to_owned(),
            account: account.to_owned(),
        });
    }

    /// The source that `provider`'s `account` is; a source of a vendor's kind only for that vendor.
    pub fn find(&self, provider: &str, account: &str) -> Option<String> {
        let full = format!("{provider}/{account}");
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |one: &&Account| {
            let kind_fits = one.kind == "cdr" || one.kind == provider;
            one.account == full || (one.account == account && kind_fits)
        };
        known.iter().find(fits).map(|one| one.source.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_vendor_and_name() {
        let accounts = Accounts::default();
        accounts.register("feiyu-main", "feiyu", "feiyu-main");
        accounts.register("pbx", "cdr", "pbx");
        accounts.register("pbx", "cdr", "asterisk/hq");
        let find = |provider, account| accounts.find(provider, account);
        assert_eq!(find("feiyu", "feiyu-main").as_deref(), Some("feiyu-main"));
        assert_eq!(find("twilio", "feiyu-main"), None);
        assert_eq!(find("freeswitch", "pbx").as_deref(), Some("pbx"));
        assert_eq!(find("asterisk", "hq").as_deref(), Some("pbx"));
        assert_eq!(find("freeswitch", "hq"), None);
    }
}
