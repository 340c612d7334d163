//! What comes back: an object, or a stream of them, one a line.

use crate::provider::foreign::Refusal;
use crate::provider::hub::{Delta, Fault, Out, Sink};
use crate::usage::Usage;
use actix_web::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(default)]
    done: bool,
    #[serde(borrow, default)]
    done_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
    #[serde(default)]
    eval_count: Option<u64>,
    #[serde(default)]
    logprobs: Value,
    #[serde(default)]
    error: Value,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    thinking: Option<Cow<'a, str>>,
    #[serde(default)]
    tool_calls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
struct Call {
    #[serde(default)]
    id: String,
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    #[serde(default)]
    name: String,
    #[serde(default)]
    arguments: Value,
}

/// Reads the pieces of one answer.
#[derive(Debug)]
pub struct Reader;

impl Reader {
    /// Takes one object; true where it was the last.
    ///
    /// # Errors
    /// It is an error, or makes no sense.
    pub fn piece(&mut self, data: &[u8], out: &mut Out<impl Sink>) -> Result<bool, Fault> {
        let response: Response<'_> =
            serde_json::from_slice(data).map_err(|_| Fault::Garbled("a line of it is not as it should be"))?;
        if !response.error.is_null() {
            let message = response.error.as_str().or_else(|| response.error["message"].as_str()).unwrap_or_default();
            return Err(Fault::Told { status: 500, kind: "server_error", message: message.to_owned() });
        }
        let Some(message) = response.message else { return Err(Fault::Garbled("it has no 'message'")) };
        out.begin(None, response.model.as_deref());
        if let Some(thinking) = &message.thinking {
            out.put(0, Delta::Reasoning(thinking))?;
        }
        if let Some(content) = &message.content {
            out.put(0, Delta::Text(content))?;
        }
        if response.logprobs.is_array() {
            out.put(0, Delta::Logprobs(&response.logprobs))?;
        }
        for call in message.tool_calls.into_iter().flatten() {
            out.call(0, &call.id, &call.function.name, None)?;
            match call.function.arguments {
                Value::Null => (),
                Value::String(text) => out.arguments(0, &text)?,
                object => out.arguments(0, &object.to_string())?,
            }
            out.close(0)?;
        }
        if response.done {
            // Older servers leave the count out where the prompt was in their cache.
            if let (Some(prompt_tokens), Some(completion_tokens)) = (response.prompt_eval_count, response.eval_count) {
                out.usage = Some(Usage { prompt_tokens, completion_tokens, ..Usage::default() });
            }
            let is_length = response.done_reason.as_deref() == Some("length");
            out.finish(0, if is_length { "length" } else { "stop" })?;
        }
        Ok(response.done)
    }

    /// Takes an answer in one piece.
    ///
    /// # Errors
    /// It is an error, or makes no sense.
    pub fn whole(&mut self, body: &[u8], out: &mut Out<impl Sink>) -> Result<(), Fault> {
        match self.piece(body, out)? {
            true => Ok(()),
            false => Err(Fault::Garbled("it is not complete")),
        }
    }
}

/// The refusal that an error status means: `{"error": "text"}`.
pub fn error(status: StatusCode, body: &[u8]) -> Refusal<'_> {
    #[derive(Deserialize)]
    struct Told {
        error: String,
    }
    match serde_json::from_slice::<Told>(body) {
        Ok(told) if status == StatusCode::NOT_FOUND && told.error.contains("model") => {
            Refusal::told(404, &told.error, "invalid_request_error", Some("model_not_found"))
        }
        Ok(told) if told.error.contains("exceeds the available context") || told.error.contains("context length") => {
            Refusal::told(400, &told.error, "invalid_request_error", Some("context_length_exceeded"))
        }
        _ => Refusal::plain(status, body),
    }
}
