//! Databricks' model serving. Source: its API reference, and the errors it answers with.

use super::super::reply::Reply;
use super::super::upstream::{Seen, UPSTREAM_KEY};
use super::{Wrong, items, members, no_strange_headers};
use serde_json::{Value, json};

/// `/serving-endpoints/NAME/invocations`, and the workspace's tokens.
pub fn check(seen: &Seen) -> Result<(), Reply> {
    if seen.target == "/oidc/v1/token" {
        let is_known = seen.header("authorization").as_deref() == Some("Basic cHJpbmNpcGFsOnMzY3IzdA==")
            && seen.text().replace("%5F", "_").replace("%2D", "-") == "grant_type=client_credentials&scope=all-apis";
        return if is_known { Ok(()) } else { Err(error(401, "invalid_client", "Client authentication failed")) };
    }
    let known = [format!("Bearer {UPSTREAM_KEY}"), "Bearer oauth-1".to_owned()];
    if !seen.header("authorization").is_some_and(|key| known.contains(&key)) {
        return Err(error(403, "PERMISSION_DENIED", "Invalid access token."));
    }
    let path = seen.target.strip_prefix("/serving-endpoints/").and_then(|rest| rest.strip_suffix("/invocations"));
    let Some(name) = path.filter(|name| !name.contains('/')) else {
        return Err(error(404, "ENDPOINT_NOT_FOUND", "No API found for this path."));
    };
    no_strange_headers(seen, &["authorization"])
        .and_then(|()| call(seen, name))
        .map_err(|wrong| error(400, "BAD_REQUEST", &wrong))
}

pub fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"error_code": code, "message": message}).to_string())
}

fn call(seen: &Seen, name: &str) -> Result<(), Wrong> {
    let body: Value = serde_json::from_slice(&seen.body).map_err(|e| e.to_string())?;
    if name.contains("gte") {
        members(&body, "body", &["input", "instruction", "dimensions"])?;
        return match &body["input"] {
            Value::String(_) => Ok(()),
            list => items(list, "input").map(drop),
        };
    }
    let known = [
        "messages",
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "stop",
        "stream",
        "n",
        "tools",
        "tool_choice",
        "response_format",
        "thinking",
        "reasoning_effort",
    ];
    members(&body, "body", &known)?;
    for message in items(&body["messages"], "messages")? {
        if !["system", "user", "assistant", "tool"].contains(&message["role"].as_str().unwrap_or_default()) {
            return Err(format!("role of {message}"));
        }
    }
    Ok(())
}
