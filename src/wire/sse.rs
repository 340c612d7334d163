//! Server-sent events: from bytes, cut anywhere, to whole events. Push style, no I/O.
//!
//! Follows the WHATWG "Server-sent events" grammar for LF and CRLF line ends. An event is kept as the bytes it came
//! in, so that it can go on untouched.

use bytes::{Bytes, BytesMut};
use std::borrow::Cow;

/// Gathers bytes until an event is whole.
#[derive(Debug)]
pub struct Events {
    /// Bytes that do not end an event yet.
    rest: BytesMut,
    /// The chunk being read, and no copy of it.
    chunk: Bytes,
    max_event: usize,
}

/// An event grew beyond the bound.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge;

impl Events {
    pub fn new(max_event: usize) -> Self {
        Events { rest: BytesMut::new(), chunk: Bytes::new(), max_event }
    }

    /// Takes the next bytes of the stream; [`Events::take`] must have returned `None` before.
    pub fn push(&mut self, chunk: Bytes) {
        self.chunk = chunk;
    }

    /// The next whole event with its blank line, as it came.
    ///
    /// # Errors
    /// [`TooLarge`] when an event passes the bound before it ends.
    pub fn take(&mut self) -> Result<Option<Bytes>, TooLarge> {
        if self.rest.is_empty() {
            if let Some(end) = event_end(&self.chunk, 0) {
                return Ok(Some(self.chunk.split_to(end)));
            }
            if self.chunk.len() > self.max_event {
                return Err(TooLarge);
            }
            self.rest.extend_from_slice(&std::mem::take(&mut self.chunk));
        } else if !self.chunk.is_empty() {
            // The end may straddle the border by up to three bytes.
            let from = self.rest.len().saturating_sub(3);
            self.rest.extend_from_slice(&std::mem::take(&mut self.chunk));
            if let Some(end) = event_end(&self.rest, from) {
                let event = self.rest.split_to(end).freeze();
                self.chunk = self.rest.split().freeze();
                return Ok(Some(event));
            }
            if self.rest.len() > self.max_event {
                return Err(TooLarge);
            }
        }
        Ok(None)
    }

    /// What is left when the stream has ended: an event without its blank line, or nothing.
    pub fn finish(&mut self) -> Bytes {
        self.rest.split().freeze()
    }
}

/// Offset behind the first blank line at or after `from`.
fn event_end(bytes: &[u8], from: usize) -> Option<usize> {
    for at in memchr::memchr_iter(b'\n', &bytes[from..]) {
        let next = from + at + 1;
        match bytes.get(next) {
            Some(b'\n') => return Some(next + 1),
            Some(b'\r') if bytes.get(next + 1) == Some(&b'\n') => return Some(next + 2),
            _ => (),
        }
    }
    None
}

/// What an event holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// Comments and blank lines only.
    Nothing,
    /// The joined `data` lines.
    Data(Cow<'a, [u8]>),
    /// A line that is neither a field nor a comment: this is no event stream.
    Garbage,
}

/// Reads the fields of one event.
pub fn content(event: &[u8]) -> Content<'_> {
    let mut data: Option<Cow<'_, [u8]>> = None;
    for line in event.split(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line[0] == b':' {
            continue;
        }
        if let Some(value) = line.strip_prefix(b"data:") {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            data = Some(match data {
                None => Cow::Borrowed(value),
                Some(before) => {
                    let mut joined = before.into_owned();
                    joined.push(b'\n');
                    joined.extend_from_slice(value);
                    Cow::Owned(joined)
                }
            });
        } else if !is_field(line) {
            return Content::Garbage;
        }
    }
    data.map_or(Content::Nothing, Content::Data)
}

fn is_field(line: &[u8]) -> bool {
    let name = line.split(|&b| b == b':').next().unwrap_or(line);
    matches!(name, b"event" | b"id" | b"retry" | b"data")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(chunks: impl IntoIterator<Item = Bytes>) -> (Vec<Bytes>, Bytes) {
        let mut events = Events::new(1 << 20);
        let mut seen = Vec::new();
        for chunk in chunks {
            events.push(chunk);
            while let Some(event) = events.take().unwrap() {
                seen.push(event);
            }
        }
        (seen, events.finish())
    }

    #[test]
    fn fields_are_read_as_the_grammar_says() {
        assert_eq!(content(b": ping\n\n"), Content::Nothing);
        assert_eq!(content(b"data:{}\r\n\r\n"), Content::Data(Cow::Borrowed(b"{}")));
        assert_eq!(content(b"event: x\ndata: a\ndata: b\n\n"), Content::Data(Cow::Owned(b"a\nb".to_vec())));
        assert_eq!(content(b"<html>\n\n"), Content::Garbage);
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut events = Events::new(10);
        events.push(Bytes::from_static(b"data: 123"));
        assert_eq!(events.take(), Ok(None));
        events.push(Bytes::from_static(b"4567"));
        assert_eq!(events.take(), Err(TooLarge));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_events(lines in prop::collection::vec("(data: [a-z]{0,9}|: c|event: x|)(\n|\r\n)", 0..24), cuts in prop::collection::vec(1usize..9, 0..80)) {
            let whole = Bytes::from(lines.concat());
            let mut chunks = Vec::new();
            let mut rest = whole.clone();
            for cut in cuts {
                if rest.is_empty() { break; }
                chunks.push(rest.split_to(cut.min(rest.len())));
            }
            chunks.push(rest);
            let (events, tail) = all(chunks);
            let (expected, expected_tail) = all([whole.clone()]);
            prop_assert_eq!(&events, &expected);
            prop_assert_eq!(&tail, &expected_tail);
            prop_assert_eq!([events.concat(), tail.to_vec()].concat(), whole.to_vec());
        }
    }
}
