//! Finds out what an answer used while it is passed on, and never changes it.

use crate::provider::Spent;
use crate::wire::feed::{Feed, Framing};
use crate::wire::{eventstream, sse};
use actix_web::http::header::{CONTENT_TYPE, HeaderMap};
use bytes::{Bytes, BytesMut};

/// Larger events are not looked into.
const MAX_EVENT: usize = 16 << 20;
/// Larger answers are not looked into.
const MAX_WHOLE: usize = 32 << 20;

/// Watches one answer.
pub struct Watch {
    form: Form,
    pub spent: Spent,
    pieces: u64,
}

enum Form {
    /// Bytes that say nothing.
    Nothing,
    Whole(Vec<Bytes>, usize),
    Stream(Box<Feed>, Framing),
}

impl Watch {
    /// For an answer with these headers.
    pub fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
        let stream = |framing| Form::Stream(Box::new(Feed::new(framing, MAX_EVENT)), framing);
        let form = if Framing::Sse.fits(kind) {
            stream(Framing::Sse)
        } else if Framing::EventStream.fits(kind) {
            stream(Framing::EventStream)
        } else if kind.to_ascii_lowercase().starts_with(b"application/x-ndjson") {
            stream(Framing::Lines)
        } else if Framing::Lines.fits(kind) {
            Form::Whole(Vec::new(), 0)
        } else {
            Form::Nothing
        };
        let mut spent = Spent::default();
        spent.told_in(headers);
        Watch { form, spent, pieces: 0 }
    }

    /// Takes the next bytes on their way.
    pub fn see(&mut self, chunk: &Bytes) {
        match &mut self.form {
            Form::Nothing => (),
            Form::Whole(pieces, size) => {
                *size += chunk.len();
                match *size > MAX_WHOLE {
                    true => self.form = Form::Nothing,
                    false => pieces.push(chunk.clone()),
                }
            }
            Form::Stream(feed, framing) => {
                let framing = *framing;
                feed.push(chunk.clone());
                loop {
                    match feed.take() {
                        Ok(Some(piece)) => {
                            self.pieces += 1;
                            read(&mut self.spent, framing, &piece);
                        }
                        Ok(None) => return,
                        Err(_) => {
                            self.form = Form::Nothing;
                            return;
                        }
                    }
                }
            }
        }
    }

    /// All of it has come.
    pub fn finish(&mut self) {
        match &mut self.form {
            Form::Nothing => (),
            Form::Whole(pieces, size) => {
                let whole = match &mut pieces[..] {
                    [one] => std::mem::take(one),
                    many => {
                        let mut whole = BytesMut::with_capacity(*size);
                        many.iter().for_each(|piece| whole.extend_from_slice(piece));
                        whole.freeze()
                    }
                };
                // Google streams a list, where nobody asks for events.
                match serde_json::from_slice::<Vec<&serde_json::value::RawValue>>(&whole) {
                    Ok(list) => list.iter().for_each(|piece| self.spent.read(piece.get().as_bytes())),
                    Err(_) => self.spent.read(&whole),
                }
            }
            Form::Stream(feed, framing) => {
                if let Ok(Some(piece)) = feed.finish() {
                    read(&mut self.spent, *framing, &piece);
                }
            }
        }
    }

    /// Tokens of a streamed answer, for want of a better count: one an event. None for what is no stream.
    pub fn tokens(&self) -> Option<u64> {
        matches!(self.form, Form::Stream(..)).then_some(self.pieces)
    }
}

fn read(spent: &mut Spent, framing: Framing, piece: &[u8]) {
    match framing {
        Framing::Sse | Framing::Lines => spent.read(piece),
        Framing::Named => {
            if let sse::Content::Data(data) = sse::content(piece) {
                spent.read(&data);
            }
        }
        Framing::EventStream => {
            if let Some(message) = eventstream::read(piece) {
                spent.read(message.payload);
            }
        }
    }
}
