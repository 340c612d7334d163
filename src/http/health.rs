//! Is the process alive, can it serve, and do the upstreams really answer.

pub mod state;

use super::reply::{plain, worker};
use crate::auth::access;
use crate::checks::{self, Found};
use crate::database::State;
use crate::error::{Error, Kind, Result};
use crate::route::Deployment;
use crate::store::Engine;
use actix_web::{HttpRequest, HttpResponse};
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
    let worker = match worker(&request) {
        Ok(worker) => worker,
        Err(e) => return super::reply::error(&e, &crate::meter::new_id()),
    };
    // Whoever asks in the first moment is not told of a state that nobody has looked at.
    let database = worker.gateway.database.settled().await;
    let live = worker.gateway.live();
    let draining = worker.gateway.ending.is_draining();
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
    let mine = live.routes.deployments.iter().filter(|d| access::may_use(&live, &caller, &d.name));
    let chosen: Vec<&Arc<Deployment>> = match &wanted {
        Some((_, wanted)) => mine.filter(|d| is_meant(d, wanted)).collect(),
        None => mine.collect(),
    };
    // Zeros would read as if all were well.
    if let (Some((param, wanted)), true) = (&wanted, chosen.is_empty()) {
        let near = crate::pattern::nearest(
            wanted,
            live.routes.names().into_iter().filter(|name| access::may_use(&live, &caller, name)),
        );
        let hint = near.map_or_else(String::new, |near| format!(" Did you mean `{near}`?"));
        let message = format!("No model of yours is called '{}'.{hint}", crate::envelope::shorten(wanted));
        return Err(Error::new(Kind::NotFound, message).at_param(param));
    }
    let live = &live;
    let checks = chosen.into_iter().cloned().map(|deployment| async move {
        let found = checks::check(&worker.gateway, &worker.upstream, live, &deployment).await;
        (found.error.is_none(), shown(&deployment, &found))
    });
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

/// Whether that name is one of the deployment: its public one, its id, or the upstream's.
pub(super) fn is_meant(deployment: &Deployment, name: &str) -> bool {
    let upstreams = || name.strip_prefix(deployment.provider.name).and_then(|rest| rest.strip_prefix('/'));
    name == deployment.name || name == deployment.id || upstreams() == Some(&deployment.model)
}

fn shown(deployment: &Deployment, found: &Found) -> Value {
    let mut shown = json!({
        "model": format!("{}/{}", deployment.provider.name, deployment.model),
        "model_name": deployment.name,
        "model_id": deployment.id,
        "api_base": deployment.api_base,
        "response_time_ms": u64::try_from(found.took.as_millis()).unwrap_or(u64::MAX),
    });
    if let Some(error) = &found.error {
        shown["error"] = error.to_string().into();
        shown["status_code"] = error.status().as_u16().into();
    }
    shown
}
