//! OpenAI chat completions as the hub between all other formats: what their readers share.

pub mod calls;

use super::place::inner;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A whole answer.
#[derive(Deserialize)]
pub struct Answer<'a> {
    #[serde(borrow)]
    pub id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub created: Option<&'a RawValue>,
    #[serde(borrow)]
    pub model: Option<&'a RawValue>,
    #[serde(borrow)]
    pub choices: Option<Vec<Told<'a>>>,
    #[serde(borrow)]
    pub usage: Option<&'a RawValue>,
}

/// One of the choices of a whole answer.
#[derive(Deserialize)]
pub struct Told<'a> {
    #[serde(borrow)]
    pub index: Option<&'a RawValue>,
    #[serde(borrow)]
    pub message: Option<Message<'a>>,
    #[serde(borrow)]
    pub finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    pub logprobs: Option<&'a RawValue>,
}

/// What the model says.
#[derive(Deserialize, Default)]
pub struct Message<'a> {
    #[serde(borrow)]
    pub content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    pub reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    pub thinking_blocks: Option<&'a RawValue>,
    #[serde(borrow)]
    pub tool_calls: Option<Vec<Call<'a>>>,
    #[serde(borrow)]
    pub function_call: Option<Function<'a>>,
    #[serde(borrow)]
    pub annotations: Option<&'a RawValue>,
}

/// A piece of a streamed answer.
#[derive(Deserialize)]
pub struct Chunk<'a> {
    #[serde(borrow)]
    pub id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub created: Option<&'a RawValue>,
    #[serde(borrow)]
    pub model: Option<&'a RawValue>,
    #[serde(borrow)]
    pub choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow)]
    pub usage: Option<&'a RawValue>,
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
    #[serde(borrow)]
    pub x_groq: Option<Groq<'a>>,
}

/// Groq's place for usage.
#[derive(Deserialize)]
pub struct Groq<'a> {
    #[serde(borrow)]
    pub usage: Option<&'a RawValue>,
}

/// One of the choices of a piece.
#[derive(Deserialize)]
pub struct Choice<'a> {
    #[serde(borrow)]
    pub index: Option<&'a RawValue>,
    #[serde(borrow)]
    pub delta: Option<Delta<'a>>,
    #[serde(borrow)]
    pub finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    pub logprobs: Option<&'a RawValue>,
    /// Moonshot's place for usage.
    #[serde(borrow)]
    pub usage: Option<&'a RawValue>,
}

/// What a piece adds to the message.
#[derive(Deserialize)]
pub struct Delta<'a> {
    #[serde(borrow)]
    pub content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    pub reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    pub thinking_blocks: Option<&'a RawValue>,
    #[serde(borrow)]
    pub tool_calls: Option<Vec<Call<'a>>>,
    #[serde(borrow)]
    pub function_call: Option<Function<'a>>,
    #[serde(borrow)]
    pub annotations: Option<&'a RawValue>,
}

/// A call of a tool, or a piece of one.
#[derive(Deserialize)]
pub struct Call<'a> {
    #[serde(borrow)]
    pub index: Option<&'a RawValue>,
    #[serde(borrow)]
    pub id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub function: Option<Function<'a>>,
}

#[derive(Deserialize)]
pub struct Function<'a> {
    #[serde(borrow)]
    pub name: Option<&'a RawValue>,
    #[serde(borrow)]
    pub arguments: Option<&'a RawValue>,
}

/// LiteLLM's `thinking_blocks`: Anthropic's blocks as they were.
#[derive(Deserialize)]
pub struct Thinking<'a> {
    #[serde(borrow)]
    pub thinking: Option<&'a RawValue>,
    #[serde(borrow)]
    pub signature: Option<&'a RawValue>,
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
}

/// What stands between the quotes of a string that says something.
pub fn string(value: Option<&RawValue>) -> Option<&str> {
    let text = value?.get();
    (text.starts_with('"') && text.len() > 2).then(|| inner(text))
}

/// The blocks in a `thinking_blocks`; none where it is something else.
pub fn thinking_blocks(value: Option<&RawValue>) -> Vec<Thinking<'_>> {
    value.and_then(|value| serde_json::from_str(value.get()).ok()).unwrap_or_default()
}

/// A piece of a `content`.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Thinking(&'a str),
    Text(&'a str),
}

/// Shows the texts of a `content`: a string, or Mistral's list of text and thinking parts.
pub fn pieces<'a>(content: Option<&'a RawValue>, see: &mut dyn FnMut(Piece<'a>)) {
    #[derive(Deserialize)]
    struct Part<'a> {
        #[serde(borrow)]
        text: Option<&'a RawValue>,
        #[serde(borrow)]
        refusal: Option<&'a RawValue>,
        #[serde(borrow)]
        thinking: Option<&'a RawValue>,
    }
    if let Some(text) = string(content) {
        return see(Piece::Text(text));
    }
    let Some(parts) = content.filter(|c| c.get().starts_with('[')) else { return };
    for part in serde_json::from_str::<Vec<Part<'a>>>(parts.get()).unwrap_or_default() {
        if let Some(text) = string(part.thinking) {
            see(Piece::Thinking(text));
        } else if let Some(inside) = part.thinking {
            for part in serde_json::from_str::<Vec<Part<'a>>>(inside.get()).unwrap_or_default() {
                if let Some(text) = string(part.text) {
                    see(Piece::Thinking(text));
                }
            }
        } else if let Some(text) = string(part.text).or(string(part.refusal)) {
            see(Piece::Text(text));
        }
    }
}

/// Whether an `error` member says that there is one.
pub fn is_error(value: Option<&RawValue>) -> bool {
    value.is_some_and(|value| !matches!(value.get(), "null" | "false" | "\"\"" | "{}" | "0"))
}

/// A whole number, if it is one.
pub fn number(value: Option<&RawValue>) -> Option<usize> {
    value?.get().parse().ok()
}
