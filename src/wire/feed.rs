//! A streamed answer, cut anywhere, to the pieces that its translation reads. Push style, no I/O.

use super::eventstream::Messages;
use super::sse::{self, Content, Events};
use bytes::{Bytes, BytesMut};

/// How pieces follow each other on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events; a piece is the data of one.
    Sse,
    /// The same; a piece is a whole event, since its name says what it means.
    Named,
    /// A JSON value a line.
    Lines,
    /// Amazon's event stream; a piece is a whole message.
    EventStream,
}

impl Framing {
    /// Whether an answer of this type can be such a stream.
    pub fn fits(self, content_type: &[u8]) -> bool {
        let kind = content_type.to_ascii_lowercase();
        let starts = |with: &str| kind.starts_with(with.as_bytes());
        match self {
            Framing::Sse | Framing::Named => starts("text/event-stream"),
            Framing::Lines => starts("application/x-ndjson") || starts("application/json") || starts("text/plain"),
            Framing::EventStream => starts("application/vnd.amazon.eventstream"),
        }
    }
}

/// These bytes are no such stream, or a piece of it is larger than any should be.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

/// Gathers bytes until a piece is whole.
#[derive(Debug)]
pub enum Feed {
    Sse(Events),
    Named(Events),
    Lines { rest: BytesMut, max: usize },
    EventStream(Messages),
}

impl Feed {
    pub fn new(framing: Framing, max_piece: usize) -> Self {
        match framing {
            Framing::Sse => Feed::Sse(Events::new(max_piece)),
            Framing::Named => Feed::Named(Events::new(max_piece)),
            Framing::Lines => Feed::Lines { rest: BytesMut::new(), max: max_piece },
            Framing::EventStream => Feed::EventStream(Messages::new(max_piece)),
        }
    }

    /// Takes the next bytes; [`Feed::take`] must have returned `None` before.
    pub fn push(&mut self, chunk: Bytes) {
        match self {
            Feed::Sse(events) | Feed::Named(events) => events.push(chunk),
            Feed::Lines { rest, .. } => rest.extend_from_slice(&chunk),
            Feed::EventStream(messages) => messages.push(&chunk),
        }
    }

    /// The next whole piece.
    ///
    /// # Errors
    /// [`Broken`], behind which nothing counts.
    pub fn take(&mut self) -> Result<Option<Bytes>, Broken> {
        match self {
            Feed::Sse(events) => loop {
                let Some(event) = events.take().map_err(|sse::TooLarge| Broken)? else { return Ok(None) };
                if let Some(data) = data_of(&event)? {
                    return Ok(Some(data));
                }
            },
            Feed::Named(events) => loop {
                let Some(event) = events.take().map_err(|sse::TooLarge| Broken)? else { return Ok(None) };
                if data_of(&event)?.is_some() {
                    return Ok(Some(event));
                }
            },
            Feed::Lines { rest, max } => loop {
                let Some(end) = memchr::memchr(b'\n', rest) else {
                    return if rest.len() > *max { Err(Broken) } else { Ok(None) };
                };
                let line = rest.split_to(end + 1).freeze();
                if let Some(line) = line_of(&line) {
                    return Ok(Some(line));
                }
            },
            Feed::EventStream(messages) => messages.take(),
        }
    }

    /// What is left when the stream has ended: a piece without its end, or nothing.
    ///
    /// # Errors
    /// [`Broken`] where it makes no sense.
    pub fn finish(&mut self) -> Result<Option<Bytes>, Broken> {
        match self {
            Feed::Sse(events) => data_of(&events.finish()),
            Feed::Named(events) => {
                let event = events.finish();
                Ok(data_of(&event)?.map(|_| event))
            }
            Feed::Lines { rest, .. } => Ok(line_of(&rest.split().freeze())),
            // A message that is cut off says nothing: that the end is missing is seen by the translation.
            Feed::EventStream(_) => Ok(None),
        }
    }
}

fn data_of(event: &Bytes) -> Result<Option<Bytes>, Broken> {
    match sse::content(event) {
        Content::Nothing => Ok(None),
        Content::Garbage => Err(Broken),
        Content::Data(std::borrow::Cow::Borrowed(data)) => Ok(Some(event.slice_ref(data))),
        Content::Data(std::borrow::Cow::Owned(data)) => Ok(Some(data.into())),
    }
}

fn line_of(line: &Bytes) -> Option<Bytes> {
    let text = line.trim_ascii();
    (!text.is_empty()).then(|| line.slice_ref(text))
}
