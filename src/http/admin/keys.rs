//! `/key/*`: keys are made, changed, shown, blocked, given another text, deleted.
//!
//! Source: LiteLLM's documentation of virtual keys and of its management endpoints.

mod lists;
mod newcomers;
mod shape;

pub use lists::{aliases, infos, list};
pub use newcomers::with_defaults;
pub use shape::{mode_of_key, routes_of_type, row_with as key_row};

use super::desk::{Body, Desk, list as names, needed, run, text};
use super::fields::{nanos, usd};
use super::{allocation, budgets};
use crate::auth::remembered::hex;
use crate::auth::{digest, hint};
use crate::error::{Error, Kind, Result};
use crate::store::{Budget, Entity, Fault, Key, Kind as Sum};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

pub const ROUTES: &[(&str, &str)] = &[
    ("POST", "/key/generate"),
    ("POST", "/key/service-account/generate"),
    ("POST", "/key/update"),
    ("POST", "/key/bulk_update"),
    ("POST", "/key/delete"),
    ("POST", "/key/block"),
    ("POST", "/key/unblock"),
    ("POST", "/key/health"),
    ("POST", "/key/regenerate"),
    ("POST", "/key/{key}/regenerate"),
    ("POST", "/key/{key}/reset_spend"),
    ("GET", "/key/info"),
    ("POST", "/v2/key/info"),
    ("GET", "/key/list"),
    ("GET", "/key/aliases"),
];

/// The most keys that one request changes.
const MOST: usize = 1000;

/// The hash of a key that is named by its text, or by its hash.
pub fn hash_of(named: &str) -> String {
    if named.starts_with("sk-") { hex(&digest(named.as_bytes())) } else { named.to_owned() }
}

/// A new key: 16 random bytes behind `sk-`, as letters that need no escape in an address.
pub fn new_text() -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bytes: [u8; 22] = rand::random();
    bytes.iter().fold("sk-".to_owned(), |mut key, byte| {
        key.push(char::from(LETTERS[usize::from(byte & 63)]));
        key
    })
}

/// The text that the caller wants, or a new one.
fn chosen(desk: &Desk, body: &Body, member: &str) -> Result<String> {
    let Some(wanted) = text(body, member)? else { return Ok(new_text()) };
    let plain = wanted.len() <= 512 && wanted.bytes().all(|b| b.is_ascii_graphic());
    if !wanted.starts_with("sk-") || !plain {
        return Err(Error::invalid(format!(
            "Invalid key format: '{member}' must start with 'sk-', and hold letters, digits and signs, at most 512."
        ))
        .at_param(member));
    }
    if wanted.len() < 8 {
        return Err(Error::invalid(format!("'{member}' is too short to be a secret.")).at_param(member));
    }
    if desk.live.auth.is_master(&digest(wanted.as_bytes())) {
        return Err(Error::invalid("This is the master key; choose another text.").at_param(member));
    }
    Ok(wanted)
}

pub async fn generate(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, mut body| {
        // Whoever leads nobody makes keys for himself.
        let team = text(&body, "team_id")?;
        let leads = match &team {
            Some(team) => desk.leads(team).await?,
            None => false,
        };
        if !desk.is_admin() && !leads && text(&body, "user_id")?.is_none() {
            body.insert("user_id".to_owned(), desk.caller.user_id().into());
        }
        make_by_rules(&desk, body, "/key/generate").await
    })
    .await
}

/// A key as the operator's rules for new ones want it.
async fn make_by_rules(desk: &Desk, mut body: Body, route: &str) -> Result<Value> {
    let rules = &desk.live.config.newcomers;
    newcomers::with_defaults(&mut body, &rules.key_defaults);
    newcomers::within_bounds(&mut body, &rules.key_bounds, true)?;
    newcomers::admitted(desk, &body).await?;
    make(desk, body, route).await
}

/// A key that belongs to a team and to no person.
pub async fn generate_for_service(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, mut body| {
        needed(&body, "team_id")?;
        if body.get("user_id").is_some_and(|user| !user.is_null()) {
            return Err(Error::invalid("A service account has no user; take 'user_id' out.").at_param("user_id"));
        }
        if let Some(alias) = text(&body, "key_alias")? {
            let metadata = body.entry("metadata").or_insert_with(|| json!({}));
            if let Some(metadata) = metadata.as_object_mut() {
                metadata.insert("service_account_id".to_owned(), alias.into());
            }
        }
        let team = needed(&body, "team_id")?;
        let granted = desk.is_granted(&team, "/key/service-account/generate").await?;
        if !desk.is_admin() && !granted && !desk.leads(&team).await? {
            return Err(desk.refused("Only proxy admins and admins of the team may do this."));
        }
        make_by_rules(&desk, body, "/key/service-account/generate").await
    })
    .await
}

async fn make(desk: &Desk, body: Body, route: &str) -> Result<Value> {
    let secret = chosen(desk, &body, "key")?;
    let hash = hex(&digest(secret.as_bytes()));
    let mut key = Key {
        id: hash.clone(),
        hash,
        hint: Some(hint(secret.as_bytes())),
        created_at: desk.at,
        created_by: desk.by(),
        updated_at: desk.at,
        updated_by: desk.by(),
        ..Key::default()
    };
    shape::apply(desk, &mut key, &body)?;
    shape::check(desk, &key).await?;
    allocation::of_key(desk, &key).await?;
    allowed_to_make(desk, &key, route).await?;
    desk.store().create_key(&key).await?;
    desk.changed(std::slice::from_ref(&key.hash));
    shape::made(desk, &key, &secret).await
}

/// The key that comes with a new user. What limits it is the user's own.
pub async fn of_user(desk: &Desk, user_id: &str, body: &Body) -> Result<Value> {
    let kept = ["key", "key_alias", "key_type", "duration", "team_id"];
    let mut own: Body =
        body.iter().filter(|(name, _)| kept.contains(&name.as_str())).map(|(n, v)| (n.clone(), v.clone())).collect();
    own.insert("user_id".to_owned(), user_id.into());
    make(desk, own, "/key/generate").await
}

/// Keys as the database has them.
pub async fn rows(desk: &Desk, keys: &[Key]) -> Result<Vec<Value>> {
    let spent = spends(desk, keys).await?;
    let ids: Vec<String> = keys.iter().filter_map(|key| key.budget_id.clone()).collect();
    let shared: Vec<Budget> = if ids.is_empty() { Vec::new() } else { desk.store().get_many(&ids).await? };
    let row = |(key, spent): (&Key, i64)| {
        let budget = shared.iter().find(|budget| Some(&budget.id) == key.budget_id.as_ref());
        let mut row = shape::row_with(key, spent, desk.store().is_locked::<Key>(&key.id));
        row.insert("budget_reset_at".to_owned(), desk.resets_at(key.budget_duration.as_ref()));
        row.insert("litellm_budget_table".to_owned(), budget.map(|budget| budgets::row(desk, budget)).into());
        row.into()
    };
    Ok(keys.iter().zip(spent).map(row).collect())
}

/// A member of a team may make keys in it where the team says so.
async fn allowed_to_make(desk: &Desk, key: &Key, route: &str) -> Result<()> {
    if desk.may_change(key, route).await.is_err() {
        let what =
            "You may not make this key: it is for proxy admins, admins of its team, and internal users for themselves.";
        return Err(desk.refused(what));
    }
    let foreign = key.user_id.as_deref().is_some_and(|user| Some(user) != desk.caller.user_id());
    match &key.team_id {
        // A key of one's own in a team of others spends that team's money.
        Some(team) if !desk.is_admin() && !desk.leads(team).await? => match foreign {
            true => Err(desk.refused("Keys of others are made by proxy admins, and by admins of their team.")),
            false => in_team(desk, team, route).await,
        },
        None if foreign && !desk.is_admin() => Err(desk.refused("Keys of others are made by proxy admins.")),
        _ => Ok(()),
    }
}

async fn in_team(desk: &Desk, team_id: &str, route: &str) -> Result<()> {
    if desk.is_granted(team_id, route).await? {
        return Ok(());
    }
    let message = format!("Members of the team '{team_id}' may not do {route}; its admins may.");
    Err(Error::new(Kind::Forbidden, message).with_type("team_member_permission_error"))
}

/// The key that a request names.
async fn find(desk: &Desk, named: &str) -> Result<Key> {
    desk.store().key_by_hash(&hash_of(named), desk.at).await?.ok_or_else(|| {
        let message = format!("Key not found in database: '{}'.", crate::envelope::shorten(&shape::masked(named)));
        Error::new(Kind::NotFound, message).at_param("key")
    })
}

pub async fn update(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        let named = needed(&body, "key")?;
        let key = change(&desk, &named, body).await?;
        let mut shown = shape::row(&desk, &key).await?;
        shown.insert("key".to_owned(), named.into());
        Ok(shown.into())
    })
    .await
}

async fn change(desk: &Desk, named: &str, mut body: Body) -> Result<Key> {
    let old = find(desk, named).await?;
    desk.may_change(&old, "/key/update").await?;
    newcomers::within_bounds(&mut body, &desk.live.config.newcomers.key_bounds, false)?;
    let body = &body;
    let mut new = old.clone();
    shape::apply(desk, &mut new, body)?;
    shape::check(desk, &new).await?;
    let rates = |key: &Key| {
        let Key { rpm_limit, tpm_limit, rpm_limit_type, tpm_limit_type, team_id, organization_id, .. } = key.clone();
        (rpm_limit, tpm_limit, rpm_limit_type, tpm_limit_type, team_id, organization_id)
    };
    if rates(&old) != rates(&new) {
        allocation::of_key(desk, &new).await?;
    }
    if (&old.user_id, &old.team_id) != (&new.user_id, &new.team_id) {
        allowed_to_make(desk, &new, "/key/generate").await?;
    }
    let spend = body.get("spend").filter(|spend| !spend.is_null()).map(|spend| nanos("spend", spend)).transpose()?;
    let (at, by) = (desk.at, desk.by());
    let key = desk.store().update_key(&old.hash, at, |key| write(desk, key, body, by)).await?;
    if let Some(spend) = spend {
        desk.store().set_spent(Sum::Key, &key.id, spend).await?;
    }
    desk.changed(&[old.hash]);
    Ok(key)
}

/// The change itself, on the row as it is now.
fn write(desk: &Desk, key: &mut Key, body: &Body, by: Option<String>) -> crate::store::Result<()> {
    shape::apply(desk, key, body).map_err(|e| Fault::Invalid(e.to_string()))?;
    key.updated_by = by;
    Ok(())
}

pub async fn bulk_update(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        let items = body.get("keys").and_then(Value::as_array).filter(|items| !items.is_empty());
        let items = items.ok_or_else(|| Error::invalid("'keys' must be a list of updates.").at_param("keys"))?;
        if items.len() > MOST {
            return Err(Error::invalid(format!("At most {MOST} keys are changed at once.")).at_param("keys"));
        }
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for item in items {
            let named = item["key"].as_str().unwrap_or_default();
            let result = match item.as_object() {
                Some(body) if !named.is_empty() => change(&desk, named, body.clone()).await,
                _ => Err(Error::invalid("Missing required parameter: 'key'.").at_param("key")),
            };
            match result {
                Ok(key) => done.push(json!({"key": named, "key_info": shape::row(&desk, &key).await?})),
                Err(e) => failed.push(json!({"key": named, "key_info": null, "failed_reason": e.to_string()})),
            }
        }
        Ok(json!({"total_requested": items.len(), "successful_updates": done, "failed_updates": failed}))
    })
    .await
}

pub async fn delete(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        let (named, aliases) = (names(&body, "keys")?, names(&body, "key_aliases")?);
        if named.is_empty() && aliases.is_empty() {
            return Err(Error::invalid("Give 'keys' or 'key_aliases': which keys are to be deleted?").at_param("keys"));
        }
        if named.len() + aliases.len() > MOST {
            return Err(Error::invalid(format!("At most {MOST} keys are deleted at once.")).at_param("keys"));
        }
        let mut keys = Vec::new();
        for named in &named {
            keys.push(find(&desk, named).await?);
        }
        for alias in &aliases {
            let filter = crate::store::KeyFilter { alias: Some(alias.clone()), ..Default::default() };
            let mut found = desk.store().list_keys(&filter, &Desk::rows(1, 1)).await?.rows;
            keys.push(found.pop().ok_or_else(|| {
                Error::new(Kind::NotFound, format!("There is no key with the alias '{alias}'.")).at_param("key_aliases")
            })?);
        }
        for key in &keys {
            desk.may_change(key, "/key/delete").await?;
        }
        let hashes: Vec<String> = keys.into_iter().map(|key| key.hash).collect();
        desk.store().delete_keys(&hashes, &[], desk.by().as_deref(), desk.at).await?;
        desk.changed(&hashes);
        let deleted: Vec<String> = named.into_iter().chain(aliases).collect();
        Ok(json!({"deleted_keys": deleted}))
    })
    .await
}

pub async fn block(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| set_blocked(&desk, &body, true).await).await
}

pub async fn unblock(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| set_blocked(&desk, &body, false).await).await
}

async fn set_blocked(desk: &Desk, body: &Body, blocked: bool) -> Result<Value> {
    let key = find(desk, &needed(body, "key")?).await?;
    let route = if blocked { "/key/block" } else { "/key/unblock" };
    let of_team = match &key.team_id {
        Some(team) => desk.leads(team).await? || desk.is_granted(team, route).await?,
        None => false,
    };
    // What somebody else has blocked is not for its user to unblock.
    let may = desk.is_admin() || (of_team && desk.may_change(&key, route).await.is_ok());
    if !may {
        return Err(desk.refused("Only proxy admins, and admins of the key's team, may do this."));
    }
    let by = desk.by();
    let change = |key: &mut Key| {
        (key.blocked, key.updated_by) = (blocked, by);
        Ok(())
    };
    let key = desk.store().update_key(&key.hash, desk.at, change).await?;
    desk.changed(std::slice::from_ref(&key.hash));
    Ok(shape::row(desk, &key).await?.into())
}

/// Another text for a key, which keeps its name, its limits and what it has spent.
pub async fn regenerate(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, mut body| {
        let named = match desk.key_in_path() {
            Some(named) => named.to_owned(),
            None => needed(&body, "key")?,
        };
        let old = find(&desk, &named).await?;
        desk.may_change(&old, "/key/regenerate").await?;
        newcomers::within_bounds(&mut body, &desk.live.config.newcomers.key_bounds, false)?;
        let secret = chosen(&desk, &body, "new_key")?;
        let hash = hex(&digest(secret.as_bytes()));
        let grace = match text(&body, "grace_period")? {
            Some(span) => Some(super::times::after(desk.at, &span).map_err(|e| e.at_param("grace_period"))?),
            None => None,
        };
        let mut trial = old.clone();
        shape::apply(&desk, &mut trial, &body)?;
        shape::check(&desk, &trial).await?;
        if (&old.user_id, &old.team_id) != (&trial.user_id, &trial.team_id) {
            allowed_to_make(&desk, &trial, "/key/generate").await?;
        }
        let (at, by, shown) = (desk.at, desk.by(), hint(secret.as_bytes()));
        let change = |key: &mut Key| {
            key.hint = Some(shown);
            write(&desk, key, &body, by)
        };
        let key = desk.store().regenerate_key(&old.hash, &hash, at, grace, change).await?;
        desk.changed(&[old.hash, key.hash.clone()]);
        shape::made(&desk, &key, &secret).await
    })
    .await
}

pub async fn reset_spend(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, body| {
        desk.admin_only()?;
        let key = find(&desk, desk.key_in_path().unwrap_or_default()).await?;
        let to = nanos("reset_to", body.get("reset_to").unwrap_or(&json!(0)))?;
        let before = shape::spent(&desk, &key).await?;
        if to > before {
            return Err(Error::invalid("'reset_to' is more than what the key has spent.").at_param("reset_to"));
        }
        desk.store().set_spent(Sum::Key, &key.id, to).await?;
        desk.changed(std::slice::from_ref(&key.hash));
        Ok(json!({
            "key_hash": key.hash,
            "spend": usd(to),
            "previous_spend": usd(before),
            "max_budget": key.max_budget_nanos.map_or(Value::Null, usd),
            "budget_reset_at": desk.resets_at(key.budget_duration.as_ref()),
        }))
    })
    .await
}

/// `GET /key/info?key=`: a key by its text or its hash; without one, the caller's own.
pub async fn info(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |desk, _| {
        let named = desk.query("key").or_else(|| desk.caller.holder().map(|holder| holder.key.hash.clone()));
        let named = named.ok_or_else(|| Error::invalid("Which key? Give it as ?key=.").at_param("key"))?;
        let key = find(&desk, &named).await?;
        desk.may_see(&key).await?;
        let mut info = shape::row(&desk, &key).await?;
        info.remove("token");
        Ok(json!({"key": named, "info": info}))
    })
    .await
}

/// The key is good, or this is not reached.
pub async fn health(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, async |_, _| Ok(json!({"key": "healthy", "logging_callbacks": null}))).await
}

/// What a key has spent, in nano-dollars.
async fn spends(desk: &Desk, keys: &[Key]) -> Result<Vec<i64>> {
    let entities: Vec<Entity> = keys.iter().map(|key| Entity::of(Sum::Key, &key.id)).collect();
    Ok(desk.store().totals(&entities).await?.iter().map(crate::store::Total::spent).collect())
}
