//! A form that a caller sent: its texts as a JSON object, so that everything that reads or changes requests works on
//! them too, and its files, in memory up to a bound and on disk beyond it.
//!
//! A file is kept until the call is over, since another deployment may have to be sent it again. What is on disk has no
//! name there: it is gone with the process.

use crate::error::{Error, Kind};
use crate::wire::audio;
use crate::wire::form::{self, Head};
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::HeaderValue;
use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::task::{JoinHandle, spawn_blocking};

/// So much of the files of one form stays in memory.
const IN_MEMORY: usize = 256 << 10;
/// How much is written and read at once.
const PIECE: usize = 128 << 10;

/// A line of a file is not longer.
const LONGEST_LINE: usize = 16 << 20;

/// Members that the gateway reads, which are no texts in JSON.
const NOT_TEXTS: &[&str] = &[
    "stream",
    "n",
    "timeout",
    "stream_timeout",
    "num_retries",
    "priority",
    "tags",
    "metadata",
    "litellm_metadata",
    "fallbacks",
    "disable_fallbacks",
    "drop_params",
];

/// The texts of a form as a JSON object: one of several of the same name are a list.
pub fn to_json(texts: Vec<(String, String)>) -> Map<String, Value> {
    let mut object = Map::new();
    for (name, text) in texts {
        let value = match NOT_TEXTS.contains(&&*name) {
            true => match text.as_str() {
                // Python's way to write them.
                "True" => Value::Bool(true),
                "False" => Value::Bool(false),
                _ => serde_json::from_str(&text).unwrap_or(Value::String(text)),
            },
            false => Value::String(text),
        };
        match object.get_mut(&name) {
            None => drop(object.insert(name, value)),
            Some(Value::Array(all)) => all.push(value),
            Some(one) => *one = Value::Array(vec![one.take(), value]),
        }
    }
    object
}

/// The way back of [`to_json`].
fn to_texts(json: &[u8]) -> Vec<(String, String)> {
    let object: Map<String, Value> = serde_json::from_slice(json).unwrap_or_default();
    let mut texts = Vec::new();
    for (name, value) in object {
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        match value {
            Value::Null => (),
            Value::Array(all) => texts.extend(all.into_iter().map(|value| (name.clone(), text(value)))),
            value => texts.push((name, text(value))),
        }
    }
    texts
}

/// The files of a form.
#[derive(Debug, Clone)]
pub struct Files(Rc<Held>);

#[derive(Debug)]
struct Held {
    parts: Vec<Part>,
    memory: Bytes,
    /// What did not fit into memory.
    disk: Option<Arc<File>>,
}

#[derive(Debug)]
struct Part {
    head: Head,
    /// Where it begins among all that is held.
    at: u64,
    length: u64,
}

/// Takes the files of a form as they come.
#[derive(Debug, Default)]
pub struct Spool {
    parts: Vec<Part>,
    memory: BytesMut,
    disk: Option<Arc<File>>,
    /// Of what is behind the memory: written, and about to be.
    written: u64,
    waiting: BytesMut,
}

impl Spool {
    pub fn begin(&mut self, head: Head) {
        let at = self.memory.len() as u64 + self.written + self.waiting.len() as u64;
        self.parts.push(Part { head, at, length: 0 });
    }

    /// More of the file that was begun last.
    ///
    /// # Errors
    /// The disk does not take it.
    pub async fn add(&mut self, data: &[u8], folder: &Path) -> io::Result<()> {
        if let Some(part) = self.parts.last_mut() {
            part.length += data.len() as u64;
        }
        let room = if self.disk.is_none() { IN_MEMORY.saturating_sub(self.memory.len()) } else { 0 };
        let (fits, rest) = data.split_at(data.len().min(room));
        self.memory.extend_from_slice(fits);
        if rest.is_empty() {
            return Ok(());
        }
        if self.disk.is_none() {
            let folder = folder.to_owned();
            self.disk = Some(Arc::new(blocking(move || nameless(&folder)).await?));
        }
        self.waiting.extend_from_slice(rest);
        if self.waiting.len() >= PIECE { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> io::Result<()> {
        let (data, at) = (self.waiting.split().freeze(), self.written);
        if let (Some(disk), false) = (self.disk.clone(), data.is_empty()) {
            self.written += data.len() as u64;
            blocking(move || disk.write_all_at(&data, at)).await?;
        }
        Ok(())
    }

    /// All of it has come.
    ///
    /// # Errors
    /// The disk does not take it.
    pub async fn finish(mut self) -> io::Result<Files> {
        self.write().await?;
        Ok(Files(Rc::new(Held { parts: self.parts, memory: self.memory.freeze(), disk: self.disk })))
    }
}

async fn blocking<T: Send + 'static>(job: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(job).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}

/// A file that is gone when it is closed.
fn nameless(folder: &Path) -> io::Result<File> {
    let open = |folder: &Path| {
        let path = folder.join(format!("upload-{:032x}", rand::random::<u128>()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    };
    // A gateway without a store need not have a folder of its own.
    open(folder).or_else(|_: io::Error| open(&std::env::temp_dir()))
}

impl Held {
    /// A piece of what is held, which ends before `end`.
    fn piece(&self, at: u64, end: u64) -> Piece {
        let memory = self.memory.len() as u64;
        let most = end.saturating_sub(at).min(PIECE as u64);
        if at < memory {
            let end = memory.min(at + most);
            return Piece::There(self.memory.slice(at as usize..end as usize));
        }
        let Some(disk) = self.disk.clone() else { return Piece::There(Bytes::new()) };
        Piece::Coming(spawn_blocking(move || {
            let mut piece = vec![0; most as usize];
            disk.read_exact_at(&mut piece, at - memory)?;
            Ok(Bytes::from(piece))
        }))
    }

    async fn read(&self, mut at: u64, end: u64) -> io::Result<BytesMut> {
        let mut all = BytesMut::new();
        while at < end {
            let piece = match self.piece(at, end) {
                Piece::There(piece) => piece,
                Piece::Coming(piece) => piece.await.unwrap_or_else(|e| Err(io::Error::other(e)))?,
            };
            if piece.is_empty() {
                break;
            }
            at += piece.len() as u64;
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }
}

enum Piece {
    There(Bytes),
    Coming(JoinHandle<io::Result<Bytes>>),
}

impl Files {
    /// Whether a file of that name is among them; `name[]` is one of several.
    pub fn has(&self, name: &str) -> bool {
        let is_it = |part: &Part| part.head.name.strip_suffix("[]").unwrap_or(&part.head.name) == name;
        self.0.parts.iter().any(is_it)
    }

    /// The same files, with other lines in the place of those of the one of this name. `change` is shown the number of a
    /// line and its bytes without their end.
    ///
    /// # Errors
    /// What `change` says; a fault of the disk.
    pub async fn with_lines(
        &self,
        name: &str,
        folder: &Path,
        mut change: impl FnMut(usize, &[u8]) -> Result<Option<Vec<u8>>, Error>,
    ) -> Result<Files, Error> {
        let unkept = |e: io::Error| {
            tracing::warn!("an uploaded file cannot be kept while its call is served: {e}");
            Error::new(Kind::Internal, "The uploaded file cannot be kept: the gateway's disk does not take it.")
        };
        let mut spool = Spool::default();
        for part in &self.0.parts {
            spool.begin(part.head.clone());
            let is_it = part.head.name == name;
            let (mut at, end, mut number, mut rest) = (part.at, part.at + part.length, 0, BytesMut::new());
            while at < end {
                let until = end.min(at + PIECE as u64);
                let piece = self.0.read(at, until).await.map_err(unkept)?;
                at = until;
                if !is_it {
                    spool.add(&piece, folder).await.map_err(unkept)?;
                    continue;
                }
                rest.extend_from_slice(&piece);
                while let Some(length) = memchr::memchr(b'\n', &rest) {
                    let line = rest.split_to(length + 1);
                    number += 1;
                    let changed = change(number, &line[..length])?;
                    spool.add(changed.as_deref().unwrap_or(&line[..length]), folder).await.map_err(unkept)?;
                    spool.add(b"\n", folder).await.map_err(unkept)?;
                }
                if rest.len() > LONGEST_LINE {
                    let message = format!("Line {} is longer than 16 MiB.", number + 1);
                    return Err(Error::invalid(message).at_param(name));
                }
            }
            if !rest.is_empty() {
                let changed = change(number + 1, &rest)?;
                spool.add(changed.as_deref().unwrap_or(&rest), folder).await.map_err(unkept)?;
            }
        }
        spool.finish().await.map_err(unkept)
    }

    /// How long the first file plays, in milliseconds, where it is audio that says so; else a guess, and that it is one.
    pub async fn millis(&self) -> (u64, bool) {
        let Some(part) = self.0.parts.first() else { return (0, true) };
        let end = part.at + part.length;
        let look = audio::LOOK as u64;
        let head = self.0.read(part.at, end.min(part.at + look)).await.unwrap_or_default();
        let tail = self.0.read(end.saturating_sub(look).max(part.at), end).await.unwrap_or_default();
        match audio::millis(&head, &tail, part.length) {
            Some(millis) => (millis, false),
            None => (audio::guess(part.length), true),
        }
    }
}

/// A form as it is sent, or a file without one.
#[derive(Debug)]
pub struct Outgoing {
    kind: HeaderValue,
    held: Rc<Held>,
    left: VecDeque<Segment>,
    length: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

#[derive(Debug)]
enum Segment {
    Text(Bytes),
    File { at: u64, end: u64 },
}

impl Outgoing {
    /// The form with the texts of this JSON object, and behind them the files.
    pub fn new(texts: &[u8], files: &Files) -> Self {
        let boundary = format!("gateway-{:032x}", rand::random::<u128>());
        let mut left = VecDeque::new();
        let mut small = Vec::new();
        for (name, text) in to_texts(texts) {
            form::write_head(&boundary, &Head { name, ..Head::default() }, &mut small);
            small.extend_from_slice(text.as_bytes());
            small.extend_from_slice(b"\r\n");
        }
        for part in &files.0.parts {
            form::write_head(&boundary, &part.head, &mut small);
            left.push_back(Segment::Text(std::mem::take(&mut small).into()));
            left.push_back(Segment::File { at: part.at, end: part.at + part.length });
            small.extend_from_slice(b"\r\n");
        }
        small.extend_from_slice(&form::end(&boundary));
        left.push_back(Segment::Text(small.into()));
        let length = left.iter().map(|segment| match segment {
            Segment::Text(text) => text.len() as u64,
            Segment::File { at, end } => end - at,
        });
        let length = length.sum();
        let kind = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"));
        let kind = kind.unwrap_or(HeaderValue::from_static("multipart/form-data"));
        Outgoing { kind, held: files.0.clone(), left, length, reading: None }
    }

    /// The file of that name alone, or else the first one.
    pub fn alone(files: &Files) -> Self {
        let parts = &files.0.parts;
        let part = parts.iter().find(|part| part.head.name == "file").or(parts.first());
        let (at, length) = part.map_or((0, 0), |part| (part.at, part.length));
        let kind = part.and_then(|part| part.head.kind.as_deref()).and_then(|kind| HeaderValue::from_str(kind).ok());
        Outgoing {
            kind: kind.unwrap_or(HeaderValue::from_static("application/octet-stream")),
            held: files.0.clone(),
            left: VecDeque::from([Segment::File { at, end: at + length }]),
            length,
            reading: None,
        }
    }

    pub fn content_type(&self) -> HeaderValue {
        self.kind.clone()
    }
}

impl MessageBody for Outgoing {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.length)
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        loop {
            if let Some(reading) = &mut this.reading {
                let piece = ready!(Pin::new(reading).poll(cx)).unwrap_or_else(|e| Err(io::Error::other(e)));
                this.reading = None;
                return Poll::Ready(Some(piece.map_err(Into::into)));
            }
            match this.left.pop_front() {
                None => return Poll::Ready(None),
                Some(Segment::Text(text)) => return Poll::Ready(Some(Ok(text))),
                Some(Segment::File { at, end }) if at == end => (),
                Some(Segment::File { at, end }) => {
                    // A piece never crosses from memory to disk.
                    let memory = this.held.memory.len() as u64;
                    let bound = if at < memory { memory.min(end) } else { end };
                    let until = bound.min(at + PIECE as u64);
                    this.left.push_front(Segment::File { at: until, end });
                    match this.held.piece(at, until) {
                        Piece::There(piece) => return Poll::Ready(Some(Ok(piece))),
                        Piece::Coming(reading) => this.reading = Some(reading),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::form::{Event, Parser};
    use std::future::poll_fn;

    async fn sent(form: Outgoing) -> Vec<u8> {
        let BodySize::Sized(length) = form.size() else { panic!("a form has a length") };
        let mut all = Vec::new();
        let mut form = std::pin::pin!(form);
        while let Some(piece) = poll_fn(|cx| form.as_mut().poll_next(cx)).await {
            all.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(all.len() as u64, length);
        all
    }

    #[tokio::test]
    async fn files_come_out_as_they_went_in_wherever_they_were_held() {
        let folder = tempfile::tempdir().unwrap();
        for length in [0usize, 10, IN_MEMORY, IN_MEMORY + 1, 3 * IN_MEMORY + 7] {
            let content: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let mut spool = Spool::default();
            for name in ["file", "mask"] {
                spool.begin(Head { name: name.into(), filename: Some("a.wav".into()), kind: Some("audio/wav".into()) });
                for piece in content.chunks(50_000) {
                    spool.add(piece, folder.path()).await.unwrap();
                }
            }
            let files = spool.finish().await.unwrap();
            assert!(files.has("file") && files.has("mask") && !files.has("image"));
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
            // It is sent as often as it has to be.
            for _ in 0..2 {
                let form = Outgoing::new(br#"{"model":"m","a":["1","2"],"stream":true,"none":null}"#, &files);
                let kind = form.content_type();
                let mut parser = Parser::new(kind.to_str().unwrap().split_once("boundary=").unwrap().1);
                parser.push(&sent(form).await);
                let mut parts: Vec<(String, Vec<u8>)> = Vec::new();
                while let Some(event) = parser.take().unwrap() {
                    match event {
                        Event::Part(head) => parts.push((head.name, Vec::new())),
                        Event::Data(data) => parts.last_mut().unwrap().1.extend_from_slice(&data),
                        Event::End => break,
                    }
                }
                let text = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
                let expected = vec![
                    text("model", "m"),
                    text("a", "1"),
                    text("a", "2"),
                    text("stream", "true"),
                    ("file".to_owned(), content.clone()),
                    ("mask".to_owned(), content.clone()),
                ];
                assert!(parts == expected, "{length}");
            }
        }
    }

    #[test]
    fn texts_are_json_and_texts_again() {
        let texts =
            |all: &[(&str, &str)]| all.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect::<Vec<_>>();
        let all = texts(&[
            ("model", "m"),
            ("temperature", "0.0"),
            ("g[]", "word"),
            ("g[]", "segment"),
            ("stream", "True"),
            ("metadata", "{\"tags\":[\"a\"]}"),
        ]);
        let json = Value::Object(to_json(all));
        let expected = serde_json::json!({"model": "m", "temperature": "0.0", "g[]": ["word", "segment"], "stream": true, "metadata": {"tags": ["a"]}});
        assert_eq!(json, expected);
        let back = to_texts(json.to_string().as_bytes());
        assert_eq!(
            back[..5],
            texts(&[("model", "m"), ("temperature", "0.0"), ("g[]", "word"), ("g[]", "segment"), ("stream", "true")])[..]
        );
    }
}
