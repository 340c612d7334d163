//! Azure OpenAI and the other models of Azure: OpenAI's format behind other doors.

use super::super::openai::{self, Rules};
use super::super::reply::Reply;
use super::super::upstream::{Seen, UPSTREAM_KEY};
use serde_json::json;

/// The dated API, by key; a deployment is in the path.
pub fn check(seen: &Seen) -> Result<(), Reply> {
    let path = "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21";
    door(seen, path, "api-key")
}

/// Models that are no OpenAI's.
pub fn check_models(seen: &Seen) -> Result<(), Reply> {
    door(seen, "/models/chat/completions?api-version=2024-05-01-preview", "authorization")
}

fn door(seen: &Seen, path: &str, key: &str) -> Result<(), Reply> {
    if seen.target != path {
        return Err(error(404, "404", "Resource not found"));
    }
    let shown = if key == "api-key" { UPSTREAM_KEY.to_owned() } else { format!("Bearer {UPSTREAM_KEY}") };
    let other = if key == "api-key" { "authorization" } else { "api-key" };
    if seen.header(key) != Some(shown) || seen.header(other).is_some() {
        return Err(error(401, "401", "Access denied due to invalid subscription key or wrong API endpoint."));
    }
    // What is left of it is OpenAI's own.
    let mut plain = seen.clone();
    plain.head.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("api-key"));
    let rules = Rules {
        authorization: vec![plain.header("authorization")],
        host: None,
        path: path.to_owned(),
        extras: Vec::new(),
        is_free: false,
    };
    openai::check(&rules, &plain).map(drop).map_err(|(status, _, message)| error(status, "BadRequest", &message))
}

pub fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"error": {"code": code, "message": message}}).to_string())
}
