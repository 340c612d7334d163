//! What the management API gives to new keys and users, and what it lets them have.

use super::file::{File, KeyBounds, KeyDefaults, NewUsers};
use crate::http::admin::{fields, role_of_user, times};
use crate::store::{Key, User};
use serde_json::{Map, Value};

/// The operator's rules for new keys and users.
#[derive(Debug, Clone, Default)]
pub struct Newcomers {
    /// Members that a request for a key is given where it has none.
    pub key_defaults: Map<String, Value>,
    /// The most of some of them.
    pub key_bounds: Map<String, Value>,
    /// Keys of teams.
    pub team: Rule,
    /// Keys of no team.
    pub personal: Rule,
    /// Members that a request for a user is given where it has none.
    pub user_defaults: Map<String, Value>,
}

/// Who may make keys of a kind, and what has to be said.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    /// None is everybody who may make keys at all.
    pub roles: Option<Vec<String>>,
    pub required: Vec<String>,
}

/// Reads `[new_keys]` and `[new_users]`; what is wrong is added to `errors`.
pub(super) fn resolve(file: &File, errors: &mut Vec<String>) -> Newcomers {
    let written = &file.new_keys;
    if let Err(e) = check_key(&written.defaults) {
        errors.push(format!("new_keys.defaults: {e}"));
    }
    if let Err(e) = check_key(&written.bounds) {
        errors.push(format!("new_keys.bounds: {e}"));
    }
    if let Err(e) = check_user(&file.new_users) {
        errors.push(format!("new_users: {e}"));
    }
    Newcomers {
        key_defaults: members(&written.defaults),
        key_bounds: members(&written.bounds),
        team: Rule {
            roles: written.team.allowed_team_member_roles.clone(),
            required: written.team.required_params.clone(),
        },
        personal: Rule {
            roles: written.personal.allowed_user_roles.clone(),
            required: written.personal.required_params.clone(),
        },
        user_defaults: members(&file.new_users),
    }
}

/// A part of the file that is written with the names of the management API.
trait Part: serde::Serialize {}
impl Part for KeyDefaults {}
impl Part for KeyBounds {}
impl Part for NewUsers {}

fn members(written: &impl Part) -> Map<String, Value> {
    match serde_json::to_value(written) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

fn check_key(written: &impl Part) -> Result<(), String> {
    let members = members(written);
    if let Some(span) = members.get("duration").and_then(Value::as_str) {
        times::after(0, span).map_err(|e| format!("duration: {e}"))?;
    }
    fields::apply(&mut Key::default(), &members, &["duration"]).map_err(|e| super::people::told(&e))
}

fn check_user(written: &NewUsers) -> Result<(), String> {
    let mut user = User::default();
    fields::apply(&mut user, &members(written), &["teams"]).map_err(|e| super::people::told(&e))?;
    role_of_user(&user).map_err(|e| super::people::told(&e))
}
