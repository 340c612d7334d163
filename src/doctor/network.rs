//! What has to be reachable: the gateway itself, its upstreams, the database. Connections only, no call is made.

use super::{Finding, Probe, State};
use crate::config::Listen;
use crate::config::mcp::{Reach, Server};
use crate::control;
use crate::route::Deployment;
use crate::upstream::tls::TlsConfigs;
use percent_encoding::percent_decode_str;
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// For one connection, or one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A gateway that has to be started first takes a while longer.
const START: Duration = Duration::from_secs(15);
/// More of an answer is not needed.
const MAX_ANSWER: u64 = 16 << 10;

/// The addresses of the configuration, as texts.
pub fn configured(listen: &[Listen]) -> Vec<String> {
    listen
        .iter()
        .map(|address| match address {
            Listen::Tcp(text) => text.clone(),
            Listen::Unix(path) => format!("unix:{}", path.display()),
        })
        .collect()
}

/// Does a ready gateway answer there?
pub fn listener(address: String) -> Probe {
    let about = format!("gateway at {address}");
    Probe::new(about.clone(), move || {
        let answer = match address.strip_prefix("unix:") {
            Some(path) => UnixStream::connect(path).and_then(|stream| {
                stream.set_read_timeout(Some(START))?;
                readiness(stream)
            }),
            None => connect(&reachable(&address)).and_then(|stream| {
                stream.set_read_timeout(Some(START))?;
                readiness(stream)
            }),
        };
        judge_answer(about, answer)
    })
}

/// Where "everywhere" is reached from here.
fn reachable(address: &str) -> String {
    address.replacen("0.0.0.0:", "127.0.0.1:", 1).replacen("[::]:", "[::1]:", 1)
}

fn readiness(mut stream: impl Read + Write) -> std::io::Result<String> {
    stream.write_all(b"GET /health/readiness HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn judge_answer(about: String, answer: std::io::Result<String>) -> Finding {
    let ours = |answer: &str| answer.contains("\"litellm_version\"");
    match answer {
        Ok(answer) if answer.starts_with("HTTP/1.1 200") && ours(&answer) => Finding::good(about, "ready"),
        Ok(answer) if ours(&answer) && answer.contains("\"status\":\"unhealthy\"") => Finding::bad(
            about,
            "it serves without its database: known keys go on, and the record of calls waits in the spool",
            "journalctl -b -u gateway says why (`the store ... is down`); docs/troubleshooting.md has the cures",
        ),
        Ok(answer) if ours(&answer) => {
            Finding::bad(about, "it is stopping", "wait a moment, then `systemctl status gateway`")
        }
        Ok(answer) if answer.is_empty() => Finding::bad(
            about,
            "the connection was closed without an answer",
            "the gateway cannot be started: journalctl -b -n 30 -u gateway -u gateway-config -u gateway-secrets",
        ),
        Ok(_) => Finding::bad(about, "another program answers", "stop it, or choose another port for the gateway"),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            Finding::new(State::Skipped, about, "only its group may connect; run the doctor as root")
        }
        Err(e) if matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
            Finding::bad(about, format!("nobody listens ({e})"), "systemctl start gateway.socket, or `gateway serve`")
        }
        Err(e) => Finding::bad(about, format!("no answer ({e})"), "journalctl -b -n 30 -u gateway"),
    }
}

/// Can `gateway reload` reach the running gateway?
pub fn control(path: PathBuf) -> Probe {
    let about = "control socket";
    Probe::new(about, move || {
        if !control::is_running(&path) {
            return Finding::new(State::Note, about, format!("no gateway runs at {}", path.display()));
        }
        // Any answer will do; this is no order that it knows.
        match control::ask(&path, "doctor") {
            Ok(_) => Finding::good(about, format!("{} answers", path.display())),
            Err(e) if path.metadata().is_ok() && UnixStream::connect(&path).is_err() => {
                Finding::new(State::Skipped, about, format!("{e}; run the doctor as root or as the gateway's user"))
            }
            Err(e) => Finding::bad(about, e, "systemctl restart gateway"),
        }
    })
}

/// Where an upstream is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Unix(PathBuf),
    Tcp { host: String, port: u16, tls: bool, ca_file: Option<PathBuf> },
}

impl Place {
    fn of(deployment: &Deployment) -> Option<Place> {
        let transport = &deployment.transport;
        if let Some(path) = &transport.socket {
            return Some(Place::Unix(path.clone()));
        }
        let (host, port) = (deployment.calls.host()?, deployment.calls.port_u16());
        Some(Place::at(host, port, transport.tls, transport.ca_file.as_deref()))
    }

    fn at(host: &str, port: Option<u16>, tls: bool, ca_file: Option<&Path>) -> Place {
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).to_owned();
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        Place::Tcp { host, port, tls, ca_file: ca_file.map(Path::to_owned) }
    }
}

/// A connection to each place that some deployment calls.
pub fn upstreams(deployments: &[Arc<Deployment>], tls: &Arc<TlsConfigs>) -> Vec<Probe> {
    let mut places: BTreeMap<Place, Vec<&str>> = BTreeMap::new();
    for deployment in deployments {
        if let Some(place) = Place::of(deployment) {
            places.entry(place).or_default().push(&deployment.name);
        }
    }
    places
        .into_iter()
        .map(|(place, names)| {
            let about = format!("upstream of {}", shortened(&names));
            let tls = tls.clone();
            Probe::new(about.clone(), move || reach(about, &place, "api_base", &tls))
        })
        .collect()
}

/// A connection to each server of tools; of several places of one the first says where it is. No tool is called.
pub fn tools(servers: &[Arc<Server>], tls: &Arc<TlsConfigs>) -> Vec<Probe> {
    let probe = |server: &Arc<Server>| {
        let about = format!("tools of {}", server.name);
        let place = match &server.reach {
            Reach::Socket(path) => Place::Unix(path.clone()),
            Reach::Net { places, transport } => {
                let url = &places.first()?.url;
                Place::at(url.host()?, url.port_u16(), transport.tls, transport.ca_file.as_deref())
            }
            Reach::Program(program) => {
                let word = program.words.first()?.clone();
                return Some(Probe::new(about.clone(), move || program_of_tools(about, &word)));
            }
        };
        let tls = tls.clone();
        Some(Probe::new(about.clone(), move || reach(about, &place, "url", &tls)))
    };
    servers.iter().filter_map(probe).collect()
}

/// Whether there is such a file; a name alone is looked for by the system when it is started.
fn program_of_tools(about: String, word: &str) -> Finding {
    let is_there = std::fs::metadata(word).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    if is_there {
        Finding::good(about, format!("{word} can be started"))
    } else if word.starts_with('/') {
        Finding::bad(about, format!("{word} is no program"), "install it, or correct its `command`")
    } else {
        Finding::new(State::Skipped, about, format!("{word} is looked for in the PATH of its `env`"))
    }
}

/// A connection to the place that this setting names.
fn reach(about: String, place: &Place, setting: &str, tls: &TlsConfigs) -> Finding {
    match place {
        Place::Unix(path) => unix_upstream(about, path),
        Place::Tcp { host, port, tls: false, .. } => {
            tcp_upstream(about, host, *port, setting, connect_to(host, *port).map_err(|e| e.to_string()))
        }
        Place::Tcp { host, port, ca_file, .. } => {
            tcp_upstream(about, host, *port, setting, handshake(tls, host, *port, ca_file.as_deref()))
        }
    }
}

/// The first names, and how many more.
fn shortened(names: &[&str]) -> String {
    match names.split_at_checked(3) {
        Some((first, more)) if !more.is_empty() => format!("{} and {} more", first.join(", "), more.len()),
        _ => names.join(", "),
    }
}

fn unix_upstream(about: String, path: &Path) -> Finding {
    match UnixStream::connect(path) {
        Ok(_) => Finding::good(about, format!("unix:{} accepts connections", path.display())),
        Err(e) => Finding::bad(
            about,
            format!("unix:{}: {e}", path.display()),
            "start the server there, or give the gateway's user access to its socket",
        ),
    }
}

fn tcp_upstream<T>(about: String, host: &str, port: u16, setting: &str, result: Result<T, String>) -> Finding {
    match result {
        Ok(_) => Finding::good(about, format!("{host}:{port} accepts connections")),
        Err(e) => {
            let cure = if e.contains("certificate") {
                "trust its authority with ca_file, or install ca-certificates; a wrong clock does this too".to_owned()
            } else if e.contains("lookup") || e.contains("resolve") {
                format!("correct the name in {setting}, or look at the machine's name server: resolvectl query NAME")
            } else {
                format!("start that server, or correct {setting}; a firewall on the way would look like this too")
            };
            Finding::bad(about, format!("{host}:{port}: {e}"), cure)
        }
    }
}

fn connect(address: &str) -> std::io::Result<TcpStream> {
    first(address.to_socket_addrs()?)
}

fn connect_to(host: &str, port: u16) -> std::io::Result<TcpStream> {
    first((host, port).to_socket_addrs()?)
}

/// A name may lead to several addresses, of which one is enough.
fn first(addresses: impl Iterator<Item = std::net::SocketAddr>) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::new(ErrorKind::NotFound, "the name leads to no address");
    for address in addresses.take(4) {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn handshake(tls: &TlsConfigs, host: &str, port: u16, ca_file: Option<&Path>) -> Result<(), String> {
    let mut stream = connect_to(host, port).map_err(|e| e.to_string())?;
    let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
    let mut session = rustls::ClientConnection::new(tls.get(ca_file)?, name).map_err(|e| e.to_string())?;
    while session.is_handshaking() {
        session.complete_io(&mut stream).map_err(|e| format!("no TLS: {e}"))?;
    }
    Ok(())
}

/// Where a database listens; never who asks, or with which password.
#[derive(Debug, PartialEq, Eq)]
enum Database {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// Does the database accept connections?
pub fn database(url: &SecretString) -> Probe {
    let place = database_place(url.expose_secret());
    Probe::new("database", move || {
        let (shown, result) = match &place {
            Some(Database::Tcp(host, port)) => (format!("{host}:{port}"), connect_to(host, *port).map(drop)),
            Some(Database::Unix(path)) => (format!("unix:{}", path.display()), UnixStream::connect(path).map(drop)),
            None => {
                let cure =
                    "write it as postgres://USER:PASSWORD@HOST:5432/NAME, or postgres:///NAME?host=/run/postgresql";
                return Finding::bad("database", "its URL cannot be understood", cure);
            }
        };
        match result {
            Ok(()) => Finding::good("database", format!("{shown} accepts connections")),
            Err(e) => {
                Finding::bad("database", format!("{shown}: {e}"), "systemctl start postgresql, or correct database_url")
            }
        }
    })
}

/// libpq's URLs (PostgreSQL's documentation, "Connection URIs"): of several hosts the first.
fn database_place(url: &str) -> Option<Database> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"))?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or("");
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    let address = address.split(',').next().unwrap_or("");
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.trim_start_matches(':')),
        None => address.split_once(':').unwrap_or((address, "")),
    };
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned());
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).and_then(|(_, value)| decoded(value))
    };
    let host = parameter("host").map_or_else(|| decoded(host), Some)?;
    let port = parameter("port").unwrap_or_else(|| port.to_owned());
    let port = if port.is_empty() { 5432 } else { port.parse().ok()? };
    if host.is_empty() || host.starts_with('/') {
        let directory = if host.is_empty() { "/run/postgresql" } else { &host };
        return Some(Database::Unix(Path::new(directory).join(format!(".s.PGSQL.{port}"))));
    }
    Some(Database::Tcp(host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_database_is_read_from_its_url() {
        let tcp = |host: &str, port| Some(Database::Tcp(host.to_owned(), port));
        let unix = |path: &str| Some(Database::Unix(path.into()));
        for (url, place) in [
            ("postgres://me:p%40ss@db.home:5433/gateway", tcp("db.home", 5433)),
            ("postgresql://db.home/gateway?sslmode=require", tcp("db.home", 5432)),
            ("postgres://me:pa@ss@[fd00::1]:5432/x", tcp("fd00::1", 5432)),
            ("postgres:///gateway?host=/run/postgresql", unix("/run/postgresql/.s.PGSQL.5432")),
            ("postgres://me@%2Fvar%2Frun:6000/x", unix("/var/run/.s.PGSQL.6000")),
            ("postgres:///gateway", unix("/run/postgresql/.s.PGSQL.5432")),
            ("postgres://a,b/x", tcp("a", 5432)),
            ("postgres://a:port/x", None),
            ("mysql://a/x", None),
            ("", None),
        ] {
            assert_eq!(database_place(url), place, "{url}");
        }
    }

    #[test]
    fn every_answer_of_the_gateway_has_a_meaning() {
        let judge = |answer: std::io::Result<&str>| judge_answer("x".to_owned(), answer.map(str::to_owned));
        let ready = "HTTP/1.1 200 OK\r\n\r\n{\"litellm_version\":\"1\"}";
        assert_eq!(judge(Ok(ready)).state, State::Good);
        assert_eq!(judge(Ok(&ready.replace("200", "503"))).state, State::Bad);
        let lost = "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"status\":\"unhealthy\",\"litellm_version\":\"1\"}";
        assert!(judge(Ok(lost)).to_string().contains("without its database"));
        assert_eq!(judge(Ok("HTTP/1.1 200 OK\r\n\r\nhello")).state, State::Bad);
        assert_eq!(judge(Ok("")).state, State::Bad);
        assert_eq!(judge(Err(ErrorKind::PermissionDenied.into())).state, State::Skipped);
        assert_eq!(judge(Err(ErrorKind::ConnectionRefused.into())).state, State::Bad);
    }

    #[test]
    fn many_models_of_one_upstream_are_one_line() {
        assert_eq!(shortened(&["a", "b"]), "a, b");
        assert_eq!(shortened(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }
}
