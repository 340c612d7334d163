//! Tells the end of a chunked answer from the end of its connection, which awc takes for the same: an answer that was
//! cut would count as whole (awc 3.11, `client/h1proto.rs`, where the end of a connection is the end of the body).
//!
//! Bytes go through as they are. Only a connection that ends inside of a chunked body ends in an error instead.

use actix_web::rt::net::ActixStream;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, Ready};

/// A longer head is not looked into.
const MOST_HEAD: usize = 64 << 10;

/// A connection that is watched.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    place: Place,
}

impl<S> Watched<S> {
    /// `is_plain`: what passes is HTTP, and not TLS around it.
    pub fn new(stream: S, is_plain: bool) -> Self {
        Watched { stream, place: if is_plain { Place::Between } else { Place::Unknown } }
    }
}

/// Where in an answer the next byte stands.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// No answer is expected.
    Between,
    /// In a head, of which so much has come. Answers to `HEAD` have nothing behind it.
    Head { text: Vec<u8>, is_alone: bool },
    /// In a body of known length.
    Body(u64),
    /// In the line that tells a chunk's length.
    Size { length: u64, is_over: bool },
    /// In a chunk, or the line end behind it.
    Chunk(u64),
    /// Behind the last chunk, at so many bytes of a line.
    Trailer(u64),
    /// In something else, whose end nobody knows.
    Unknown,
}

impl Place {
    /// A request begins.
    fn asked(&mut self, bytes: &[u8]) {
        if *self == Place::Between {
            *self = Place::Head { text: Vec::new(), is_alone: bytes.starts_with(b"HEAD ") };
        }
    }

    /// Takes what has come.
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self {
                Place::Between | Place::Unknown => return,
                Place::Head { text, is_alone } => {
                    let (before, is_alone) = (text.len(), *is_alone);
                    text.extend_from_slice(bytes);
                    let from = before.saturating_sub(3);
                    let Some(end) = memchr::memmem::find(&text[from..], b"\r\n\r\n") else {
                        if text.len() > MOST_HEAD {
                            *self = Place::Unknown;
                        }
                        return;
                    };
                    let end = from + end + 4;
                    let next = behind(&text[..end], is_alone);
                    bytes = &bytes[end - before..];
                    *self = next;
                }
                Place::Body(left) | Place::Chunk(left) => {
                    let taken = (*left).min(bytes.len() as u64);
                    *left -= taken;
                    bytes = &bytes[taken as usize..];
                    if *left == 0 {
                        *self = match self {
                            Place::Body(_) => Place::Between,
                            _ => Place::Size { length: 0, is_over: false },
                        };
                    }
                }
                Place::Size { length, is_over } => {
                    let byte = bytes[0];
                    bytes = &bytes[1..];
                    match (byte, char::from(byte).to_digit(16)) {
                        // Two more: the line's end is a part of what is skipped.
                        (b'\n', _) => {
                            *self = match *length {
                                0 => Place::Trailer(0),
                                length => Place::Chunk(length.saturating_add(2)),
                            }
                        }
                        (_, Some(digit)) if !*is_over => {
                            *length = length.saturating_mul(16).saturating_add(u64::from(digit));
                        }
                        _ => *is_over = true,
                    }
                }
                Place::Trailer(line) => {
                    let byte = bytes[0];
                    bytes = &bytes[1..];
                    match byte {
                        b'\n' if *line == 0 => *self = Place::Between,
                        b'\n' => *line = 0,
                        b'\r' => (),
                        _ => *line += 1,
                    }
                }
            }
        }
    }

    /// Whether the connection cannot end here.
    fn is_inside(&self) -> bool {
        matches!(self, Place::Size { .. } | Place::Chunk(_) | Place::Trailer(_))
    }
}

/// What follows behind a head.
fn behind(head: &[u8], is_alone: bool) -> Place {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let status = text.split(' ').nth(1).unwrap_or_default();
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    match status {
        "101" => Place::Unknown,
        interim if interim.starts_with('1') => Place::Head { text: Vec::new(), is_alone },
        "204" | "304" => Place::Between,
        _ if is_alone => Place::Between,
        _ if value("transfer-encoding").is_some_and(|value| value.contains("chunked")) => {
            Place::Size { length: 0, is_over: false }
        }
        _ => match value("content-length").and_then(|length| length.trim().parse().ok()) {
            Some(0) => Place::Between,
            Some(length) => Place::Body(length),
            None => Place::Unknown,
        },
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        let new = &into.filled()[before..];
        if new.is_empty() && into.remaining() > 0 && self.place.is_inside() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.place.take(new);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.place.asked(bytes);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.place.asked(pieces.iter().find(|piece| !piece.is_empty()).map_or(&[][..], |piece| piece));
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S: ActixStream> ActixStream for Watched<S> {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.stream.poll_read_ready(cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        self.stream.poll_write_ready(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the answers end, cut into pieces of this length.
    fn place(request: &str, answer: &str, piece: usize) -> Place {
        let mut place = Place::Between;
        place.asked(request.as_bytes());
        answer.as_bytes().chunks(piece).for_each(|chunk| place.take(chunk));
        place
    }

    #[test]
    fn a_chunked_body_ends_where_it_says_so() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n";
        for piece in [1, 2, 3, 7, 1000] {
            for whole in [
                "0\r\n\r\n",
                "3\r\nabc\r\n0\r\n\r\n",
                "A;x=1\r\n0\r\n\r\n0123456\r\n0\r\na: b\r\n\r\n",
                "2\r\n\r\n\r\n0\r\n\r\n",
            ] {
                assert_eq!(place("POST ", &format!("{head}{whole}"), piece), Place::Between, "{whole:?} {piece}");
                for cut in 0..whole.len() {
                    let left = place("POST ", &format!("{head}{}", &whole[..cut]), piece);
                    assert!(left.is_inside(), "{:?} {piece} {left:?}", &whole[..cut]);
                }
            }
        }
    }

    #[test]
    fn other_answers_may_end_with_their_connection() {
        for (request, answer, expected) in [
            ("GET ", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Place::Between),
            ("GET ", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", Place::Body(1)),
            ("GET ", "HTTP/1.1 200 OK\r\n\r\nab", Place::Unknown),
            ("GET ", "HTTP/1.1 204 No\r\ntransfer-encoding: chunked\r\n\r\n", Place::Between),
            ("HEAD ", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", Place::Between),
            ("GET ", "HTTP/1.1 101 Up\r\nUpgrade: websocket\r\n\r\n\x01", Place::Unknown),
            ("POST ", "HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na", Place::Between),
        ] {
            for piece in [1, 4, 1000] {
                let left = place(request, answer, piece);
                assert!(left == expected && !left.is_inside(), "{answer:?} {piece} {left:?}");
            }
        }
    }

    #[test]
    fn what_is_not_http_is_let_through() {
        let mut watched = Watched::new((), false);
        watched.place.asked(b"GET ");
        watched.place.take(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n");
        assert!(!watched.place.is_inside());
        let mut place = Place::Between;
        place.asked(b"GET ");
        place.take(&vec![b'a'; MOST_HEAD + 1]);
        assert_eq!(place, Place::Unknown);
    }
}
