//! What an upstream answers: the head, and the body as it comes.

use super::content_length;
use super::pool::{Link, Pool};
use actix_codec::Decoder;
use actix_http::h1::{ClientCodec, ClientPayloadCodec, MessageType};
use actix_http::{BoxedPayloadStream, ResponseHead};
use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};
use awc::ClientResponse;
use bytes::Bytes;
use futures_util::Stream;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// An answer. Read to its end it gives its connection back; dropped before, it closes it.
pub struct Response {
    status: StatusCode,
    headers: HeaderMap,
    /// Of the body, where it was said.
    length: Option<usize>,
    body: Body,
}

enum Body {
    Ended,
    Made(Bytes),
    Read(Reading),
    /// From elsewhere: the other client, or somebody who watches it.
    Other(BoxedPayloadStream),
}

/// A body that is being read.
struct Reading {
    link: Link,
    pool: Rc<Pool>,
    coding: Coding,
    /// Another request can follow on this connection.
    is_kept: bool,
}

/// How a body's end is found.
enum Coding {
    /// It is told by the body itself, or by its length.
    Marked(ClientPayloadCodec),
    /// It is that of the connection.
    Unmarked,
}

impl Response {
    /// The answer that begins with this head on a connection.
    pub(super) fn on(mut link: Link, head: ResponseHead, codec: ClientCodec, pool: Rc<Pool>) -> Self {
        let (status, is_kept) = (head.status, head.keep_alive());
        let headers = head.headers;
        let length = content_length(&headers);
        let is_marked = headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING);
        let body = match codec.message_type() {
            // RFC 9112, section 6.3: what has neither length nor chunks goes on to the end of the connection.
            _ if !is_marked && !has_no_body(status) => {
                Body::Read(Reading { link, pool, coding: Coding::Unmarked, is_kept: false })
            }
            MessageType::None => {
                // What an upstream sends behind an answer without a body would be taken for the next one.
                if is_kept && !has_no_body(status) && link.read().is_empty() {
                    pool.give_back(link);
                }
                Body::Ended
            }
            _ => Body::Read(Reading { link, pool, coding: Coding::Marked(codec.into_payload_codec()), is_kept }),
        };
        Response { status, headers, length, body }
    }

    /// An answer that nobody sent.
    pub fn made(headers: HeaderMap, body: Bytes) -> Self {
        Response { status: StatusCode::OK, headers, length: Some(body.len()), body: Body::Made(body) }
    }

    /// A good answer with another body.
    pub fn flowing(headers: HeaderMap, body: BoxedPayloadStream) -> Self {
        Response { status: StatusCode::OK, headers, length: None, body: Body::Other(body) }
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The headers, which it does not have any more afterwards.
    pub fn take_headers(&mut self) -> HeaderMap {
        std::mem::take(&mut self.headers)
    }

    /// Bytes of the body, where the upstream said so.
    pub fn length(&self) -> Option<usize> {
        self.length
    }
}

/// Whether an answer with this status has a head and nothing more (RFC 9112, section 6.3).
pub fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

impl From<ClientResponse> for Response {
    fn from(response: ClientResponse) -> Self {
        let headers = response.headers().clone();
        let (status, length) = (response.status(), content_length(&headers));
        Response { status, headers, length, body: Body::Other(Box::pin(response)) }
    }
}

impl Reading {
    /// What of the body is there; nothing more behind its end.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, PayloadError>> {
        loop {
            match &mut self.coding {
                Coding::Marked(codec) => match codec.decode(self.link.read())? {
                    Some(Some(chunk)) if chunk.is_empty() => continue,
                    Some(chunk) => return Poll::Ready(Ok(chunk)),
                    None => (),
                },
                Coding::Unmarked if !self.link.read().is_empty() => {
                    return Poll::Ready(Ok(Some(self.link.read().split().freeze())));
                }
                Coding::Unmarked => (),
            }
            if ready!(self.link.fill(cx)).map_err(|e| PayloadError::Incomplete(Some(e)))? == 0 {
                return Poll::Ready(match self.coding {
                    Coding::Marked(_) => Err(PayloadError::Incomplete(None)),
                    Coding::Unmarked => Ok(None),
                });
            }
        }
    }
}

impl Stream for Response {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let body = &mut self.get_mut().body;
        let step = match body {
            Body::Ended => return Poll::Ready(None),
            Body::Other(body) => return body.as_mut().poll_next(cx),
            Body::Made(_) => Ok(None),
            Body::Read(reading) => ready!(reading.step(cx)),
        };
        Poll::Ready(match step {
            Ok(Some(chunk)) => Some(Ok(chunk)),
            end => match (std::mem::replace(body, Body::Ended), end) {
                (_, Err(e)) => Some(Err(e)),
                (Body::Made(bytes), _) if !bytes.is_empty() => Some(Ok(bytes)),
                (Body::Read(reading), _) if reading.is_kept => {
                    reading.pool.give_back(reading.link);
                    None
                }
                _ => None,
            },
        })
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}
