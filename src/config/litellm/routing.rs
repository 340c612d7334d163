//! `router_settings`, and what of `litellm_settings` is about routing, as `[routing]`.

use super::values::{Report, without_nulls};
use crate::config::file::{Alias, File, Json, Queue};
use crate::route::strategy::Strategy;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Settings that stand in both sections. `router_settings` is read last, and wins.
pub fn shared(file: &mut File, section: &str, settings: &Map<String, Value>, report: &mut Report) {
    let path = |key: &str| format!("{section}.{key}");
    let routing = &mut file.routing;
    let number = |report: &mut Report, key: &str| report.whole(&path(key), settings.get(key));
    if let Some(retries) = number(report, "num_retries") {
        routing.num_retries = Some(retries);
    }
    if let Some(fails) = number(report, "allowed_fails") {
        routing.allowed_fails = Some(fails);
    }
    let mut unnamed = Vec::new();
    for (key, map) in [
        ("fallbacks", &mut routing.fallbacks),
        ("context_window_fallbacks", &mut routing.context_window_fallbacks),
        ("content_policy_fallbacks", &mut routing.content_policy_fallbacks),
    ] {
        let (named, any) = fallbacks(&path(key), settings.get(key), report);
        if !named.is_empty() {
            *map = named;
        }
        unnamed.extend(any);
    }
    let default = report.list(&path("default_fallbacks"), settings.get("default_fallbacks"));
    let default: Vec<Json> = default.iter().filter_map(without_nulls).chain(unnamed).collect();
    if !default.is_empty() {
        routing.default_fallbacks = default;
    }
}

/// `router_settings` alone.
pub fn router(file: &mut File, settings: &Map<String, Value>, report: &mut Report) {
    let path = |key: &str| format!("router_settings.{key}");
    let routing = &mut file.routing;
    if let Some(name) = report.text(&path("routing_strategy"), settings.get("routing_strategy")) {
        match serde_json::from_value::<Strategy>(Value::String(name)) {
            Ok(strategy) => routing.strategy = Some(strategy),
            Err(_) => report.errors.push(
                "router_settings.routing_strategy: expected one of simple-shuffle, least-busy, usage-based-routing, usage-based-routing-v2, latency-based-routing, cost-based-routing, peak-ewma".to_owned(),
            ),
        }
    }
    if let Some(arguments) = report.map(&path("routing_strategy_args"), settings.get("routing_strategy_args")) {
        let at = path("routing_strategy_args.lowest_latency_buffer");
        routing.latency_buffer = report.number(&at, arguments.get("lowest_latency_buffer"));
    }
    routing.retry_after = report.seconds(&path("retry_after"), settings.get("retry_after"));
    routing.cooldown_time = report.seconds(&path("cooldown_time"), settings.get("cooldown_time"));
    let flag = |report: &mut Report, key: &str| report.flag(&path(key), settings.get(key));
    routing.disable_cooldowns = flag(report, "disable_cooldowns") == Some(true);
    routing.pre_call_checks = flag(report, "enable_pre_call_checks") == Some(true);
    routing.tag_filtering = flag(report, "enable_tag_filtering") == Some(true);
    routing.tag_filtering_match_any = flag(report, "tag_filtering_match_any");
    routing.health_check_routing = flag(report, "enable_health_check_routing") == Some(true);
    routing.retry_policy = numbers(&path("retry_policy"), settings.get("retry_policy"), report);
    routing.allowed_fails_policy = numbers(&path("allowed_fails_policy"), settings.get("allowed_fails_policy"), report);
    if let Some(groups) = report.map(&path("model_group_retry_policy"), settings.get("model_group_retry_policy")) {
        for (group, policy) in groups {
            let at = format!("router_settings.model_group_retry_policy.{}", super::shown(group));
            routing.model_group_retry_policy.insert(group.clone(), numbers(&at, Some(policy), report));
        }
    }
    routing.max_fallbacks =
        report.whole(&path("max_fallbacks"), settings.get("max_fallbacks")).map(|most| most as usize);
    let slots = "default_max_parallel_requests";
    routing.max_parallel_requests = report.whole(&path(slots), settings.get(slots)).filter(|slots| *slots > 0);
    if let Some(aliases) = report.map(&path("model_group_alias"), settings.get("model_group_alias")) {
        for (name, value) in aliases {
            let at = format!("router_settings.model_group_alias.{}", super::shown(name));
            let alias = match value {
                Value::Object(table) => report.text(&format!("{at}.model"), table.get("model")).map(|model| {
                    let hidden = report.flag(&format!("{at}.hidden"), table.get("hidden")) == Some(true);
                    Alias::Table { model, hidden }
                }),
                other => report.text(&at, Some(other)).map(Alias::To),
            };
            routing.model_group_alias.extend(alias.map(|alias| (name.clone(), alias)));
        }
    }
    for check in report.texts(&path("optional_pre_call_checks"), settings.get("optional_pre_call_checks")) {
        match check.as_str() {
            "prompt_caching" => routing.prompt_affinity = true,
            "deployment_affinity" => routing.caller_affinity = true,
            "session_affinity" => routing.session_affinity = true,
            "enforce_model_rate_limits" => routing.pre_call_checks = true,
            // Budgets of providers and deployments hold without being asked to.
            "router_budget_limiting" => (),
            // Answers of a deployment are asked of it again by whoever keeps them.
            "responses_api_deployment_check" | "encrypted_content_affinity" => (),
            other => report.note(
                path("optional_pre_call_checks"),
                format!("the check `{}` is not served yet", super::shown(other)),
            ),
        }
    }
    if settings.get("default_priority").is_some_and(|priority| !priority.is_null()) {
        // LiteLLM's scheduler has a queue without an end; calls that say their priority wait in ours.
        routing.queue.get_or_insert_with(Queue::default);
    }
}

/// LiteLLM's list of maps from a name to names, or of `{model_name, fallbacks}`, or of names that hold for any model.
fn fallbacks(at: &str, value: Option<&Value>, report: &mut Report) -> (BTreeMap<String, Vec<Json>>, Vec<Json>) {
    let (mut named, mut any) = (BTreeMap::new(), Vec::new());
    let list = match value {
        // One map for all is understood too.
        Some(map @ Value::Object(_)) => std::slice::from_ref(map),
        other => report.list(at, other),
    };
    for (place, item) in list.iter().enumerate() {
        let at = format!("{at}[{place}]");
        match item {
            Value::String(_) => any.extend(without_nulls(item)),
            Value::Object(map) if map.contains_key("model_name") && map.contains_key("fallbacks") => {
                if let Some(name) = report.text(&format!("{at}.model_name"), map.get("model_name")) {
                    let to = report.list(&format!("{at}.fallbacks"), map.get("fallbacks"));
                    named.insert(name, to.iter().filter_map(without_nulls).collect());
                }
            }
            Value::Object(map) => {
                for (name, to) in map {
                    let to: Vec<Json> = match to {
                        Value::String(_) => vec![to.clone()],
                        to => report.list(&at, Some(to)).iter().filter_map(without_nulls).collect(),
                    };
                    named.insert(name.clone(), to);
                }
            }
            other => report.wrong(&at, other, "a map from a model to its fallbacks"),
        }
    }
    (named, any)
}

fn numbers(at: &str, value: Option<&Value>, report: &mut Report) -> BTreeMap<String, u32> {
    let Some(map) = report.map(at, value) else { return BTreeMap::new() };
    let number = |(name, value): (&String, &Value)| {
        let number = report.whole(&format!("{at}.{}", super::shown(name)), Some(value))?;
        Some((name.clone(), number))
    };
    map.iter().filter_map(number).collect()
}
