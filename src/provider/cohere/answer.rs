//! What comes back: a message, or the events of one.

use crate::provider::foreign::Refusal;
use crate::provider::hub::{Delta, Fault, Out, Sink};
use crate::usage::Usage;
use actix_web::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::borrow::Cow;

#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    id: String,
    message: Option<Value>,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    usage: Value,
    #[serde(default)]
    logprobs: Value,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    delta: Option<Piece<'a>>,
    #[serde(default)]
    logprobs: Value,
    /// A proxy's, on the way.
    #[serde(borrow, default)]
    message: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Piece<'a> {
    #[serde(borrow, default)]
    message: Option<Part<'a>>,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    usage: Value,
    #[serde(default)]
    error: Value,
}

#[derive(Deserialize)]
struct Part<'a> {
    /// An object; an empty list at the start.
    #[serde(default)]
    content: Value,
    #[serde(borrow, default)]
    tool_plan: Option<Cow<'a, str>>,
    #[serde(default)]
    tool_calls: Value,
    #[serde(default)]
    citations: Value,
}

/// Reads the pieces of one answer.
#[derive(Debug)]
pub struct Reader;

impl Reader {
    /// Takes one event; true where it was the last.
    ///
    /// # Errors
    /// It is an error, or makes no sense.
    pub fn piece(&mut self, data: &[u8], out: &mut Out<impl Sink>) -> Result<bool, Fault> {
        let event: Event<'_> =
            serde_json::from_slice(data).map_err(|_| Fault::Garbled("an event of it is not as it should be"))?;
        let part = event.delta.as_ref().and_then(|delta| delta.message.as_ref());
        match event.kind.as_ref() {
            "message-start" => out.begin(event.id.as_deref(), None),
            "content-start" | "content-delta" => {
                if let Some(part) = part {
                    content(&part.content, out)?;
                }
                logprobs(&event.logprobs, out)?;
            }
            "tool-plan-delta" => {
                if let Some(plan) = part.and_then(|part| part.tool_plan.as_deref()) {
                    out.put(0, Delta::Reasoning(plan))?;
                }
            }
            "tool-call-start" => {
                if let Some(call) = part.map(|part| &part.tool_calls) {
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    out.call(0, &text(&call["id"]), &text(&call["function"]["name"]), None)?;
                    out.arguments(0, &text(&call["function"]["arguments"]))?;
                }
            }
            "tool-call-delta" => {
                if let Some(more) = part.and_then(|part| part.tool_calls["function"]["arguments"].as_str()) {
                    out.arguments(0, more)?;
                }
            }
            "tool-call-end" => out.close(0)?,
            "citation-start" => {
                if let Some(citation) = part.map(|part| &part.citations) {
                    cite(std::slice::from_ref(citation), out)?;
                }
            }
            "message-end" => {
                let Some(delta) = event.delta else { return Err(Fault::Garbled("its end says nothing")) };
                if !delta.usage.is_null() {
                    out.usage = usage(&delta.usage);
                }
                let said = delta.error.as_str().or_else(|| delta.error["message"].as_str());
                end(delta.finish_reason.as_deref(), said, out)?;
                return Ok(true);
            }
            "" => {
                let message = event.message.ok_or(Fault::Garbled("an event of it has no meaning"))?.into_owned();
                return Err(Fault::Told { status: 500, kind: "server_error", message });
            }
            // Ends of parts, and whatever will be invented.
            _ => (),
        }
        Ok(false)
    }

    /// Takes an answer in one piece.
    ///
    /// # Errors
    /// It is an error, or makes no sense.
    pub fn whole(&mut self, body: &[u8], out: &mut Out<impl Sink>) -> Result<(), Fault> {
        let response: Response =
            serde_json::from_slice(body).map_err(|_| Fault::Garbled("it is not as it should be"))?;
        let message = match response.message {
            Some(message @ Value::Object(_)) => message,
            Some(Value::String(message)) => return Err(Fault::Told { status: 500, kind: "server_error", message }),
            _ => return Err(Fault::Garbled("it has no 'message'")),
        };
        out.begin(Some(&response.id), None);
        if let Some(plan) = message["tool_plan"].as_str() {
            out.put(0, Delta::Reasoning(plan))?;
        }
        for part in message["content"].as_array().into_iter().flatten() {
            content(part, out)?;
        }
        if let Some(text) = message["content"].as_str() {
            out.put(0, Delta::Text(text))?;
        }
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            out.call(0, &text(&call["id"]), &text(&call["function"]["name"]), None)?;
            out.arguments(0, &text(&call["function"]["arguments"]))?;
            out.close(0)?;
        }
        cite(message["citations"].as_array().map_or(&[], Vec::as_slice), out)?;
        for items in response.logprobs.as_array().into_iter().flatten() {
            logprobs(items, out)?;
        }
        out.usage = usage(&response.usage);
        end(response.finish_reason.as_deref(), None, out)
    }
}

fn content(part: &Value, out: &mut Out<impl Sink>) -> Result<(), Fault> {
    if let Some(thinking) = part["thinking"].as_str() {
        out.put(0, Delta::Reasoning(thinking))?;
    }
    match part["text"].as_str() {
        Some(text) => out.put(0, Delta::Text(text)),
        None => Ok(()),
    }
}

/// Sources with an address have a form in OpenAI's chat; all of them go along as they are.
fn cite(citations: &[Value], out: &mut Out<impl Sink>) -> Result<(), Fault> {
    if citations.is_empty() {
        return Ok(());
    }
    for citation in citations {
        for source in citation["sources"].as_array().into_iter().flatten() {
            let document = &source["document"];
            let Some(url) = document["url"].as_str() else { continue };
            let inner = json!({"start_index": citation["start"], "end_index": citation["end"], "url": url,
                "title": document["title"].as_str().unwrap_or_default()});
            out.put(0, Delta::Annotation(&json!({"type": "url_citation", "url_citation": inner})))?;
        }
    }
    out.put(0, Delta::Field("citations", &json!(citations)))
}

/// `{text, token_ids, logprobs}` says one text and its tokens' numbers.
fn logprobs(items: &Value, out: &mut Out<impl Sink>) -> Result<(), Fault> {
    let Some(text) = items["text"].as_str() else { return Ok(()) };
    let total: f64 = items["logprobs"].as_array().into_iter().flatten().filter_map(Value::as_f64).sum();
    let item = json!([{"token": text, "logprob": total, "bytes": text.as_bytes(), "top_logprobs": []}]);
    out.put(0, Delta::Logprobs(&item))
}

fn end(reason: Option<&str>, said: Option<&str>, out: &mut Out<impl Sink>) -> Result<(), Fault> {
    let told = |status, kind, or: &str| {
        Err(Fault::Told { status, kind, message: said.filter(|said| !said.is_empty()).unwrap_or(or).to_owned() })
    };
    match reason {
        Some("MAX_TOKENS") => out.finish(0, "length"),
        Some("ERROR_TOXIC") => out.finish(0, "content_filter"),
        Some("ERROR") => told(502, "server_error", "Cohere could not complete the answer."),
        Some("TIMEOUT") => told(504, "timeout_error", "Cohere did not complete the answer in time."),
        _ => out.finish(0, "stop"),
    }
}

pub fn usage(told: &Value) -> Option<Usage> {
    let of = |part: &str, name: &str| told[part][name].as_f64().map(|count| count.max(0.0) as u64);
    let billed = of("billed_units", "input_tokens").zip(of("billed_units", "output_tokens"));
    let counted = of("tokens", "input_tokens").zip(of("tokens", "output_tokens"));
    let (prompt_tokens, completion_tokens) = counted.or(billed)?;
    let cached_tokens = told["cached_tokens"].as_f64().map_or(0, |count| count.max(0.0) as u64).min(prompt_tokens);
    Some(Usage { prompt_tokens, completion_tokens, cached_tokens, billed, ..Usage::default() })
}

/// The refusal that an error status means: `{"message": "text"}`.
pub fn error(status: StatusCode, body: &[u8]) -> Refusal<'_> {
    let read: Result<Value, _> = serde_json::from_slice(body);
    let Some(message) = read.as_ref().ok().and_then(|read| read["message"].as_str()).filter(|text| !text.is_empty())
    else {
        return Refusal::plain(status, body);
    };
    let code = message.contains("too many tokens").then_some("context_length_exceeded");
    match status.as_u16() {
        422 | 498 => Refusal::told(400, message, "invalid_request_error", code),
        other => Refusal::told(other, message, "", code),
    }
}
