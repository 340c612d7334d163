//! Tool calls whose pieces come mixed: the first goes on at once, the others wait until it is over.

use super::{Call, Function};
use crate::wire::hub;
use crate::wire::write::escape;
use bytes::BytesMut;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// More calls than any model makes in one answer.
const MOST_CALLS: usize = 512;
/// Arguments that wait for their turn are not larger.
const MOST_HELD: usize = 16 << 20;
/// Ids and names are not longer.
const LONGEST_NAME: usize = 4096;
const TOO_LONG: &str = "the id or name of a tool call is longer than 4096 bytes";
const TOO_MANY: &str = "it calls more than 512 tools";
const TOO_LARGE: &str = "the arguments of its tool calls are larger than 16 MiB";
const NAMELESS: &str = "it calls a tool without naming it";
const LATE: &str = "it goes on with a tool call after it has gone on to something else";

/// Where calls are told, one at a time. Texts are given as they stand between the quotes of JSON.
pub trait Sink {
    /// A call begins; `number` counts the calls of the answer, and `id` is empty where the upstream gives none.
    fn call(&mut self, id: &str, number: usize, name: &str, out: &mut BytesMut);

    /// A piece of the arguments of the call that has begun last.
    fn arguments(&mut self, piece: &str, out: &mut BytesMut);

    /// The call that has begun last is over.
    fn close(&mut self, out: &mut BytesMut);
}

/// The calls of one answer, in the order in which they came up.
#[derive(Debug, Default)]
pub struct Calls {
    list: Vec<Kept>,
    held: usize,
}

#[derive(Debug)]
struct Kept {
    index: Option<usize>,
    legacy: bool,
    /// Id, name and arguments as they stand between quotes.
    id: String,
    name: String,
    held: String,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Open,
    Closed,
}

impl Calls {
    /// Whether tools are called at all.
    pub fn any(&self) -> bool {
        !self.list.is_empty()
    }

    /// Bytes of arguments that wait.
    pub fn held(&self) -> usize {
        self.held
    }

    /// A piece of a call.
    ///
    /// # Errors
    /// What makes no sense about it.
    pub fn piece(&mut self, call: &Call<'_>, sink: &mut impl Sink, out: &mut BytesMut) -> Result<(), &'static str> {
        let nothing = Function { name: None, arguments: None };
        let function = call.function.as_ref().unwrap_or(&nothing);
        let id = hub::string(call.id);
        let place = self.find(hub::number(call.index), id, hub::string(function.name));
        self.take(place, hub::number(call.index), id, false, function)?;
        self.go_on(place, function, sink, out)
    }

    /// A piece of the one call that the `function_call` of old can make.
    ///
    /// # Errors
    /// As [`Calls::piece`].
    pub fn legacy(
        &mut self,
        function: &Function<'_>,
        sink: &mut impl Sink,
        out: &mut BytesMut,
    ) -> Result<(), &'static str> {
        let place = self.list.iter().position(|call| call.legacy).unwrap_or(self.list.len());
        self.take(place, None, None, true, function)?;
        self.go_on(place, function, sink, out)
    }

    /// Something else than a tool call comes: all calls that can be told are told.
    pub fn leave(&mut self, sink: &mut impl Sink, out: &mut BytesMut) {
        for place in 0..self.list.len() {
            if self.list[place].stage == Stage::Waiting && !self.list[place].name.is_empty() {
                self.open(place, sink, out);
            }
            if self.list[place].stage == Stage::Open {
                self.list[place].stage = Stage::Closed;
                sink.close(out);
            }
        }
    }

    /// The answer is over: tells all calls.
    ///
    /// # Errors
    /// One of them has never been named.
    pub fn finish(&mut self, sink: &mut impl Sink, out: &mut BytesMut) -> Result<(), &'static str> {
        self.list.retain(|call| !(call.name.is_empty() && call.held.is_empty()));
        if self.list.iter().any(|call| call.name.is_empty()) {
            return Err(NAMELESS);
        }
        self.leave(sink, out);
        Ok(())
    }

    /// The place of the call that a piece belongs to; behind the last one when it begins a new call. Upstreams may leave
    /// out the index, use one index for several calls with ids, or leave out the ids.
    fn find(&self, index: Option<usize>, id: Option<&str>, name: Option<&str>) -> usize {
        let fits = |call: &Kept| match (id, index) {
            _ if call.legacy => false,
            (Some(id), Some(index)) => call.index == Some(index) && (call.id == id || call.id.is_empty()),
            (Some(id), None) => call.id == id,
            (None, Some(index)) => call.index == Some(index),
            // Without both, a name begins a call.
            (None, None) => name.is_none() || call.name.is_empty(),
        };
        let last = self.list.iter().rposition(fits);
        // Without both, only the last call can go on.
        let last = last.filter(|place| id.is_some() || index.is_some() || place + 1 == self.list.len());
        last.unwrap_or(self.list.len())
    }

    fn take(
        &mut self,
        place: usize,
        index: Option<usize>,
        id: Option<&str>,
        legacy: bool,
        function: &Function<'_>,
    ) -> Result<(), &'static str> {
        if place == self.list.len() {
            if place >= MOST_CALLS {
                return Err(TOO_MANY);
            }
            let (id, name, held) = (String::new(), String::new(), String::new());
            self.list.push(Kept { index, legacy, id, name, held, stage: Stage::Waiting });
        }
        if id.into_iter().chain(hub::string(function.name)).any(|text| text.len() > LONGEST_NAME) {
            return Err(TOO_LONG);
        }
        let call = &mut self.list[place];
        if let (true, Some(id)) = (call.id.is_empty(), id) {
            id.clone_into(&mut call.id);
        }
        // Some upstreams repeat the name in every piece.
        if let (true, Some(name)) = (call.name.is_empty(), hub::string(function.name)) {
            name.clone_into(&mut call.name);
        }
        Ok(())
    }

    fn go_on(
        &mut self,
        place: usize,
        function: &Function<'_>,
        sink: &mut impl Sink,
        out: &mut BytesMut,
    ) -> Result<(), &'static str> {
        let piece = arguments(function.arguments);
        match self.list[place].stage {
            Stage::Open => sink.arguments(&piece, out),
            Stage::Closed if piece.is_empty() => (),
            Stage::Closed => return Err(LATE),
            Stage::Waiting => {
                self.held += piece.len();
                if self.held > MOST_HELD {
                    return Err(TOO_LARGE);
                }
                self.list[place].held.push_str(&piece);
                let is_next = self.list[..place].iter().all(|earlier| earlier.stage == Stage::Closed);
                if is_next && !self.list[place].name.is_empty() {
                    self.open(place, sink, out);
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, place: usize, sink: &mut impl Sink, out: &mut BytesMut) {
        let call = &mut self.list[place];
        call.stage = Stage::Open;
        let held = std::mem::take(&mut call.held);
        self.held -= held.len();
        sink.call(&call.id, place, &call.name, out);
        sink.arguments(&held, out);
    }
}

/// The arguments as they stand between quotes, also of upstreams that give an object instead of its text.
fn arguments(value: Option<&RawValue>) -> Cow<'_, str> {
    match value.map(RawValue::get) {
        None | Some("\"\"") => Cow::Borrowed(""),
        Some(text) if text.starts_with('"') => Cow::Borrowed(hub::string(value).unwrap_or_default()),
        Some(text) => {
            let mut escaped = BytesMut::new();
            escape(&mut escaped, text);
            Cow::Owned(String::from_utf8_lossy(&escaped).into_owned())
        }
    }
}
