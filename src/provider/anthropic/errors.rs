//! Anthropic's errors, in OpenAI's shape. Source: the "errors" page.

use serde::Deserialize;
use serde_json::{Value, json};
use std::borrow::Cow;

#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(borrow)]
    error: Inner<'a>,
    #[serde(borrow, default)]
    request_id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
pub(super) struct Inner<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    message: Option<Cow<'a, str>>,
    #[serde(default)]
    details: Option<Value>,
}

/// The body of an error status, as an OpenAI-like upstream would have written it: for
/// [`crate::error::from_upstream`], with the same status. What is not in Anthropic's shape comes back as it was.
pub fn error(body: &[u8]) -> Cow<'_, [u8]> {
    let Ok(refusal) = serde_json::from_slice::<Refusal<'_>>(body) else { return Cow::Borrowed(body) };
    let Some(message) = refusal.error.message.as_deref().filter(|message| !message.is_empty()) else {
        return Cow::Borrowed(body);
    };
    let kind = refusal.error.kind.as_deref().unwrap_or_default();
    let (kind, code) = (type_name(kind, message), code(kind, message));
    let mut error = json!({"message": message});
    if !kind.is_empty() {
        error["type"] = kind.into();
    }
    if let Some(code) = code {
        error["code"] = code.into();
    }
    // For callers of Anthropic's own format, who come this way too.
    if let Some(code) = refusal.error.details.as_ref().map(|details| &details["error_code"]).filter(|c| c.is_string()) {
        error["details"] = json!({"error_code": code});
    }
    let mut body = json!({"error": error});
    if let Some(id) = refusal.request_id {
        body["request_id"] = id.into();
    }
    Cow::Owned(body.to_string().into_bytes())
}

impl Inner<'_> {
    /// The error of a stream, or of a 200: its status is the code, since there is no other place for it.
    pub(super) fn in_a_stream(&self) -> Value {
        let kind = self.kind.as_deref().unwrap_or("api_error");
        let message = self.message.as_deref().filter(|message| !message.is_empty()).unwrap_or("no message");
        json!({"error": {
            "message": message,
            "type": type_name(kind, message),
            "param": null,
            "code": status(kind).to_string(),
        }})
    }
}

/// A frame for what could not be understood.
pub(super) fn garbled(what: &str) -> Value {
    json!({"error": {
        "message": format!("The answer of Anthropic makes no sense: {what}."),
        "type": "upstream_error",
        "param": null,
        "code": "502",
    }})
}

/// The status that an error has outside of a stream.
pub(super) fn status(kind: &str) -> u16 {
    match kind {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => 500,
    }
}

fn type_name<'a>(kind: &'a str, message: &str) -> &'a str {
    match kind {
        "billing_error" => "insufficient_quota",
        "invalid_request_error" if is_about_money(message) => "insufficient_quota",
        "overloaded_error" => "service_unavailable",
        "request_too_large" => "invalid_request_error",
        other => other,
    }
}

/// A code that clients act on.
fn code(kind: &str, message: &str) -> Option<&'static str> {
    let is_too_long = message.starts_with("prompt is too long") || message.contains("exceed context limit");
    match kind {
        "invalid_request_error" if is_too_long => Some("context_length_exceeded"),
        "invalid_request_error" if is_about_money(message) => Some("insufficient_quota"),
        "billing_error" => Some("insufficient_quota"),
        _ => None,
    }
}

fn is_about_money(message: &str) -> bool {
    message.contains("credit balance is too low")
}
