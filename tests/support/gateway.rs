//! The real program: started on an inherited socket, watched through its notifications and its log, stopped by a drop.

use super::client::{Answer, Client};
use super::feed::Feed;
use super::setup::Setup;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::thread;
use tempfile::TempDir;

/// The master key of every test gateway; in its env file as `MASTER_KEY`.
pub const MASTER_KEY: &str = "sk-master-5Rk0vQm2LpX8";

/// What a gateway says to its service manager.
#[derive(Clone, Debug)]
pub enum Notice {
    Message(String),
    /// The process has ended.
    Ended,
}

/// A running gateway.
pub struct Gateway {
    child: Child,
    address: Option<SocketAddr>,
    socket: Option<PathBuf>,
    config: PathBuf,
    notify: PathBuf,
    notices: Arc<Feed<Notice>>,
    log: Arc<Feed<String>>,
    output: Arc<Feed<String>>,
    dir: TempDir,
}

impl Gateway {
    /// Starts a gateway with this `gateway.toml` on a TCP socket, and waits until it is ready.
    pub fn start(toml: &str) -> Self {
        Setup::toml(toml).start()
    }

    /// Takes over a process that [`Setup`] has started, and waits until it is ready.
    pub(super) fn watch(
        mut child: Child,
        address: Option<SocketAddr>,
        socket: Option<PathBuf>,
        config: PathBuf,
        notify: UnixDatagram,
        dir: TempDir,
    ) -> Self {
        let (notices, log, output) = (Arc::new(Feed::new()), Arc::new(Feed::new()), Arc::new(Feed::new()));
        let path = notify.local_addr().unwrap().as_pathname().unwrap().to_owned();
        listen(notify, notices.clone());
        let ended = notices.clone();
        follow(child.stderr.take().unwrap(), log.clone(), move || ended.push(Notice::Ended));
        if let Some(stdout) = child.stdout.take() {
            follow(stdout, output.clone(), || {});
        }
        let gateway = Gateway { child, address, socket, config, notify: path, notices, log, output, dir };
        gateway.wait_notice("READY=1", 1);
        gateway
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The inherited TCP address.
    pub fn address(&self) -> SocketAddr {
        self.address.expect("this gateway has no TCP socket")
    }

    /// The unix socket it listens on.
    pub fn socket(&self) -> &Path {
        self.socket.as_deref().expect("this gateway has no unix socket")
    }

    /// Its private directory, which is the state directory too.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A new connection.
    pub fn client(&self) -> Client {
        match self.address {
            Some(address) => Client::tcp(address),
            None => Client::unix(self.socket()),
        }
    }

    /// One request on a connection of its own, with exactly these headers.
    pub fn call(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut client = self.client();
        client.request(method, target, headers, body);
        client.answer()
    }

    /// A GET with the master key.
    pub fn get(&self, target: &str) -> Answer {
        let (name, value) = authorization();
        self.call("GET", target, &[(name, &value)], b"")
    }

    /// A JSON POST with the master key.
    pub fn post(&self, target: &str, body: impl AsRef<[u8]>) -> Answer {
        let mut client = self.client();
        client.post(target, body);
        client.answer()
    }

    /// A chat request, answered whole.
    pub fn chat(&self, body: impl AsRef<[u8]>) -> Answer {
        self.post("/v1/chat/completions", body)
    }

    /// A chat request whose answer is read piece by piece.
    pub fn open_chat(&self, body: impl AsRef<[u8]>) -> Client {
        let mut client = self.client();
        client.post("/v1/chat/completions", body);
        client
    }

    /// Replaces the configuration file, at once, as an editor or a deployment would.
    pub fn rewrite(&self, config: &str) {
        let new = self.config.with_extension("new");
        std::fs::write(&new, config).unwrap();
        std::fs::rename(&new, &self.config).unwrap();
    }

    /// Replaces the env file, at once.
    pub fn rewrite_secrets(&self, secrets: &[(&str, &str)]) {
        let text: String = secrets.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let new = self.dir().join("env.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, self.dir().join("env")).unwrap();
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let status = std::process::Command::new("/bin/sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid]).status();
        assert!(status.unwrap().success(), "cannot signal the gateway; its log:\n{}", self.logs());
    }

    /// Waits for that many notifications that hold a line starting with `line`; returns them whole.
    ///
    /// Panics with the log if the process ends before.
    pub fn wait_notice(&self, line: &str, count: usize) -> Vec<String> {
        let found = self.notices.wait_many(line, count, |notice| match notice {
            Notice::Message(text) => text.lines().any(|l| l.starts_with(line)).then(|| Some(text.clone())),
            Notice::Ended => Some(None),
        });
        let found: Vec<String> = found.into_iter().take(count).flatten().collect();
        assert_eq!(found.len(), count, "the gateway ended before {line}; its log:\n{}", self.logs());
        found
    }

    /// All notifications so far.
    pub fn notices(&self) -> Vec<String> {
        let texts = self.notices.all().into_iter().filter_map(|notice| match notice {
            Notice::Message(text) => Some(text),
            Notice::Ended => None,
        });
        texts.collect()
    }

    /// Waits for the end of the process.
    pub fn wait_exit(&mut self) -> ExitStatus {
        self.notices.wait("the end of the process", |notice| matches!(notice, Notice::Ended).then_some(()));
        self.child.wait().unwrap()
    }

    /// Everything on standard error so far.
    pub fn logs(&self) -> String {
        self.log.all().join("\n")
    }

    /// Waits for a line on standard error.
    pub fn wait_log(&self, what: &str, mut fits: impl FnMut(&str) -> bool) -> String {
        self.log.wait(what, |line| fits(line).then(|| line.clone()))
    }

    /// Waits for a line on standard output.
    pub fn wait_output(&self, what: &str, mut fits: impl FnMut(&str) -> bool) -> String {
        self.output.wait(what, |line| fits(line).then(|| line.clone()))
    }

    /// Everything on standard output so far.
    pub fn output(&self) -> String {
        self.output.all().join("\n")
    }

    /// Waits for that many log lines about calls, and returns their fields.
    pub fn wait_calls(&self, count: usize) -> Vec<Value> {
        self.log.wait_many("log lines about calls", count, |line| {
            let fields = serde_json::from_str::<Value>(line).ok()?.get("fields")?.clone();
            fields.get("outcome").is_some().then_some(fields)
        })
    }

    /// The log line of the only call there was.
    pub fn only_call(&self) -> Value {
        let mut all = self.wait_calls(1);
        assert_eq!(all.len(), 1, "{all:#?}");
        all.swap_remove(0)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended by itself, which is fine here.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Ok(socket) = UnixDatagram::unbound() {
            let _ = socket.send_to(LAST, &self.notify);
        }
        if thread::panicking() {
            eprintln!("--- the gateway's log ---\n{}\n--- end ---", self.logs());
            return;
        }
        // The log is complete when its reader has seen the end. No test may leave a panic in it.
        self.notices.wait("the end of the log", |notice| matches!(notice, Notice::Ended).then_some(()));
        assert!(!self.logs().contains("panicked at"), "the gateway panicked:\n{}", self.logs());
    }
}

impl Client {
    /// Sends a JSON POST with the master key.
    pub fn post(&mut self, target: &str, body: impl AsRef<[u8]>) {
        let (name, value) = authorization();
        self.request("POST", target, &[(name, &value), ("Content-Type", "application/json")], body.as_ref());
    }
}

/// The header that shows the master key.
pub fn authorization() -> (&'static str, String) {
    ("Authorization", format!("Bearer {MASTER_KEY}"))
}

/// Ends the thread that listens for notifications.
const LAST: &[u8] = b"the harness is done";

fn listen(socket: UnixDatagram, notices: Arc<Feed<Notice>>) {
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(count) = socket.recv(&mut buffer) {
            if &buffer[..count] == LAST {
                break;
            }
            notices.push(Notice::Message(String::from_utf8_lossy(&buffer[..count]).into_owned()));
        }
    });
}

fn follow(from: impl Read + Send + 'static, lines: Arc<Feed<String>>, at_end: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
            line.clear();
        }
        at_end();
    });
}
