//! Amazon Bedrock's Converse.
//!
//! Pure: [`request`] makes the body, a [`Reader`] reads what comes back, [`error`] the refusals. Source: the Bedrock
//! runtime's service model, and its API reference
//! (<https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>).

mod answer;
mod errors;
mod model;
mod parts;
mod request;

pub use answer::{Reader, usage};
pub use errors::error;
pub use model::{Named, named};
pub use request::request;

use super::hub::NameRule;

/// `^[a-zA-Z0-9_-]{1,64}$`
const NAMES: NameRule = NameRule { longest: 64, letter_first: false };
