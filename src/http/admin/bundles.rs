//! `/v1/access_group`: models, servers of tools and agents under one name, which teams and keys are given at once.
//!
//! Source: LiteLLM's page on access groups, and its API reference. [`super::models::groups`] are its older ones, of models
//! alone.

use super::desk::{Body, Desk, needed, run, run_as, text};
use super::fields::texts;
use super::{hash_of, times};
use crate::envelope::shorten;
use crate::error::{Error, Kind, Result};
use crate::http::reply::path_part;
use crate::store::{AccessGroup, Fault, Key, Page, Team};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub const ROUTES: &[(&str, &str)] = &[
    ("POST", "/v1/access_group"),
    ("GET", "/v1/access_group"),
    ("GET", "/v1/access_group/{id}"),
    ("PUT", "/v1/access_group/{id}"),
    ("DELETE", "/v1/access_group/{id}"),
];

const MOST_NAME: usize = 256;

fn row(group: &AccessGroup) -> Value {
    json!({
        "access_group_id": group.id,
        "access_group_name": group.alias,
        "description": group.description,
        "access_model_names": group.models,
        "access_mcp_server_ids": group.mcp_servers,
        "access_agent_ids": group.agents,
        "assigned_team_ids": group.team_ids,
        "assigned_key_ids": group.key_ids,
        "created_at": times::iso(group.created_at),
        "created_by": group.created_by,
        "updated_at": times::iso(group.updated_at),
        "updated_by": group.updated_by,
    })
}

fn apply(group: &mut AccessGroup, body: &Body) -> Result<()> {
    if body.contains_key("access_group_name") {
        group.alias = needed(body, "access_group_name")?;
        if group.alias.len() > MOST_NAME {
            return Err(Error::invalid("The name is longer than 256 bytes.").at_param("access_group_name"));
        }
    }
    if body.contains_key("description") {
        group.description = text(body, "description")?;
    }
    for (name, field) in [
        ("access_model_names", &mut group.models),
        ("access_mcp_server_ids", &mut group.mcp_servers),
        ("access_agent_ids", &mut group.agents),
        ("assigned_team_ids", &mut group.team_ids),
        ("assigned_key_ids", &mut group.key_ids),
    ] {
        if let Some(value) = body.get(name) {
            *field = texts(name, value)?;
        }
    }
    group.key_ids.iter_mut().for_each(|named| *named = hash_of(named));
    Ok(())
}

/// # Errors
/// 400 for a team or key that there is not, 403 for one that the configuration declares and that would change.
async fn check(desk: &Desk, old: &AccessGroup, new: &AccessGroup) -> Result<()> {
    let teams: Vec<Team> = desk.store().get_many(&new.team_ids).await?;
    if let Some(id) = new.team_ids.iter().find(|id| !teams.iter().any(|team| team.id == **id)) {
        return Err(Error::invalid(format!("There is no team '{}'.", shorten(id))).at_param("assigned_team_ids"));
    }
    let keys = desk.store().keys_by_hash(&new.key_ids).await?;
    if let Some(hash) = new.key_ids.iter().find(|hash| !keys.iter().any(|key| key.hash == **hash)) {
        return Err(Error::invalid(format!("There is no key '{}'.", shorten(hash))).at_param("assigned_key_ids"));
    }
    for id in changed(&old.team_ids, &new.team_ids) {
        desk.store().unlocked::<Team>(id)?;
    }
    for key in keys.iter().filter(|key| !old.key_ids.contains(&key.hash)) {
        desk.store().unlocked::<Key>(&key.id)?;
    }
    Ok(())
}

/// What is in one of the two alone.
fn changed<'a>(old: &'a [String], new: &'a [String]) -> BTreeSet<&'a String> {
    old.iter().filter(|id| !new.contains(id)).chain(new.iter().filter(|id| !old.contains(id))).collect()
}

/// Tells teams and keys that they have the group, or have it no longer.
async fn assign(desk: &Desk, id: &str, old: &AccessGroup, new: &AccessGroup) -> Result<()> {
    let put = |ids: &mut Vec<String>, has: bool| {
        ids.retain(|one| one != id);
        if has {
            ids.push(id.to_owned());
        }
        Ok(())
    };
    // One that is gone meanwhile has nothing that could be taken away.
    let unless_gone = |result: crate::store::Result<()>| match result {
        Err(Fault::Missing(_)) => Ok(()),
        other => other,
    };
    for team in changed(&old.team_ids, &new.team_ids) {
        let has = new.team_ids.contains(team);
        let result = desk.store().update(team, desk.at, |team: &mut Team| put(&mut team.access_group_ids, has)).await;
        unless_gone(result.map(drop))?;
    }
    for hash in changed(&old.key_ids, &new.key_ids) {
        let has = new.key_ids.contains(hash);
        let result = desk.store().update_key(hash, desk.at, |key| put(&mut key.access_group_ids, has)).await;
        unless_gone(result.map(drop))?;
    }
    desk.changed_people();
    Ok(())
}

async fn there(desk: &Desk, id: &str) -> Result<AccessGroup> {
    let missing = || Error::new(Kind::NotFound, format!("There is no access group '{}'.", shorten(id)));
    desk.store().get(id).await?.ok_or_else(missing)
}

pub async fn all(request: HttpRequest, payload: Payload) -> HttpResponse {
    match *request.method() == Method::POST {
        true => run_as(StatusCode::CREATED, request, payload, new).await,
        false => run(request, payload, list).await,
    }
}

async fn new(desk: Desk, body: Body) -> Result<Value> {
    desk.admin_only()?;
    needed(&body, "access_group_name")?;
    let (id, at, by) = (crate::meter::new_id().to_string(), desk.at, desk.by());
    let mut group = AccessGroup {
        id,
        created_at: at,
        updated_at: at,
        created_by: by.clone(),
        updated_by: by,
        ..Default::default()
    };
    let none = group.clone();
    apply(&mut group, &body)?;
    check(&desk, &none, &group).await?;
    desk.store().create(&group).await?;
    assign(&desk, &group.id, &none, &group).await?;
    Ok(row(&group))
}

async fn list(desk: Desk, _: Body) -> Result<Value> {
    desk.viewer_only()?;
    let groups = desk.store().list::<AccessGroup>(&Page { limit: 1000, ..Page::default() }).await?.rows;
    Ok(groups.iter().map(row).collect())
}

pub async fn one(request: HttpRequest, payload: Payload) -> HttpResponse {
    let id = path_part(&request, "id").unwrap_or_default().into_owned();
    let method = request.method().clone();
    run(request, payload, |desk, body| async move {
        match method {
            Method::PUT => update(desk, id, body).await,
            Method::DELETE => delete(desk, id).await,
            _ => {
                desk.viewer_only()?;
                Ok(row(&there(&desk, &id).await?))
            }
        }
    })
    .await
}

async fn update(desk: Desk, id: String, body: Body) -> Result<Value> {
    desk.admin_only()?;
    let old = there(&desk, &id).await?;
    let mut new = old.clone();
    apply(&mut new, &body)?;
    check(&desk, &old, &new).await?;
    let by = desk.by();
    let change = |group: &mut AccessGroup| {
        group.updated_by = by;
        apply(group, &body).map_err(|e| Fault::Invalid(e.to_string()))
    };
    let group = desk.store().update(&id, desk.at, change).await?;
    assign(&desk, &id, &old, &group).await?;
    Ok(row(&group))
}

async fn delete(desk: Desk, id: String) -> Result<Value> {
    desk.admin_only()?;
    let old = there(&desk, &id).await?;
    let none = AccessGroup::default();
    check(&desk, &old, &none).await?;
    desk.store().delete::<AccessGroup>(std::slice::from_ref(&id), desk.by().as_deref(), desk.at).await?;
    assign(&desk, &id, &old, &none).await?;
    Ok(json!({"access_group_id": id, "message": "Access group deleted successfully"}))
}
