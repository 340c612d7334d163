//! What is served: models in OpenAI's form, deployments in LiteLLM's, and the routes themselves.

use super::reply::{self, path_part, plain, worker};
use crate::auth::{self, Caller, access};
use crate::error::{Error, Kind, Result};
use crate::gateway::Live;
use crate::pattern;
use crate::route::Deployment;
use crate::wire::messages::models_page;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// The configuration in force, and who asks; for a caller who shows a key.
pub async fn admitted(request: &HttpRequest) -> Result<(Arc<Live>, Caller)> {
    let gateway = &worker(request)?.gateway;
    let live = gateway.live();
    let caller = auth::caller(gateway, &live, request).await?;
    Ok((live, caller))
}

/// LiteLLM's own constant; clients only want a number.
const CREATED: u64 = 1_677_610_602;

fn model(live: &Live, name: &str) -> Value {
    let owner = live.routes.owner(name).unwrap_or("openai");
    json!({"id": name, "object": "model", "created": CREATED, "owned_by": owner})
}

/// Whether the caller reads Anthropic's form.
fn wants_anthropics(request: &HttpRequest) -> bool {
    request.headers().contains_key("anthropic-version")
}

/// `GET /v1/models`: every name once, wildcards as the chat models that are known behind them
/// (`?return_wildcard_routes=true` shows the wildcards themselves too).
pub async fn list(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = admitted(&request).await.map(|(live, caller)| {
        let wildcards = query(&request, "return_wildcard_routes").is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let mut names = live.routes.expanded_names(&live.config.prices, wildcards);
        names.retain(|name| access::may_use(&live, &caller, name));
        if wants_anthropics(&request) {
            let names: Vec<&str> = names.iter().map(|name| &**name).collect();
            let limit = query(&request, "limit").and_then(|limit| limit.parse().ok());
            let (after, before) = (query(&request, "after_id"), query(&request, "before_id"));
            return HttpResponse::Ok().json(models_page(&names, limit, after.as_deref(), before.as_deref()));
        }
        let models: Vec<Value> = names.iter().map(|name| model(&live, name)).collect();
        HttpResponse::Ok().json(json!({"object": "list", "data": models}))
    });
    answered(&request, started, result)
}

/// `GET /v1/models/{id}`
pub async fn one(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = admitted(&request).await.and_then(|(live, caller)| {
        let id = &*path_part(&request, "id").unwrap_or_default();
        if live.routes.serves(id) && access::may_use(&live, &caller, id) {
            return Ok(HttpResponse::Ok().json(match wants_anthropics(&request) {
                true => models_page(&[id], None, None, None)["data"][0].clone(),
                false => model(&live, id),
            }));
        }
        let hint =
            pattern::nearest(id, live.routes.names().into_iter().filter(|name| access::may_use(&live, &caller, name)))
                .map_or(String::new(), |near| format!(" Did you mean `{near}`?"));
        let message =
            format!("The model '{}' does not exist, or your key may not use it.{hint}", crate::envelope::shorten(id));
        Err(Error::new(Kind::NotFound, message).at_param("model"))
    });
    answered(&request, started, result)
}

/// Errors in the form that the caller reads.
fn answered(request: &HttpRequest, started: Instant, result: Result<HttpResponse>) -> HttpResponse {
    let id = crate::meter::new_id();
    let anthropics = wants_anthropics(request);
    let answer = result.unwrap_or_else(|error| match anthropics {
        true => reply::anthropic_error(&error, &id),
        false => reply::error(&error, &id),
    });
    reply::plain_as(request, started, id, answer)
}

/// `GET /model/info`, `?litellm_model_id=ID` for one deployment.
pub async fn info(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = admitted(&request).await.and_then(|(live, caller)| {
        let wanted = query(&request, "litellm_model_id");
        let shown: Vec<Value> = live
            .routes
            .deployments
            .iter()
            .filter(|d| wanted.as_ref().is_none_or(|id| *id == d.id))
            .filter(|d| access::may_use(&live, &caller, &d.name))
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

/// `GET /v2/model/info`: the same page by page (`page`, `size`), by a part of the name (`search`) or by `modelId`.
pub async fn pages(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = admitted(&request).await.and_then(|(live, caller)| {
        let number = |name: &str, usual: usize| match query(&request, name).filter(|text| !text.is_empty()) {
            None => Ok(usual),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| (1..=1_000_000).contains(number))
                .ok_or_else(|| Error::invalid(format!("'{name}' must be a number from 1.")).at_param(name)),
        };
        let (page, size) = (number("page", 1)?, number("size", 50)?.min(500));
        let asked = |name: &str| query(&request, name).filter(|text| !text.is_empty());
        let (id, part, name) = (asked("modelId"), asked("search").map(|part| part.to_lowercase()), asked("model"));
        let all: Vec<&Arc<Deployment>> = live
            .routes
            .deployments
            .iter()
            .filter(|d| id.as_ref().is_none_or(|id| *id == d.id) && name.as_ref().is_none_or(|name| *name == d.name))
            .filter(|d| part.as_ref().is_none_or(|part| d.name.to_lowercase().contains(part.as_str())))
            .filter(|d| access::may_use(&live, &caller, &d.name))
            .collect();
        let shown: Vec<Value> = all.iter().skip((page - 1) * size).take(size).map(|d| deployment(d)).collect();
        Ok(HttpResponse::Ok().json(json!({
            "data": shown,
            "total_count": all.len(),
            "current_page": page,
            "size": size,
            "total_pages": all.len().div_ceil(size),
        })))
    });
    plain(&request, started, result)
}

/// What is known of the deployment's model, under what the operator says of it, as LiteLLM's `model_info`.
fn facts(deployment: &Deployment) -> Map<String, Value> {
    let known = deployment.pricing.known(&deployment.model);
    let mut facts = match &known.price {
        Some(price) => price.to_model_info(SystemTime::now()),
        None => known.facts.to_model_info(),
    };
    if let Some(Value::Object(own)) = deployment.info.get("model_info") {
        facts.extend(own.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    facts
}

fn deployment(deployment: &Deployment) -> Value {
    let mut shown = Map::new();
    shown.insert("model_name".into(), deployment.name.as_str().into());
    for (name, value) in &deployment.info {
        shown.insert(name.clone(), value.clone());
    }
    shown.insert("model_info".into(), facts(deployment).into());
    if let Some(Value::Object(facts)) = shown.get_mut("model_info") {
        facts.insert("id".into(), deployment.id.as_str().into());
        facts.entry("db_model").or_insert(false.into());
    }
    shown.into()
}

/// `GET /model_group/info`, `?model_group=NAME` for one name.
pub async fn groups(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = admitted(&request).await.map(|(live, caller)| {
        let wanted = query(&request, "model_group");
        let groups: Vec<Value> = live
            .routes
            .names()
            .into_iter()
            .filter(|name| wanted.as_ref().is_none_or(|w| w == name))
            .filter(|name| access::may_use(&live, &caller, name))
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
    let all: Vec<Map<String, Value>> = deployments.iter().map(|d| facts(d)).collect();
    let fact = |name: &str| all.iter().find_map(|facts| facts.get(name)).cloned();
    let largest = |name: &str| all.iter().filter_map(|facts| facts.get(name)?.as_u64()).max();
    // What a call may cost at most.
    let highest = |name: &str| {
        let prices = all.iter().filter_map(|facts| facts.get(name)).filter(|price| price.is_number());
        prices.max_by(|a, b| a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0))).cloned()
    };
    let supports = |name: &str| all.iter().any(|facts| facts.get(name) == Some(&Value::Bool(true)));
    json!({
        "model_group": name,
        "providers": providers,
        "mode": fact("mode"),
        "max_input_tokens": largest("max_input_tokens"),
        "max_output_tokens": largest("max_output_tokens"),
        "input_cost_per_token": highest("input_cost_per_token"),
        "output_cost_per_token": highest("output_cost_per_token"),
        "supports_vision": supports("supports_vision"),
        "supports_function_calling": supports("supports_function_calling"),
        "supports_parallel_function_calling": supports("supports_parallel_function_calling"),
        "supports_reasoning": supports("supports_reasoning"),
    })
}

pub async fn routes(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = admitted(&request).await.map(|_| {
        let routes: Vec<Value> =
            super::all().map(|(method, path)| json!({"path": path, "methods": [method]})).collect();
        HttpResponse::Ok().json(json!({"routes": routes}))
    });
    plain(&request, started, result)
}

/// `GET /`: says what this is, to anybody.
pub async fn welcome(request: HttpRequest) -> HttpResponse {
    let text = concat!(
        "Gateway ",
        env!("CARGO_PKG_VERSION"),
        "\n\nA gateway to language models, for clients of OpenAI's and of Anthropic's API.\n\n  POST /v1/chat/completions\n  POST /v1/messages\n  GET  /v1/models\n  GET  /health/readiness\n  GET  /routes\n"
    );
    plain(&request, Instant::now(), Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text)))
}

pub fn query(request: &HttpRequest, name: &str) -> Option<String> {
    let pairs = actix_web::web::Query::<Vec<(String, String)>>::from_query(request.query_string()).ok()?;
    pairs.into_inner().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}
