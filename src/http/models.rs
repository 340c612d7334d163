//! What is served: models in OpenAI's form, deployments in LiteLLM's, and the routes themselves.

use super::reply::{self, path_part, plain, worker};
use crate::auth::{self, Caller, access};
use crate::error::{Error, Kind, Result};
use crate::gateway::Live;
use crate::pattern;
use crate::route::Deployment;
use crate::wire::messages::models_page;
use actix_web::http::header::{HeaderValue, USER_AGENT};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// The configuration in force, and who asks; for a caller who shows a key.
pub async fn admitted(request: &HttpRequest) -> Result<(Arc<Live>, Caller)> {
    let gateway = &worker(request)?.gateway;
    let live = gateway.live();
    let caller = auth::caller(gateway, &live, request).await?;
    Ok((live, caller))
}

/// So many providers are asked for their models at the same time.
const AT_ONCE: usize = 16;

/// LiteLLM's own constant; clients only want a number.
const CREATED: u64 = 1_677_610_602;

fn model(live: &Live, name: &str, for_mistrals: bool) -> Value {
    let owner = live.routes.owner(name).unwrap_or("openai");
    let mut model = json!({"id": name, "object": "model", "created": CREATED, "owned_by": owner});
    if for_mistrals {
        let facts = known(live, name);
        let is = |name: &str| facts.get(name) == Some(&Value::Bool(true));
        let chats = matches!(facts.get("mode").and_then(Value::as_str), None | Some("chat" | "responses"));
        model["type"] = "base".into();
        model["capabilities"] = json!({"completion_chat": chats, "function_calling": is("supports_function_calling"),
            "vision": is("supports_vision"), "reasoning": is("supports_reasoning")});
        if let Some(most) = facts.get("max_input_tokens") {
            model["max_context_length"] = most.clone();
        }
    }
    model
}

/// What is known of the model behind a name.
pub fn known(live: &Live, name: &str) -> Map<String, Value> {
    live.routes.target(name).map(|target| facts(&target.deployment, target.model())).unwrap_or_default()
}

/// Whether the caller is Mistral's SDK, which reads no list of models without their types, nor embeddings without an id.
pub fn is_mistrals(request: &HttpRequest) -> bool {
    let agent = request.headers().get(USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
    agent.starts_with(b"mistral-client-")
}

/// Whether the caller reads Anthropic's form.
fn wants_anthropics(request: &HttpRequest) -> bool {
    request.headers().contains_key("anthropic-version")
}

/// Whether the caller is Google's SDK, which asks for models under `/v1` too.
fn wants_googles(request: &HttpRequest) -> bool {
    request.headers().contains_key("x-goog-api-client")
}

/// `GET /v1/models`: every name once, wildcards as the chat models that are known behind them
/// (`?return_wildcard_routes=true` shows the wildcards themselves too). `?include_model_access_groups=true` adds the
/// groups that models are in, `?only_model_access_groups=true` shows nothing else.
pub async fn list(request: HttpRequest) -> HttpResponse {
    if wants_googles(&request) {
        return super::gemini::list(request).await;
    }
    let started = Instant::now();
    let admitted = admitted(&request).await;
    let catalogs = match &admitted {
        Ok((live, _)) => catalogs(&request, live).await,
        Err(_) => HashMap::new(),
    };
    let result = admitted.map(|(live, caller)| {
        let is = |name: &str| query(&request, name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let wildcards = is("return_wildcard_routes");
        let mut names = live.routes.expanded_names(&live.config.prices, wildcards, &catalogs);
        names.retain(|name| access::may_use(&live, &caller, name));
        if wants_anthropics(&request) {
            let names: Vec<&str> = names.iter().map(|name| &**name).collect();
            let limit = query(&request, "limit").and_then(|limit| limit.parse().ok());
            let (after, before) = (query(&request, "after_id"), query(&request, "before_id"));
            return HttpResponse::Ok().json(models_page(&names, limit, after.as_deref(), before.as_deref()));
        }
        if is("only_model_access_groups") {
            names.clear();
        }
        if is("only_model_access_groups") || is("include_model_access_groups") {
            names.extend(access_groups(&live, &caller).into_iter().map(Cow::Owned));
        }
        let mistrals = is_mistrals(&request);
        let models: Vec<Value> = names.iter().map(|name| model(&live, name, mistrals)).collect();
        HttpResponse::Ok().json(json!({"object": "list", "data": models}))
    });
    answered(&request, started, result)
}

/// The groups of models that the caller may use, each once.
fn access_groups(live: &Live, caller: &Caller) -> BTreeSet<String> {
    let may_use = live.routes.deployments.iter().filter(|d| access::may_use(live, caller, &d.name));
    let groups = may_use.filter_map(|d| d.info.get("model_info")?.get("access_groups")?.as_array());
    groups.flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What the providers behind wildcards say they have, by the places of their deployments; nothing unless the operator
/// wants them to be asked.
pub async fn catalogs(request: &HttpRequest, live: &Live) -> HashMap<usize, Rc<[String]>> {
    let (Ok(worker), true) = (worker(request), live.config.server.asks_for_models) else { return HashMap::new() };
    let is_wild = |d: &&Arc<Deployment>| d.name.contains('*') && d.unserved.is_none() && d.mock.is_none();
    let asked = live.routes.deployments.iter().filter(is_wild).map(|deployment| async move {
        Some((deployment.index, worker.upstream.catalog(live.generation, deployment).await?))
    });
    futures_util::stream::iter(asked).buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
}

/// `GET /v1/models/{id}`
pub async fn one(request: HttpRequest) -> HttpResponse {
    if wants_googles(&request) {
        return super::gemini::one(request).await;
    }
    let started = Instant::now();
    let result = admitted(&request).await.and_then(|(live, caller)| {
        let id = &*path_part(&request, "id").unwrap_or_default();
        if live.routes.serves(id) && access::may_use(&live, &caller, id) {
            return Ok(HttpResponse::Ok().json(match wants_anthropics(&request) {
                true => models_page(&[id], None, None, None)["data"][0].clone(),
                false => model(&live, id, is_mistrals(&request)),
            }));
        }
        Err(unknown(&live, &caller, id))
    });
    answered(&request, started, result)
}

/// There is no such model, or none for this caller; with the nearest name that there is.
pub fn unknown(live: &Live, caller: &Caller, id: &str) -> Error {
    let names = live.routes.names().into_iter().filter(|name| access::may_use(live, caller, name));
    let hint = pattern::nearest(id, names).map_or(String::new(), |near| format!(" Did you mean `{near}`?"));
    let message =
        format!("The model '{}' does not exist, or your key may not use it.{hint}", crate::envelope::shorten(id));
    Error::new(Kind::NotFound, message).at_param("model")
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
fn facts(deployment: &Deployment, model: &str) -> Map<String, Value> {
    let known = deployment.pricing.known(model);
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
    shown.insert("model_info".into(), facts(deployment, &deployment.model).into());
    if let Some(Value::Object(facts)) = shown.get_mut("model_info") {
        facts.insert("id".into(), deployment.id.as_str().into());
        facts.entry("db_model").or_insert(false.into());
    }
    shown.into()
}

/// `GET /model_group/info`, `?model_group=NAME` for one name; wildcards as the models that are known behind them.
pub async fn groups(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let admitted = admitted(&request).await;
    let catalogs = match &admitted {
        Ok((live, _)) => catalogs(&request, live).await,
        Err(_) => HashMap::new(),
    };
    let result = admitted.map(|(live, caller)| {
        let wanted = query(&request, "model_group");
        let names = live.routes.expanded_names(&live.config.prices, false, &catalogs);
        let groups: Vec<Value> = names
            .iter()
            .filter(|name| wanted.as_deref().is_none_or(|wanted| wanted == **name))
            .filter(|name| access::may_use(&live, &caller, name))
            .map(|name| group(&live, name))
            .collect();
        HttpResponse::Ok().json(json!({"data": groups}))
    });
    plain(&request, started, result)
}

fn group(live: &Live, name: &str) -> Value {
    // One of those behind a wildcard has what is known of it alone.
    let (mut deployments, mut all) = (live.routes.group(name), Vec::new());
    let plan = live.routes.plan(name).ok();
    match (&plan, deployments.is_empty()) {
        (Some(plan), true) => {
            deployments = plan.group().deployments.iter().collect();
            all.push(known(live, name));
        }
        _ => all.extend(deployments.iter().map(|d| facts(d, &d.model))),
    }
    let mut providers: Vec<&str> = Vec::new();
    for deployment in &deployments {
        if !providers.contains(&deployment.provider.name) {
            providers.push(deployment.provider.name);
        }
    }
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
