//! `multipart/form-data` (RFC 7578): bytes to parts, and parts to bytes.
//!
//! Push style: whatever pieces the bytes come in, the same is told. What is kept while a boundary is looked for is
//! bounded, and so are the heads of parts and their number.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

/// A head of a part is a few short lines.
const MAX_HEAD: usize = 8 << 10;
/// More parts than any form of an API has.
const MAX_PARTS: usize = 128;
/// What may stand before the first boundary.
const MAX_PREAMBLE: usize = 1 << 10;

/// What the head of a part says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    pub name: String,
    /// Whoever has one is a file.
    pub filename: Option<String>,
    pub kind: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Part(Head),
    /// Of the part whose head was told last.
    Data(Bytes),
    /// The form is whole; what follows says nothing.
    End,
}

/// What is wrong with a form, in words for its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(pub &'static str);

/// Reads a form.
#[derive(Debug)]
pub struct Parser {
    /// The line break before a boundary belongs to it.
    delimiter: Vec<u8>,
    buffer: BytesMut,
    state: State,
    parts: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Preamble,
    Boundary,
    Head,
    Data,
    End,
}

/// The boundary that a content type names, where it is a form.
pub fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let found = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then_some(value.trim())
    })?;
    let plain = found.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(found);
    // RFC 2046, section 5.1.1.
    let fits = (1..=70).contains(&plain.len()) && plain.bytes().all(|b| (b' '..=b'~').contains(&b));
    fits.then(|| plain.to_owned())
}

impl Parser {
    pub fn new(boundary: &str) -> Self {
        Parser {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            // The first boundary may have no line before it.
            buffer: BytesMut::from(&b"\r\n"[..]),
            state: State::Preamble,
            parts: 0,
        }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if self.state != State::End {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// What is there; none where more is needed.
    ///
    /// # Errors
    /// The bytes are no form.
    pub fn take(&mut self) -> Result<Option<Event>, Fault> {
        loop {
            match self.state {
                State::Preamble => match memmem::find(&self.buffer, &self.delimiter) {
                    Some(at) if at <= MAX_PREAMBLE => {
                        self.buffer.advance(at + self.delimiter.len());
                        self.state = State::Boundary;
                    }
                    // It may have begun within the bound.
                    None if self.buffer.len() <= MAX_PREAMBLE + self.delimiter.len() => return Ok(None),
                    _ => return Err(Fault("its first boundary is missing")),
                },
                State::Boundary => {
                    let blank = self.buffer.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
                    match self.buffer.get(blank..blank + 2) {
                        Some(b"--") if blank == 0 => {
                            self.state = State::End;
                            self.buffer.clear();
                            return Ok(Some(Event::End));
                        }
                        _ if blank >= MAX_PREAMBLE => return Err(Fault("a boundary is not on a line of its own")),
                        Some(b"\r\n") => {
                            // The break may be that of an empty head.
                            self.buffer.advance(blank);
                            self.parts += 1;
                            if self.parts > MAX_PARTS {
                                return Err(Fault("it has more than 128 parts"));
                            }
                            self.state = State::Head;
                        }
                        None => return Ok(None),
                        _ => return Err(Fault("a boundary is not on a line of its own")),
                    }
                }
                State::Head => match memmem::find(&self.buffer, b"\r\n\r\n") {
                    Some(end) if end <= MAX_HEAD => {
                        let head = head(&self.buffer[..end])?;
                        self.buffer.advance(end + 4);
                        self.state = State::Data;
                        return Ok(Some(Event::Part(head)));
                    }
                    None if self.buffer.len() < MAX_HEAD + 4 => return Ok(None),
                    _ => return Err(Fault("the head of a part is too long")),
                },
                State::Data => match memmem::find(&self.buffer, &self.delimiter) {
                    Some(0) => {
                        self.buffer.advance(self.delimiter.len());
                        self.state = State::Boundary;
                    }
                    Some(at) => return Ok(Some(Event::Data(self.buffer.split_to(at).freeze()))),
                    None if self.buffer.len() >= self.delimiter.len() => {
                        let sure = self.buffer.len() - (self.delimiter.len() - 1);
                        return Ok(Some(Event::Data(self.buffer.split_to(sure).freeze())));
                    }
                    None => return Ok(None),
                },
                State::End => return Ok(None),
            }
        }
    }
}

/// Reads the lines of a head.
fn head(text: &[u8]) -> Result<Head, Fault> {
    let text = std::str::from_utf8(text).map_err(|_| Fault("the head of a part is not UTF-8"))?;
    let mut head = Head::default();
    let mut is_named = false;
    for line in text.split("\r\n").filter(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(':') else {
            return Err(Fault("a line in the head of a part is none"));
        };
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "content-disposition" => {
                for (name, value) in parameters(value) {
                    match name.as_str() {
                        "name" => (head.name, is_named) = (value, true),
                        "filename" => drop(head.filename.get_or_insert(value)),
                        "filename*" => head.filename = extended(&value).or(head.filename),
                        _ => (),
                    }
                }
            }
            "content-type" if value.len() <= 256 && value.bytes().all(|b| (b' '..=b'~').contains(&b)) => {
                head.kind = Some(value.to_owned());
            }
            // RFC 7578, section 4.7: senders no longer use it.
            "content-transfer-encoding"
                if !matches!(value.to_ascii_lowercase().as_str(), "binary" | "8bit" | "7bit") =>
            {
                return Err(Fault("a part has a transfer encoding"));
            }
            _ => (),
        }
    }
    match is_named {
        true => Ok(head),
        false => Err(Fault("a part has no name")),
    }
}

/// The parameters behind the first word, their quotes and escapes taken away.
fn parameters(value: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = value.find(';').map_or("", |at| &value[at + 1..]);
    while let Some((name, behind)) = rest.split_once('=') {
        let behind = behind.trim_start();
        let (text, end) = match behind.strip_prefix('"') {
            Some(quoted) => {
                let (mut text, mut end, mut escaped) = (String::new(), quoted.len(), false);
                for (at, c) in quoted.char_indices() {
                    match c {
                        // Only these two are escaped: a path of Windows has backslashes that mean themselves.
                        '"' | '\\' if escaped => text.push(c),
                        '\\' => {
                            escaped = true;
                            continue;
                        }
                        '"' => {
                            end = at + 1;
                            break;
                        }
                        _ => {
                            if escaped {
                                text.push('\\');
                            }
                            text.push(c);
                        }
                    }
                    escaped = false;
                }
                (text, end + 1)
            }
            None => {
                let end = behind.find(';').unwrap_or(behind.len());
                (behind[..end].trim().to_owned(), end)
            }
        };
        // What the Fetch standard makes of characters that cannot stand in quotes.
        let text = text.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n");
        found.push((name.trim().trim_start_matches(';').trim().to_ascii_lowercase(), text));
        rest = behind.get(end..).unwrap_or_default();
        rest = rest.find(';').map_or("", |at| &rest[at + 1..]);
    }
    found
}

/// A name as RFC 5987 writes it: `UTF-8''na%C3%AFve.mp3`.
fn extended(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_, text) = rest.split_once('\'')?;
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    percent_encoding::percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned())
}

/// The boundary and the head of a part, as they go before its content.
pub fn write_head(boundary: &str, head: &Head, out: &mut Vec<u8>) {
    let escape = |text: &str| text.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
    out.extend_from_slice(
        format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"", escape(&head.name)).as_bytes(),
    );
    if let Some(filename) = &head.filename {
        out.extend_from_slice(format!("; filename=\"{}\"", escape(filename)).as_bytes());
    }
    if let Some(kind) = &head.kind {
        out.extend_from_slice(format!("\r\nContent-Type: {kind}").as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// What ends a form.
pub fn end(boundary: &str) -> Vec<u8> {
    format!("--{boundary}--\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Parts = Vec<(Head, Vec<u8>)>;

    fn read(bytes: &[u8], boundary: &str, size: usize) -> Result<(Parts, bool), Fault> {
        let mut parser = Parser::new(boundary);
        let (mut parts, mut ended): (Parts, bool) = (Vec::new(), false);
        for piece in bytes.chunks(size.max(1)) {
            parser.push(piece);
            while let Some(event) = parser.take()? {
                match event {
                    Event::Part(head) => parts.push((head, Vec::new())),
                    Event::Data(data) => parts.last_mut().unwrap().1.extend_from_slice(&data),
                    Event::End => ended = true,
                }
            }
        }
        Ok((parts, ended))
    }

    fn write(parts: &Parts, boundary: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for (head, content) in parts {
            write_head(boundary, head, &mut out);
            out.extend_from_slice(content);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(&end(boundary));
        out
    }

    #[test]
    fn forms_of_clients_are_read() {
        let form = "preamble\r\n--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--x  \r\n\
            content-disposition: form-data; filename=\"a \\\"b\\\" C:\\c.mp3\"; name=file\r\nContent-Type: audio/mpeg\r\n\r\n\
            \r\n-xID3\r\n\r\n--x\r\nContent-Disposition: form-data; name=\"empty\"; filename*=UTF-8''na%C3%AFve\r\n\r\n\r\n--x--\r\nepilogue";
        for size in [1, 7, 4096] {
            let (parts, ended) = read(form.as_bytes(), "x", size).unwrap();
            assert!(ended);
            let [(model, name), (file, content), (empty, nothing)] = &parts[..] else { panic!("{parts:?}") };
            assert_eq!((model.name.as_str(), name.as_slice()), ("model", &b"whisper-1"[..]));
            assert_eq!(file.filename.as_deref(), Some("a \"b\" C:\\c.mp3"));
            assert_eq!((file.name.as_str(), file.kind.as_deref()), ("file", Some("audio/mpeg")));
            assert_eq!(content, b"\r\n-xID3\r\n");
            assert_eq!((empty.filename.as_deref(), nothing.len()), (Some("naïve"), 0));
        }
    }

    #[test]
    fn a_bound_is_the_same_however_the_form_comes() {
        let part = "Content-Disposition: form-data; name=\"a\"";
        for off in -6..6i64 {
            let of = |bound: usize, used: usize| usize::try_from(bound as i64 + off).unwrap() - used;
            let preamble = format!("{}\r\n--x\r\n{part}\r\n\r\nb\r\n--x--\r\n", "p".repeat(of(MAX_PREAMBLE, 0)));
            let blanks = format!("--x{}\r\n{part}\r\n\r\nb\r\n--x--\r\n", " ".repeat(of(MAX_PREAMBLE, 0)));
            let head = format!("--x\r\n{part}\r\nx-a: {}\r\n\r\nb\r\n--x--\r\n", "h".repeat(of(MAX_HEAD, part.len())));
            for form in [preamble, blanks, head] {
                let whole = read(form.as_bytes(), "x", form.len());
                for size in [1, 2, 3, 7, 1000] {
                    assert_eq!(read(form.as_bytes(), "x", size), whole, "{off} {size}");
                }
            }
        }
    }

    #[test]
    fn boundaries_are_found_in_content_types() {
        for (kind, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\"", Some("a b")),
            ("multipart/form-data", None),
            ("multipart/mixed; boundary=abc", None),
            ("multipart/form-data; boundary=", None),
        ] {
            assert_eq!(boundary(kind).as_deref(), expected, "{kind}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for form in [
            &b"--x\r\nContent-Type: a\r\n\r\nb\r\n--x--"[..],
            b"--x\r\nno head\r\n\r\nb",
            b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\nContent-Transfer-Encoding: base64\r\n\r\nYQ==\r\n--x--",
            b"--xy\r\n",
        ] {
            assert!(read(form, "x", 3).is_err(), "{}", String::from_utf8_lossy(form));
        }
        assert!(read(&[b'a'; 5000], "x", 100).is_err());
        let many = b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n".repeat(129);
        assert!(read(&many, "x", 1000).is_err());
    }

    fn text() -> impl Strategy<Value = String> {
        "[a-zA-Z0-9ü \"\\[\\]._\r\n-]{1,12}"
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_in_any_pieces(
            names in prop::collection::vec((text(), prop::option::of(text()), prop::collection::vec(prop::sample::select(b"\r\n-x0".to_vec()), 0..30)), 0..6),
            size in 1usize..64,
        ) {
            let parts: Parts = names.into_iter()
                .map(|(name, filename, content)| (Head { name, filename, kind: None }, content))
                .filter(|(_, content)| memmem::find(&[b"\r\n".as_slice(), content].concat(), b"\r\n--x0").is_none())
                .collect();
            let boundary = "x0";
            prop_assert_eq!(read(&write(&parts, boundary), boundary, size), Ok((parts, true)));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop::sample::select(b"\r\n-x:;=\"\\%a ".to_vec()), 0..400), size in 1usize..20) {
            let whole = [b"--x\r\nContent-Disposition: form-data; name=".as_slice(), &bytes].concat();
            let _ = read(&whole, "x", size);
            let _ = read(&bytes, "x", size);
            let _ = boundary(&String::from_utf8_lossy(&bytes));
        }
    }
}
