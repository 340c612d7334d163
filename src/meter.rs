//! Watches a call from its start to its end, and says once how it ended.
//!
//! What a call used is read out of the answer on its way to the caller. A call that is given up half-way settles when
//! its meter is dropped; a call without final usage is settled with an estimate, never with nothing.

use crate::auth::Caller;
use crate::envelope::shorten;
use crate::error::Error;
use crate::route::Deployment;
use crate::wire::json::{self, Kind};
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tracing::{Level, enabled, info, warn};
use uuid::Uuid;

/// A new id for a call: a UUIDv7 (RFC 9562, section 5.7), so that ids sort by time.
pub fn new_id() -> Uuid {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // The thread's own generator: a system call for each id would cost as much as reading the request.
    let random: [u8; 10] = rand::random();
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(now.as_millis()).unwrap_or(0), &random).into_uuid()
}

/// Tokens of a call, as the upstream counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Cached ones included.
    pub prompt_tokens: u64,
    /// Reasoning included.
    pub completion_tokens: u64,
    /// Read from the upstream's cache; a part of `prompt_tokens`.
    pub cached_tokens: u64,
    /// Written into the upstream's cache, for however long; a part of `prompt_tokens`.
    pub cache_write_tokens: u64,
    /// Those of `cache_write_tokens` that are kept for an hour, at a price of their own.
    pub cache_write_1h_tokens: u64,
    pub reasoning_tokens: u64,
}

impl Usage {
    /// Reads an OpenAI `usage` object; numbers may be floats, and members may be missing. Tokens written into a cache are
    /// no part of OpenAI's own shape: LiteLLM and OpenRouter each have names for them, and all of them are known.
    pub fn read(json: &[u8]) -> Option<Usage> {
        #[derive(Deserialize)]
        struct Written {
            prompt_tokens: Option<f64>,
            completion_tokens: Option<f64>,
            cache_creation_input_tokens: Option<f64>,
            prompt_tokens_details: Option<Prompt>,
            completion_tokens_details: Option<Completion>,
        }
        #[derive(Deserialize, Default)]
        struct Prompt {
            cached_tokens: Option<f64>,
            cache_creation_tokens: Option<f64>,
            cache_write_tokens: Option<f64>,
            cache_creation_token_details: Option<Creation>,
        }
        #[derive(Deserialize)]
        struct Creation {
            ephemeral_1h_input_tokens: Option<f64>,
        }
        #[derive(Deserialize)]
        struct Completion {
            reasoning_tokens: Option<f64>,
        }
        let written: Written = serde_json::from_slice(json).ok()?;
        let count = |number: Option<f64>| number.map_or(0, |n| n.max(0.0) as u64);
        if written.prompt_tokens.is_none() && written.completion_tokens.is_none() {
            return None;
        }
        let prompt = written.prompt_tokens_details.unwrap_or_default();
        let one_hour = count(prompt.cache_creation_token_details.and_then(|d| d.ephemeral_1h_input_tokens));
        let writes = [prompt.cache_creation_tokens, prompt.cache_write_tokens, written.cache_creation_input_tokens];
        Some(Usage {
            prompt_tokens: count(written.prompt_tokens),
            completion_tokens: count(written.completion_tokens),
            cached_tokens: count(prompt.cached_tokens),
            // Where several names are given they say the same; one of them may be a zero that says nothing.
            cache_write_tokens: writes.into_iter().map(count).fold(one_hour, u64::max),
            cache_write_1h_tokens: one_hour,
            reasoning_tokens: count(written.completion_tokens_details.and_then(|d| d.reasoning_tokens)),
        })
    }
}

/// What the gateway must know of a whole answer.
pub struct Whole {
    pub usage: Option<Usage>,
    /// It holds an error and no choices, whatever its status said.
    pub is_error: bool,
}

/// Looks at a whole answer.
///
/// # Errors
/// It is not one JSON object.
pub fn whole(body: &[u8]) -> Result<Whole, json::Fault> {
    let (mut usage, mut error, mut choices) = (None, false, false);
    json::object(body, MAX_DEPTH, |m| match &body[m.key] {
        b"usage" if m.value.kind == Kind::Object => usage = Usage::read(&body[m.value.span]),
        b"error" => error = m.value.kind != Kind::Null,
        b"base_resp" => error |= !choices && m.value.kind == Kind::Object,
        b"choices" => choices = m.value.kind == Kind::Array,
        _ => (),
    })?;
    Ok(Whole { usage, is_error: error && !choices })
}

/// Answers nested deeper than this are taken for garbage.
pub const MAX_DEPTH: usize = 256;

/// Tokens in this many bytes of text, for want of a better count.
pub fn estimate(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}

/// One call.
#[derive(Debug)]
pub struct Meter {
    pub id: Uuid,
    pub started: Instant,
    caller: Caller,
    model: String,
    stream: bool,
    deployment: Option<Arc<Deployment>>,
    /// For an estimate of the prompt.
    request_bytes: usize,
    first: Option<Duration>,
    usage: Option<Usage>,
    /// Output tokens seen so far, for an estimate.
    seen_tokens: u64,
    settled: bool,
}

impl Meter {
    pub fn new(id: Uuid, started: Instant) -> Self {
        Meter {
            id,
            started,
            caller: Caller::Anonymous,
            model: String::new(),
            stream: false,
            deployment: None,
            request_bytes: 0,
            first: None,
            usage: None,
            seen_tokens: 0,
            settled: false,
        }
    }

    pub fn called_by(&mut self, caller: Caller) {
        self.caller = caller;
    }

    pub fn asked(&mut self, model: &str, stream: bool, request_bytes: usize) {
        self.model = shorten(model);
        self.stream = stream;
        self.request_bytes = request_bytes;
    }

    pub fn sent_to(&mut self, deployment: &Arc<Deployment>) {
        self.deployment = Some(deployment.clone());
    }

    /// The first bytes of the answer are there.
    pub fn answered(&mut self) {
        self.first.get_or_insert_with(|| self.started.elapsed());
    }

    pub fn used(&mut self, usage: Option<Usage>) {
        self.usage = usage.or(self.usage);
    }

    pub fn saw(&mut self, output_tokens: u64) {
        self.seen_tokens = output_tokens;
    }

    /// The caller has, or is about to have, the whole answer.
    pub fn succeed(&mut self) {
        self.settle(200, "success", None);
    }

    /// The call ends with this error.
    pub fn fail(&mut self, error: &Error) {
        self.settle(error.status().as_u16(), "failure", Some(error));
    }

    fn settle(&mut self, status: u16, outcome: &'static str, error: Option<&Error>) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let asked = self.deployment.is_some();
        let estimated = asked && self.usage.is_none() && (outcome != "failure" || self.seen_tokens > 0);
        let usage = match self.usage {
            Some(usage) => usage,
            None if estimated => Usage {
                prompt_tokens: estimate(self.request_bytes),
                completion_tokens: self.seen_tokens,
                ..Usage::default()
            },
            None => Usage::default(),
        };
        if !enabled!(target: "gateway::request", Level::WARN) {
            return;
        }
        let deployment = self.deployment.as_ref();
        macro_rules! line {
            ($level:ident, $message:expr $(, $more:tt)*) => {
                $level!(
                    target: "gateway::request",
                    request_id = %self.id,
                    key = self.caller.name(),
                    model = self.model,
                    deployment = deployment.map_or("", |d| &d.id),
                    provider = deployment.map_or("", |d| d.provider.name),
                    status,
                    stream = self.stream,
                    prompt_tokens = usage.prompt_tokens,
                    completion_tokens = usage.completion_tokens,
                    cached_tokens = usage.cached_tokens,
                    reasoning_tokens = usage.reasoning_tokens,
                    estimated,
                    first_ms = self.first.map_or(0, millis),
                    duration_ms = millis(self.started.elapsed()),
                    outcome,
                    error_class = error.map_or("", Error::class),
                    error = error.map_or(String::new(), |e| shorten(&e.to_string())),
                    "{}", $message
                )
            };
        }
        // The operator looks for what is wrong with upstreams; what is wrong with a request is its sender's business.
        match error {
            Some(e) if e.status().is_server_error() || asked => line!(warn, "call failed"),
            Some(_) => line!(info, "call refused"),
            None if outcome == "cancelled" => line!(info, "call cancelled"),
            None => line!(info, "call served"),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Drop for Meter {
    fn drop(&mut self) {
        // 499 is nginx's status for a client that closed the connection.
        self.settle(499, "cancelled", None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_written_into_a_cache_are_known_by_all_their_names() {
        for (told, written, one_hour) in [
            (r#"{"prompt_tokens":9,"cache_creation_input_tokens":5}"#, 5, 0),
            (r#"{"prompt_tokens":9,"prompt_tokens_details":{"cache_write_tokens":4}}"#, 4, 0),
            (
                r#"{"prompt_tokens":9,"cache_creation_input_tokens":0,"prompt_tokens_details":{"cached_tokens":1,
                    "cache_creation_tokens":6,"cache_creation_token_details":{"ephemeral_1h_input_tokens":2}}}"#,
                6,
                2,
            ),
            (r#"{"prompt_tokens":9,"prompt_tokens_details":null}"#, 0, 0),
        ] {
            let usage = Usage::read(told.as_bytes()).unwrap();
            let found = (usage.prompt_tokens, usage.cache_write_tokens, usage.cache_write_1h_tokens);
            assert_eq!(found, (9, written, one_hour), "{told}");
        }
    }
}
