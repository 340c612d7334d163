//! OpenAI's Realtime API over WebSocket, `GET /v1/realtime?model=`: frames go through in both directions as they come.
//!
//! The caller is checked before a connection upstream is made, and each answer is a call of its own: admitted under the
//! limits when it begins, booked with what the upstream says it used. Whoever leaves ends the other side.

mod link;

use super::files::shelf::query;
use super::files::{Asker, SEGMENT};
use super::pass::{Booking, Terms};
use super::reply;
use crate::auth::access;
use crate::error::{Error, Kind, Result, from_upstream};
use crate::meter;
use crate::provider::credential::Signing;
use crate::provider::{Language, Path};
use crate::route::{Deployment, Target};
use actix_codec::Framed;
use actix_http::ws::{self, Codec};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use awc::BoxedSocket;
use link::Session;
use percent_encoding::utf8_percent_encode;

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
    let (mut last, mut found) = (None, None);
    for deployment in plan.group().deployments.iter() {
        if let Some(why) = &deployment.unserved {
            last = Some(why.clone());
            continue;
        }
        let target = plan.to(deployment);
        // The caller's limits are asked before anybody upstream is.
        let booking = open(request, &asker, &name, &target).await?;
        match dial(request, &asker, &target).await {
            Ok(framed) => {
                found = Some((target, booking, framed));
                break;
            }
            Err(error) => {
                let mut booking = booking;
                booking.settle("failure", error.status().as_u16(), Some(&error.to_string()));
                last = Some(error);
            }
        }
    }
    let Some((target, booking, framed)) = found else {
        return Err(last.unwrap_or_else(|| Error::new(Kind::NotFound, "No deployment serves this model.")));
    };
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
    Ok(Session { request: request.clone(), asker, name, target }.run(answer, payload, framed, booking))
}

/// Opens the row of an answer.
async fn open(request: &HttpRequest, asker: &Asker, name: &str, target: &Target) -> Result<Booking> {
    let deployment = &*target.deployment;
    let terms = Terms {
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
    };
    Booking::open(request, &asker.worker, &asker.live, &asker.caller, terms, meter::new_id()).await
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
