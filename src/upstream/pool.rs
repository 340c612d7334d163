//! Connections to one place, which are kept and used again.
//!
//! The bytes are made and read by actix-http's codec for clients, as in awc. What awc makes anew for every request (a
//! service for dates with a task and a timer of its own, buffers, four boxed futures) stays with a connection here:
//! ADR 16 says why.

use super::connect::{bare, tcp};
use super::response::Response;
use super::tls::TlsConfigs;
use super::{IDLE, LIFETIME};
use crate::envelope::Pieces;
use crate::route::Transport;
use actix_codec::Decoder;
use actix_http::error::ParseError;
use actix_http::h1::ClientCodec;
use actix_http::{ResponseHead, ServiceConfig};
use actix_web::http::StatusCode;
use actix_web::http::uri::Authority;
use bytes::{Buf, BufMut, BytesMut};
use rustls::pki_types::ServerName;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;

/// Room for what is read at once.
const ROOM: usize = 8 << 10;
/// A shorter body costs less to copy behind the head than to keep apart from it.
const COPIED: usize = 16 << 10;
/// Interim answers before the true one; more is an upstream that does not mean it.
const INTERIMS: usize = 8;

/// What a connection is made of.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// Why a request was not answered.
#[derive(Debug)]
pub enum Fault {
    /// No connection in time.
    Late,
    /// No connection.
    Unconnected(io::Error),
    /// It could not be sent whole.
    Unsent(io::Error),
    /// The connection ended without an answer.
    Closed(Option<io::Error>),
    /// What came is not HTTP.
    Garbled(ParseError),
}

/// The codec's settings, which a worker's connections share.
#[derive(Clone, Default)]
pub struct Settings(Rc<OnceCell<ServiceConfig>>);

impl Settings {
    fn codec(&self) -> ClientCodec {
        // Not before it is needed: it begins a task.
        ClientCodec::new(self.0.get_or_init(ServiceConfig::default).clone())
    }
}

/// The connections of one worker to one place.
pub struct Pool {
    transport: Transport,
    authority: Authority,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    settings: Settings,
    /// The one that was used last is at the end.
    idle: RefCell<VecDeque<Link>>,
    is_closed: Cell<bool>,
}

/// A connection.
pub struct Link {
    stream: Box<dyn Stream>,
    /// What has come and was not taken yet.
    read: BytesMut,
    /// The last head, and a short body behind it.
    written: Vec<u8>,
    born: Instant,
    used: Instant,
}

impl Pool {
    /// # Errors
    /// A text that says which certificates cannot be read, or that the host's name is none.
    pub fn new(
        transport: &Transport,
        authority: Authority,
        tls: &TlsConfigs,
        settings: Settings,
    ) -> Result<Self, String> {
        let tls = if transport.tls {
            let host = bare(authority.host()).to_owned();
            let name = ServerName::try_from(host).map_err(|e| format!("'{}': {e}", authority.host()))?;
            Some((TlsConnector::from(tls.get(transport.ca_file.as_deref())?), name))
        } else {
            None
        };
        Ok(Pool {
            transport: transport.clone(),
            authority,
            tls,
            settings,
            idle: RefCell::default(),
            is_closed: Cell::new(false),
        })
    }

    /// Connections that are at work are not kept when they are done.
    pub fn close(&self) {
        self.is_closed.set(true);
        self.idle.borrow_mut().clear();
    }

    /// Sends a request and waits for the head of the answer. `head` lacks only the value of its last header, which is
    /// the length of the body.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn ask(self: &Rc<Self>, head: &[u8], body: Pieces) -> Result<Response, Fault> {
        let mut link = match self.take() {
            Some(link) => link,
            None => self.connect().await?,
        };
        link.send(head, body).await.map_err(Fault::Unsent)?;
        let mut codec = self.settings.codec();
        for _ in 0..INTERIMS {
            let head = link.head(&mut codec).await?;
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Response::on(link, head, codec, self.clone()));
            }
        }
        Err(Fault::Garbled(ParseError::Status))
    }

    /// A connection that is still there.
    fn take(&self) -> Option<Link> {
        let mut idle = self.idle.borrow_mut();
        let now = Instant::now();
        while let Some(mut link) = idle.pop_back() {
            if now - link.used > IDLE {
                // All others have waited longer.
                idle.clear();
                return None;
            }
            if now - link.born <= LIFETIME && link.is_live() {
                return Some(link);
            }
        }
        None
    }

    /// Keeps a connection whose answer was read to its end.
    pub fn give_back(&self, mut link: Link) {
        if self.is_closed.get() || !link.read.is_empty() {
            return;
        }
        link.used = Instant::now();
        let mut idle = self.idle.borrow_mut();
        while idle.front().is_some_and(|oldest| link.used - oldest.used > IDLE) {
            idle.pop_front();
        }
        idle.push_back(link);
    }

    async fn connect(&self) -> Result<Link, Fault> {
        let limit = self.transport.connect_timeout;
        let connecting = async {
            Ok::<Box<dyn Stream>, io::Error>(match &self.transport.socket {
                Some(path) => Box::new(UnixStream::connect(path).await?),
                None => Box::new(tcp(&self.authority, self.transport.tls).await?),
            })
        };
        let mut stream = within(limit, connecting).await?;
        if let Some((connector, name)) = &self.tls {
            stream = Box::new(within(limit, connector.connect(name.clone(), stream)).await?);
        }
        let now = Instant::now();
        Ok(Link { stream, read: BytesMut::new(), written: Vec::new(), born: now, used: now })
    }
}

impl Link {
    /// Whether nothing has come on it since it was used, not even its end.
    fn is_live(&mut self) -> bool {
        let mut byte = [0];
        let mut into = ReadBuf::new(&mut byte);
        Pin::new(&mut self.stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut into).is_pending()
    }

    async fn send(&mut self, head: &[u8], body: Pieces) -> io::Result<()> {
        let Link { stream, written, .. } = self;
        written.clear();
        written.extend_from_slice(head);
        written.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
        written.extend_from_slice(b"\r\n\r\n");
        if body.len() < COPIED {
            written.put(body);
            stream.write_all(written).await?;
        } else {
            stream.write_all_buf(&mut Buf::chain(&written[..], body)).await?;
        }
        stream.flush().await
    }

    async fn head(&mut self, codec: &mut ClientCodec) -> Result<ResponseHead, Fault> {
        loop {
            if !self.read.is_empty()
                && let Some(head) = codec.decode(&mut self.read).map_err(Fault::Garbled)?
            {
                return Ok(head);
            }
            match poll_fn(|cx| self.fill(cx)).await {
                Ok(0) => return Err(Fault::Closed(None)),
                Ok(_) => (),
                Err(e) => return Err(Fault::Closed(Some(e))),
            }
        }
    }

    /// What has come and was not taken yet.
    pub fn read(&mut self) -> &mut BytesMut {
        &mut self.read
    }

    /// Reads more, and says how much; nothing where the connection has ended.
    pub fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.read.reserve(ROOM);
        // It holds nothing of its own that would be lost between two polls.
        pin!(self.stream.read_buf(&mut self.read)).poll(cx)
    }
}

async fn within<T>(limit: Duration, connecting: impl Future<Output = io::Result<T>>) -> Result<T, Fault> {
    match tokio::time::timeout(limit, connecting).await {
        Ok(connected) => connected.map_err(Fault::Unconnected),
        Err(_) => Err(Fault::Late),
    }
}
