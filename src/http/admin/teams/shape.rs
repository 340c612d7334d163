//! A team as requests write it and answers show it.

use crate::error::Result;
use crate::http::admin::desk::{Body, Desk};
use crate::http::admin::fields::{apply as put, fields, show, usd};
use crate::http::admin::times;
use crate::store::{Entity, Kind, Member, Team, User};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

fields!(Team {
    "team_alias" => Text alias,
    "organization_id" => Text organization_id,
    "budget_id" => Text budget_id,
    "models" => Texts models,
    "model_aliases" => Tree model_aliases,
    "metadata" => Tree metadata,
    "tags" => Texts tags,
    "guardrails" => Texts guardrails,
    "team_member_permissions" => Texts member_permissions,
    "access_group_ids" => Texts access_group_ids,
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
    "tpm_limit_type" => Text tpm_limit_type,
    "rpm_limit_type" => Text rpm_limit_type,
    "team_member_budget" => Usd member_max_budget_nanos,
    "team_member_budget_duration" => Span member_budget_duration,
    "team_member_budget_id" => Text member_budget_id,
    "team_member_tpm_limit" => Count member_tpm_limit,
    "team_member_rpm_limit" => Count member_rpm_limit,
    "team_member_key_duration" => Span member_key_duration,
    "object_permission" => Tree object_permission,
    "router_settings" => Tree router_settings,
    "blocked" => Flag blocked,
});

/// Members that are no fields, or that others decide.
const HANDLED: [&str; 8] =
    ["locked", "team_id", "members_with_roles", "members", "admins", "spend", "created_at", "updated_at"];

/// What plain members can be allowed.
pub const PERMISSIONS: [&str; 10] = [
    "/key/generate",
    "/key/service-account/generate",
    "/key/update",
    "/key/delete",
    "/key/regenerate",
    "/key/block",
    "/key/unblock",
    "/key/info",
    "/key/list",
    "/key/health",
];

/// Puts a request into a team.
///
/// # Errors
/// A 400 for a value that cannot be.
pub fn apply(team: &mut Team, body: &Body) -> Result<()> {
    put(team, body, &HANDLED)
}

/// Teams as the database has them, with their members and what they have spent.
pub async fn rows(desk: &Desk, teams: &[Team]) -> Result<Vec<Map<String, Value>>> {
    let ids: Vec<String> = teams.iter().map(|team| team.id.clone()).collect();
    let members = if ids.is_empty() { Vec::new() } else { desk.store().members_of(&ids).await? };
    let entities: Vec<Entity> = teams.iter().map(|team| Entity::of(Kind::Team, &team.id)).collect();
    let totals = desk.store().totals(&entities).await?;
    let user_ids: Vec<String> = members.iter().map(|member| member.user_id.clone()).collect();
    let users: Vec<User> = if user_ids.is_empty() { Vec::new() } else { desk.store().get_many(&user_ids).await? };
    let emails: HashMap<&str, &str> =
        users.iter().filter_map(|user| Some((user.id.as_str(), user.email.as_deref()?))).collect();
    let row = |(team, total): (&Team, &crate::store::Total)| {
        let own: Vec<&Member> = members.iter().filter(|member| member.team_id == team.id).collect();
        let mut row = row(team, total.spent(), &own, desk.store().is_locked::<Team>(&team.id));
        for member in row.get_mut("members_with_roles").and_then(Value::as_array_mut).into_iter().flatten() {
            let email = member["user_id"].as_str().and_then(|id| emails.get(id).copied());
            member["user_email"] = email.into();
        }
        row.insert("budget_reset_at".to_owned(), desk.resets_at(team.budget_duration.as_ref()));
        row
    };
    Ok(teams.iter().zip(&totals).map(row).collect())
}

/// `locked`: the configuration declares the team.
pub fn row(team: &Team, spent: i64, own: &[&Member], locked: bool) -> Map<String, Value> {
    let with_roles: Vec<Value> =
        own.iter().map(|m| json!({"user_id": m.user_id, "user_email": null, "role": m.role})).collect();
    let of = |role: &str| own.iter().filter(|m| m.role == role).map(|m| m.user_id.as_str()).collect::<Vec<_>>();
    let mut row = show(team);
    row.insert("team_id".to_owned(), team.id.clone().into());
    row.insert("spend".to_owned(), usd(spent));
    row.insert("members_with_roles".to_owned(), with_roles.into());
    row.insert("admins".to_owned(), of("admin").into());
    row.insert("members".to_owned(), of("user").into());
    row.insert("budget_reset_at".to_owned(), Value::Null);
    row.insert("locked".to_owned(), locked.into());
    row.insert("created_at".to_owned(), times::iso(team.created_at).into());
    row.insert("updated_at".to_owned(), times::iso(team.updated_at).into());
    row
}

/// Members with their limits.
pub async fn memberships(desk: &Desk, members: &[Member]) -> Result<Vec<Value>> {
    let entities: Vec<Entity> = members.iter().map(|m| Entity::of(Kind::Member, &m.team_id).with(&m.user_id)).collect();
    let totals = desk.store().totals(&entities).await?;
    let row = |(member, total): (&Member, &crate::store::Total)| {
        json!({
            "user_id": member.user_id,
            "team_id": member.team_id,
            "budget_id": member.budget_id,
            "spend": usd(total.spent()),
            "models": member.models,
            "litellm_budget_table": {
                "max_budget": member.max_budget_nanos.map(usd),
                "budget_duration": member.budget_duration,
                "tpm_limit": member.tpm_limit,
                "rpm_limit": member.rpm_limit,
            },
        })
    };
    Ok(members.iter().zip(&totals).map(row).collect())
}
