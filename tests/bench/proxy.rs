//! Starts the two proxies under measurement, each with two workers, on a loopback port that the system chose.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// Hands the socket, given as standard input, on as descriptor 3, the way systemd does.
const HAND_OVER: &str = r#"exec 3<&0 </dev/null; LISTEN_PID=$$; export LISTEN_PID; exec "$0" "$@""#;

/// A running proxy with its temporary folder; stopped and removed when dropped.
pub struct Proxy {
    name: &'static str,
    pub address: SocketAddr,
    child: Child,
    _folder: TempDir,
    _reserved: Option<TcpSocket>,
}

impl Proxy {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `error` with the name of the proxy that it is about.
    pub fn blame(&self, error: io::Error) -> io::Error {
        io::Error::other(format!("{}: {error}", self.name))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // SIGTERM first: a killed nginx master would leave its workers behind.
        let pid = self.pid().to_string();
        let stop = r#"kill -TERM "$0""#;
        Command::new("sh").args(["-c", stop, &pid]).status().ok();
        let limit = Instant::now() + Duration::from_secs(5);
        while Instant::now() < limit {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// nginx as a plain reverse proxy to `upstream`, found in `PATH`.
///
/// Each worker has a socket of its own (`reuseport`). On one shared socket, inherited or not, now one worker takes
/// all connections and now both do, which moves the processor time of a request by a tenth and the rate by a third.
pub fn nginx(upstream: SocketAddr) -> io::Result<Proxy> {
    // Bound but not listening: it gets no connection, and keeps others away from the port.
    let reserved = TcpSocket::new_v4()?;
    reserved.set_reuseport(true)?;
    reserved.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = reserved.local_addr()?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("nginx.conf");
    fs::write(&config, nginx_config(folder.path(), address, upstream))?;
    let mut command = command("nginx");
    command.arg("-c").arg(&config);
    command.arg("-e").arg(folder.path().join("error.log"));
    command.stdin(Stdio::null());
    let child = command.spawn()?;
    Ok(Proxy { name: "nginx", address, child, _folder: folder, _reserved: Some(reserved) })
}

/// The gateway `binary` with one deployment at `upstream`, which books nothing; `extra` is appended to its configuration.
///
/// It inherits its socket, so a request can wait there from before the process exists.
pub fn gateway(binary: &Path, upstream: SocketAddr, extra: &str) -> io::Result<Proxy> {
    start_gateway(binary, upstream, "ledger.disabled = true", "", extra)
}

/// The same with a price, and with a row for each call in this database; none is SQLite.
pub fn accounting(binary: &Path, upstream: SocketAddr, database: Option<&str>, extra: &str) -> io::Result<Proxy> {
    let database = database.map_or_else(String::new, |url| format!("database_url = \"{url}\""));
    let price = ", info = { input_cost_per_token = 0.000001, output_cost_per_token = 0.00001 }";
    start_gateway(binary, upstream, &database, price, extra)
}

fn start_gateway(binary: &Path, upstream: SocketAddr, lines: &str, price: &str, extra: &str) -> io::Result<Proxy> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("gateway.toml");
    fs::write(&config, gateway_config(folder.path(), upstream, lines, price, extra))?;
    let mut command = command("sh");
    command.args(["-c", HAND_OVER]).arg(binary);
    command.args(["serve", "--config"]).arg(&config);
    command.args(["--host", "127.0.0.1", "--port"]);
    command.arg(address.port().to_string());
    command.env("LISTEN_FDS", "1");
    command.stdin(Stdio::from(OwnedFd::from(listener)));
    let child = command.spawn()?;
    Ok(Proxy { name: "the gateway", address, child, _folder: folder, _reserved: None })
}

/// A command without the caller's environment: no proxy variable, key or log setting may reach what is measured.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdout(Stdio::null());
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command
}

fn gateway_config(folder: &Path, upstream: SocketAddr, lines: &str, price: &str, extra: &str) -> String {
    // Dotted and inline: with no table open at its end, an appended text may begin with top-level keys.
    let state = folder.join("state");
    // A key of the load that the appended text declares cannot be the master key as well.
    let master = if extra.contains("[keys.bench]") { "sk-bench-admin" } else { "sk-bench" };
    format!(
        r#"master_key = "{master}"
state_dir = "{state}"
log.level = "off"
server.workers = 2
{lines}
models = [{{ name = "bench", model = "openai_like/bench-up", api_base = "http://{upstream}/v1", api_key = "up"{price} }}]
{extra}
"#,
        state = state.display()
    )
}

/// Neither side may touch the disk or close a connection: large client buffers, no limit of requests.
fn nginx_config(folder: &Path, address: SocketAddr, upstream: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        r#"daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_max_body_size 32m;
    client_body_buffer_size 256k;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream mock {{
        server {upstream};
        keepalive 64;
        keepalive_timeout 1h;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address} reuseport;
        location / {{
            proxy_pass http://mock;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"#
    )
}
