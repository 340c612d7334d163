//! The configuration: what was written, checked and given its meaning.
//!
//! [`file`] is the written form, [`litellm`] converts LiteLLM's YAML to it, and this module turns it into [`Config`]:
//! names bound to providers, secrets looked up, durations typed. Everything that is wrong is reported together.

mod cloud;
mod deployment;
pub mod file;
pub mod limits;
pub mod litellm;
pub mod mcp;
pub mod newcomers;
pub mod pass;
mod people;
pub mod proxies;
pub mod redis;
mod references;
mod routing;
pub mod stamp;
pub mod store;
pub mod stored;
pub mod units;
mod written;

pub use references::{Declared, Reference, declared};

use crate::price::Prices;
use crate::route::{Deployment, Settings};
use crate::seal::Seals;
use crate::secret::{Secrets, Written};
pub use file::Doors;
use file::{File, LogFormat};
use secrecy::SecretString;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where the configuration comes from; kept, so that a reload reads the same places again.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `gateway.toml` or a LiteLLM `config.yaml`; none means defaults.
    pub config: Option<PathBuf>,
    pub env_file: Option<PathBuf>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub state_dir: Option<PathBuf>,
    /// In place of `server.idle_timeout`; zero is never.
    pub idle_timeout: Option<Duration>,
    /// What was configured at run time.
    pub stored: Arc<stored::Stored>,
    /// Instead of a file: what the demo declares.
    pub built_in: Option<File>,
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `host:port`
    Tcp(String),
    Unix(PathBuf),
}

/// The configuration in force.
#[derive(Debug)]
pub struct Config {
    pub master_key: Option<SecretString>,
    pub allow_anonymous: bool,
    pub state_dir: PathBuf,
    pub server: Server,
    pub log: Log,
    pub health: Health,
    pub store: store::Store,
    pub ledger: Ledger,
    pub limits: Arc<limits::Limits>,
    pub deployments: Vec<Arc<Deployment>>,
    pub mcp: mcp::Mcp,
    /// Paths that lead to other APIs.
    pub pass_through: Vec<pass::Passage>,
    /// What the environment says of providers, for their own paths.
    pub doors: Vec<Arc<Deployment>>,
    pub routing: Settings,
    /// `[routing]` as it is in force, the stored settings with it.
    pub written_routing: file::Routing,
    /// Lists of fallbacks and names in them that the file itself has.
    pub written_fallbacks: std::collections::HashSet<(String, String)>,
    /// The members of `[routing]` that the file itself has; of its tables each entry is a setting of its own.
    pub written_settings: std::collections::HashSet<String>,
    /// What opens and seals secrets of the store.
    pub seals: Seals,
    pub prices: Prices,
    /// Keys, users, teams and budgets of the file.
    pub declared: Arc<crate::store::Declared>,
    /// What the management API gives to new keys and users.
    pub newcomers: newcomers::Newcomers,
    /// For the operator: what was not carried over or looks wrong, and is no error.
    pub warnings: Vec<String>,
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone)]
pub struct Health {
    pub timeout: Duration,
    pub concurrency: usize,
    /// Between two rounds of checks in the background; none are made without it.
    pub background: Option<Duration>,
    /// Between two looks at the servers of the house.
    pub house: Option<Duration>,
}

/// How calls are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ledger {
    /// Calls have rows, and spend is counted.
    pub enabled: bool,
    /// Calls go on while their rows cannot be written.
    pub serve_unaccounted: bool,
    /// Bytes on the disk for what is not in the store yet.
    pub spool_limit: u64,
    /// Prompts and answers are kept, each up to so many bytes.
    pub prompts: Option<usize>,
    /// How old they may become; those that are there, whether more are kept or not.
    pub prompt_retention: Duration,
    /// How old rows may become; none keeps them.
    pub retention: Option<Duration>,
    /// How often what is too old is taken away.
    pub retention_interval: Duration,
}

/// Whether secrets and files of the machine are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As the running gateway does.
    Live,
    /// For a build: references are taken on trust, no file but the configuration is read.
    Offline,
}

/// Reads, checks and resolves the configuration.
///
/// # Errors
/// A text for the operator with everything that is wrong, one item a line.
pub fn load(sources: &Sources, mode: Mode) -> Result<Config, String> {
    let written = match (&sources.built_in, &sources.config) {
        (Some(file), _) => written::Read { file: file.clone(), warnings: Vec::new(), is_litellm: false },
        (None, Some(path)) => written::read(path)?,
        (None, None) => written::Read { file: File::default(), warnings: Vec::new(), is_litellm: false },
    };
    let secrets = match mode {
        Mode::Live => Secrets::load(sources.env_file.as_deref())?,
        Mode::Offline => Secrets::none(),
    };
    resolve(written, sources, &secrets, mode)
}

fn resolve(written: written::Read, sources: &Sources, secrets: &Secrets, mode: Mode) -> Result<Config, String> {
    let written::Read { mut file, mut warnings, is_litellm } = written;
    let written_fallbacks = declared_fallbacks(&file.routing);
    let written_settings = stored::settings(&file.routing).collect();
    let first_stored = match mode {
        Mode::Live => sources.stored.add_to(&mut file, &mut warnings),
        Mode::Offline => file.models.len(),
    };
    let secrets = &secrets.with_overlay(&file.environment);
    let mut errors = Vec::new();

    let master_key = master_key(&file, secrets, mode, &mut errors);
    for (name, what) in NOT_SERVED_YET {
        if mode == Mode::Live && secrets.get(name).is_some() {
            warnings.push(format!("{name} is set: {what} not served yet"));
        }
    }

    let prices = prices(&file, sources, secrets, mode, &mut errors, &mut warnings);
    let mut deployments = Vec::new();
    let mut of_models = HashMap::new();
    let names = file.models.iter().map(|model| model.name.as_str()).collect();
    let context = deployment::Context {
        defaults: &file.defaults,
        secrets,
        mode,
        prices: &prices,
        slots: file.routing.max_parallel_requests,
        names,
        ids: Default::default(),
    };
    for (place, model) in file.models.iter().enumerate() {
        match deployment::resolve(&context, model, deployments.len()) {
            Ok(resolved) => {
                warnings.extend(resolved.warnings);
                if let Some(own) = &model.limits {
                    let mut problems = Vec::new();
                    let terms = limits::terms(&format!("models[{place}] '{}': limits", model.name), own, &mut problems);
                    if place < first_stored {
                        errors.extend(problems)
                    } else {
                        warnings.extend(problems)
                    }
                    of_models.extend(resolved.deployments.iter().map(|d| (d.id.clone(), terms.clone())));
                }
                deployments.extend(resolved.deployments.into_iter().map(Arc::new));
            }
            // What is stored must not keep the rest from being served.
            Err(problems) if place >= first_stored => {
                let problems = problems.join("; ");
                warnings.push(format!("the stored model '{}' cannot be used: {problems}", model.name));
            }
            Err(problems) => {
                errors.extend(problems.into_iter().map(|p| format!("models[{place}] '{}': {p}", model.name)))
            }
        }
    }

    let doors = match (mode, file.server.provider_pass_through.unwrap_or_default()) {
        (Mode::Offline, _) | (_, Doors::Shut) => Vec::new(),
        (Mode::Live, _) => deployment::of_environment(&context, deployments.len()),
    };
    let people = people::Context { secrets, mode, master_key: master_key.as_ref(), at: crate::database::now() };
    let declared = Arc::new(people::resolve(&file, &people, &mut errors, &mut warnings));
    let interval = file.health.interval.map_or(Duration::from_secs(300), |d| d.0.max(Duration::from_secs(1)));
    let background = file.health.background.then_some(interval);
    let seals = Seals::find(secrets, master_key.as_ref());
    let routing = routing::resolve(&file, &deployments, background, &mut errors, &mut warnings);
    let newcomers = newcomers::resolve(&file, &mut errors);
    let server = server(&file, sources, secrets, is_litellm && master_key.is_none(), is_litellm, &mut errors);
    let store = store::resolve(&file, secrets, mode, &mut errors);
    let mut limits = limits::resolve(&file.limits, secrets, mode, &mut errors);
    limits.deployments = of_models;
    for name in limits.providers.keys() {
        if !deployments.iter().any(|d: &Arc<Deployment>| d.provider.name == name) {
            warnings.push(format!(
                "limits.providers.{name}: there is no model of this provider, so its limits are about nothing"
            ));
        }
    }
    let state_dir = sources.state_dir.clone().or(file.state_dir.clone()).unwrap_or_else(default_state_dir);
    let mut mcp = mcp::resolve(&file, secrets, mode, &state_dir, &mut errors, &mut warnings);
    if mode == Mode::Live {
        mcp::stored::add(&mut mcp, &sources.stored, &mut warnings);
    }
    let pass_through = pass::resolve(&file.pass_through, secrets, mode, &mut errors, &mut warnings);
    let level = file.log.level.unwrap_or_else(|| "info".to_owned());
    errors.extend(crate::telemetry::filter(&level).err());
    if !errors.is_empty() {
        return Err(errors.join("\n"));
    }
    Ok(Config {
        master_key,
        allow_anonymous: file.allow_anonymous,
        state_dir,
        server,
        log: Log { level, format: file.log.format.unwrap_or(LogFormat::Auto) },
        health: Health {
            timeout: file.health.timeout.map_or(Duration::from_secs(60), |d| d.0),
            concurrency: file.health.concurrency.unwrap_or(8).clamp(1, 64),
            background,
            house: Some(file.health.house_interval.map_or(Duration::from_secs(5), |d| d.0)).filter(|d| !d.is_zero()),
        },
        store,
        ledger: Ledger {
            enabled: !file.ledger.disabled,
            serve_unaccounted: file.ledger.serve_unaccounted,
            spool_limit: file.ledger.spool_limit.map_or(1 << 30, |size| size.0 as u64),
            prompts: file
                .ledger
                .store_prompts
                .then(|| file.ledger.prompt_limit.map_or(64 << 10, |size| size.0.clamp(1 << 10, 4 << 20))),
            prompt_retention: prompt_retention(&file.ledger),
            retention: file.ledger.retention.map(|age| age.0).filter(|age| !age.is_zero()),
            retention_interval: file
                .ledger
                .retention_interval
                .map_or(Duration::from_secs(86_400), |interval| interval.0.max(Duration::from_secs(1))),
        },
        limits: Arc::new(limits),
        deployments,
        mcp,
        pass_through,
        doors,
        routing,
        written_routing: file.routing.clone(),
        written_fallbacks,
        written_settings,
        seals,
        prices,
        declared,
        newcomers,
        warnings,
    })
}

/// What was said is told apart from what it cost: it goes after a month, if nothing else was written.
fn prompt_retention(ledger: &file::Ledger) -> Duration {
    let age = ledger.prompt_retention.map(|age| age.0).filter(|age| !age.is_zero());
    let rows = ledger.retention.map(|age| age.0).filter(|age| !age.is_zero());
    let age = age.unwrap_or(Duration::from_secs(30 * 86_400));
    rows.map_or(age, |rows| rows.min(age))
}

/// A model that is to be added, as the running gateway would resolve it.
///
/// # Errors
/// What is wrong with it.
pub fn try_model(sources: &Sources, model: &file::Model) -> Result<Deployment, String> {
    let read = match (&sources.built_in, &sources.config) {
        (Some(file), _) => file.clone(),
        (None, Some(path)) => written::read(path)?.file,
        (None, None) => File::default(),
    };
    let secrets = Secrets::load(sources.env_file.as_deref())?;
    let secrets = &secrets.with_overlay(&read.environment);
    let context = deployment::Context {
        defaults: &read.defaults,
        secrets,
        mode: Mode::Live,
        prices: Prices::built_in(),
        slots: read.routing.max_parallel_requests,
        names: Default::default(),
        ids: Default::default(),
    };
    let resolved = deployment::resolve(&context, model, 0).map_err(|problems| problems.join("; "))?;
    let mut problems = Vec::new();
    limits::terms("limits", model.limits.as_ref().unwrap_or(&Default::default()), &mut problems);
    if !problems.is_empty() {
        return Err(problems.join("; "));
    }
    resolved.deployments.into_iter().next().ok_or_else(|| "it leads to no provider whose key is there".to_owned())
}

fn declared_fallbacks(routing: &file::Routing) -> std::collections::HashSet<(String, String)> {
    let lists = [
        ("fallbacks", &routing.fallbacks),
        ("context_window_fallbacks", &routing.context_window_fallbacks),
        ("content_policy_fallbacks", &routing.content_policy_fallbacks),
    ];
    lists.iter().flat_map(|(list, map)| map.keys().map(|model| ((*list).to_owned(), model.clone()))).collect()
}

/// The built-in prices, under those of a LiteLLM price map where there is one.
fn prices(
    file: &File,
    sources: &Sources,
    secrets: &Secrets,
    mode: Mode,
    errors: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Prices {
    const VARIABLE: &str = "LITELLM_MODEL_COST_MAP_URL";
    let (setting, path) = match &file.price_map {
        Some(path) => {
            let beside = sources.config.as_deref().and_then(Path::parent);
            ("price_map", beside.map_or_else(|| path.clone(), |directory| directory.join(path)))
        }
        None => match secrets.get(VARIABLE).map(|url| secrecy::ExposeSecret::expose_secret(&url).to_owned()) {
            Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
                warnings.push(format!(
                    "{VARIABLE}: prices are not fetched from the network; download the map and name the file in price_map"
                ));
                return Prices::built_in().clone();
            }
            Some(path) => (VARIABLE, PathBuf::from(path.strip_prefix("file://").unwrap_or(&path))),
            None => return Prices::built_in().clone(),
        },
    };
    if mode == Mode::Offline {
        return Prices::built_in().clone();
    }
    let read = std::fs::read_to_string(&path).map_err(|e| e.to_string()).and_then(|json| Prices::with_map(&json));
    match read {
        Ok(prices) => {
            warnings.extend(prices.notes().iter().map(|note| format!("{setting}: {note}")));
            prices
        }
        Err(e) => {
            errors.push(format!("{setting}: {}: {e}", path.display()));
            Prices::built_in().clone()
        }
    }
}

/// LiteLLM's variables that mean something the gateway does not do yet.
const NOT_SERVED_YET: &[(&str, &str)] =
    &[("UI_USERNAME", "the admin pages are"), ("UI_PASSWORD", "the admin pages are")];

fn master_key(file: &File, secrets: &Secrets, mode: Mode, errors: &mut Vec<String>) -> Option<SecretString> {
    let key = match &file.master_key {
        Some(written) => match written.reference() {
            Some(name) if mode == Mode::Live => {
                let found = secrets.get(name);
                if found.is_none() {
                    errors.push(format!("master_key: the variable {name} is not set in the env file or the environment; set it, or take the line out"));
                }
                found
            }
            Some(_) => Some(SecretString::from("offline")),
            None => Some(SecretString::from(written.0.as_str())),
        },
        None => secrets.get("GATEWAY_MASTER_KEY").or_else(|| secrets.get("LITELLM_MASTER_KEY")),
    };
    if key.as_ref().is_some_and(|k| secrecy::ExposeSecret::expose_secret(k).trim().is_empty()) {
        errors.push("master_key: it is empty; give it a value, or take the line out".to_owned());
    }
    key
}

fn server(
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
        && let Err(e) = mcp::address(url)
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

/// systemd's state directory, else the user's.
fn default_state_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("STATE_DIRECTORY") {
        return PathBuf::from(dir);
    }
    if let Some(dir) = std::env::var_os("XDG_STATE_HOME") {
        return PathBuf::from(dir).join("gateway");
    }
    match std::env::var_os("HOME") {
        Some(home) => PathBuf::from(home).join(".local/state/gateway"),
        None => std::env::temp_dir().join("gateway"),
    }
}

/// Looks a written text up: a reference in `secrets`, a literal as it stands.
fn look_up(written: &Written, secrets: &Secrets) -> Option<SecretString> {
    match written.reference() {
        Some(name) => secrets.get(name),
        None => (!written.0.is_empty()).then(|| SecretString::from(written.0.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_toml(text: &str) -> Result<Config, String> {
        let file = written::parse_toml(text, "gateway.toml")?;
        resolve(
            written::Read { file, warnings: Vec::new(), is_litellm: false },
            &Sources::default(),
            &Secrets::none(),
            Mode::Offline,
        )
    }

    #[test]
    fn an_empty_file_is_a_configuration() {
        let config = load_toml("").unwrap();
        assert_eq!(config.server.listen, [Listen::Tcp("127.0.0.1:4000".to_owned())]);
        assert_eq!(config.server.early_commit, Some(Duration::from_secs(15)));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let problems = load_toml(
            "[server]\nlisten = [\"nowhere\"]\nworkers = 0\n[[models]]\nname = \"a\"\nmodel = \"grok/x\"\n[[models]]\nname = \"b\"\nmodel = \"openai_like/x\"\n",
        )
        .unwrap_err();
        for part in ["server.listen", "server.workers", "models[0] 'a'", "models[1] 'b'", "`groq`"] {
            assert!(problems.contains(part), "{part} is missing in: {problems}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let config = load_toml(
            "master_key = \"sk-very-secret\"\n[[models]]\nname = \"a\"\nmodel = \"groq/x\"\napi_key = \"gsk-secret\"\n",
        )
        .unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("secret\""), "{shown}");
        assert!(!shown.contains("sk-very") && !shown.contains("gsk-"), "{shown}");
    }
}
