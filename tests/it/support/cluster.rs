//! A PostgreSQL of the test's own, to be stopped and started again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::free_port;

/// Stopped and removed on drop.
pub struct Cluster {
    dir: tempfile::TempDir,
    bin: PathBuf,
    port: u16,
}

impl Cluster {
    /// `None`, said clearly, where PostgreSQL is not installed; with `CALLVAULT_REQUIRE_SERVERS=1` that is a failure.
    pub fn start() -> Option<Self> {
        let Some(bin) = programs() else {
            let required = std::env::var("CALLVAULT_REQUIRE_SERVERS").is_ok_and(|v| v == "1");
            assert!(!required, "no initdb in /usr/lib/postgresql");
            println!("SKIPPED: no initdb in /usr/lib/postgresql");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        // PostgreSQL refuses to run as root.
        if rustix::process::getuid().is_root() {
            let owned = Command::new("chown")
                .arg("postgres:")
                .arg(dir.path())
                .status();
            assert!(owned.unwrap().success());
        }
        let cluster = Self {
            dir,
            bin,
            port: free_port(),
        };
        let data = cluster.data();
        cluster.run(
            "initdb",
            &[
                "-D",
                &data,
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
            ],
        );
        cluster.again();
        Some(cluster)
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// As a power cut of the server would look: sessions end, nothing is finished.
    pub fn stop_at_once(&self) {
        self.run(
            "pg_ctl",
            &["-D", &self.data(), "-m", "immediate", "-w", "stop"],
        );
    }

    pub fn again(&self) {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={}",
            self.port,
            self.dir.path().display()
        );
        let log = format!("{}/log", self.data());
        self.run(
            "pg_ctl",
            &[
                "-D",
                &self.data(),
                "-w",
                "-l",
                &log,
                "-o",
                &options,
                "start",
            ],
        );
    }

    fn data(&self) -> String {
        self.dir.path().join("data").display().to_string()
    }

    fn run(&self, program: &str, args: &[&str]) {
        let program = self.bin.join(program);
        let mut command = if rustix::process::getuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args([
                "--reuid",
                "postgres",
                "--regid",
                "postgres",
                "--init-groups",
            ]);
            command.arg(&program);
            command
        } else {
            Command::new(&program)
        };
        // The server keeps what it inherits open.
        let done = command
            .args(args)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(done.success(), "{} {args:?}", program.display());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let stop = ["-D", &self.data(), "-m", "immediate", "stop"];
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            "postgres",
            "--regid",
            "postgres",
            "--init-groups",
        ]);
        command.arg(self.bin.join("pg_ctl")).args(stop);
        if !rustix::process::getuid().is_root() {
            command = Command::new(self.bin.join("pg_ctl"));
            command.args(stop);
        }
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// Of the newest version that is installed.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir(Path::new("/usr/lib/postgresql")).ok()?;
    let mut found: Vec<(u32, PathBuf)> = versions
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, entry.path().join("bin")))
        })
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin)
}
