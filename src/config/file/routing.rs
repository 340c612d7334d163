//! `[routing]`, as it is written.

use super::{Duration, Json, is_false};
use crate::route::strategy::Strategy;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `[routing]`: how deployments are chosen, and what is done where they fail.
#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Routing {
    /// Default `simple-shuffle`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Under latency-based routing: the share of the lowest latency that others may be slower by. Default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_buffer: Option<f64>,
    /// Attempts behind the first one. Default: each deployment of the name once, none of them twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_retries: Option<u32>,
    /// The least time between two rounds of attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
    /// All attempts of a call together. Default `"600s"`, or the timeout of one attempt if that is longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// `num_retries` by sort of failure, such as `TimeoutErrorRetries`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub retry_policy: BTreeMap<String, u32>,
    /// The same for single models.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub model_group_retry_policy: BTreeMap<String, BTreeMap<String, u32>>,
    /// Failing deployments are asked as often as others.
    #[serde(skip_serializing_if = "is_false")]
    pub disable_cooldowns: bool,
    /// How long a failing deployment is left alone, where it does not say itself. Default `"5s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown_time: Option<Duration>,
    /// Failures in a minute before a deployment is left alone. Default: a refusal, or more than half of its calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_fails: Option<u32>,
    /// `allowed_fails` by sort of failure, such as `RateLimitErrorAllowedFails`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub allowed_fails_policy: BTreeMap<String, u32>,
    /// The models that are tried where one fails, each a name or a table of `model` and members of the request; `"*"` is
    /// any model.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fallbacks: BTreeMap<String, Vec<Json>>,
    /// The same where the prompt is too long.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub context_window_fallbacks: BTreeMap<String, Vec<Json>>,
    /// The same where the provider refuses the content.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub content_policy_fallbacks: BTreeMap<String, Vec<Json>>,
    /// For models that none of these names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub default_fallbacks: Vec<Json>,
    /// The most models that a call goes over to. Default 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_fallbacks: Option<usize>,
    /// Other names for models.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub model_group_alias: BTreeMap<String, Alias>,
    /// Deployments are passed over whose window is too small for the prompt, that stand in another region than the call
    /// allows, or that would be above their rpm and tpm.
    #[serde(skip_serializing_if = "is_false")]
    pub pre_call_checks: bool,
    /// Calls with tags go to deployments with tags.
    #[serde(skip_serializing_if = "is_false")]
    pub tag_filtering: bool,
    /// One tag in common is enough. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag_filtering_match_any: Option<bool>,
    /// Calls of a session go to the same deployment.
    #[serde(skip_serializing_if = "is_false")]
    pub session_affinity: bool,
    /// Calls of a key go to the same deployment.
    #[serde(skip_serializing_if = "is_false")]
    pub caller_affinity: bool,
    /// Calls whose prompt is marked for caching go where its beginning was sent before.
    #[serde(skip_serializing_if = "is_false")]
    pub prompt_affinity: bool,
    /// Calls at the same time of each deployment that does not say itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel_requests: Option<u32>,
    /// Deployments that the last background check found ill are passed over.
    #[serde(skip_serializing_if = "is_false")]
    pub health_check_routing: bool,
    /// Requests may ask for answers, failures and delays that are made up.
    #[serde(skip_serializing_if = "is_false")]
    pub mock_requests: bool,
    /// Calls wait for a busy deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
}

/// `[routing.queue]`
#[derive(Debug, Default, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Calls that may wait for one model. Default 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
    /// How long a call may wait. Default `"60s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

/// A name, or a table.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Alias {
    To(String),
    Table {
        model: String,
        #[serde(default, skip_serializing_if = "is_false")]
        hidden: bool,
    },
}
