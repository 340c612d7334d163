//! Why a call went as it did: `x-gateway-explain: 1` asks for it with the call, `GET /v1/requests/{id}/explain` later.

use super::reply::{path_part, plain, worker};
use crate::auth::{self, Caller};
use crate::error::{Error, Kind, Result};
use crate::price::usd_number;
use crate::store::LedgerRow;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use std::time::Instant;
use uuid::Uuid;

pub const EXPLAIN: HeaderName = HeaderName::from_static("x-gateway-explain");
/// A longer one would not pass every proxy.
const MOST_HEADER: usize = 4000;

/// The steps of a call as a header value: JSON in ASCII.
pub fn header(id: &Uuid, steps: &[Value]) -> HeaderValue {
    let whole = Value::from(steps.to_vec()).to_string();
    let mut text = String::with_capacity(whole.len());
    for c in whole.chars() {
        match c.is_ascii() {
            true => text.push(c),
            false => {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
            }
        }
    }
    if text.len() > MOST_HEADER {
        text = json!({"too_long": format!("GET /v1/requests/{id}/explain")}).to_string();
    }
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("[]"))
}

/// `GET /v1/requests/{id}/explain`, for an administrator or the key that made the call.
pub async fn one(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let result = find(&request).await;
    plain(&request, started, result.map(|told| HttpResponse::Ok().json(told)))
}

async fn find(request: &HttpRequest) -> Result<Value> {
    let gateway = &worker(request)?.gateway;
    let caller = auth::caller(gateway, &gateway.live(), request).await?;
    let asked = path_part(request, "id").unwrap_or_default();
    let unknown = || {
        let message = "No call of that id is known here, or it was not made with your key; the id is in the header x-litellm-call-id.";
        Error::new(Kind::NotFound, message)
    };
    let bare = asked.strip_prefix("req_").unwrap_or(&asked);
    let id = Uuid::try_parse(bare).map_err(|_| unknown())?;
    let may_see = |key_id: Option<&str>| match &caller {
        Caller::Master | Caller::Anonymous => true,
        Caller::Key(holder) => {
            let role = holder.user.as_ref().and_then(|user| user.role.as_deref());
            matches!(role, Some("proxy_admin" | "proxy_admin_viewer")) || key_id == Some(&*holder.key.id)
        }
    };
    let recent = gateway.recent.find(&id).filter(|course| may_see(course.key_id.as_deref()));
    let rows = match gateway.store.logs_by_any_id(&id.hyphenated().to_string()).await {
        Ok(rows) => rows,
        // What is remembered here needs no store.
        Err(_) if recent.is_some() => Vec::new(),
        Err(fault) => return Err(fault.into()),
    };
    let row = rows.into_iter().find(|row| may_see(row.key_id.as_deref()));
    if recent.is_none() && row.is_none() {
        return Err(unknown());
    }
    let of_row = row.as_ref().and_then(|row| row.metadata.get("gateway_steps")).cloned();
    let mut told = json!({
        "id": id.hyphenated().to_string(),
        "steps": of_row.unwrap_or_else(|| json!([])),
        "price": null,
        "call": row.as_ref().map(shown),
    });
    if let Some(course) = recent {
        for name in ["steps", "price", "limits"] {
            told[name] = course.told[name].clone();
        }
    }
    Ok(told)
}

/// What the ledger says of it.
fn shown(row: &LedgerRow) -> Value {
    let dollars = |nanos: i64| usd_number(u64::try_from(nanos).unwrap_or(0));
    json!({
        "model": row.model,
        "deployment": row.deployment,
        "provider": row.provider,
        "upstream_model": row.upstream_model,
        "api_base": row.api_base,
        "status": row.status,
        "http_status": row.http_status,
        "retries": row.retries,
        "fallbacks": row.fallbacks,
        "duration_ms": (row.ended_at - row.started_at) / 1000,
        "first_token_ms": row.first_at.map(|at| (at - row.started_at) / 1000),
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "estimated": row.estimated,
        "cost_usd": dollars(row.cost_nanos),
        "input_cost_usd": dollars(row.input_nanos),
        "output_cost_usd": dollars(row.output_nanos),
        "reserved_usd": dollars(row.reserved_nanos),
        "error": row.error,
        "error_class": row.error_class,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_told_fits_into_a_header() {
        let id = Uuid::nil();
        let told = header(&id, &[json!({"error": "größer als 😀\n"})]);
        let back: Value = serde_json::from_str(told.to_str().unwrap()).unwrap();
        assert_eq!(back[0]["error"], "größer als 😀\n");
        assert!(header(&id, &[json!("x".repeat(9000))]).to_str().unwrap().contains("/explain"));
    }
}
