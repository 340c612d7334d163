//! OpenAI's Responses: `POST /v1/responses`, and what is kept of them for later requests.

pub mod background;
mod keep;

use super::call::{self, Door, check_owner, missing, wrong_type};
use super::reply;
use crate::envelope::Envelope;
use crate::error::{Error, Kind, Result};
use crate::exchange::Face;
use crate::wire::json;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
pub use keep::Keeper;
use serde_json::{Value, json};
use std::time::Instant;

pub async fn create(request: HttpRequest, payload: Payload) -> HttpResponse {
    let door = Door::json(Face::Responses, check);
    call::serve(request, payload, door, async |_, call| {
        let Some(previous) = call.envelope.string("previous_response_id") else { return Ok(()) };
        let history = keep::history(&call.worker.gateway, &call.caller, &previous).await?;
        // Who keeps the conversation is asked to go on with it, as long as it is there.
        if let Some(kept_by) = &history.kept_by {
            call.plan.stay_with(kept_by);
        }
        drop(previous);
        call.history = Some(history);
        Ok(())
    })
    .await
}

/// # Errors
/// A 400 that names the member at fault.
fn check(envelope: &Envelope) -> Result<()> {
    for member in envelope.members().iter().filter(|m| m.value.kind != json::Kind::Null) {
        let name = envelope.name(member);
        let kind = match name {
            b"model" | b"instructions" | b"previous_response_id" | b"user" => json::Kind::String,
            b"tools" | b"include" => json::Kind::Array,
            b"stream" | b"store" | b"background" | b"parallel_tool_calls" => json::Kind::Bool,
            b"reasoning" | b"text" | b"metadata" | b"stream_options" => json::Kind::Object,
            b"temperature" | b"top_p" | b"max_output_tokens" | b"max_tool_calls" | b"top_logprobs" => {
                json::Kind::Number
            }
            _ => member.value.kind,
        };
        if member.value.kind != kind && name != b"instructions" {
            return Err(wrong_type(&String::from_utf8_lossy(name), kind.with_article()));
        }
        check_owner(name)?;
    }
    match envelope.get("input").map(|member| member.value.kind) {
        Some(json::Kind::String | json::Kind::Array) => (),
        None | Some(json::Kind::Null) if envelope.get("previous_response_id").is_some() => (),
        None | Some(json::Kind::Null) => return Err(missing("input")),
        Some(_) => return Err(wrong_type("input", "a string or an array")),
    }
    Ok(())
}

/// `GET /v1/responses/{id}`
pub async fn get(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let answer = async {
        if background::follow::is_wanted(&request) {
            return background::follow::again(&request).await;
        }
        let kept = keep::find(&request).await?;
        Ok(HttpResponse::Ok().json(kept.response))
    };
    reply::plain(&request, started, answer.await)
}

/// `DELETE /v1/responses/{id}`
pub async fn delete(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let answer = async {
        let id = keep::forget(&request).await?;
        Ok(HttpResponse::Ok().json(json!({"id": id, "object": "response", "deleted": true})))
    };
    reply::plain(&request, started, answer.await)
}

/// `GET /v1/responses/{id}/input_items`
pub async fn input_items(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let answer = async {
        let kept = keep::find(&request).await?;
        Ok(HttpResponse::Ok().json(page(&kept, request.query_string())?))
    };
    reply::plain(&request, started, answer.await)
}

/// `POST /v1/responses/{id}/cancel`
pub async fn cancel(request: HttpRequest) -> HttpResponse {
    let started = Instant::now();
    let answer = async { Ok(HttpResponse::Ok().json(background::cancel(&request).await?)) };
    reply::plain(&request, started, answer.await)
}

/// A part of the items that a response was made of; newest first unless asked otherwise.
fn page(kept: &keep::Kept, query: &str) -> Result<Value> {
    let of = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let limit = match of("limit").map(str::parse::<usize>) {
        None => 20,
        Some(Ok(limit @ 1..=100)) => limit,
        Some(_) => return Err(Error::invalid("'limit' must be a number from 1 to 100.").at_param("limit")),
    };
    let hex = kept.response["id"].as_str().unwrap_or_default().trim_start_matches("resp_").to_owned();
    // Items that came without an id get one that stays: the place they stand at.
    let mut items: Vec<Value> = kept.input.iter().enumerate().map(|(n, item)| named(item, &hex, n)).collect();
    if of("order") != Some("asc") {
        items.reverse();
    }
    let from = match of("after") {
        None => 0,
        Some(after) => match items.iter().position(|item| item["id"] == after) {
            Some(place) => place + 1,
            None => return Err(Error::new(Kind::NotFound, "There is no such item in this response.").at_param("after")),
        },
    };
    let page: Vec<Value> = items.iter().skip(from).take(limit).cloned().collect();
    let id = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
    Ok(json!({"object": "list", "first_id": id(page.first()), "last_id": id(page.last()),
        "has_more": from + page.len() < items.len(), "data": page}))
}

fn named(item: &Value, hex: &str, place: usize) -> Value {
    let mut item = item.clone();
    if let Value::Object(members) = &mut item {
        members.entry("type").or_insert_with(|| "message".into());
        members.entry("id").or_insert_with(|| format!("item_{hex}{place:04x}").into());
        if let Some(Value::String(text)) = members.get("content") {
            let part = if members.get("role").is_some_and(|r| r == "assistant") { "output_text" } else { "input_text" };
            let mut part = json!({"type": part, "text": text});
            if part["type"] == "output_text" {
                part["annotations"] = json!([]);
            }
            members.insert("content".to_owned(), json!([part]));
        }
    }
    item
}
