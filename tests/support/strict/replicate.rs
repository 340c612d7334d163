//! Replicate's predictions. Source: its HTTP API reference, and the errors it answers with.

use super::super::reply::Reply;
use super::super::upstream::{Seen, UPSTREAM_KEY};
use super::{Wrong, members, text};
use serde_json::{Value, json};

pub const ID: &str = "gm3qorzdhgbfurvjtvhg6dckhu";

pub fn check(seen: &Seen) -> Result<(), Reply> {
    if seen.header("authorization").as_deref() != Some(&format!("Bearer {UPSTREAM_KEY}")) {
        return Err(error(401, "Unauthenticated", "You did not pass a valid authentication token"));
    }
    let call = match (seen.method.as_str(), seen.target.as_str()) {
        ("GET", "/streams/one") if seen.header("accept").as_deref() == Some("text/event-stream") => Ok(()),
        ("GET", target) if target == format!("/v1/predictions/{ID}") => Ok(()),
        ("POST", target) if target == format!("/v1/predictions/{ID}/cancel") && seen.body.is_empty() => Ok(()),
        ("POST", "/v1/predictions") => begin(seen, true),
        ("POST", target) if target.starts_with("/v1/models/") && target.split('/').count() == 6 => begin(seen, false),
        _ => return Err(error(404, "Not found", "The requested resource could not be found.")),
    };
    call.map_err(|wrong| error(422, "Input validation failed", &wrong))
}

pub fn error(status: u16, title: &str, detail: &str) -> Reply {
    Reply::json(status, &json!({"title": title, "detail": detail, "status": status}).to_string())
}

fn begin(seen: &Seen, has_version: bool) -> Result<(), Wrong> {
    let body: Value = serde_json::from_slice(&seen.body).map_err(|e| e.to_string())?;
    members(&body, "body", &["input", "stream", "version"])?;
    if has_version != body["version"].as_str().is_some_and(|version| version.len() == 64) {
        return Err(format!("version: {}", body["version"]));
    }
    if body["stream"] == true && seen.header("prefer").is_some() {
        return Err("a stream is not waited for".to_owned());
    }
    if !seen.header("cancel-after").is_some_and(|limit| limit.ends_with('s')) {
        return Err("it would run for ever".to_owned());
    }
    let known = [
        "prompt",
        "system_prompt",
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "stop_sequences",
        "seed",
        "width",
        "height",
        "num_outputs",
        "aspect_ratio",
    ];
    members(&body["input"], "input", &known)?;
    text(&body["input"], "prompt", "input").map(drop)
}
