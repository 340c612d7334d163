//! How the caller is told what becomes of the turns: one answer, in his format.

mod chat;
mod messages;
mod responses;

use crate::error::{Error, Result};
use crate::mcp::kit::{Chosen, Kit};
use crate::mcp::outcome::Outcome;
use crate::mcp::resume::Pending;
use crate::mcp::rounds::Wanted;
use bytes::{Bytes, BytesMut};
pub use chat::Chat;
pub use messages::{CALL as USE, Messages};
pub use responses::{CALL, Responses};
use serde_json::{Map, Value};

/// One format. What is written to `out` is for a stream; whoever wants a whole answer gets it at the end.
pub trait Voice {
    /// A piece of what the model says: a chunk's delta, or the whole message of a turn, without calls. `frame` is what it
    /// came in.
    ///
    /// # Errors
    /// It makes no sense in this format.
    fn says(&mut self, frame: &Value, said: Map<String, Value>, out: &mut BytesMut) -> Result<()>;

    /// The model has ended its turn.
    fn pause(&mut self, out: &mut BytesMut);

    /// A call of a tool begins, maybe beside others.
    fn begins(&mut self, step: &Step<'_>, out: &mut BytesMut);

    /// The calls of a turn are over.
    fn done(&mut self, steps: &[Step<'_>], out: &mut BytesMut);

    /// These calls are the caller's to go on with. Where the turn is kept, it is found by their ids.
    fn hands(&mut self, calls: &[Pending], is_kept: bool, kit: &Kit, out: &mut BytesMut);

    /// The end of a stream, and the whole answer.
    fn end(&mut self, end: End<'_>, out: &mut BytesMut) -> Bytes;

    /// The last event of a stream that has failed.
    fn fail(&mut self, error: &Error) -> Bytes;

    /// What keeps a silent stream open.
    fn pulse(&self) -> Bytes {
        Bytes::from_static(b": keep-alive\n\n")
    }
}

/// A call, as a voice hears of it.
pub struct Step<'a> {
    pub wanted: &'a Wanted,
    /// None while it runs.
    pub outcome: Option<&'a Outcome>,
    /// What the request calls its server, and the tool beside that. None where there is no such tool.
    pub tool: Option<(&'a str, &'a str)>,
}

impl<'a> Step<'a> {
    pub fn of(wanted: &'a Wanted, outcome: Option<&'a Outcome>, tool: Option<&'a Chosen>) -> Self {
        Step { wanted, outcome, tool: tool.map(|tool| (tool.label.as_str(), tool.shown.as_str())) }
    }
}

/// What the last turn ended with, and the usage of all of them.
pub struct End<'a> {
    pub finish: Option<&'a str>,
    pub usage: Value,
}
