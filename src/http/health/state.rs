//! How the deployments do, by what is known without calling them (`/health/latest`, `/health/history`), and whether
//! services and deployments answer that are asked for (`/health/services`, `/health/test_connection`).

use crate::auth::{Caller, access};
use crate::checks;
use crate::database::State;
use crate::error::{Error, Kind, Result};
use crate::http::body;
use crate::http::health::is_meant;
use crate::http::models::query;
use crate::http::reply::{plain, worker};
use crate::route::{Cause, Deployment};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Instant;

/// Checks that one answer has at most.
const MOST: i64 = 1000;

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
    let mut checks: Map<String, Value> = mine.map(|d| (d.id.clone(), shown(d, now))).collect();
    // Another gateway, or this one before it was started again, may have looked.
    let unknown: Vec<String> =
        checks.iter().filter(|(_, check)| check["status"] == "unknown").map(|(id, _)| id.clone()).collect();
    if !unknown.is_empty() && gateway.database.settled().await == State::Up {
        for last in gateway.store.last_checks(&unknown).await? {
            let seconds = (crate::database::now() - last.at).max(0) / 1_000_000;
            let status = if last.error.is_none() { "healthy" } else { "unhealthy" };
            if let Some(check) = checks.get_mut(&last.model_id) {
                check["status"] = status.into();
                check["checked_seconds_ago"] = seconds.into();
            }
        }
    }
    let groups = live.routes.groups().filter(|group| access::may_use(&live, &caller, &group.name));
    let queued: Map<String, Value> = groups.map(|group| (group.name.clone(), json!(group.queue.len()))).collect();
    Ok(json!({"total_models": checks.len(), "latest_health_checks": checks, "queued": queued}))
}

/// `GET /health/history`: the checks of all gateways of this store, the newest first (`model`, `limit`, `offset`).
pub async fn history(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = past(&request).await;
    plain(&request, started, result.map(|told| HttpResponse::Ok().json(told)))
}

async fn past(request: &HttpRequest) -> Result<Value> {
    let gateway = &worker(request)?.gateway;
    let live = gateway.live();
    let caller = crate::auth::caller(gateway, &live, request).await?;
    let wanted = query(request, "model").filter(|model| !model.is_empty());
    let number = |name: &str| query(request, name).and_then(|number| number.parse::<i64>().ok());
    let (limit, offset) = (number("limit").unwrap_or(100).clamp(1, MOST), number("offset").unwrap_or(0).max(0));
    let mine = live.routes.deployments.iter().filter(|d| access::may_use(&live, &caller, &d.name));
    let mine = mine.filter(|d| wanted.as_ref().is_none_or(|wanted| is_meant(d, wanted)));
    let ids: Vec<String> = mine.map(|d| d.id.clone()).collect();
    // Before the first look there may be no table.
    gateway.database.settled().await;
    let (checks, total) = gateway.store.checks(&ids, limit, offset).await?;
    let shown: Vec<Value> = checks
        .iter()
        .map(|check| {
            json!({
                "model_name": check.model_name,
                "model_id": check.model_id,
                "status": if check.error.is_none() { "healthy" } else { "unhealthy" },
                "response_time_ms": check.took_ms,
                "error_message": check.error,
                "checked_at": crate::http::spend::time(check.at),
            })
        })
        .collect();
    Ok(json!({"health_checks": shown, "total_records": total, "limit": limit, "offset": offset}))
}

/// # Errors
/// 403 for everybody but administrators.
async fn administrator(request: &HttpRequest) -> Result<()> {
    let gateway = &worker(request)?.gateway;
    let caller = crate::auth::caller(gateway, &gateway.live(), request).await?;
    let role = caller.user().and_then(|user| user.role.as_deref());
    match (&caller, role) {
        (Caller::Master | Caller::Anonymous, _) | (_, Some("proxy_admin")) => Ok(()),
        _ => Err(Error::new(Kind::Forbidden, "Only proxy admins may do this.").with_type("auth_error")),
    }
}

/// `GET /health/services?service=database`.
pub async fn services(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = async {
        administrator(&request).await?;
        let gateway = &worker(&request)?.gateway;
        match query(&request, "service").as_deref() {
            Some("database" | "db") => {
                let up = gateway.database.settled().await == State::Up;
                let name = gateway.store.engine().name();
                Ok(HttpResponse::Ok().json(json!({
                    "status": if up { "success" } else { "error" },
                    "message": if up { format!("{name} answers") } else { format!("{name} does not answer: {}", gateway.database.why()) },
                })))
            }
            other => Err(Error::invalid(format!(
                "The service '{}' is not known here; 'database' is.",
                crate::envelope::shorten(other.unwrap_or_default())
            ))
            .at_param("service")),
        }
    };
    let result = result.await;
    plain(&request, started, result)
}

/// `POST /health/test_connection`: calls a deployment that is not configured.
pub async fn test_connection(request: HttpRequest, payload: Payload) -> HttpResponse {
    let started = Instant::now();
    let result = async {
        administrator(&request).await?;
        let worker = worker(&request)?;
        let live = worker.gateway.live();
        let bytes = body::read(&request, payload, live.config.server.body_limit, &worker.clock).await?;
        let wrong = || Error::invalid("'litellm_params' must be an object with 'model'.").at_param("litellm_params");
        crate::wire::json::object(&bytes, live.config.server.max_nesting, |_| ()).map_err(|_| wrong())?;
        let asked: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
        let params = asked.get("litellm_params").and_then(Value::as_object).ok_or_else(wrong)?;
        let entry =
            json!({"model_name": "test-connection", "litellm_params": params, "model_info": asked.get("model_info")});
        let mut entry = entry.as_object().cloned().unwrap_or_default();
        crate::config::litellm::give_credentials(&mut entry, &worker.gateway.sources().stored.credentials);
        let model =
            crate::config::litellm::model(&entry).map_err(|why| Error::invalid(why).at_param("litellm_params"))?;
        let deployment =
            worker.gateway.try_model(&model).map_err(|why| Error::invalid(why).at_param("litellm_params"))?;
        // Its requests are not those of any configured one.
        let upstream = crate::upstream::Upstream::new(worker.gateway.tls.clone());
        let found = checks::try_once(&upstream, &live, &Arc::new(deployment)).await;
        Ok(HttpResponse::Ok().json(match found.error {
            None => json!({"status": "success", "result": {"response_time_ms": found.took.as_millis() as u64}}),
            Some(error) => json!({"status": "error", "result": {"error": error.to_string(), "status_code": error.status().as_u16()}}),
        }))
    };
    let result = result.await;
    plain(&request, started, result)
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
