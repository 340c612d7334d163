//! Watches the events of a streamed answer: forwards, withholds or ends. Pure; the bytes of an event are never rebuilt
//! unless something must leave it.

use crate::envelope::{Edits, Envelope};
use crate::error::{Error, Kind as ErrorKind, Origin, from_upstream};
use crate::meter::MAX_DEPTH;
use crate::price::{Service, usd_text};
use crate::route::Tariff;
use crate::usage::{self, Usage};
use crate::wire::json::{self, Kind};
use crate::wire::sse::{self, Content, Events};
use actix_web::http::StatusCode;
use bytes::Bytes;
use std::sync::Arc;

/// No single event is larger; images in deltas stay below this.
const MAX_EVENT: usize = 16 << 20;
const DONE: &[u8] = b"data: [DONE]\n\n";

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// Give the caller this event.
    Forward(Bytes),
    /// Give the caller this last event; everything is known by now.
    Finish(Bytes),
    /// The stream has failed.
    Fail(Error),
    /// More bytes are needed.
    More,
}

/// The state of one stream.
#[derive(Debug)]
pub struct Tap {
    events: Events,
    origin: Arc<Origin>,
    shows_usage: bool,
    tariff: Tariff,
    pub usage: Option<Usage>,
    /// The upstream's id of the answer.
    pub answer_id: Option<String>,
    /// The last event with choices: tells at the end whether the answer was complete.
    last: Bytes,
    deltas: u64,
    delta_bytes: usize,
    smallest_delta: usize,
}

impl Tap {
    /// `tariff` prices the usage that the caller is shown.
    pub fn new(origin: Arc<Origin>, shows_usage: bool, tariff: Tariff) -> Self {
        Tap {
            events: Events::new(MAX_EVENT),
            origin,
            shows_usage,
            tariff,
            usage: None,
            answer_id: None,
            last: Bytes::new(),
            deltas: 0,
            delta_bytes: 0,
            smallest_delta: usize::MAX,
        }
    }

    /// Takes the next bytes; [`Tap::step`] must have said [`Step::More`] before.
    pub fn push(&mut self, chunk: Bytes) {
        self.events.push(chunk);
    }

    pub fn step(&mut self) -> Step {
        loop {
            match self.events.take() {
                Ok(Some(event)) => {
                    if let Some(step) = self.see(event) {
                        return step;
                    }
                }
                Ok(None) => return Step::More,
                Err(sse::TooLarge) => return self.garbled("an event of it is larger than 16 MiB"),
            }
        }
    }

    /// The upstream has ended the stream.
    pub fn end(&mut self) -> Step {
        let rest = self.events.finish();
        if !rest.trim_ascii().is_empty() {
            let whole = Bytes::from([&rest, b"\n\n".as_slice()].concat());
            match self.see(whole) {
                Some(Step::Forward(event)) if self.is_complete() => {
                    return Step::Finish(Bytes::from([&event, DONE].concat()));
                }
                Some(step @ (Step::Finish(_) | Step::Fail(_))) => return step,
                _ => (),
            }
        }
        // Some servers leave the last frame out.
        if self.is_complete() {
            return self.finish(Bytes::from_static(DONE));
        }
        Step::Fail(Error::new(
            ErrorKind::Garbled,
            format!("The answer of '{}' broke off before it was complete.", self.origin.provider),
        ))
    }

    /// Output tokens so far, as far as they can be told without usage: one an event, or one for four bytes of what
    /// the events hold beyond their frame.
    pub fn seen_tokens(&self) -> u64 {
        if self.deltas == 0 {
            return 0;
        }
        let frames = self.smallest_delta * usize::try_from(self.deltas).unwrap_or(usize::MAX);
        self.deltas.max(crate::meter::estimate(self.delta_bytes.saturating_sub(frames)))
    }

    /// What to do with an event; `None` withholds it.
    fn see(&mut self, event: Bytes) -> Option<Step> {
        let data = match sse::content(&event) {
            Content::Nothing => return Some(Step::Forward(event)),
            Content::Garbage => return Some(self.garbled("it is no event stream")),
            Content::Data(data) => data,
        };
        if data.trim_ascii_start().starts_with(b"[DONE]") {
            return Some(self.finish(event.clone()));
        }
        let (mut usage, mut choices, mut error, mut id) = (None, 0, false, None);
        let mut service = Service::Standard;
        let wants_id = self.answer_id.is_none();
        // Azure begins with what its filters say of the prompt: a chunk without choices, id or model.
        let mut filters = false;
        let read = json::object(&data, MAX_DEPTH, |m| match &data[m.key] {
            b"prompt_filter_results" => filters = true,
            b"id" if wants_id => id = Some(m.value.span),
            b"usage" if m.value.kind == Kind::Object => usage = Some(m.value.span),
            b"choices" => choices = m.value.items,
            b"service_tier" => service = usage::service(&data[m.value.span]),
            b"error" => {
                error = m.value.kind != Kind::Null && !matches!(&data[m.value.span], b"false" | b"\"\"" | b"{}" | b"0")
            }
            _ => (),
        });
        if read.is_err() {
            return Some(self.garbled("an event of it is not JSON"));
        }
        if error {
            return Some(Step::Fail(from_upstream(&self.origin, StatusCode::OK, &data)));
        }
        if let Some(span) = id {
            self.answer_id = json::short_text(&data[span]);
        }
        if filters && choices == 0 && usage.is_none() {
            return None;
        }
        if choices > 0 {
            self.saw_delta(&event, data.len());
        }
        if let Some(span) = usage {
            let read = Usage::read(&data[span.clone()]).map(|usage| Usage { service, ..usage });
            self.usage = read.or(self.usage);
            if self.shows_usage {
                let cost = read.filter(|usage| usage.reported_nanos.is_none()).and_then(|u| self.tariff.cost(&u));
                return Some(Step::Forward(match cost {
                    Some(cost) => with_cost(&data, span.end, cost),
                    None => event.clone(),
                }));
            } else {
                return if choices == 0 {
                    None
                } else {
                    Some(Step::Forward(without_usage(&data).unwrap_or_else(|| event.clone())))
                };
            }
        }
        Some(Step::Forward(event))
    }

    fn saw_delta(&mut self, event: &Bytes, size: usize) {
        self.last = event.clone();
        self.deltas += 1;
        self.delta_bytes += size;
        self.smallest_delta = self.smallest_delta.min(size);
    }

    fn finish(&mut self, event: Bytes) -> Step {
        if self.usage.is_none() {
            self.usage = usage_elsewhere(&self.last);
        }
        Step::Finish(event)
    }

    fn is_complete(&self) -> bool {
        let Some(last) = parse(&self.last) else { return false };
        let finished =
            |choice: &serde_json::Value| choice["finish_reason"].as_str().is_some_and(|reason| !reason.is_empty());
        last["choices"].as_array().is_some_and(|choices| choices.iter().any(finished))
    }

    fn garbled(&self, what: &str) -> Step {
        Step::Fail(Error::new(
            ErrorKind::Garbled,
            format!("The answer of '{}' makes no sense: {what}.", self.origin.provider),
        ))
    }
}

fn parse(event: &[u8]) -> Option<serde_json::Value> {
    match sse::content(event) {
        Content::Data(data) => serde_json::from_slice(&data).ok(),
        _ => None,
    }
}

/// Groq and Moonshot put usage into places of their own.
fn usage_elsewhere(event: &[u8]) -> Option<Usage> {
    let event = parse(event)?;
    let usage = [&event["x_groq"]["usage"], &event["choices"][0]["usage"]].into_iter().find(|u| u.is_object())?;
    Usage::read(usage.to_string().as_bytes())
}

/// The event with the cost as the last member of its usage, which ends at that place and is not empty.
fn with_cost(data: &[u8], end: usize, cost: u64) -> Bytes {
    let cost = format!(",\"cost\":{}", usd_text(cost));
    Bytes::from([b"data: ", &data[..end - 1], cost.as_bytes(), &data[end - 1..], b"\n\n"].concat())
}

/// The event without its `usage`, which the caller did not ask for.
fn without_usage(data: &[u8]) -> Option<Bytes> {
    let envelope = Envelope::parse(Bytes::copy_from_slice(data), MAX_DEPTH).ok()?;
    let mut edits = Edits::default();
    edits.remove(envelope.find("usage")?);
    Some(Bytes::from([b"data: ".as_slice(), &edits.apply(&envelope), b"\n\n"].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = concat!(
        ": hello\n\n",
        "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n",
        "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Héllo\"},\"finish_reason\":null}]}\r\n\r\n",
        "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"id\":\"1\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2.0}}\n\n",
        "data: [DONE]\n\n",
    );

    /// Everything the caller gets, the usage, and how it ended.
    fn run(chunks: impl IntoIterator<Item = Bytes>, shows_usage: bool) -> (String, Option<Usage>, &'static str) {
        let mut tap = Tap::new(Arc::default(), shows_usage, Tariff::default());
        let mut out = Vec::new();
        for chunk in chunks {
            tap.push(chunk);
            loop {
                match tap.step() {
                    Step::Forward(event) => out.extend_from_slice(&event),
                    Step::Finish(event) => {
                        out.extend_from_slice(&event);
                        return (String::from_utf8(out).unwrap(), tap.usage, "finished");
                    }
                    Step::Fail(_) => return (String::from_utf8(out).unwrap(), tap.usage, "failed"),
                    Step::More => break,
                }
            }
        }
        let how = match tap.end() {
            Step::Finish(event) => {
                out.extend_from_slice(&event);
                "completed"
            }
            _ => "cut",
        };
        (String::from_utf8(out).unwrap(), tap.usage, how)
    }

    #[test]
    fn usage_is_known_and_shown_only_if_asked() {
        let usage = Some(Usage { prompt_tokens: 3, completion_tokens: 2, ..Usage::default() });
        assert_eq!(run([STREAM.into()], true), (STREAM.to_owned(), usage, "finished"));
        let (shown, known, _) = run([STREAM.into()], false);
        assert_eq!(known, usage);
        assert_eq!(shown.matches("\"usage\":{").count(), 0);
        let riding = "data: {\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}}\n\n";
        assert_eq!(
            run([riding.into()], false).0,
            "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
        );
    }

    #[test]
    fn an_answer_without_its_end_is_cut() {
        let half = STREAM.find("\"stop\"").unwrap();
        assert_eq!(run([STREAM[..half].to_owned().into()], false).2, "cut");
        let no_done = STREAM.strip_suffix("data: [DONE]\n\n").unwrap();
        let (shown, _, how) = run([no_done.into()], false);
        assert!(how == "completed" && shown.ends_with("data: [DONE]\n\n"));
        assert_eq!(run([STREAM.trim_end().to_owned().into()], false).2, "completed");
    }

    #[test]
    fn garbage_and_errors_fail() {
        for bad in [
            "data: {\"choices\":[{\"delta\":{\"content\":\"x\" GARBAGE }\n\n",
            "<html>\n\n",
            "data: {\"a\":\n\n",
            "data: nonsense\n\n",
            "data: {\"error\":{\"message\":\"x\"}}\n\n",
        ] {
            assert_eq!(run([bad.into()], false).2, "failed", "{bad}");
        }
    }

    #[test]
    fn a_delta_that_is_not_text_fails() {
        let bad = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\xe4\xbd\"}}]}\n\n";
        assert_eq!(run([Bytes::from_static(bad)], false).2, "failed");
    }

    proptest! {
        #[test]
        fn any_chunking_of_a_stream_gives_the_same_result(cuts in prop::collection::vec(1usize..40, 0..60), shows in any::<bool>()) {
            let mut rest = Bytes::from_static(STREAM.as_bytes());
            let mut chunks = Vec::new();
            for cut in cuts {
                if rest.is_empty() { break; }
                chunks.push(rest.split_to(cut.min(rest.len())));
            }
            chunks.push(rest);
            prop_assert_eq!(run(chunks, shows), run([STREAM.into()], shows));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 1usize..50) {
            let chunks: Vec<Bytes> = bytes.chunks(cut).map(Bytes::copy_from_slice).collect();
            let mut tap = Tap::new(Arc::default(), false, Tariff::default());
            for chunk in chunks {
                tap.push(chunk);
                while let Step::Forward(_) = tap.step() {}
                let _ = tap.seen_tokens();
            }
            let _ = tap.end();
        }
    }
}
