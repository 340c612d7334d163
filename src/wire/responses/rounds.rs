//! Several turns of a chat, with calls of tools between them, told as one response.

use super::echo::{Echo, Status, Told};
use super::items::{Items, Served};
use super::stream::{code_of, said};
use crate::envelope::shorten;
use crate::error::{Error, Kind};
use crate::usage::Usage;
use crate::wire::hub::Delta;
use crate::wire::hub::calls::{Calls, Sink};
use crate::wire::write::escape;
use bytes::{Bytes, BytesMut};
use serde_json::Value;

/// The response as it grows. Its events are for those who want a stream.
#[derive(Debug)]
pub struct Rounds {
    echo: Echo,
    id: String,
    created: u64,
    model: String,
    has_begun: bool,
    items: Items,
    calls: usize,
    usage: Option<Usage>,
}

impl Rounds {
    /// The response named after that hexadecimal id.
    pub fn new(echo: Echo, id: &str, created: u64, model: &str) -> Self {
        Rounds {
            items: Items::new(id, &echo.custom),
            echo,
            id: format!("resp_{id}"),
            created,
            model: model.to_owned(),
            has_begun: false,
            calls: 0,
            usage: None,
        }
    }

    /// The first events, once.
    pub fn begin(&mut self, model: Option<&str>, out: &mut BytesMut) -> bool {
        if std::mem::replace(&mut self.has_begun, true) {
            return false;
        }
        if let Some(model) = model {
            model.clone_into(&mut self.model);
        }
        for kind in ["response.created", "response.in_progress"] {
            let response = self.object(Status::InProgress, None);
            self.items.event(kind, out, |event| event.json("response", response));
        }
        true
    }

    /// A delta of chat, or a whole message, without calls.
    ///
    /// # Errors
    /// It makes no sense, or there is too much of it.
    pub fn says(&mut self, delta: &[u8], out: &mut BytesMut) -> Result<(), Error> {
        let garbled =
            |what: &str| Error::new(Kind::Garbled, format!("The answer of the upstream makes no sense: {what}."));
        let delta: Delta<'_> = serde_json::from_slice(delta).map_err(|e| garbled(&shorten(&e.to_string())))?;
        said(&delta, &mut self.items, &mut Calls::default(), out).map_err(garbled)?;
        if self.items.is_full() { Err(garbled("it is larger than 64 MiB")) } else { Ok(()) }
    }

    /// What was being said is over.
    pub fn pause(&mut self, out: &mut BytesMut) {
        self.items.close(out);
    }

    pub fn listed(&mut self, id: &str, label: &str, tools: &Value, error: Option<&str>, out: &mut BytesMut) {
        self.items.listed(id, label, tools, error, out);
    }

    pub fn call_begins(&mut self, call: &Served, out: &mut BytesMut) {
        self.items.served_begins(call, out);
    }

    pub fn call_ends(&mut self, call: &Served, result: Result<&str, &str>, out: &mut BytesMut) {
        self.items.served_ends(call, result, out);
    }

    pub fn asks(&mut self, call: &Served, out: &mut BytesMut) {
        self.items.asks(call, out);
    }

    /// A call of the caller's own.
    pub fn calls(&mut self, id: &str, name: &str, arguments: &str, out: &mut BytesMut) {
        self.items.call(&raw(id), self.calls, &raw(name), out);
        self.items.arguments(&raw(arguments), out);
        self.items.close(out);
        self.calls += 1;
    }

    /// The last event, and the whole response.
    pub fn finish(&mut self, finish: Option<&str>, usage: Option<Usage>, out: &mut BytesMut) -> Bytes {
        self.items.close(out);
        self.usage = usage;
        let status = Status::of(finish);
        let response = Bytes::from(self.object(status, None));
        let kind = if status == Status::Completed { "response.completed" } else { "response.incomplete" };
        self.items.event(kind, out, |event| event.json("response", &response));
        response
    }

    /// The last events of a response that failed.
    pub fn fail(&mut self, error: &Error, out: &mut BytesMut) {
        let (code, message) = (code_of(error), error.to_string());
        self.items.event("error", out, |event| {
            event.text("code", code);
            event.text("message", &message);
            event.json("param", "null");
        });
        let response = self.object(Status::Failed, Some((code, &message)));
        self.items.event("response.failed", out, |event| event.json("response", response));
    }

    fn object(&self, status: Status, error: Option<(&str, &str)>) -> Vec<u8> {
        let mut out = Vec::new();
        let told = Told {
            id: &self.id,
            created: self.created,
            model: &self.model,
            status,
            output: &self.items.done,
            usage: self.usage.as_ref(),
            error,
        };
        self.echo.write(&told, &mut out);
        out
    }
}

/// A text as it stands between quotes.
fn raw(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    escape(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}
