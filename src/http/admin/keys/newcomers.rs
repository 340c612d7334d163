//! The operator's rules for new keys: what they get, and what they may have. LiteLLM's `default_key_generate_params`,
//! `upperbound_key_generate_params` and `key_generation_settings`.

use crate::config::newcomers::Rule;
use crate::error::{Error, Kind, Result};
use crate::http::admin::desk::{Body, Desk};
use crate::http::admin::times;
use serde_json::{Map, Value};

/// Gives a request what it does not say.
pub fn with_defaults(body: &mut Body, defaults: &Map<String, Value>) {
    for (name, value) in defaults {
        if body.get(name).is_none_or(says_nothing) {
            body.insert(name.clone(), value.clone());
        }
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// Holds a request to the bounds. A new key gets them where it says nothing; a change that says nothing changes nothing.
///
/// # Errors
/// A 400 for what is beyond one.
pub fn within_bounds(body: &mut Body, bounds: &Map<String, Value>, is_new: bool) -> Result<()> {
    for (name, most) in bounds {
        match body.get(name) {
            None if !is_new => {}
            None | Some(Value::Null) if is_new => {
                body.insert(name.clone(), most.clone());
            }
            Some(asked) if is_beyond(asked, most) => {
                let shown = crate::envelope::shorten(&asked.to_string());
                let message = format!("{name} is over max limit set in config - user_value={shown}; max_value={most}");
                return Err(Error::invalid(message).at_param(name));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether more is asked for than may be; no end is more than any. What makes no sense is somebody else's to say.
fn is_beyond(asked: &Value, most: &Value) -> bool {
    match (asked, most) {
        (Value::Null, _) => true,
        (Value::Number(asked), Value::Number(most)) => asked.as_f64() > most.as_f64(),
        (Value::String(asked), Value::String(most)) => {
            asked == "-1" || matches!((times::after(0, asked), times::after(0, most)), (Ok(a), Ok(m)) if a > m)
        }
        _ => false,
    }
}

/// # Errors
/// 403 where the operator leaves such keys to others, 400 where he wants more to be said.
pub async fn admitted(desk: &Desk, body: &Body) -> Result<()> {
    let rules = &desk.live.config.newcomers;
    let team = body.get("team_id").and_then(Value::as_str).filter(|id| !id.is_empty());
    let rule = if team.is_some() { &rules.team } else { &rules.personal };
    if let Some(roles) = rule.roles.as_ref().filter(|_| !desk.is_admin()) {
        let role = match team {
            Some(team) => desk.role_in(team).await?,
            None => desk.role().map(str::to_owned),
        };
        let role = role.unwrap_or_else(|| "none".to_owned());
        if !roles.contains(&role) {
            let what = if team.is_some() { "Team key creation" } else { "Personal key creation" };
            let message =
                format!("{what} has been restricted by admin. Allowed roles={}. Your role={role}", roles.join(", "));
            return Err(Error::new(Kind::Forbidden, message).with_type("auth_error"));
        }
    }
    require(rule, body)
}

fn require(rule: &Rule, body: &Body) -> Result<()> {
    match rule.required.iter().find(|name| body.get(*name).is_none_or(says_nothing)) {
        Some(name) => {
            let message = format!("Required param {name} not in data; the operator of this gateway asks for it.");
            Err(Error::invalid(message).at_param(name))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn body(value: Value) -> Body {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn defaults_fill_what_says_nothing() {
        let mut asked = body(json!({"models": [], "max_budget": 3, "duration": null}));
        with_defaults(&mut asked, &body(json!({"models": ["a"], "max_budget": 10, "duration": "30d", "tpm_limit": 7})));
        assert_eq!(asked, body(json!({"models": ["a"], "max_budget": 3, "duration": "30d", "tpm_limit": 7})));
    }

    #[test]
    fn nothing_is_beyond_a_bound() {
        let bounds = body(json!({"max_budget": 100.0, "duration": "30d"}));
        let bound = |asked: Value, is_new: bool| {
            let mut asked = body(asked);
            within_bounds(&mut asked, &bounds, is_new).map(|()| Value::Object(asked))
        };
        assert_eq!(bound(json!({}), true).unwrap(), json!({"max_budget": 100.0, "duration": "30d"}));
        assert_eq!(bound(json!({}), false).unwrap(), json!({}));
        assert!(bound(json!({"max_budget": 100, "duration": "1mo"}), true).is_err());
        assert!(bound(json!({"max_budget": 100, "duration": "4w"}), true).is_ok());
        for beyond in [json!({"max_budget": 100.5}), json!({"duration": "31d"}), json!({"duration": "-1"})] {
            assert!(bound(beyond.clone(), true).is_err() && bound(beyond.clone(), false).is_err(), "{beyond}");
        }
        assert!(bound(json!({"duration": null}), false).is_err());
    }
}
