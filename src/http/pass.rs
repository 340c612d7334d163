//! Requests that go on to another API as they came, and whose answers come as they are: `[[pass_through]]`, and the
//! providers by their names.
//!
//! Where a request goes is the operator's to say: of the request itself only what lies below the path is taken, and only
//! where the operator wants that. No key of the gateway's leaves it, and nothing of the connection goes on.

mod booking;
mod door;
mod watch;

use super::body::Chunks;
use super::reply;
use crate::auth::{self, Caller};
use crate::clock::{Alarm, Ring};
use crate::config::pass::{Passage, find, is_of_connection};
use crate::dispatch::stopping;
use crate::error::{Error, Kind, Result};
use crate::gateway::{Live, Worker};
use crate::meter;
use crate::provider::Language;
use crate::route::{Tariff, Transport};
use crate::upstream::{Response, content_length};
use actix_web::body::{BodySize, BodyStream, BoxBody, MessageBody, SizedStream};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, Uri};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
pub use booking::{Booking, Terms};
use bytes::Bytes;
use futures_util::Stream;
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use uuid::Uuid;
use watch::Watch;

/// The longest silence of such an answer.
const SILENCE: Duration = Duration::from_secs(600);
/// LiteLLM's word for it.
pub const CALL_TYPE: &str = "pass_through_endpoint";

/// Whatever no route is for.
pub async fn elsewhere(request: HttpRequest, payload: Payload) -> HttpResponse {
    let id = meter::new_id();
    match begin(&request, payload, id).await {
        None => reply::wrong_path(request).await,
        Some((language, answer)) => {
            let answer = answer.unwrap_or_else(|error| match language {
                // Its clients know their own provider's errors.
                Some(Language::Anthropic) => reply::anthropic_error(&error, &id),
                Some(Language::Gemini) => reply::gemini_error(&error, &id),
                _ => reply::error(&error, &id),
            });
            reply::fit(&request, answer)
        }
    }
}

/// None where nothing is for the path.
async fn begin(request: &HttpRequest, payload: Payload, id: Uuid) -> Option<(Option<Language>, Result<HttpResponse>)> {
    let worker = match reply::worker(request) {
        Ok(worker) => worker.clone(),
        Err(error) => return Some((None, Err(error))),
    };
    let live = worker.gateway.live();
    let path = request.uri().path();
    let path = path.strip_prefix(&*live.config.server.root_path)?;
    if let Some((passage, rest)) = find(&live.config.pass_through, path) {
        return Some((None, pass(request, payload, &worker, &live, (passage, rest), id).await));
    }
    let door = door::find(&live, path)?;
    let language = door.language();
    Some((Some(language), Box::pin(door.pass(request, payload, &worker, &live, id)).await))
}

async fn pass(
    request: &HttpRequest,
    payload: Payload,
    worker: &Rc<Worker>,
    live: &Live,
    (passage, rest): (&Passage, &str),
    id: Uuid,
) -> Result<HttpResponse> {
    let caller = match passage.asks_key {
        true => auth::caller(&worker.gateway, live, request).await?,
        false => Caller::Anonymous,
    };
    let url = passage.url(rest, request.uri().query());
    let url = url.ok_or_else(leads_out)?;
    let chunks = Chunks::new(request, payload, live.config.server.body_limit, &worker.clock)?;
    let terms = Terms {
        endpoint: &passage.path,
        call_type: CALL_TYPE,
        provider: "pass_through",
        api_base: &passage.target,
        model: &passage.path,
        upstream_model: None,
        deployment: None,
        cost_nanos: passage.cost_nanos,
        tariff: Tariff::default(),
        body: None,
        streams: false,
        spends: false,
        is_owed: false,
        routed: None,
    };
    let booking = Booking::open(request, worker, live, &caller, terms, id).await?;
    let mut headers = headers(request.headers(), live);
    for (name, value) in &passage.headers {
        headers.insert(name.clone(), value.clone());
    }
    let (body, fault) = streamed(request.headers(), chunks);
    let onward = Onward {
        transport: &passage.transport,
        authority: &passage.authority,
        method: request.method().clone(),
        url,
        headers,
        body,
        fault,
    };
    send(worker, onward, booking, None).await
}

pub fn leads_out() -> Error {
    Error::invalid("This path leads out of where it may lead.")
}

/// A request as it goes on.
pub struct Onward<'a> {
    pub transport: &'a Transport,
    pub authority: &'a str,
    pub method: Method,
    pub url: Uri,
    pub headers: HeaderMap,
    pub body: BoxBody,
    /// What went wrong with the caller's body, where it is sent as it comes.
    pub fault: Fault,
}

pub type Fault = Rc<RefCell<Option<Error>>>;

/// Sends a request on, and answers with what comes back. A `watch` is told the headers of the answer, and finds out what
/// it used.
///
/// # Errors
/// Whatever went wrong before an answer began; it is booked.
pub async fn send(
    worker: &Rc<Worker>,
    mut onward: Onward<'_>,
    mut booking: Booking,
    watch: Option<fn(&HeaderMap) -> Watch>,
) -> Result<HttpResponse> {
    if let Ok(host) = HeaderValue::from_str(onward.authority) {
        onward.headers.insert(header::HOST, host);
    }
    let is_head = onward.method == Method::HEAD;
    let sending = worker.upstream.raw(onward.transport, onward.method, onward.url, onward.headers, onward.body);
    let sent = tokio::select! {
        biased;
        sent = sending => sent,
        ring = worker.clock.after(SILENCE) => Err(match ring {
            Ring::Late => Error::new(Kind::Timeout, format!("{} did not answer within {SILENCE:?}.", onward.authority)),
            Ring::Ending => stopping(),
        }),
    };
    let response = match sent {
        Ok(response) => response,
        Err(error) => {
            // What went wrong with the caller's body says more than that it could not be sent.
            let error = onward.fault.take().unwrap_or(error);
            booking.settle("failure", error.status().as_u16(), Some(&error.to_string()));
            return Err(error);
        }
    };
    let mut builder = HttpResponse::build(response.status());
    for (name, value) in response.headers().iter().filter(|(name, _)| goes_back(name)) {
        builder.append_header((name.clone(), value.clone()));
    }
    // What it answers is not the gateway's: no browser may take it for a page of this address.
    builder.insert_header((header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")));
    builder.insert_header((header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox")));
    reply::call_id(&mut builder, &booking.id);
    reply::cost(&mut builder, booking.cost());
    let left = content_length(response.headers()).filter(|_| !is_head);
    let watch = watch.filter(|_| response.status().is_success()).map(|of| of(response.headers()));
    let alarm = worker.clock.after(SILENCE);
    Ok(builder.body(Answer { response, booking, watch, left, alarm, heard: Instant::now() }))
}

/// The caller's body on its way, and where it is told what goes wrong with it.
pub fn streamed(headers: &HeaderMap, chunks: Chunks) -> (BoxBody, Fault) {
    let fault = Fault::default();
    let has_body = headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING);
    if !has_body {
        return (BoxBody::new(()), fault);
    }
    let state = (chunks, fault.clone());
    let stream = futures_util::stream::unfold(state, async |(mut chunks, fault)| match chunks.next().await {
        Ok(None) => None,
        Ok(Some(chunk)) => Some((Ok(chunk), (chunks, fault))),
        Err(error) => {
            *fault.borrow_mut() = Some(error);
            Some((Err(std::io::Error::other("the caller's body broke off")), (chunks, fault)))
        }
    });
    let body = match content_length(headers) {
        Some(length) => BoxBody::new(SizedStream::new(length as u64, Box::pin(stream))),
        None => BoxBody::new(BodyStream::new(Box::pin(stream))),
    };
    (body, fault)
}

/// What goes on of the caller's headers: no key, nothing of the connection, nothing that speaks to the gateway.
pub fn headers(of_caller: &HeaderMap, live: &Live) -> HeaderMap {
    let key_header = live.config.server.key_header.as_deref();
    let mut headers = HeaderMap::new();
    for (name, value) in of_caller {
        let holds_key = ["authorization", "api-key", "x-api-key", "x-goog-api-key", "x-litellm-api-key", "cookie"]
            .contains(&name.as_str())
            || key_header == Some(name.as_str());
        let is_ours = ["x-litellm-", "x-gateway-", "x-forwarded-", "x-real-ip", "forwarded", "x-mcp-"]
            .iter()
            .any(|start| name.as_str().starts_with(start));
        if !holds_key && !is_ours && !is_of_connection(name) && name != header::ACCEPT_ENCODING {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

fn goes_back(name: &HeaderName) -> bool {
    !is_of_connection(name)
        && ![header::SET_COOKIE, header::STRICT_TRANSPORT_SECURITY, header::ALT_SVC, header::WWW_AUTHENTICATE]
            .contains(name)
        && !name.as_str().starts_with("access-control-")
        && !name.as_str().starts_with("x-litellm-")
}

/// The answer on its way back.
struct Answer {
    response: Response,
    booking: Booking,
    watch: Option<Watch>,
    /// Bytes that are still to come, where that is said.
    left: Option<usize>,
    alarm: Alarm,
    heard: Instant,
}

impl MessageBody for Answer {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.left.map_or(BodySize::Stream, |left| BodySize::Sized(left as u64))
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::result::Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        let status = this.response.status().as_u16();
        let broken = |this: &mut Self, why: &str| {
            this.booking.settle("failure", 502, Some(why));
            Poll::Ready(Some(Err(why.to_owned().into())))
        };
        match Pin::new(&mut this.response).poll_next(cx) {
            Poll::Ready(Some(Ok(chunk))) => {
                this.heard = Instant::now();
                this.left = this.left.map(|left| left.saturating_sub(chunk.len()));
                if let Some(watch) = &mut this.watch {
                    watch.see(&chunk);
                    this.booking.used(watch.spent.usage);
                    this.booking.saw(watch.tokens());
                }
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(Some(Err(_))) => broken(this, "The answer broke off."),
            Poll::Ready(None) if this.left.is_some_and(|left| left > 0) => broken(this, "The answer broke off."),
            Poll::Ready(None) => {
                if let Some(watch) = &mut this.watch {
                    watch.finish();
                    this.booking.used(watch.spent.usage);
                    this.booking.saw(watch.tokens());
                    this.booking.answered_as(watch.spent.id.take());
                }
                let outcome = if status < 400 { "success" } else { "failure" };
                this.booking.settle(outcome, status, None);
                Poll::Ready(None)
            }
            Poll::Pending => {
                this.alarm.set(this.heard.checked_add(SILENCE));
                match Pin::new(&mut this.alarm).poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Ring::Ending) => broken(this, "The gateway is being stopped."),
                    Poll::Ready(Ring::Late) => broken(this, "The answer stopped coming."),
                }
            }
        }
    }
}
