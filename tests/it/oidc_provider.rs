//! Sign-in through a certified provider (npm `oidc-provider`), by its own forms, as a browser would go through them.
//!
//! Needs Node.js and `npm ci --prefix scripts/oidc_provider`; says that it skips without them, and fails when
//! `CALLVAULT_REQUIRE_SERVERS=1`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use callvault::domain::clock::{Clock as _, SharedClock, SystemClock};
use callvault::web::access::oidc::check::check;
use callvault::web::access::oidc::settings as oidc;
use http::Method;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::accounts::word_of;
use crate::oidc::house;
use crate::support::http::{Answer, ask, get_with};
use crate::support::web::WebHouse;

const BASE: &str = "http://calls.test";

struct Provider {
    url: String,
    /// Ends with its standard input, and with this.
    child: Child,
}

async fn provider() -> Option<Provider> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/oidc_provider");
    let missing = if folder.join("node_modules/oidc-provider").is_dir() {
        None
    } else {
        Some("`npm ci --prefix scripts/oidc_provider` was not run".to_owned())
    };
    // A port that is free now; another process may be faster, and then the start says so.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let started = match missing {
        Some(missing) => Err(missing),
        None => Command::new("node")
            .arg(folder.join("server.mjs"))
            .arg(port.to_string())
            .arg(format!("{BASE}/sign-in/oidc/back"))
            .arg(format!("{BASE}/sign-in"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("node: {error}")),
    };
    let mut child = match started {
        Ok(child) => child,
        Err(missing) => {
            let required = std::env::var("CALLVAULT_REQUIRE_SERVERS").is_ok_and(|v| v == "1");
            assert!(!required, "no OpenID provider: {missing}");
            println!("SKIPPED: no OpenID provider: {missing}");
            return None;
        }
    };
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.next_line().await.unwrap().unwrap_or_default();
    let url = ready.strip_prefix("ready ");
    let url = url.expect("the provider starts").to_owned();
    // Whoever writes into a pipe that is closed ends.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Some(Provider { url, child })
}

fn settings(url: &str) -> oidc::Settings {
    toml::from_str(&format!(
        "issuer = {url:?}\nclient_id = \"callvault\"\nclient_secret = \"secret of the tests: + % and more\"\n\
         scopes = [\"openid\", \"profile\", \"email\", \"groups\"]\nemail_domains = [\"example.com\"]\n\
         group_scopes = [{{ group = \"north\", sources = [\"desk\"] }}, {{ group = \"legal\" }}]\n\
         [roles]\nlistener = [\"call-desk\"]\nofficer = [\"legal\"]\nadministrator = [\"it\"]\n"
    ))
    .unwrap()
}

/// A browser: cookies of each server, links and forms. `http://calls.test` is the house.
struct Browser {
    house: SocketAddr,
    provider: SocketAddr,
    cookies: [BTreeMap<String, String>; 2],
}

impl Browser {
    fn new(house: &WebHouse, provider: &Provider) -> Self {
        Self {
            house: house.at,
            provider: provider
                .url
                .strip_prefix("http://")
                .unwrap()
                .parse()
                .unwrap(),
            cookies: Default::default(),
        }
    }

    /// One request; the answer, and where it leads.
    async fn one(&mut self, address: &str, form: Option<&str>) -> (Answer, Option<String>) {
        let url = url::Url::parse(address).unwrap();
        let is_house = url.host_str() == Some("calls.test");
        let (to, jar) = if is_house {
            (self.house, &mut self.cookies[0])
        } else {
            (self.provider, &mut self.cookies[1])
        };
        let cookie: Vec<_> = jar
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let cookie = cookie.join("; ");
        let host = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str().unwrap()),
            None => url.host_str().unwrap().to_owned(),
        };
        let mut headers = vec![("host", host.as_str()), ("cookie", cookie.as_str())];
        let method = match form {
            Some(_) => Method::POST,
            None => Method::GET,
        };
        if form.is_some() {
            headers.push(("content-type", "application/x-www-form-urlencoded"));
        }
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let answer = ask(
            to,
            method,
            target,
            &headers,
            form.unwrap_or_default().to_owned(),
        )
        .await;
        for set in answer.headers.get_all("set-cookie") {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if value.is_empty() {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
        let next = answer
            .status
            .is_redirection()
            .then(|| url.join(answer.header("location")).unwrap().to_string());
        (answer, next)
    }

    /// Follows redirects to a page, and says where it is.
    async fn go(&mut self, address: &str, form: Option<&str>) -> (Answer, String) {
        let mut at = address.to_owned();
        let (mut answer, mut next) = self.one(&at, form).await;
        for _ in 0..12 {
            match next {
                Some(to) => {
                    at = to;
                    (answer, next) = self.one(&at, None).await;
                }
                None => return (answer, at),
            }
        }
        panic!("redirects without an end at {at}");
    }

    /// Through the provider's pages as `who`, to where it ends.
    async fn sign_in(&mut self, who: &str, next: &str) -> (Answer, String) {
        let first = format!("{BASE}/sign-in/oidc?next={next}");
        let (mut page, mut at) = self.go(&first, None).await;
        // It asks who one is, and then whether callvault may know it.
        for _ in 0..3 {
            if at.starts_with(BASE) {
                break;
            }
            let action = between(page.text(), "action=\"", "\"").to_owned();
            let form = match between(page.text(), "name=\"prompt\" value=\"", "\"") {
                "login" => format!("prompt=login&login={who}&password=x"),
                prompt => format!("prompt={prompt}"),
            };
            (page, at) = self.go(&action, Some(&form)).await;
        }
        (page, at)
    }
}

fn between<'t>(text: &'t str, before: &str, behind: &str) -> &'t str {
    let (_, rest) = text
        .split_once(before)
        .unwrap_or_else(|| panic!("{before} in {text}"));
    rest.split_once(behind).unwrap().0
}

#[tokio::test]
async fn people_sign_in_through_a_certified_provider() {
    let Some(mut provider) = provider().await else {
        return;
    };
    let house = house(settings(&provider.url)).await;
    // Tokens are of now, and the test's clock stands still by itself.
    let clock = house.clock.clone();
    clock.set(SystemClock.now());
    let ticking = tokio::spawn(async move {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            clock.set(SystemClock.now());
        }
    });
    let clock: SharedClock = house.clock.clone();
    let found = check(&settings(&provider.url), BASE, &clock).await;
    assert_eq!(found.len(), 1, "{found:?}");

    let mut lin = Browser::new(&house, &provider);
    let (page, at) = lin.sign_in("lin", "/account").await;
    assert_eq!(at, format!("{BASE}/account"), "{}", page.text());
    assert_eq!(page.status.as_u16(), 200);
    let account = house.db.find_account("lin").await.unwrap().unwrap();
    assert_eq!(account.role.as_str(), "listener");
    assert_eq!(account.scope.sources, ["desk"]);
    assert!(!account.has_password);
    // Again, and the provider knows the browser: no form at all.
    let (_, at) = lin.go(&format!("{BASE}/sign-in/oidc"), None).await;
    assert_eq!(at, format!("{BASE}/"));
    assert_eq!(house.db.accounts().await.unwrap().len(), 1);

    // Out here, and out there.
    let cookie = format!("callvault={}", lin.cookies[0]["callvault"]);
    let word = format!("word={}", word_of(&cookie));
    let (page, at) = lin.go(&format!("{BASE}/sign-out"), Some(&word)).await;
    assert_eq!(at, format!("{BASE}/sign-in?left=1"));
    assert!(page.text().contains("/sign-in/oidc/out"));
    let gone = get_with(house.at, "/account", &[("cookie", &cookie)]).await;
    assert_eq!(gone.status.as_u16(), 303);
    let (page, _) = lin.go(&format!("{BASE}/sign-in/oidc/out"), None).await;
    let action = between(page.text(), "action=\"", "\"").to_owned();
    let xsrf = between(page.text(), "name=\"xsrf\" value=\"", "\"").to_owned();
    let (_, at) = lin
        .go(&action, Some(&format!("xsrf={xsrf}&logout=yes")))
        .await;
    assert_eq!(at, format!("{BASE}/sign-in"), "back to where one signs in");
    let (page, at) = lin.go(&format!("{BASE}/sign-in/oidc"), None).await;
    assert!(
        at.starts_with(&provider.url) && page.text().contains("name=\"login\""),
        "asked anew"
    );

    // Whoever has no role is told whom to ask, and gets no account; whoever turns back is let be.
    let mut guest = Browser::new(&house, &provider);
    let (page, _) = guest.sign_in("guest", "/").await;
    assert_eq!(page.status.as_u16(), 403);
    assert!(
        page.text().contains("<code>no_role</code>"),
        "{}",
        page.text()
    );
    assert!(house.db.find_account("guest").await.unwrap().is_none());
    let mut nobody = Browser::new(&house, &provider);
    let (page, _) = nobody.go(&format!("{BASE}/sign-in/oidc"), None).await;
    let abort = between(page.text(), "<a href=\"", "\"").to_owned();
    let (page, _) = nobody.go(&abort, None).await;
    assert!(
        page.text().contains("<code>provider_denied</code>"),
        "{}",
        page.text()
    );

    // The answer of one browser in another one.
    let mut olga = Browser::new(&house, &provider);
    let (_, at) = olga.sign_in("olga", "/").await;
    assert_eq!(at, format!("{BASE}/"));
    let audited = house.audited().await;
    assert!(
        audited.contains(&"account:olga sign_in_oidc olga".to_owned()),
        "{audited:?}"
    );
    assert!(house.db.verify_audit().await.unwrap().whole);
    ticking.abort();
    provider.child.kill().await.unwrap();
    house.stop().await;
}
