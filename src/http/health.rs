//! Is the process alive, can it serve, and do the upstreams really answer.

pub mod state;

use super::reply::{plain, worker};
use crate::auth::access;
use crate::database::State;
use crate::envelope::Envelope;
use crate::error::{Error, Result};
use crate::exchange::{self, Ask, Face};
use crate::gateway::{Live, Worker};
use crate::route::{Deployment, Target};
use crate::store::Engine;
use crate::upstream::{self, Request};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

/// `GET /health/liveliness`: the process answers. Asked often, so it leaves no line in the log.
pub async fn alive() -> HttpResponse {
    HttpResponse::Ok().json("I'm alive!")
}

/// `GET /health/readiness`: calls are served.
pub async fn ready(request: HttpRequest) -> HttpResponse {
    let result = worker(&request).map(|worker| {
        let live = worker.gateway.live();
        let draining = worker.gateway.ending.is_draining();
        let database = worker.gateway.database.state();
        let engine = worker.gateway.store.engine();
        // The embedded store is of use to those who have keys; a Postgres that was asked for must be there.
        let lost = database == State::Down && engine == Engine::Postgres;
        let mut builder = if draining || lost { HttpResponse::ServiceUnavailable() } else { HttpResponse::Ok() };
        builder.json(json!({
            "status": match (draining, lost) {
                (true, _) => "stopping",
                (_, true) => "unhealthy",
                _ => "healthy",
            },
            "db": if database == State::Up { "connected" } else { "Not connected" },
            "store": engine.name(),
            "cache": null,
            "models": live.routes.deployments.len(),
            "uptime_seconds": worker.gateway.started.elapsed().as_secs(),
            "litellm_version": env!("CARGO_PKG_VERSION"),
            "success_callbacks": [],
        }))
    });
    result.unwrap_or_else(|e| super::reply::error(&e, &crate::meter::new_id()))
}

/// `GET /health`: calls every deployment for real, or those of `?model=NAME`.
pub async fn check(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = check_all(&request).await;
    plain(&request, started, result)
}

async fn check_all(request: &HttpRequest) -> Result<HttpResponse> {
    let worker = worker(request)?;
    let live = worker.gateway.live();
    let caller = crate::auth::caller(&worker.gateway, &live, request).await?;
    let wanted = actix_web::web::Query::<Vec<(String, String)>>::from_query(request.query_string()).ok();
    let wanted =
        wanted.and_then(|q| q.into_inner().into_iter().find(|(name, _)| name == "model" || name == "model_id"));
    let chosen =
        live.routes.deployments.iter().filter(|d| wanted.as_ref().is_none_or(|(_, w)| *w == d.name || *w == d.id));
    let chosen = chosen.filter(|d| access::may_use(&live, &caller, &d.name));
    let checks = chosen.cloned().map(|deployment| check_one(worker, &live, deployment));
    let results: Vec<(bool, Value)> =
        futures_util::stream::iter(checks).buffered(live.config.health.concurrency).collect().await;
    let (healthy, unhealthy): (Vec<_>, Vec<_>) = results.into_iter().partition(|(healthy, _)| *healthy);
    let endpoints = |list: Vec<(bool, Value)>| list.into_iter().map(|(_, shown)| shown).collect::<Vec<_>>();
    Ok(HttpResponse::Ok().json(json!({
        "healthy_count": healthy.len(),
        "unhealthy_count": unhealthy.len(),
        "healthy_endpoints": endpoints(healthy),
        "unhealthy_endpoints": endpoints(unhealthy),
    })))
}

async fn check_one(worker: &Worker, live: &Live, deployment: Arc<Deployment>) -> (bool, Value) {
    let started = Instant::now();
    let limit = live.config.health.timeout;
    let outcome = tokio::time::timeout(limit, ask(worker, live, &deployment))
        .await
        .unwrap_or_else(|_| Err(Error::new(crate::error::Kind::Timeout, format!("no answer within {limit:?}"))));
    let mut shown = json!({
        "model": format!("{}/{}", deployment.provider.name, deployment.model),
        "model_name": deployment.name,
        "model_id": deployment.id,
        "api_base": deployment.api_base,
        "response_time_ms": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    if let Err(error) = &outcome {
        shown["error"] = error.to_string().into();
        shown["status_code"] = error.status().as_u16().into();
    }
    (outcome.is_ok(), shown)
}

/// The smallest call there is.
async fn ask(worker: &Worker, live: &Live, deployment: &Arc<Deployment>) -> Result<()> {
    if let Some(why) = &deployment.unserved {
        return Err(why.clone());
    }
    let model =
        match deployment.info.get("model_info").and_then(|i| i.get("health_check_model")).and_then(Value::as_str) {
            Some(named) => named
                .strip_prefix(deployment.provider.name)
                .and_then(|m| m.strip_prefix('/'))
                .unwrap_or(named)
                .to_owned(),
            None if deployment.model.contains('*') => {
                return Err(Error::invalid("a wildcard names no model to call; set health_check_model in its info"));
            }
            None => deployment.model.clone(),
        };
    let tokens = deployment
        .info
        .get("model_info")
        .and_then(|i| i.get("health_check_max_tokens"))
        .and_then(Value::as_u64)
        .unwrap_or(5);
    let body =
        json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": tokens}).to_string();
    let envelope = Envelope::parse(Bytes::from(body), 8)?;
    let target = Target::named(deployment.clone(), model);
    let ask = Ask {
        face: Face::Chat,
        envelope: &envelope,
        streams: false,
        model: target.model(),
        id: crate::meter::new_id(),
        max_nesting: 8,
        history: None,
    };
    let outbound = exchange::outbound(&ask, &target)?;
    let response = worker.upstream.send(live.generation, &target, Request::call(outbound.body)).await?;
    let body = upstream::gather(response, live.config.server.answer_limit, deployment).await?;
    exchange::whole(&outbound.back, body, &deployment.origin).map(drop)
}
