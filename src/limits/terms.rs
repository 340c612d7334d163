//! What somebody's limits are, wherever they are written.

use super::calendar;
use crate::store::{Budget, Customer, Member, Organization, Tag, Team, User};
use serde_json::Value;

/// The limits of one owner; what is none is no limit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Terms {
    /// Requests in a minute.
    pub requests: Option<u64>,
    /// Tokens in a minute.
    pub tokens: Option<u64>,
    /// Calls at the same time.
    pub parallel: Option<u64>,
    pub caps: Vec<Cap>,
}

/// A budget, over the whole life or in each window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cap {
    /// None where there is a soft budget alone.
    pub max_nanos: Option<i64>,
    /// Above it something is said, and nobody refused.
    pub soft_nanos: Option<i64>,
    /// The length of its windows.
    pub span: Option<String>,
}

impl Terms {
    pub fn is_empty(&self) -> bool {
        *self == Terms::default()
    }
}

/// The fields that records of all sorts have alike.
#[derive(Default)]
pub struct Fields<'a> {
    pub requests: Option<i64>,
    pub tokens: Option<i64>,
    pub parallel: Option<i64>,
    pub max_nanos: Option<i64>,
    pub soft_nanos: Option<i64>,
    pub span: Option<&'a str>,
    pub windows: Option<&'a Value>,
}

impl<'a> Fields<'a> {
    /// What the owner's own fields leave open is said by the budget that it names, as in LiteLLM.
    pub fn or(self, budget: Option<&'a Budget>) -> Fields<'a> {
        let Some(budget) = budget else { return self };
        Fields {
            requests: self.requests.or(budget.rpm_limit),
            tokens: self.tokens.or(budget.tpm_limit),
            parallel: self.parallel.or(budget.max_parallel_requests),
            max_nanos: self.max_nanos.or(budget.max_budget_nanos),
            soft_nanos: self.soft_nanos.or(budget.soft_budget_nanos),
            span: self.span.or(budget.budget_duration.as_deref()),
            windows: self.windows,
        }
    }

    pub fn terms(self) -> Terms {
        let count = |number: Option<i64>| number.and_then(|n| u64::try_from(n).ok());
        let mut caps = Vec::new();
        if self.max_nanos.is_some() || self.soft_nanos.is_some() {
            let span = self.span.map(str::to_owned);
            caps.push(Cap { max_nanos: self.max_nanos, soft_nanos: self.soft_nanos, span });
        }
        caps.extend(self.windows.into_iter().flat_map(windows));
        Terms { requests: count(self.requests), tokens: count(self.tokens), parallel: count(self.parallel), caps }
    }
}

/// `budget_limits`: a list of `{"budget_duration": "24h", "max_budget": 10}`, all of which hold.
pub fn windows(list: &Value) -> impl Iterator<Item = Cap> {
    list.as_array().into_iter().flatten().filter_map(|one| {
        let span = SPANS.iter().find_map(|name| one[*name].as_str());
        let max = AMOUNTS.iter().find_map(|name| usd(&one[*name]))?;
        Some(Cap { max_nanos: Some(max), soft_nanos: None, span: span.map(str::to_owned) })
    })
}

/// A model's part of `model_max_budget`: `{"gpt-4o": {"budget_limit": 0.5, "time_period": "1d"}}`, or a plain number.
pub fn of_model(models: &Value, model: &str) -> Option<Cap> {
    let one = models.get(model)?;
    if let Some(max) = usd(one) {
        return Some(Cap { max_nanos: Some(max), soft_nanos: None, span: None });
    }
    windows(&Value::Array(vec![one.clone()])).next()
}

/// The budget of a model in the first of these maps that has one for it.
pub fn cap_of_model(maps: [Option<&Value>; 2], model: &str) -> Vec<Cap> {
    maps.into_iter().flatten().find_map(|models| of_model(models, model)).into_iter().collect()
}

/// Whether a member that holds limits can be read: what cannot would limit nobody, and nobody would be told.
///
/// # Errors
/// What is wrong, for whoever wrote it.
pub fn check(name: &str, value: &Value) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    match name {
        "budget_limits" => match value {
            Value::Array(list) => list.iter().try_for_each(|one| check_window(one, name)),
            // An empty map is what a column without a list holds.
            Value::Object(map) if map.is_empty() => Ok(()),
            _ => Err(format!(
                "'{name}' must be a list of budgets: [{{\"max_budget\": 10, \"budget_duration\": \"1d\"}}]."
            )),
        },
        "model_max_budget" => each(name, value, |one| match one {
            Value::Object(members) if !members.is_empty() && !has_amount(one) => {
                let rates = ["rpm_limit", "tpm_limit"];
                match members.iter().all(|(member, value)| rates.contains(&member.as_str()) && count(value).is_some()) {
                    true => Ok(()),
                    false => check_window(one, name),
                }
            }
            Value::Object(_) => check_window(one, name),
            amount if usd(amount).is_some() => Ok(()),
            _ => Err(format!(
                "Each value of '{name}' must be an amount of dollars, or a budget: {{\"budget_limit\": 10, \"time_period\": \"1d\"}}."
            )),
        }),
        "model_rpm_limit" | "model_tpm_limit" => each(name, value, |one| match count(one) {
            Some(_) => Ok(()),
            None => Err(format!("Each value of '{name}' must be a whole number that is not negative.")),
        }),
        _ => Ok(()),
    }
}

fn each(name: &str, value: &Value, check: impl Fn(&Value) -> Result<(), String>) -> Result<(), String> {
    let Value::Object(map) = value else { return Err(format!("'{name}' must be an object, by the name of a model.")) };
    map.values().filter(|one| !one.is_null()).try_for_each(check)
}

fn has_amount(one: &Value) -> bool {
    AMOUNTS.iter().any(|name| !one[*name].is_null())
}

fn check_window(one: &Value, name: &str) -> Result<(), String> {
    if !AMOUNTS.iter().any(|amount| usd(&one[*amount]).is_some()) {
        return Err(format!("A budget of '{name}' needs 'max_budget', an amount of dollars from 0 to 1e9."));
    }
    let span = SPANS.iter().map(|span| &one[*span]).find(|span| !span.is_null());
    match span.map(|span| span.as_str().is_some_and(calendar::is_length)) {
        Some(false) => Err(format!(
            "The length of a budget of '{name}' must be a number and s, m, h, d, w or mo, such as \"30d\"."
        )),
        _ => Ok(()),
    }
}

/// A whole number, or a text of one.
pub fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// Both of LiteLLM's names for each.
const AMOUNTS: [&str; 2] = ["max_budget", "budget_limit"];
const SPANS: [&str; 2] = ["budget_duration", "time_period"];

/// Dollars, as a number or as LiteLLM's examples have them, a text.
fn usd(value: &Value) -> Option<i64> {
    let usd = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (0.0..=1e9).contains(&usd).then(|| (usd * 1e9).round() as i64)
}

pub fn of_user(user: &User, budget: Option<&Budget>) -> Terms {
    Fields {
        requests: user.rpm_limit,
        tokens: user.tpm_limit,
        parallel: user.max_parallel_requests,
        max_nanos: user.max_budget_nanos,
        soft_nanos: user.soft_budget_nanos,
        span: user.budget_duration.as_deref(),
        windows: Some(&user.budget_limits),
    }
    .or(budget)
    .terms()
}

pub fn of_team(team: &Team, budget: Option<&Budget>) -> Terms {
    Fields {
        requests: team.rpm_limit,
        tokens: team.tpm_limit,
        parallel: team.max_parallel_requests,
        max_nanos: team.max_budget_nanos,
        soft_nanos: team.soft_budget_nanos,
        span: team.budget_duration.as_deref(),
        windows: Some(&team.budget_limits),
    }
    .or(budget)
    .terms()
}

/// A member's own limits, else those that the team gives each member.
pub fn of_member(member: Option<&Member>, team: &Team, own: Option<&Budget>, usual: Option<&Budget>) -> Terms {
    let fields = member.map(|member| Fields {
        requests: member.rpm_limit,
        tokens: member.tpm_limit,
        max_nanos: member.max_budget_nanos,
        span: member.budget_duration.as_deref(),
        ..Fields::default()
    });
    let fields = fields.unwrap_or_default().or(own);
    Fields {
        requests: fields.requests.or(team.member_rpm_limit),
        tokens: fields.tokens.or(team.member_tpm_limit),
        max_nanos: fields.max_nanos.or(team.member_max_budget_nanos),
        span: fields.span.or(team.member_budget_duration.as_deref()),
        ..fields
    }
    .or(usual)
    .terms()
}

pub fn of_organization(organization: &Organization, budget: Option<&Budget>) -> Terms {
    Fields {
        requests: organization.rpm_limit,
        tokens: organization.tpm_limit,
        parallel: organization.max_parallel_requests,
        max_nanos: organization.max_budget_nanos,
        soft_nanos: organization.soft_budget_nanos,
        span: organization.budget_duration.as_deref(),
        windows: None,
    }
    .or(budget)
    .terms()
}

pub fn of_customer(customer: &Customer, budget: Option<&Budget>) -> Terms {
    Fields {
        requests: customer.rpm_limit,
        tokens: customer.tpm_limit,
        parallel: customer.max_parallel_requests,
        max_nanos: customer.max_budget_nanos,
        soft_nanos: customer.soft_budget_nanos,
        span: customer.budget_duration.as_deref(),
        windows: None,
    }
    .or(budget)
    .terms()
}

pub fn of_tag(tag: &Tag, budget: Option<&Budget>) -> Terms {
    Fields {
        requests: tag.rpm_limit,
        tokens: tag.tpm_limit,
        max_nanos: tag.max_budget_nanos,
        soft_nanos: tag.soft_budget_nanos,
        span: tag.budget_duration.as_deref(),
        ..Fields::default()
    }
    .or(budget)
    .terms()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_would_limit_nobody_is_refused() {
        let good = [
            ("budget_limits", json!([])),
            ("budget_limits", json!([{"max_budget": 1}, {"budget_limit": "2", "time_period": "1mo"}])),
            ("model_max_budget", json!({"a": 1, "b": "0.5", "c": {"budget_limit": 1, "time_period": "1d"}, "d": null})),
            ("model_max_budget", json!({"a": {"max_budget": 1, "rpm_limit": 5}, "b": {"tpm_limit": 5}})),
            ("model_rpm_limit", json!({"a": 5, "b": "6"})),
            ("metadata", json!(5)),
        ];
        for (name, value) in good {
            assert_eq!(check(name, &value), Ok(()), "{value}");
        }
        let bad = [
            ("budget_limits", json!(5)),
            ("budget_limits", json!([5])),
            ("budget_limits", json!([{"max_budget": "much"}])),
            ("budget_limits", json!([{"max_budget": 1, "budget_duration": "1y"}])),
            ("budget_limits", json!([{"max_budget": 1, "budget_duration": 5}])),
            ("model_max_budget", json!({"a": "much"})),
            ("model_max_budget", json!({"a": {"limit": 1}})),
            ("model_max_budget", json!({"a": {}})),
            ("model_max_budget", json!({"a": {"budget_limit": 1, "time_period": "zz"}})),
            ("model_rpm_limit", json!({"a": -4})),
            ("model_tpm_limit", json!(5)),
        ];
        for (name, value) in bad {
            assert!(check(name, &value).is_err(), "{value}");
        }
    }

    #[test]
    fn what_the_owner_leaves_open_its_budget_says() {
        let budget = Budget {
            max_budget_nanos: Some(9),
            rpm_limit: Some(5),
            budget_duration: Some("1d".to_owned()),
            ..Budget::default()
        };
        let user = User { max_budget_nanos: Some(7), tpm_limit: Some(3), ..User::default() };
        let terms = of_user(&user, Some(&budget));
        assert_eq!((terms.requests, terms.tokens), (Some(5), Some(3)));
        assert_eq!(terms.caps, [Cap { max_nanos: Some(7), soft_nanos: None, span: Some("1d".to_owned()) }]);
        assert!(of_user(&User::default(), None).is_empty());
    }

    #[test]
    fn a_member_has_its_own_limits_or_the_usual_ones() {
        let team = Team { member_max_budget_nanos: Some(9), member_rpm_limit: Some(8), ..Team::default() };
        let member = Member { max_budget_nanos: Some(5), ..Member::default() };
        let terms = of_member(Some(&member), &team, None, None);
        assert_eq!((terms.caps[0].max_nanos, terms.requests), (Some(5), Some(8)));
        assert_eq!(of_member(None, &team, None, None).caps[0].max_nanos, Some(9));
    }

    #[test]
    fn budgets_of_models_and_windows_are_read_as_litellm_writes_them() {
        let models = json!({"a": {"budget_limit": "0.5", "time_period": "1d"}, "b": 2, "c": "no"});
        let cap = of_model(&models, "a").unwrap();
        assert_eq!((cap.max_nanos, cap.span.as_deref()), (Some(500_000_000), Some("1d")));
        assert_eq!(of_model(&models, "b").unwrap().max_nanos, Some(2_000_000_000));
        assert!(of_model(&models, "c").is_none() && of_model(&models, "d").is_none());
        let list = json!([{"budget_duration": "24h", "max_budget": 10.0}, {"max_budget": -1}, 7]);
        let caps: Vec<Cap> = windows(&list).collect();
        assert_eq!(caps.len(), 1);
        assert_eq!((caps[0].max_nanos, caps[0].span.as_deref()), (Some(10_000_000_000), Some("24h")));
    }
}
