//! Reading a request body: bounded in size and in patience, copied as little as possible.

use crate::clock::{Alarm, Clock, Ring};
use crate::dispatch::stopping;
use crate::error::{Error, Kind, Result};
use crate::upstream::content_length;
use actix_web::HttpRequest;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use actix_web::web::Payload;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// A body that stands still for longer is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// A body that is not there after so long is given up, however steadily it drips.
const LONGEST: Duration = Duration::from_secs(600);

/// The whole JSON body.
///
/// # Errors
/// 413 over `limit`, 408 when it stops coming or takes too long, 400 when it is not plain JSON or breaks off.
pub async fn read(request: &HttpRequest, mut payload: Payload, limit: usize, clock: &Rc<Clock>) -> Result<Bytes> {
    check_type(request)?;
    let announced = content_length(request.headers());
    let too_large = || larger(limit);
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut whole = Bytes::new();
    let mut pieces = BytesMut::new();
    let mut wait: Option<(Alarm, Instant)> = None;
    loop {
        let next = poll_fn(|cx| match payload.poll_next_unpin(cx) {
            Poll::Ready(next) => Poll::Ready(Ok(next)),
            Poll::Pending => {
                let (alarm, _) = wait.get_or_insert_with(|| (clock.after(PATIENCE), Instant::now() + LONGEST));
                Pin::new(alarm).poll(cx).map(|ring| {
                    Err(match ring {
                        Ring::Late => {
                            Error::new(Kind::SlowRequest, "The request body stopped coming; send it without pauses.")
                        }
                        Ring::Ending => stopping(),
                    })
                })
            }
        });
        let Some(chunk) = next.await? else { break };
        if let Some((alarm, last)) = &mut wait {
            alarm.set(Some(*last.min(&mut (Instant::now() + PATIENCE))));
        }
        let chunk = chunk.map_err(|e| Error::invalid(format!("The request body could not be read: {e}.")))?;
        if whole.len() + pieces.len() + chunk.len() > limit {
            return Err(too_large());
        }
        // A body that arrives in one piece is not copied; a longer one is gathered once, into room for all of it.
        if whole.is_empty() && pieces.is_empty() {
            whole = chunk;
            continue;
        }
        if !whole.is_empty() {
            pieces.reserve(announced.unwrap_or(0).max(whole.len() + chunk.len()));
            pieces.extend_from_slice(&std::mem::take(&mut whole));
        }
        pieces.extend_from_slice(&chunk);
    }
    Ok(if pieces.is_empty() { whole } else { pieces.freeze() })
}

/// A body of any kind, piece by piece; bounded as one that is read whole.
pub struct Chunks {
    payload: Payload,
    limit: usize,
    taken: usize,
    alarm: Alarm,
    last: Instant,
}

impl Chunks {
    /// # Errors
    /// 413 for a body that is announced to be too large, 400 for one that is compressed.
    pub fn new(request: &HttpRequest, payload: Payload, limit: usize, clock: &Rc<Clock>) -> Result<Self> {
        check_encoding(request)?;
        if content_length(request.headers()).is_some_and(|length| length > limit) {
            return Err(larger(limit));
        }
        Ok(Chunks { payload, limit, taken: 0, alarm: clock.after(PATIENCE), last: Instant::now() + LONGEST })
    }

    /// # Errors
    /// As [`read`].
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        self.alarm.set(Some(self.last.min(Instant::now() + PATIENCE)));
        let chunk = tokio::select! {
            biased;
            chunk = self.payload.next() => chunk,
            ring = &mut self.alarm => return Err(match ring {
                Ring::Late => Error::new(Kind::SlowRequest, "The request body stopped coming; send it without pauses."),
                Ring::Ending => stopping(),
            }),
        };
        let Some(chunk) = chunk else { return Ok(None) };
        let chunk = chunk.map_err(|e| Error::invalid(format!("The request body could not be read: {e}.")))?;
        self.taken += chunk.len();
        match self.taken > self.limit {
            true => Err(larger(self.limit)),
            false => Ok(Some(chunk)),
        }
    }
}

fn larger(limit: usize) -> Error {
    let message =
        format!("The request body is larger than {limit} bytes, the limit of this gateway (server.body_limit).");
    Error::new(Kind::TooLarge, message)
}

const FORM: &[u8] = b"multipart/";

fn check_type(request: &HttpRequest) -> Result<()> {
    check_encoding(request)?;
    // A missing or odd type is forgiven, as by LiteLLM; a form is a mistake that would only be reported as bad JSON.
    match request.headers().get(CONTENT_TYPE).and_then(|v| v.as_bytes().get(..FORM.len())) {
        Some(form) if form.eq_ignore_ascii_case(FORM) => {
            Err(Error::invalid("The request body is a form; this route takes JSON (Content-Type: application/json)."))
        }
        _ => Ok(()),
    }
}

fn check_encoding(request: &HttpRequest) -> Result<()> {
    let headers = request.headers();
    if headers.get(CONTENT_ENCODING).is_some_and(|v| !v.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Error::invalid("A compressed request body is not served; send it without Content-Encoding."));
    }
    Ok(())
}
