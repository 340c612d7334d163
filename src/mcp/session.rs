//! A conversation with one server: how it begins, what it is, and what goes on in it.

use super::hub::Apart;
use super::link::http::{Http, Reader};
use super::link::{Ask, Fault, Link, program, sse};
use super::questions::{Asks, Notes};
use super::rpc::{self, Message, Revision, meta};
use crate::config::mcp::{Auth, Place, Reach, Server};
use actix_web::http::header::{HeaderName, HeaderValue};
use awc::Client;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// The longest that a server may take to introduce itself.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// A conversation.
pub struct Session {
    link: Link,
    pub revision: Revision,
    pub capabilities: Value,
    pub server_info: Value,
    pub instructions: Option<String>,
    next_id: Cell<u64>,
    /// Told what has changed at the server: `tools`, `prompts` or `resources`.
    changed: Rc<dyn Fn(&str)>,
}

/// What is needed to begin.
pub struct Beginning<'a> {
    pub server: &'a Server,
    pub client: Option<Client>,
    pub tokens: Option<Rc<super::link::token::Tokens>>,
    pub apart: &'a Apart,
    pub changed: Rc<dyn Fn(&str)>,
    /// The place that answered last.
    pub known: Option<usize>,
}

impl Session {
    /// Connects and introduces the gateway; with it, which of the places has answered.
    ///
    /// # Errors
    /// Why not, for the place that is tried last.
    pub async fn begin(beginning: Beginning<'_>) -> Result<(Rc<Session>, Option<usize>), Fault> {
        match &beginning.server.reach {
            Reach::Program(program) => {
                let pipe = program::start(program, &beginning.server.name, beginning.server.answer_limit)?;
                Ok((introduce(Link::Pipe(pipe), &beginning, true).await?, None))
            }
            Reach::Socket(path) => {
                let pipe = program::dial(path, beginning.server.answer_limit).await?;
                Ok((introduce(Link::Pipe(pipe), &beginning, true).await?, None))
            }
            Reach::Net { places, .. } => net(places, &beginning).await,
        }
    }

    /// Asks, and waits without a limit: that is the caller's.
    ///
    /// # Errors
    /// Why there is no result.
    pub async fn ask(
        self: &Rc<Self>,
        method: &str,
        mut params: Value,
        headers: Vec<(HeaderName, HeaderValue)>,
        notes: Option<Notes>,
    ) -> Result<Value, Fault> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        // The caller's token may be another caller's, too.
        let token = params.get_mut("_meta").and_then(|meta| meta.as_object_mut()?.remove("progressToken"));
        if token.is_some() {
            params["_meta"]["progressToken"] = id.into();
        }
        if self.revision.is_modern() {
            rpc::modern_meta(&mut params);
        }
        let changed = self.changed.clone();
        let asked = notes.clone();
        let hear = Rc::new(move |message: Message| hear(message, token.as_ref(), notes.as_ref(), &*changed));
        let mut open = Open { session: Some(self.clone()), id };
        let ask = Ask { id, method, params, headers, revision: self.said(), hear, asked };
        let result = self.link.ask(ask).await;
        open.session = None;
        let result = result?;
        match result["resultType"].as_str() {
            None | Some("complete") => Ok(result),
            Some("input_required") => Err(Fault::Rpc(rpc::RpcError::new(
                rpc::CAPABILITY,
                "The tool asks its user something, and nobody can answer it here.",
            ))),
            Some(_) => Err(Fault::Broken("its result is of an unknown type".to_owned())),
        }
    }

    /// The revision that is said in headers; there were none before 2025-06-18.
    fn said(&self) -> Option<Revision> {
        Some(self.revision).filter(|revision| *revision >= Revision::V2025_06_18)
    }

    pub fn is_over(&self) -> bool {
        self.link.is_over()
    }

    /// Whether the server says that it can do this: `tools`, `prompts`, ...
    pub fn can(&self, what: &str) -> bool {
        self.capabilities.get(what).is_some()
    }

    /// Hears of changes until the session is gone.
    fn listen(self: &Rc<Self>) {
        let lists_change =
            ["tools", "prompts", "resources"].iter().any(|of| self.capabilities[of]["listChanged"] == true);
        if !lists_change || !matches!(self.link, Link::Http(_)) {
            return;
        }
        let session = Rc::downgrade(self);
        actix_web::rt::spawn(async move {
            let mut pause = Duration::from_secs(1);
            while let Some(session) = session.upgrade() {
                if !session.hear_changes().await {
                    return;
                }
                drop(session);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(60));
            }
        });
    }

    /// One stream of changes to its end; whether another one may be asked for.
    async fn hear_changes(&self) -> bool {
        let Link::Http(http) = &self.link else { return false };
        let opened = match self.revision.is_modern() {
            false => http.listen().await,
            true => {
                let mut params = json!({"notifications": {"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true}});
                rpc::modern_meta(&mut params);
                let id = self.next_id.get();
                self.next_id.set(id + 1);
                http.subscribe(id, "subscriptions/listen", params).await
            }
        };
        let Ok(mut stream) = opened else { return false };
        let mut events = Reader::new(http.limit);
        while let Ok(Some(message)) = events.next(&mut stream).await {
            hear(message, None, None, &*self.changed);
        }
        true
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Link::Http(http) = &self.link else { return };
        if http.session.borrow().is_none() {
            return;
        }
        let ended = Http {
            client: http.client.clone(),
            url: http.url.clone(),
            headers: http.headers.clone(),
            tokens: http.tokens.clone(),
            session: RefCell::new(http.session.take()),
            revision: http.revision.clone(),
            limit: http.limit,
        };
        actix_web::rt::spawn(async move {
            let _ = tokio::time::timeout(Duration::from_secs(2), ended.close()).await;
        });
    }
}

/// A request without an answer yet: a server is told when it is given up.
struct Open {
    session: Option<Rc<Session>>,
    id: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        // Since 2026-07-28 closing the stream says so.
        let Some(session) = self.session.take().filter(|s| !s.revision.is_modern() || matches!(s.link, Link::Pipe(_)))
        else {
            return;
        };
        let params = json!({"requestId": self.id, "reason": "the caller waits no longer"});
        actix_web::rt::spawn(async move {
            let told = session.link.tell("notifications/cancelled", params, session.said());
            let _ = tokio::time::timeout(Duration::from_secs(2), told).await;
        });
    }
}

fn hear(message: Message, token: Option<&Value>, notes: Option<&Notes>, changed: &dyn Fn(&str)) {
    let Message::Notification { method, mut params } = message else { return };
    let of = method.strip_prefix("notifications/").and_then(|rest| rest.strip_suffix("/list_changed"));
    if let Some(of) = of {
        return changed(of);
    }
    let Some(notes) = notes else { return };
    match (method.as_str(), token) {
        ("notifications/progress", Some(token)) => params["progressToken"] = token.clone(),
        ("notifications/message", _) => {}
        _ => return,
    }
    notes.note(Message::Notification { method, params });
}

/// Tries the places in their order, the one that is known first.
async fn net(places: &[Place], beginning: &Beginning<'_>) -> Result<(Rc<Session>, Option<usize>), Fault> {
    let order = beginning.known.into_iter().chain((0..places.len()).filter(|at| Some(*at) != beginning.known));
    let mut last = Fault::Unreached("it has no address".to_owned());
    for at in order {
        match place(&places[at], beginning).await {
            Ok(session) => return Ok((session, Some(at))),
            // Where nobody listens, nobody listens at another path; and a credential that is refused once more may
            // get the gateway banned.
            Err(fault @ Fault::Refused(401)) => return Err(fault),
            Err(Fault::Unreached(why)) => return Err(Fault::Unreached(why)),
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

async fn place(place: &Place, beginning: &Beginning<'_>) -> Result<Rc<Session>, Fault> {
    let server = beginning.server;
    let Some(client) = beginning.client.clone() else {
        return Err(Fault::Unreached("there is no client for it".to_owned()));
    };
    let mut headers = beginning.apart.headers.clone();
    headers.extend(server.static_headers.iter().cloned());
    if let Auth::Header(name, value) = &server.auth {
        headers.push((name.clone(), value.clone()));
    }
    let http = Http {
        client,
        url: place.url.clone(),
        headers,
        tokens: beginning.tokens.clone(),
        session: RefCell::default(),
        revision: Cell::new(None),
        limit: server.answer_limit,
    };
    if place.sse {
        let pipe = sse::open(Rc::new(http)).await?;
        return introduce(Link::Pipe(pipe), beginning, false).await;
    }
    introduce(Link::Http(http), beginning, true).await
}

/// The handshake, or what has replaced it. Most servers know the handshake alone, so it comes first.
async fn introduce(link: Link, beginning: &Beginning<'_>, may_be_modern: bool) -> Result<Rc<Session>, Fault> {
    let limit = beginning.server.timeout.min(HANDSHAKE);
    let begun = async {
        // In a pipe nobody says to whose call a question belongs.
        let asks = if matches!(link, Link::Http(_)) { beginning.apart.asks } else { Asks::default() };
        match greet(&link, asks).await {
            Ok((revision, result)) => Ok((revision, result)),
            Err(fault) if may_be_modern && could_be_modern(&fault) => discover(&link, fault).await,
            Err(fault) => Err(fault),
        }
    };
    let (revision, result) = tokio::time::timeout(limit, begun).await.map_err(|_| Fault::Late(limit))??;
    if let Link::Http(http) = &link {
        http.revision.set(Some(revision).filter(|revision| *revision >= Revision::V2025_06_18));
    }
    if !revision.is_modern() {
        let told =
            link.tell("notifications/initialized", Value::Null, Some(revision).filter(|r| *r >= Revision::V2025_06_18));
        let told = tokio::time::timeout(limit, told).await.map_err(|_| Fault::Late(limit))?;
        // A server without sessions has no use for it.
        if let (Err(fault), Link::Pipe(_)) = (told, &link) {
            return Err(fault);
        }
    }
    let session = Rc::new(Session {
        revision,
        capabilities: result["capabilities"].clone(),
        server_info: match result["serverInfo"].is_object() {
            true => result["serverInfo"].clone(),
            false => result["_meta"][meta::SERVER].clone(),
        },
        instructions: result["instructions"].as_str().map(str::to_owned),
        link,
        next_id: Cell::new(10),
        changed: beginning.changed.clone(),
    });
    if let Link::Pipe(pipe) = &session.link {
        let changed = session.changed.clone();
        *pipe.waiting.aside.borrow_mut() = Some(Rc::new(move |message| hear(message, None, None, &*changed)));
    }
    session.listen();
    Ok(session)
}

async fn greet(link: &Link, asks: Asks) -> Result<(Revision, Value), Fault> {
    let params = json!({
        "protocolVersion": Revision::NEWEST_LEGACY.name(),
        "capabilities": asks.capabilities(),
        "clientInfo": rpc::our_name(),
    });
    let hear = Rc::new(|_| ());
    let ask = Ask { id: 1, method: "initialize", params, headers: Vec::new(), revision: None, hear, asked: None };
    let result = link.ask(ask).await?;
    let said = result["protocolVersion"].as_str().unwrap_or_default();
    match Revision::of(said).filter(|revision| !revision.is_modern()) {
        Some(revision) => Ok((revision, result)),
        None => Err(Fault::Rpc(rpc::RpcError::new(
            rpc::VERSION,
            format!("it speaks revision '{}' of the protocol, which this gateway does not know", shown(said)),
        ))),
    }
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic()).take(32).collect()
}

/// Whether a server that does not take the handshake may know what has replaced it.
fn could_be_modern(fault: &Fault) -> bool {
    match fault {
        Fault::Rpc(error) => {
            matches!(
                error.code,
                rpc::NO_METHOD | rpc::PARAMS | rpc::HEADERS | rpc::CAPABILITY | rpc::VERSION | rpc::INVALID
            )
        }
        Fault::Status(status) => (400..500).contains(status),
        _ => false,
    }
}

async fn discover(link: &Link, before: Fault) -> Result<(Revision, Value), Fault> {
    let mut params = json!({});
    rpc::modern_meta(&mut params);
    let revision = Some(Revision::V2026_07_28);
    let hear = Rc::new(|_| ());
    let ask = Ask { id: 2, method: "server/discover", params, headers: Vec::new(), revision, hear, asked: None };
    let result = link.ask(ask).await.map_err(|_| before.clone())?;
    let speaks = result["supportedVersions"]
        .as_array()
        .is_some_and(|all| all.iter().any(|version| version.as_str() == Some(Revision::V2026_07_28.name())));
    if speaks { Ok((Revision::V2026_07_28, result)) } else { Err(before) }
}
