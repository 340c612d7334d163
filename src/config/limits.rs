//! `[limits]`: limits of the whole gateway, and how all others are enforced.

use super::file::limits::{Counting, Limits as Written, Mode, Own};
use super::redis::{self, Redis};
use super::{Mode as Reading, look_up};
use crate::limits::calendar;
use crate::limits::terms::{Cap, Terms};
use crate::secret::Secrets;
use actix_web::http::StatusCode;
use jiff::tz::TimeZone;
use secrecy::SecretString;
use std::collections::HashMap;

/// How limits are enforced, and those that are nobody's own.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Budgets are not exceeded at all, unless a key says otherwise.
    pub strict: bool,
    /// What a spent budget is answered with.
    pub over_budget: StatusCode,
    /// Where midnight is.
    pub zone: TimeZone,
    /// Which tokens count.
    pub counted: Counted,
    /// Of all calls together.
    pub gateway: Terms,
    /// Calls of a key at the same time, where the key itself does not say.
    pub key_parallel: Option<u64>,
    /// Of each end user of whom nothing else is said.
    pub customer: Terms,
    /// By the id of the deployment.
    pub deployments: HashMap<String, Terms>,
    /// By the name of the provider.
    pub providers: HashMap<String, Terms>,
    /// By tag; they win over what is stored.
    pub tags: HashMap<String, Terms>,
    /// Told when a soft budget is reached.
    pub webhook: Option<SecretString>,
    /// Where several gateways count rates together.
    pub redis: Option<Redis>,
}

impl Limits {
    /// Whether any deployment or provider has limits.
    pub fn has_targets(&self) -> bool {
        !self.deployments.is_empty() || !self.providers.is_empty()
    }
}

/// The tokens that a limit of tokens is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Counted {
    #[default]
    Total,
    Input,
    Output,
}

pub(super) fn resolve(written: &Written, secrets: &Secrets, mode: Reading, errors: &mut Vec<String>) -> Limits {
    let zone = written.timezone.as_deref().unwrap_or("UTC");
    let zone = TimeZone::get(zone).unwrap_or_else(|_| {
        errors.push(format!("limits.timezone: there is no time zone `{zone}`; write one such as `Europe/Berlin`"));
        TimeZone::UTC
    });
    let over_budget = match written.budget_status.unwrap_or(422) {
        422 => StatusCode::UNPROCESSABLE_ENTITY,
        429 => StatusCode::TOO_MANY_REQUESTS,
        400 => StatusCode::BAD_REQUEST,
        other => {
            errors.push(format!("limits.budget_status: {other} is none of 422, 429 and 400"));
            StatusCode::UNPROCESSABLE_ENTITY
        }
    };
    let mut caps = Vec::new();
    if written.max_budget.is_some() || written.soft_budget.is_some() {
        caps.push(Cap {
            max_nanos: nanos("limits.max_budget", written.max_budget, errors),
            soft_nanos: nanos("limits.soft_budget", written.soft_budget, errors),
            span: length("limits.budget_duration", written.budget_duration.as_deref(), errors),
        });
    }
    for (place, window) in written.budget_limits.iter().enumerate() {
        let at = |name: &str| format!("limits.budget_limits[{place}].{name}");
        caps.push(Cap {
            max_nanos: nanos(&at("max_budget"), Some(window.max_budget), errors),
            soft_nanos: None,
            span: length(&at("budget_duration"), window.budget_duration.as_deref(), errors),
        });
    }
    let customer = Own {
        max_budget: written.end_user_max_budget,
        budget_duration: written.end_user_budget_duration.clone(),
        ..Own::default()
    };
    let mut providers = HashMap::new();
    for (name, own) in &written.providers {
        providers.insert(name.clone(), terms(&format!("limits.providers.{name}"), own, errors));
    }
    let tag = |(name, own): (&String, &Own)| (name.clone(), terms(&format!("limits.tags.{name}"), own, errors));
    let tags = written.tags.iter().map(tag).collect();
    let mut find = |name: &str, text: Option<&crate::secret::Written>| {
        let text = text?;
        let found = look_up(text, secrets);
        if let (None, Some(variable), Reading::Live) = (&found, text.reference(), mode) {
            errors
                .push(format!("limits.{name}: the variable {variable} is not set in the env file or the environment"));
        }
        found
    };
    let webhook = find("webhook", written.webhook.as_ref());
    let redis = redis::resolve(written, secrets, mode, errors);
    Limits {
        customer: terms("limits.end_user", &customer, errors),
        deployments: HashMap::new(),
        providers,
        tags,
        webhook,
        redis,
        strict: written.budget_mode == Some(Mode::Strict),
        over_budget,
        zone,
        counted: match written.tokens_counted {
            None | Some(Counting::Total) => Counted::Total,
            Some(Counting::Input) => Counted::Input,
            Some(Counting::Output) => Counted::Output,
        },
        gateway: Terms { requests: written.rpm, tokens: written.tpm, parallel: written.max_parallel_requests, caps },
        key_parallel: written.key_max_parallel_requests,
    }
}

/// The limits of a deployment, a provider, or a tag.
pub(super) fn terms(at: &str, own: &Own, errors: &mut Vec<String>) -> Terms {
    let mut caps = Vec::new();
    if own.max_budget.is_some() || own.soft_budget.is_some() {
        caps.push(Cap {
            max_nanos: nanos(&format!("{at}.max_budget"), own.max_budget, errors),
            soft_nanos: nanos(&format!("{at}.soft_budget"), own.soft_budget, errors),
            span: length(&format!("{at}.budget_duration"), own.budget_duration.as_deref(), errors),
        });
    }
    Terms { requests: own.rpm, tokens: own.tpm, parallel: own.max_parallel_requests, caps }
}

/// Dollars as nano-dollars.
fn nanos(name: &str, usd: Option<f64>, errors: &mut Vec<String>) -> Option<i64> {
    let usd = usd?;
    if !(0.0..=1e9).contains(&usd) {
        errors.push(format!("{name}: {usd} is no amount of dollars from 0 to 1e9"));
        return None;
    }
    Some((usd * 1e9).round() as i64)
}

fn length(name: &str, span: Option<&str>, errors: &mut Vec<String>) -> Option<String> {
    let span = span?;
    if !calendar::is_length(span) {
        errors.push(format!(
            "{name}: `{span}` is no length of time; write a number and s, m, h, d, w or mo, such as `30d`"
        ));
    }
    Some(span.to_owned())
}
