//! The control socket: `gateway reload` asks the running gateway, waits, and hears what was wrong.
//!
//! One line each way: `reload`, then one line of JSON. Only the gateway's own user and root may ask.

use crate::config::units::count;
use crate::gateway::Gateway;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// The file's name.
pub const SOCKET: &str = "control.sock";
/// A command is short.
const MAX_COMMAND: u64 = 256;
/// Gateways that end while they are asked, one after the other.
const ATTEMPTS: usize = 20;
/// A reload reads a few files.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the running gateway says.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Reply {
    pub ok: bool,
    /// What was done, or why not.
    pub message: String,
    #[serde(default)]
    pub warnings: Vec<String>,
    /// A restart would put in force what is not.
    #[serde(default)]
    pub wants_restart: bool,
}

/// Where the socket is: systemd's runtime directory, else the state directory.
pub fn path(state_dir: &Path) -> PathBuf {
    let directory = std::env::var_os("RUNTIME_DIRECTORY").map_or_else(|| state_dir.to_owned(), PathBuf::from);
    directory.join(SOCKET)
}

/// Whether a gateway listens there. One that must not be asked runs all the same.
pub fn is_running(path: &Path) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    std::os::unix::net::UnixStream::connect(path)
        .map_or_else(|e| !matches!(e.kind(), NotFound | ConnectionRefused), |_| true)
}

/// Binds the socket, in the place of one that a dead gateway left behind.
///
/// # Errors
/// A text that says why there is none.
pub fn bind(path: &Path) -> Result<UnixListener, String> {
    let fail = |e: std::io::Error| format!("{}: {e}", path.display());
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(format!("{}: another gateway listens there", path.display())),
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(fail)?,
        Err(_) => (),
    }
    let listener = UnixListener::bind(path).map_err(fail)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
    Ok(listener)
}

/// Answers one connection.
pub async fn serve(gateway: Arc<Gateway>, mut stream: UnixStream, owner: u32) {
    let allowed = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == owner);
    let exchange = async {
        let mut command = String::new();
        let (read, mut write) = stream.split();
        tokio::io::BufReader::new(read.take(MAX_COMMAND)).read_line(&mut command).await?;
        let reply = match command.trim() {
            _ if !allowed => {
                Reply { message: "only the gateway's own user and root may do this".to_owned(), ..Reply::default() }
            }
            "reload" => reload(&gateway).await,
            _ => Reply { message: "no such command".to_owned(), ..Reply::default() },
        };
        let mut line = serde_json::to_vec(&reply)?;
        line.push(b'\n');
        write.write_all(&line).await
    };
    if let Ok(Err(e)) = tokio::time::timeout(PATIENCE, exchange).await {
        tracing::debug!("control connection: {e}");
    }
}

/// Reloads, and tells the log and the service manager.
pub async fn reload(gateway: &Gateway) -> Reply {
    crate::systemd::reloading();
    let reply = take_up(gateway).await;
    crate::systemd::ready(&crate::serve::status(gateway));
    reply
}

/// Reloads, and tells the log alone: for a gateway that is not ready yet.
pub async fn take_up(gateway: &Gateway) -> Reply {
    match gateway.reload().await {
        Ok(done) => {
            for warning in &done.warnings {
                tracing::warn!("configuration: {warning}");
            }
            let mut message = format!("reloaded: {}", count(done.models, "model"));
            if !done.needs_restart.is_empty() {
                message.push_str(&format!("; a restart is needed for {}", done.needs_restart.join(", ")));
            }
            tracing::info!("{message}");
            let wants_restart = done.may_restart && !done.needs_restart.is_empty();
            Reply { ok: true, message, warnings: done.warnings, wants_restart }
        }
        Err(problems) => {
            tracing::error!("the new configuration is refused, the old one stays in force: {problems}");
            Reply {
                message: format!("the new configuration is refused, the old one stays in force:\n{problems}"),
                ..Reply::default()
            }
        }
    }
}

/// The user that a file belongs to.
pub fn owner(path: &Path) -> u32 {
    std::fs::metadata(path).map_or(0, |about| about.uid())
}

/// Asks the running gateway and waits for its answer.
///
/// # Errors
/// A text for the operator: nobody answers.
pub fn ask(path: &Path, command: &str) -> Result<Reply, String> {
    let line = exchange(path, command).map_err(|e| format!("no gateway answers at {}: {e}", path.display()))?;
    understood(path, &line)
}

fn understood(path: &Path, line: &str) -> Result<Reply, String> {
    serde_json::from_str(line).map_err(|e| format!("the gateway at {} gave no sensible answer: {e}", path.display()))
}

/// The same, where it is fine that no gateway runs: `None`. One that ends while it is asked does not run either, and
/// the next one reads its files anew.
///
/// # Errors
/// A text for the operator: nobody answers although somebody listens.
pub fn ask_if_running(path: &Path, command: &str) -> Result<Option<Reply>, String> {
    use std::io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound};
    for _ in 0..ATTEMPTS {
        match exchange(path, command) {
            Ok(line) if !line.is_empty() => return understood(path, &line).map(Some),
            Err(e) if matches!(e.kind(), ConnectionRefused | NotFound) => return Ok(None),
            Err(e) if !matches!(e.kind(), BrokenPipe | ConnectionReset) => {
                return Err(format!("no gateway answers at {}: {e}", path.display()));
            }
            // It ended with the question in its hand; the next one may be there already.
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    Err(format!("the gateway at {} takes questions and ends without an answer, again and again", path.display()))
}

fn exchange(path: &Path, command: &str) -> std::io::Result<String> {
    let mut stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "{command}")?;
    let mut line = String::new();
    BufReader::new(stream.take(16 << 20)).read_line(&mut line)?;
    Ok(line)
}
