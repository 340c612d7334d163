//! OpenAI's Responses API as its clients speak it, over upstreams that speak chat completions, and a look at those that
//! speak it themselves.
//!
//! Pure: bytes in, bytes out, no clock and no connection. The parts:
//!
//! - [`to_chat`] a request on its way to the upstream, with what the answer repeats of it: [`Echo`]
//! - [`from_chat`] a whole answer on its way back, [`Stream`] a streamed one
//! - [`Rounds`] an answer of several turns, between which the gateway has called tools
//! - [`Watch`] and [`native`] look at answers of upstreams that speak this format themselves
//!
//! Source: OpenAI's API reference, "Responses" and "Streaming events".

mod answer;
mod echo;
mod input;
mod items;
mod request;
mod rounds;
mod stream;
mod tools;
mod watch;

#[cfg(test)]
mod tests;

pub use answer::from_chat;
pub use echo::{Echo, echo, pending};
pub use input::items;
pub use items::Served;
pub use request::{Asked, to_chat};
pub use rounds::Rounds;
pub use stream::{Stream, code_of, error_event};
pub use watch::{Native, Watch, native, usage};

/// What stands before thinking blocks in an `encrypted_content` of ours. Their signatures have to come back with the
/// calls that followed from them, and this member is what clients send back untouched.
const SEALED: &str = "gateway:thinking:";
