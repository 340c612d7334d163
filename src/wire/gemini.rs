//! Google's `generateContent` as a format of callers: from its requests to OpenAI chat, and back from its answers; its
//! embeddings by way of OpenAI's.
//!
//! Source: Google's reference of the Gemini API, "Generating content". Names are taken in both spellings, as Google takes
//! them. What has no twin in chat and changes nothing where another vendor answers (`safetySettings`, `labels`) is left
//! out; what would be missed is refused by name.

mod answer;
mod request;
mod vectors;

pub use answer::{Stream, from_chat};
pub use request::{THOUGHTS, to_chat};
pub use vectors::{Embeds, for_others, from_embeddings, to_embeddings};

use crate::error::Error;
use serde_json::{Value, json};

/// An error in Google's form.
pub fn error_body(error: &Error) -> Value {
    let code = error.status().as_u16();
    let status = match code {
        400 | 413 | 422 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        408 | 504 => "DEADLINE_EXCEEDED",
        429 => "RESOURCE_EXHAUSTED",
        501 => "UNIMPLEMENTED",
        502 | 503 => "UNAVAILABLE",
        _ => "INTERNAL",
    };
    json!({"error": {"code": code, "message": error.to_string(), "status": status}})
}

#[cfg(test)]
mod tests;
