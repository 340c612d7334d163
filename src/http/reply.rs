//! Answers: their headers, their errors, and the line in the log for those that are not calls.

use super::explain::{self, EXPLAIN};
use crate::error::{Error, Kind, Result};
use crate::exchange::Face;
use crate::gateway::Worker;
use crate::meter::{Attempts, Meter};
use crate::price::usd_text;
use crate::route::Deployment;
use crate::wire::{gemini, messages};
use actix_http::ConnectionType;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{ALLOW, CONNECTION, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{StatusCode, Version};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};
use uuid::Uuid;

const CALL_ID: HeaderName = HeaderName::from_static("x-litellm-call-id");
const MODEL_ID: HeaderName = HeaderName::from_static("x-litellm-model-id");
const MODEL_GROUP: HeaderName = HeaderName::from_static("x-litellm-model-group");
const API_BASE: HeaderName = HeaderName::from_static("x-litellm-model-api-base");
const REGION: HeaderName = HeaderName::from_static("x-litellm-model-region");
const VERSION: HeaderName = HeaderName::from_static("x-litellm-version");
const RESPONSE_MS: HeaderName = HeaderName::from_static("x-litellm-response-duration-ms");
const OVERHEAD_MS: HeaderName = HeaderName::from_static("x-litellm-overhead-duration-ms");
const COST: HeaderName = HeaderName::from_static("x-litellm-response-cost");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const RETRIES: HeaderName = HeaderName::from_static("x-litellm-attempted-retries");
const FALLBACKS: HeaderName = HeaderName::from_static("x-litellm-attempted-fallbacks");

/// The worker's state.
///
/// # Errors
/// Never, unless the application was put together wrongly.
pub fn worker(request: &HttpRequest) -> Result<&Rc<Worker>> {
    request.app_data::<Rc<Worker>>().ok_or_else(|| Error::new(Kind::Internal, "The worker has no state."))
}

/// A part of the path, decoded. The router leaves `%2F` as it is, so that it does not divide a part.
pub fn path_part<'a>(request: &'a HttpRequest, name: &str) -> Option<Cow<'a, str>> {
    let raw = request.match_info().get(name)?;
    percent_encoding::percent_decode_str(raw).decode_utf8().ok()
}

/// A number of milliseconds with three decimals, as a header value.
fn millis(duration: Duration) -> HeaderValue {
    let micros = duration.as_micros();
    let mut text = Vec::with_capacity(16);
    // Writing to a vector does not fail.
    let _ = write!(text, "{}.{:03}", micros / 1000, micros % 1000);
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("0"))
}

/// The id of a call, as a header value.
pub fn call_id(builder: &mut HttpResponseBuilder, id: &Uuid) {
    let mut buffer = Uuid::encode_buffer();
    if let Ok(value) = HeaderValue::from_str(id.as_hyphenated().encode_lower(&mut buffer)) {
        builder.insert_header((CALL_ID, value));
    }
    builder.insert_header((VERSION, HeaderValue::from_static(env!("CARGO_PKG_VERSION"))));
}

/// The headers of a call that is answered, after how long, and how much of that upstreams were waited for.
pub fn call_headers(
    builder: &mut HttpResponseBuilder,
    id: &Uuid,
    attempts: Attempts,
    group: HeaderValue,
    (total, upstream): (Duration, Duration),
) {
    call_id(builder, id);
    builder
        .insert_header((MODEL_GROUP, group))
        .insert_header((RESPONSE_MS, millis(total)))
        .insert_header((OVERHEAD_MS, millis(total.saturating_sub(upstream))))
        .insert_header((RETRIES, count(attempts.retries)))
        .insert_header((FALLBACKS, count(attempts.fallbacks)));
}

/// The headers that say which deployment answers.
pub fn deployment_headers(builder: &mut HttpResponseBuilder, deployment: &Deployment) {
    builder
        .insert_header((MODEL_ID, deployment.labels.id.clone()))
        .insert_header((API_BASE, deployment.labels.api_base.clone()));
    if let Some(region) = &deployment.labels.region {
        builder.insert_header((REGION, region.clone()));
    }
}

/// A failure with what is to be known of its call: the name that was asked for, how often it was tried, and the
/// deployment that was asked last.
pub fn of_call(error: Error, meter: &Meter, group: HeaderValue, explains: bool) -> Error {
    let attempts = meter.attempts();
    let mut headers =
        vec![(MODEL_GROUP, group), (RETRIES, count(attempts.retries)), (FALLBACKS, count(attempts.fallbacks))];
    if let Some(deployment) = meter.deployment() {
        headers.push((MODEL_ID, deployment.labels.id.clone()));
        headers.push((API_BASE, deployment.labels.api_base.clone()));
    }
    if explains {
        headers.push((EXPLAIN, explain::header(&meter.id, meter.trace.steps())));
    }
    error.with_headers(headers)
}

fn count(count: u32) -> HeaderValue {
    match count {
        0 => HeaderValue::from_static("0"),
        many => HeaderValue::from(many),
    }
}

/// The cost of the call in dollars, where it is known.
pub fn cost(builder: &mut HttpResponseBuilder, nanos: Option<u64>) {
    if let Some(value) = nanos.and_then(|nanos| HeaderValue::from_str(&usd_text(nanos)).ok()) {
        builder.insert_header((COST, value));
    }
}

/// What is left of the caller's limits. They go before those of the upstream.
pub fn limits(builder: &mut HttpResponseBuilder, meter: &Meter) {
    meter.tell_limits(|name, value| {
        builder.insert_header((name, value));
    });
}

/// The id of a call as Anthropic's clients know it.
pub fn request_id(id: &Uuid) -> String {
    format!("req_{}", id.simple())
}

/// The header by which Anthropic's clients find a call again.
pub fn anthropic_id(builder: &mut HttpResponseBuilder, face: Face, id: &Uuid) {
    if face == Face::Messages {
        builder.insert_header((REQUEST_ID, request_id(id)));
    }
}

/// The upstream's own headers, under a prefix so that none of them means anything to the connection. Headers that hold
/// a key stay here: an upstream that echoes its request would hand out the gateway's.
pub fn upstream_headers(builder: &mut HttpResponseBuilder, upstream: &HeaderMap) {
    for (name, value) in upstream {
        match name.as_str() {
            "connection"
            | "keep-alive"
            | "transfer-encoding"
            | "content-length"
            | "content-encoding"
            | "upgrade"
            | "trailer"
            | "te"
            | "authorization"
            | "proxy-authorization"
            | "x-api-key"
            | "api-key"
            | "x-goog-api-key"
            | "set-cookie"
            | "set-cookie2"
            | "www-authenticate"
            | "proxy-authenticate"
            | "alt-svc"
            | "strict-transport-security" => continue,
            name if name.starts_with("x-ratelimit-") || name.starts_with("anthropic-ratelimit-") => {
                builder.insert_header((name, value.clone()));
            }
            _ => (),
        }
        if let Some(name) = prefixed(name) {
            builder.append_header((name, value.clone()));
        }
    }
}

/// `llm_provider-` and the name. Upstreams send the same few names again and again.
fn prefixed(name: &HeaderName) -> Option<HeaderName> {
    const MOST: usize = 256;
    thread_local! {
        static KNOWN: RefCell<HashMap<HeaderName, HeaderName>> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|known| {
        if let Some(prefixed) = known.get(name) {
            return Some(prefixed.clone());
        }
        let prefixed = HeaderName::try_from(format!("llm_provider-{name}")).ok()?;
        if known.len() < MOST {
            known.insert(name.clone(), prefixed.clone());
        }
        Some(prefixed)
    })
}

/// The answer to a call that failed before anything was sent.
pub fn error(error: &Error, id: &Uuid) -> HttpResponse {
    error_of(error, id, error.status()).json(error.body())
}

/// As [`error`], for a client of Anthropic's API.
pub fn anthropic_error(error: &Error, id: &Uuid) -> HttpResponse {
    let request_id = request_id(id);
    let mut builder = error_of(error, id, error.status_for_anthropic());
    builder.insert_header((REQUEST_ID, request_id.as_str()));
    builder.json(messages::error_body(error, &request_id))
}

/// As [`error`], for a client of Google's API.
pub fn gemini_error(error: &Error, id: &Uuid) -> HttpResponse {
    error_of(error, id, error.status()).json(gemini::error_body(error))
}

fn error_of(error: &Error, id: &Uuid, status: StatusCode) -> HttpResponseBuilder {
    let mut builder = HttpResponse::build(status);
    call_id(&mut builder, id);
    for (name, value) in error.headers() {
        builder.insert_header((name.clone(), value.clone()));
    }
    if let Kind::TooLarge | Kind::SlowRequest | Kind::Stopping = error.kind {
        // The rest of the body is not read, so the connection cannot go on.
        builder.insert_header((CONNECTION, HeaderValue::from_static("close")));
    }
    builder
}

/// Makes an answer fit its connection: while the gateway drains each answer is a connection's last one, and HTTP/1.0
/// knows no chunks, so that there the end of the connection is the end of a stream.
pub fn fit(request: &HttpRequest, mut answer: HttpResponse) -> HttpResponse {
    let old = request.version() < Version::HTTP_11;
    let last = worker(request).is_ok_and(|worker| worker.gateway.ending.is_draining());
    if old && answer.body().size() == BodySize::Stream {
        answer.head_mut().no_chunking(true);
        answer.head_mut().set_connection_type(ConnectionType::Close);
    }
    if last {
        answer.head_mut().set_connection_type(ConnectionType::Close);
    }
    answer
}

/// The answer of a route that is not a call, with its line in the log.
pub fn plain(request: &HttpRequest, started: Instant, result: Result<HttpResponse>) -> HttpResponse {
    let id = crate::meter::new_id();
    plain_as(request, started, id, result.unwrap_or_else(|e| error(&e, &id)))
}

/// As [`plain`], for an answer that is made already.
pub fn plain_as(request: &HttpRequest, started: Instant, id: Uuid, response: HttpResponse) -> HttpResponse {
    tracing::info!(
        target: "gateway::request",
        request_id = %id,
        method = %request.method(),
        route = request.match_pattern().unwrap_or_default(),
        status = response.status().as_u16(),
        duration_ms = started.elapsed().as_millis() as u64,
        "request served"
    );
    fit(request, response)
}

/// No such route.
pub async fn wrong_path(request: HttpRequest) -> HttpResponse {
    let path = crate::envelope::shorten(request.path());
    let nearest = crate::pattern::nearest(request.path(), super::all().map(|(_, path)| path));
    let hint = nearest.map_or(String::new(), |near| format!(" Did you mean {near}?"));
    let message = format!("There is no route {} {path}.{hint} GET /routes lists what is served.", request.method());
    plain(&request, Instant::now(), Err(Error::new(Kind::NotFound, message)))
}

/// The route is there, under other methods.
pub async fn wrong_method(request: HttpRequest) -> HttpResponse {
    let path = request.match_pattern().unwrap_or_default();
    let allowed = methods(&path);
    let message = format!("{} is not served here; this route takes {allowed}.", request.method());
    let (started, id, error) = (Instant::now(), crate::meter::new_id(), Error::new(Kind::MethodNotAllowed, message));
    let is_anthropics = path.contains("/messages");
    let told = if is_anthropics { anthropic_error(&error, &id) } else { self::error(&error, &id) };
    let mut response = plain_as(&request, started, id, told);
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}

/// The methods of the route of this pattern, which begins with the root that the operator puts before it.
fn methods(pattern: &str) -> String {
    let pattern = pattern.replace(":.+}", "}");
    let route = super::all().map(|(_, route)| route).filter(|route| pattern.ends_with(route)).max_by_key(|r| r.len());
    let mut methods: Vec<&str> = Vec::new();
    for (method, _) in super::all().filter(|(_, other)| Some(*other) == route) {
        let with_head: &[&str] = if method == "GET" { &["GET", "HEAD"] } else { &[method] };
        methods.extend(with_head.iter().filter(|method| !methods.contains(method)).copied().collect::<Vec<_>>());
    }
    methods.join(", ")
}

#[cfg(test)]
mod tests {
    use super::methods;

    #[test]
    fn a_route_names_all_its_methods() {
        for (pattern, expected) in [
            ("/v1/chat/completions", "POST"),
            ("/house/v1/access_group/{id:.+}", "GET, HEAD, PUT, DELETE"),
            ("/credentials", "POST, GET, HEAD"),
            ("/credentials/{id:.+}", "PATCH, DELETE"),
            ("/key/info", "GET, HEAD"),
            ("/v2/key/info", "POST"),
        ] {
            assert_eq!(methods(pattern), expected, "{pattern}");
        }
    }
}
