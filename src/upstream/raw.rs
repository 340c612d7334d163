//! Requests that are passed on as they are, to an address of the operator's.

use super::{Response, Upstream};
use crate::error::{Error, Kind, Result};
use crate::provider::Auth;
use crate::provider::credential::Signing;
use crate::route::{Deployment, Transport};
use actix_codec::Framed;
use actix_http::ws::Codec;
use actix_web::body::MessageBody;
use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, StatusCode, Uri};
use awc::BoxedSocket;
use awc::error::{ConnectError, SendRequestError, WsClientError};
use secrecy::ExposeSecret;
use std::sync::atomic::Ordering;

impl Upstream {
    /// Adds the headers that show a deployment's credential with this request, each of its keys in turn.
    ///
    /// # Errors
    /// It cannot be got, or cannot stand in a header.
    pub async fn show(
        &self,
        deployment: &Deployment,
        auth: Auth,
        signing: &Signing<'_>,
        headers: &mut HeaderMap,
    ) -> Result<()> {
        let turn = match deployment.keys.len() {
            0 | 1 => 0,
            many => deployment.next_key.fetch_add(1, Ordering::Relaxed) % many,
        };
        self.show_key(deployment, turn, auth, signing, headers).await
    }

    /// The same with the first key: what lies in an account is found with the key that put it there.
    ///
    /// # Errors
    /// As [`Upstream::show`].
    pub async fn show_first(
        &self,
        deployment: &Deployment,
        auth: Auth,
        signing: &Signing<'_>,
        headers: &mut HeaderMap,
    ) -> Result<()> {
        self.show_key(deployment, 0, auth, signing, headers).await
    }

    async fn show_key(
        &self,
        deployment: &Deployment,
        turn: usize,
        auth: Auth,
        signing: &Signing<'_>,
        headers: &mut HeaderMap,
    ) -> Result<()> {
        let provider = deployment.provider.name;
        if let Some(credential) = &deployment.credential {
            return Box::pin(credential.sign(self, provider, signing, headers)).await;
        }
        if let Some(key) = deployment.keys.get(turn) {
            let (name, value) = auth.header(key.expose_secret()).ok_or_else(|| {
                let message = format!("The key for '{provider}' holds characters that cannot stand in a header.");
                Error::new(Kind::Internal, message)
            })?;
            headers.insert(name, value);
        }
        Ok(())
    }

    /// Opens a WebSocket, whose frames are at most so large.
    ///
    /// # Errors
    /// It could not be asked for; the inner error is the status of another answer than was asked for.
    pub async fn socket(
        &self,
        transport: &Transport,
        url: String,
        headers: HeaderMap,
        most: usize,
    ) -> Result<std::result::Result<Framed<BoxedSocket, Codec>, StatusCode>> {
        let client = self.client(transport).map_err(|e| Error::new(Kind::Internal, e))?;
        let mut request = client.ws(url).max_frame_size(most);
        for (name, value) in headers {
            request = request.set_header(name, value);
        }
        match request.connect().await {
            Ok((_, framed)) => Ok(Ok(framed)),
            Err(WsClientError::InvalidResponseStatus(status)) => Ok(Err(status)),
            Err(e) => Err(Error::new(Kind::Unreachable, format!("The upstream opens no WebSocket: {e}."))),
        }
    }

    /// Sends a request and waits for the head of its answer, whatever it is.
    ///
    /// # Errors
    /// It could not be sent, or nothing came back.
    pub async fn raw(
        &self,
        transport: &Transport,
        method: Method,
        url: Uri,
        headers: HeaderMap,
        body: impl MessageBody + 'static,
    ) -> Result<Response> {
        let client = self.client(transport).map_err(|e| Error::new(Kind::Internal, e))?;
        let at = url.authority().map(ToString::to_string).unwrap_or_default();
        let mut request = client.request(method, url).no_decompress();
        *request.headers_mut() = headers;
        let response = request.send_body(body).await.map_err(|e| match e {
            SendRequestError::Connect(ConnectError::Timeout) => {
                Error::new(Kind::Unreachable, format!("Could not connect to {at} in time."))
            }
            SendRequestError::Connect(e) => Error::new(Kind::Unreachable, format!("Could not connect to {at}: {e}.")),
            SendRequestError::Body(_) => Error::invalid("The request body could not be passed on to its end."),
            e => Error::new(Kind::Unreachable, format!("{at} did not answer: {e}.")),
        })?;
        Ok(response.into())
    }
}
