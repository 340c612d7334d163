//! Ollama's own `/api/chat`, which has what its OpenAI face lacks: the size of the context, thinking, and how long a
//! model stays loaded.
//!
//! Pure: [`request`] makes the body, a [`Reader`] reads what comes back, [`error`] the refusals. Source: `docs/api.md` and
//! `api/types.go` of Ollama's repository.

mod answer;
mod request;

pub use answer::{Reader, error};
pub use request::request;

use super::hub::NameRule;

const NAMES: NameRule = NameRule { longest: 64, letter_first: false };
