//! Requests that are passed on as they are, to an address of the operator's.

use super::Upstream;
use crate::error::{Error, Kind, Result};
use crate::route::Transport;
use actix_web::body::MessageBody;
use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, Uri};
use awc::ClientResponse;
use awc::error::{ConnectError, SendRequestError};

impl Upstream {
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
    ) -> Result<ClientResponse> {
        let client = self.client(transport).map_err(|e| Error::new(Kind::Internal, e))?;
        let at = url.authority().map(ToString::to_string).unwrap_or_default();
        let mut request = client.request(method, url).no_decompress();
        *request.headers_mut() = headers;
        request.send_body(body).await.map_err(|e| match e {
            SendRequestError::Connect(ConnectError::Timeout) => {
                Error::new(Kind::Unreachable, format!("Could not connect to {at} in time."))
            }
            SendRequestError::Connect(e) => Error::new(Kind::Unreachable, format!("Could not connect to {at}: {e}.")),
            SendRequestError::Body(_) => Error::invalid("The request body could not be passed on to its end."),
            e => Error::new(Kind::Unreachable, format!("{at} did not answer: {e}.")),
        })
    }
}
