//! From the model that a caller names to the deployment that serves the call.
//!
//! Exact names and aliases first, then patterns, the most specific one first. Which deployment of a name is asked is a
//! matter of how each is doing ([`Pulse`]) and of the [`strategy`]; where one fails, another one is.

mod plan;
mod pricing;
mod pulse;
mod queue;
mod settings;
pub mod strategy;
mod window;

use crate::error::{Error, Kind, Origin, Result};
use crate::mock::Mock;
use crate::pattern;
use crate::price::{self, Prices};
use crate::provider::{Auth, Detour, Dialect, Endpoint, Language, Path, Provider, Shape};
use crate::upstream::credentials::Credential;
use actix_web::http::Uri;
use actix_web::http::header::{HeaderName, HeaderValue};
pub use plan::{Nobody, Out, Plan, Question};
pub use pricing::{Known, Pricing, Tariff};
pub use pulse::{Cause, Class, Pulse};
pub use queue::{Priority, Queue, Ticket};
use secrecy::SecretString;
pub use settings::{Affinity, Alias, Because, Fallback, Fallbacks, Own, Policy, Queueing, Settings, TagMatch};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// One configured upstream model, with everything that does not change between calls worked out.
#[derive(Debug)]
pub struct Deployment {
    /// Place among all deployments of this configuration.
    pub index: usize,
    /// Stable identity in headers and logs.
    pub id: String,
    /// The public name, or a pattern of names.
    pub name: String,
    pub provider: &'static Provider,
    /// For errors of the upstream.
    pub origin: Arc<Origin>,
    /// The upstream's name for the model; with a `*` where the public name is a pattern.
    pub model: String,
    /// Shown to operators and in headers.
    pub api_base: String,
    /// Where calls are sent, but for the model's part of the path.
    pub calls: Uri,
    pub place: Place,
    pub transport: Transport,
    pub timeouts: Timeouts,
    /// Tried in turn; empty where the upstream wants none.
    pub keys: Vec<SecretString>,
    pub next_key: AtomicUsize,
    /// What it says of its own share.
    pub own: Own,
    /// How it is doing.
    pub pulse: Arc<Pulse>,
    /// Of its id.
    pub hash: u64,
    /// Tokens that a prompt may have, where that is known.
    pub window: Option<u64>,
    /// What a token in and one out cost together, in dollars.
    pub price_of_two: Option<f64>,
    /// In place of keys: a token that is renewed, or keys that sign.
    pub credential: Option<Credential>,
    /// Request headers beside the key.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub shape: Shape,
    pub labels: Labels,
    /// It makes responses (OpenAI's Responses) itself.
    pub makes_responses: bool,
    pub pricing: Pricing,
    /// That the price is not known was said.
    pub unpriced: AtomicBool,
    /// Facts for `/model/info`.
    pub info: serde_json::Map<String, serde_json::Value>,
    /// Answers in the place of the upstream.
    pub mock: Option<Arc<Mock>>,
    /// Why no call can be served: a provider that is not spoken yet, a key that is not there.
    pub unserved: Option<Error>,
}

impl Deployment {
    /// Says once that calls are served whose cost is not known.
    pub fn say_unpriced(&self, model: &str) {
        if !self.unpriced.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "no price is known for '{model}' ({}/{}): its calls count tokens and no dollars; set input_cost_per_token and output_cost_per_token in its info",
                self.provider.name,
                self.model
            );
        }
    }
}

/// From where on the path of a call is the provider's.
#[derive(Debug, Default)]
pub struct Place {
    /// A URL without a slash at its end.
    pub base: String,
    /// Another path than the provider usually has.
    pub path: Option<Path>,
    /// Another place for the key.
    pub auth: Option<Auth>,
    /// What the query of every call holds, such as `api-version=2024-10-21`; or nothing.
    pub query: String,
}

impl Place {
    /// How a call's path is written.
    pub fn path(&self, dialect: Dialect) -> Path {
        // Another language has a path of its own.
        self.path.filter(|_| dialect.language == Language::OpenAi).unwrap_or(dialect.path)
    }

    /// The URL of a call.
    pub fn url(&self, dialect: Dialect, endpoint: Endpoint, model: &str) -> String {
        self.behind(&self.base, &self.path(dialect).write(dialect.language, endpoint, model))
    }

    /// The URL of a call that goes another way.
    pub fn url_by(&self, detour: &Detour) -> String {
        let host = match self.base.split_once("://") {
            Some((scheme, rest)) => scheme.len() + 3 + rest.find('/').unwrap_or(rest.len()),
            None => self.base.len(),
        };
        self.behind(if detour.at_root { &self.base[..host] } else { &self.base }, &detour.path)
    }

    fn behind(&self, base: &str, path: &str) -> String {
        let sign = match (self.query.is_empty(), path.contains('?')) {
            (true, _) => "",
            (_, true) => "&",
            (_, false) => "?",
        };
        format!("{base}/{path}{sign}{}", self.query)
    }

    /// The URL of what lies beside the models: files, batches.
    pub fn beside(&self, dialect: Dialect, path: &str) -> String {
        let prefix = match self.path(dialect) {
            Path::Behind(prefix) => prefix,
            Path::AzureDeployment => "openai/",
            Path::VertexRaw(_) | Path::Watsonx | Path::Invocations => "",
        };
        let sign = if self.query.is_empty() { "" } else { "?" };
        format!("{}/{prefix}{path}{sign}{}", self.base, self.query)
    }

    /// Whether there is a URL for each model.
    pub fn names_model(&self, dialect: Dialect) -> bool {
        self.path(dialect).names_model(dialect.language)
    }
}

/// Response header values of a deployment.
#[derive(Debug)]
pub struct Labels {
    pub id: HeaderValue,
    pub group: HeaderValue,
    pub api_base: HeaderValue,
    pub region: Option<HeaderValue>,
}

/// What connections to an upstream are made of; equal transports share their connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Transport {
    /// A unix socket instead of the host of the URL.
    pub socket: Option<PathBuf>,
    pub tls: bool,
    /// A PEM file with one more certificate authority.
    pub ca_file: Option<PathBuf>,
    pub connect_timeout: Duration,
}

#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// A whole answer must be there by then.
    pub whole: Duration,
    /// The longest silence of a stream.
    pub silence: Duration,
}

/// A deployment chosen for a call.
#[derive(Debug, Clone)]
pub struct Target {
    pub deployment: Arc<Deployment>,
    /// The upstream's model name where it depends on what the caller asked for.
    named: Option<String>,
    /// Answers in the place of the upstream.
    mock: Option<Arc<Mock>>,
}

impl Target {
    /// The deployment, under this upstream name.
    pub fn named(deployment: Arc<Deployment>, model: String) -> Self {
        let mock = deployment.mock.clone();
        Target { deployment, named: Some(model), mock }
    }

    /// The same, answered by a mock of the call's own.
    pub fn mocked(self, mock: Arc<Mock>) -> Self {
        Target { mock: Some(mock), ..self }
    }

    /// What answers in the place of the upstream.
    pub fn mock(&self) -> Option<&Arc<Mock>> {
        self.mock.as_ref()
    }

    /// What is known of the model.
    pub fn known(&self) -> Arc<Known> {
        self.deployment.pricing.known(self.model())
    }

    /// The price of a call that begins now.
    pub fn tariff(&self) -> Tariff {
        Tariff::new(self.known())
    }

    /// How the model is spoken to.
    pub fn dialect(&self) -> Dialect {
        let dialect = self.deployment.provider.dialect(self.model());
        match self.mock {
            Some(_) => Dialect { language: Language::OpenAi, ..dialect },
            None => dialect,
        }
    }

    /// Whether the caller's words decide about the upstream's name of the model.
    pub fn is_named(&self) -> bool {
        self.named.is_some()
    }

    /// The upstream's name for the model.
    pub fn model(&self) -> &str {
        self.named.as_deref().unwrap_or(&self.deployment.model)
    }
}

/// All names and what they lead to.
#[derive(Debug, Default)]
pub struct Routes {
    pub deployments: Vec<Arc<Deployment>>,
    exact: HashMap<String, Plan>,
    patterns: Vec<Arc<Group>>,
    pub settings: Settings,
}

/// The deployments of one public name.
#[derive(Debug)]
pub struct Group {
    pub name: String,
    pub deployments: Vec<Arc<Deployment>>,
    next: AtomicUsize,
    /// Those who wait for one of them.
    pub queue: Arc<Queue>,
    /// Leave for attempts at a deployment that was tried before.
    pub repeats: Budget,
}

/// How often something may be done again: so many times in a second, and more the more there is to do. A few calls that
/// fail are tried again as often as they may; when all of them fail, repeats must not multiply them.
#[derive(Debug)]
pub struct Budget {
    /// Thousandths, and when they were counted last.
    left: AtomicI64,
    at: AtomicI64,
    epoch: Instant,
}

impl Budget {
    const MOST: i64 = 100_000;
    const PER_MS: i64 = 10;
    const PER_CALL: i64 = 200;

    fn new() -> Self {
        Budget { left: AtomicI64::new(Self::MOST), at: AtomicI64::new(0), epoch: Instant::now() }
    }

    /// A call has come.
    pub fn earn(&self) {
        if self.left.load(Ordering::Relaxed) < Self::MOST {
            self.left.fetch_add(Self::PER_CALL, Ordering::Relaxed);
        }
    }

    /// Whether there is leave for one more.
    pub fn spend(&self, now: Instant) -> bool {
        let ms = i64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(i64::MAX / 100);
        let since = (ms - self.at.swap(ms, Ordering::Relaxed)).max(0);
        let earned = since.saturating_mul(Self::PER_MS).min(Self::MOST);
        let spend = |left: i64| left.saturating_add(earned).min(Self::MOST) - 1000;
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(spend(left).max(0)));
        before.is_ok_and(|left| spend(left) >= 0)
    }
}

impl Routes {
    pub fn new(deployments: Vec<Arc<Deployment>>, settings: Settings) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for deployment in &deployments {
            let name = &*deployment.name;
            let place = *places.entry(name).or_insert_with(|| {
                groups.push(Group {
                    name: name.to_owned(),
                    deployments: Vec::new(),
                    next: AtomicUsize::new(0),
                    queue: Arc::default(),
                    repeats: Budget::new(),
                });
                groups.len() - 1
            });
            groups[place].deployments.push(deployment.clone());
        }
        let mut routes = Routes::default();
        for group in groups.into_iter().map(Arc::new) {
            match group.name.contains('*') {
                true => routes.patterns.push(group),
                false => drop(routes.exact.insert(group.name.clone(), Plan { group, name: None, only: None })),
            }
        }
        routes.patterns.sort_by_key(|g| std::cmp::Reverse(g.name.len()));
        // An alias goes before a model of its name, and does not lead to another alias.
        let aliases: Vec<_> = settings
            .aliases
            .iter()
            .filter_map(|(name, alias)| Some((name.clone(), routes.find(&alias.model)?)))
            .collect();
        routes.exact.extend(aliases);
        routes.deployments = deployments;
        routes.settings = settings;
        routes
    }

    /// Where a call for this name may go.
    ///
    /// # Errors
    /// 400 for a name that leads nowhere, with the nearest one that does.
    pub fn plan(&self, model: &str) -> Result<Plan> {
        self.find(model).ok_or_else(|| self.unknown(model))
    }

    /// A deployment that calls for this name go to.
    ///
    /// # Errors
    /// As [`Routes::plan`]; 501 or 401 for deployments that cannot be called.
    pub fn target(&self, model: &str) -> Result<Target> {
        let plan = self.plan(model)?;
        let deployments = &plan.group.deployments;
        let first = deployments.iter().find(|d| d.unserved.is_none()).or_else(|| deployments.first());
        let deployment = first.ok_or_else(|| self.unknown(model))?;
        match &deployment.unserved {
            Some(why) => Err(why.clone()),
            None => Ok(plan.to(deployment)),
        }
    }

    /// Whether calls for this name would be routed.
    pub fn serves(&self, model: &str) -> bool {
        self.find(model).is_some()
    }

    /// The deployments behind a public name, written as in the configuration.
    pub fn group(&self, name: &str) -> Vec<&Arc<Deployment>> {
        self.deployments.iter().filter(|d| d.name == name).collect()
    }

    /// The price of another model in the account of a deployment: as the operator has it for that model, or as the tables
    /// do.
    pub fn price_beside(&self, deployment: &Deployment, model: &str, prices: &Prices) -> Arc<Known> {
        let provider = deployment.provider.name;
        let is = |d: &&Arc<Deployment>| d.provider.name == provider && d.model == model;
        match self.deployments.iter().find(is) {
            _ if deployment.model == model => deployment.pricing.known(model),
            Some(own) => own.pricing.known(model),
            None => Arc::new(Known::find(prices, provider, model, &serde_json::Map::new()).unwrap_or_default()),
        }
    }

    /// The provider of the model of that name.
    pub fn owner(&self, name: &str) -> Option<&'static str> {
        self.find(name).and_then(|plan| plan.group.deployments.first().map(|d| d.provider.name))
    }

    /// Every public name once, wildcards as the chat models that the price tables know behind them; those that nothing
    /// is known of stand as written. `wildcards` shows all of them as written too. What a provider itself says it has, in
    /// `catalogs` by the place of its deployment, goes before the tables.
    pub fn expanded_names(
        &self,
        prices: &Prices,
        wildcards: bool,
        catalogs: &HashMap<usize, Rc<[String]>>,
    ) -> Vec<Cow<'_, str>> {
        let mut seen = std::collections::HashSet::new();
        let mut names: Vec<Cow<'_, str>> = Vec::new();
        for deployment in &self.deployments {
            let name = &*deployment.name;
            let mut found: Vec<Cow<'_, str>> = Vec::new();
            if name.contains('*') {
                let own = catalogs.get(&deployment.index).map(|list| &list[..]).unwrap_or_default();
                let own = own.iter().filter_map(|model| pattern::capture(&deployment.model, model));
                found.extend(own.map(|part| Cow::Owned(pattern::fill(name, part))));
            }
            if name.contains('*') && found.is_empty() {
                let models = prices.models(deployment.provider.name);
                // Fine-tuned models go by ids of their own; what is listed of them are their prices.
                let models = models.filter(|(name, mode)| price::is_chat(mode) && !name.starts_with("ft:"));
                let behind = models.filter_map(|(model, _)| pattern::capture(&deployment.model, model));
                found.extend(behind.map(|part| Cow::Owned(pattern::fill(name, part))));
            }
            if found.is_empty() || wildcards {
                found.push(Cow::Borrowed(name));
            }
            names.extend(found.into_iter().filter(|name| seen.insert(name.clone())));
        }
        let mut aliases: Vec<_> =
            self.listed_aliases().map(Cow::Borrowed).filter(|name| !seen.contains(name)).collect();
        aliases.sort();
        names.extend(aliases);
        names
    }

    /// All groups; those that only an alias names are there once.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        let exact = self.exact.iter().filter(|(name, plan)| **name == plan.group.name);
        exact.map(|(_, plan)| &plan.group).chain(&self.patterns)
    }

    /// Every public name once, in the order of the configuration.
    pub fn names(&self) -> Vec<&str> {
        let mut seen = std::collections::HashSet::new();
        let mut names: Vec<&str> =
            self.deployments.iter().map(|d| d.name.as_str()).filter(|name| seen.insert(*name)).collect();
        let mut aliases: Vec<&str> = self.listed_aliases().filter(|name| !seen.contains(name)).collect();
        aliases.sort_unstable();
        names.extend(aliases);
        names
    }

    fn find(&self, model: &str) -> Option<Plan> {
        if let Some(plan) = self.exact.get(model) {
            return Some(plan.clone());
        }
        let group = self.patterns.iter().find(|group| pattern::capture(&group.name, model).is_some())?;
        Some(Plan { group: group.clone(), name: Some(model.to_owned()), only: None })
    }

    /// What an alias stands for.
    pub fn alias(&self, name: &str) -> Option<&str> {
        self.settings.aliases.get(name).map(|alias| &*alias.model)
    }

    /// The aliases that are listed.
    fn listed_aliases(&self) -> impl Iterator<Item = &str> {
        let listed =
            self.settings.aliases.iter().filter(|(name, alias)| !alias.hidden && self.exact.contains_key(*name));
        listed.map(|(name, _)| &**name)
    }

    fn unknown(&self, model: &str) -> Error {
        let shown = crate::envelope::shorten(model);
        let hint = match pattern::nearest(model, self.names()) {
            Some(near) => format!(" Did you mean `{near}`?"),
            None => String::new(),
        };
        Error::new(Kind::Invalid, format!("Invalid model name passed in model={shown}.{hint} Call `/v1/models` to view the models that your key may use."))
            .at_param("model")
    }
}
