//! systemd's side of the process: inherited sockets, notifications, the watchdog. Each is a no-op outside systemd.

pub mod units;

use sd_notify::NotifyState;
use socket2::{Domain, Socket, Type};
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where the units of a machine keep the configuration that they render, the secrets that they collect, and state.
pub const RENDERED: &str = "/run/gateway/gateway.toml";
pub const COLLECTED: &str = "/run/gateway-secrets/env";
pub const STATE: &str = "/var/lib/gateway";

/// A socket that accepts connections.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The sockets that systemd passed, with the names of their units (`FileDescriptorName=`).
///
/// # Errors
/// A text for the operator when a descriptor is no listening stream socket.
pub fn inherited() -> Result<Vec<(String, Listener)>, String> {
    let Ok(passed) = sd_notify::listen_fds_with_names() else { return Ok(Vec::new()) };
    passed
        .map(|(fd, name)| {
            #[expect(
                unsafe_code,
                reason = "the protocol of LISTEN_FDS hands this descriptor to this process, and it is taken once"
            )]
            let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(fd) });
            listener(socket)
                .map(|listener| (name.clone(), listener))
                .map_err(|e| format!("the inherited socket '{name}' (descriptor {fd}): {e}"))
        })
        .collect()
}

/// # Errors
/// A text that says what the socket is instead.
pub fn listener(socket: Socket) -> Result<Listener, String> {
    let kind = socket.r#type().map_err(|e| format!("it is no socket ({e})"))?;
    if kind != Type::STREAM || !socket.is_listener().unwrap_or(false) {
        return Err("it is no listening stream socket (ListenStream= with Accept=no)".to_owned());
    }
    socket.set_nonblocking(true).map_err(|e| e.to_string())?;
    let address = socket.local_addr().map_err(|e| e.to_string())?;
    if address.domain() == Domain::UNIX {
        Ok(Listener::Unix(OwnedFd::from(socket).into()))
    } else {
        Ok(Listener::Tcp(OwnedFd::from(socket).into()))
    }
}

impl Listener {
    /// Whether only this machine can connect.
    pub fn is_local(&self) -> bool {
        match self {
            Listener::Tcp(tcp) => tcp.local_addr().is_ok_and(|address| address.ip().is_loopback()),
            Listener::Unix(_) => true,
        }
    }

    /// The file of a unix socket.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Listener::Tcp(_) => None,
            Listener::Unix(unix) => unix.local_addr().ok()?.as_pathname().map(Path::to_owned),
        }
    }

    /// For the operator: `127.0.0.1:4000` or `unix:/run/gateway/gateway.sock`.
    pub fn address(&self) -> String {
        match self {
            Listener::Tcp(tcp) => tcp.local_addr().map_or_else(|_| "?".to_owned(), |a| a.to_string()),
            Listener::Unix(unix) => {
                let path = unix.local_addr().ok().and_then(|a| a.as_pathname().map(|p| p.display().to_string()));
                format!("unix:{}", path.as_deref().unwrap_or("?"))
            }
        }
    }
}

/// Sockets accept and the configuration is valid.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

pub fn status(status: &str) {
    notify(&[NotifyState::Status(status)]);
}

/// A reload begins; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// The end has begun; `status` says why, or what is waited for.
pub fn stopping(status: &str) {
    notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// How long the service manager waits between two [`alive`]s before it kills the process.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}

/// Has the manager restart a unit that runs, and does not wait for it.
///
/// # Errors
/// A text for the operator: why it cannot be asked.
pub fn restart(unit: &str) -> Result<(), String> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    let manager: &[&str] = if is_root { &[] } else { &["--user"] };
    let fail = |why: String| format!("{unit} is not restarted: {why}; do it by systemctl restart {unit}");
    let asked = Command::new("systemctl").args(manager).args(["--no-block", "try-restart", "--", unit]).output();
    let asked = asked.map_err(|e| fail(format!("systemctl: {e}")))?;
    if !asked.status.success() {
        return Err(fail(String::from_utf8_lossy(&asked.stderr).trim().to_owned()));
    }
    println!("{unit} is restarted for that");
    Ok(())
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::debug!("the service manager could not be notified: {e}");
    }
}
