//! A blocking HTTP/1.1 client that shows exactly what came over the wire, and when.

use super::feed::PATIENCE;
use super::http::{self, Head};
use super::link::Link;
use serde_json::Value;
use std::io::{self, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;

/// One connection to the gateway. Dropping it closes the connection, in whatever state the call is.
pub struct Client {
    input: BufReader<Link>,
    output: Link,
    events: Vec<u8>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: Head,
    pub body: Vec<u8>,
}

impl Client {
    pub fn tcp(to: SocketAddr) -> Self {
        Client::over(Link::tcp(to))
    }

    pub fn unix(to: &Path) -> Self {
        Client::over(Link::unix(to))
    }

    fn over(link: Link) -> Self {
        link.read_timeout(PATIENCE);
        let output = link.try_clone().unwrap();
        Client { input: BufReader::new(link), output, events: Vec::new() }
    }

    /// Sends bytes as they are, well-formed or not.
    pub fn send(&mut self, bytes: &[u8]) {
        self.output.write_all(bytes).unwrap();
    }

    /// Sends a request; `Host` and the content length are added.
    pub fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut message = format!("{method} {target} HTTP/1.1\r\nHost: gateway.test\r\n");
        for (name, value) in headers {
            message += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || method == "POST" {
            message += &format!("Content-Length: {}\r\n", body.len());
        }
        message += "\r\n";
        let mut message = message.into_bytes();
        message.extend(body);
        self.send(&message);
    }

    /// A JSON POST with the master key and more headers.
    pub fn post_with(&mut self, target: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) {
        let authorization = format!("Bearer {}", super::gateway::MASTER_KEY);
        let usual = [("Content-Type", "application/json"), ("Authorization", &*authorization)];
        let all: Vec<_> = usual.iter().chain(headers).copied().collect();
        self.request("POST", target, &all, body.as_ref());
    }

    /// The head of the final answer; interim ones (1xx) are passed over.
    pub fn head(&mut self) -> Head {
        loop {
            let head = http::read_head(&mut self.input).unwrap_or_else(|e| panic!("no head of an answer: {e}"));
            let head = head.expect("an answer, not a closed connection");
            if head.status() >= 200 {
                return head;
            }
        }
    }

    pub fn answer(&mut self) -> Answer {
        let head = self.head();
        let body = http::read_body(&mut self.input, &head).unwrap();
        Answer { status: head.status(), head, body }
    }

    /// The next chunk of a chunked body, as it arrived.
    pub fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        http::read_chunk(&mut self.input)
    }

    /// The body of an answer that announces its length or ends with the connection.
    pub fn until_closed(&mut self, head: &Head) -> String {
        let mut body = match head.content_length() {
            Some(_) => http::read_body(&mut self.input, head).unwrap(),
            None => Vec::new(),
        };
        self.input.read_to_end(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }

    /// All that is left of a chunked body, which must end as HTTP wants it.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.events);
        while let Some(chunk) = self.chunk().unwrap() {
            all.extend(chunk);
        }
        all
    }

    /// The next event of a stream without the empty line that ends it; `None` at the end of the body.
    pub fn event(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.events.windows(2).position(|w| w == b"\n\n") {
                let event: Vec<u8> = self.events.drain(..at + 2).take(at).collect();
                return Some(String::from_utf8(event).unwrap());
            }
            match self.chunk().unwrap() {
                Some(chunk) => self.events.extend(chunk),
                None if self.events.is_empty() => return None,
                None => panic!("the stream ends inside an event: {:?}", String::from_utf8_lossy(&self.events)),
            }
        }
    }

    /// The next event that is not a comment.
    pub fn content(&mut self) -> Option<String> {
        loop {
            match self.event() {
                Some(event) if event.starts_with(':') => {}
                other => return other,
            }
        }
    }

    /// All events that are left, without comments.
    pub fn contents(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.content()).collect()
    }

    /// Whether the other side has closed the connection in an orderly way, waiting for it if need be.
    pub fn is_closed(&mut self) -> bool {
        matches!(http::read_head(&mut self.input), Ok(None))
    }
}

/// The four members of an error, as every caller may rely on them.
#[derive(Debug)]
pub struct ErrorBody {
    pub message: String,
    pub kind: String,
    pub param: Option<String>,
    pub code: String,
}

impl ErrorBody {
    /// Reads an error object and insists on its shape.
    pub fn of(value: &Value) -> Self {
        let error = value.get("error").unwrap_or_else(|| panic!("no member `error`: {value}"));
        let text = |name: &str| {
            let member = error.get(name).unwrap_or_else(|| panic!("the error has no member `{name}`: {value}"));
            member.as_str().map(str::to_owned)
        };
        let sure = |name: &str| text(name).unwrap_or_else(|| panic!("`{name}` of the error is not a text: {value}"));
        let body = ErrorBody { message: sure("message"), kind: sure("type"), param: text("param"), code: sure("code") };
        assert!(!body.message.trim().is_empty(), "an error without a message: {value}");
        body
    }

    /// Reads the error out of an event of a stream.
    pub fn of_event(event: &str) -> Self {
        let data = event.strip_prefix("data: ").unwrap_or_else(|| panic!("not a data event: {event:?}"));
        ErrorBody::of(&serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {event:?}")))
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {} {:?}", self.status, self.text()))
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.head.header(name)
    }

    /// The error that this answer must be, with this status.
    pub fn error(&self, status: u16) -> ErrorBody {
        assert_eq!(self.status, status, "{}", self.text());
        self.any_error()
    }

    /// The error that this answer must be, whatever its status.
    pub fn any_error(&self) -> ErrorBody {
        assert!(self.status >= 400, "{} {}", self.status, self.text());
        let kind = self.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/json"), "the error's content type is {kind:?}");
        ErrorBody::of(&self.json())
    }

    /// Insists on a good answer.
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 200, "{}", self.text());
        self
    }
}
