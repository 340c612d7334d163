//! A user as requests write it and answers show it.

use crate::error::{Error, Result};
use crate::http::admin::desk::{Body, Desk};
use crate::http::admin::fields::{apply as put, fields, show, usd};
use crate::http::admin::times;
use crate::store::{Entity, Kind, User};
use serde_json::{Map, Value};

fields!(User {
    "user_alias" => Text alias,
    "user_email" => Text email,
    "user_role" => Text role,
    "sso_user_id" => Text sso_user_id,
    "organization_id" => Text organization_id,
    "budget_id" => Text budget_id,
    "models" => Texts models,
    "aliases" => Tree aliases,
    "config" => Tree config,
    "permissions" => Tree permissions,
    "metadata" => Tree metadata,
    "tags" => Texts tags,
    "guardrails" => Texts guardrails,
    "allowed_cache_controls" => Texts allowed_cache_controls,
    "max_budget" => Usd max_budget_nanos,
    "soft_budget" => Usd soft_budget_nanos,
    "budget_duration" => Span budget_duration,
    "budget_limits" => Tree budget_limits,
    "model_max_budget" => Tree model_max_budget,
    "tpm_limit" => Count tpm_limit,
    "rpm_limit" => Count rpm_limit,
    "max_parallel_requests" => Count max_parallel_requests,
    "model_tpm_limit" => Tree model_tpm_limit,
    "model_rpm_limit" => Tree model_rpm_limit,
    "object_permission" => Tree object_permission,
    "blocked" => Flag blocked,
});

/// Members of the key that comes with a user, and those that others decide.
const HANDLED: [&str; 18] = [
    "locked",
    "user_id",
    "teams",
    "auto_create_key",
    "send_invite_email",
    "key",
    "key_alias",
    "key_name",
    "key_type",
    "duration",
    "expires",
    "token",
    "spend",
    "password",
    "created_at",
    "created_by",
    "updated_at",
    "updated_by",
];

/// What a user may be, with LiteLLM's labels.
pub const ROLES: [(&str, &str, &str); 7] = [
    ("proxy_admin", "Admin (All Permissions)", "may do everything"),
    ("proxy_admin_viewer", "Admin (View Only)", "sees everything, changes nothing"),
    ("org_admin", "Organization Admin", "makes and changes keys of their own"),
    ("internal_user", "Internal User (Create/Delete/View)", "makes, changes and sees keys of their own"),
    ("internal_user_viewer", "Internal User (View Only)", "sees keys of their own"),
    ("team", "Team", "a team that signs in by a token"),
    ("customer", "Customer", "an end user"),
];

/// Puts a request into a user.
///
/// # Errors
/// A 400 for a value that cannot be.
pub fn apply(user: &mut User, body: &Body) -> Result<()> {
    if body.get("password").is_some_and(|password| !password.is_null()) {
        return Err(Error::invalid("Passwords are not served yet; take 'password' out.").at_param("password"));
    }
    put(user, body, &HANDLED)?;
    role_of_user(user)
}

/// # Errors
/// A 400 for a role that there is not.
pub fn role_of_user(user: &User) -> Result<()> {
    if let Some(role) = &user.role
        && !ROLES.iter().any(|(name, ..)| name == role)
    {
        let names: Vec<&str> = ROLES.iter().map(|(name, ..)| *name).collect();
        return Err(Error::invalid(format!("'user_role' is one of {}.", names.join(", "))).at_param("user_role"));
    }
    Ok(())
}

/// Users as the database has them, with their teams and what they have spent.
pub async fn rows(desk: &Desk, users: &[User]) -> Result<Vec<Map<String, Value>>> {
    let ids: Vec<String> = users.iter().map(|user| user.id.clone()).collect();
    let places = if ids.is_empty() { Vec::new() } else { desk.store().memberships_of(&ids).await? };
    let entities: Vec<Entity> = users.iter().map(|user| Entity::of(Kind::User, &user.id)).collect();
    let totals = desk.store().totals(&entities).await?;
    let row = |(user, total): (&User, &crate::store::Total)| {
        let teams = places.iter().filter(|place| place.user_id == user.id).map(|place| place.team_id.as_str());
        let locked = desk.store().is_locked::<User>(&user.id);
        let mut row = row(user, total.spent(), &teams.collect::<Vec<_>>(), locked);
        row.insert("budget_reset_at".to_owned(), desk.resets_at(user.budget_duration.as_ref()));
        row
    };
    Ok(users.iter().zip(&totals).map(row).collect())
}

/// `locked`: the configuration declares the user.
pub fn row(user: &User, spent: i64, teams: &[&str], locked: bool) -> Map<String, Value> {
    let mut row = show(user);
    row.insert("user_id".to_owned(), user.id.clone().into());
    row.insert("spend".to_owned(), usd(spent));
    row.insert("teams".to_owned(), teams.into());
    row.insert("budget_reset_at".to_owned(), Value::Null);
    row.insert("locked".to_owned(), locked.into());
    row.insert("created_at".to_owned(), times::iso(user.created_at).into());
    row.insert("updated_at".to_owned(), times::iso(user.updated_at).into());
    row
}
