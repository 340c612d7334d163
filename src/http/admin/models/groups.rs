//! `/access_group/*`: a name for several models, which keys and teams are given like a model. It stands in `access_groups`
//! of each model's info, so a group is there as long as one model has it.
//!
//! Source: LiteLLM's page on model access groups, and its API reference.

use super::{MODEL, id_of, is_declared, locked, not_found, stored, text, write};
use crate::auth::access::groups_of;
use crate::envelope::shorten;
use crate::error::{Error, Result};
use crate::gateway::Live;
use crate::http::admin::desk::{Body, Desk, list as names, run};
use crate::route::Deployment;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub const ROUTES: &[(&str, &str)] = &[
    ("POST", "/access_group/new"),
    ("GET", "/access_group/list"),
    ("GET", "/access_group/{id}/info"),
    ("PUT", "/access_group/{id}/update"),
    ("DELETE", "/access_group/{id}/delete"),
];

/// The names of the models in each group, one for each deployment.
fn groups(live: &Live) -> BTreeMap<&str, Vec<&str>> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for deployment in &live.routes.deployments {
        for group in groups_of(deployment) {
            groups.entry(group).or_default().push(&deployment.name);
        }
    }
    groups
}

fn shown(group: &str, models: &[&str]) -> Value {
    let names: BTreeSet<&str> = models.iter().copied().collect();
    json!({"access_group": group, "model_names": names, "deployment_count": models.len()})
}

/// # Errors
/// 404 where no model has it.
fn there(desk: &Desk, group: &str) -> Result<()> {
    match groups(&desk.live).contains_key(group) {
        true => Ok(()),
        false => Err(not_found("access group", group)),
    }
}

/// The ids of the deployments that a request asks for, by `model_ids`, else by `model_names`.
async fn asked(desk: &Desk, body: &Body) -> Result<BTreeSet<String>> {
    let (ids, models) = (names(body, "model_ids")?, names(body, "model_names")?);
    let (wanted, param) = if ids.is_empty() { (models, "model_names") } else { (ids, "model_ids") };
    if wanted.is_empty() {
        let message = "Give 'model_names' or 'model_ids': which models are in the group?";
        return Err(Error::invalid(message).at_param("model_names"));
    }
    let kept = stored(desk).await?;
    let declared = desk.live.routes.deployments.iter().filter(|d| is_declared(desk, &d.id));
    let mut all: Vec<(&str, &str)> = declared.map(|d| (&*d.id, &*d.name)).collect();
    let name_of = |model: &Map<String, Value>| model.get("model_name").and_then(Value::as_str).map(str::to_owned);
    let named: Vec<(&String, String)> =
        kept.models.iter().map(|(id, model)| (id, name_of(model).unwrap_or_default())).collect();
    all.extend(named.iter().map(|(id, name)| (id.as_str(), name.as_str())));
    let mut found = BTreeSet::new();
    for one in &wanted {
        let is_meant = |(id, name): &&(&str, &str)| one == if param == "model_ids" { id } else { name };
        let mut meant = all.iter().filter(is_meant).map(|(id, _)| (*id).to_owned()).peekable();
        if meant.peek().is_none() {
            return Err(Error::invalid(format!("There is no model '{}'.", shorten(one))).at_param(param));
        }
        found.extend(meant);
    }
    Ok(found)
}

/// Makes these deployments the group, and no others; says how many changed.
async fn set(desk: &Desk, group: &str, wanted: &BTreeSet<String>) -> Result<usize> {
    let would_change = |d: &&Arc<Deployment>| {
        groups_of(d).any(|of| of == group) != wanted.contains(&*d.id) && is_declared(desk, &d.id)
    };
    if let Some(deployment) = desk.live.routes.deployments.iter().find(would_change) {
        return Err(locked(&format!("The model '{}'", shorten(&deployment.name))));
    }
    let mut changed = 0;
    for (id, model) in &stored(desk).await?.models {
        let info = model.get("model_info").and_then(Value::as_object);
        let mut of = info.and_then(|info| info.get("access_groups")?.as_array()).cloned().unwrap_or_default();
        let is_wanted = wanted.contains(id);
        if of.iter().any(|of| of == group) == is_wanted {
            continue;
        }
        of.retain(|of| of != group);
        if is_wanted {
            of.push(group.into());
        }
        let mut info: Map<String, Value> = info.cloned().unwrap_or_default();
        info.insert("access_groups".to_owned(), of.into());
        let mut model = model.clone();
        model.insert("model_info".to_owned(), info.into());
        write(desk, MODEL, id, model.into()).await?;
        changed += 1;
    }
    Ok(changed)
}

fn done(group: &str, body: &Body, changed: usize) -> Value {
    json!({
        "access_group": group,
        "model_names": body.get("model_names"),
        "model_ids": body.get("model_ids"),
        "models_updated": changed,
    })
}

pub async fn new(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, |desk, body| async move {
        desk.admin_only()?;
        let group = text(&body, "access_group")?;
        if there(&desk, &group).is_ok() {
            let message = "There is an access group of this name; change it with PUT /access_group/NAME/update.";
            return Err(Error::invalid(message).at_param("access_group"));
        }
        let wanted = asked(&desk, &body).await?;
        let changed = set(&desk, &group, &wanted).await?;
        Ok(done(&group, &body, changed))
    })
    .await
}

pub async fn list(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, |desk, _| async move {
        desk.viewer_only()?;
        let all: Vec<Value> = groups(&desk.live).iter().map(|(group, models)| shown(group, models)).collect();
        Ok(json!({"access_groups": all}))
    })
    .await
}

pub async fn info(request: HttpRequest, payload: Payload) -> HttpResponse {
    let group = id_of(&request);
    run(request, payload, |desk, _| async move {
        desk.viewer_only()?;
        there(&desk, &group)?;
        Ok(groups(&desk.live).get(group.as_str()).map(|models| shown(&group, models)).unwrap_or_default())
    })
    .await
}

pub async fn update(request: HttpRequest, payload: Payload) -> HttpResponse {
    let group = id_of(&request);
    run(request, payload, |desk, body| async move {
        desk.admin_only()?;
        there(&desk, &group)?;
        let wanted = asked(&desk, &body).await?;
        let changed = set(&desk, &group, &wanted).await?;
        Ok(done(&group, &body, changed))
    })
    .await
}

pub async fn delete(request: HttpRequest, payload: Payload) -> HttpResponse {
    let group = id_of(&request);
    run(request, payload, |desk, _| async move {
        desk.admin_only()?;
        there(&desk, &group)?;
        let changed = set(&desk, &group, &BTreeSet::new()).await?;
        let message = format!("Access group '{}' deleted successfully", shorten(&group));
        Ok(json!({"access_group": group, "models_updated": changed, "message": message}))
    })
    .await
}
