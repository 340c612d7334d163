//! Forms, as clients write them and as an upstream reads them: on purpose not by the program's own code.

use super::upstream::Seen;

/// A part as it came: name, filename, type, content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub filename: Option<String>,
    pub kind: Option<String>,
    pub content: Vec<u8>,
}

/// A form of these texts and files, and its content type.
pub fn form(texts: &[(&str, &str)], files: &[(&str, &str, &[u8])]) -> (String, Vec<u8>) {
    let boundary = "----WebKitFormBoundary7MA4YWxkTrZu0gW";
    let mut body = Vec::new();
    let mut add = |head: String, content: &[u8]| {
        body.extend_from_slice(format!("--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n").as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    };
    for (name, filename, content) in files {
        add(format!("name=\"{name}\"; filename=\"{filename}\"\r\nContent-Type: audio/wav"), content);
    }
    for (name, text) in texts {
        add(format!("name=\"{name}\""), text.as_bytes());
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}

/// The parts of a request, which must be a form with a length.
pub fn parts(seen: &Seen) -> Vec<Part> {
    let kind = seen.header("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap_or_else(|| panic!("{kind}"));
    assert_eq!(seen.header("content-length").and_then(|l| l.parse().ok()), Some(seen.body.len()));
    let body = [b"\r\n".as_slice(), &seen.body].concat();
    let delimiter = format!("\r\n--{boundary}");
    let mut pieces = Vec::new();
    let mut rest = &body[..];
    while let Some(at) = find(rest, delimiter.as_bytes()) {
        pieces.push(&rest[..at]);
        rest = &rest[at + delimiter.len()..];
    }
    assert_eq!(rest, b"--\r\n", "a form ends with its boundary");
    pieces[1..].iter().map(|piece| part(piece)).collect()
}

fn part(piece: &[u8]) -> Part {
    let end = find(piece, b"\r\n\r\n").unwrap();
    let head = String::from_utf8(piece[2..end].to_vec()).unwrap();
    let of = |word: &str| head.split_once(word).map(|(_, rest)| rest.split('"').next().unwrap_or_default().to_owned());
    Part {
        name: of("; name=\"").unwrap(),
        filename: of("; filename=\""),
        kind: head.lines().find_map(|line| line.strip_prefix("Content-Type: ")).map(str::to_owned),
        content: piece[end + 4..].to_vec(),
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}
