//! Anthropic's Messages: `mcp_tool_use` and `mcp_tool_result` blocks between the others.

use super::{End, Step, Voice};
use crate::error::{Error, Result};
use crate::mcp::kit::Kit;
use crate::mcp::resume::Pending;
use crate::provider::hub::ToolNames;
use crate::usage::Usage;
use crate::wire::messages::{PING, Rounds, error_event};
use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};

/// In front of the key of a call. What Anthropic's own connector did has other ids.
pub const CALL: &str = "mcptoolu_gw_";

pub struct Messages {
    rounds: Rounds,
    streams: bool,
    request_id: String,
    /// Names of the caller's tools that were too long for others.
    names: ToolNames,
}

impl Messages {
    pub fn new(rounds: Rounds, streams: bool, request_id: String, names: ToolNames) -> Self {
        Messages { rounds, streams, request_id, names }
    }
}

impl Voice for Messages {
    fn says(&mut self, _: &Value, mut said: Map<String, Value>, out: &mut BytesMut) -> Result<()> {
        self.rounds.begin(out);
        let is_told = said.get("thinking_blocks").and_then(Value::as_array).is_some_and(|blocks| !blocks.is_empty());
        if !self.streams && is_told {
            said.shift_remove("reasoning_content");
        }
        match said.is_empty() {
            true => Ok(()),
            false => self.rounds.says(Value::Object(said).to_string().as_bytes(), out),
        }
    }

    fn pause(&mut self, out: &mut BytesMut) {
        self.rounds.pause(out);
    }

    fn begins(&mut self, _: &Step<'_>, _: &mut BytesMut) {}

    fn done(&mut self, steps: &[Step<'_>], out: &mut BytesMut) {
        self.rounds.begin(out);
        for Step { wanted, outcome, tool } in steps {
            let (Some(outcome), Some((label, name))) = (outcome, tool) else { continue };
            let id = format!("{CALL}{}", wanted.key);
            self.rounds.uses(&id, name, label, &wanted.arguments, out);
            self.rounds.result(&id, outcome.is_error, &outcome.text, out);
        }
    }

    fn hands(&mut self, calls: &[Pending], is_kept: bool, _: &Kit, out: &mut BytesMut) {
        self.rounds.begin(out);
        for call in calls {
            let id = if is_kept { &call.id } else { &call.own_id };
            self.rounds.calls(id, self.names.given(&call.name), &call.arguments, out);
        }
    }

    fn end(&mut self, end: End<'_>, out: &mut BytesMut) -> Bytes {
        self.rounds.begin(out);
        self.rounds.finish(end.finish, Usage::read(end.usage.to_string().as_bytes()), out).into()
    }

    fn fail(&mut self, error: &Error) -> Bytes {
        error_event(error, &self.request_id)
    }

    fn pulse(&self) -> Bytes {
        Bytes::from_static(PING)
    }
}
