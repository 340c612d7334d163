//! Predictions of Replicate: asked for by one request, and watched by others until they have ended.
//!
//! Whoever waits has a time limit. Where nobody waits any more, the prediction is canceled: it would go on, and cost.

use super::{Response, Upstream, gather, refused, unsent};
use crate::error::{Error, Kind, Result};
use crate::provider::replicate::{self, Prediction};
use crate::route::{Deployment, Target, Transport};
use actix_web::error::PayloadError;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode, Uri};
use actix_web::rt;
use awc::Client;
use bytes::Bytes;
use futures_util::Stream;
use secrecy::ExposeSecret;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::oneshot;

/// A prediction is looked at so soon, and each time later, up to the second.
const FIRST_LOOK: Duration = Duration::from_millis(250);
const LATEST_LOOK: Duration = Duration::from_secs(2);
/// More of a prediction than this is no text.
const MAX_PREDICTION: usize = 32 << 20;
/// Hosts that streams come from.
const HOSTS: &[&str] = &["replicate.com", "replicate.net", "replicate.delivery"];

/// What a request for a prediction says of waiting: for an answer in one piece Replicate itself waits, up to a minute; and
/// a prediction that is forgotten ends by itself.
pub fn patience(deployment: &Deployment, streams: bool, headers: &mut HeaderMap) {
    if !streams {
        headers.insert(HeaderName::from_static("prefer"), HeaderValue::from_static("wait"));
    }
    let seconds = deployment.timeouts.whole.as_secs().clamp(5, 86_400);
    if let Ok(limit) = HeaderValue::from_str(&format!("{seconds}s")) {
        headers.insert(HeaderName::from_static("cancel-after"), limit);
    }
}

/// A prediction on its way.
struct Running {
    client: Client,
    /// Its own address.
    url: String,
    key: Option<(HeaderName, HeaderValue)>,
    /// Tells whoever would cancel it that it has ended. Dropped with the rest, it tells that nobody waits any more.
    ended: Option<oneshot::Sender<()>>,
}

impl Running {
    fn new(client: Client, url: String, key: Option<(HeaderName, HeaderValue)>) -> Self {
        let (ended, forgotten) = oneshot::channel();
        let cancel = ask(&client, Method::POST, &format!("{url}/cancel"), key.as_ref());
        rt::spawn(async move {
            if forgotten.await.is_err() {
                drop(cancel.send().await);
            }
        });
        Running { client, url, key, ended: Some(ended) }
    }

    fn has_ended(&mut self) {
        if let Some(ended) = self.ended.take() {
            // Whoever would listen has left with the worker.
            let _ = ended.send(());
        }
    }

    fn ask(&self, method: Method, url: &str) -> awc::ClientRequest {
        ask(&self.client, method, url, self.key.as_ref())
    }
}

fn ask(client: &Client, method: Method, url: &str, key: Option<&(HeaderName, HeaderValue)>) -> awc::ClientRequest {
    let mut request = client.request(method, url).no_decompress();
    let headers = request.headers_mut();
    headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("gateway/", env!("CARGO_PKG_VERSION"))));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some((name, value)) = key {
        headers.insert(name.clone(), value.clone());
    }
    request
}

impl Upstream {
    /// Waits for the end of the prediction that this answer tells of, or for its stream.
    ///
    /// # Errors
    /// It cannot be watched.
    pub(super) async fn predicted(
        &self,
        target: &Target,
        turn: usize,
        response: Response,
        streams: bool,
    ) -> Result<Response> {
        let deployment = &*target.deployment;
        let (body, mut prediction) = read(response, deployment).await?;
        if prediction.has_ended() {
            return Ok(ended(body, &prediction, streams));
        }
        if !prediction.has_id() {
            let message = format!("The answer of '{}' is no prediction; check api_base.", deployment.provider.name);
            return Err(Error::new(Kind::Garbled, message));
        }
        let auth = deployment.place.auth.unwrap_or(target.dialect().auth);
        let key = deployment.keys.get(turn).and_then(|key| auth.header(key.expose_secret()));
        let client = self.client(&deployment.transport).map_err(|e| Error::new(Kind::Internal, e))?;
        let url = format!("{}/predictions/{}", deployment.place.base, prediction.id);
        let mut running = Running::new(client, url, key);
        if streams && let Some(transport) = prediction.stream().and_then(|url| reachable(url, deployment)) {
            let client = self.client(&transport).map_err(|e| Error::new(Kind::Internal, e))?;
            let request = ask(&client, Method::GET, prediction.stream().unwrap_or_default(), running.key.as_ref());
            let request = request.insert_header((header::ACCEPT, "text/event-stream"));
            let mut response = Response::from(request.send().await.map_err(|e| unsent(deployment, &e))?);
            if response.status() != StatusCode::OK {
                return Err(Box::pin(refused(target, response)).await);
            }
            let headers = response.take_headers();
            return Ok(Response::flowing(headers, Box::pin(Watched { response, running })));
        }
        let mut pause = FIRST_LOOK;
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LATEST_LOOK);
            let request = running.ask(Method::GET, &running.url);
            let response = Response::from(request.send().await.map_err(|e| unsent(deployment, &e))?);
            if response.status() != StatusCode::OK {
                return Err(Box::pin(refused(target, response)).await);
            }
            let (body, now) = read(response, deployment).await?;
            prediction = now;
            if prediction.has_ended() {
                running.has_ended();
                return Ok(ended(body, &prediction, streams));
            }
        }
    }
}

async fn read(response: Response, deployment: &Deployment) -> Result<(Bytes, Prediction)> {
    let body = gather(response, MAX_PREDICTION, deployment).await?;
    let prediction = serde_json::from_slice(&body).map_err(|_| {
        let message = format!("The answer of '{}' is no prediction; check api_base.", deployment.provider.name);
        Error::new(Kind::Garbled, message)
    })?;
    Ok((body, prediction))
}

/// The answer that a prediction which has ended is.
fn ended(body: Bytes, prediction: &Prediction, streams: bool) -> Response {
    let (kind, body) = match streams {
        true => ("text/event-stream", replicate::events(prediction).into()),
        false => ("application/json", body),
    };
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
    Response::made(headers, body)
}

/// How the address of a stream is reached, where it is one that may be asked: the operator's own, or Replicate's. It
/// comes from an answer, and the key goes along.
fn reachable(url: &str, deployment: &Deployment) -> Option<Transport> {
    let url: Uri = url.parse().ok()?;
    let own = &deployment.calls;
    if url.scheme() == own.scheme() && url.authority() == own.authority() {
        return Some(deployment.transport.clone());
    }
    let host = url.host()?.to_ascii_lowercase();
    let is_replicates =
        HOSTS.iter().any(|known| host.strip_suffix(known).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
    let is_plain = url.authority().is_some_and(|a| !a.as_str().contains('@')) && url.port().is_none();
    (url.scheme_str() == Some("https") && is_replicates && is_plain).then(|| Transport {
        tls: true,
        socket: None,
        ..deployment.transport.clone()
    })
}

/// A stream whose prediction ends with it.
struct Watched {
    response: Response,
    running: Running,
}

impl Stream for Watched {
    type Item = std::result::Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = ready!(Pin::new(&mut this.response).poll_next(cx));
        if next.is_none() {
            this.running.has_ended();
        }
        Poll::Ready(next)
    }
}
