//! What is served: models in OpenAI's form, deployments in LiteLLM's, and the routes themselves.

use super::reply::{path_part, plain, worker};
use crate::error::{Error, Kind, Result};
use crate::gateway::Live;
use crate::pattern;
use crate::route::Deployment;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Instant;

/// The configuration in force, for a caller who shows a key.
fn admitted(request: &HttpRequest) -> Result<Arc<Live>> {
    let live = worker(request)?.gateway.live();
    live.auth.caller(request.headers())?;
    Ok(live)
}

/// LiteLLM's own constant; clients only want a number.
const CREATED: u64 = 1_677_610_602;

fn model(live: &Live, name: &str) -> Value {
    let owner = live.routes.group(name).first().map_or("openai", |d| d.provider.name);
    json!({"id": name, "object": "model", "created": CREATED, "owned_by": owner})
}

pub async fn list(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = admitted(&request).map(|live| {
        let models: Vec<Value> = live.routes.names().into_iter().map(|name| model(&live, name)).collect();
        HttpResponse::Ok().json(json!({"object": "list", "data": models}))
    });
    plain(&request, started, result)
}

pub async fn one(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = admitted(&request).and_then(|live| {
        let id = &*path_part(&request, "id").unwrap_or_default();
        if live.routes.serves(id) {
            return Ok(HttpResponse::Ok().json(model(&live, id)));
        }
        let hint =
            pattern::nearest(id, live.routes.names()).map_or(String::new(), |near| format!(" Did you mean `{near}`?"));
        let message =
            format!("The model '{}' does not exist, or your key may not use it.{hint}", crate::envelope::shorten(id));
        Err(Error::new(Kind::NotFound, message).at_param("model"))
    });
    plain(&request, started, result)
}

/// `GET /model/info`, `?litellm_model_id=ID` for one deployment.
pub async fn info(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = admitted(&request).and_then(|live| {
        let wanted = query(&request, "litellm_model_id");
        let shown: Vec<Value> = live
            .routes
            .deployments
            .iter()
            .filter(|d| wanted.as_ref().is_none_or(|id| *id == d.id))
            .map(|d| deployment(d))
            .collect();
        match wanted {
            Some(id) if shown.is_empty() => {
                Err(Error::invalid(format!("No deployment has the id '{}'.", crate::envelope::shorten(&id)))
                    .at_param("litellm_model_id"))
            }
            _ => Ok(HttpResponse::Ok().json(json!({"data": shown}))),
        }
    });
    plain(&request, started, result)
}

fn deployment(deployment: &Deployment) -> Value {
    let mut shown = Map::new();
    shown.insert("model_name".into(), deployment.name.as_str().into());
    for (name, value) in &deployment.info {
        shown.insert(name.clone(), value.clone());
    }
    if let Some(Value::Object(facts)) = shown.get_mut("model_info") {
        facts.insert("id".into(), deployment.id.as_str().into());
        facts.insert("db_model".into(), false.into());
    }
    shown.into()
}

/// `GET /model_group/info`, `?model_group=NAME` for one name.
pub async fn groups(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = admitted(&request).map(|live| {
        let wanted = query(&request, "model_group");
        let groups: Vec<Value> = live
            .routes
            .names()
            .into_iter()
            .filter(|name| wanted.as_ref().is_none_or(|w| w == name))
            .map(|name| group(&live, name))
            .collect();
        HttpResponse::Ok().json(json!({"data": groups}))
    });
    plain(&request, started, result)
}

fn group(live: &Live, name: &str) -> Value {
    let deployments = live.routes.group(name);
    let mut providers: Vec<&str> = Vec::new();
    for deployment in &deployments {
        if !providers.contains(&deployment.provider.name) {
            providers.push(deployment.provider.name);
        }
    }
    let fact = |name: &str| deployments.iter().filter_map(|d| d.info.get("model_info")?.get(name)).next().cloned();
    let largest = |name: &str| deployments.iter().filter_map(|d| d.info.get("model_info")?.get(name)?.as_u64()).max();
    let supports = |name: &str| {
        deployments.iter().any(|d| d.info.get("model_info").and_then(|i| i.get(name)) == Some(&Value::Bool(true)))
    };
    json!({
        "model_group": name,
        "providers": providers,
        "mode": fact("mode"),
        "max_input_tokens": largest("max_input_tokens"),
        "max_output_tokens": largest("max_output_tokens"),
        "supports_vision": supports("supports_vision"),
        "supports_function_calling": supports("supports_function_calling"),
        "supports_parallel_function_calling": supports("supports_parallel_function_calling"),
        "supports_reasoning": supports("supports_reasoning"),
    })
}

pub async fn routes(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = admitted(&request).map(|_| {
        let routes: Vec<Value> =
            super::ROUTES.iter().map(|(method, path)| json!({"path": path, "methods": [method]})).collect();
        HttpResponse::Ok().json(json!({"routes": routes}))
    });
    plain(&request, started, result)
}

/// `GET /`: says what this is, to anybody.
pub async fn welcome(request: HttpRequest) -> HttpResponse {
    let text = concat!(
        "Gateway ",
        env!("CARGO_PKG_VERSION"),
        "\n\nAn OpenAI-compatible gateway to language models.\n\n  POST /v1/chat/completions\n  GET  /v1/models\n  GET  /health/readiness\n  GET  /routes\n"
    );
    plain(&request, Instant::now(), Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text)))
}

fn query(request: &HttpRequest, name: &str) -> Option<String> {
    let pairs = actix_web::web::Query::<Vec<(String, String)>>::from_query(request.query_string()).ok()?;
    pairs.into_inner().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}
