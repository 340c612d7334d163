//! Models, credentials and settings at run time: `/model/*`, `/credentials`, `/fallback`, `/router/settings` and
//! `/config/field/*`, with LiteLLM's requests and answers. What the configuration declares is locked.

pub mod groups;

use super::desk::{Body, Desk, run};
use crate::config::stored::{CREDENTIAL, MODEL, SETTING, Stored, settings};
use crate::error::{Error, Kind, Result};
use crate::http::reply::path_part;
use crate::store::Configured;
use actix_web::http::Method;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

pub const ROUTES: &[(&str, &str)] = &[
    ("POST", "/model/new"),
    ("POST", "/model/update"),
    ("PATCH", "/model/{id}/update"),
    ("POST", "/model/delete"),
    ("POST", "/credentials"),
    ("GET", "/credentials"),
    ("GET", "/credentials/by_name/{id}"),
    ("PATCH", "/credentials/{id}"),
    ("DELETE", "/credentials/{id}"),
    ("POST", "/fallback"),
    ("GET", "/fallback/{id}"),
    ("DELETE", "/fallback/{id}"),
    ("GET", "/router/settings"),
    ("POST", "/config/field/update"),
    ("GET", "/config/field/info"),
    ("POST", "/config/field/delete"),
];

/// Members that may hold a secret, by what their names end with.
const SECRET: [&str; 6] = ["key", "secret", "token", "password", "credentials", "headers"];

pub(super) fn id_of(request: &HttpRequest) -> String {
    path_part(request, "id").unwrap_or_default().into_owned()
}

fn text(body: &Body, name: &str) -> Result<String> {
    let found = body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty() && text.len() <= 512);
    found.map(str::to_owned).ok_or_else(|| Error::invalid(format!("'{name}' must be a text.")).at_param(name))
}

fn table(body: &Body, name: &str) -> Result<Map<String, Value>> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map.clone()),
        Some(_) => Err(Error::invalid(format!("'{name}' must be an object.")).at_param(name)),
    }
}

/// Secrets are never given back: their last four characters are enough to know them by.
pub(super) fn masked(map: &Map<String, Value>) -> Map<String, Value> {
    let mask = |(name, value): (&String, &Value)| {
        let is_secret = SECRET.iter().any(|end| name.to_ascii_lowercase().ends_with(end));
        let shown = match value {
            Value::String(text) if is_secret && !text.starts_with("os.environ/") => {
                let count = text.chars().count();
                let end: String = if count >= 12 { text.chars().skip(count - 4).collect() } else { String::new() };
                Value::from(format!("****{end}"))
            }
            Value::Object(_) | Value::Array(_) if is_secret => Value::from("****"),
            Value::Object(inner) => masked(inner).into(),
            other => other.clone(),
        };
        (name.clone(), shown)
    };
    map.iter().map(mask).collect()
}

pub(super) fn not_found(what: &str, id: &str) -> Error {
    Error::new(Kind::NotFound, format!("No {what} '{}' is stored.", crate::envelope::shorten(id)))
}

pub(super) fn locked(what: &str) -> Error {
    let message = format!("{what} is declared by the configuration, which wins; change it there.");
    Error::new(Kind::Forbidden, message).with_type("locked_by_configuration")
}

/// What is stored now, opened.
pub(super) async fn stored(desk: &Desk) -> Result<Stored> {
    let rows = desk.store().configured().await?;
    Ok(Stored::open(rows, &desk.live.config.seals))
}

/// Seals and writes a record, and puts it in force here; others follow within a second.
pub(super) async fn write(desk: &Desk, kind: &str, id: &str, value: Value) -> Result<()> {
    let about = format!("{kind}/{id}");
    let body = desk.live.config.seals.seal(&value.to_string(), &about);
    let body = body.map_err(|why| Error::new(Kind::Internal, format!("It cannot be stored: {why}.")))?;
    let (kind, id) = (kind.to_owned(), id.to_owned());
    let one = Configured { kind, id, body, updated_at: desk.at, updated_by: desk.by() };
    desk.store().configure(&one).await?;
    apply(desk).await
}

pub(super) async fn take_away(desk: &Desk, kind: &str, id: &str) -> Result<bool> {
    let was_there = desk.store().unconfigure(kind, id, desk.at).await?;
    apply(desk).await?;
    Ok(was_there)
}

pub(super) async fn apply(desk: &Desk) -> Result<()> {
    let applied = desk.gateway.take_stored().await;
    applied.map_err(|why| Error::new(Kind::Internal, format!("It is stored, and cannot be put in force: {why}")))
}

/// Whether the configuration itself has a deployment of that id.
fn is_declared(desk: &Desk, id: &str) -> bool {
    desk.live
        .routes
        .deployments
        .iter()
        .any(|d| d.id == id && d.info.get("model_info").is_none_or(|i| i["db_model"] != true))
}

/// A model that would not load is refused before it is stored.
fn check(desk: &Desk, model: &Map<String, Value>, credentials: &Stored) -> Result<()> {
    let mut model = model.clone();
    if !crate::config::litellm::give_credentials(&mut model, &credentials.credentials) {
        let place = "litellm_params.litellm_credential_name";
        return Err(Error::invalid("No credential of this name is stored.").at_param(place));
    }
    let read = crate::config::stored::model(&model);
    let problem = match read {
        Ok(model) => desk.gateway.try_model(&model).err(),
        Err(why) => Some(why),
    };
    problem.map_or(Ok(()), |why| {
        Err(Error::invalid(format!("This model cannot be served: {why}")).at_param("litellm_params"))
    })
}

pub async fn new(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, |desk, body| async move {
        desk.admin_only()?;
        let name = text(&body, "model_name")?;
        let (params, mut info) = (table(&body, "litellm_params")?, table(&body, "model_info")?);
        let given = info.get("id").and_then(Value::as_str).filter(|id| !id.is_empty() && id.len() <= 128);
        let id = given.map_or_else(|| crate::meter::new_id().to_string(), str::to_owned);
        if is_declared(&desk, &id) {
            return Err(locked("A model of this id"));
        }
        let kept = stored(&desk).await?;
        if kept.models.contains_key(&id) {
            return Err(
                Error::invalid("A model of this id is stored already; use /model/update.").at_param("model_info.id")
            );
        }
        info.insert("id".to_owned(), id.clone().into());
        let mut model = json!({"model_name": name, "litellm_params": params, "model_info": info});
        // Beside LiteLLM's members, those of `[[models]]`.
        let limits = table(&body, "limits")?;
        if !limits.is_empty() {
            model["limits"] = limits.into();
        }
        check(&desk, model.as_object().unwrap_or(&Map::new()), &kept)?;
        write(&desk, MODEL, &id, model).await?;
        Ok(json!({"model_id": id, "model_name": name, "litellm_params": masked(&params), "model_info": info,
            "created_by": desk.by()}))
    })
    .await
}

/// Members that are given take the place of those that were there; null takes one away.
pub(super) fn merged(mut old: Map<String, Value>, new: Map<String, Value>) -> Map<String, Value> {
    for (name, value) in new {
        match value {
            Value::Null => drop(old.remove(&name)),
            value => drop(old.insert(name, value)),
        }
    }
    old
}

async fn change(desk: Desk, id: String, body: Body) -> Result<Value> {
    desk.admin_only()?;
    if is_declared(&desk, &id) {
        return Err(locked("This model"));
    }
    let kept = stored(&desk).await?;
    let mut model = kept.models.get(&id).cloned().ok_or_else(|| not_found("model", &id))?;
    if body.get("model_name").is_some_and(|name| !name.is_null()) {
        model.insert("model_name".to_owned(), text(&body, "model_name")?.into());
    }
    for name in ["litellm_params", "model_info"] {
        let old = model.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
        model.insert(name.to_owned(), merged(old, table(&body, name)?).into());
    }
    let limits =
        merged(model.get("limits").and_then(Value::as_object).cloned().unwrap_or_default(), table(&body, "limits")?);
    match limits.is_empty() {
        true => drop(model.remove("limits")),
        false => drop(model.insert("limits".to_owned(), limits.into())),
    }
    if let Some(Value::Object(info)) = model.get_mut("model_info") {
        info.insert("id".to_owned(), id.clone().into());
    }
    check(&desk, &model, &kept)?;
    write(&desk, MODEL, &id, Value::Object(model.clone())).await?;
    let params = model.get("litellm_params").and_then(Value::as_object).map(masked);
    Ok(
        json!({"model_id": id, "model_name": model["model_name"], "litellm_params": params, "model_info": model["model_info"],
        "updated_by": desk.by()}),
    )
}

pub async fn update(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, |desk, body| async move {
        // LiteLLM's own client has it outside.
        let id = match body.get("id") {
            Some(Value::String(id)) => id.clone(),
            _ => text(&table(&body, "model_info")?, "id").map_err(|e| e.at_param("model_info.id"))?,
        };
        change(desk, id, body).await
    })
    .await
}

pub async fn patch(request: HttpRequest, payload: Payload) -> HttpResponse {
    let id = id_of(&request);
    run(request, payload, |desk, body| change(desk, id, body)).await
}

pub async fn delete(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, |desk, body| async move {
        desk.admin_only()?;
        let id = text(&body, "id")?;
        if is_declared(&desk, &id) {
            return Err(locked("This model"));
        }
        match take_away(&desk, MODEL, &id).await? {
            true => Ok(json!({"message": format!("Model: {id} deleted successfully")})),
            false => Err(not_found("model", &id)),
        }
    })
    .await
}

async fn new_credential(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, |desk, body| async move {
        desk.admin_only()?;
        let name = text(&body, "credential_name")?;
        let values = table(&body, "credential_values")?;
        if values.is_empty() {
            return Err(Error::invalid("'credential_values' is empty.").at_param("credential_values"));
        }
        if stored(&desk).await?.credentials.contains_key(&name) {
            let message = format!("A credential of this name is stored already; use PATCH /credentials/{name}.");
            return Err(Error::invalid(message).at_param("credential_name"));
        }
        let info = table(&body, "credential_info")?;
        write(&desk, CREDENTIAL, &name, json!({"credential_values": values, "credential_info": info})).await?;
        Ok(json!({"success": true, "message": "Credential created successfully"}))
    })
    .await
}

fn shown_credential(kept: &Stored, name: &str) -> Option<Value> {
    let values = masked(kept.credentials.get(name)?);
    let info = kept.credential_infos.get(name);
    Some(json!({"credential_name": name, "credential_values": values, "credential_info": info}))
}

async fn credentials(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, |desk, _| async move {
        desk.admin_only()?;
        let kept = stored(&desk).await?;
        let shown: Vec<Value> = kept.credentials.keys().filter_map(|name| shown_credential(&kept, name)).collect();
        Ok(json!({"success": true, "credentials": shown}))
    })
    .await
}

pub async fn credential(request: HttpRequest, payload: Payload) -> HttpResponse {
    let name = id_of(&request);
    run(request, payload, |desk, _| async move {
        desk.admin_only()?;
        let kept = stored(&desk).await?;
        shown_credential(&kept, &name).ok_or_else(|| not_found("credential", &name))
    })
    .await
}

async fn change_credential(request: HttpRequest, payload: Payload) -> HttpResponse {
    let name = id_of(&request);
    run(request, payload, |desk, body| async move {
        desk.admin_only()?;
        let kept = stored(&desk).await?;
        let old = kept.credentials.get(&name).cloned().ok_or_else(|| not_found("credential", &name))?;
        let values = merged(old, table(&body, "credential_values")?);
        let about = kept.credential_infos.get(&name).cloned().unwrap_or_default();
        let info = merged(about, table(&body, "credential_info")?);
        write(&desk, CREDENTIAL, &name, json!({"credential_values": values, "credential_info": info})).await?;
        Ok(json!({"success": true, "message": "Credential updated successfully"}))
    })
    .await
}

async fn delete_credential(request: HttpRequest, payload: Payload) -> HttpResponse {
    let name = id_of(&request);
    run(request, payload, |desk, _| async move {
        desk.admin_only()?;
        match take_away(&desk, CREDENTIAL, &name).await? {
            true => Ok(json!({"success": true, "message": "Credential deleted successfully"})),
            false => Err(not_found("credential", &name)),
        }
    })
    .await
}

pub async fn credentials_at(request: HttpRequest, payload: Payload) -> HttpResponse {
    match *request.method() == Method::POST {
        true => new_credential(request, payload).await,
        false => credentials(request, payload).await,
    }
}

pub async fn credential_at(request: HttpRequest, payload: Payload) -> HttpResponse {
    match *request.method() == Method::DELETE {
        true => delete_credential(request, payload).await,
        false => change_credential(request, payload).await,
    }
}

pub async fn fallback_at(request: HttpRequest, payload: Payload) -> HttpResponse {
    match *request.method() == Method::DELETE {
        true => delete_fallback(request, payload).await,
        false => fallback(request, payload).await,
    }
}

/// The setting that holds LiteLLM's fallbacks of this sort.
fn list_of(sort: Option<&str>) -> Result<&'static str> {
    match sort.unwrap_or("general") {
        "general" => Ok("fallbacks"),
        "context_window" => Ok("context_window_fallbacks"),
        "content_policy" => Ok("content_policy_fallbacks"),
        _ => Err(Error::invalid("'fallback_type' must be general, context_window or content_policy.")
            .at_param("fallback_type")),
    }
}

/// The stored lists of this sort, by model.
fn lists(kept: &Stored, list: &str) -> Map<String, Value> {
    let maps = kept.settings.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
    maps.into_iter().filter_map(|map| map.as_object().cloned()).flatten().collect()
}

async fn write_lists(desk: &Desk, list: &str, lists: Map<String, Value>) -> Result<()> {
    let value: Vec<Value> = lists.into_iter().map(|(model, to)| json!({ model: to })).collect();
    write(desk, SETTING, list, value.into()).await
}

pub async fn new_fallback(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, |desk, body| async move {
        desk.admin_only()?;
        let model = text(&body, "model")?;
        let list = list_of(body.get("fallback_type").and_then(Value::as_str))?;
        if model != "*" && !desk.live.routes.serves(&model) {
            return Err(Error::invalid("'model' is no model that is served.").at_param("model"));
        }
        let to = body.get("fallback_models").and_then(Value::as_array).filter(|to| !to.is_empty() && to.len() <= 32);
        let to = to.ok_or_else(|| Error::invalid("'fallback_models' must be a list of models.").at_param("fallback_models"))?;
        for name in to {
            let known = name.as_str().is_some_and(|name| name != model && desk.live.routes.serves(name));
            if !known {
                return Err(Error::invalid("Each of 'fallback_models' must be another model that is served.").at_param("fallback_models"));
            }
        }
        let declared = desk.live.config.written_fallbacks.contains(&(list.to_owned(), model.clone()));
        if declared {
            return Err(locked("The fallback of this model"));
        }
        let mut kept = lists(&stored(&desk).await?, list);
        kept.insert(model.clone(), to.clone().into());
        write_lists(&desk, list, kept).await?;
        Ok(json!({"model": model, "fallback_models": to, "fallback_type": body.get("fallback_type").cloned().unwrap_or("general".into()),
            "message": "Fallback configuration created successfully"}))
    })
    .await
}

async fn fallback(request: HttpRequest, payload: Payload) -> HttpResponse {
    let model = id_of(&request);
    run(request, payload, |desk, _| async move {
        desk.viewer_only()?;
        let sort = desk.query("fallback_type");
        let list = list_of(sort.as_deref())?;
        let all = &desk.live.routes.settings.fallbacks;
        let map = match list {
            "context_window_fallbacks" => &all.window,
            "content_policy_fallbacks" => &all.policy,
            _ => &all.general,
        };
        let to = map.get(&model).ok_or_else(|| Error::new(Kind::NotFound, "This model has no such fallbacks."))?;
        let names: Vec<&str> = to.iter().map(|fallback| &*fallback.model).collect();
        Ok(json!({"model": model, "fallback_models": names, "fallback_type": sort.unwrap_or_else(|| "general".to_owned())}))
    })
    .await
}

async fn delete_fallback(request: HttpRequest, payload: Payload) -> HttpResponse {
    let model = id_of(&request);
    run(request, payload, |desk, _| async move {
        desk.admin_only()?;
        let sort = desk.query("fallback_type");
        let list = list_of(sort.as_deref())?;
        let mut kept = lists(&stored(&desk).await?, list);
        if kept.remove(&model).is_none() {
            return Err(not_found("fallback of the model", &model));
        }
        write_lists(&desk, list, kept).await?;
        Ok(json!({"model": model, "fallback_type": sort.unwrap_or_else(|| "general".to_owned()),
            "message": "Fallback configuration deleted successfully"}))
    })
    .await
}

/// Settings of the router that can be changed while it runs.
const FIELDS: [&str; 20] = [
    "routing_strategy",
    "routing_strategy_args",
    "num_retries",
    "retry_after",
    "retry_policy",
    "model_group_retry_policy",
    "allowed_fails",
    "allowed_fails_policy",
    "cooldown_time",
    "disable_cooldowns",
    "fallbacks",
    "context_window_fallbacks",
    "content_policy_fallbacks",
    "default_fallbacks",
    "max_fallbacks",
    "model_group_alias",
    "enable_pre_call_checks",
    "optional_pre_call_checks",
    "enable_tag_filtering",
    "tag_filtering_match_any",
];

fn field(name: &str) -> Result<&'static str> {
    let found = FIELDS.into_iter().find(|field| *field == name);
    found.ok_or_else(|| {
        let near =
            crate::pattern::nearest(name, FIELDS).map_or(String::new(), |near| format!(" Did you mean '{near}'?"));
        Error::invalid(format!("This setting cannot be changed while the gateway runs.{near}")).at_param("field_name")
    })
}

pub async fn router_settings(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, |desk, _| async move {
        desk.viewer_only()?;
        let kept = stored(&desk).await?;
        let shown = |name: &&str| json!({"field_name": name, "stored_value": kept.settings.get(*name)});
        Ok(json!({
            "fields": FIELDS.iter().map(shown).collect::<Vec<_>>(),
            "current_values": desk.live.config.written_routing,
        }))
    })
    .await
}

pub async fn update_field(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, |desk, body| async move {
        desk.admin_only()?;
        let name = field(&text(&body, "field_name")?)?;
        let value = body.get("field_value").cloned().unwrap_or(Value::Null);
        let one = Map::from_iter([(name.to_owned(), value.clone())]);
        let routing = crate::config::litellm::router(&one)
            .map_err(|why| Error::invalid(format!("'{name}' cannot be this: {why}")).at_param("field_value"))?;
        if settings(&routing).any(|own| desk.live.config.written_settings.contains(&own)) {
            return Err(locked("This setting"));
        }
        write(&desk, SETTING, name, value.clone()).await?;
        Ok(json!({"param_name": name, "param_value": value}))
    })
    .await
}

pub async fn field_info(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, |desk, _| async move {
        desk.viewer_only()?;
        let name = field(&desk.query("field_name").unwrap_or_default())?;
        let kept = stored(&desk).await?;
        let value = kept.settings.get(name).ok_or_else(|| not_found("setting", name))?;
        Ok(json!({"field_name": name, "field_value": value}))
    })
    .await
}

pub async fn delete_field(request: HttpRequest, payload: Payload) -> HttpResponse {
    run(request, payload, |desk, body| async move {
        desk.admin_only()?;
        let name = field(&text(&body, "field_name")?)?;
        match take_away(&desk, SETTING, name).await? {
            true => Ok(json!({"field_name": name, "message": "Field deleted successfully"})),
            false => Err(not_found("setting", name)),
        }
    })
    .await
}
