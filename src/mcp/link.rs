//! How one server is spoken to: requests by HTTP, or messages through a pipe.

pub mod http;
pub mod pipe;
pub mod program;
pub mod sse;
pub mod token;

use super::questions::Notes;
use super::rpc::{Message, Revision, RpcError};
use actix_web::http::header::{HeaderName, HeaderValue};
use serde_json::Value;
use std::time::Duration;

/// Why a server has given no result.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// What was asked for is sure not to have been done: no connection, or nobody at this path.
    Unreached(String),
    /// The server has forgotten the session; nothing was done.
    Gone,
    /// It answers with this status alone; of these, 404 and 405 say that nobody has read the message.
    Status(u16),
    /// The server does not accept the gateway's credential, by this status.
    Refused(u16),
    /// An error of the protocol, in the server's words.
    Rpc(RpcError),
    Late(Duration),
    /// It broke off, or made no sense.
    Broken(String),
    TooLarge(usize),
    /// Nobody waits for the answer any more, or the gateway ends.
    Dropped,
}

impl Fault {
    /// Whether it cannot have been carried out, so that it may be sent again.
    pub fn is_undone(&self) -> bool {
        matches!(self, Fault::Unreached(_) | Fault::Gone | Fault::Status(404 | 405))
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Unreached(why) => write!(f, "it cannot be reached: {why}"),
            Fault::Gone => f.write_str("it has forgotten the session"),
            Fault::Status(404) => f.write_str("there is nothing at its address (404)"),
            Fault::Status(status) => write!(f, "it answers with the status {status}"),
            Fault::Refused(status) => {
                write!(f, "it refuses the gateway's credential ({status}); check auth_type and auth_value")
            }
            Fault::Rpc(error) => write!(f, "{} ({})", error.message, error.code),
            Fault::Late(limit) => write!(f, "it did not answer within {limit:?}"),
            Fault::Broken(why) => f.write_str(why),
            Fault::TooLarge(limit) => write!(f, "its answer is larger than {limit} bytes (answer_limit)"),
            Fault::Dropped => f.write_str("the gateway is about to end"),
        }
    }
}

/// A request to a server.
pub struct Ask<'a> {
    pub id: u64,
    pub method: &'a str,
    pub params: Value,
    /// Of this request alone.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub revision: Option<Revision>,
    /// Hears what the server says before it answers.
    pub hear: std::rc::Rc<dyn Fn(Message)>,
    /// Is asked what the server asks meanwhile.
    pub asked: Option<Notes>,
}

/// The way to a server.
pub enum Link {
    Http(http::Http),
    Pipe(pipe::Pipe),
}

impl Link {
    /// # Errors
    /// Why there is no result.
    pub async fn ask(&self, ask: Ask<'_>) -> Result<Value, Fault> {
        match self {
            Link::Http(http) => http.ask(ask).await,
            Link::Pipe(pipe) => pipe.ask(ask).await,
        }
    }

    /// Tells the server something; whether it hears it is not waited for longer than it takes to send it.
    pub async fn tell(&self, method: &str, params: Value, revision: Option<Revision>) -> Result<(), Fault> {
        let message = Message::Notification { method: method.to_owned(), params };
        match self {
            Link::Http(http) => http.tell(message, revision).await,
            Link::Pipe(pipe) => pipe.tell(message).await,
        }
    }

    /// Whether it can be used no more.
    pub fn is_over(&self) -> bool {
        match self {
            Link::Http(_) => false,
            Link::Pipe(pipe) => pipe.is_over(),
        }
    }
}

/// What is said to a server that asks us something where there is nobody to ask.
pub fn answer_to(method: &str, id: Value) -> Message {
    let result = match method {
        "ping" => Ok(Value::Object(serde_json::Map::new())),
        _ => Err(RpcError::new(super::rpc::NO_METHOD, format!("This client does not serve '{method}'."))),
    };
    Message::Response { id, result }
}
