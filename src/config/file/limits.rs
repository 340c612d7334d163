//! `[limits]`, as it is written.

use crate::secret::Written;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `[limits]`: limits of the whole gateway, and how all limits are enforced.
#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// `compatible` (default) or `strict`; a key may have its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_mode: Option<Mode>,
    /// The status for a spent budget: 422 (default), 429 or 400.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_status: Option<u16>,
    /// Where the days of budgets begin, such as `Europe/Berlin`. Default `UTC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Which tokens limits of tokens count: `total` (default), `input` or `output`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_counted: Option<Counting>,
    /// Requests in a minute, of all callers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpm: Option<u64>,
    /// Tokens in a minute, of all callers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpm: Option<u64>,
    /// Calls at the same time, of all callers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel_requests: Option<u64>,
    /// Calls of a key at the same time, where the key itself does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_max_parallel_requests: Option<u64>,
    /// Dollars for all calls together, in each `budget_duration`, or ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_budget: Option<f64>,
    /// Above so many dollars something is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_budget: Option<f64>,
    /// `30s`, `30m`, `30h`, `30d`, `1w`, `1mo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_duration: Option<String>,
    /// Dollars for each end user, where nothing else is said of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_user_max_budget: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_user_budget_duration: Option<String>,
    /// Limits by provider, of all its models together.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub providers: BTreeMap<String, Own>,
    /// Limits of calls that carry a tag, by tag.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, Own>,
    /// Told by a POST when a soft budget is reached: an address, or better `env:NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Written>,
    /// Redis or Valkey, where several gateways count rates together: `redis://...`, `rediss://...` for TLS,
    /// `unix:///...`, or `env:NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<Written>,
    /// The same by its parts, where there is no address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_host: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_port: Option<Port>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_username: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_password: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_db: Option<u32>,
    /// TLS to `redis_host`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub redis_tls: bool,
    /// Certificates that are trusted there in the place of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_ca_file: Option<PathBuf>,
    /// More budgets, all of which hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub budget_limits: Vec<Window>,
}

/// Limits of a deployment, a provider, or a tag.
#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Own {
    /// Requests in a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpm: Option<u64>,
    /// Tokens in a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpm: Option<u64>,
    /// Calls at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel_requests: Option<u64>,
    /// Dollars, in each `budget_duration`, or ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_budget: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_budget: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_duration: Option<String>,
}

/// A number, or where it is found.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected a port from 0 to 65535, or where one is found, such as `env:REDIS_PORT`")]
pub enum Port {
    Number(u16),
    Reference(Written),
}

/// A budget with its own windows.
#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    pub max_budget: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_duration: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Calls are admitted while something is left.
    Compatible,
    /// A call is admitted if the most that it may cost is left.
    Strict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Counting {
    Total,
    Input,
    Output,
}
