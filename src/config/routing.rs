//! What `[routing]` means.

use super::file::{Alias, File, Json};
use crate::route::{self, Affinity, Class, Deployment, Fallback, Fallbacks, Policy, Queueing, Settings, TagMatch};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// How old a background check may be and still count, where it does not say: three of its intervals.
const TRUST: u32 = 3;

/// Gives the written settings their meaning; names that lead nowhere are warnings.
pub fn resolve(
    file: &File,
    deployments: &[Arc<Deployment>],
    interval: Option<Duration>,
    errors: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Settings {
    let written = &file.routing;
    let normal = Settings::default();
    let mut group_retry_policy = HashMap::new();
    for (group, policy_of) in &written.model_group_retry_policy {
        let at = format!("routing.model_group_retry_policy.{group}");
        group_retry_policy.insert(group.clone(), policy(&at, policy_of, "Retries", errors));
    }
    let mut lists = |name: &str, map: &BTreeMap<String, Vec<Json>>| -> HashMap<String, Vec<Fallback>> {
        let list = |(model, list): (&String, &Vec<Json>)| {
            (model.clone(), fallbacks(&format!("routing.{name}.{model}"), list, errors))
        };
        map.iter().map(list).collect()
    };
    let fallbacks = Fallbacks {
        general: lists("fallbacks", &written.fallbacks),
        window: lists("context_window_fallbacks", &written.context_window_fallbacks),
        policy: lists("content_policy_fallbacks", &written.content_policy_fallbacks),
        default: fallbacks("routing.default_fallbacks", &written.default_fallbacks, errors),
        most: written.max_fallbacks.unwrap_or(5).min(32),
    };
    let alias = |(name, alias): (&String, &Alias)| {
        let alias = match alias {
            Alias::To(model) => route::Alias { model: model.clone(), hidden: false },
            Alias::Table { model, hidden } => route::Alias { model: model.clone(), hidden: *hidden },
        };
        (name.clone(), alias)
    };
    let aliases: HashMap<String, route::Alias> = written.model_group_alias.iter().map(alias).collect();
    let leads = |name: &str| {
        aliases.contains_key(name) || deployments.iter().any(|d| crate::pattern::capture(&d.name, name).is_some())
    };
    let mut lost: Vec<String> = fallbacks.names().filter(|name| !leads(name)).map(str::to_owned).collect();
    lost.sort_unstable();
    lost.dedup();
    warnings.extend(
        lost.into_iter().map(|name| format!("routing: the fallback `{name}` is no model, so it is passed over")),
    );
    for (name, alias) in &aliases {
        if !deployments.iter().any(|d| crate::pattern::capture(&d.name, &alias.model).is_some()) {
            warnings
                .push(format!("routing.model_group_alias: `{name}` stands for `{}`, which is no model", alias.model));
        }
    }
    if written.latency_buffer.is_some_and(|buffer| !(0.0..=100.0).contains(&buffer)) {
        errors.push("routing.latency_buffer: it must be between 0 and 100".to_owned());
    }
    Settings {
        strategy: written.strategy.unwrap_or_default(),
        latency_buffer: written.latency_buffer.unwrap_or(0.0),
        retries: written.num_retries.map(|retries| retries.min(50)),
        retry_policy: policy("routing.retry_policy", &written.retry_policy, "Retries", errors),
        group_retry_policy,
        retry_after: written.retry_after.map_or(normal.retry_after, |d| d.0),
        deadline: written.deadline.map(|d| d.0).filter(|d| !d.is_zero()).unwrap_or(normal.deadline),
        cooldowns: !written.disable_cooldowns,
        cooldown: written.cooldown_time.map_or(normal.cooldown, |d| d.0),
        allowed_fails: written.allowed_fails,
        allowed_fails_policy: policy(
            "routing.allowed_fails_policy",
            &written.allowed_fails_policy,
            "AllowedFails",
            errors,
        ),
        fallbacks,
        aliases,
        pre_call_checks: written.pre_call_checks,
        tags: written.tag_filtering.then_some(match written.tag_filtering_match_any {
            Some(false) => TagMatch::All,
            _ => TagMatch::Any,
        }),
        queue: written.queue.as_ref().map(|queue| Queueing {
            length: queue.length.unwrap_or(100).min(100_000),
            patience: queue.timeout.map_or(Duration::from_secs(60), |d| d.0),
        }),
        affinity: Affinity {
            session: written.session_affinity,
            caller: written.caller_affinity,
            prompt: written.prompt_affinity,
        },
        mock_requests: written.mock_requests,
        trust_health: interval.filter(|_| written.health_check_routing).map(|interval| interval * TRUST),
    }
}

/// `TimeoutErrorRetries = 3`, by LiteLLM's names.
fn policy(at: &str, written: &BTreeMap<String, u32>, end: &str, errors: &mut Vec<String>) -> Policy {
    let mut policy = Policy::default();
    for (name, number) in written {
        let class = Class::ALL.into_iter().find(|class| name.strip_suffix(end) == Some(class.name()));
        match class {
            Some(class) => policy.set(class, *number),
            None => {
                let known: Vec<String> = Class::ALL.iter().map(|class| format!("{}{end}", class.name())).collect();
                let near = crate::pattern::nearest(name, known.iter().map(|name| &**name));
                let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                errors.push(format!("{at}.{name}: it is no sort of failure{hint}"));
            }
        }
    }
    policy
}

fn fallbacks(at: &str, list: &[Json], errors: &mut Vec<String>) -> Vec<Fallback> {
    let read = |(place, value): (usize, &Json)| {
        let fallback = Fallback::read(value);
        if fallback.is_none() {
            errors.push(format!("{at}[{place}]: expected the name of a model, or a table with `model`"));
        }
        fallback
    };
    list.iter().enumerate().filter_map(read).collect()
}
