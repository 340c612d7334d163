//! A chat completion's request, whose members are taken one by one. What is left at the end has no twin: it is refused
//! by name, or left out where somebody said so.

use super::bad;
use crate::error::{Error, Kind};
use crate::provider::Facts;
use serde_json::{Map, Value, json};

/// Members that change nothing about the answer: hints for a cache, labels, and what the gateway itself sees to.
const HINTS: &[&str] = &[
    "stream_options",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "user",
    "safety_identifier",
    "metadata",
    "store",
];

/// A request half-way.
#[derive(Debug)]
pub struct Ask<'a> {
    members: Map<String, Value>,
    pub facts: &'a Facts<'a>,
}

/// How hard the model is to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl Effort {
    /// The tokens that LiteLLM gives it where a model wants a number.
    pub fn budget(self) -> u64 {
        match self {
            Effort::Minimal => 512,
            Effort::Low => 1024,
            Effort::Medium => 2048,
            Effort::High => 4096,
            Effort::Xhigh => 8192,
            Effort::Max => 16384,
        }
    }

    /// What comes nearest to a number of tokens.
    pub fn of_budget(budget: u64) -> Effort {
        match budget {
            0..1024 => Effort::Minimal,
            1024..2048 => Effort::Low,
            2048..4096 => Effort::Medium,
            4096..8192 => Effort::High,
            8192..16384 => Effort::Xhigh,
            _ => Effort::Max,
        }
    }
}

/// What the caller says about thinking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Off,
    Effort(Effort),
    /// So many tokens, in the form of Anthropic that LiteLLM's clients use for everyone.
    Budget(u64),
    /// As much as the model likes.
    Free,
}

/// What the answer is to look like.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    Text,
    Json,
    Schema { name: String, schema: Value, strict: bool },
}

impl<'a> Ask<'a> {
    /// # Errors
    /// A 400 for a body that is no object.
    pub fn read(body: &[u8], facts: &'a Facts<'a>) -> Result<Self, Error> {
        let read = serde_json::from_slice(body).map_err(|fault| {
            Error::invalid(format!("The request body cannot be translated for '{}': {fault}.", facts.provider))
        })?;
        let Value::Object(mut members) = read else {
            return Err(Error::invalid("The request body must be a JSON object."));
        };
        members.retain(|_, value| !value.is_null());
        Ok(Ask { members, facts })
    }

    /// Whether a member is there.
    pub fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// Takes a member out; null where it is not there.
    pub fn take(&mut self, name: &str) -> Value {
        self.members.shift_remove(name).unwrap_or_default()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }

    pub(super) fn array(&mut self, name: &str) -> Result<Vec<Value>, Error> {
        match self.take(name) {
            Value::Array(list) => Ok(list),
            Value::Null => Ok(Vec::new()),
            _ => Err(bad(name, "must be an array")),
        }
    }

    fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, Error> {
        match self.take(name) {
            Value::Object(object) => Ok(Some(object)),
            Value::Null => Ok(None),
            _ => Err(bad(name, "must be an object")),
        }
    }

    /// What has no twin: left out if the operator or the caller says so, else refused.
    ///
    /// # Errors
    /// A 400 that names it.
    pub fn refuse(&self, name: &str, why: &str) -> Result<(), Error> {
        if self.facts.drop_params {
            return Ok(());
        }
        let shown: String = name.chars().take(100).collect();
        let provider = self.facts.provider;
        let cure = "Leave it out, or set drop_params to have it dropped.";
        Err(Error::invalid(format!("The provider '{provider}' does not take the parameter '{shown}'{why}. {cure}"))
            .at_param(shown))
    }

    /// # Errors
    /// A 400 for what is no number.
    pub fn number(&mut self, name: &str) -> Result<Option<Value>, Error> {
        match self.take(name) {
            Value::Null => Ok(None),
            number @ Value::Number(_) => Ok(Some(number)),
            _ => Err(bad(name, "must be a number")),
        }
    }

    /// # Errors
    /// A 400 for what is no whole number.
    pub fn whole(&mut self, name: &str) -> Result<Option<u64>, Error> {
        let Some(number) = self.number(name)? else { return Ok(None) };
        let whole = number.as_u64().or_else(|| {
            // Some clients write 100.0.
            number.as_f64().filter(|n| n.fract() == 0.0 && (0.0..1e15).contains(n)).map(|n| n as u64)
        });
        whole.map(Some).ok_or_else(|| bad(name, "must be a whole number"))
    }

    /// The limit of the answer, by whichever of its two names.
    ///
    /// # Errors
    /// A 400 for what is no whole number.
    pub fn max_tokens(&mut self) -> Result<Option<u64>, Error> {
        let new = self.whole("max_completion_tokens")?;
        Ok(new.or(self.whole("max_tokens")?))
    }

    /// Texts at which the answer ends.
    ///
    /// # Errors
    /// A 400 for what is no text or list of texts.
    pub fn stops(&mut self) -> Result<Vec<Value>, Error> {
        let mut stops = Vec::new();
        for name in ["stop", "stop_sequences"] {
            match self.take(name) {
                Value::Null => (),
                stop @ Value::String(_) => stops.push(stop),
                Value::Array(list) if list.iter().all(Value::is_string) => stops.extend(list),
                _ => return Err(bad(name, "must be a string, or an array of them")),
            }
        }
        stops.retain(|stop| stop.as_str().is_some_and(|stop| !stop.is_empty()));
        Ok(stops)
    }

    /// `reasoning_effort`, or `thinking` in Anthropic's form, which wins.
    ///
    /// # Errors
    /// A 400 for an effort that is none.
    pub fn thinking(&mut self) -> Result<Option<Wish>, Error> {
        let effort = self.take("reasoning_effort");
        if let Some(thinking) = self.object("thinking")? {
            return Ok(match thinking.get("type").and_then(Value::as_str) {
                Some("disabled") => Some(Wish::Off),
                Some("enabled") => match thinking.get("budget_tokens").and_then(Value::as_u64) {
                    Some(budget) => Some(Wish::Budget(budget)),
                    None => Some(Wish::Free),
                },
                Some("adaptive" | "auto") => Some(Wish::Free),
                _ => return Err(bad("thinking.type", "must be 'enabled', 'disabled' or 'adaptive'")),
            });
        }
        let word = effort.as_str().or_else(|| effort["effort"].as_str());
        Ok(Some(Wish::Effort(match word {
            None if effort.is_null() || effort.is_object() => return Ok(None),
            Some("none" | "disable") => return Ok(Some(Wish::Off)),
            Some("minimal") => Effort::Minimal,
            Some("low") => Effort::Low,
            Some("medium") => Effort::Medium,
            Some("high") => Effort::High,
            Some("xhigh") => Effort::Xhigh,
            Some("max") => Effort::Max,
            _ => return Err(bad("reasoning_effort", "must be one of: none, minimal, low, medium, high, xhigh, max")),
        })))
    }

    /// # Errors
    /// A 400 for a format that is none.
    pub fn format(&mut self) -> Result<Format, Error> {
        let format = self.take("response_format");
        let schema = |schema: &Value, name: &Value, strict: bool| Format::Schema {
            name: name.as_str().filter(|name| !name.is_empty()).unwrap_or("answer").to_owned(),
            schema: schema.clone(),
            strict,
        };
        match format["type"].as_str() {
            None if format.is_null() => Ok(Format::Text),
            Some("text") => Ok(Format::Text),
            Some("json_schema") => {
                let inner = &format["json_schema"];
                let found = [&inner["schema"], &format["schema"]].into_iter().find(|s| s.is_object());
                Ok(found.map_or(Format::Json, |s| schema(s, &inner["name"], inner["strict"] == true)))
            }
            // A schema here is an extension of LiteLLM's.
            Some("json_object") => match &format["response_schema"] {
                found @ Value::Object(_) => Ok(schema(found, &Value::Null, false)),
                _ => Ok(Format::Json),
            },
            _ => Err(bad("response_format.type", "must be 'text', 'json_object' or 'json_schema'")),
        }
    }

    /// Whatever was not taken.
    pub fn rest(self) -> Map<String, Value> {
        self.members
    }

    /// Ends the reading: members of `native` go into `body` as they are, what says nothing is left out, and the rest is
    /// refused.
    ///
    /// # Errors
    /// A 400 that names a member without a twin.
    pub fn finish(mut self, native: &[&str], body: &mut Map<String, Value>) -> Result<(), Error> {
        for (name, value) in std::mem::take(&mut self.members) {
            if native.contains(&name.as_str()) {
                body.insert(name, value);
            } else if !HINTS.contains(&name.as_str()) && !says_nothing(&name, &value) {
                self.refuse(&name, "")?;
            }
        }
        Ok(())
    }
}

/// Whether a value is what every provider does anyway.
fn says_nothing(name: &str, value: &Value) -> bool {
    let number = value.as_f64();
    match name {
        "model" | "stream" => true,
        "n" => number == Some(1.0),
        "temperature" | "top_p" => number == Some(1.0),
        "presence_penalty" | "frequency_penalty" | "top_logprobs" => number == Some(0.0),
        "parallel_tool_calls" => *value == true,
        "service_tier" => value == "auto" || value == "default",
        "verbosity" => value == "medium",
        "modalities" => *value == json!(["text"]),
        _ => match value {
            Value::Null | Value::Bool(false) => true,
            Value::Object(members) => members.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::String(text) => text.is_empty(),
            Value::Bool(true) | Value::Number(_) => false,
        },
    }
}

/// The bytes of a body that was put together here.
///
/// # Errors
/// It cannot be written, which does not happen.
pub(in crate::provider) fn written(body: &Map<String, Value>, provider: &str) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(body).map_err(|fault| {
        Error::new(Kind::Internal, format!("The request for '{provider}' could not be written: {fault}."))
    })
}
