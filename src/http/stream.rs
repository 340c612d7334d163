//! Streamed answers: committed late, watched on their way, ended in words.
//!
//! The status waits for the first event, so that a failure before it is an ordinary error. After a long silence
//! (`early_commit`) it goes out all the same and comments keep the connection alive. From then on a failure is a last
//! error event, never a silent end.

use super::explain::{self, EXPLAIN};
use super::reply;
use super::responses::Keeper;
use crate::call::Call;
use crate::clock::{Alarm, Ring};
use crate::dispatch::{self, Open};
use crate::error::{Error, Kind, Result};
use crate::exchange::Face;
use crate::meter::{Attempts, Meter};
use crate::tap::Step;
use crate::upstream::Response;
use crate::wire::{gemini, messages, responses};
use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// What keeps a silent stream open.
fn keep_alive_of(face: Face) -> Bytes {
    match face {
        Face::Messages => Bytes::from_static(messages::PING),
        Face::Chat
        | Face::Hub
        | Face::Responses
        | Face::Completions
        | Face::Gemini
        | Face::GeminiVectors(_)
        | Face::Plain(_) => Bytes::from_static(b": keep-alive\n\n"),
    }
}

/// The call on its way to its first event. It has the meter while nobody else writes to it.
type Opening = Pin<Box<dyn Future<Output = (Meter, Result<Open>)>>>;

/// Waits for the first event, or for the moment to commit without it.
///
/// # Errors
/// Whatever went wrong before anything was sent.
pub async fn answer(call: Call, mut meter: Meter) -> Result<HttpResponse> {
    let asked = Instant::now();
    let settings = &call.live.config.server;
    let (early_commit, keep_alive) = (settings.early_commit, settings.keep_alive);
    let (face, group, id) = (call.face, call.plan.label(), meter.id);
    let keeper = Keeper::of(&call);
    let (started, explains) = (meter.started, call.wishes.explains);
    let mut alarm = call.worker.clock.alarm(early_commit.and_then(|limit| asked.checked_add(limit)));
    let mut opening: Opening = Box::pin(async move {
        let opened = dispatch::open(&call, &mut meter).await;
        (meter, opened)
    });

    let opened = tokio::select! {
        biased;
        opened = &mut opening => Some(opened),
        // At the end of the process the call itself ends in words.
        () = late(&mut alarm) => None,
    };
    let mut builder = HttpResponse::Ok();
    builder
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")))
        .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-cache")))
        .insert_header((HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")));
    reply::anthropic_id(&mut builder, face, &id);
    let state = match opened {
        Some((mut meter, Ok(open))) => {
            meter.answered();
            reply::call_headers(&mut builder, &id, meter.attempts(), group, (started.elapsed(), open.waited));
            reply::deployment_headers(&mut builder, &open.deployment);
            reply::upstream_headers(&mut builder, open.response.headers());
            reply::limits(&mut builder, &meter);
            if explains {
                builder.insert_header((EXPLAIN, explain::header(&id, meter.trace.steps())));
            }
            State::Open(Box::new((open, meter)))
        }
        Some((mut meter, Err(error))) => {
            meter.fail(&error);
            return Err(reply::of_call(error, &meter, group, explains));
        }
        // Who will answer is not known yet.
        None => {
            reply::call_headers(&mut builder, &id, Attempts::default(), group, (started.elapsed(), asked.elapsed()));
            State::Opening(opening)
        }
    };
    let now = Instant::now();
    Ok(builder.body(CallStream { face, keeper, id, state, alarm, keep_alive, heard: now, sent: now }))
}

/// Waits until the time is up; the end of the process is not waited for here.
async fn late(alarm: &mut Alarm) {
    if alarm.await == Ring::Ending {
        std::future::pending().await
    }
}

enum State {
    /// The status is out, the first event is not there.
    Opening(Opening),
    Open(Box<(Open, Meter)>),
    /// The answer is whole, and is being kept; its last event comes then.
    Keeping(Pin<Box<dyn Future<Output = ()>>>, Bytes, Box<(Open, Meter)>),
    /// The last event is out; the upstream may have a few bytes left.
    Closing(Response),
    Ended,
}

/// The body of a streamed answer.
struct CallStream {
    face: Face,
    /// Keeps the answer before its last event goes out.
    keeper: Option<Keeper>,
    id: Uuid,
    state: State,
    alarm: Alarm,
    keep_alive: Duration,
    /// When the upstream last sent something.
    heard: Instant,
    /// When the caller was last sent something.
    sent: Instant,
}

type Next = Poll<Option<std::result::Result<Bytes, Infallible>>>;

impl CallStream {
    /// The last event of a stream that failed.
    fn fail(&mut self, mut meter: Meter, error: &Error) -> Next {
        meter.fail(error);
        self.state = State::Ended;
        Poll::Ready(Some(Ok(match self.face {
            Face::Chat | Face::Hub | Face::Completions | Face::Plain(_) => error.event(),
            Face::Gemini | Face::GeminiVectors(_) => format!("data: {}\n\n", gemini::error_body(error)).into(),
            Face::Responses => responses::error_event(error, 0),
            Face::Messages => messages::error_event(error, &reply::request_id(&self.id)),
        })))
    }

    /// As [`Self::fail`], for a stream that is open.
    fn break_off(&mut self, error: &Error) -> Next {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Open(opened) => {
                let (mut open, mut meter) = *opened;
                note(&open, &mut meter);
                open.admission.broke_off(error);
                match open.relay.failed(error) {
                    Some(last) => {
                        meter.fail(error);
                        Poll::Ready(Some(Ok(last)))
                    }
                    None => self.fail(meter, error),
                }
            }
            _ => Poll::Ready(None),
        }
    }

    /// Nothing is there: waits for a limit of time, or for the end of the process.
    fn pause(&mut self, cx: &mut Context<'_>) -> Next {
        // While the upstream has not begun, its own limit of time is at work.
        let next = self.sent + self.keep_alive;
        let stalled = match &self.state {
            State::Open(opened) => Some((self.heard + opened.0.silence, opened.0.silence)),
            _ => None,
        };
        self.alarm.set(Some(stalled.map_or(next, |(stalled, _)| stalled.min(next))));
        if ready!(Pin::new(&mut self.alarm).poll(cx)) == Ring::Ending {
            return match self.state {
                // The call hears it too, and ends in words.
                State::Opening(_) => Poll::Pending,
                _ => self.break_off(&dispatch::stopping()),
            };
        }
        let now = Instant::now();
        if let Some((_, silence)) = stalled.filter(|(stalled, _)| now >= *stalled) {
            let error = Error::new(Kind::Timeout, format!("The upstream sent nothing for {silence:?}."));
            return self.break_off(&error);
        }
        self.sent = now;
        Poll::Ready(Some(Ok(keep_alive_of(self.face))))
    }
}

/// Tells the meter what is known so far.
fn note(open: &Open, meter: &mut Meter) {
    meter.used(open.relay.usage());
    meter.saw(open.relay.seen_tokens());
    meter.answered_as(open.relay.answer_id());
}

impl MessageBody for CallStream {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Opening(opening) => match opening.as_mut().poll(cx) {
                    Poll::Pending => return this.pause(cx),
                    Poll::Ready((mut meter, Ok(open))) => {
                        meter.answered();
                        this.heard = Instant::now();
                        this.state = State::Open(Box::new((open, meter)));
                    }
                    Poll::Ready((meter, Err(error))) => return this.fail(meter, &error),
                },
                State::Open(opened) => {
                    let (open, meter) = &mut **opened;
                    let step = open.first.take().unwrap_or_else(|| open.relay.step());
                    match step {
                        Step::Forward(event) => {
                            meter.told_event(&event);
                            this.sent = Instant::now();
                            return Poll::Ready(Some(Ok(event)));
                        }
                        Step::Finish(event) => {
                            if let (Some(response), Some(keeper)) = (open.relay.response(), this.keeper.take()) {
                                let (response, deployment) = (response.clone(), &open.deployment);
                                let kept_by = deployment.makes_responses.then(|| deployment.id.clone());
                                let keeping = Box::pin(keeper.keep(response, kept_by));
                                if let State::Open(opened) = std::mem::replace(&mut this.state, State::Ended) {
                                    this.state = State::Keeping(keeping, event, opened);
                                }
                                continue;
                            }
                            note(open, meter);
                            open.admission.succeeded(open.relay.usage().as_ref());
                            meter.told_event(&event);
                            meter.succeed();
                            if let State::Open(opened) = std::mem::replace(&mut this.state, State::Ended)
                                && !opened.0.ended
                            {
                                this.state = State::Closing(opened.0.response);
                            }
                            return Poll::Ready(Some(Ok(event)));
                        }
                        Step::Fail(error) => return this.break_off(&error),
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
                                note(open, meter);
                                return this.pause(cx);
                            }
                        },
                    }
                }
                State::Keeping(keeping, event, opened) => {
                    ready!(keeping.as_mut().poll(cx));
                    // Nobody keeps it twice: the last event goes the way of every last event.
                    opened.0.first = Some(Step::Finish(std::mem::take(event)));
                    if let State::Keeping(_, _, opened) = std::mem::replace(&mut this.state, State::Ended) {
                        this.state = State::Open(opened);
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
fn close(mut response: Response, cx: &mut Context<'_>) {
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
