//! Amazon's event stream (`application/vnd.amazon.eventstream`): from bytes to messages. Push style, no I/O.
//!
//! A message is, in big-endian order: its length, the length of its headers, a CRC-32 of these eight bytes, the headers,
//! the payload, a CRC-32 of all before it. Source: the AWS SDKs' event stream encoding.

use super::feed::Broken;
use bytes::{Buf, Bytes, BytesMut};

/// Lengths and checksums around headers and payload.
const FRAME: usize = 16;
const PRELUDE: usize = 12;

/// Gathers bytes until a message is whole.
#[derive(Debug)]
pub struct Messages {
    rest: BytesMut,
    max: usize,
}

impl Messages {
    pub fn new(max: usize) -> Self {
        Messages { rest: BytesMut::new(), max }
    }

    pub fn push(&mut self, chunk: &[u8]) {
        self.rest.extend_from_slice(chunk);
    }

    /// The next whole message, whose checksums are right.
    ///
    /// # Errors
    /// [`Broken`] for anything else.
    pub fn take(&mut self) -> Result<Option<Bytes>, Broken> {
        let Some(mut prelude) = self.rest.get(..PRELUDE) else { return Ok(None) };
        let sum = crc32fast::hash(&prelude[..8]);
        let (length, headers) = (prelude.get_u32() as usize, prelude.get_u32() as usize);
        if prelude.get_u32() != sum || length > self.max || headers.checked_add(FRAME).is_none_or(|min| length < min) {
            return Err(Broken);
        }
        if self.rest.len() < length {
            return Ok(None);
        }
        let message = self.rest.split_to(length).freeze();
        let (body, mut sum) = message.split_at(length - 4);
        if crc32fast::hash(body) != sum.get_u32() {
            return Err(Broken);
        }
        Ok(Some(message))
    }
}

/// A message taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message<'a> {
    /// `event`, `exception` or `error`.
    pub message_type: &'a str,
    /// The event's or the exception's name, or the error's code.
    pub kind: &'a str,
    pub error_message: &'a str,
    pub payload: &'a [u8],
}

/// Takes a message of [`Messages::take`] apart; `None` where its headers make no sense.
pub fn read(message: &[u8]) -> Option<Message<'_>> {
    let length = u32::from_be_bytes(message.get(4..8)?.try_into().ok()?) as usize;
    let mut headers = message.get(PRELUDE..PRELUDE.checked_add(length)?)?;
    let payload = message.get(PRELUDE + length..message.len().checked_sub(4)?)?;
    let mut read = Message { payload, ..Message::default() };
    while !headers.is_empty() {
        let name = take(&mut headers, 1)?[0] as usize;
        let name = take(&mut headers, name)?;
        let value = match take(&mut headers, 1)?[0] {
            0 | 1 => &[],
            2 => take(&mut headers, 1)?,
            3 => take(&mut headers, 2)?,
            4 => take(&mut headers, 4)?,
            5 | 8 => take(&mut headers, 8)?,
            6 | 7 => {
                let length = u16::from_be_bytes(take(&mut headers, 2)?.try_into().ok()?) as usize;
                take(&mut headers, length)?
            }
            9 => take(&mut headers, 16)?,
            _ => return None,
        };
        let text = || std::str::from_utf8(value).ok();
        match name {
            b":message-type" => read.message_type = text()?,
            b":event-type" | b":exception-type" | b":error-code" => read.kind = text()?,
            b":error-message" => read.error_message = text()?,
            _ => (),
        }
    }
    Some(read)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

/// A message with text headers: what the tests play the upstream with.
pub fn write(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in headers {
        head.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        head.extend_from_slice(name.as_bytes());
        head.push(7);
        head.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        head.extend_from_slice(value.as_bytes());
    }
    let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
    let mut message = [word(head.len() + payload.len() + FRAME), word(head.len())].concat();
    message.extend_from_slice(&crc32fast::hash(&message).to_be_bytes());
    message.extend_from_slice(&head);
    message.extend_from_slice(payload);
    message.extend_from_slice(&crc32fast::hash(&message).to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of the format's description.
    const EXAMPLE: &str = "0000007a00000051ca2c46650b3a6576656e742d7479706507000b6d65737361676553746f700d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700056576656e747b2273746f70526561736f6e223a22656e645f7475726e227d5fbf09fc";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_example_is_read_and_written() {
        let mut messages = Messages::new(1 << 20);
        messages.push(&bytes(EXAMPLE));
        let message = messages.take().unwrap().unwrap();
        let read = read(&message).unwrap();
        assert_eq!((read.message_type, read.kind), ("event", "messageStop"));
        assert_eq!(read.payload, br#"{"stopReason":"end_turn"}"#);
        let headers =
            [(":event-type", "messageStop"), (":content-type", "application/json"), (":message-type", "event")];
        assert_eq!(write(&headers, read.payload), bytes(EXAMPLE));
    }

    #[test]
    fn a_changed_bit_is_noticed() {
        for at in [0, 5, 9, 20, 100, 121] {
            let mut changed = bytes(EXAMPLE);
            changed[at] ^= 1;
            let mut messages = Messages::new(1 << 20);
            messages.push(&changed);
            assert_ne!(messages.take().map(|m| m.is_some()), Ok(true), "{at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut messages = Messages::new(100);
            messages.push(&bytes);
            while let Ok(Some(message)) = messages.take() {
                let _ = read(&message);
            }
            let _ = read(&bytes);
        }
    }
}
