//! `account`: who may sign in, and what scripts may show instead. Passwords come from a prompt or stdin, or are made
//! and printed once; never from the command line, which every process list shows.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::db::accounts::{Account, AccountChange, NewAccount, account_name};
use crate::db::tokens::{NewToken, Token, token_name};
use crate::db::{Database, DbErrorKind};
use crate::domain::clock::{Clock as _, SystemClock, Timestamp};
use crate::domain::rights::{Role, Scope};
use crate::domain::secret::Secret;
use crate::domain::units::Span;
use crate::domain::{password, token};

use super::password::{PasswordArgs, no_randomness};
use super::{Failure, Global, Out, exit, find};

#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// A new account
    Add(Add),
    /// Every account
    List,
    /// Changes role, scope or language; ends the account's sessions
    Set(Set),
    /// Ends an account's sessions and lets it sign in no more
    Disable(Named),
    /// Lets a disabled account sign in again
    Enable(Named),
    /// A new password; ends the account's sessions and unlocks it
    Passwd(Passwd),
    /// An address that signs this account in once, within a quarter of an hour
    Link(Named),
    /// Tokens for scripts
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Debug, Args)]
pub struct Named {
    name: String,
}

/// What may be seen; nothing given is everything.
#[derive(Debug, Args)]
pub struct ScopeArgs {
    /// Only calls of this source; may stand there several times
    #[arg(long, value_name = "SOURCE")]
    source: Vec<String>,
    /// Only calls with this number (with + exactly, else its end) or a --party; may stand there several times
    #[arg(long, value_name = "NUMBER")]
    number: Vec<String>,
    /// Only calls with this party id or a --number; may stand there several times
    #[arg(long, value_name = "ID")]
    party: Vec<String>,
}

impl ScopeArgs {
    fn scope(self) -> Scope {
        Scope {
            sources: self.source,
            numbers: self.number,
            parties: self.party,
        }
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  callvault account add ann --role administrator\n  callvault account add li --role listener --source feiyu-main --language zh-CN --generate\n  pass show callvault/wang | callvault account add wang --role officer --password-stdin\n\nRoles: listener (search, play), officer (and download, notes, tags), auditor (the trail; hears nothing, numbers\nmasked), administrator. From the first account on nobody reads without a session or a token."
)]
pub struct Add {
    name: String,
    #[arg(long)]
    role: String,
    #[command(flatten)]
    scope: ScopeArgs,
    /// en or zh-CN; else what the browser asks for
    #[arg(long)]
    language: Option<String>,
    #[command(flatten)]
    password: PasswordArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A scope is replaced as a whole: name all of it. --everything takes it away.\n\nExamples:\n  callvault account set li --role officer\n  callvault account set li --source feiyu-main --source aliyun-main"
)]
pub struct Set {
    name: String,
    #[arg(long)]
    role: Option<String>,
    #[command(flatten)]
    scope: ScopeArgs,
    /// No limits any more
    #[arg(long, conflicts_with_all = ["source", "number", "party"])]
    everything: bool,
    /// en or zh-CN
    #[arg(long)]
    language: Option<String>,
}

#[derive(Debug, Args)]
pub struct Passwd {
    name: String,
    #[command(flatten)]
    password: PasswordArgs,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// A new token, printed once
    Add(TokenAdd),
    /// Every token, without its secret
    List,
    /// No good any more, from the next request on
    Revoke(Named),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  callvault account token add export-job --role officer --source feiyu-main --expires 90d\n  curl -H \"Authorization: Bearer $TOKEN\" http://127.0.0.1:8080/api/v1/recordings"
)]
pub struct TokenAdd {
    name: String,
    #[arg(long)]
    role: String,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Such as 90d; "never" is possible and not wise
    #[arg(long, default_value = "90d")]
    expires: String,
}

/// Time to carry a link to its reader.
pub const LINK_FOR_MS: i64 = 15 * 60_000;

impl AccountCommand {
    pub async fn run(self, global: &Global, out: &Out) -> Result<u8, Failure> {
        let config = super::run::load(global)?;
        let db = find::open(&config).await?;
        let now = SystemClock.now();
        match self {
            Self::Add(add) => add.run(&db, out, now).await?,
            Self::List => {
                find::audit(&db, "account_list", "").await?;
                for account in db.accounts().await? {
                    out.item(&account, || line(&account));
                }
            }
            Self::Set(set) => set.run(&db, out, now).await?,
            Self::Disable(named) => switch(&db, out, &named.name, true, now).await?,
            Self::Enable(named) => switch(&db, out, &named.name, false, now).await?,
            Self::Passwd(passwd) => passwd.run(&db, out, now).await?,
            Self::Link(named) => {
                let account = known(&db, &named.name).await?;
                find::audit(&db, "account_link", &account.name).await?;
                let base = config.server.public_base();
                let link = one_time_link(&db, &account, &base, now).await?;
                out.item(&json!({ "name": account.name, "link": link }), || {
                    link.clone()
                });
            }
            Self::Token(command) => command.run(&db, out, now).await?,
        }
        Ok(exit::DONE)
    }
}

/// Makes an address that signs the account in once; whoever holds it is that account.
pub async fn one_time_link(
    db: &Database,
    account: &Account,
    base: &str,
    now: Timestamp,
) -> Result<String, Failure> {
    let token = token::new_token().ok_or_else(no_randomness)?;
    let expires = now.plus_ms(LINK_FOR_MS);
    db.add_link(account.account_id, token::hash(token.expose()), expires)
        .await?;
    Ok(format!("{base}/sign-in/link?t={}", token.expose()))
}

impl Add {
    async fn run(self, db: &Database, out: &Out, now: Timestamp) -> Result<(), Failure> {
        let name = name(&self.name)?;
        let (role, scope) = (role(&self.role)?, self.scope.scope());
        sensible(role, &scope)?;
        let language = self.language.map(|text| language(&text)).transpose()?;
        if db.find_account(&name).await?.is_some() {
            return Err(taken("account", &name));
        }
        let (secret, made) = self.password.read(&name)?;
        let hash = password::hash(&secret).ok_or_else(no_randomness)?;
        find::audit(db, "account_add", &format!("{name} {}", role.as_str())).await?;
        let new = NewAccount {
            name: name.clone(),
            password_hash: Some(hash),
            role,
            scope,
            language,
            must_change: made,
        };
        let account = db.add_account(new, now).await.map_err(|error| {
            if error.kind() == DbErrorKind::Conflict {
                taken("account", &name)
            } else {
                error.into()
            }
        })?;
        tell(out, &account, made.then_some(&secret));
        Ok(())
    }
}

/// An account, with the password that was made for it.
fn tell(out: &Out, account: &Account, made: Option<&Secret>) {
    let mut item = serde_json::to_value(account).unwrap_or_default();
    if let Some(made) = made {
        item["password"] = json!(made.expose());
    }
    out.item(&item, || match made {
        Some(made) => format!(
            "{}\npassword (shown this once, to be changed at the first sign-in): {}",
            line(account),
            made.expose()
        ),
        None => line(account),
    });
}

impl Set {
    async fn run(self, db: &Database, out: &Out, now: Timestamp) -> Result<(), Failure> {
        let account = known(db, &self.name).await?;
        let given = self.scope.scope();
        let change = AccountChange {
            role: self.role.as_deref().map(role).transpose()?,
            scope: (self.everything || !given.is_all()).then_some(given),
            language: self
                .language
                .map(|text| language(&text))
                .transpose()?
                .map(Some),
            disabled: None,
        };
        sensible(
            change.role.unwrap_or(account.role),
            change.scope.as_ref().unwrap_or(&account.scope),
        )?;
        find::audit(db, "account_set", &account.name).await?;
        db.change_account(account.account_id, change, now).await?;
        let account = known(db, &account.name).await?;
        tell(out, &account, None);
        Ok(())
    }
}

impl Passwd {
    async fn run(self, db: &Database, out: &Out, now: Timestamp) -> Result<(), Failure> {
        let account = known(db, &self.name).await?;
        let (secret, made) = self.password.read(&account.name)?;
        let hash = password::hash(&secret).ok_or_else(no_randomness)?;
        find::audit(db, "account_passwd", &account.name).await?;
        db.set_password(account.account_id, &hash, made, now)
            .await?;
        let account = known(db, &account.name).await?;
        tell(out, &account, made.then_some(&secret));
        Ok(())
    }
}

impl TokenCommand {
    async fn run(self, db: &Database, out: &Out, now: Timestamp) -> Result<(), Failure> {
        match self {
            Self::Add(add) => {
                let name = name(&add.name)?;
                let (role, scope) = (role(&add.role)?, add.scope.scope());
                sensible(role, &scope)?;
                let expires_at = match add.expires.as_str() {
                    "never" => None,
                    text => Some(now.plus_ms(lifetime_ms(text)?)),
                };
                if token_name(&name).is_none() {
                    return Err(Failure::usage(
                        "usage",
                        "api_token is the name of [server] api_token in the trail",
                        "NAME",
                        "choose another name",
                    ));
                }
                if db.tokens().await?.iter().any(|token| token.name == name) {
                    return Err(taken("token", &name));
                }
                let secret = token::new_api_token().ok_or_else(no_randomness)?;
                find::audit(db, "token_add", &format!("{name} {}", role.as_str())).await?;
                let new = NewToken {
                    name: name.clone(),
                    sha256: token::hash(secret.expose()),
                    role,
                    scope,
                    created_by: find::actor(),
                    expires_at,
                };
                db.add_token(new, now).await?;
                let item = json!({ "name": name, "role": role, "expires_at": expires_at, "token": secret.expose() });
                out.item(&item, || {
                    format!(
                        "{}\n(shown this once; send it as a bearer token)",
                        secret.expose()
                    )
                });
            }
            Self::List => {
                find::audit(db, "token_list", "").await?;
                for token in db.tokens().await? {
                    out.item(&token, || token_line(&token, now));
                }
            }
            Self::Revoke(named) => {
                let name = name(&named.name)?;
                find::audit(db, "token_revoke", &name).await?;
                if !db.revoke_token(&name, now).await? {
                    return Err(Failure::failed(
                        "not_found",
                        format!("no token {name:?} is in use"),
                        "the tokens",
                        "callvault account token list shows them",
                    ));
                }
                out.item(&json!({ "name": name, "revoked_at": now }), || {
                    format!("{name} is revoked")
                });
            }
        }
        Ok(())
    }
}

async fn switch(
    db: &Database,
    out: &Out,
    name: &str,
    disabled: bool,
    now: Timestamp,
) -> Result<(), Failure> {
    let account = known(db, name).await?;
    let action = if disabled {
        "account_disable"
    } else {
        "account_enable"
    };
    find::audit(db, action, &account.name).await?;
    let change = AccountChange {
        disabled: Some(disabled),
        ..AccountChange::default()
    };
    db.change_account(account.account_id, change, now).await?;
    let account = known(db, &account.name).await?;
    tell(out, &account, None);
    Ok(())
}

fn line(account: &Account) -> String {
    let mut text = format!("{:<24} {:<14}", account.name, account.role.as_str());
    text += &scope_words(&account.scope);
    if account.disabled {
        text += "  disabled";
    }
    if let Some(until) = account
        .locked_until
        .filter(|until| *until > SystemClock.now())
    {
        text += &format!("  locked until {until}");
    }
    text
}

fn token_line(token: &Token, now: Timestamp) -> String {
    let end = match (token.revoked_at, token.expires_at) {
        (Some(at), _) => format!("revoked {at}"),
        (None, Some(at)) if at <= now => format!("expired {at}"),
        (None, Some(at)) => format!("until {at}"),
        (None, None) => "for ever".to_owned(),
    };
    format!(
        "{:<24} {:<14} {}  {end}",
        token.name,
        token.role.as_str(),
        scope_words(&token.scope)
    )
}

fn scope_words(scope: &Scope) -> String {
    if scope.is_all() {
        return "everything".to_owned();
    }
    let lists = [
        ("sources", &scope.sources),
        ("numbers", &scope.numbers),
        ("parties", &scope.parties),
    ];
    let parts = lists
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name} {}", list.join(", ")));
    parts.collect::<Vec<_>>().join("; ")
}

fn name(text: &str) -> Result<String, Failure> {
    account_name(text).ok_or_else(|| {
        Failure::usage(
            "usage",
            format!("{text:?} is no name"),
            "NAME",
            "write up to 64 of a-z 0-9 . _ @ -, beginning with a letter or digit",
        )
    })
}

fn role(text: &str) -> Result<Role, Failure> {
    Role::parse(text).ok_or_else(|| {
        let known: Vec<_> = Role::ALL.iter().map(|role| role.as_str()).collect();
        Failure::usage(
            "usage",
            format!("no role {text:?}"),
            "--role",
            known.join(", "),
        )
    })
}

fn language(text: &str) -> Result<String, Failure> {
    if matches!(text, "en" | "zh-CN") {
        return Ok(text.to_owned());
    }
    Err(Failure::usage(
        "usage",
        format!("no language {text:?}"),
        "--language",
        "en or zh-CN",
    ))
}

fn lifetime_ms(text: &str) -> Result<i64, Failure> {
    let span = text.parse::<Span>().ok();
    span.and_then(|span| i64::try_from(span.duration().as_millis()).ok())
        .filter(|ms| *ms > 0)
        .ok_or_else(|| {
            Failure::usage(
                "usage",
                format!("{text:?} is no time"),
                "--expires",
                "write 12h, 90d, or never",
            )
        })
}

/// What these two roles see is of the whole house; with a scope they would see less than they think.
fn sensible(role: Role, scope: &Scope) -> Result<(), Failure> {
    if scope.is_all() || !matches!(role, Role::Auditor | Role::Administrator) {
        return Ok(());
    }
    Err(Failure::usage(
        "usage",
        format!(
            "the role {} has no scope: it is for the whole house",
            role.as_str()
        ),
        "--source, --number, --party",
        "leave them out, or give the role listener or officer",
    ))
}

async fn known(db: &Database, text: &str) -> Result<Account, Failure> {
    let found = match account_name(text) {
        Some(name) => db.find_account(&name).await?,
        None => None,
    };
    found.ok_or_else(|| {
        Failure::failed(
            "not_found",
            format!("there is no account {text:?}"),
            "the accounts",
            "callvault account list shows them",
        )
    })
}

fn taken(what: &str, name: &str) -> Failure {
    Failure::failed(
        "name_taken",
        format!("there is a {what} {name:?} already"),
        format!("the {what}s"),
        "choose another name",
    )
}
