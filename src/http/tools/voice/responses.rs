//! OpenAI's Responses: `mcp_list_tools`, `mcp_call` and `mcp_approval_request` items between the others.

use super::{End, Step, Voice};
use crate::error::{Error, Result};
use crate::mcp::kit::Kit;
use crate::mcp::outcome::Outcome;
use crate::mcp::resume::{self, Pending, QUESTION};
use crate::usage::Usage;
use crate::wire::responses::{Rounds, Served, error_event};
use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};

/// In front of the key of a call.
pub const CALL: &str = "mcp_";

pub struct Responses {
    rounds: Rounds,
    streams: bool,
    has_begun: bool,
    /// What servers offer: label, tools, and why some are missing. Told first.
    lists: Vec<(String, Value, Option<String>)>,
    /// Calls that were allowed since, and what came of them. Told behind the lists.
    allowed: Vec<(Served, Outcome)>,
    open: Option<Served>,
}

impl Responses {
    /// A voice for this response. The labels in `listed` are known to the caller already.
    pub fn new(rounds: Rounds, streams: bool, kit: &Kit, listed: &[String], allowed: Vec<(Served, Outcome)>) -> Self {
        let new = kit.labels.iter().filter(|known| !listed.contains(&known.label));
        let lists = new.map(|labelled| {
            let tools = labelled.tools.iter().map(|at| {
                let tool = &kit.tools[*at];
                json!({"name": tool.shown, "description": tool.offered.description(),
                    "input_schema": tool.offered.schema(), "annotations": tool.offered.tool.annotations()})
            });
            (labelled.label.clone(), tools.collect(), labelled.missing.clone())
        });
        let lists = lists.collect();
        Responses { rounds, streams, has_begun: false, lists, allowed, open: None }
    }

    fn begin(&mut self, model: Option<&str>, out: &mut BytesMut) {
        if !self.rounds.begin(model, out) {
            return;
        }
        self.has_begun = true;
        for (label, tools, missing) in std::mem::take(&mut self.lists) {
            let id = format!("mcpl_{}", resume::new_name());
            self.rounds.listed(&id, &label, &tools, missing.as_deref(), out);
        }
        for (call, outcome) in std::mem::take(&mut self.allowed) {
            self.rounds.call_begins(&call, out);
            self.rounds.call_ends(&call, result(&outcome), out);
        }
    }
}

fn result(outcome: &Outcome) -> std::result::Result<&str, &str> {
    if outcome.is_error { Err(&outcome.text) } else { Ok(&outcome.text) }
}

fn served(step: &Step<'_>) -> Option<Served> {
    let (label, name) = step.tool?;
    let arguments = step.wanted.arguments.clone();
    let id = format!("{CALL}{}", step.wanted.key);
    Some(Served { id, label: label.to_owned(), name: name.to_owned(), arguments, request: None })
}

impl Voice for Responses {
    fn says(&mut self, frame: &Value, mut said: Map<String, Value>, out: &mut BytesMut) -> Result<()> {
        self.begin(frame["model"].as_str(), out);
        if said.is_empty() {
            return Ok(());
        }
        // Blocks say in parts what `reasoning_content` says at once, where it is whole.
        let is_told = said.get("thinking_blocks").and_then(Value::as_array).is_some_and(|blocks| !blocks.is_empty());
        if !self.streams && is_told {
            said.shift_remove("reasoning_content");
        }
        self.rounds.says(Value::Object(said).to_string().as_bytes(), out)
    }

    fn pause(&mut self, out: &mut BytesMut) {
        self.rounds.pause(out);
    }

    fn begins(&mut self, step: &Step<'_>, out: &mut BytesMut) {
        self.begin(None, out);
        // Items do not interleave: of calls that run beside each other the first is told at once.
        if let (None, Some(call)) = (&self.open, served(step)) {
            self.rounds.call_begins(&call, out);
            self.open = Some(call);
        }
    }

    fn done(&mut self, steps: &[Step<'_>], out: &mut BytesMut) {
        self.begin(None, out);
        let open = self.open.take();
        let is_open = |call: &Served| open.as_ref().is_some_and(|open| open.id == call.id);
        let mut calls: Vec<(Served, &Outcome)> =
            steps.iter().filter_map(|step| Some((served(step)?, step.outcome?))).collect();
        calls.sort_by_key(|(call, _)| !is_open(call));
        for (call, outcome) in calls {
            if !is_open(&call) {
                self.rounds.call_begins(&call, out);
            }
            self.rounds.call_ends(&call, result(outcome), out);
        }
    }

    fn hands(&mut self, calls: &[Pending], is_kept: bool, kit: &Kit, out: &mut BytesMut) {
        self.begin(None, out);
        for call in calls {
            match (&call.tool, kit.find(&call.name)) {
                (Some(_), Some(tool)) => {
                    let key = call.id.strip_prefix(resume::PREFIX).unwrap_or(&call.id);
                    let (label, name) = (tool.label.clone(), tool.shown.clone());
                    let id = format!("{QUESTION}{key}");
                    let arguments = call.arguments.clone();
                    self.rounds.asks(&Served { id, label, name, arguments, request: None }, out);
                }
                _ => {
                    let id = if is_kept { &call.id } else { &call.own_id };
                    self.rounds.calls(id, &call.name, &call.arguments, out);
                }
            }
        }
    }

    fn end(&mut self, end: End<'_>, out: &mut BytesMut) -> Bytes {
        self.begin(None, out);
        self.rounds.finish(end.finish, Usage::read(end.usage.to_string().as_bytes()), out)
    }

    fn fail(&mut self, error: &Error) -> Bytes {
        if !self.has_begun {
            return error_event(error, 0);
        }
        let mut out = BytesMut::new();
        self.rounds.fail(error, &mut out);
        out.freeze()
    }
}
