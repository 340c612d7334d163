//! Rows of LiteLLM's tables as records of ours: pure, so that a dry run and the import cannot differ.

use super::{Notes, Row};

use crate::http::admin::fields::{Fields, apply};
use crate::http::admin::times;
use crate::limits::calendar;
use crate::store::{
    AccessGroup, Brought, Budget, Customer, Entity, Grace, Key, Kind, Member, Organization, Tag, Team, User,
};
use jiff::tz::TimeZone;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

pub const MEMBERSHIP: &str = "LiteLLM_TeamMembership";

/// Who did it, in the records.
pub const BY: &str = "litellm-import";
/// The team of the keys that LiteLLM's admin pages make for a session.
const SESSIONS: &str = "litellm-dashboard";

/// Columns that are no settings, or that are read elsewhere.
const STATE: [&str; 25] = [
    "token",
    "key_name",
    "spend",
    "total_spend",
    "model_spend",
    "soft_budget_cooldown",
    "budget_reset_at",
    "last_active",
    "created_at",
    "created_by",
    "updated_at",
    "updated_by",
    "rotation_count",
    "last_rotation_at",
    "key_rotation_at",
    "object_permission_id",
    "object_permission",
    "user_id",
    "team_id",
    "password",
    "teams",
    "members",
    "admins",
    "members_with_roles",
    "model_id",
];

/// What LiteLLM keeps within `metadata`, and we in columns.
const LIFTED: [&str; 12] = [
    "tags",
    "guardrails",
    "model_rpm_limit",
    "model_tpm_limit",
    "rpm_limit_type",
    "tpm_limit_type",
    "temp_budget_increase",
    "temp_budget_expiry",
    "team_member_budget_id",
    "team_member_key_duration",
    "soft_budget",
    "model_max_budget",
];

/// All records, and what is wrong with the rest. What was spent in a window of a budget that is under way counts in ours,
/// which begin by the calendar of this zone.
pub fn records(rows: &BTreeMap<&str, Vec<Row>>, now: i64, zone: &TimeZone, notes: &mut Notes) -> Brought {
    let clock = &Clock { now, zone };
    let of = |table: &str| rows.get(table).map(Vec::as_slice).unwrap_or_default();
    let grants: BTreeMap<&str, Value> = of("LiteLLM_ObjectPermissionTable")
        .iter()
        .filter_map(|row| Some((text(row, "object_permission_id")?, grant(row))))
        .collect();
    let aliases: BTreeMap<String, &Value> = of("LiteLLM_ModelTable")
        .iter()
        .filter_map(|row| Some((row.get("id")?.to_string(), row.get("aliases").or_else(|| row.get("model_aliases"))?)))
        .collect();
    let mut all = Brought::default();
    for row in of("LiteLLM_BudgetTable") {
        let id = text(row, "budget_id").unwrap_or_default().to_owned();
        let budget = Budget { id: id.clone(), ..Budget::default() };
        if let Some(mut budget) = filled(budget, row, &["budget_id"], &format!("budget '{id}'"), notes) {
            (budget.created_at, budget.created_by, budget.updated_at, budget.updated_by) = made(row, now);
            all.budgets.push(budget);
        }
    }
    for row in of("LiteLLM_OrganizationTable") {
        let Some(id) = text(row, "organization_id") else { continue };
        let (created_at, created_by, updated_at, updated_by) = made(row, now);
        all.organizations.push(Organization {
            id: id.to_owned(),
            alias: owned(row, "organization_alias"),
            budget_id: owned(row, "budget_id"),
            models: texts(row, "models"),
            metadata: tree(row, "metadata"),
            object_permission: granted(row, &grants),
            created_at,
            created_by,
            updated_at,
            updated_by,
            ..Organization::default()
        });
        spent(&mut all, clock, Entity::of(Kind::Organization, id), row, None);
    }
    people(&mut all, of("LiteLLM_UserTable"), &grants, clock, notes);
    teams(&mut all, of("LiteLLM_TeamTable"), of(MEMBERSHIP), &grants, &aliases, clock, notes);
    for row in of("LiteLLM_EndUserTable") {
        let Some(id) = text(row, "user_id") else { continue };
        let customer = Customer { id: id.to_owned(), ..Customer::default() };
        if let Some(mut customer) = filled(customer, row, &[], &format!("customer '{id}'"), notes) {
            customer.object_permission = granted(row, &grants);
            (customer.created_at, customer.created_by, customer.updated_at, customer.updated_by) = made(row, now);
            all.customers.push(customer);
            spent(&mut all, clock, Entity::of(Kind::Customer, id), row, None);
        }
    }
    for row in of("LiteLLM_TagTable") {
        let Some(name) = text(row, "tag_name") else { continue };
        let (created_at, created_by, updated_at, updated_by) = made(row, now);
        all.tags.push(Tag {
            name: name.to_owned(),
            description: owned(row, "description"),
            models: texts(row, "models"),
            model_info: tree(row, "model_info"),
            budget_id: owned(row, "budget_id"),
            created_at,
            created_by,
            updated_at,
            updated_by,
            ..Tag::default()
        });
        spent(&mut all, clock, Entity::of(Kind::Tag, name), row, None);
    }
    for row in of("LiteLLM_AccessGroupTable") {
        let Some(id) = text(row, "access_group_id") else { continue };
        let (created_at, created_by, updated_at, updated_by) = made(row, now);
        all.access_groups.push(AccessGroup {
            id: id.to_owned(),
            alias: owned(row, "access_group_name").unwrap_or_else(|| id.to_owned()),
            description: owned(row, "description"),
            models: texts(row, "access_model_names"),
            mcp_servers: texts(row, "access_mcp_server_ids"),
            agents: texts(row, "access_agent_ids"),
            team_ids: texts(row, "assigned_team_ids"),
            key_ids: texts(row, "assigned_key_ids"),
            created_at,
            created_by,
            updated_at,
            updated_by,
            ..AccessGroup::default()
        });
    }
    keys(&mut all, of("LiteLLM_VerificationToken"), &grants, clock, notes);
    let there: BTreeSet<&str> = all.keys.iter().map(|key| key.hash.as_str()).collect();
    for row in of("LiteLLM_DeprecatedVerificationToken") {
        let (Some(hash), Some(key), Some(until)) =
            (text(row, "token"), text(row, "active_token_id"), moment(row, "revoke_at"))
        else {
            continue;
        };
        if until > now && there.contains(key) {
            all.graces.push(Grace { hash: hash.to_owned(), key_id: key.to_owned(), revoke_at: until });
        }
    }
    let sum = all
        .spent
        .iter()
        .filter(|(entity, _)| entity.kind == Kind::Key && entity.span.is_empty())
        .map(|(_, nanos)| *nanos);
    let sum = sum.fold(0, i64::saturating_add);
    if sum > 0 {
        all.spent.push((Entity::of(Kind::Gateway, ""), sum));
    }
    all
}

/// Keys that were given another text: the hash that they had, and the one that they have.
pub fn renewed(rows: &[Row]) -> BTreeMap<String, String> {
    let next: BTreeMap<&str, &str> =
        rows.iter().filter_map(|row| text(row, "token").zip(text(row, "active_token_id"))).collect();
    let last = |first: &str| {
        // As often as a key can have been renewed; what leads to itself ends there too.
        let steps = std::iter::successors(Some(first), |hash| next.get(hash).copied()).take(rows.len() + 1);
        steps.last().unwrap_or(first).to_owned()
    };
    next.keys().map(|hash| ((*hash).to_owned(), last(hash))).collect()
}

fn keys(all: &mut Brought, rows: &[Row], grants: &BTreeMap<&str, Value>, clock: &Clock<'_>, notes: &mut Notes) {
    let mut sessions = 0;
    let mut aliases: BTreeSet<String> = BTreeSet::new();
    for row in rows {
        let Some(token) = text(row, "token") else { continue };
        if text(row, "team_id") == Some(SESSIONS) {
            sessions += 1;
            continue;
        }
        let shown = text(row, "key_alias").or_else(|| text(row, "key_name")).unwrap_or("without a name").to_owned();
        let what = format!("key '{shown}'");
        if token.len() != 64 || !token.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            notes.say(format!("{what}: its token is no SHA-256, so that nobody could show the key to it"));
            continue;
        }
        let key = Key { id: token.to_owned(), hash: token.to_owned(), hint: owned(row, "key_name"), ..Key::default() };
        let Some(mut key) = filled(key, row, &["budget_limits"], &what, notes) else { continue };
        (key.user_id, key.team_id) = (owned(row, "user_id"), owned(row, "team_id"));
        key.object_permission = granted(row, grants);
        key.budget_limits = row.get("budget_limits").map(json).unwrap_or_default();
        key.rotation_count = row.get("rotation_count").and_then(Value::as_i64).unwrap_or(0);
        (key.rotated_at, key.rotates_at) = (moment(row, "last_rotation_at"), moment(row, "key_rotation_at"));
        (key.created_at, key.created_by, key.updated_at, key.updated_by) = made(row, clock.now);
        // There an alias may be that of several keys; here it finds one.
        if let Some(alias) = &key.alias
            && !aliases.insert(alias.clone())
        {
            notes.say(format!("{what}: another key has this alias too, so this one comes without"));
            key.alias = None;
        }
        spent(all, clock, Entity::of(Kind::Key, token), row, key.budget_duration.as_deref());
        all.keys.push(key);
    }
    if sessions > 0 {
        notes.say(format!("{sessions} keys of sessions of LiteLLM's admin pages"));
    }
}

fn people(all: &mut Brought, rows: &[Row], grants: &BTreeMap<&str, Value>, clock: &Clock<'_>, notes: &mut Notes) {
    let mut passwords = 0;
    for row in rows {
        let Some(id) = text(row, "user_id") else { continue };
        let user = User { id: id.to_owned(), ..User::default() };
        let Some(mut user) = filled(user, row, &[], &format!("user '{id}'"), notes) else { continue };
        user.object_permission = granted(row, grants);
        (user.created_at, user.created_by, user.updated_at, user.updated_by) = made(row, clock.now);
        passwords += usize::from(text(row, "password").is_some());
        spent(all, clock, Entity::of(Kind::User, id), row, user.budget_duration.as_deref());
        all.users.push(user);
    }
    if passwords > 0 {
        notes.say(format!("the passwords of {passwords} users for LiteLLM's admin pages"));
    }
}

fn teams(
    all: &mut Brought,
    rows: &[Row],
    memberships: &[Row],
    grants: &BTreeMap<&str, Value>,
    aliases: &BTreeMap<String, &Value>,
    clock: &Clock<'_>,
    notes: &mut Notes,
) {
    let mut of_member: BTreeMap<(&str, &str), &Row> = BTreeMap::new();
    for row in memberships {
        if let Some(whose) = text(row, "team_id").zip(text(row, "user_id")) {
            of_member.insert(whose, row);
        }
    }
    for row in rows {
        let Some(id) = text(row, "team_id") else { continue };
        let what = format!("team '{id}'");
        let team = Team { id: id.to_owned(), ..Team::default() };
        let Some(mut team) = filled(team, row, &["budget_limits"], &what, notes) else { continue };
        team.object_permission = granted(row, grants);
        team.budget_limits = row.get("budget_limits").map(json).unwrap_or_default();
        if let Some(aliases) = row.get("model_id").and_then(|id| aliases.get(&id.to_string())) {
            team.model_aliases = json(aliases);
        }
        (team.created_at, team.created_by, team.updated_at, team.updated_by) = made(row, clock.now);
        let mut members: BTreeMap<String, &'static str> = BTreeMap::new();
        for member in json(row.get("members_with_roles").unwrap_or(&Value::Null)).as_array().into_iter().flatten() {
            match member.get("user_id").and_then(Value::as_str) {
                Some(user) => {
                    let is_admin = member.get("role").and_then(Value::as_str) == Some("admin");
                    members.insert(user.to_owned(), if is_admin { "admin" } else { "user" });
                }
                None => notes.say(format!("{what}: a member without a user_id")),
            }
        }
        // Older versions have the names alone.
        for (column, role) in [("admins", "admin"), ("members", "user")] {
            for user in texts(row, column) {
                members.entry(user).or_insert(role);
            }
        }
        for (user, role) in members {
            let membership = of_member.get(&(id, user.as_str()));
            all.members.push(Member {
                team_id: id.to_owned(),
                user_id: user.clone(),
                role: role.to_owned(),
                budget_id: membership.and_then(|row| owned(row, "budget_id")),
                created_at: team.created_at,
                ..Member::default()
            });
            if let Some(row) = membership {
                spent(all, clock, Entity::of(Kind::Member, id).with(&user), row, None);
            }
        }
        spent(all, clock, Entity::of(Kind::Team, id), row, team.budget_duration.as_deref());
        all.teams.push(team);
    }
}

/// A record with the columns of a row; none where one of them cannot be read: a limit that is lost would be no limit.
fn filled<T: Fields>(mut record: T, row: &Row, more: &[&str], what: &str, notes: &mut Notes) -> Option<T> {
    let mut body: Map<String, Value> = Map::new();
    let metadata = row.get("metadata").map(json).unwrap_or_default();
    for name in LIFTED {
        if let Some(value) = metadata.get(name).filter(|value| !is_nothing(value)) {
            body.insert(name.to_owned(), json(value));
        }
    }
    for (name, value) in row {
        if STATE.contains(&name.as_str()) || more.contains(&name.as_str()) || is_nothing(value) {
            continue;
        }
        // Columns of JSON may hold a text of JSON; others are what they are.
        let is_tree = value.is_object() || value.as_str().is_some_and(|text| text.starts_with('{'));
        body.insert(name.clone(), if is_tree { json(value) } else { value.clone() });
    }
    // What was lifted out of it says the same twice, and only one of them would change later.
    if let Some(Value::Object(metadata)) = body.get_mut("metadata") {
        metadata.retain(|name, _| !LIFTED.contains(&name.as_str()) || record.slot(name).is_none());
    }
    body.retain(|name, _| !LIFTED.contains(&name.as_str()) || record.slot(name).is_some());
    match apply(&mut record, &body, &[]) {
        Ok(()) => Some(record),
        Err(e) => {
            notes.say(format!("{what} as a whole: {e}"));
            None
        }
    }
}

/// When and by whom it was made and changed.
fn made(row: &Row, now: i64) -> (i64, Option<String>, i64, Option<String>) {
    let created = moment(row, "created_at").unwrap_or(now);
    let by = |column: &str| owned(row, column).or_else(|| Some(BY.to_owned()));
    (created, by("created_by"), moment(row, "updated_at").unwrap_or(created), by("updated_by"))
}

/// When the import is, and where.
struct Clock<'a> {
    now: i64,
    zone: &'a TimeZone,
}

/// What an entity has spent: over its life, as far as LiteLLM knows, and in the window of its budget, of this length or
/// of the budget that the row names. LiteLLM sets `spend` back when a window ends, with some delay.
fn spent(all: &mut Brought, clock: &Clock<'_>, entity: Entity, row: &Row, span: Option<&str>) {
    let dollars = row.get("spend").and_then(Value::as_f64).unwrap_or(0.0);
    let nanos = (dollars * 1e9).round() as i64;
    if nanos <= 0 {
        return;
    }
    let named = text(row, "budget_id").and_then(|id| all.budgets.iter().find(|budget| budget.id == id));
    let span = span.or_else(|| named.and_then(|budget| budget.budget_duration.as_deref()));
    let is_over = moment(row, "budget_reset_at").is_some_and(|at| at <= clock.now);
    if let Some(span) = span.filter(|_| !is_over)
        && let Some(window) = calendar::window(span, clock.zone, clock.now)
    {
        let within = entity.clone().within(span, window.start);
        all.spent.push((within, nanos));
    }
    all.spent.push((entity, nanos));
}

/// What a key, user or team may use beside models, without what is empty.
fn grant(row: &Row) -> Value {
    let kept = row.iter().filter(|(name, value)| *name != "object_permission_id" && !is_nothing(value));
    Value::Object(kept.map(|(name, value)| (name.clone(), json(value))).collect())
}

fn granted(row: &Row, grants: &BTreeMap<&str, Value>) -> Value {
    let grant = text(row, "object_permission_id").and_then(|id| grants.get(id)).cloned();
    grant.filter(|grant| !is_nothing(grant)).unwrap_or_default()
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() || text == "{}" || text == "[]",
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// JSON, also where it stands in a text.
pub(super) fn json(value: &Value) -> Value {
    match value {
        Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| value.clone()),
        other => other.clone(),
    }
}

fn tree(row: &Row, column: &str) -> Value {
    row.get(column).filter(|value| !is_nothing(value)).map(json).unwrap_or_default()
}

pub(super) fn text<'a>(row: &'a Row, column: &str) -> Option<&'a str> {
    row.get(column).and_then(Value::as_str).filter(|text| !text.is_empty())
}

pub(super) fn owned(row: &Row, column: &str) -> Option<String> {
    text(row, column).map(str::to_owned)
}

fn texts(row: &Row, column: &str) -> Vec<String> {
    let items = row.get(column).and_then(Value::as_array);
    items.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Prisma's times are in UTC and have no zone.
pub(super) fn moment(row: &Row, column: &str) -> Option<i64> {
    text(row, column).and_then(times::read)
}
