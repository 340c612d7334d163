//! How a gateway is started: its files, environment, arguments and sockets.

use super::gateway::{Gateway, MASTER_KEY};
use super::upstream::{UPSTREAM_KEY, Upstream};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_gateway");

/// Sockets reach the program as its file descriptors 3 and 4. The shell moves them there and fills in its own process
/// id, which the program then inherits by `exec`: no code has to run between fork and exec in this process.
const EXEC: &str = r#"
case "$LISTEN_FDS" in
1) exec 3<&0 0</dev/null ;;
2) exec 3<&0 4<&1 0</dev/null 1>/dev/null ;;
esac
export LISTEN_PID=${LISTEN_PID:-$$} WATCHDOG_PID=$$
exec "$0" "$@"
"#;

/// A `gateway.toml` with these lines in `[server]` and these models, the master key and a JSON log.
pub fn config(server: &str, models: &[String]) -> String {
    format!("master_key = \"env:MASTER_KEY\"\n[server]\n{server}\n[log]\nformat = \"json\"\n{}", models.concat())
}

/// A `[[models]]` entry for an OpenAI upstream, which knows the model as `{name}-up`; more lines may be added to it.
pub fn model(name: &str, upstream: &Upstream) -> String {
    deployment(name, &format!("openai/{name}-up"), upstream.base())
}

/// A `[[models]]` entry; more lines may be added to it.
pub fn deployment(name: &str, upstream_model: &str, base: &str) -> String {
    format!(
        "[[models]]\nname = \"{name}\"\nmodel = \"{upstream_model}\"\napi_base = \"{base}\"\napi_key = \"env:UPSTREAM_KEY\"\n"
    )
}

/// The sockets that are passed on.
#[derive(PartialEq)]
enum Sockets {
    Tcp,
    Unix,
    /// A TCP socket named `public` and a unix socket named `local`.
    Both,
    None,
}

pub struct Setup {
    dir: TempDir,
    config: Option<PathBuf>,
    command: Vec<String>,
    secrets: Vec<(String, String)>,
    variables: Vec<(String, String)>,
    sockets: Sockets,
    kept: Option<TcpListener>,
    state: Option<PathBuf>,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Setup {
    /// `gateway serve` with this `gateway.toml`.
    pub fn toml(config: &str) -> Self {
        Setup::with_config("gateway.toml", config)
    }

    /// `gateway serve` with this LiteLLM `config.yaml`.
    pub fn yaml(config: &str) -> Self {
        Setup::with_config("config.yaml", config)
    }

    fn with_config(name: &str, text: &str) -> Self {
        let setup = Setup::command(&["serve"]);
        let path = setup.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Setup { config: Some(path), sockets: Sockets::Tcp, ..setup }
    }

    /// Any command, with neither configuration nor sockets; the state directory is private all the same.
    pub fn command(words: &[&str]) -> Self {
        let secrets = [("MASTER_KEY", MASTER_KEY), ("UPSTREAM_KEY", UPSTREAM_KEY)];
        Setup {
            dir: tempfile::tempdir().unwrap(),
            config: None,
            command: words.iter().map(|&w| w.to_owned()).collect(),
            secrets: secrets.map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
            variables: Vec::new(),
            sockets: Sockets::None,
            kept: None,
            state: None,
        }
    }

    /// A state directory that outlives this gateway.
    pub fn state(mut self, directory: &Path) -> Self {
        self.state = Some(directory.to_owned());
        self
    }

    /// One more line in the env file.
    pub fn secret(mut self, name: &str, value: &str) -> Self {
        self.secrets.push((name.to_owned(), value.to_owned()));
        self
    }

    /// One more variable of the process environment, which holds nothing else but what is needed.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// One more argument.
    pub fn arg(mut self, word: &str) -> Self {
        self.command.push(word.to_owned());
        self
    }

    /// A unix socket in place of the TCP one.
    pub fn on_unix(mut self) -> Self {
        self.sockets = Sockets::Unix;
        self
    }

    /// A TCP and a unix socket, by name.
    pub fn on_both(mut self) -> Self {
        self.sockets = Sockets::Both;
        self
    }

    /// No inherited socket: the program binds what its configuration says.
    pub fn unbound(mut self) -> Self {
        self.sockets = Sockets::None;
        self
    }

    /// Passes on a socket that the test keeps open too, as a service manager does.
    pub fn on(mut self, listener: &TcpListener) -> Self {
        self.kept = Some(listener.try_clone().unwrap());
        self
    }

    /// Pings are expected twice in this time.
    pub fn watchdog(self, limit: Duration) -> Self {
        self.variable("WATCHDOG_USEC", &limit.as_micros().to_string())
    }

    /// The private directory: configuration, env file, state, sockets.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the program and waits until it is ready.
    pub fn start(self) -> Gateway {
        let notify = UnixDatagram::bind(self.dir.path().join("notify.sock")).unwrap();
        let (mut command, address, socket) = self.prepare();
        command.env("NOTIFY_SOCKET", self.dir.path().join("notify.sock"));
        let child = command.spawn().unwrap();
        // The command holds the listening sockets, which only the gateway is to have.
        drop(command);
        let config = self.config.unwrap_or_default();
        Gateway::watch(child, address, socket, config, notify, self.dir)
    }

    /// Runs the program to its end, which must come soon.
    pub fn run(self) -> Ended {
        let (command, ..) = self.prepare();
        finish(command)
    }

    fn prepare(&self) -> (Command, Option<SocketAddr>, Option<PathBuf>) {
        let dir = self.dir.path();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", EXEC, PROGRAM]).args(&self.command);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", dir).current_dir(dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(config) = &self.config {
            let secrets: String = self.secrets.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
            std::fs::write(dir.join("env"), secrets).unwrap();
            command
                .arg("--config")
                .arg(config)
                .arg("--env-file")
                .arg(dir.join("env"))
                .arg("--state-dir")
                .arg(self.state.as_deref().unwrap_or(dir));
        }
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        let (mut address, mut socket) = (None, None);
        let mut listeners: Vec<OwnedFd> = Vec::new();
        if matches!(self.sockets, Sockets::Tcp | Sockets::Both) {
            let listener = self.kept.as_ref().map(|l| l.try_clone().unwrap());
            let listener = listener.unwrap_or_else(|| TcpListener::bind("127.0.0.1:0").unwrap());
            address = Some(listener.local_addr().unwrap());
            listeners.push(listener.into());
        }
        if matches!(self.sockets, Sockets::Unix | Sockets::Both) {
            let path = dir.join("listen.sock");
            listeners.push(UnixListener::bind(&path).unwrap().into());
            socket = Some(path);
        }
        if !listeners.is_empty() {
            command.env("LISTEN_FDS", listeners.len().to_string());
        }
        if self.sockets == Sockets::Both {
            command.env("LISTEN_FDNAMES", "public:local");
        }
        let mut listeners = listeners.into_iter();
        if let Some(first) = listeners.next() {
            command.stdin(first);
        }
        if let Some(second) = listeners.next() {
            command.stdout(second);
        }
        (command, address, socket)
    }
}

/// Runs `gateway` with these arguments to its end, in an empty environment.
pub fn run(arguments: &[&str]) -> Ended {
    Setup::command(arguments).run()
}

fn finish(mut command: Command) -> Ended {
    let child = command.spawn().unwrap();
    let pid = child.id().to_string();
    let (tell, ended) = mpsc::channel();
    thread::spawn(move || tell.send(child.wait_with_output()));
    let output: Output = match ended.recv_timeout(super::feed::PATIENCE) {
        Ok(output) => output.unwrap(),
        Err(_) => {
            let _ = Command::new("/bin/sh").args(["-c", "kill -9 \"$0\"", &pid]).status();
            let output = ended.recv().unwrap().unwrap();
            panic!("the program did not end by itself: {}", String::from_utf8_lossy(&output.stderr));
        }
    };
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
