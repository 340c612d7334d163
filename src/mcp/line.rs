//! What is kept of one server: its session, its tools, and how it has been lately.

use super::hub::{Apart, Hub};
use super::link::Fault;
use super::link::token::Tokens;
use super::questions::Notes;
use super::rpc::{self, NO_METHOD, PARAMS};
use super::session::{Beginning, Session};
use super::tool::Tool;
use crate::config::mcp::{Auth, Reach, Server};
use actix_web::http::header::{HeaderName, HeaderValue};
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, Shared};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The tools of a server, in the order in which it gives them.
pub type Tools = Arc<Vec<Arc<Tool>>>;
type Listing = Shared<LocalBoxFuture<'static, Result<Tools, Fault>>>;

/// The longest that a list of tools is waited for.
pub const LISTING: Duration = Duration::from_secs(30);
/// A server that has been there is looked for so long when it is gone: it may be starting again.
const ABSENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// A credential that was refused is not shown again for so long: some count that as an attack.
const REFUSED: Duration = Duration::from_secs(300);
/// The longest rest of a server that is down.
const REST: Duration = Duration::from_secs(60);
/// Starts of a program within [`REST`].
const STARTS: usize = 5;
/// Pages and tools of one list.
const MOST_PAGES: usize = 100;
const MOST_TOOLS: usize = 5000;

/// How a server was when it was last spoken to.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// None before the first try.
    pub is_up: Option<bool>,
    pub why: String,
    pub tools: usize,
    pub server_info: Value,
    pub instructions: Option<String>,
    pub capabilities: Value,
    pub revision: &'static str,
    pub at: Option<Instant>,
}

pub struct Line {
    pub server: Arc<Server>,
    hub: Weak<Hub>,
    own: Weak<Line>,
    apart: Apart,
    tokens: Option<Rc<Tokens>>,
    session: tokio::sync::Mutex<Option<Rc<Session>>>,
    place: Cell<Option<usize>>,
    list: RefCell<Option<(Tools, Instant)>>,
    listing: RefCell<Option<Listing>>,
    trouble: RefCell<Option<Trouble>>,
    failures: Cell<u32>,
    /// Somebody has waited for its list in vain.
    is_slow: Cell<bool>,
    was_up: Cell<bool>,
    starts: RefCell<Vec<Instant>>,
}

/// A server that is left alone for a while.
struct Trouble {
    fault: Fault,
    until: Instant,
}

impl Line {
    pub fn new(server: Arc<Server>, hub: Weak<Hub>, apart: Apart, tokens: Option<Rc<Tokens>>) -> Rc<Line> {
        Rc::new_cyclic(|own| Line {
            server,
            hub,
            own: own.clone(),
            apart,
            tokens,
            session: tokio::sync::Mutex::default(),
            place: Cell::default(),
            list: RefCell::default(),
            listing: RefCell::default(),
            trouble: RefCell::default(),
            failures: Cell::default(),
            is_slow: Cell::default(),
            was_up: Cell::default(),
            starts: RefCell::default(),
        })
    }

    /// The open session, or a new one.
    async fn session(&self) -> Result<Rc<Session>, Fault> {
        let mut held = self.session.lock().await;
        if let Some(session) = held.as_ref().filter(|session| !session.is_over()) {
            return Ok(session.clone());
        }
        *held = None;
        if let Some(trouble) = &*self.trouble.borrow()
            && let Fault::Refused(_) = trouble.fault
            && trouble.until > Instant::now()
        {
            return Err(trouble.fault.clone());
        }
        self.count_start()?;
        let client = match &self.server.reach {
            Reach::Net { transport, .. } => {
                let hub = self.hub.upgrade().ok_or(Fault::Dropped)?;
                Some(hub.client(transport).map_err(Fault::Unreached)?)
            }
            _ => None,
        };
        let own = self.own.clone();
        let changed = Rc::new(move |of: &str| {
            if let Some(line) = own.upgrade() {
                line.changed(of);
            }
        });
        let beginning = Beginning {
            server: &self.server,
            client,
            tokens: self.tokens.clone(),
            apart: &self.apart,
            changed,
            known: self.place.get(),
        };
        match Session::begin(beginning).await {
            Ok((session, place)) => {
                self.place.set(place);
                self.is_well(&session);
                *held = Some(session.clone());
                Ok(session)
            }
            Err(fault) => {
                self.place.set(None);
                self.is_ill(&fault);
                Err(fault)
            }
        }
    }

    /// A program that ends again and again is not started again and again.
    fn count_start(&self) -> Result<(), Fault> {
        if !matches!(self.server.reach, Reach::Program(_)) {
            return Ok(());
        }
        let mut starts = self.starts.borrow_mut();
        starts.retain(|at| at.elapsed() < REST);
        if starts.len() >= STARTS {
            let rest = starts.first().map_or(REST, |first| REST.saturating_sub(first.elapsed()));
            let why = format!("its program has ended {STARTS} times; it is started again in {} s", rest.as_secs() + 1);
            return Err(Fault::Unreached(why));
        }
        starts.push(Instant::now());
        Ok(())
    }

    fn is_well(&self, session: &Session) {
        self.failures.set(0);
        self.trouble.borrow_mut().take();
        self.was_up.set(true);
        self.report(|health| {
            health.is_up = Some(true);
            health.why.clear();
            health.server_info = session.server_info.clone();
            health.instructions = session.instructions.clone();
            health.capabilities = session.capabilities.clone();
            health.revision = session.revision.name();
        });
    }

    fn is_ill(&self, fault: &Fault) {
        if matches!(fault, Fault::Rpc(_) | Fault::Dropped | Fault::TooLarge(_)) {
            return;
        }
        let failures = self.failures.get().saturating_add(1);
        self.failures.set(failures);
        let rest = match fault {
            Fault::Refused(_) => REFUSED,
            _ => Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(REST),
        };
        if failures == 1 {
            tracing::warn!(target: "gateway::mcp", server = self.server.name, "the server of tools is down: {fault}");
        }
        *self.trouble.borrow_mut() = Some(Trouble { fault: fault.clone(), until: Instant::now() + rest });
        self.report(|health| {
            health.is_up = Some(false);
            health.why = fault.to_string();
        });
    }

    fn report(&self, change: impl FnOnce(&mut Health)) {
        // What a caller's own headers lead to is his own.
        if let (Some(hub), true) = (self.hub.upgrade(), self.apart.is_none()) {
            hub.report(&self.server.name, change);
        }
    }

    fn changed(&self, of: &str) {
        if of == "tools" {
            self.list.borrow_mut().take();
        }
        if let Some(hub) = self.hub.upgrade() {
            hub.changed(&self.server.name, of);
        }
    }

    /// Asks once, over a new session where the server has forgotten the old one.
    async fn ask_once(
        &self,
        method: &str,
        params: &Value,
        headers: &[(HeaderName, HeaderValue)],
        notes: Option<&Notes>,
    ) -> Result<Value, Fault> {
        for try_again in [true, false] {
            let session = self.session().await?;
            let result = session.ask(method, params.clone(), headers.to_vec(), notes.cloned()).await;
            if let Err(fault) = &result {
                let is_lost = fault.is_undone() || matches!(fault, Fault::Refused(_)) || session.is_over();
                if is_lost {
                    let mut held = self.session.lock().await;
                    if held.as_ref().is_some_and(|held| Rc::ptr_eq(held, &session)) {
                        *held = None;
                    }
                }
                if *fault == Fault::Gone && try_again {
                    continue;
                }
                if is_lost && *fault != Fault::Gone {
                    self.is_ill(fault);
                }
            }
            return result;
        }
        Err(Fault::Gone)
    }

    /// Asks within the server's own limit. Where it was there before and cannot be reached now, it may be starting again:
    /// then it is looked for, since nothing has been done yet.
    ///
    /// # Errors
    /// Why there is no result.
    pub async fn ask(
        &self,
        method: &str,
        params: Value,
        headers: Vec<(HeaderName, HeaderValue)>,
        notes: Option<Notes>,
        limit: Duration,
    ) -> Result<Value, Fault> {
        let started = Instant::now();
        let asking = async {
            loop {
                let result = self.ask_once(method, &params, &headers, notes.as_ref()).await;
                match result {
                    Err(fault) if fault.is_undone() && self.was_up.get() && started.elapsed() + LOOK < ABSENCE => {
                        tokio::time::sleep(LOOK).await;
                    }
                    result => return result,
                }
            }
        };
        match tokio::time::timeout(limit, asking).await {
            Ok(result) => result,
            Err(_) => Err(Fault::Late(limit)),
        }
    }

    /// Calls a tool.
    ///
    /// # Errors
    /// Why there is no result; a tool that fails has one.
    pub async fn call(&self, name: &str, params: Value, notes: Option<Notes>, limit: Duration) -> Result<Value, Fault> {
        let headers = self.mirrored(name, &params);
        let result = self.ask("tools/call", params.clone(), headers, notes.clone(), limit).await;
        // The list may be an old one: whoever does not know the tool has not called it.
        let knows_not = matches!(&result, Err(Fault::Rpc(error)) if error.code == PARAMS || error.code == NO_METHOD);
        if knows_not {
            self.list.borrow_mut().take();
        }
        result
    }

    /// Headers that repeat arguments, for servers that want them (since 2026-07-28).
    fn mirrored(&self, name: &str, params: &Value) -> Vec<(HeaderName, HeaderValue)> {
        let list = self.list.borrow();
        let tool = list.as_ref().and_then(|(tools, _)| tools.iter().find(|tool| tool.name == name));
        let mut headers = Vec::new();
        for (path, header) in tool.iter().flat_map(|tool| &tool.mirrored) {
            let value = path.iter().fold(&params["arguments"], |value, name| &value[name.as_str()]);
            let text = match value {
                Value::String(text) => rpc::header_text(text).into_owned(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => continue,
            };
            let name = HeaderName::from_bytes(format!("mcp-param-{}", header.to_ascii_lowercase()).as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&text)) {
                headers.push((name, value));
            }
        }
        headers
    }

    /// Its tools: as they are remembered, or as it tells them now. An old list is used while a new one is on its way.
    ///
    /// # Errors
    /// There is none within the time.
    pub async fn tools(&self, patience: Duration) -> Result<Tools, Fault> {
        let remembered = self.list.borrow().clone();
        if let Some((tools, at)) = remembered {
            let age = at.elapsed();
            if age < self.server.tools_age {
                return Ok(tools);
            }
            if age < self.server.tools_age * 10 && self.server.tools_age > Duration::ZERO {
                if !self.rests() {
                    drop(self.list_again());
                }
                return Ok(tools);
            }
        }
        let trouble = self.trouble.borrow().as_ref().map(|trouble| trouble.fault.clone());
        if let (Some(fault), true) = (&trouble, self.rests()) {
            return Err(fault.clone());
        }
        let limit = patience.min(LISTING).min(self.server.timeout);
        // Whoever asks several servers has waited for this one before, and does not again until it is there.
        let is_one_of_many = patience < LISTING;
        if is_one_of_many && (trouble.is_some() || self.is_slow.get()) {
            drop(self.list_again());
            return Err(trouble.unwrap_or(Fault::Late(limit)));
        }
        let listed = tokio::time::timeout(limit, self.list_again()).await;
        self.is_slow.set(listed.is_err());
        listed.unwrap_or(Err(Fault::Late(limit)))
    }

    fn rests(&self) -> bool {
        self.trouble.borrow().as_ref().is_some_and(|trouble| trouble.until > Instant::now())
    }

    /// Asks for the list once, however many wait for it, and goes on where all of them have left.
    fn list_again(&self) -> Listing {
        if let Some(listing) = &*self.listing.borrow() {
            return listing.clone();
        }
        let own = self.own.clone();
        let listing: Listing = async move {
            let line = own.upgrade().ok_or(Fault::Dropped)?;
            let limit = LISTING.min(line.server.timeout);
            let listed = tokio::time::timeout(limit, line.list()).await.unwrap_or(Err(Fault::Late(limit)));
            line.listing.borrow_mut().take();
            match listed {
                Ok(tools) => {
                    line.is_slow.set(false);
                    line.failures.set(0);
                    line.trouble.borrow_mut().take();
                    let tools = Arc::new(tools);
                    *line.list.borrow_mut() = Some((tools.clone(), Instant::now()));
                    line.report(|health| health.tools = tools.len());
                    Ok(tools)
                }
                Err(fault) => {
                    if !line.rests() {
                        line.is_ill(&fault);
                    }
                    Err(fault)
                }
            }
        }
        .boxed_local()
        .shared();
        *self.listing.borrow_mut() = Some(listing.clone());
        actix_web::rt::spawn(listing.clone());
        listing
    }

    async fn list(&self) -> Result<Vec<Arc<Tool>>, Fault> {
        let (mut tools, mut cursor) = (Vec::new(), Value::Null);
        for _ in 0..MOST_PAGES {
            let params = if cursor.is_null() { json!({}) } else { json!({"cursor": cursor}) };
            let mut page = self.ask_once("tools/list", &params, &[], None).await?;
            let Value::Array(found) = page["tools"].take() else {
                return Err(Fault::Broken("its list of tools is none".to_owned()));
            };
            let modern = page.get("resultType").is_some();
            tools.extend(found.into_iter().filter_map(|tool| Tool::read(tool, modern)).map(Arc::new));
            if tools.len() > MOST_TOOLS {
                return Err(Fault::Broken(format!("it has more than {MOST_TOOLS} tools")));
            }
            let next = page["nextCursor"].take();
            if !next.is_string() || next == cursor {
                return Ok(tools);
            }
            cursor = next;
        }
        Err(Fault::Broken(format!("its list of tools has more than {MOST_PAGES} pages")))
    }

    /// What the server says that it can do; a session is begun for it.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn can(&self, what: &str, patience: Duration) -> Result<bool, Fault> {
        if let Some(trouble) = &*self.trouble.borrow()
            && trouble.until > Instant::now()
        {
            return Err(trouble.fault.clone());
        }
        let session = tokio::time::timeout(patience, self.session()).await;
        Ok(session.unwrap_or(Err(Fault::Late(patience)))?.can(what))
    }

    /// Its tools as they are now, whatever has happened before.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn look(&self) -> Result<Tools, Fault> {
        self.trouble.borrow_mut().take();
        let limit = LISTING.min(self.server.timeout);
        tokio::time::timeout(limit, self.list_again()).await.unwrap_or(Err(Fault::Late(limit)))
    }

    /// Lets go of the session.
    pub async fn close(&self) {
        self.session.lock().await.take();
    }
}

/// The tokens of a server that wants some.
pub fn tokens(server: &Server, client: awc::Client) -> Option<Rc<Tokens>> {
    match &server.auth {
        Auth::Client(of) => Some(Rc::new(Tokens::new(client, of.clone()))),
        _ => None,
    }
}
