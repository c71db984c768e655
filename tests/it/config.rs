//! The configuration as a person writes it: where it is found, what overrides it, and what its errors say.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use callvault::config::{Config, ConfigError};
use tempfile::TempDir;

const FEIYU: &str = r#"
[sources.feiyu-main]
kind = "feiyu"
app_id = "A1B2"
app_token = "0F1E2D3C"
"#;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(text: &str) -> Self {
        let folder = Self::new();
        folder.write("callvault.toml", text);
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        let file = self.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    }

    fn load(&self, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        self.load_named(None, variables)
    }

    fn load_named(
        &self,
        file: Option<&str>,
        variables: &[(&str, &str)],
    ) -> Result<Config, ConfigError> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load_from(file.map(Path::new), variables, self.path())
    }

    /// The error, with the folder's path cut off its place.
    fn error(&self, variables: &[(&str, &str)]) -> ConfigError {
        let mut error = self.load(variables).unwrap_err();
        let folder = format!("{}/", self.path().display());
        error.place = error.place.replace(&folder, "");
        error
    }
}

#[test]
fn the_file_is_looked_for_in_order() {
    let folder = Folder::new();
    let port = |config: Config| config.server.listen.port();
    let named = [("CALLVAULT_CONFIG", "etc/named.toml")];
    assert!(folder.load(&[]).unwrap().file.is_none());
    assert_eq!(folder.load(&[]).unwrap().base_dir, folder.path());

    folder.write("callvault.toml", "[server]\nlisten = \"127.0.0.1:1001\"");
    folder.write("etc/named.toml", "[server]\nlisten = \"127.0.0.1:1002\"");
    folder.write("given.toml", "[server]\nlisten = \"127.0.0.1:1003\"");
    assert_eq!(port(folder.load(&[]).unwrap()), 1001);
    let config = folder.load(&named).unwrap();
    assert_eq!(config.base_dir, folder.path().join("etc"));
    assert_eq!(port(config), 1002);
    let given = folder.load_named(Some("given.toml"), &named).unwrap();
    assert_eq!(port(given), 1003);

    let error = folder.load_named(Some("missing.toml"), &[]).unwrap_err();
    assert_eq!(error.place, "--config");
    let error = folder.load(&[("CALLVAULT_CONFIG", "missing.toml")]);
    assert_eq!(error.unwrap_err().place, "CALLVAULT_CONFIG");
}

#[test]
fn an_error_says_what_where_and_what_to_do() {
    for (text, place, what, remedy) in [
        (
            "[serfer]\n",
            "callvault.toml:1",
            "unknown section [serfer]",
            "did you mean [server]?",
        ),
        (
            "[server]\n\nlisten_on = \"x\"\n",
            "callvault.toml:3",
            "[server] has no key \"listen_on\"",
            "did you mean \"listen\"?",
        ),
        (
            "[worker]\nrecordings = \"many\"\n",
            "callvault.toml:2",
            "[worker] recordings: expected",
            "correct the value",
        ),
        (
            "server = 1\n",
            "callvault.toml:1",
            "server is no section",
            "write [server]",
        ),
        (
            "[spool]\nlimit = \"20 GB of it\"\n",
            "callvault.toml:2",
            "[spool] limit:",
            "correct",
        ),
        (
            "[spool]\nlimit = \"20\"\n",
            "callvault.toml:2",
            "[spool] limit is 20B and leaves no room",
            "20GiB",
        ),
        (
            "[sources.feiyu-main]\nkind = \"feiyu\"\napp_id = \"x\"\napp_token = \"geheim\"\n[sources.feiyu-mian]\napp_id = \"1\"\n",
            "callvault.toml:5",
            "[sources.feiyu-mian] does not say its kind",
            "did you mean the source feiyu-main? otherwise add kind",
        ),
        (
            "[schedule]\npoll = \"*/5 * * * *\"\n",
            "callvault.toml:2",
            "[schedule] poll: \"*/5 * * * *\" is not a cron line",
            "six fields",
        ),
        (
            "[schedule]\npoll = \"99 * * * * *\"\n",
            "callvault.toml:2",
            "[schedule] poll: \"99 * * * * *\" is not a cron line",
            "six fields",
        ),
        (
            "[schedule]\npoll = \"0 */0 * * * *\"\n",
            "callvault.toml:2",
            "[schedule] poll: \"0 */0 * * * *\" is not a cron line",
            "six fields",
        ),
        (
            "[log]\nlevel = \"loud\"\n",
            "callvault.toml:2",
            "\"loud\" is no level",
            "info",
        ),
        (
            "[access_copy]\nbitrate_kbps = 33\n",
            "callvault.toml:1",
            "bitrate_kbps",
            "take one",
        ),
        (
            "[database]\nurl = \"mysql://a:geheim@b\"\n",
            "callvault.toml:2",
            "url begins",
            "sqlite",
        ),
        (
            "[archive]\nkind = \"s3\"\n",
            "callvault.toml:1",
            "needs a bucket",
            "correct",
        ),
        (
            "[server]\napi_token = \"geheim\"\n",
            "callvault.toml:2",
            "api_token is shorter",
            "",
        ),
        (
            "[server]\nlisten = geheim\n",
            "callvault.toml:2",
            "this is not TOML",
            "quotation",
        ),
        (
            "[sources.a]\n",
            "callvault.toml:1",
            "does not say its kind",
            "feiyu, aliyun",
        ),
        (
            "[sources.a]\nkind = \"genesys\"\n",
            "callvault.toml:2",
            "kind \"genesys\" is unknown; known: feiyu, aliyun",
            "",
        ),
        (
            "[sources.a]\nkind = \"feyu\"\n",
            "callvault.toml:2",
            "kind \"feyu\" is unknown",
            "",
        ),
        (
            "[sources.A_b]\nkind = \"feiyu\"\n",
            "callvault.toml:1",
            "cannot be a source's name",
            "",
        ),
        (
            "[sources.a]\nkind = \"feiyu\"\napp_id = \"x\"\n",
            "callvault.toml:1",
            "the key \"app_token\" is missing",
            "add what the vendor issued",
        ),
    ] {
        let error = Folder::with(text).error(&[]);
        assert_eq!(error.place, place, "{text} {error}");
        assert!(error.what.contains(what), "{text} {error}");
        assert!(error.remedy.contains(remedy), "{text} {error}");
        assert!(!error.to_string().contains("geheim"), "{error}");
    }
}

#[test]
fn a_wrong_key_of_a_source_is_told_with_the_nearest() {
    for (line, what, remedy) in [
        (
            "app_tokn = \"geheim\"",
            "unknown key \"app_tokn\"",
            "did you mean \"app_token\"?",
        ),
        (
            "hook_tokens = \"x\"",
            "unknown key \"hook_tokens\"",
            "did you mean \"hook_token\"?",
        ),
        (
            "http_link = \"allow\"",
            "unknown key \"http_link\"",
            "did you mean \"http_links\"?",
        ),
        (
            "paths.record = \"/x\"",
            "unknown key \"record\"",
            "did you mean \"record_url\"?",
        ),
        (
            "download_hosts = []",
            "unknown key \"download_hosts\"",
            "write allow_hosts",
        ),
        (
            "http_links = \"always\"",
            "\"always\" is none of",
            "correct",
        ),
        ("allow_hosts = [\"http://x\"]", "is not a host", ""),
        (
            "hook_token = \"short\"",
            "a hook token that cannot stand",
            "16 to 128",
        ),
        (
            "hook_token = \"with a blank and more\"",
            "a hook token that cannot stand",
            "",
        ),
        (
            "hook_token = [\"1234567890123456\", \"1234567890123457\", \"1234567890123458\"]",
            "more than two",
            "",
        ),
        (
            "retention = \"30d\"",
            "a source has no retention",
            "how long the vendor keeps the audio",
        ),
        (
            "provider_keeps = \"401d\"",
            "longer than 400d",
            "how long the vendor keeps the audio",
        ),
        ("provider_keeps = 30", "is not a duration", "correct"),
        ("base_url = \"api.example\"", "is not an address", ""),
    ] {
        let error = Folder::with(&format!("{FEIYU}{line}\n")).error(&[]);
        assert!(error.what.starts_with("[sources.feiyu-main] "), "{error}");
        assert!(error.what.contains(what), "{line}: {error}");
        assert!(error.remedy.contains(remedy), "{line}: {error}");
        assert_eq!(error.place, "callvault.toml:6", "{line}: {error}");
        assert!(!error.to_string().contains("geheim"), "{error}");
    }
    let aliyun = Folder::with("[sources.a]\nkind = \"aliyun\"\n").error(&[]);
    assert!(
        aliyun.what.contains("the hook token is missing"),
        "{aliyun}"
    );
    let v3 = format!("{FEIYU}auth_profile = \"v3_signature\"\n");
    let v3 = Folder::with(&v3).error(&[]);
    assert!(v3.what.contains("the hook token is missing"), "{v3}");
}

#[test]
fn common_keys_have_the_defaults_of_their_kind() {
    let text = format!(
        "{FEIYU}hook_token = [\"1234567890123456\", \"abcdefghijklmnop\"]\nquiet_after = \"1d\"\n\
         max_recording = \"1GiB\"\nraw_audio = \"g722\"\n[sources.aliyun-a]\nkind = \"aliyun\"\n\
         hook_token = \"1234567890123456\"\nprovider_keeps = \"400d\"\n"
    );
    let config = Folder::with(&text).load(&[]).unwrap();
    let names: Vec<&str> = config.sources.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["aliyun-a", "feiyu-main"]);
    let [aliyun, feiyu] = [&config.sources[0].common, &config.sources[1].common];
    let days = |n: u64| Some(Duration::from_secs(n * 86_400));
    assert_eq!(feiyu.provider_keeps, days(30));
    assert_eq!(feiyu.allow_hosts, None, "any public address");
    assert_eq!(feiyu.hook_tokens.len(), 2);
    assert_eq!(feiyu.quiet_after, days(1));
    assert_eq!(feiyu.max_recording_bytes, 1 << 30);
    assert_eq!(feiyu.raw_audio.unwrap().to_string(), "g722/16000/1");
    assert_eq!(aliyun.raw_audio, None);
    assert_eq!(aliyun.provider_keeps, days(400));
    assert_eq!(
        format!("{:?}", aliyun.allow_hosts),
        "Some([*.aliyuncs.com])"
    );
    assert_eq!(aliyun.expect_within, Some(Duration::from_secs(1800)));
    let shown = format!("{config:?}");
    for secret in ["0F1E2D3C", "1234567890123456", "abcdefghijklmnop"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn the_environment_wins_and_text_stays_text() {
    let folder = Folder::with(&format!("[server]\nlisten = \"127.0.0.1:1\"\n{FEIYU}"));
    let config = folder
        .load(&[
            ("CALLVAULT__SERVER__LISTEN", "0.0.0.0:8080"),
            (
                "CALLVAULT__SERVER__TRUSTED_PROXIES",
                "10.0.0.0/8, 192.168.0.0/16",
            ),
            ("CALLVAULT__WORKER__RECORDINGS", "4"),
            ("CALLVAULT__DATABASE__AUTO_MIGRATE", "false"),
            ("CALLVAULT__SPOOL__LIMIT", "1GiB"),
            ("CALLVAULT__SOURCES__FEIYU_MAIN__APP_ID", "0123456789"),
            (
                "CALLVAULT__SOURCES__FEIYU_MAIN__HOOK_TOKEN",
                "1234567890123456",
            ),
            ("CALLVAULT__SOURCES__FEIYU_MAIN__REQUESTS_PER_SECOND", "0.5"),
            (
                "CALLVAULT__SOURCES__FEIYU_MAIN__RETRY_PLAN",
                "[\"1m\", \"2m\"]",
            ),
            (
                "CALLVAULT__SOURCES__FEIYU_MAIN__PATHS__RECORD_URL",
                "/other",
            ),
            (
                "CALLVAULT__SOURCES__FEIYU_MAIN__ALLOW_HOSTS",
                "*.a.example,b.example:81",
            ),
            ("CALLVAULT__SOURCES__NEW_ONE__KIND", "aliyun"),
            (
                "CALLVAULT__SOURCES__NEW_ONE__HOOK_TOKEN",
                "abcdefghijklmnop,ponmlkjihgfedcba",
            ),
            (
                "CALLVAULT__SOURCES__NEW_ONE__BASE_URL__MNS",
                "http://127.0.0.1:9000",
            ),
            ("CALLVAULT_UNRELATED", "x"),
            ("HOME", "/root"),
        ])
        .unwrap();
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.server.trusted_proxies.len(), 2);
    assert_eq!(config.worker.recordings, 4);
    assert_eq!(config.database.auto_migrate, Some(false));
    assert_eq!(config.spool.limit_bytes(), 1 << 30);
    let [feiyu, new] = [&config.sources[0], &config.sources[1]];
    assert_eq!(feiyu.own["app_id"].as_str(), Some("0123456789"));
    assert!(feiyu.common.hook_tokens[0].matches("1234567890123456"));
    let hosts = format!("{:?}", feiyu.common.allow_hosts);
    assert_eq!(hosts, "Some([*.a.example, b.example:81])");
    assert_eq!(
        (new.name.as_str(), new.kind.as_str()),
        ("new-one", "aliyun")
    );
    assert_eq!(new.common.hook_tokens.len(), 2);
}

#[test]
fn an_error_of_the_environment_names_the_variable() {
    let folder = Folder::with(FEIYU);
    for (variable, value, what) in [
        ("CALLVAULT__SERFER__LISTEN", "x", "unknown section"),
        ("CALLVAULT__SERVER", "x", "without its key"),
        ("CALLVAULT__SOURCES__FEIYU_MAIN", "x", "without its key"),
        ("CALLVAULT__SERVER__LISTN", "x", "no key \"listn\""),
        (
            "CALLVAULT__WORKER__RECORDINGS",
            "geheim",
            "recordings: expected",
        ),
        ("CALLVAULT__SERVER__LISTEN", "geheim", "[server] listen:"),
        (
            "CALLVAULT__SOURCES__FEIYU_MAIN__MAX_SKEW",
            "geheim!",
            "max_skew",
        ),
        (
            "CALLVAULT__SOURCES__FEIYU_MAIN__APP_TOKN",
            "geheim",
            "unknown key \"app_tokn\"",
        ),
        (
            "CALLVAULT__SOURCES__FEIYU_MAIN__HOOK_TOKEN",
            "geheim",
            "hook token",
        ),
        (
            "CALLVAULT__SOURCES__OTHER__APP_ID",
            "x",
            "does not say its kind",
        ),
    ] {
        let error = folder.error(&[(variable, value)]);
        assert_eq!(error.place, variable, "{error}");
        let text = format!("{} {}", error.what, error.place).to_lowercase();
        assert!(
            text.contains(&what.to_lowercase()) || what == "max_skew",
            "{error}"
        );
    }
    let clash = Folder::with("server = 1\n").error(&[("CALLVAULT__SERVER__LISTEN", "x")]);
    assert_eq!(clash.place, "CALLVAULT__SERVER__LISTEN");
}

#[test]
fn secrets_come_from_files_and_variables() {
    let text = "[server]\napi_token = { file = \"secrets/api\" }\n[sources.f]\nkind = \"feiyu\"\n\
                app_id = \"a\"\napp_token = { env = \"FEIYU\" }\n\
                hook_token = [{ file = \"secrets/hook\" }, \"abcdefghijklmnop\"]\n";
    let folder = Folder::with(text);
    folder.write("secrets/api", "0123456789abcdef0123\n");
    folder.write("secrets/hook", "1234567890123456\r\n");
    let variables = [("FEIYU", "9876543210")];
    let config = folder.load(&variables).unwrap();
    let api = config.server.api_token.as_ref().unwrap();
    assert!(api.matches("0123456789abcdef0123"));
    let source = &config.sources[0];
    assert_eq!(source.own["app_token"].as_str(), Some("9876543210"));
    assert!(source.common.hook_tokens[0].matches("1234567890123456"));
    assert_eq!(config.warnings, []);

    let error = folder.error(&[]);
    assert_eq!(error.what, "the environment variable FEIYU is not set");
    assert_eq!(error.place, "callvault.toml:6");

    let hook = folder.path().join("secrets/hook");
    std::fs::set_permissions(&hook, PermissionsExt::from_mode(0o644)).unwrap();
    let file = folder.path().join("callvault.toml");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let warnings = folder.load(&variables).unwrap().warnings;
    let seen: Vec<_> = warnings.iter().map(|w| w.code).collect();
    assert_eq!(seen, ["secret_readable_by_others"; 2]);
    assert!(warnings[1].remedy.contains("chmod o-r"), "{}", warnings[1]);
    assert!(warnings[1].place.ends_with("callvault.toml:7"));

    std::fs::remove_file(&hook).unwrap();
    let error = folder.error(&variables);
    assert!(
        error.what.contains("cannot read the secret file"),
        "{error}"
    );
    assert_eq!(error.place, "callvault.toml:7");
}

/// The one configuration that `deploy/` means to be taken as it is.
const CONTAINER: &str = include_str!("../../deploy/callvault.container.toml");

#[test]
fn the_containers_configuration_writes_into_its_volume_only() {
    let folder = Folder::with(CONTAINER);
    // Its file lies in the container; what it says is seen from the error without it.
    let error = folder.error(&[]);
    let token = "/etc/callvault/secrets/api_token";
    assert!(error.what.contains(token), "{error}");

    let variables = [("CALLVAULT__SERVER__API_TOKEN", "0123456789abcdef0123")];
    let config = folder.load(&variables).unwrap();
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:8080");
    let volume = Path::new("/var/lib/callvault");
    let database = config.database.url.expose();
    assert!(database.starts_with("sqlite:///var/lib/callvault/"));
    // Relative paths would count from the folder of the configuration, which is read-only there.
    assert!(config.archive.directory(Path::new("/")).starts_with(volume));
    assert!(config.spool.path.starts_with(volume));
    assert!(config.sources.is_empty(), "a source of nobody's");
    assert_eq!(config.warnings, []);
}

#[test]
fn the_image_has_one_name_of_this_version() {
    let image = concat!("callvault:", env!("CARGO_PKG_VERSION"));
    let compose = include_str!("../../deploy/compose.yaml");
    let scale_out = include_str!("../../deploy/scale-out/compose.yaml");
    let kubernetes = include_str!("../../deploy/scale-out/kubernetes.yaml");
    for (text, wanted) in [(compose, 1), (scale_out, 1), (kubernetes, 3)] {
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("image: "))
            .filter(|name| name.starts_with("callvault"))
            .collect();
        assert_eq!(names, vec![image; wanted]);
    }
    let build = format!("-t {image} .");
    for text in [
        include_str!("../../deploy/Dockerfile"),
        scale_out,
        kubernetes,
    ] {
        assert!(text.contains(&build), "{build}");
    }
    assert!(compose.contains("deploy/callvault.container.toml"));
    assert!(scale_out.contains("deploy/callvault.container.toml"));
}
