//! Streamed answers: committed late, watched on their way, ended in words.
//!
//! The status waits for the first event, so that a failure before it is an ordinary error. After a long silence
//! (`early_commit`) it goes out all the same and comments keep the connection alive. From then on a failure is a last
//! error event, never a silent end.

use super::call::{Call, late, stopping};
use super::reply;
use crate::clock::{Alarm, Ring};
use crate::error::{Error, Kind, Result};
use crate::exchange::{self, Back, Face, Relay};
use crate::meter::Meter;
use crate::route::{Deployment, Target, Tariff, Timeouts};
use crate::tap::Step;
use crate::upstream::{self, broken_off};
use crate::wire::{messages, sse};
use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use awc::ClientResponse;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// What keeps a silent stream open.
fn keep_alive_of(face: Face) -> Bytes {
    match face {
        Face::Chat => Bytes::from_static(b": keep-alive\n\n"),
        Face::Messages => Bytes::from_static(messages::PING),
    }
}

type Opening = Pin<Box<dyn Future<Output = Result<Open>>>>;

/// A stream whose first event is there.
struct Open {
    response: ClientResponse,
    relay: Relay,
    first: Option<Step>,
    /// The upstream's body has been read to its end, and must not be asked again.
    ended: bool,
}

/// Waits for the first event, or for the moment to commit without it.
///
/// # Errors
/// Whatever went wrong before anything was sent.
pub async fn answer(call: Call, mut meter: Meter) -> Result<HttpResponse> {
    let asked = Instant::now();
    let settings = &call.live.config.server;
    let (early_commit, keep_alive) = (settings.early_commit, settings.keep_alive);
    let deployment = call.target.deployment.clone();
    let (face, group, silence) = (call.face, call.group.clone(), call.timeouts.silence);
    let mut alarm = call.worker.clock.alarm(early_commit.and_then(|limit| asked.checked_add(limit)));
    let mut opening: Opening = Box::pin(open(call, meter.tariff()));

    let opened = tokio::select! {
        biased;
        opened = &mut opening => Some(opened),
        ring = &mut alarm => match ring {
            Ring::Late => None,
            Ring::Ending => Some(Err(stopping())),
        },
    };
    let state = match opened {
        Some(Ok(open)) => State::Open(Box::new(open)),
        Some(Err(error)) => {
            meter.fail(&error);
            return Err(error);
        }
        None => State::Opening(opening),
    };

    let mut builder = HttpResponse::Ok();
    builder
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")))
        .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-cache")))
        .insert_header((HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")));
    reply::call_headers(&mut builder, &meter.id, &deployment, group, meter.started.elapsed(), asked.elapsed());
    reply::anthropic_id(&mut builder, face, &meter.id);
    if let State::Open(open) = &state {
        meter.answered();
        reply::upstream_headers(&mut builder, open.response.headers());
    }
    let now = Instant::now();
    Ok(builder.body(CallStream { face, state, meter, alarm, silence, keep_alive, heard: now, sent: now }))
}

/// Calls the upstream and waits for the first event that says something.
async fn open(call: Call, tariff: Tariff) -> Result<Open> {
    let Call { worker, live, target, request, back, timeouts, .. } = call;
    let deployment = &target.deployment;
    let answer_limit = live.config.server.answer_limit;
    let first = async {
        let mut response = worker.upstream.send(live.generation, &target, request).await?;
        if !is_event_stream(response.headers()) {
            return Err(no_stream(response, &back, answer_limit, deployment).await);
        }
        let mut relay = Relay::new(back, deployment.origin.clone(), tariff);
        let mut ended = false;
        loop {
            match relay.step() {
                Step::Fail(error) => return Err(error),
                // Comments are the upstream's way to say that it is not there yet.
                Step::Forward(event) if sse::content(&event) == sse::Content::Nothing => continue,
                step @ (Step::Forward(_) | Step::Finish(_)) => {
                    return Ok(Open { response, relay, first: Some(step), ended });
                }
                Step::More => match response.next().await {
                    Some(Ok(chunk)) => relay.push(chunk),
                    Some(Err(e)) => return Err(broken_off(deployment, &e)),
                    None => {
                        ended = true;
                        relay.end();
                    }
                },
            }
        }
    };
    tokio::select! {
        biased;
        opened = first => opened,
        ring = worker.clock.after(timeouts.silence) => Err(match ring {
            Ring::Late => late_stream(&target, timeouts),
            Ring::Ending => stopping(),
        }),
    }
}

fn late_stream(target: &Target, timeouts: Timeouts) -> Error {
    if timeouts.silence == timeouts.whole {
        return late(target, timeouts.whole);
    }
    let deployment = &target.deployment;
    Error::new(
        Kind::Timeout,
        format!(
            "'{}' sent nothing within {:?} (stream_timeout of the model '{}').",
            deployment.provider.name, timeouts.silence, deployment.name
        ),
    )
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    // Some servers name no type; their events are checked one by one anyway.
    headers.get(CONTENT_TYPE).is_none_or(|t| t.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"))
}

/// An answer of another type than a stream: an error in disguise, or a server that cannot stream.
async fn no_stream(response: ClientResponse, back: &Back, limit: usize, deployment: &Deployment) -> Error {
    let whole = match upstream::gather(response, limit, deployment).await {
        Ok(body) => exchange::whole(back, body, &deployment.origin),
        Err(error) => return error,
    };
    let provider = deployment.provider.name;
    match whole {
        Ok(_) => Error::new(
            Kind::Garbled,
            format!("'{provider}' was asked for a stream and answered in one piece; ask it without stream."),
        ),
        Err(error) if error.kind == Kind::Garbled => Error::new(
            Kind::Garbled,
            format!("'{provider}' was asked for a stream and answered with something else; check api_base."),
        ),
        Err(error) => error,
    }
}

enum State {
    /// The status is out, the first event is not there.
    Opening(Opening),
    Open(Box<Open>),
    /// The last event is out; the upstream may have a few bytes left.
    Closing(ClientResponse),
    Ended,
}

/// The body of a streamed answer.
struct CallStream {
    face: Face,
    state: State,
    meter: Meter,
    alarm: Alarm,
    silence: Duration,
    keep_alive: Duration,
    /// When the upstream last sent something.
    heard: Instant,
    /// When the caller was last sent something.
    sent: Instant,
}

impl CallStream {
    fn fail(&mut self, error: &Error) -> Poll<Option<std::result::Result<Bytes, Infallible>>> {
        self.meter.fail(error);
        self.state = State::Ended;
        Poll::Ready(Some(Ok(match self.face {
            Face::Chat => error.event(),
            Face::Messages => messages::error_event(error, &reply::request_id(&self.meter.id)),
        })))
    }

    /// Nothing is there: waits for a limit of time, or for the end of the process.
    fn pause(&mut self, cx: &mut Context<'_>) -> Poll<Option<std::result::Result<Bytes, Infallible>>> {
        // While the upstream has not begun, its own limit of time is at work.
        let stalled = self.heard + self.silence;
        let next = match self.state {
            State::Open(_) => stalled.min(self.sent + self.keep_alive),
            _ => self.sent + self.keep_alive,
        };
        self.alarm.set(Some(next));
        if ready!(Pin::new(&mut self.alarm).poll(cx)) == Ring::Ending {
            return self.fail(&stopping());
        }
        let now = Instant::now();
        if matches!(self.state, State::Open(_)) && now >= stalled {
            let error = Error::new(Kind::Timeout, format!("The upstream sent nothing for {:?}.", self.silence));
            return self.fail(&error);
        }
        self.sent = now;
        Poll::Ready(Some(Ok(keep_alive_of(self.face))))
    }
}

impl MessageBody for CallStream {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::result::Result<Bytes, Infallible>>> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Opening(opening) => match opening.as_mut().poll(cx) {
                    Poll::Pending => return this.pause(cx),
                    Poll::Ready(Ok(open)) => {
                        this.meter.answered();
                        this.heard = Instant::now();
                        this.state = State::Open(Box::new(open));
                    }
                    Poll::Ready(Err(error)) => return this.fail(&error),
                },
                State::Open(open) => {
                    let step = open.first.take().unwrap_or_else(|| open.relay.step());
                    match step {
                        Step::Forward(event) => {
                            this.sent = Instant::now();
                            return Poll::Ready(Some(Ok(event)));
                        }
                        Step::Finish(event) => {
                            this.meter.used(open.relay.usage());
                            this.meter.saw(open.relay.seen_tokens());
                            this.meter.answered_as(open.relay.answer_id());
                            this.meter.succeed();
                            if let State::Open(open) = std::mem::replace(&mut this.state, State::Ended)
                                && !open.ended
                            {
                                this.state = State::Closing(open.response);
                            }
                            return Poll::Ready(Some(Ok(event)));
                        }
                        Step::Fail(error) => {
                            this.meter.used(open.relay.usage());
                            this.meter.saw(open.relay.seen_tokens());
                            this.meter.answered_as(open.relay.answer_id());
                            return this.fail(&error);
                        }
                        Step::More => match Pin::new(&mut open.response).poll_next(cx) {
                            Poll::Ready(Some(Ok(chunk))) => {
                                this.heard = Instant::now();
                                open.relay.push(chunk);
                            }
                            Poll::Ready(Some(Err(e))) => {
                                tracing::debug!("stream broken off: {e}");
                                open.ended = true;
                                open.relay.end();
                            }
                            Poll::Ready(None) => {
                                open.ended = true;
                                open.relay.end();
                            }
                            Poll::Pending => {
                                this.meter.used(open.relay.usage());
                                this.meter.saw(open.relay.seen_tokens());
                                this.meter.answered_as(open.relay.answer_id());
                                return this.pause(cx);
                            }
                        },
                    }
                }
                State::Closing(_) => {
                    if let State::Closing(response) = std::mem::replace(&mut this.state, State::Ended) {
                        close(response, cx);
                    }
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }
}

/// Reads the upstream's answer to its very end, so that the connection can be used again; not for long.
fn close(mut response: ClientResponse, cx: &mut Context<'_>) {
    for _ in 0..4 {
        match Pin::new(&mut response).poll_next(cx) {
            Poll::Ready(Some(Ok(_))) => (),
            Poll::Ready(_) => return,
            Poll::Pending => break,
        }
    }
    actix_web::rt::spawn(async move {
        let rest = async { while let Some(Ok(_)) = response.next().await {} };
        // Dropping it after that closes the connection, which is right for an upstream that does not end.
        let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
    });
}
