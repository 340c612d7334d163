//! Answers that nobody upstream gives, to try out clients, retries and fallbacks without a provider: LiteLLM's
//! `mock_response` and its like, of a deployment or of a request. Nothing is dialled for them.

use crate::error::{Error, Kind, Origin, Result, from_upstream};
use crate::meter;
use crate::provider::Endpoint;
use crate::route::Deployment;
use crate::upstream::Response;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// LiteLLM's numbers of tokens of an answer that is made up.
const PROMPT_TOKENS: u64 = 10;
const COMPLETION_TOKENS: u64 = 20;
/// A stream comes in pieces of at least so many characters, and in so many pieces at most.
const PIECE: usize = 8;
const MOST_PIECES: usize = 256;

/// What stands in for an answer of the upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct Mock {
    pub outcome: Outcome,
    /// It comes so much later.
    pub delay: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Says {
        text: String,
        tool_calls: Vec<Value>,
    },
    /// It begins to say this, and fails.
    BreaksOff(String),
    Fails(Failure),
    /// Nothing, until the time limit.
    Silence,
}

/// A failure that is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    Server,
    RateLimit,
    Window,
    Policy,
}

impl Failure {
    /// The error, as if the upstream had told it.
    pub fn error(self, origin: &Origin) -> Error {
        let (status, kind, code, message) = match self {
            Failure::Server => (500, "server_error", None, "This is a mock internal server error."),
            Failure::RateLimit => (429, "rate_limit_error", None, "This is a mock rate limit error."),
            Failure::Window => {
                let code = Some("context_length_exceeded");
                (400, "invalid_request_error", code, "This is a mock context window exceeded error.")
            }
            Failure::Policy => {
                (400, "invalid_request_error", Some("content_filter"), "This is a mock content policy error.")
            }
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({"error": {"message": message, "type": kind, "param": null, "code": code}}).to_string();
        from_upstream(origin, status, body.as_bytes())
    }
}

impl Outcome {
    /// What a written `mock_response` means: a text, or one of LiteLLM's names for a failure.
    pub fn written(text: &str, tool_calls: Vec<Value>) -> Self {
        match text {
            "litellm.RateLimitError" => Outcome::Fails(Failure::RateLimit),
            "litellm.InternalServerError" => Outcome::Fails(Failure::Server),
            "litellm.ContextWindowExceededError" => Outcome::Fails(Failure::Window),
            text if text.starts_with("Exception: content_filter_policy") => Outcome::Fails(Failure::Policy),
            text if text.starts_with("Exception: mock_streaming_error") => Outcome::BreaksOff(text.to_owned()),
            text => Outcome::Says { text: text.to_owned(), tool_calls },
        }
    }
}

/// What a call wants to have made up.
#[derive(Debug, Clone, Default)]
pub struct Rehearsal {
    /// Answers in the place of each deployment of the model that is asked for.
    pub mock: Option<Arc<Mock>>,
    /// That model as a whole fails like this, and nobody is asked.
    pub fails: Option<Failure>,
    /// The first attempt fails like this.
    pub first: Option<Failure>,
}

impl Rehearsal {
    /// What stands in for the next deployment.
    pub fn next(&self, is_first: bool) -> Option<Arc<Mock>> {
        let first = self.first.filter(|_| is_first);
        first.map(|failure| Arc::new(Mock::new(Outcome::Fails(failure)))).or_else(|| self.mock.clone())
    }
}

impl Mock {
    pub fn new(outcome: Outcome) -> Self {
        Mock { outcome, delay: Duration::ZERO }
    }

    /// Answers in the place of the upstream, in the format of OpenAI's chat completions.
    ///
    /// # Errors
    /// The failure that is played; 501 for what is no conversation.
    pub async fn answer(&self, deployment: &Deployment, model: &str, endpoint: Endpoint) -> Result<Response> {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        let streams = endpoint == Endpoint::Stream;
        let body = match &self.outcome {
            // Whoever asks has a time limit.
            Outcome::Silence => std::future::pending().await,
            Outcome::Fails(failure) => return Err(failure.error(&deployment.origin)),
            _ if !matches!(endpoint, Endpoint::Call | Endpoint::Stream) => {
                let message = format!(
                    "The model '{}' is made up (mock_response): it answers conversations, and nothing else.",
                    deployment.name
                );
                return Err(Error::new(Kind::NotServed, message).at_param("model"));
            }
            Outcome::BreaksOff(_) if !streams => return Err(Failure::Server.error(&deployment.origin)),
            Outcome::BreaksOff(text) => {
                let error = json!({"error": {"message": "This is a mock error raised mid-stream.", "type": "overloaded_error", "code": "529"}});
                stream(&Said::new(model, text, &[]), &[error])
            }
            Outcome::Says { text, tool_calls } => {
                let said = Said::new(model, text, tool_calls);
                match streams {
                    true => stream(&said, &said.ending()),
                    false => said.whole(),
                }
            }
        };
        let kind = if streams { "text/event-stream" } else { "application/json" };
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
        Ok(Response::made(headers, Bytes::from(body)))
    }
}

/// An answer that is made up.
struct Said<'a> {
    id: String,
    created: u64,
    model: &'a str,
    text: &'a str,
    tool_calls: &'a [Value],
}

impl<'a> Said<'a> {
    fn new(model: &'a str, text: &'a str, tool_calls: &'a [Value]) -> Self {
        let created = u64::try_from(crate::database::now() / 1_000_000).unwrap_or(0);
        Said { id: format!("chatcmpl-{}", meter::new_id().simple()), created, model, text, tool_calls }
    }

    fn frame(&self, object: &str, choices: Value, usage: Option<Value>) -> Value {
        let mut frame = json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices,
        });
        if let Some(usage) = usage {
            frame["usage"] = usage;
        }
        frame
    }

    fn reason(&self) -> &'static str {
        if self.tool_calls.is_empty() { "stop" } else { "tool_calls" }
    }

    fn whole(&self) -> String {
        let mut message = json!({"role": "assistant", "content": self.text});
        if !self.tool_calls.is_empty() {
            message["tool_calls"] = self.tool_calls.into();
        }
        let choice = json!({"index": 0, "message": message, "finish_reason": self.reason()});
        self.frame("chat.completion", json!([choice]), Some(usage())).to_string()
    }

    fn delta(&self, delta: Value, reason: Option<&str>) -> Value {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": reason});
        self.frame("chat.completion.chunk", json!([choice]), None)
    }

    /// What stands behind the last piece.
    fn ending(&self) -> Vec<Value> {
        let calls = self.tool_calls.iter().enumerate().map(|(index, call)| {
            let mut call = call.as_object().cloned().unwrap_or_else(Map::new);
            call.entry("index").or_insert(index.into());
            self.delta(json!({"tool_calls": [call]}), None)
        });
        let end = self.delta(json!({}), Some(self.reason()));
        calls.chain([end, self.frame("chat.completion.chunk", json!([]), Some(usage()))]).collect()
    }
}

fn usage() -> Value {
    json!({
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": COMPLETION_TOKENS,
        "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
    })
}

fn stream(said: &Said<'_>, ending: &[Value]) -> String {
    let begin = said.delta(json!({"role": "assistant", "content": ""}), None);
    let told = pieces(said.text).into_iter().map(|piece| said.delta(json!({"content": piece}), None));
    let events: String =
        [begin].into_iter().chain(told).chain(ending.iter().cloned()).map(|e| format!("data: {e}\n\n")).collect();
    events + "data: [DONE]\n\n"
}

/// A text in pieces, none of which ends within a character.
fn pieces(text: &str) -> Vec<&str> {
    let length = PIECE.max(text.len().div_ceil(MOST_PIECES));
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = (length..=rest.len()).find(|place| rest.is_char_boundary(*place)).unwrap_or(rest.len());
        let (piece, behind) = rest.split_at(end);
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn litellms_names_of_failures_are_failures_and_other_texts_are_said() {
        for (text, failure) in [
            ("litellm.RateLimitError", Failure::RateLimit),
            ("litellm.InternalServerError", Failure::Server),
            ("litellm.ContextWindowExceededError", Failure::Window),
            ("Exception: content_filter_policy", Failure::Policy),
        ] {
            assert_eq!(Outcome::written(text, Vec::new()), Outcome::Fails(failure), "{text}");
        }
        for text in ["Hello", "", "litellm.RateLimitError!", "litellm.Unknown"] {
            let says = Outcome::Says { text: text.to_owned(), tool_calls: Vec::new() };
            assert_eq!(Outcome::written(text, Vec::new()), says);
        }
    }

    proptest! {
        #[test]
        fn pieces_are_the_text_and_not_many(text in ".{0,4000}") {
            let pieces = pieces(&text);
            prop_assert!(pieces.len() <= MOST_PIECES);
            prop_assert_eq!(pieces.concat(), text);
        }
    }
}
