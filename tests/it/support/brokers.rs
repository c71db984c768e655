//! Brokers of a test's own, to be killed: the real servers, on ports of their own, in a folder that goes with them.
//!
//! Where the server program is not installed a test is skipped with a line that says so, and fails when
//! `CALLVAULT_REQUIRE_SERVERS=1`.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::ways::skipped;

/// The server without the wrapper of its package, which insists on a user of its own.
const RABBITMQ: &str = "/usr/lib/rabbitmq/bin";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    RabbitMq,
    Nats,
}

pub struct Broker {
    dir: tempfile::TempDir,
    kind: Kind,
    pub port: u16,
    /// Between nodes; of RabbitMQ alone.
    inner_port: u16,
    /// More lines of its configuration.
    pub settings: String,
    /// What RabbitMQ takes in its other form alone, as an Erlang term.
    pub advanced: String,
    server: Option<Child>,
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Broker {
    /// A broker that is not started yet. `None`, said clearly, where its program is missing.
    pub fn find(kind: Kind, settings: &str) -> Option<Self> {
        let is_there = match kind {
            Kind::RabbitMq => Path::new(RABBITMQ).join("rabbitmq-server").exists(),
            Kind::Nats => Command::new("nats-server")
                .arg("--version")
                .stdout(Stdio::null())
                .status()
                .is_ok(),
        };
        if !is_there {
            skipped("server program", &format!("{kind:?} is not installed"));
            return None;
        }
        Some(Self {
            dir: tempfile::tempdir().unwrap(),
            kind,
            port: free_port(),
            inner_port: free_port(),
            settings: settings.to_owned(),
            advanced: "[].\n".to_owned(),
            server: None,
        })
    }

    /// One that answers.
    pub async fn start_new(kind: Kind, settings: &str) -> Option<Self> {
        let mut broker = Self::find(kind, settings)?;
        broker.start().await;
        Some(broker)
    }

    pub fn url(&self) -> String {
        match self.kind {
            Kind::RabbitMq => self.url_of("guest", "guest"),
            Kind::Nats => format!("nats://127.0.0.1:{}", self.port),
        }
    }

    pub fn url_of(&self, user: &str, password: &str) -> String {
        let at = format!("{user}:{password}@127.0.0.1:{}", self.port);
        match self.kind {
            Kind::RabbitMq => format!("amqp://{at}/%2f"),
            Kind::Nats => format!("nats://{at}"),
        }
    }

    fn command(&self, program: &str) -> Command {
        let dir = self.dir.path();
        let mut command = Command::new(Path::new(RABBITMQ).join(program));
        command
            .env("HOME", dir)
            .env("RABBITMQ_NODENAME", format!("t{}@localhost", self.port))
            .env("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", dir.join("advanced.config"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_DIST_PORT", self.inner_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", dir.join("data"))
            .env("RABBITMQ_LOG_BASE", dir.join("log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("plugins"))
            .env("RABBITMQ_PID_FILE", dir.join("pid"));
        command
    }

    /// Starts it, on what it left behind, and waits until it answers.
    pub async fn start(&mut self) {
        assert!(self.server.is_none());
        let dir = self.dir.path();
        let mut command = match self.kind {
            Kind::RabbitMq => {
                let own = format!("listeners.tcp.1 = 127.0.0.1:{}\n", self.port);
                std::fs::write(dir.join("rabbitmq.conf"), own + &self.settings).unwrap();
                std::fs::write(dir.join("advanced.config"), &self.advanced).unwrap();
                self.command("rabbitmq-server")
            }
            Kind::Nats => {
                std::fs::write(dir.join("nats.conf"), &self.settings).unwrap();
                let mut command = Command::new("nats-server");
                command
                    .args(["-a", "127.0.0.1", "-js", "-p", &self.port.to_string()])
                    .arg("-c")
                    .arg(dir.join("nats.conf"))
                    .arg("-sd")
                    .arg(dir.join("data"));
                command
            }
        };
        let log = std::fs::File::create(dir.join("out")).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0);
        self.server = Some(command.spawn().unwrap());
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            let ended = self.server.as_mut().unwrap().try_wait().unwrap();
            let said = || std::fs::read_to_string(self.dir.path().join("out")).unwrap();
            assert!(ended.is_none(), "{:?} ended: {}", self.kind, said());
            assert!(
                begun.elapsed() < Duration::from_secs(180),
                "{:?} does not answer: {}",
                self.kind,
                said()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// As a power cut does it: nothing is said to anybody.
    pub fn kill(&mut self) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        let group = rustix::process::Pid::from_child(&server);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = server.wait();
    }

    /// What RabbitMQ wrote into its own log.
    pub fn log(&self) -> String {
        let logs = std::fs::read_dir(self.dir.path().join("log"));
        let files = logs.into_iter().flatten().flatten();
        files
            .filter_map(|file| std::fs::read_to_string(file.path()).ok())
            .collect()
    }

    /// RabbitMQ's own tool; gives what it said.
    pub fn ctl(&self, args: &[&str]) -> String {
        let output = self.command("rabbitmqctl").args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}
