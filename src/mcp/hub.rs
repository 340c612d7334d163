//! The thread that speaks to all servers of tools: sessions belong to it, and workers ask it.

use super::line::{Health, Line, tokens};
use super::link::Fault;
use super::questions::Asks;
use crate::config::mcp::{Reach, Server};
use crate::route::Transport;
use crate::upstream::{connect, tls::TlsConfigs};
use actix_web::http::header::{HeaderName, HeaderValue};
use awc::Client;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;

/// Servers of tools close idle connections early: a request must not meet one that is being closed.
const IDLE: Duration = Duration::from_secs(4);
const LIFETIME: Duration = Duration::from_secs(300);
/// Sessions by the headers of their callers, per server.
const MOST_LINES: usize = 256;

/// That something has changed at a server: its name, and `tools`, `prompts` or `resources`.
pub type Change = (String, String);

/// What tells callers of a server apart: they share no session.
#[derive(Debug, Clone, Default)]
pub struct Apart {
    /// Passed on to the server.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What they can be asked.
    pub asks: Asks,
}

impl Apart {
    /// Whether it is nothing.
    pub fn is_none(&self) -> bool {
        self.headers.is_empty() && self.asks.is_none()
    }
}

/// By the server's name, and what tells its callers apart.
type Lines = HashMap<(String, Vec<u8>), Rc<Line>>;

/// What workers see of the thread.
pub struct Shared {
    pub tls: Arc<TlsConfigs>,
    pub health: Mutex<BTreeMap<String, Health>>,
    pub changes: broadcast::Sender<Change>,
}

pub struct Hub {
    shared: Arc<Shared>,
    own: Weak<Hub>,
    clients: RefCell<HashMap<Transport, Client>>,
    lines: RefCell<Lines>,
}

impl Hub {
    pub fn new(shared: Arc<Shared>) -> Rc<Hub> {
        Rc::new_cyclic(|own| Hub { shared, own: own.clone(), clients: RefCell::default(), lines: RefCell::default() })
    }

    /// What is kept of the server, for callers like these.
    pub fn line(&self, server: &Arc<Server>, apart: &Apart) -> Result<Rc<Line>, Fault> {
        let mut key = Vec::new();
        for (name, value) in &apart.headers {
            key.extend_from_slice(name.as_str().as_bytes());
            key.push(b':');
            key.extend_from_slice(value.as_bytes());
            key.push(b'\n');
        }
        if !apart.asks.is_none() {
            key.extend_from_slice(apart.asks.capabilities().to_string().as_bytes());
        }
        let place = (server.name.clone(), key);
        if let Some(line) = self.lines.borrow().get(&place)
            && (Arc::ptr_eq(&line.server, server) || line.server == *server)
        {
            return Ok(line.clone());
        }
        let tokens = match &server.reach {
            Reach::Net { transport, .. } => tokens(server, self.client(transport).map_err(Fault::Unreached)?),
            _ => None,
        };
        let line = Line::new(server.clone(), self.own.clone(), apart.clone(), tokens);
        let mut lines = self.lines.borrow_mut();
        if lines.len() >= MOST_LINES {
            lines.retain(|(_, forwarded), _| forwarded.is_empty());
        }
        lines.insert(place, line.clone());
        Ok(line)
    }

    pub fn client(&self, transport: &Transport) -> Result<Client, String> {
        if let Some(client) = self.clients.borrow().get(transport) {
            return Ok(client.clone());
        }
        let client = connect::client(transport, &self.shared.tls, IDLE, LIFETIME)?;
        self.clients.borrow_mut().insert(transport.clone(), client.clone());
        Ok(client)
    }

    pub fn report(&self, server: &str, change: impl FnOnce(&mut Health)) {
        let mut all = self.shared.health.lock().unwrap_or_else(PoisonError::into_inner);
        let health = all.entry(server.to_owned()).or_default();
        health.at = Some(std::time::Instant::now());
        change(health);
    }

    pub fn changed(&self, server: &str, of: &str) {
        // Nobody may be listening.
        let _ = self.shared.changes.send((server.to_owned(), of.to_owned()));
    }

    /// Lets go of servers that are not, or not like this, in the configuration any more.
    pub fn keep(&self, servers: &[Arc<Server>]) {
        let is_kept = |line: &Line| servers.iter().any(|server| *line.server == **server);
        self.lines.borrow_mut().retain(|_, line| is_kept(line));
        self.clients.borrow_mut().retain(|transport, _| transport.ca_file.is_none());
        let mut health = self.shared.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.retain(|name, _| servers.iter().any(|server| server.name == *name));
    }

    /// Ends the sessions of one server, and forgets how it was.
    pub async fn forget(&self, server: &Server) {
        let of = |name: &str| name == server.name;
        let gone: Vec<Rc<Line>> = {
            let mut lines = self.lines.borrow_mut();
            let keys: Vec<_> = lines.keys().filter(|(name, _)| of(name)).cloned().collect();
            keys.iter().filter_map(|key| lines.remove(key)).collect()
        };
        for line in gone {
            line.close().await;
        }
        self.shared.health.lock().unwrap_or_else(PoisonError::into_inner).remove(&server.name);
    }

    /// Ends all sessions and programs.
    pub async fn close(&self) {
        let lines: Vec<Rc<Line>> = self.lines.borrow_mut().drain().map(|(_, line)| line).collect();
        for line in lines {
            line.close().await;
        }
    }
}
