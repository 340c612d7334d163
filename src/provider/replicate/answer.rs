//! What comes back: a prediction, or the events of one.

use crate::provider::foreign::Refusal;
use crate::provider::hub::{Delta, Fault, Out, Sink};
use crate::usage::Usage;
use crate::wire::sse::{self, Content};
use actix_web::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt::Write;

/// How far a run of a model is.
#[derive(Debug, Default, Deserialize)]
pub struct Prediction {
    #[serde(default)]
    pub id: String,
    #[serde(default)]
    pub status: String,
    #[serde(default)]
    pub output: Value,
    #[serde(default)]
    error: Value,
    #[serde(default)]
    metrics: Value,
    #[serde(default)]
    urls: Value,
}

impl Prediction {
    /// Whether nothing more will come of it.
    pub fn has_ended(&self) -> bool {
        matches!(self.status.as_str(), "succeeded" | "failed" | "canceled" | "aborted")
    }

    /// Whether its id is one, so that it may stand in a path.
    pub fn has_id(&self) -> bool {
        (1..=100).contains(&self.id.len()) && self.id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    }

    /// Where its output comes as it is made, if it does.
    pub fn stream(&self) -> Option<&str> {
        self.urls["stream"].as_str()
    }

    pub(super) fn failure(&self) -> Option<Fault> {
        let or = match self.status.as_str() {
            "succeeded" => return None,
            "failed" => "The prediction failed.",
            "canceled" | "aborted" => "The prediction was canceled.",
            _ => return Some(Fault::Garbled("its prediction has not ended")),
        };
        Some(told(message_of(&self.error).unwrap_or(or)))
    }

    /// The output, which is a text or the pieces of one.
    fn text(&self) -> Option<String> {
        match &self.output {
            Value::String(text) => Some(text.clone()),
            Value::Array(pieces) => pieces.iter().map(Value::as_str).collect::<Option<String>>(),
            // Some models say nothing.
            Value::Null => Some(String::new()),
            other => ["text", "output", "response"].iter().find_map(|name| other[*name].as_str()).map(str::to_owned),
        }
    }

    pub fn usage(&self) -> Option<Usage> {
        let count = |name: &str| self.metrics[name].as_u64();
        let (input, output) = (count("input_token_count")?, count("output_token_count")?);
        Some(Usage { prompt_tokens: input, completion_tokens: output, ..Usage::default() })
    }
}

fn message_of(error: &Value) -> Option<&str> {
    error.as_str().or_else(|| error["detail"].as_str()).or_else(|| error["message"].as_str()).filter(|e| !e.is_empty())
}

fn told(message: &str) -> Fault {
    Fault::Told { status: 502, kind: "server_error", message: message.to_owned() }
}

/// A prediction that has ended, as the events that it would have been told by.
pub fn events(prediction: &Prediction) -> Vec<u8> {
    let mut events = String::new();
    let mut add = |name: &str, data: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(events, "event: {name}");
        data.split('\n').for_each(|line| _ = writeln!(events, "data: {line}"));
        events.push('\n');
    };
    match (prediction.failure(), prediction.text()) {
        (None, Some(text)) => {
            if !text.is_empty() {
                add("output", &text);
            }
            add("done", &json!({"metrics": prediction.metrics}).to_string());
        }
        (None, None) => add("error", "The output of the prediction is no text."),
        (Some(Fault::Told { message, .. }), _) => add("error", &message),
        (Some(Fault::Garbled(what)), _) => add("error", what),
    }
    events.into_bytes()
}

/// Reads the pieces of one answer.
#[derive(Debug)]
pub struct Reader;

impl Reader {
    /// Takes one event, with its name; true where it was the last.
    ///
    /// # Errors
    /// It is an error, or makes no sense.
    pub fn piece(&mut self, event: &[u8], out: &mut Out<impl Sink>) -> Result<bool, Fault> {
        let name = event.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"event:"));
        let data = match sse::content(event) {
            Content::Data(data) => data,
            Content::Nothing | Content::Garbage => return Ok(false),
        };
        let text = std::str::from_utf8(&data).map_err(|_| Fault::Garbled("an event of it is no text"))?;
        match name.map(<[u8]>::trim_ascii) {
            Some(b"output") => out.put(0, Delta::Text(text)).map(|()| false),
            Some(b"error") => {
                let read: Value = serde_json::from_str(text).unwrap_or_default();
                Err(told(message_of(&read).unwrap_or(text)))
            }
            Some(b"done") => {
                let read: Value = serde_json::from_str(text).unwrap_or_default();
                match read["reason"].as_str() {
                    Some("canceled") => return Err(told("The prediction was canceled.")),
                    Some("error") => return Err(told("The prediction failed.")),
                    _ => (),
                }
                let ended = Prediction { metrics: read["metrics"].clone(), ..Prediction::default() };
                out.usage = ended.usage();
                out.finish(0, "stop").map(|()| true)
            }
            // Whatever will be invented.
            _ => Ok(false),
        }
    }

    /// Takes a prediction that has ended.
    ///
    /// # Errors
    /// It failed, or makes no sense.
    pub fn whole(&mut self, body: &[u8], out: &mut Out<impl Sink>) -> Result<(), Fault> {
        let prediction: Prediction = serde_json::from_slice(body).map_err(|_| Fault::Garbled("it is no prediction"))?;
        if let Some(fault) = prediction.failure() {
            return Err(fault);
        }
        out.begin(Some(&prediction.id), None);
        let text = prediction.text().ok_or(Fault::Garbled("the output of the prediction is no text"))?;
        out.put(0, Delta::Text(&text))?;
        out.usage = prediction.usage();
        out.finish(0, "stop")
    }
}

/// The refusal that an error status means: `{"title", "detail", "status"}`.
pub fn error(status: StatusCode, body: &[u8]) -> Refusal<'_> {
    let read: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| read[name].as_str().map(str::trim).filter(|text| !text.is_empty());
    let Some(message) = text("detail").or(text("title")) else { return Refusal::plain(status, body) };
    let mut refusal = match status.as_u16() {
        422 => Refusal::told(400, message, "invalid_request_error", None),
        other => Refusal::told(other, message, "", None),
    };
    refusal.retry_after = read["retry_after"].as_u64();
    refusal
}
