//! OpenAI's Realtime API over WebSocket, `GET /v1/realtime?model=`: frames go through in both directions as they come.
//!
//! The caller is checked before a connection upstream is made, and each answer is a call of its own: admitted under the
//! limits when it begins, booked with what the upstream says it used. Whoever leaves ends the other side. The deployment is
//! chosen as for any other call, and keeps its slot until the session ends.

mod link;

use super::entry;
use super::files::shelf::query;
use super::files::{Asker, SEGMENT};
use super::pass::{Booking, Terms};
use super::reply;
use crate::auth::access;
use crate::dispatch::{self, Admission, Fault};
use crate::envelope::Envelope;
use crate::error::{Error, Kind, Result, from_upstream};
use crate::limits::Denied;
use crate::meter;
use crate::provider::credential::Signing;
use crate::provider::{Language, Path};
use crate::route::{Deployment, Out, Plan, Question, Target, Tariff};
use actix_codec::Framed;
use actix_http::ws::{self, Codec};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use awc::BoxedSocket;
use bytes::Bytes;
use link::Session;
use percent_encoding::utf8_percent_encode;
use std::time::Instant;

/// LiteLLM's word for it.
const CALL_TYPE: &str = "_arealtime";
/// What browsers offer, who cannot send headers; one of these is chosen.
const PROTOCOL: &str = "realtime";
const BETA_PROTOCOL: &str = "openai-beta.realtime-v1";
const BETA: HeaderName = HeaderName::from_static("openai-beta");
/// Of the query: what is the gateway's to say.
const OURS: &[&str] = &["model", "deployment", "api-version", "key", "api_key", "api-key", "call_id"];

/// `GET /v1/realtime`
pub async fn connect(request: HttpRequest, payload: Payload) -> HttpResponse {
    let started = std::time::Instant::now();
    match Box::pin(begin(&request, payload)).await {
        // Its answers have lines of their own in the log.
        Ok(answer) => answer,
        Err(error) => reply::plain(&request, started, Err(error)),
    }
}

async fn begin(request: &HttpRequest, payload: Payload) -> Result<HttpResponse> {
    let asker = Asker::of(request).await?;
    if let Err(fault) = ws::verify_handshake(request.head()) {
        return Err(Error::invalid(format!("This route is for WebSocket: {fault}.")));
    }
    let model = query(request, "model").or_else(|| query(request, "deployment"));
    let model =
        model.ok_or_else(|| Error::invalid("Missing required parameter: 'model', in the query.").at_param("model"))?;
    let name = access::model(&asker.live, &asker.caller, &model)?.into_owned();
    let plan = asker.live.routes.plan(&name)?;
    let Connected { target, admission, booking, framed } = reach(request, &asker, &name, &plan).await?;
    let mut answer = HttpResponse::SwitchingProtocols();
    answer.upgrade("websocket");
    for (name, value) in ws::handshake_response(request.head()).finish().headers() {
        answer.insert_header((name.clone(), value.clone()));
    }
    if offered(request).any(|protocol| protocol == PROTOCOL) {
        answer.insert_header((header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL)));
    }
    reply::call_id(&mut answer, &asker.id);
    reply::deployment_headers(&mut answer, &target.deployment);
    let session = Session { request: request.clone(), asker, name, target, admission };
    Ok(session.run(answer, payload, framed, booking))
}

/// A deployment that took the session.
struct Connected {
    target: Target,
    admission: Admission,
    booking: Booking,
    framed: Upstream,
}

/// Goes from deployment to deployment until one of them takes the session.
///
/// # Errors
/// Why none of them did, or why the caller may not ask.
async fn reach(request: &HttpRequest, asker: &Asker, name: &str, plan: &Plan) -> Result<Connected> {
    let settings = &asker.live.routes.settings;
    let tags = match settings.tags {
        Some(_) => entry::tags(request.headers(), &Envelope::parse(Bytes::from_static(b"{}"), 2)?, &asker.caller),
        None => Vec::new(),
    };
    let (mut tried, mut refused, mut last) = (Vec::new(), Vec::new(), None);
    loop {
        let question = Question {
            now: Instant::now(),
            settings,
            tried: &tried,
            refused: &refused,
            tags: &tags,
            prompt_tokens: 0,
            streams: true,
            region: None,
            affinity: None,
        };
        let target = match plan.next(&question) {
            Ok(target) => target,
            Err(why) => return Err(last.unwrap_or_else(|| dispatch::nobody(plan, why, 0, &tags))),
        };
        let deployment = target.deployment.clone();
        let admission = match dispatch::admit(settings, &target, &plan.group().queue, (true, 0)) {
            Ok(admission) => admission,
            Err(out) => {
                refused.push((deployment.index, out));
                continue;
            }
        };
        // The caller's limits are asked before anybody upstream is.
        let mut booking = match open(request, asker, name, &target).await {
            Ok(booking) => booking,
            Err(Denied { error, wait: Some(wait) }) => {
                admission.withdraw();
                refused.push((deployment.index, Out::Rate(wait)));
                last.get_or_insert(error);
                continue;
            }
            Err(denied) => return Err(denied.error),
        };
        match dial(request, asker, &target).await {
            Ok(framed) => return Ok(Connected { target, admission, booking, framed }),
            Err(error) => {
                booking.settle("failure", error.status().as_u16(), Some(&error.to_string()));
                let fault = Fault::of(&error);
                dispatch::note(settings, &deployment, fault, &error);
                if !fault.may_go_elsewhere() {
                    return Err(error);
                }
                tried.push(deployment.index);
                refused.clear();
                last = Some(error);
            }
        }
    }
}

/// Opens the row of an answer.
async fn open(
    request: &HttpRequest,
    asker: &Asker,
    name: &str,
    target: &Target,
) -> std::result::Result<Booking, Denied> {
    let said = Booking::said(request)?;
    Booking::open_for(said, &asker.worker, &asker.live, &asker.caller, terms(name, target), meter::new_id()).await
}

/// Opens the row of what was heard, which another model has written down at its own price.
async fn open_heard(request: &HttpRequest, asker: &Asker, name: &str, model: &str, by: &Target) -> Result<Booking> {
    let target = Target::named(by.deployment.clone(), model.to_owned());
    let live = &asker.live;
    let tariff = Tariff::new(live.routes.price_beside(&target.deployment, model, &live.config.prices));
    let terms = Terms { is_owed: true, routed: None, tariff, ..terms(name, &target) };
    let said = Booking::said(request)?;
    Ok(Booking::open_for(said, &asker.worker, &asker.live, &asker.caller, terms, meter::new_id()).await?)
}

fn terms<'a>(name: &'a str, target: &'a Target) -> Terms<'a> {
    let deployment = &*target.deployment;
    Terms {
        endpoint: "/v1/realtime",
        call_type: CALL_TYPE,
        provider: deployment.provider.name,
        api_base: &deployment.api_base,
        model: name,
        upstream_model: Some(target.model()),
        deployment: Some(deployment),
        cost_nanos: 0,
        tariff: target.tariff(),
        body: None,
        streams: true,
        spends: true,
        is_owed: false,
        routed: Some(&target.deployment),
    }
}

/// Connects to the upstream.
async fn dial(request: &HttpRequest, asker: &Asker, target: &Target) -> Result<Framed<BoxedSocket, Codec>> {
    let deployment = &*target.deployment;
    let dialect = target.dialect();
    let path = deployment.place.path(dialect);
    if dialect.language != Language::OpenAi || !(path == Path::OWN || path == Path::AzureDeployment) {
        let message = format!("The provider '{}' has no Realtime API in OpenAI's format.", deployment.provider.name);
        return Err(Error::new(Kind::NotServed, message));
    }
    let url = url(deployment, target, request.query_string());
    let mut headers = HeaderMap::new();
    let is_beta = offered(request).any(|protocol| protocol == BETA_PROTOCOL);
    let beta = request.headers().get(BETA).cloned();
    if let Some(beta) = beta.or(is_beta.then_some(HeaderValue::from_static("realtime=v1"))) {
        headers.insert(BETA, beta);
    }
    if let Some(safety) = request.headers().get("openai-safety-identifier") {
        headers.insert(HeaderName::from_static("openai-safety-identifier"), safety.clone());
    }
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("gateway/", env!("CARGO_PKG_VERSION"))));
    for (name, value) in dialect.headers {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    for (name, value) in &deployment.headers {
        headers.insert(name.clone(), value.clone());
    }
    let auth = deployment.place.auth.unwrap_or(dialect.auth);
    asker.worker.upstream.show(deployment, auth, &Signing::default(), &mut headers).await?;
    let opened = asker.worker.upstream.socket(&deployment.transport, url, headers, link::MOST_FRAME).await?;
    opened.map_err(|status| from_upstream(&deployment.origin, status, b""))
}

/// Where the upstream is asked. The caller's query goes on, but for what is the gateway's.
fn url(deployment: &Deployment, target: &Target, of_caller: &str) -> String {
    let dialect = target.dialect();
    let mut url = deployment.place.beside(dialect, "realtime");
    let name = if deployment.place.path(dialect) == Path::AzureDeployment { "deployment" } else { "model" };
    let model = utf8_percent_encode(target.model(), SEGMENT);
    url += &format!("{}{name}={model}", if url.contains('?') { '&' } else { '?' });
    for pair in of_caller.split('&').filter(|pair| !pair.is_empty()) {
        let name = percent_encoding::percent_decode_str(pair.split('=').next().unwrap_or_default()).decode_utf8_lossy();
        if !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
            url.push('&');
            url += pair;
        }
    }
    url
}

/// The protocols that the client offers.
fn offered(request: &HttpRequest) -> impl Iterator<Item = &str> {
    let lists = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    lists.filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(',')).map(str::trim)
}

/// What was connected, shared with the session.
pub(super) type Upstream = Framed<BoxedSocket, Codec>;
