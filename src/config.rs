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
mod server;
pub mod stamp;
pub mod store;
pub mod stored;
pub mod units;
mod written;

pub use references::{Declared, Reference, declared};
pub use server::{Listen, Server};

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
    /// How often a batch that is not over is asked for, where nobody else does.
    pub batch_interval: Option<Duration>,
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
    let server = server::read(&file, sources, secrets, is_litellm && master_key.is_none(), is_litellm, &mut errors);
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
            batch_interval: Some(file.ledger.batch_interval.map_or(Duration::from_secs(300), |interval| interval.0))
                .filter(|interval| !interval.is_zero()),
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
