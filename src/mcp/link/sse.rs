//! The old HTTP transport (2024-11-05): one stream of events from the server, and a POST for each message to it.

use super::Fault;
use super::http::{Http, Reader, unsent};
use super::pipe::{Outgoing, Pipe, Waiting};
use crate::mcp::rpc::Message;
use actix_web::http::Uri;
use awc::ClientResponse;
use std::rc::Rc;
use std::time::Duration;

/// How long the first event may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens the stream at `http`'s address.
///
/// # Errors
/// There is none, or it says to post somewhere else.
pub async fn open(http: Rc<Http>) -> Result<Pipe, Fault> {
    let mut response = http.listen_old().await?;
    let mut events = Reader::new(http.limit);
    let first = async {
        loop {
            match events.next(&mut response).await? {
                None => return Err(Fault::Broken("its stream ended before it said where to post".to_owned())),
                Some(_) => {
                    if let Some(endpoint) = events.endpoint() {
                        return Ok(endpoint);
                    }
                }
            }
        }
    };
    let endpoint = tokio::time::timeout(PATIENCE, first).await.map_err(|_| Fault::Late(PATIENCE))??;
    let endpoint = resolve(&http.url, &endpoint)
        .ok_or_else(|| Fault::Broken("it says to post to another server, which is not done".to_owned()))?;
    let waiting = Rc::new(Waiting::default());
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let (pipe, outgoing) = Pipe::new(waiting.clone(), Box::new(end));
    actix_web::rt::spawn(post(http, endpoint, outgoing));
    let answers = pipe.out.downgrade();
    actix_web::rt::spawn(async move {
        let reading = read(&mut response, &mut events, &waiting, answers);
        // Dropping the response closes the connection, which ends the session.
        tokio::select! {
            why = reading => waiting.end(&why),
            _ = ended => waiting.end("the connection was given up"),
        }
    });
    Ok(pipe)
}

async fn read(
    response: &mut ClientResponse,
    events: &mut Reader,
    waiting: &Waiting,
    answers: tokio::sync::mpsc::WeakSender<(Message, tokio::sync::oneshot::Sender<Result<(), Fault>>)>,
) -> String {
    loop {
        let message = match events.next(response).await {
            Ok(Some(message)) => message,
            Ok(None) => return "its stream has ended".to_owned(),
            Err(fault) => return fault.to_string(),
        };
        if let Some(answer) = waiting.take_in(message)
            && let Some(out) = answers.upgrade()
        {
            let (sent, _) = tokio::sync::oneshot::channel();
            let _ = out.send((answer, sent)).await;
        }
    }
}

/// Messages may overtake each other, since each is a request of its own.
async fn post(http: Rc<Http>, endpoint: Uri, mut outgoing: Outgoing) {
    while let Some((message, sent)) = outgoing.recv().await {
        let (http, endpoint) = (http.clone(), endpoint.clone());
        actix_web::rt::spawn(async move {
            let _ = sent.send(http.post_to(endpoint, message).await);
        });
    }
}

/// The address to post to, if it is at the same server.
fn resolve(stream: &Uri, endpoint: &str) -> Option<Uri> {
    let origin = format!("{}://{}", stream.scheme_str()?, stream.authority()?);
    let text = match endpoint.parse::<Uri>() {
        Ok(uri) if uri.scheme().is_some() => endpoint.to_owned(),
        _ if endpoint.starts_with("//") => return None,
        _ if endpoint.starts_with('/') => format!("{origin}{endpoint}"),
        _ if endpoint.starts_with('?') => format!("{origin}{}{endpoint}", stream.path()),
        _ => {
            let folder = stream.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{origin}{folder}/{endpoint}")
        }
    };
    let uri: Uri = text.parse().ok()?;
    let is_same = uri.scheme() == stream.scheme()
        && uri.host().zip(stream.host()).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
        && port(&uri) == port(stream);
    is_same.then_some(uri)
}

fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 })
}

impl Http {
    async fn listen_old(&self) -> Result<ClientResponse, Fault> {
        use actix_web::http::header::{ACCEPT, HeaderValue};
        let mut request = self.client.get(self.url.clone()).no_decompress();
        self.dress(&mut request, None).await?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        let response = request.send().await.map_err(|e| unsent(&e))?;
        match response.status().as_u16() {
            200 if super::http::is_stream(response.headers()) => Ok(response),
            200 => Err(Fault::Broken("its address gives no stream of events".to_owned())),
            status @ (401 | 403) => Err(Fault::Refused(status)),
            status => Err(Fault::Status(status)),
        }
    }

    async fn post_to(&self, endpoint: Uri, message: Message) -> Result<(), Fault> {
        let mut request = self.client.post(endpoint).no_decompress();
        self.dress(&mut request, None).await?;
        request = request.insert_header(("content-type", "application/json"));
        let response = request.send_body(message.value().to_string()).await.map_err(|e| unsent(&e))?;
        match response.status().as_u16() {
            200..300 => Ok(()),
            404 => Err(Fault::Gone),
            status @ (401 | 403) => Err(Fault::Refused(status)),
            status => Err(Fault::Status(status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_the_same_server_alone() {
        let at = |endpoint: &str| {
            let stream: Uri = "http://ha:8123/mcp_server/sse".parse().unwrap();
            resolve(&stream, endpoint).map(|uri| uri.to_string())
        };
        assert_eq!(at("/mcp_server/messages/1").unwrap(), "http://ha:8123/mcp_server/messages/1");
        assert_eq!(at("messages?s=1").unwrap(), "http://ha:8123/mcp_server/messages?s=1");
        assert_eq!(at("?s=1").unwrap(), "http://ha:8123/mcp_server/sse?s=1");
        assert_eq!(at("http://HA:8123/x").unwrap(), "http://HA:8123/x");
        for other in ["http://ha:8124/x", "https://ha:8123/x", "//evil/x", "http://evil/x", "http://ha:8123@evil/x"] {
            assert_eq!(at(other), None, "{other}");
        }
    }
}
