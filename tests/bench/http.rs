//! The little HTTP/1.1 that the mock and the load generator need: where a message ends, and what it holds.
//!
//! One message is on a connection at a time, so nothing follows its last byte.

use memchr::memmem;
use std::io;
use std::net::SocketAddr;

enum Framing {
    Length(usize),
    Chunked,
}

/// The key that the gateway's configuration names.
pub const KEY: &str = "sk-bench";

/// The bytes of a POST as an OpenAI client would send it.
pub fn request(host: SocketAddr, body: &str) -> Vec<u8> {
    post(host, "/v1/chat/completions", KEY, body)
}

/// The same to another path, with another key.
pub fn post(host: SocketAddr, path: &str, key: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: application/json\r\n\
         Content-Type: application/json\r\nAuthorization: Bearer {key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Length in bytes of the head, its empty line included; `None` while it is incomplete.
pub fn head_end(buf: &[u8]) -> Option<usize> {
    memmem::find(buf, b"\r\n\r\n").map(|at| at + 4)
}

/// Length in bytes of the whole message; `None` while more is to come.
///
/// Fails when the head does not say where the body ends.
pub fn message_end(buf: &[u8]) -> io::Result<Option<usize>> {
    let Some(head) = head_end(buf) else {
        return Ok(None);
    };
    match framing(&buf[..head])? {
        Framing::Length(length) => Ok((buf.len() >= head + length).then_some(head + length)),
        // The cheap look at the end keeps a long stream from being walked again for every event.
        Framing::Chunked if !buf.ends_with(b"0\r\n\r\n") => Ok(None),
        Framing::Chunked => Ok(chunks(&buf[head..], |_| ())?.map(|length| head + length)),
    }
}

/// The body of a whole message, without its chunk framing.
pub fn content(message: &[u8]) -> io::Result<Vec<u8>> {
    let head = head_end(message).ok_or_else(|| io::Error::other("a message without a head"))?;
    let body = &message[head..];
    match framing(&message[..head])? {
        Framing::Length(_) => Ok(body.to_vec()),
        Framing::Chunked => {
            let mut content = Vec::with_capacity(body.len());
            chunks(body, |chunk| content.extend_from_slice(chunk))?;
            Ok(content)
        }
    }
}

/// Fails unless the status is 200; the error holds the answer.
pub fn expect_ok(message: &[u8]) -> io::Result<()> {
    if message.starts_with(b"HTTP/1.1 200 ") {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&message[..message.len().min(2000)]);
    Err(io::Error::other(format!("not a 200:\n{text}")))
}

/// `data` as one chunk of a chunked body.
pub fn chunk(data: &str) -> Vec<u8> {
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}

fn framing(head: &[u8]) -> io::Result<Framing> {
    let lines = head.split(|&byte| byte == b'\n');
    for line in lines.map(<[u8]>::trim_ascii) {
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            return number(value, 10).map(Framing::Length);
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Ok(Framing::Chunked);
        }
    }
    Err(io::Error::other("a message with neither content-length nor transfer-encoding"))
}

/// Hands every chunk to `each`; the length of the whole chunked body, or `None` while it is incomplete.
fn chunks(body: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<Option<usize>> {
    let mut at = 0;
    while let Some(line) = memmem::find(&body[at..], b"\r\n") {
        let size = number(&body[at..at + line], 16)?;
        let start = at + line + 2;
        let next = start + size + 2;
        if next > body.len() {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some(next));
        }
        each(&body[start..start + size]);
        at = next;
    }
    Ok(None)
}

fn number(digits: &[u8], radix: u32) -> io::Result<usize> {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|text| usize::from_str_radix(text, radix).ok())
        .ok_or_else(|| io::Error::other("a message with a garbled length"))
}
