//! An answer on its way into OpenAI chat's form. A translation puts in what its upstream says, piece by piece; what
//! becomes of it, one object or a stream of chunks, is the [`Sink`]'s.

use super::{Context, JSON_TOOL};
use crate::usage::Usage;
use actix_web::http::StatusCode;
use serde_json::{Value, json};

/// More choices or calls than any answer holds.
const MOST: usize = 1024;

/// A piece of an answer.
#[derive(Debug, Clone, Copy)]
pub enum Delta<'a> {
    Text(&'a str),
    Reasoning(&'a str),
    /// Closes the reasoning before it.
    Signature(&'a str),
    /// Reasoning that nobody may read.
    Redacted(&'a str),
    /// A call begins; `place` is its number.
    Call {
        place: usize,
        id: &'a str,
        name: &'a str,
        fields: Option<&'a Value>,
    },
    Arguments {
        place: usize,
        text: &'a str,
    },
    /// A picture as a data URL.
    Image(&'a str),
    /// One more mention of a source.
    Annotation(&'a Value),
    /// What has no twin, under LiteLLM's name for it.
    Field(&'static str, &'a Value),
    /// Items of `logprobs.content`.
    Logprobs(&'a Value),
}

/// Takes the pieces of an answer.
pub trait Sink {
    fn delta(&mut self, head: &Head, choice: usize, delta: Delta<'_>);
}

/// What every chunk of an answer, or the answer itself, says about it.
#[derive(Debug, Default)]
pub struct Head {
    pub context: Context,
    pub id: String,
    pub model: String,
}

/// Why an answer cannot be told.
#[derive(Debug)]
pub enum Fault {
    /// It makes no sense.
    Garbled(&'static str),
    /// It is the upstream's own error.
    Told { status: u16, kind: &'static str, message: String },
}

impl Fault {
    /// The error frame of a stream: its status is the code, since there is no other place for it.
    pub fn frame(&self, provider: &str) -> Value {
        let (message, kind, status) = match self {
            Fault::Garbled(what) => {
                (format!("The answer of '{provider}' makes no sense: {what}."), "upstream_error", 502)
            }
            Fault::Told { status, kind, message } => (message.clone(), *kind, *status),
        };
        let message = if message.is_empty() { "no message".to_owned() } else { message };
        json!({"error": {"message": message, "type": kind, "param": null, "code": status.to_string()}})
    }

    /// The status of a whole answer that is an error.
    pub fn status(&self) -> StatusCode {
        match self {
            Fault::Garbled(_) => StatusCode::BAD_GATEWAY,
            Fault::Told { status, .. } => StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY),
        }
    }
}

/// How far one choice is.
#[derive(Debug, Default)]
struct State {
    /// Calls that were told.
    calls: usize,
    /// What the call that was begun last is.
    open: Open,
    has_arguments: bool,
    finish: Option<&'static str>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Open {
    #[default]
    Nothing,
    Call(usize),
    /// Its input is the answer's text.
    Answer,
    /// The caller has no room for it.
    Untold,
}

/// An answer half-way.
#[derive(Debug)]
pub struct Out<S> {
    pub head: Head,
    pub sink: S,
    choices: Vec<State>,
    pub usage: Option<Usage>,
    /// The class of service that the call got, where it is told.
    pub service: Option<String>,
}

impl<S: Sink> Out<S> {
    pub fn new(context: Context, sink: S) -> Self {
        let head = Head { id: String::new(), model: context.model.clone(), context };
        Out { head, sink, choices: Vec::new(), usage: None, service: None }
    }

    /// Whose answer it is; what is told first counts.
    pub fn begin(&mut self, id: Option<&str>, model: Option<&str>) {
        if self.head.id.is_empty() {
            self.head.id = match id.filter(|id| !id.is_empty()) {
                Some(id) => id.to_owned(),
                None => format!("chatcmpl-{}", self.head.context.id),
            };
            if let Some(model) = model.filter(|model| !model.is_empty()) {
                self.head.model = model.to_owned();
            }
        }
    }

    fn state(&mut self, choice: usize) -> Result<&mut State, Fault> {
        if choice >= MOST {
            return Err(Fault::Garbled("it has too many choices"));
        }
        if self.choices.len() <= choice {
            self.choices.resize_with(choice + 1, State::default);
        }
        Ok(&mut self.choices[choice])
    }

    /// A piece that is no part of a call.
    ///
    /// # Errors
    /// There are too many choices.
    pub fn put(&mut self, choice: usize, delta: Delta<'_>) -> Result<(), Fault> {
        self.begin(None, None);
        self.state(choice)?;
        match delta {
            Delta::Text("") | Delta::Reasoning("") | Delta::Signature("") => (),
            delta => self.sink.delta(&self.head, choice, delta),
        }
        Ok(())
    }

    /// Begins a call under the upstream's name for it, and says which number it has.
    ///
    /// # Errors
    /// There are too many.
    pub fn call(&mut self, choice: usize, id: &str, name: &str, fields: Option<&Value>) -> Result<usize, Fault> {
        self.begin(None, None);
        self.close(choice)?;
        let (is_answer, one_call) = (self.head.context.json_tool && name == JSON_TOOL, self.head.context.one_call);
        let state = self.state(choice)?;
        state.has_arguments = false;
        let place = state.calls;
        if place >= MOST {
            return Err(Fault::Garbled("it has too many calls"));
        }
        state.open = match (is_answer, one_call && place > 0) {
            (true, _) => Open::Answer,
            (_, true) => Open::Untold,
            _ => Open::Call(place),
        };
        if state.open == Open::Call(place) {
            let minted = if id.is_empty() { self.mint(choice)? } else { String::new() };
            let id = if id.is_empty() { &minted } else { id };
            let name = self.head.context.names.given(name);
            self.sink.delta(&self.head, choice, Delta::Call { place, id, name, fields });
            self.state(choice)?.calls += 1;
        }
        Ok(place)
    }

    /// An id for the next call, which got none upstream: no two calls of a conversation share it.
    ///
    /// # Errors
    /// There are too many choices.
    pub fn mint(&mut self, choice: usize) -> Result<String, Fault> {
        let place = self.state(choice)?.calls;
        let id = &self.head.context.id;
        Ok(match choice {
            0 => format!("call_{id}_{place}"),
            choice => format!("call_{id}_{choice}_{place}"),
        })
    }

    /// A piece of the arguments of the call that was begun last.
    ///
    /// # Errors
    /// There are too many choices.
    pub fn arguments(&mut self, choice: usize, text: &str) -> Result<(), Fault> {
        let state = self.state(choice)?;
        if text.is_empty() || state.open == Open::Nothing {
            return Ok(());
        }
        state.has_arguments = true;
        match state.open {
            Open::Call(place) => self.sink.delta(&self.head, choice, Delta::Arguments { place, text }),
            Open::Answer => self.sink.delta(&self.head, choice, Delta::Text(text)),
            Open::Untold | Open::Nothing => (),
        }
        Ok(())
    }

    /// The call that was begun last is complete: one without arguments has empty ones.
    ///
    /// # Errors
    /// There are too many choices.
    pub fn close(&mut self, choice: usize) -> Result<(), Fault> {
        let state = self.state(choice)?;
        if state.open != Open::Nothing && !state.has_arguments {
            self.arguments(choice, "{}")?;
        }
        self.state(choice)?.open = Open::Nothing;
        Ok(())
    }

    /// Why a choice ended, in OpenAI's words.
    ///
    /// # Errors
    /// There are too many choices.
    pub fn finish(&mut self, choice: usize, reason: &'static str) -> Result<(), Fault> {
        self.begin(None, None);
        self.close(choice)?;
        self.state(choice)?.finish = Some(reason);
        Ok(())
    }

    /// Whether anything has ended.
    pub fn has_finished(&self) -> bool {
        self.choices.iter().any(|state| state.finish.is_some())
    }

    /// The choices and why they ended.
    pub(super) fn ends(&self) -> impl Iterator<Item = (usize, &'static str)> {
        let legacy = self.head.context.legacy_functions;
        self.choices.iter().enumerate().map(move |(choice, state)| {
            let reason = match state.finish.unwrap_or("stop") {
                "stop" | "tool_calls" if state.calls > 0 && legacy => "function_call",
                "stop" | "tool_calls" if state.calls > 0 => "tool_calls",
                "tool_calls" => "stop",
                other => other,
            };
            (choice, reason)
        })
    }
}

/// OpenAI's `usage`, with LiteLLM's additions about the cache.
pub(super) fn openai(usage: &Usage) -> Value {
    let mut prompt = json!({"cached_tokens": usage.cached_tokens});
    for (name, count) in [
        ("cache_write_tokens", usage.cache_write_tokens),
        ("audio_tokens", usage.audio_in_tokens),
        ("image_tokens", usage.image_in_tokens),
    ] {
        if count > 0 {
            prompt[name] = count.into();
        }
    }
    if usage.cache_write_1h_tokens > 0 {
        let short = usage.cache_write_tokens.saturating_sub(usage.cache_write_1h_tokens);
        prompt["cache_creation_token_details"] = json!({
            "ephemeral_5m_input_tokens": short,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        });
    }
    let mut completion = json!({"reasoning_tokens": usage.reasoning_tokens});
    for (name, count) in [("audio_tokens", usage.audio_out_tokens), ("image_tokens", usage.image_out_tokens)] {
        if count > 0 {
            completion[name] = count.into();
        }
    }
    let mut told = json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens.saturating_add(usage.completion_tokens),
        "prompt_tokens_details": prompt,
        "completion_tokens_details": completion,
    });
    if let Some((input, output)) = usage.billed {
        told["billed_units"] = json!({"input_tokens": input, "output_tokens": output});
    }
    if usage.searches > 0 {
        told["server_tool_use"] = json!({"web_search_requests": usage.searches});
    }
    told
}
