//! From the model that a caller names to the deployment that serves the call.
//!
//! Exact names first, then patterns, the most specific one first. Deployments of one name are served in turn; where one
//! fails, the others are tried.

mod pricing;

use crate::error::{Error, Kind, Origin, Result};
use crate::pattern;
use crate::price::{self, Prices};
use crate::provider::{Dialect, Endpoint, Path, Provider, Shape};
use actix_web::http::Uri;
use actix_web::http::header::{HeaderName, HeaderValue};
pub use pricing::{Known, Pricing, Tariff};
use secrecy::SecretString;
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

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
    /// Attempts and answers under way.
    pub in_flight: AtomicUsize,
    /// Request headers beside the key.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub shape: Shape,
    pub labels: Labels,
    pub pricing: Pricing,
    /// That the price is not known was said.
    pub unpriced: AtomicBool,
    /// Facts for `/model/info`.
    pub info: serde_json::Map<String, serde_json::Value>,
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
    /// What the query of every call holds, such as `api-version=2024-10-21`; or nothing.
    pub query: String,
}

impl Place {
    /// The URL of a call.
    pub fn url(&self, dialect: Dialect, endpoint: Endpoint, model: &str) -> String {
        let path = self.path.unwrap_or(dialect.path).write(dialect.language, endpoint, model);
        let sign = match (self.query.is_empty(), path.contains('?')) {
            (true, _) => "",
            (_, true) => "&",
            (_, false) => "?",
        };
        format!("{}/{path}{sign}{}", self.base, self.query)
    }

    /// Whether there is a URL for each model.
    pub fn names_model(&self, dialect: Dialect) -> bool {
        self.path.unwrap_or(dialect.path).names_model(dialect.language)
    }
}

/// Response header values of a deployment.
#[derive(Debug)]
pub struct Labels {
    pub id: HeaderValue,
    pub group: HeaderValue,
    pub api_base: HeaderValue,
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
}

impl Target {
    /// The deployment, under this upstream name.
    pub fn named(deployment: Arc<Deployment>, model: String) -> Self {
        Target { deployment, named: Some(model) }
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
        self.deployment.provider.dialect(self.model())
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

/// Where a call may go: the deployments behind the name that was asked for, in an order that is made as they are tried.
#[derive(Debug, Clone)]
pub struct Plan {
    group: Arc<Group>,
    /// The name that was asked for, where that is not the group's own.
    name: Option<String>,
}

impl Plan {
    /// The model as it was asked for.
    pub fn model(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.group.name)
    }

    /// The name that was asked for, as a header value.
    pub fn label(&self) -> HeaderValue {
        let own = || self.group.deployments.first().map(|d| d.labels.group.clone());
        let asked = self.name.as_deref().and_then(|name| HeaderValue::from_str(name).ok());
        asked.or_else(own).unwrap_or(HeaderValue::from_static(""))
    }

    /// The next one to try: deployments that can be called first, those of `tried` (by their index) never.
    pub fn next(&self, tried: &[usize]) -> Option<Target> {
        let group = &*self.group;
        let turn = match tried {
            [] => group.next.fetch_add(1, Ordering::Relaxed),
            _ => group.next.load(Ordering::Relaxed),
        };
        let count = group.deployments.len();
        let in_turn = || (0..count).map(|i| &group.deployments[(turn + i) % count]);
        let untried = || in_turn().filter(|d| !tried.contains(&d.index));
        let deployment = untried().find(|d| d.unserved.is_none()).or_else(|| untried().next())?;
        Some(self.to(deployment))
    }

    fn to(&self, deployment: &Arc<Deployment>) -> Target {
        let captured = self.name.as_deref().and_then(|name| pattern::capture(&self.group.name, name));
        let named = captured.filter(|_| deployment.model.contains('*')).map(|captured| {
            // `*` -> `openai/*` is asked for `openai/gpt-x` as well as for `gpt-x`.
            let bare = captured
                .strip_prefix(deployment.provider.name)
                .and_then(|rest| rest.strip_prefix('/'))
                .unwrap_or(captured);
            pattern::fill(&deployment.model, bare)
        });
        Target { deployment: deployment.clone(), named }
    }
}

/// All names and what they lead to.
#[derive(Debug, Default)]
pub struct Routes {
    pub deployments: Vec<Arc<Deployment>>,
    exact: HashMap<String, Arc<Group>>,
    patterns: Vec<Arc<Group>>,
}

/// The deployments of one public name.
#[derive(Debug)]
struct Group {
    name: String,
    deployments: Vec<Arc<Deployment>>,
    next: AtomicUsize,
}

impl Routes {
    pub fn new(deployments: Vec<Arc<Deployment>>) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for deployment in &deployments {
            let name = &*deployment.name;
            let place = *places.entry(name).or_insert_with(|| {
                groups.push(Group { name: name.to_owned(), deployments: Vec::new(), next: AtomicUsize::new(0) });
                groups.len() - 1
            });
            groups[place].deployments.push(deployment.clone());
        }
        let mut routes = Routes::default();
        for group in groups.into_iter().map(Arc::new) {
            match group.name.contains('*') {
                true => routes.patterns.push(group),
                false => drop(routes.exact.insert(group.name.clone(), group)),
            }
        }
        routes.patterns.sort_by_key(|g| std::cmp::Reverse(g.name.len()));
        routes.deployments = deployments;
        routes
    }

    /// Where a call for this name may go.
    ///
    /// # Errors
    /// 400 for a name that leads nowhere, with the nearest one that does.
    pub fn plan(&self, model: &str) -> Result<Plan> {
        let (group, captured) = self.find(model).ok_or_else(|| self.unknown(model))?;
        Ok(Plan { group: group.clone(), name: captured.map(|_| model.to_owned()) })
    }

    /// The deployment that a call for this name would go to next.
    ///
    /// # Errors
    /// As [`Routes::plan`]; 501 or 401 for deployments that cannot be called.
    pub fn target(&self, model: &str) -> Result<Target> {
        let target = self.plan(model)?.next(&[]).ok_or_else(|| self.unknown(model))?;
        match &target.deployment.unserved {
            Some(why) => Err(why.clone()),
            None => Ok(target),
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

    /// The provider of the model of that name.
    pub fn owner(&self, name: &str) -> Option<&'static str> {
        self.find(name).and_then(|(group, _)| group.deployments.first()).map(|d| d.provider.name)
    }

    /// Every public name once, wildcards as the chat models that the price tables know behind them; those that nothing
    /// is known of stand as written. `wildcards` shows all of them as written too.
    pub fn expanded_names(&self, prices: &Prices, wildcards: bool) -> Vec<Cow<'_, str>> {
        let mut seen = std::collections::HashSet::new();
        let mut names: Vec<Cow<'_, str>> = Vec::new();
        for deployment in &self.deployments {
            let name = &*deployment.name;
            let mut found: Vec<Cow<'_, str>> = Vec::new();
            if name.contains('*') {
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
        names
    }

    /// Every public name once, in the order of the configuration.
    pub fn names(&self) -> Vec<&str> {
        let mut seen = std::collections::HashSet::new();
        self.deployments.iter().map(|d| d.name.as_str()).filter(|name| seen.insert(*name)).collect()
    }

    fn find<'a>(&self, model: &'a str) -> Option<(&Arc<Group>, Option<&'a str>)> {
        if let Some(group) = self.exact.get(model) {
            return Some((group, None));
        }
        self.patterns.iter().find_map(|group| Some((group, Some(pattern::capture(&group.name, model)?))))
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
