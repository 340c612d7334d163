//! `[[pass_through]]`: requests that go on to another API as they came, and its answers as they come.
//!
//! Where a request goes is the operator's to say: of the request itself only what lies below the path is taken, and only
//! where the operator wants that. No key of the gateway's leaves it, and nothing of the connection goes on.

use super::body::Chunks;
use super::{entry, reply};
use crate::auth::{self, Caller};
use crate::clock::{Alarm, Ring};
use crate::config::pass::{Passage, find, is_of_connection};
use crate::dispatch::stopping;
use crate::envelope::Envelope;
use crate::error::{Error, Kind, Result};
use crate::exchange::Face;
use crate::gateway::{Live, Worker};
use crate::ledger::Pen;
use crate::limits::{Asked, Demand, Permit, Worth};
use crate::meter;
use crate::route::Tariff;
use crate::store::{LedgerRow, Settled};
use crate::upstream::content_length;
use crate::usage::Usage;
use actix_web::body::{BodySize, MessageBody, SizedStream};
use actix_web::body::{BodyStream, BoxBody};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use awc::ClientResponse;
use bytes::Bytes;
use futures_util::Stream;
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tracing::{info, warn};
use uuid::Uuid;

/// The longest silence of such an answer.
const SILENCE: Duration = Duration::from_secs(600);
/// LiteLLM's word for it.
const CALL_TYPE: &str = "pass_through_endpoint";

/// Whatever no route is for.
pub async fn elsewhere(request: HttpRequest, payload: Payload) -> HttpResponse {
    let id = meter::new_id();
    match begin(&request, payload, id).await {
        None => reply::wrong_path(request).await,
        Some(answer) => reply::fit(&request, answer.unwrap_or_else(|error| reply::error(&error, &id))),
    }
}

/// None where no passage is for the path.
async fn begin(request: &HttpRequest, payload: Payload, id: Uuid) -> Option<Result<HttpResponse>> {
    let worker = match reply::worker(request) {
        Ok(worker) => worker.clone(),
        Err(error) => return Some(Err(error)),
    };
    let live = worker.gateway.live();
    let path = request.uri().path();
    let path = path.strip_prefix(&*live.config.server.root_path)?;
    let (passage, rest) = find(&live.config.pass_through, path)?;
    Some(pass(request, payload, &worker, &live, (passage, rest), id).await)
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
    let url = url.ok_or_else(|| Error::invalid("This path leads out of where it may lead."))?;
    let chunks = Chunks::new(request, payload, live.config.server.body_limit, &worker.clock)?;
    let mut booking = Booking::open(request, worker, live, &caller, passage, id).await?;
    let fault: Rc<RefCell<Option<Error>>> = Rc::default();
    let body = body(request.headers(), chunks, fault.clone());
    let headers = headers(request.headers(), passage, key_header(live));
    let sending = worker.upstream.raw(&passage.transport, request.method().clone(), url, headers, body);
    let sent = tokio::select! {
        biased;
        sent = sending => sent,
        ring = worker.clock.after(SILENCE) => Err(match ring {
            Ring::Late => Error::new(Kind::Timeout, format!("{} did not answer within {SILENCE:?}.", passage.authority)),
            Ring::Ending => stopping(),
        }),
    };
    let response = match sent {
        Ok(response) => response,
        Err(error) => {
            // What went wrong with the caller's body says more than that it could not be sent.
            let error = fault.take().unwrap_or(error);
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
    reply::call_id(&mut builder, &id);
    if passage.cost_nanos > 0 {
        reply::cost(&mut builder, Some(passage.cost_nanos));
    }
    let left = content_length(response.headers()).filter(|_| request.method() != actix_web::http::Method::HEAD);
    let alarm = worker.clock.after(SILENCE);
    Ok(builder.body(Answer { response, booking, left, alarm, heard: Instant::now() }))
}

/// The caller's body on its way.
fn body(headers: &HeaderMap, chunks: Chunks, fault: Rc<RefCell<Option<Error>>>) -> BoxBody {
    let has_body = headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING);
    if !has_body {
        return BoxBody::new(());
    }
    let stream = futures_util::stream::unfold((chunks, fault), async |(mut chunks, fault)| match chunks.next().await {
        Ok(None) => None,
        Ok(Some(chunk)) => Some((Ok(chunk), (chunks, fault))),
        Err(error) => {
            *fault.borrow_mut() = Some(error);
            Some((Err(std::io::Error::other("the caller's body broke off")), (chunks, fault)))
        }
    });
    match content_length(headers) {
        Some(length) => BoxBody::new(SizedStream::new(length as u64, Box::pin(stream))),
        None => BoxBody::new(BodyStream::new(Box::pin(stream))),
    }
}

/// The header that the operator has chosen for keys.
fn key_header(live: &Live) -> Option<&str> {
    live.config.server.key_header.as_deref()
}

/// What goes on of the caller's headers, and what the operator adds.
fn headers(of_caller: &HeaderMap, passage: &Passage, key_header: Option<&str>) -> HeaderMap {
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
    for (name, value) in &passage.headers {
        headers.insert(name.clone(), value.clone());
    }
    if let Ok(host) = HeaderValue::from_str(&passage.authority) {
        headers.insert(header::HOST, host);
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

/// The row of such a call: opened before it goes on, settled when its answer is over.
struct Booking {
    id: Uuid,
    started: Instant,
    pen: Option<Rc<Pen>>,
    permit: Permit,
    call: Box<Settled>,
    key: String,
    settled: bool,
}

impl Booking {
    /// # Errors
    /// A limit of the caller does not admit it; a 503 where the ledger cannot be written.
    async fn open(
        request: &HttpRequest,
        worker: &Worker,
        live: &Live,
        caller: &Caller,
        passage: &Passage,
        id: Uuid,
    ) -> Result<Booking> {
        // What a request says of itself for the ledger stands in its headers.
        let said = entry::of(request, &Envelope::parse(Bytes::from_static(b"{}"), 2)?, Face::Chat);
        let cost = i64::try_from(passage.cost_nanos).unwrap_or(i64::MAX);
        let mut row = LedgerRow {
            call_type: CALL_TYPE.to_owned(),
            endpoint: passage.path.clone(),
            provider: Some("pass_through".to_owned()),
            api_base: Some(passage.target.clone()),
            cost_nanos: cost,
            other_nanos: cost,
            status: "interrupted".to_owned(),
            ..said
        };
        meter::begin(&mut row, &id, caller, &passage.path);
        let asked = Asked {
            id,
            caller,
            model: &passage.path,
            end_user: row.end_user.as_deref(),
            tags: &row.tags,
            worth: Worth::Known(cost),
            demand: Demand::default(),
            tariff: &Tariff::default(),
            is_strained: false,
        };
        let limits = &worker.gateway.limits;
        let permit = limits.admit(&worker.gateway.database, &live.config.limits, &asked).await?;
        row.reserved_nanos = permit.reserved_nanos();
        row.node = Some(limits.node.clone());
        let call = Settled {
            windows: permit.sums().cloned().collect(),
            reserved: permit.is_stored(),
            row,
            ..Settled::default()
        };
        let key = caller.name().to_owned();
        let mut booking =
            Booking { id, started: Instant::now(), pen: None, permit, call: Box::new(call), key, settled: false };
        if live.config.ledger.enabled {
            let opened = worker.pen.open(&booking.call, live.config.ledger.serve_unaccounted);
            if opened.inspect_err(|_| booking.settled = true)? {
                booking.pen = Some(worker.pen.clone());
            }
        }
        Ok(booking)
    }

    fn settle(&mut self, outcome: &str, status: u16, error: Option<&str>) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let took = self.started.elapsed();
        let row = &mut self.call.row;
        row.ended_at = row.started_at.saturating_add(i64::try_from(took.as_micros()).unwrap_or(i64::MAX));
        outcome.clone_into(&mut row.status);
        row.http_status = Some(i64::from(status));
        if outcome == "failure" {
            (row.cost_nanos, row.other_nanos) = (0, 0);
            row.error_class = Some("pass_through".to_owned());
            row.error = error.map(|error| error.chars().take(1000).collect());
        }
        self.call.reserved = self.permit.settle(&Usage::default(), row.cost_nanos, self.pen.is_some(), false);
        if let Some(pen) = &self.pen {
            pen.settle(&self.call, true);
        }
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let (path, error) = (self.call.row.endpoint.as_str(), error.unwrap_or_default());
        macro_rules! line {
            ($level:ident, $message:expr) => {
                $level!(target: "gateway::request", request_id = %self.id, key = self.key, path, status, duration_ms, outcome, error, "{}", $message)
            };
        }
        if outcome == "failure" { line!(warn, "passing on failed") } else { line!(info, "passed on") }
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        self.settle("cancelled", 499, None);
    }
}

/// The answer on its way back.
struct Answer {
    response: ClientResponse,
    booking: Booking,
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
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(Some(Err(_))) => broken(this, "The answer broke off."),
            Poll::Ready(None) if this.left.is_some_and(|left| left > 0) => broken(this, "The answer broke off."),
            Poll::Ready(None) => {
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
