//! Google's errors, in OpenAI's shape. Source: the "troubleshooting" page, and `google.rpc.Status`.

use crate::provider::foreign::Refusal;
use crate::provider::hub::Fault;
use actix_web::http::StatusCode;
use serde_json::Value;

/// The refusal that an error status means. Streams may wrap theirs in a list.
pub fn error(status: StatusCode, body: &[u8]) -> Refusal<'_> {
    let Ok(read) = serde_json::from_slice::<Value>(body) else { return Refusal::plain(status, body) };
    let error = &read.get(0).unwrap_or(&read)["error"];
    let Some(message) = error["message"].as_str().filter(|message| !message.is_empty()) else {
        return Refusal::plain(status, body);
    };
    let details = error["details"].as_array().map_or(&[][..], Vec::as_slice);
    let is_key = details.iter().any(|detail| detail["reason"] == "API_KEY_INVALID");
    let too_long = message.contains("token count") && message.contains("exceed");
    let status = if is_key { 401 } else { status.as_u16() };
    let name = error["status"].as_str().unwrap_or_default();
    let code = too_long.then_some("context_length_exceeded");
    let mut refusal = Refusal::told(status, message, kind(name, status), code);
    refusal.retry_after = details.iter().find_map(|detail| {
        let delay = detail["retryDelay"].as_str()?.strip_suffix('s')?.parse::<f64>().ok()?;
        (0.0..86_400.0).contains(&delay).then(|| delay.ceil() as u64)
    });
    refusal
}

/// An error in the midst of an answer.
pub(super) fn fault(error: &Value) -> Fault {
    let status = error["code"].as_u64().and_then(|code| u16::try_from(code).ok()).filter(|code| *code >= 400);
    let status = status.unwrap_or(500);
    let name = error["status"].as_str().unwrap_or_default();
    let message = error["message"].as_str().unwrap_or_default().to_owned();
    Fault::Told { status, kind: kind(name, status), message }
}

fn kind(name: &str, status: u16) -> &'static str {
    match (name, status) {
        (_, 401) => "authentication_error",
        ("INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "NOT_FOUND" | "OUT_OF_RANGE", _) => "invalid_request_error",
        ("UNAUTHENTICATED", _) => "authentication_error",
        ("PERMISSION_DENIED", _) => "permission_error",
        ("RESOURCE_EXHAUSTED", _) => "rate_limit_error",
        ("UNAVAILABLE", _) => "service_unavailable",
        ("DEADLINE_EXCEEDED", _) => "timeout_error",
        (_, 400..=499) => "invalid_request_error",
        _ => "server_error",
    }
}
