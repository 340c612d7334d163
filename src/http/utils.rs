//! What a call would use and cost: `/utils/token_counter`, `/cost/estimate`, `/spend/calculate`.
//!
//! Requests and answers are LiteLLM's. Tokens are estimated without a tokenizer, as everywhere here.

use super::body;
use super::models::admitted;
use super::reply::{self, plain};
use crate::auth::access;
use crate::error::{Error, Kind, Result};
use crate::gateway::Live;
use crate::price::{Charge, Service, Tokens, usd_number};
use crate::route::Target;
use crate::usage::{self, Usage};
use crate::wire::json;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::{Instant, SystemTime};

/// What surrounds a message.
const MESSAGE: u64 = 4;
/// A picture, whatever its size.
const PICTURE: u64 = 1600;

/// The body of a request to one of these routes.
async fn read<T: for<'a> Deserialize<'a>>(request: &HttpRequest, payload: Payload, live: &Live) -> Result<T> {
    let worker = reply::worker(request)?;
    let bytes = body::read(request, payload, live.config.server.body_limit, &worker.clock).await?;
    // Bounds the depth before a tree is built.
    json::object(&bytes, live.config.server.max_nesting, |_| ())
        .map_err(|fault| Error::invalid(format!("The request body is not acceptable JSON: {}.", fault.what)))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("The request body is not as expected: {e}.")))
}

#[derive(Deserialize)]
struct Count {
    model: String,
    prompt: Option<String>,
    messages: Option<Vec<Value>>,
    contents: Option<Vec<Value>>,
    tools: Option<Vec<Value>>,
}

/// `POST /utils/token_counter`
pub async fn token_counter(request: HttpRequest, payload: Payload) -> HttpResponse {
    let started = Instant::now();
    let result = async {
        let (live, caller) = admitted(&request).await?;
        let asked: Count = read(&request, payload, &live).await?;
        let target = live.routes.target(&access::model(&live, &caller, &asked.model)?)?;
        let messages = asked.messages.as_ref().or(asked.contents.as_ref());
        let tokens = match (messages, &asked.prompt) {
            (None, None) => {
                return Err(
                    Error::invalid("Give 'messages' or 'prompt'; there is nothing to count.").at_param("messages")
                );
            }
            (messages, prompt) => {
                prompt.as_deref().map_or(0, text)
                    + messages.map_or(0, |m| of_messages(m))
                    + asked.tools.as_ref().map_or(0, |tools| tools.iter().map(|tool| text(&tool.to_string())).sum())
            }
        };
        Ok(HttpResponse::Ok().json(json!({
            "total_tokens": tokens,
            "request_model": asked.model,
            "model_used": target.model(),
            "tokenizer_type": "estimate",
            "original_response": null,
        })))
    };
    let result = result.await;
    plain(&request, started, result)
}

#[derive(Deserialize)]
struct Estimate {
    model: String,
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
    num_requests_per_day: Option<u64>,
    num_requests_per_month: Option<u64>,
}

/// `POST /cost/estimate`
pub async fn estimate(request: HttpRequest, payload: Payload) -> HttpResponse {
    let started = Instant::now();
    let result = async {
        let (live, caller) = admitted(&request).await?;
        let asked: Estimate = read(&request, payload, &live).await?;
        let target = live.routes.target(&access::model(&live, &caller, &asked.model)?)?;
        let tokens = Tokens { prompt: asked.input_tokens, completion: asked.output_tokens, ..Tokens::default() };
        let charge = charge(&target, &tokens, Service::Standard)?;
        let known = target.known();
        let info = known.price.as_ref().map(|price| price.to_model_info(SystemTime::now())).unwrap_or_default();
        let times = |nanos: u64, count: Option<u64>| count.map(|n| usd_number(nanos.saturating_mul(n)));
        let (day, month) = (asked.num_requests_per_day, asked.num_requests_per_month);
        Ok(HttpResponse::Ok().json(json!({
            "model": asked.model,
            "provider": target.deployment.provider.name,
            "input_tokens": asked.input_tokens,
            "output_tokens": asked.output_tokens,
            "num_requests_per_day": day,
            "num_requests_per_month": month,
            "cost_per_request": usd_number(charge.nanos),
            "input_cost_per_request": usd_number(charge.input_nanos),
            "output_cost_per_request": usd_number(charge.output_nanos),
            "margin_cost_per_request": 0,
            "daily_cost": times(charge.nanos, day),
            "daily_input_cost": times(charge.input_nanos, day),
            "daily_output_cost": times(charge.output_nanos, day),
            "daily_margin_cost": day.map(|_| 0),
            "monthly_cost": times(charge.nanos, month),
            "monthly_input_cost": times(charge.input_nanos, month),
            "monthly_output_cost": times(charge.output_nanos, month),
            "monthly_margin_cost": month.map(|_| 0),
            "input_cost_per_token": info.get("input_cost_per_token"),
            "output_cost_per_token": info.get("output_cost_per_token"),
        })))
    };
    let result = result.await;
    plain(&request, started, result)
}

#[derive(Deserialize)]
struct Calculate {
    model: Option<String>,
    messages: Option<Vec<Value>>,
    completion_response: Option<Value>,
}

/// `POST /spend/calculate`: what an answer cost, or what the messages alone would cost.
pub async fn calculate(request: HttpRequest, payload: Payload) -> HttpResponse {
    let started = Instant::now();
    let result = async {
        let (live, caller) = admitted(&request).await?;
        let asked: Calculate = read(&request, payload, &live).await?;
        let named = |value: &Value| value["model"].as_str().map(str::to_owned);
        let model = asked.model.or_else(|| asked.completion_response.as_ref().and_then(named));
        let model = model.ok_or_else(|| super::call::missing("model"))?;
        let target = live.routes.target(&access::model(&live, &caller, &model)?)?;
        let (tokens, service) = match (&asked.completion_response, &asked.messages) {
            (Some(answer), _) => {
                let usage = Usage::read(answer["usage"].to_string().as_bytes()).ok_or_else(|| {
                    Error::invalid("'completion_response' has no usage.").at_param("completion_response.usage")
                })?;
                // As for a call: what the provider says goes before what the tables say.
                if let Some(nanos) = usage.reported_nanos {
                    return Ok(HttpResponse::Ok().json(json!({"cost": usd_number(nanos)})));
                }
                (usage.tokens(), usage::service(answer["service_tier"].to_string().as_bytes()))
            }
            (None, Some(messages)) => {
                (Tokens { prompt: of_messages(messages), ..Tokens::default() }, Service::Standard)
            }
            (None, None) => {
                return Err(Error::invalid("Give 'messages' or 'completion_response'.").at_param("completion_response"));
            }
        };
        Ok(HttpResponse::Ok().json(json!({"cost": usd_number(charge(&target, &tokens, service)?.nanos)})))
    };
    let result = result.await;
    plain(&request, started, result)
}

/// # Errors
/// 404 where the price of something is not known: it is never taken for free.
fn charge(target: &Target, tokens: &Tokens, service: Service) -> Result<Charge> {
    let known = target.known();
    let charge = known.price.as_ref().map(|price| price.charge_as(tokens, SystemTime::now(), service));
    charge.filter(|charge| !charge.unpriced).ok_or_else(|| {
        let deployment = &target.deployment;
        let message = format!(
            "No price is known for '{}' ({}/{}); set input_cost_per_token and output_cost_per_token in its info.",
            deployment.name,
            deployment.provider.name,
            target.model()
        );
        Error::new(Kind::NotFound, message).at_param("model")
    })
}

/// One token for four bytes of Latin text; two bytes of others make about one.
fn text(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
    let other = text.chars().filter(|c| !c.is_ascii()).count() as u64;
    ascii.div_ceil(4) + other.div_ceil(2)
}

/// Texts, calls and pictures of OpenAI's messages.
fn of_messages(messages: &[Value]) -> u64 {
    let part = |part: &Value| match part["type"].as_str() {
        Some("image_url" | "input_image" | "image") => PICTURE,
        _ => part["text"].as_str().map_or(0, text),
    };
    messages
        .iter()
        .map(|message| {
            let content = match &message["content"] {
                Value::String(content) => text(content),
                Value::Array(parts) => parts.iter().map(part).sum(),
                _ => message["parts"].as_array().map_or(0, |parts| parts.iter().map(part).sum()),
            };
            let calls = message.get("tool_calls").filter(|c| c.is_array()).map_or(0, |calls| text(&calls.to_string()));
            MESSAGE + content + calls
        })
        .sum()
}
