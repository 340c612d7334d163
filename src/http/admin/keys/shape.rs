//! A key as requests write it and answers show it.

use crate::error::{Error, Result};
use crate::http::admin::desk::{Body, Desk, text};
use crate::http::admin::fields::{apply as put, fields, show, usd};
use crate::http::admin::times;
use crate::store::{Budget, Key, Team};
use serde_json::{Map, Value, json};

fields!(Key {
    "key_alias" => Text alias,
    "user_id" => Text user_id,
    "team_id" => Text team_id,
    "organization_id" => Text organization_id,
    "project_id" => Text project_id,
    "agent_id" => Text agent_id,
    "budget_id" => Text budget_id,
    "models" => Texts models,
    "aliases" => Tree aliases,
    "config" => Tree config,
    "permissions" => Tree permissions,
    "metadata" => Tree metadata,
    "tags" => Texts tags,
    "guardrails" => Texts guardrails,
    "allowed_routes" => Texts allowed_routes,
    "allowed_cache_controls" => Texts allowed_cache_controls,
    "access_group_ids" => Texts access_group_ids,
    "key_type" => Text key_type,
    "max_budget" => Usd max_budget_nanos,
    "soft_budget" => Usd soft_budget_nanos,
    "budget_duration" => Span budget_duration,
    "budget_limits" => Tree budget_limits,
    "budget_mode" => Text budget_mode,
    "model_max_budget" => Tree model_max_budget,
    "temp_budget_increase" => Usd temp_budget_increase_nanos,
    "temp_budget_expiry" => Moment temp_budget_expires_at,
    "tpm_limit" => Count tpm_limit,
    "rpm_limit" => Count rpm_limit,
    "max_parallel_requests" => Count max_parallel_requests,
    "model_tpm_limit" => Tree model_tpm_limit,
    "model_rpm_limit" => Tree model_rpm_limit,
    "tpm_limit_type" => Text tpm_limit_type,
    "rpm_limit_type" => Text rpm_limit_type,
    "object_permission" => Tree object_permission,
    "router_settings" => Tree router_settings,
    "blocked" => Flag blocked,
    "expires" => Moment expires_at,
    "auto_rotate" => Flag auto_rotate,
    "rotation_interval" => Span rotation_interval,
});

/// Members that are no fields, or that others decide.
const HANDLED: [&str; 22] = [
    "budget_reset_at",
    "locked",
    "token_id",
    "created_at",
    "updated_at",
    "rotation_count",
    "last_rotation_at",
    "key_rotation_at",
    "litellm_budget_table",
    "key",
    "keys",
    "duration",
    "expires",
    "spend",
    "new_key",
    "new_master_key",
    "grace_period",
    "send_invite_email",
    "token",
    "key_name",
    "created_by",
    "updated_by",
];
/// What only administrators decide, of their own keys too.
const ADMINS: [&str; 9] = [
    "spend",
    "blocked",
    "organization_id",
    "budget_id",
    "permissions",
    "budget_mode",
    "temp_budget_increase",
    "temp_budget_expiry",
    "allowed_routes",
];

/// Puts a request into a key.
///
/// # Errors
/// A 400 for a value that cannot be, a 403 for one that the caller may not set.
pub fn apply(desk: &Desk, key: &mut Key, body: &Body) -> Result<()> {
    if !desk.is_admin()
        && let Some(name) = ADMINS.iter().find(|name| body.get(**name).is_some_and(|value| !value.is_null()))
    {
        return Err(desk.refused(&format!("'{name}' is set by proxy admins.")).at_param(*name));
    }
    put(key, body, &HANDLED)?;
    if let Some(duration) = body.get("duration") {
        // Null, or LiteLLM's `-1`, is never.
        let span = match duration {
            Value::String(span) if span != "-1" => Some(span.as_str()),
            Value::Null | Value::String(_) => None,
            _ => {
                return Err(Error::invalid("Invalid type for 'duration': expected a text such as \"30d\".")
                    .at_param("duration"));
            }
        };
        key.expires_at =
            span.map(|span| times::after(desk.at, span).map_err(|e| e.at_param("duration"))).transpose()?;
    }
    if text(body, "key_type")?.is_some() {
        routes_of_type(key)?;
    }
    mode_of_key(key)?;
    if key.auto_rotate && key.rotation_interval.is_none() {
        return Err(
            Error::invalid("'auto_rotate' needs a 'rotation_interval', such as \"30d\".").at_param("rotation_interval")
        );
    }
    key.rotates_at = match (&key.rotation_interval, key.auto_rotate) {
        (Some(span), true) => Some(times::after(key.rotated_at.unwrap_or(key.created_at), span)?),
        _ => None,
    };
    Ok(())
}

/// What follows for a key from its type.
///
/// # Errors
/// A 400 for a type that there is not.
pub fn routes_of_type(key: &mut Key) -> Result<()> {
    let routes = match key.key_type.as_deref() {
        None | Some("default") => None,
        Some("llm_api") => Some("llm_api_routes"),
        Some("management") => Some("management_routes"),
        Some("read_only") => Some("info_routes"),
        Some(_) => {
            return Err(
                Error::invalid("'key_type' is one of llm_api, management, read_only, default.").at_param("key_type")
            );
        }
    };
    if let Some(routes) = routes {
        key.allowed_routes = vec![routes.to_owned()];
    }
    Ok(())
}

/// # Errors
/// A 400 for a way of counting that there is not.
pub fn mode_of_key(key: &Key) -> Result<()> {
    if key.budget_mode.as_deref().is_some_and(|mode| !matches!(mode, "compatible" | "strict")) {
        return Err(Error::invalid("'budget_mode' is compatible or strict.").at_param("budget_mode"));
    }
    Ok(())
}

/// # Errors
/// 400 where the key names a team or a budget that there is not, or has an increase without an end.
pub async fn check(desk: &Desk, key: &Key) -> Result<()> {
    if key.temp_budget_increase_nanos.is_some_and(|more| more > 0) && key.temp_budget_expires_at.is_none() {
        let message = "A temporary increase has an end: give 'temp_budget_expiry' with 'temp_budget_increase'.";
        return Err(Error::invalid(message).at_param("temp_budget_expiry"));
    }
    if let Some(id) = &key.team_id
        && desk.store().get::<Team>(id).await?.is_none()
    {
        return Err(
            Error::invalid(format!("There is no team '{id}'; make it with POST /team/new.")).at_param("team_id")
        );
    }
    if let Some(id) = &key.budget_id
        && desk.store().get::<Budget>(id).await?.is_none()
    {
        return Err(
            Error::invalid(format!("There is no budget '{id}'; make it with POST /budget/new.")).at_param("budget_id")
        );
    }
    Ok(())
}

pub async fn spent(desk: &Desk, key: &Key) -> Result<i64> {
    Ok(super::spends(desk, std::slice::from_ref(key)).await?.first().copied().unwrap_or(0))
}

/// A key as the database has it.
pub async fn row(desk: &Desk, key: &Key) -> Result<Map<String, Value>> {
    match super::rows(desk, std::slice::from_ref(key)).await?.pop() {
        Some(Value::Object(row)) => Ok(row),
        _ => Ok(Map::new()),
    }
}

/// `locked`: the configuration declares it.
pub fn row_with(key: &Key, spent: i64, locked: bool) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("token".to_owned(), key.hash.clone().into());
    row.insert("key_name".to_owned(), key.hint.clone().into());
    row.insert("spend".to_owned(), usd(spent));
    row.extend(show(key));
    row.insert("rotation_count".to_owned(), key.rotation_count.into());
    row.insert("last_rotation_at".to_owned(), key.rotated_at.map(times::iso).into());
    row.insert("key_rotation_at".to_owned(), key.rotates_at.map(times::iso).into());
    row.insert("created_at".to_owned(), times::iso(key.created_at).into());
    row.insert("created_by".to_owned(), key.created_by.clone().into());
    row.insert("updated_at".to_owned(), times::iso(key.updated_at).into());
    row.insert("updated_by".to_owned(), key.updated_by.clone().into());
    row.insert("budget_reset_at".to_owned(), Value::Null);
    row.insert("litellm_budget_table".to_owned(), Value::Null);
    row.insert("locked".to_owned(), locked.into());
    row
}

/// A key with its text, which is shown this once.
pub async fn made(desk: &Desk, key: &Key, secret: &str) -> Result<Value> {
    let mut shown = Map::new();
    shown.insert("key".to_owned(), secret.into());
    shown.extend(row(desk, key).await?);
    shown.insert("token_id".to_owned(), json!(key.hash));
    Ok(shown.into())
}

/// A key as a message may repeat it.
pub fn masked(named: &str) -> String {
    if named.starts_with("sk-") { crate::auth::hint(named.as_bytes()) } else { named.to_owned() }
}
