//! Answers on their way to the caller as they come: audio, and streams that nobody translates.
//!
//! What is passed on is watched for what it costs, and never changed. When the upstream breaks off, a stream of events
//! ends in an error event; other bytes end without their proper end, so that nobody takes them for whole.

use super::explain::{self, EXPLAIN};
use super::reply;
use crate::call::Call;
use crate::clock::{Alarm, Ring};
use crate::dispatch::{self, Passage};
use crate::error::{Error, Kind, Result};
use crate::meter::Meter;
use crate::upstream::{broken_off, content_length};
use crate::usage::Usage;
use crate::wire::audio;
use crate::wire::sse::{self, Events};
use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

/// Larger events hold pictures, and are not looked into.
const MAX_EVENT: usize = 16 << 20;

/// Waits for the first bytes of the answer.
///
/// # Errors
/// Whatever went wrong before anything was sent.
pub async fn answer(call: Call, mut meter: Meter) -> Result<HttpResponse> {
    let (group, explains) = (call.plan.label(), call.wishes.explains);
    let passage = match dispatch::pass(&call, &mut meter).await {
        Ok(passage) => passage,
        Err(error) => {
            meter.fail(&error);
            return Err(reply::of_call(error, &meter, group, explains));
        }
    };
    meter.answered();
    meter.presumes(call.presumed);
    let kind = content_type(passage.response.headers().get(CONTENT_TYPE));
    let is_stream = kind.as_bytes().starts_with(b"text/event-stream");
    let mut builder = HttpResponse::Ok();
    builder
        .insert_header((CONTENT_TYPE, kind))
        .insert_header((HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")));
    if is_stream {
        builder.insert_header((CACHE_CONTROL, HeaderValue::from_static("no-cache")));
    }
    reply::call_headers(&mut builder, &meter.id, meter.attempts(), group, (meter.started.elapsed(), passage.waited));
    reply::deployment_headers(&mut builder, &passage.deployment);
    if !is_stream {
        reply::cost(&mut builder, meter.cost());
    }
    reply::upstream_headers(&mut builder, passage.response.headers());
    reply::limits(&mut builder, &meter);
    if explains {
        builder.insert_header((EXPLAIN, explain::header(&meter.id, meter.trace.steps())));
    }
    let now = Instant::now();
    let alarm = call.worker.clock.alarm(now.checked_add(passage.silence));
    let watch = if is_stream { Watch::Events(Events::new(MAX_EVENT)) } else { Watch::Audio(BytesMut::new(), 0) };
    let presumed = call.presumed.unwrap_or_default().usage;
    let left = content_length(passage.response.headers()).map(|length| length as u64);
    Ok(builder.body(Passing {
        under_way: Some(Box::new((passage, meter))),
        watch,
        presumed,
        left,
        broken: None,
        alarm,
        heard: now,
    }))
}

/// What the upstream calls it, unless a browser would run it.
fn content_type(told: Option<&HeaderValue>) -> HeaderValue {
    let is_harmless = |kind: &&HeaderValue| {
        [&b"audio/"[..], b"text/event-stream", b"video/", b"application/octet-stream", b"application/ogg"]
            .iter()
            .any(|start| kind.as_bytes().starts_with(start))
    };
    told.filter(is_harmless).cloned().unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

/// Finds out what the answer costs.
enum Watch {
    /// Its first bytes, and its length so far.
    Audio(BytesMut, u64),
    Events(Events),
    Nothing,
}

impl Watch {
    /// What is known of the usage behind these bytes, where that is anything new.
    fn see(&mut self, chunk: &Bytes) -> Option<Usage> {
        match self {
            Watch::Audio(head, length) => {
                *length += chunk.len() as u64;
                let room = audio::LOOK.saturating_sub(head.len());
                head.extend_from_slice(&chunk[..chunk.len().min(room)]);
                None
            }
            Watch::Events(events) => {
                events.push(chunk.clone());
                let mut usage = None;
                loop {
                    match events.take() {
                        Ok(Some(event)) => {
                            if let sse::Content::Data(data) = sse::content(&event)
                                && memchr::memmem::find(&data, b"\"usage\"").is_some()
                            {
                                usage = audio::usage(&data).or(usage);
                            }
                        }
                        Ok(None) => return usage,
                        Err(_) => {
                            *self = Watch::Nothing;
                            return usage;
                        }
                    }
                }
            }
            Watch::Nothing => None,
        }
    }

    /// How long the audio plays.
    fn millis(&self) -> Option<u64> {
        match self {
            Watch::Audio(head, length) => audio::millis(head, head, *length),
            _ => None,
        }
    }
}

/// The body of such an answer.
struct Passing {
    under_way: Option<Box<(Passage, Meter)>>,
    watch: Watch,
    presumed: Usage,
    /// Bytes that are still to come, where the upstream says so: its client takes a closed connection for an end.
    left: Option<u64>,
    /// Why it ends without its proper end.
    broken: Option<String>,
    alarm: Alarm,
    /// When the upstream last sent something.
    heard: Instant,
}

type Next = Poll<Option<std::result::Result<Bytes, Box<dyn std::error::Error>>>>;

impl Passing {
    fn break_off(&mut self, error: Error, cx: &mut Context<'_>) -> Next {
        let Some(mut under_way) = self.under_way.take() else { return Poll::Ready(None) };
        let (passage, meter) = &mut *under_way;
        passage.admission.broke_off(&error);
        meter.fail(&error);
        match self.watch {
            Watch::Events(_) | Watch::Nothing => Poll::Ready(Some(Ok(error.event()))),
            Watch::Audio(..) => {
                // What is there goes out before the connection is cut.
                self.broken = Some(error.to_string());
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn finish(&mut self) -> Next {
        if let Some(mut under_way) = self.under_way.take() {
            let (passage, meter) = &mut *under_way;
            let spoken = self.watch.millis();
            meter.used(spoken.map(|millis_out| Usage { millis_out, ..self.presumed }));
            passage.admission.succeeded(None);
            meter.succeed();
        }
        Poll::Ready(None)
    }

    fn pass(&mut self, chunk: Bytes) -> Next {
        self.heard = Instant::now();
        self.left = self.left.map(|left| left.saturating_sub(chunk.len() as u64));
        let usage = self.watch.see(&chunk);
        let characters_in = self.presumed.characters_in;
        if let (Some(usage), Some(under_way)) = (usage, &mut self.under_way) {
            // What is spoken counts as output; its tokens have a price of their own.
            let audio_out_tokens = if characters_in > 0 { usage.completion_tokens } else { usage.audio_out_tokens };
            under_way.1.used(Some(Usage { characters_in, audio_out_tokens, ..usage }));
        }
        Poll::Ready(Some(Ok(chunk)))
    }
}

impl MessageBody for Passing {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Next {
        let this = self.get_mut();
        if let Some(why) = this.broken.take() {
            return Poll::Ready(Some(Err(why.into())));
        }
        let Some(under_way) = &mut this.under_way else { return Poll::Ready(None) };
        let passage = &mut under_way.0;
        if !passage.first.is_empty() {
            let first = std::mem::take(&mut passage.first);
            return this.pass(first);
        }
        match Pin::new(&mut passage.response).poll_next(cx) {
            Poll::Ready(Some(Ok(chunk))) => this.pass(chunk),
            Poll::Ready(Some(Err(e))) => {
                let error = broken_off(&passage.deployment, &e);
                this.break_off(error, cx)
            }
            Poll::Ready(None) if this.left.is_some_and(|left| left > 0) => {
                let error = broken_off(&passage.deployment, &"it is shorter than was said");
                this.break_off(error, cx)
            }
            Poll::Ready(None) => this.finish(),
            Poll::Pending => {
                let silence = passage.silence;
                this.alarm.set(this.heard.checked_add(silence));
                match Pin::new(&mut this.alarm).poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Ring::Ending) => this.break_off(dispatch::stopping(), cx),
                    Poll::Ready(Ring::Late) => this.break_off(
                        Error::new(Kind::Timeout, format!("The upstream sent nothing for {silence:?}.")),
                        cx,
                    ),
                }
            }
        }
    }
}
