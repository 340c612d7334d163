//! HTTP/1.1 messages as read from a blocking socket, for both ends of the gateway.

use std::io::{self, BufRead, Read};

/// A start line and headers.
#[derive(Debug, Clone)]
pub struct Head {
    pub start: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header, its name in any case; several of one name are joined with a comma.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The status of an answer.
    pub fn status(&self) -> u16 {
        let word = self.start.split(' ').nth(1);
        word.and_then(|w| w.parse().ok()).unwrap_or_else(|| panic!("not a status line: {:?}", self.start))
    }

    pub fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"))
    }

    pub fn content_length(&self) -> Option<usize> {
        self.header("content-length").map(|v| v.parse().unwrap_or_else(|_| panic!("content-length: {v}")))
    }
}

/// The next head; `None` when the other side closed the connection before its first byte.
pub fn read_head(from: &mut impl BufRead) -> io::Result<Option<Head>> {
    let Some(start) = read_line(from)? else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let line = read_line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(Some(Head { start, headers }));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other(format!("not a header: {line:?}")))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// The next chunk of a chunked body; `None` after the last one.
pub fn read_chunk(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let line = read_line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let digits = line.split(';').next().unwrap_or_default().trim();
    let size =
        usize::from_str_radix(digits, 16).map_err(|_| io::Error::other(format!("not a chunk size: {line:?}")))?;
    let data = read_exactly(from, size)?;
    let end = read_line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if !end.is_empty() {
        return Err(io::Error::other(format!("no line end after a chunk but {end:?}")));
    }
    Ok((size > 0).then_some(data))
}

/// A whole body of a known or chunked length; empty when the head announces none.
pub fn read_body(from: &mut impl BufRead, head: &Head) -> io::Result<Vec<u8>> {
    if !head.is_chunked() {
        return read_exactly(from, head.content_length().unwrap_or(0));
    }
    let mut body = Vec::new();
    while let Some(chunk) = read_chunk(from)? {
        body.extend(chunk);
    }
    Ok(body)
}

fn read_exactly(from: &mut impl BufRead, count: usize) -> io::Result<Vec<u8>> {
    let mut data = vec![0; count];
    from.read_exact(&mut data)?;
    Ok(data)
}

/// A line without its CRLF; `None` at the end of the input.
fn read_line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    from.by_ref().take(64 * 1024).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    match line.strip_suffix(b"\r\n") {
        Some(text) => Ok(Some(String::from_utf8_lossy(text).into_owned())),
        None => Err(io::Error::other(format!("a line without CRLF: {:?}", String::from_utf8_lossy(&line)))),
    }
}
