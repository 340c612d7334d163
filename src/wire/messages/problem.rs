//! What went wrong, as Anthropic says it.

use crate::error::Error;
use actix_web::http::StatusCode;
use bytes::Bytes;
use serde_json::{Value, json};

/// Anthropic's error body: `{"type":"error","error":{"type","message"},"request_id"}`. The type follows from the status
/// (Anthropic's "Errors" page); the message is the upstream's own where there is one, since Claude Code looks for
/// Anthropic's wording in it, and so is `details.error_code`. An empty `request_id` is left out.
pub fn error_body(error: &Error, request_id: &str) -> Value {
    let mut body = json!({"type": "error", "error": {"type": type_of(error.status()), "message": error.to_string()}});
    if let Some(code) = error.detail_code() {
        body["error"]["details"] = json!({"error_code": code});
    }
    if let (false, Some(members)) = (request_id.is_empty(), body.as_object_mut()) {
        members.insert("request_id".to_owned(), request_id.into());
    }
    body
}

/// The last event of a stream that failed after its status was sent.
pub fn error_event(error: &Error, request_id: &str) -> Bytes {
    format!("event: error\ndata: {}\n\n", error_body(error, request_id)).into()
}

/// Anthropic's name for a status.
fn type_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// The status that belongs to one of Anthropic's names: an error inside a stream has no status of its own.
pub fn status_of(type_name: &str) -> StatusCode {
    let status = match type_name {
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
    };
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, Origin, from_upstream};

    #[test]
    fn the_type_follows_the_status_and_the_wording_stays() {
        for (status, type_name) in [
            (400, "invalid_request_error"),
            (402, "billing_error"),
            (413, "request_too_large"),
            (422, "invalid_request_error"),
            (429, "rate_limit_error"),
            (500, "api_error"),
            (504, "timeout_error"),
            (529, "overloaded_error"),
        ] {
            let told = r#"{"error":{"message":"prompt is too long: 9 tokens > 8 maximum"}}"#;
            let status = StatusCode::from_u16(status).unwrap();
            let error = from_upstream(&Origin::default(), status, told.as_bytes());
            let body = error_body(&error, "req_1");
            let expected = json!({"type": "error", "request_id": "req_1",
                "error": {"type": type_name, "message": "prompt is too long: 9 tokens > 8 maximum"}});
            assert_eq!(body, expected);
        }
        let error = Error::new(Kind::Stopping, "The gateway stops.");
        let event = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"The gateway stops.\"}}\n\n";
        assert_eq!(error_event(&error, ""), event);
        for name in ["invalid_request_error", "rate_limit_error", "overloaded_error", "api_error", "timeout_error"] {
            assert_eq!(type_of(status_of(name)), name);
        }
    }
}
