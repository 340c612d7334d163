//! Google's `generateContent`, of the Gemini API and of Vertex AI.
//!
//! Pure: [`request`] makes the body, a [`Reader`] reads what comes back, [`error`] the refusals. Source: the Gemini API
//! reference (<https://ai.google.dev/api/generate-content>) and the types of the google-genai SDK.

mod answer;
mod errors;
mod model;
mod request;
mod thinking;

pub use answer::{Reader, usage};
pub use errors::error;
pub use request::request;

use super::hub::NameRule;

/// `[A-Za-z_][A-Za-z0-9_.:-]{0,63}`, of which the part that all upstreams share.
const NAMES: NameRule = NameRule { longest: 64, letter_first: true };
