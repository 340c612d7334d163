//! How the deployments do, by what is known without calling them: `/health/latest`.

use crate::auth::access;
use crate::error::Result;
use crate::http::reply::{plain, worker};
use crate::route::{Cause, Deployment};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};
use std::time::Instant;

/// `GET /health/latest`: the last check of each deployment, its cooldown, what is under way and who waits.
pub async fn latest(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = told(&request).await;
    plain(&request, started, result.map(|told| HttpResponse::Ok().json(told)))
}

async fn told(request: &HttpRequest) -> Result<Value> {
    let gateway = &worker(request)?.gateway;
    let live = gateway.live();
    let caller = crate::auth::caller(gateway, &live, request).await?;
    let now = Instant::now();
    let mine = live.routes.deployments.iter().filter(|d| access::may_use(&live, &caller, &d.name));
    let checks: Map<String, Value> = mine.map(|d| (d.id.clone(), shown(d, now))).collect();
    let groups = live.routes.groups().filter(|group| access::may_use(&live, &caller, &group.name));
    let queued: Map<String, Value> = groups.map(|group| (group.name.clone(), json!(group.queue.len()))).collect();
    Ok(json!({"total_models": checks.len(), "latest_health_checks": checks, "queued": queued}))
}

/// What is known of a deployment.
pub fn shown(deployment: &Deployment, now: Instant) -> Value {
    let pulse = &deployment.pulse;
    let (calls, tokens) = pulse.usage(now);
    let cooling = pulse.cooling(now);
    let health = pulse.health(now);
    let status = match (health, cooling, &deployment.unserved) {
        (_, _, Some(_)) => "unserved",
        (_, Some((_, Cause::RateLimit)), _) => "rate_limited",
        (_, Some((_, Cause::Failures)), _) | (Some((false, _)), ..) => "unhealthy",
        (Some((true, _)), ..) => "healthy",
        _ => "unknown",
    };
    json!({
        "model_name": deployment.name,
        "model_id": deployment.id,
        "model": format!("{}/{}", deployment.provider.name, deployment.model),
        "status": status,
        "checked_seconds_ago": health.map(|(_, age)| age.as_secs()),
        "cooldown_ms": cooling.map(|(left, _)| left.as_millis() as u64),
        "in_flight": pulse.in_flight(),
        "calls_this_minute": calls,
        "tokens_this_minute": tokens,
        "latency_ms": pulse.latency(false).map(f64::round),
        "first_token_ms": pulse.latency(true).map(f64::round),
    })
}
