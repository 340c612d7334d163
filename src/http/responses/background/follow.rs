//! A response of the background as a stream: `stream` at its creation, or `GET /v1/responses/{id}?stream=true`, from the
//! event behind `starting_after` on. Whoever leaves leaves the response alone.

use super::recording::{Recording, written};
use crate::auth::Caller;
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::http::reply;
use crate::http::responses::keep::{self, Kept};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// How often the store is asked for a response that another gateway makes.
const LOOK: Duration = Duration::from_secs(1);
const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// Where the events come from.
enum Source {
    /// This process makes the response.
    Here(Arc<Recording>),
    /// Another one does; its events come when it is done.
    Elsewhere(Box<Elsewhere>),
    Over,
}

struct Elsewhere {
    gateway: Arc<Gateway>,
    caller: Caller,
    id: String,
    /// Looks since the caller heard something.
    looks: u32,
}

struct Follower {
    source: Source,
    /// The number of the next event.
    next: usize,
    keep_alive: Duration,
}

/// Tells the events of a response that begins here.
pub fn begun(builder: &mut HttpResponseBuilder, recording: Arc<Recording>, keep_alive: Duration) -> HttpResponse {
    streamed(builder, Follower { source: Source::Here(recording), next: 0, keep_alive })
}

/// Whether a request asks for a stream.
pub fn is_wanted(request: &HttpRequest) -> bool {
    of(request, "stream").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn of<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request.query_string().split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Answers such a request.
///
/// # Errors
/// There is no such response, or nothing that could be streamed.
pub async fn again(request: &HttpRequest) -> Result<HttpResponse> {
    let next = match of(request, "starting_after").map(str::parse::<usize>) {
        None => 0,
        Some(Ok(last)) => last.saturating_add(1),
        Some(Err(_)) => {
            let why = "'starting_after' must be the 'sequence_number' of an event.";
            return Err(Error::invalid(why).at_param("starting_after"));
        }
    };
    let (gateway, caller) = keep::asker(request).await?;
    let id = reply::path_part(request, "id").unwrap_or_default().into_owned();
    let kept = keep::find(request).await?;
    let keep_alive = gateway.live().config.server.keep_alive;
    let mut builder = HttpResponse::Ok();
    if !kept.streams {
        let why =
            "Only a response that was made with 'background' and 'stream' can be streamed again; leave 'stream' out.";
        return Err(Error::invalid(why).at_param("stream"));
    }
    if let Some(recording) = gateway.underway.recording(&id) {
        return Ok(streamed(&mut builder, Follower { source: Source::Here(recording), next, keep_alive }));
    }
    if kept.response["status"] == "in_progress" {
        let source = Source::Elsewhere(Box::new(Elsewhere { gateway, caller, id, looks: 0 }));
        return Ok(streamed(&mut builder, Follower { source, next, keep_alive }));
    }
    let told = rest(&gateway, &caller, &id, &kept, next).await?;
    head(&mut builder);
    Ok(builder.body(told))
}

fn head(builder: &mut HttpResponseBuilder) {
    builder
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")))
        .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-cache")))
        .insert_header((HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")));
}

fn streamed(builder: &mut HttpResponseBuilder, follower: Follower) -> HttpResponse {
    head(builder);
    builder.streaming(stream::unfold(follower, next))
}

async fn next(mut follower: Follower) -> Option<(std::result::Result<Bytes, Infallible>, Follower)> {
    let told = match &mut follower.source {
        Source::Here(recording) => match recording.after(follower.next, follower.keep_alive).await? {
            events if events.is_empty() => Bytes::from_static(KEEP_ALIVE),
            events => {
                follower.next += events.len();
                events.concat().into()
            }
        },
        Source::Elsewhere(other) => match other.wait(follower.next, follower.keep_alive).await? {
            Some(told) => {
                follower.source = Source::Over;
                told
            }
            None => Bytes::from_static(KEEP_ALIVE),
        },
        Source::Over => return None,
    };
    Some((Ok(told), follower))
}

impl Elsewhere {
    /// What there is when the response is done, nothing where it is time to say that the connection lives, none where the
    /// response is gone.
    async fn wait(&mut self, next: usize, keep_alive: Duration) -> Option<Option<Bytes>> {
        loop {
            tokio::time::sleep(LOOK).await;
            self.looks += 1;
            if let Ok(found) = keep::read(&self.gateway, &self.caller, &self.id).await {
                let kept = found?;
                if kept.response["status"] != "in_progress" {
                    let told = rest(&self.gateway, &self.caller, &self.id, &kept, next).await;
                    return Some(Some(told.ok()?));
                }
            }
            if LOOK * self.looks >= keep_alive {
                self.looks = 0;
                return Some(None);
            }
        }
    }
}

/// The events of a response that is done, from that one on.
async fn rest(gateway: &Gateway, caller: &Caller, id: &str, kept: &Kept, next: usize) -> Result<Bytes> {
    if let Some(text) = keep::events(gateway, caller, id).await? {
        let behind: String = text.split_inclusive("\n\n").skip(next).collect();
        return Ok(behind.into());
    }
    match kept.response["status"].as_str() {
        // Whoever made it has ended, or could not keep what was told: then it is said how it ended.
        Some("failed") => {
            let last = json!({"type": "response.failed", "response": kept.response, "sequence_number": next});
            Ok(written(&last))
        }
        _ => {
            Err(Error::invalid("The events of this response are not kept; ask for it without 'stream'.")
                .at_param("stream"))
        }
    }
}
