//! Cohere's `/v2/chat`.
//!
//! Pure: [`request`] makes the body, a [`Reader`] reads what comes back, [`error`] the refusals. Source: Cohere's API
//! reference (<https://docs.cohere.com/reference/chat>) and the types of its SDK.

mod answer;
mod request;

pub use answer::{Reader, error, usage};
pub use request::request;

use super::hub::NameRule;

const NAMES: NameRule = NameRule { longest: 64, letter_first: false };
