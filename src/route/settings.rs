//! `[routing]`, as it is meant: how deployments are chosen, and what is done where they fail.

use super::pulse::Class;
use super::strategy::Strategy;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::time::Duration;

/// How calls are routed.
#[derive(Debug, Clone)]
pub struct Settings {
    pub strategy: Strategy,
    /// The share of the lowest latency that others may be slower by.
    pub latency_buffer: f64,
    /// Attempts behind the first one in each group. `None`: each deployment once.
    pub retries: Option<u32>,
    pub retry_policy: Policy,
    pub group_retry_policy: HashMap<String, Policy>,
    /// Between two attempts at one deployment at least.
    pub retry_after: Duration,
    /// All attempts of a call together.
    pub deadline: Duration,
    pub cooldowns: bool,
    pub cooldown: Duration,
    /// Failures in a minute before a deployment cools down.
    pub allowed_fails: Option<u32>,
    pub allowed_fails_policy: Policy,
    pub fallbacks: Fallbacks,
    pub aliases: HashMap<String, Alias>,
    /// Deployments whose window is too small, or that would be above their rates, are not asked.
    pub pre_call_checks: bool,
    /// Calls with tags go to deployments with tags.
    pub tags: Option<TagMatch>,
    /// Calls wait for a free deployment.
    pub queue: Option<Queueing>,
    pub affinity: Affinity,
    /// Calls may ask for what is made up.
    pub mock_requests: bool,
    /// Deployments that the last check found ill are not asked, if it is not older than this.
    pub trust_health: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            strategy: Strategy::default(),
            latency_buffer: 0.0,
            retries: None,
            retry_policy: Policy::default(),
            group_retry_policy: HashMap::new(),
            retry_after: Duration::ZERO,
            deadline: Duration::from_secs(600),
            cooldowns: true,
            cooldown: Duration::from_secs(5),
            allowed_fails: None,
            allowed_fails_policy: Policy::default(),
            fallbacks: Fallbacks::default(),
            aliases: HashMap::new(),
            pre_call_checks: false,
            tags: None,
            queue: None,
            affinity: Affinity::default(),
            mock_requests: false,
            trust_health: None,
        }
    }
}

/// A number for some sorts of failures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy([Option<u32>; 6]);

impl Policy {
    pub fn set(&mut self, class: Class, number: u32) {
        self.0[class as usize] = Some(number);
    }

    pub fn get(&self, class: Class) -> Option<u32> {
        self.0[class as usize]
    }
}

/// Another name for a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    pub model: String,
    /// It is not listed.
    pub hidden: bool,
}

/// How the tags of a call and those of a deployment have to meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagMatch {
    Any,
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queueing {
    /// Calls that may wait for one model.
    pub length: usize,
    /// How long each may wait.
    pub patience: Duration,
}

/// Calls that belong together go to the same deployment while it can be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Affinity {
    /// By the session that the call names.
    pub session: bool,
    /// By who calls.
    pub caller: bool,
    /// By the beginning of the prompt, where the call marks it for caching.
    pub prompt: bool,
}

impl Affinity {
    pub fn is_off(self) -> bool {
        self == Affinity::default()
    }
}

/// What is tried where a model fails as a whole.
#[derive(Debug, Clone, Default)]
pub struct Fallbacks {
    /// By the model that failed; `*` is any.
    pub general: HashMap<String, Vec<Fallback>>,
    /// Where the prompt was too long.
    pub window: HashMap<String, Vec<Fallback>>,
    /// Where the content was refused.
    pub policy: HashMap<String, Vec<Fallback>>,
    /// For any model that none of the above names.
    pub default: Vec<Fallback>,
    /// No call tries more than so many.
    pub most: usize,
}

/// A model to go over to, and what is to be different in the request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fallback {
    pub model: String,
    pub set: Map<String, Value>,
}

impl Fallback {
    pub fn to(model: impl Into<String>) -> Self {
        Fallback { model: model.into(), set: Map::new() }
    }

    /// A name, or LiteLLM's object of `model` and other members of a request.
    pub fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(model) if !model.is_empty() => Some(Fallback::to(model.clone())),
            Value::Object(map) => {
                let model = map.get("model").or_else(|| map.get("model_name"))?.as_str()?.to_owned();
                let set = map.iter().filter(|(name, _)| !matches!(name.as_str(), "model" | "model_name"));
                Some(Fallback { model, set: set.map(|(name, value)| (name.clone(), value.clone())).collect() })
            }
            _ => None,
        }
    }
}

/// Which list of fallbacks a failure asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    Window,
    Policy,
    Other,
}

impl Fallbacks {
    /// What is tried for this model.
    pub fn of(&self, model: &str, because: Because) -> &[Fallback] {
        let special = match because {
            Because::Window => Some(&self.window),
            Because::Policy => Some(&self.policy),
            Because::Other => None,
        };
        let of_special = special.and_then(|map| map.get(model).or_else(|| map.get("*")));
        let general = || self.general.get(model).or_else(|| self.general.get("*"));
        of_special.or_else(general).unwrap_or(&self.default)
    }

    /// All names that are gone over to, with what asks for them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let maps = [&self.general, &self.window, &self.policy];
        let of_maps = maps.into_iter().flat_map(|map| map.values()).flatten();
        of_maps.chain(&self.default).map(|fallback| fallback.model.as_str())
    }

    pub fn is_empty(&self) -> bool {
        self.general.is_empty() && self.window.is_empty() && self.policy.is_empty() && self.default.is_empty()
    }
}

/// What a deployment says of its own share.
#[derive(Debug, Clone, Default)]
pub struct Own {
    pub weight: Option<f64>,
    /// Lower numbers go first.
    pub order: i64,
    /// Weights, and limits where the strategy or a check makes them so.
    pub rpm: Option<u64>,
    pub tpm: Option<u64>,
    /// Calls at the same time; [`crate::limits`] may admit fewer.
    pub slots: Option<u32>,
    pub tags: Vec<String>,
    pub retries: Option<u32>,
    pub cooldown: Option<Duration>,
    /// Where it stands, such as `eu`.
    pub region: Option<String>,
}
