//! `[server]`: where the gateway listens, and what it takes and gives there.

use super::file::{Doors, File};
use super::{Sources, mcp, proxies};
use crate::secret::Secrets;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `host:port`
    Tcp(String),
    Unix(PathBuf),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    pub listen: Vec<Listen>,
    pub workers: usize,
    pub body_limit: usize,
    pub answer_limit: usize,
    pub drain: Duration,
    /// None: the gateway never ends by itself.
    pub idle_timeout: Option<Duration>,
    /// None: the status of a stream is never sent before its first event is there.
    pub early_commit: Option<Duration>,
    /// How long responses are kept; none are where it is not said.
    pub keep_responses: Option<Duration>,
    pub keep_alive: Duration,
    /// Lower case.
    pub key_header: Option<String>,
    /// Lower case.
    pub user_header: Option<String>,
    pub cors_origins: Vec<String>,
    /// Empty, or `/prefix` without a slash at its end.
    pub root_path: String,
    /// Where callers find the gateway; without a slash at its end.
    pub public_url: Option<String>,
    pub max_nesting: usize,
    /// Lists of models show what the providers behind wildcards say they have.
    pub asks_for_models: bool,
    /// What the providers' own paths are open for.
    pub doors: Doors,
    /// Who may say where a caller comes from.
    pub trusted_proxies: proxies::Proxies,
}

impl Server {
    /// The settings that a reload cannot change, by name, where `new` differs from these.
    pub fn needs_restart(&self, new: &Server) -> Vec<&'static str> {
        [
            ("server.listen", self.listen != new.listen),
            ("server.workers", self.workers != new.workers),
            ("server.cors_origins", self.cors_origins != new.cors_origins),
            ("server.root_path", self.root_path != new.root_path),
            ("server.drain", self.drain != new.drain),
            ("server.idle_timeout", self.idle_timeout != new.idle_timeout),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
    }
}

/// What `[server]` says, with what follows where it says nothing; all that is wrong with it goes into `errors`.
pub(super) fn read(
    file: &File,
    sources: &Sources,
    secrets: &Secrets,
    loopback_only: bool,
    is_litellm: bool,
    errors: &mut Vec<String>,
) -> Server {
    let written = &file.server;
    // LiteLLM listens everywhere; with no key to ask for, that is not carried over.
    let default_host = if is_litellm && !loopback_only { "0.0.0.0" } else { "127.0.0.1" };
    let default_port =
        secrets.get("PORT").and_then(|p| secrecy::ExposeSecret::expose_secret(&p).parse().ok()).unwrap_or(4000);
    let mut listen = Vec::new();
    if sources.host.is_none() && sources.port.is_none() {
        for text in written.listen.iter().flatten() {
            match parse_listen(text) {
                Ok(address) => listen.push(address),
                Err(e) => errors.push(format!("server.listen: {e}")),
            }
        }
    }
    if listen.is_empty() {
        let host = sources.host.clone().unwrap_or_else(|| default_host.to_owned());
        let port = sources.port.unwrap_or(default_port);
        listen.push(match host.strip_prefix("unix:") {
            Some(path) => Listen::Unix(path.into()),
            None if host.contains(':') && !host.starts_with('[') => Listen::Tcp(format!("[{host}]:{port}")),
            None => Listen::Tcp(format!("{host}:{port}")),
        });
    }
    let root_path = written.root_path.as_deref().unwrap_or("").trim_end_matches('/').to_owned();
    if !root_path.is_empty() && (!root_path.starts_with('/') || root_path.contains(['{', '}', '?', '#'])) {
        errors.push("server.root_path: it must begin with `/` and be a plain path, such as `/llm`".to_owned());
    }
    let public_url = written
        .public_url
        .clone()
        .or_else(|| secrets.get("PROXY_BASE_URL").map(|url| secrecy::ExposeSecret::expose_secret(&url).to_owned()));
    let public_url = public_url.map(|url| url.trim_end_matches('/').to_owned()).filter(|url| !url.is_empty());
    if let Some(url) = &public_url
        && let Err(e) = mcp::server::address(url)
    {
        errors.push(format!("server.public_url: {e}"));
    }
    let max_nesting = written.max_nesting.unwrap_or(128);
    if !(8..=512).contains(&max_nesting) {
        errors.push(format!("server.max_nesting: {max_nesting} is outside 8..512"));
    }
    let workers = written.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from));
    if !(1..=256).contains(&workers) {
        errors.push(format!("server.workers: {workers} is outside 1..256"));
    }
    if let Some(header) = &written.user_header
        && actix_web::http::header::HeaderName::from_bytes(header.as_bytes()).is_err()
    {
        errors.push("server.user_header: not a header name".to_owned());
    }
    if let Some(header) = &written.key_header
        && actix_web::http::header::HeaderName::from_bytes(header.as_bytes()).is_err()
    {
        errors.push("server.key_header: not a header name".to_owned());
    }
    for origin in written.cors_origins.iter().flatten().filter(|origin| !is_origin(origin)) {
        errors.push(format!(
            "server.cors_origins: `{origin}` is neither `*` nor an origin such as `https://app.example`"
        ));
    }
    let trusted_proxies = proxies::Proxies::read(written.trusted_proxies.as_deref().unwrap_or_default());
    for text in trusted_proxies.as_ref().err().into_iter().flatten() {
        errors.push(format!(
            "server.trusted_proxies: `{text}` is neither `unix` nor an address or network such as `10.0.0.0/8`"
        ));
    }
    let early_commit = written.early_commit.map_or(Duration::from_secs(15), |d| d.0);
    Server {
        asks_for_models: written.ask_for_models.unwrap_or(false),
        doors: written.provider_pass_through.unwrap_or_default(),
        listen,
        workers,
        body_limit: written.body_limit.map_or(32 << 20, |s| s.0),
        answer_limit: written.answer_limit.map_or(64 << 20, |s| s.0),
        drain: written.drain.map_or(Duration::from_secs(30), |d| d.0),
        idle_timeout: sources.idle_timeout.or(written.idle_timeout.map(|d| d.0)).filter(|d| !d.is_zero()),
        early_commit: (!early_commit.is_zero()).then_some(early_commit),
        keep_responses: Some(written.keep_responses.map_or(Duration::from_secs(30 * 86_400), |d| d.0))
            .filter(|d| !d.is_zero()),
        keep_alive: written.keep_alive.map(|d| d.0).filter(|d| !d.is_zero()).unwrap_or(Duration::from_secs(15)),
        key_header: written.key_header.as_ref().map(|h| h.to_ascii_lowercase()),
        user_header: written.user_header.as_ref().map(|h| h.to_ascii_lowercase()),
        // LiteLLM admits any origin; callers without a key must not be reachable from any web page.
        cors_origins: written
            .cors_origins
            .clone()
            .unwrap_or_else(|| if is_litellm && !loopback_only { vec!["*".to_owned()] } else { Vec::new() }),
        root_path,
        public_url,
        max_nesting,
        trusted_proxies: trusted_proxies.unwrap_or_default(),
    }
}

/// Whether a browser could send this as `Origin`: a scheme, a host, at most a port.
fn is_origin(text: &str) -> bool {
    let is_url = |text: &str| {
        let Ok(url) = text.parse::<actix_web::http::Uri>() else { return false };
        url.scheme().is_some() && url.authority().is_some() && url.path_and_query().is_none_or(|p| p == "/")
    };
    matches!(text, "*" | "null") || (is_url(text) && !text.ends_with('/'))
}

fn parse_listen(text: &str) -> Result<Listen, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = Path::new(path);
        return if path.is_absolute() {
            Ok(Listen::Unix(path.to_owned()))
        } else {
            Err(format!("`{text}`: the path of a unix socket must be absolute"))
        };
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(Listen::Tcp(text.to_owned())),
        _ => Err(format!("`{text}` is neither `host:port` nor `unix:/path`")),
    }
}
