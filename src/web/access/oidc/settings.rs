//! `[access.oidc]` of the configuration: which provider, and what its word makes of somebody here.

use serde::Deserialize;
use url::{Host, Url};

use crate::domain::rights::{Role, Scope};
use crate::domain::secret::Secret;
use crate::providers::settings::HostPattern;

/// Whose passwords are taken beside the provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Local {
    #[default]
    Everybody,
    /// For the day on which the provider is away.
    Administrators,
}

/// The groups that make somebody what.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Roles {
    pub listener: Vec<String>,
    pub officer: Vec<String>,
    pub auditor: Vec<String>,
    pub administrator: Vec<String>,
}

/// What a group may see. The first that fits counts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupScope {
    pub group: String,
    #[serde(default)]
    pub sources: Vec<String>,
    #[serde(default)]
    pub numbers: Vec<String>,
    #[serde(default)]
    pub parties: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Exactly as the provider writes it in its tokens.
    pub issuer: String,
    pub client_id: String,
    /// None: a public client, which PKCE alone protects.
    #[serde(default)]
    pub client_secret: Option<Secret>,
    #[serde(default = "usual_scopes")]
    pub scopes: Vec<String>,
    /// The claim that holds groups or roles; dots lead into objects, as in `realm_access.roles`.
    #[serde(default = "usual_claim")]
    pub role_claim: String,
    pub roles: Roles,
    /// Who is in none of these groups stays out; empty asks for none.
    #[serde(default)]
    pub required_groups: Vec<String>,
    /// Domains of verified e-mail addresses; empty asks for none.
    #[serde(default)]
    pub email_domains: Vec<String>,
    /// For listeners and officers. When there are any, who fits none of them stays out.
    #[serde(default)]
    pub group_scopes: Vec<GroupScope>,
    /// Name of the provider on the button.
    #[serde(default)]
    pub label: Option<String>,
    /// Whom to ask, for people who may not come in: a name, an address, a telephone extension.
    #[serde(default)]
    pub contact: Option<String>,
    #[serde(default)]
    pub local_sign_in: Local,
    /// Hosts in private networks that the provider's discovery names beside the issuer's own.
    #[serde(default)]
    pub allow_hosts: Vec<String>,
}

fn usual_scopes() -> Vec<String> {
    ["openid", "profile", "email"].map(str::to_owned).to_vec()
}

fn usual_claim() -> String {
    "groups".to_owned()
}

impl Settings {
    /// The key, and what is wrong with it, in words for a person.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        if let Err(what) = safe_address(&self.issuer) {
            return Some(("issuer", what));
        }
        if self.issuer.contains(['?', '#']) {
            return Some(("issuer", "has a query or fragment".to_owned()));
        }
        if self.client_id.is_empty() {
            return Some(("client_id", "is empty".to_owned()));
        }
        if self.client_secret.as_ref().is_some_and(Secret::is_empty) {
            return Some((
                "client_secret",
                "is empty; leave the key out for a public client".to_owned(),
            ));
        }
        if !self.scopes.iter().any(|scope| scope == "openid") {
            return Some((
                "scopes",
                "does not have \"openid\", without which nobody is named".to_owned(),
            ));
        }
        if self.role_claim.split('.').any(str::is_empty) {
            return Some((
                "role_claim",
                "is no name of a claim, such as \"groups\" or \"realm_access.roles\"".to_owned(),
            ));
        }
        let groups = self.roles.of_each().into_iter().flat_map(|(_, list)| list);
        if groups.count() == 0 {
            return Some((
                "roles",
                "gives nobody a role, so nobody could come in; write for example roles = { listener = [\"call-desk\"] }"
                    .to_owned(),
            ));
        }
        if let Some(what) = self
            .allow_hosts
            .iter()
            .find_map(|host| HostPattern::parse(host).err())
        {
            return Some(("allow_hosts", what));
        }
        let odd = |domain: &&String| domain.is_empty() || domain.contains('@');
        if let Some(domain) = self.email_domains.iter().find(odd) {
            return Some((
                "email_domains",
                format!("{domain:?} is no domain such as \"example.com\""),
            ));
        }
        None
    }

    /// Hosts in networks of one's own that may be spoken to: the operator wrote each of them.
    pub fn named_hosts(&self) -> Vec<HostPattern> {
        let issuer = Url::parse(&self.issuer).ok();
        let issuer = issuer.and_then(|url| {
            let port = url.port_or_known_default()?;
            Some(format!("{}:{port}", url.host()?))
        });
        let all = issuer.iter().chain(&self.allow_hosts);
        all.filter_map(|host| HostPattern::parse(host).ok())
            .collect()
    }

    pub fn label(&self) -> &str {
        self.label.as_deref().unwrap_or("OpenID Connect")
    }
}

impl Roles {
    /// In the order in which they count for somebody who is in groups of several.
    ///
    /// An auditor hears nothing, so that role comes before those that do.
    pub fn of_each(&self) -> [(Role, &[String]); 4] {
        [
            (Role::Administrator, &self.administrator),
            (Role::Auditor, &self.auditor),
            (Role::Officer, &self.officer),
            (Role::Listener, &self.listener),
        ]
    }
}

impl GroupScope {
    pub fn scope(&self) -> Scope {
        Scope {
            sources: self.sources.clone(),
            numbers: self.numbers.clone(),
            parties: self.parties.clone(),
        }
    }
}

/// Codes and tokens travel there: by https, or inside this very machine.
pub fn safe_address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|_| format!("{text:?} is no address such as \"https://id.example.com\""))?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user or password in it".to_owned());
    }
    match url.scheme() {
        "https" if url.host().is_some() => Ok(url),
        "http" if loopback => Ok(url),
        _ => Err(format!(
            "{text:?} is not https; codes and tokens go there, and plain http is for this very machine alone"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &str) -> Result<Settings, String> {
        let text = format!(
            "issuer = \"https://id.example.com\"\nclient_id = \"callvault\"\nroles = {{ listener = [\"desk\"] }}\n{more}"
        );
        toml::from_str(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_cannot_work_is_named() {
        assert_eq!(read("").unwrap().problem(), None);
        assert_eq!(read("").unwrap().label(), "OpenID Connect");
        for (more, key) in [
            ("scopes = [\"email\"]", "scopes"),
            ("role_claim = \"a..b\"", "role_claim"),
            ("client_secret = \"\"", "client_secret"),
            ("email_domains = [\"a@example.com\"]", "email_domains"),
        ] {
            assert_eq!(read(more).unwrap().problem().unwrap().0, key, "{more}");
        }
        let mut settings = read("").unwrap();
        settings.roles = Roles::default();
        assert_eq!(settings.problem().unwrap().0, "roles");
        assert!(read("roel_claim = \"x\"").is_err());
        assert!(read("local_sign_in = \"nobody\"").is_err());
    }

    #[test]
    fn tokens_travel_by_https_or_not_at_all() {
        for good in [
            "https://id.example.com/realms/a",
            "http://127.0.0.1:4000",
            "http://localhost:1/x",
            "http://[::1]:1",
        ] {
            assert!(safe_address(good).is_ok(), "{good}");
        }
        for bad in [
            "http://id.example.com",
            "http://127.0.0.1.example.com",
            "ftp://localhost",
            "https://u:p@id.example.com",
            "id.example.com",
            "",
        ] {
            assert!(safe_address(bad).is_err(), "{bad}");
        }
    }
}
