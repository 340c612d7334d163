//! Bedrock's errors, in OpenAI's shape. The type of one stands in a header, its text in `message`.

use crate::provider::foreign::Refusal;
use crate::provider::hub::Fault;
use actix_web::http::StatusCode;
use serde_json::Value;

/// The refusal that an error status means; `name` is the header `x-amzn-ErrorType`.
pub fn error<'a>(status: StatusCode, name: &str, body: &'a [u8]) -> Refusal<'a> {
    let read: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = ["message", "Message"].iter().find_map(|name| read[*name].as_str()).unwrap_or_default();
    let name = if name.is_empty() { read["__type"].as_str().unwrap_or_default() } else { name };
    // `ValidationException:http://internal.amazon.com/...`, or `com.amazon.x#ValidationException`.
    let name = name.split(':').next().unwrap_or_default();
    let name = name.rsplit('#').next().unwrap_or_default();
    if message.is_empty() && name.is_empty() {
        return Refusal::plain(status, body);
    }
    let message = if message.is_empty() { name } else { message };
    let (status, kind) = meaning(name).unwrap_or((status.as_u16(), ""));
    Refusal::told(status, message, kind, code(message))
}

/// An exception in the midst of a stream.
pub(super) fn fault(name: &str, message: &str) -> Fault {
    let mut exception = name.to_owned();
    if let Some(first) = exception.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let (status, kind) = meaning(&exception).unwrap_or((500, "server_error"));
    let message = if message.is_empty() { name } else { message };
    Fault::Told { status, kind, message: message.to_owned() }
}

fn meaning(name: &str) -> Option<(u16, &'static str)> {
    Some(match name {
        "ValidationException" => (400, "invalid_request_error"),
        "AccessDeniedException" => (403, "permission_error"),
        "UnrecognizedClientException"
        | "ExpiredTokenException"
        | "InvalidSignatureException"
        | "IncompleteSignatureException"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken" => (401, "authentication_error"),
        "ResourceNotFoundException" => (404, "invalid_request_error"),
        "ThrottlingException" | "ServiceQuotaExceededException" | "TooManyRequestsException" => {
            (429, "rate_limit_error")
        }
        "ModelNotReadyException" | "ServiceUnavailableException" => (503, "service_unavailable"),
        "ModelTimeoutException" => (504, "timeout_error"),
        "ModelErrorException" | "ModelStreamErrorException" => (502, "server_error"),
        "InternalServerException" => (500, "server_error"),
        _ => return None,
    })
}

fn code(message: &str) -> Option<&'static str> {
    let lower = message.to_ascii_lowercase();
    let long = [
        "input is too long",
        "too many total text bytes",
        "prompt is too long",
        "exceeds the maximum number of tokens",
    ];
    long.iter().any(|part| lower.contains(part)).then_some("context_length_exceeded")
}
