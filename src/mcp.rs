//! Servers of tools, by the Model Context Protocol: those that are spoken to, and the gateway as one itself.
//!
//! One thread of the process holds all sessions ([`hub`]); workers ask it and wait. What a caller may use is decided
//! here ([`grants`]) and nowhere else: [`Mcp::tools`] gives a caller his tools by their public names, [`Mcp::call`]
//! carries a call out and books it.
//!
//! - [`rpc`] messages and revisions; [`link`] the ways to a server: HTTP, the old SSE, programs and sockets
//! - [`session`] a conversation; [`line`] what is kept of a server between conversations
//! - [`tool`] tools and their names; [`grants`] whose they are
//! - [`kit`] the tools of one call of a model, [`rounds`] the loop, [`outcome`] what a model is told, [`resume`] turns that
//!   the caller goes on with
//! - [`streams`] what clients have open; [`questions`] what servers ask them
//! - [`booking`] the row of a call in the ledger

pub mod booking;
pub mod grants;
mod hub;
pub mod kit;
mod line;
mod link;
pub mod outcome;
pub mod questions;
pub mod resume;
pub mod rounds;
pub mod rpc;
mod schema;
mod session;
pub mod streams;
pub mod tool;

pub use hub::Change;
pub use line::Health;
pub use link::Fault;
pub use questions::Notes;
pub use tool::{Naming, Offered};

use crate::config::mcp::{Reach, Server};
use crate::gateway::Live;
use crate::upstream::tls::TlsConfigs;
use actix_web::http::header::{HeaderMap, HeaderName};
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, join_all};
use grants::Grant;
use hub::{Apart, Hub, Shared};
use questions::{Asks, Questions};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use streams::{Requests, Streams};
use tokio::sync::{broadcast, mpsc, oneshot};

/// How long several servers are waited for: who takes longer must not hold up the others.
const PATIENCE: Duration = Duration::from_secs(2);
/// Stands for all servers in a [`Change`].
pub const EVERY: &str = "";
/// Changes that a slow listener may miss.
const CHANGES: usize = 64;

type Job = Box<dyn FnOnce(Rc<Hub>) -> LocalBoxFuture<'static, ()> + Send>;

/// All servers of tools. Shared by all workers.
pub struct Mcp {
    shared: Arc<Shared>,
    jobs: OnceLock<mpsc::UnboundedSender<Job>>,
    /// Streams of old clients.
    pub streams: Arc<Streams>,
    /// What clients may give up.
    pub requests: Arc<Requests>,
    /// What clients were asked.
    pub questions: Arc<Questions>,
}

/// What a caller may use now, and what he would have if it were there.
#[derive(Debug, Default)]
pub struct Tools {
    pub tools: Vec<Offered>,
    /// Servers whose tools are missing, and why.
    pub missing: Vec<(Arc<Server>, Fault)>,
}

/// By this a caller gives a call up that is under way.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<tokio::sync::Notify>);

impl Cancel {
    pub fn now(&self) {
        self.0.notify_one();
    }
}

/// A call of a tool beyond its arguments.
#[derive(Default)]
pub struct Asked<'a> {
    /// The request's `_meta`.
    pub meta: Option<Value>,
    /// The headers of the caller's request, of which the operator may want some passed on.
    pub headers: Option<&'a HeaderMap>,
    /// Hears of progress.
    pub notes: Option<Notes>,
    /// What is left of the caller's time.
    pub limit: Option<Duration>,
    pub cancel: Cancel,
    /// A caller who leaves gives it up.
    pub ends_with_caller: bool,
}

/// A tool's result: it may have failed, and says so itself.
#[derive(Debug, Clone)]
pub struct ToolResult {
    /// The whole result: `content`, `structuredContent`, `isError`.
    pub told: Value,
}

impl ToolResult {
    pub fn is_error(&self) -> bool {
        self.told["isError"] == true
    }
}

impl Mcp {
    pub fn new(tls: Arc<TlsConfigs>) -> Self {
        let shared = Shared { tls, health: Mutex::default(), changes: broadcast::channel(CHANGES).0 };
        Mcp {
            shared: Arc::new(shared),
            jobs: OnceLock::new(),
            streams: Arc::default(),
            requests: Arc::default(),
            questions: Arc::default(),
        }
    }

    /// How the servers were lately.
    pub fn health(&self) -> BTreeMap<String, Health> {
        self.shared.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hears what changes at servers.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }

    /// There are other servers than before: whoever listens looks again.
    pub fn changed(&self) {
        for of in ["tools", "prompts", "resources"] {
            // Nobody may be listening.
            let _ = self.shared.changes.send((EVERY.to_owned(), of.to_owned()));
        }
    }

    /// Lets go of servers that are not in the configuration any more.
    pub fn keep(&self, live: &Live) {
        if self.jobs.get().is_some() {
            let servers = live.config.mcp.servers.clone();
            self.send(Box::new(move |hub| async move { hub.keep(&servers) }.boxed_local()));
        }
    }

    /// Ends all sessions and programs, for good.
    pub async fn close(&self) {
        if self.jobs.get().is_some() {
            let _ =
                tokio::time::timeout(Duration::from_secs(3), self.run(false, |hub| async move { hub.close().await }))
                    .await;
        }
    }

    /// Connects to every server, so that the first caller does not wait for that.
    pub fn warm_up(&self, live: &Live) {
        for server in live.config.mcp.servers.iter().filter(|server| server.forwarded.is_empty()) {
            let server = server.clone();
            self.send(Box::new(move |hub| {
                async move {
                    if let Ok(line) = hub.line(&server, &Apart::default()) {
                        let _ = line.tools(line::LISTING).await;
                    }
                }
                .boxed_local()
            }));
        }
    }

    fn send(&self, job: Job) {
        let jobs = self.jobs.get_or_init(|| {
            let (jobs, mut open) = mpsc::unbounded_channel::<Job>();
            let shared = self.shared.clone();
            // One thread for all: what is said to servers of tools is little, and sessions cannot be shared by threads.
            let thread = std::thread::Builder::new().name("mcp".to_owned()).spawn(move || {
                actix_web::rt::System::new().block_on(async move {
                    let hub = Hub::new(shared);
                    while let Some(job) = open.recv().await {
                        actix_web::rt::spawn(job(hub.clone()));
                    }
                });
            });
            if let Err(e) = thread {
                tracing::error!("servers of tools cannot be spoken to: no thread can be started: {e}");
            }
            jobs
        });
        // It fails only when the process ends; then nobody waits.
        let _ = jobs.send(job);
    }

    /// Has something done on the thread of the sessions. Where the caller leaves, it goes on unless `leaves` says otherwise.
    async fn run<F, Fut, R>(&self, leaves: bool, job: F) -> Result<R, Fault>
    where
        F: FnOnce(Rc<Hub>) -> Fut + Send + 'static,
        Fut: Future<Output = R> + 'static,
        R: Send + 'static,
    {
        self.run_until(leaves, Cancel::default(), job).await
    }

    async fn run_until<F, Fut, R>(&self, leaves: bool, cancel: Cancel, job: F) -> Result<R, Fault>
    where
        F: FnOnce(Rc<Hub>) -> Fut + Send + 'static,
        Fut: Future<Output = R> + 'static,
        R: Send + 'static,
    {
        let (mut done, result) = oneshot::channel();
        self.send(Box::new(move |hub| {
            async move {
                let work = job(hub);
                tokio::select! {
                    result = work => drop(done.send(result)),
                    () = done.closed(), if leaves => {}
                    () = cancel.0.notified() => {}
                }
            }
            .boxed_local()
        }));
        result.await.map_err(|_| Fault::Dropped)
    }

    /// The tools of these grants, by their public names. Servers that are down, or take too long while others are there,
    /// are left out and named.
    pub async fn tools(&self, grants: &[Grant], naming: Naming<'_>, headers: &HeaderMap) -> Tools {
        let patience = if grants.len() > 1 { PATIENCE } else { line::LISTING };
        let asked: Vec<_> = grants.iter().map(|g| (g.server.clone(), apart(&g.server, headers))).collect();
        let listed = self.run(false, move |hub| async move {
            join_all(asked.into_iter().map(|(server, headers)| {
                let hub = hub.clone();
                async move { hub.line(&server, &headers)?.tools(patience).await }
            }))
            .await
        });
        let listed = listed.await.unwrap_or_else(|fault| vec![Err(fault); grants.len()]);
        let mut found = Tools::default();
        for (grant, listed) in grants.iter().zip(listed) {
            match listed {
                Ok(tools) => found.tools.extend(tools.iter().filter(|tool| grant.allows(&tool.name)).map(|tool| {
                    let params = grant.params(&tool.name);
                    Offered { name: String::new(), server: grant.server.clone(), tool: tool.clone(), params }
                })),
                Err(fault) => found.missing.push((grant.server.clone(), fault)),
            }
        }
        tool::name_all(&mut found.tools, naming);
        found
    }

    /// Calls a tool that was offered, whose arguments the caller has given. The server is asked within its own time, or the
    /// shorter one that is left.
    ///
    /// # Errors
    /// Why there is no result; a tool that fails has one.
    pub async fn call(
        &self,
        offered: &Offered,
        arguments: Map<String, Value>,
        asked: Asked<'_>,
    ) -> Result<ToolResult, Fault> {
        if let Some(name) = offered.forbidden(&arguments) {
            let message = format!("The parameter '{name}' of the tool '{}' may not be given here.", offered.name);
            return Err(Fault::Rpc(rpc::RpcError::new(rpc::PARAMS, message)));
        }
        let server = offered.server.clone();
        let headers = asked.headers.map(|headers| apart(&server, headers)).unwrap_or_default();
        let limit = asked.limit.map_or(server.timeout, |limit| limit.min(server.timeout));
        let name = offered.tool.name.clone();
        let mut params = json!({"name": name, "arguments": arguments});
        if let Some(meta) = asked.meta {
            params["_meta"] = meta;
        }
        let (leaves, notes) = (asked.ends_with_caller || server.cancel_on_disconnect, asked.notes);
        let result = self
            .run_until(leaves, asked.cancel, move |hub| async move {
                hub.line(&server, &headers)?.call(&name, params, notes, limit).await
            })
            .await??;
        let is_result = result["content"].is_array() || result.get("structuredContent").is_some();
        if is_result {
            Ok(ToolResult { told: result })
        } else {
            Err(Fault::Broken("its result has no content".to_owned()))
        }
    }

    /// Any other request to a server.
    ///
    /// # Errors
    /// Why there is no result.
    pub async fn ask(
        &self,
        server: &Arc<Server>,
        method: &'static str,
        params: Value,
        headers: &HeaderMap,
        notes: Option<Notes>,
    ) -> Result<Value, Fault> {
        let (server, headers) = (server.clone(), apart(server, headers));
        self.run(false, move |hub| async move {
            let limit = server.timeout;
            hub.line(&server, &headers)?.ask(method, params, Vec::new(), notes, limit).await
        })
        .await?
    }

    /// Asks all of these servers that can do `what` the same; who does not answer in time is left out and named.
    pub async fn ask_all(
        &self,
        servers: &[Arc<Server>],
        what: &'static str,
        method: &'static str,
        params: &Value,
        headers: &HeaderMap,
    ) -> Vec<(Arc<Server>, Result<Value, Fault>)> {
        let patience = if servers.len() > 1 { PATIENCE } else { line::LISTING };
        let asked: Vec<_> = servers.iter().map(|s| (s.clone(), apart(s, headers), params.clone())).collect();
        let answered = self.run(false, move |hub| async move {
            join_all(asked.into_iter().map(|(server, headers, params)| {
                let hub = hub.clone();
                async move {
                    let line = hub.line(&server, &headers)?;
                    if !line.can(what, patience).await? {
                        return Ok(Value::Null);
                    }
                    line.ask(method, params, Vec::new(), None, patience.min(server.timeout)).await
                }
            }))
            .await
        });
        let answered = answered.await.unwrap_or_else(|fault| vec![Err(fault); servers.len()]);
        servers.iter().cloned().zip(answered).collect()
    }

    /// The tools of a server that is not in the configuration. Nothing is kept of it.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn try_out(&self, server: &Arc<Server>) -> Result<Vec<Value>, Fault> {
        let server = server.clone();
        self.run(true, move |hub| async move {
            let listed = match hub.line(&server, &Apart::default()) {
                Ok(line) => line.look().await,
                Err(fault) => Err(fault),
            };
            hub.forget(&server).await;
            let told = |tool: &Arc<tool::Tool>| {
                let params = None;
                Offered { name: tool.name.clone(), server: server.clone(), tool: tool.clone(), params }.told()
            };
            listed.map(|tools| tools.iter().map(told).collect())
        })
        .await?
    }

    /// Looks whether the server answers now, however it was before.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn probe(&self, server: &Arc<Server>) -> Result<usize, Fault> {
        let server = server.clone();
        self.run(true, move |hub| async move {
            let line = hub.line(&server, &Apart::default())?;
            line.look().await.map(|tools| tools.len())
        })
        .await?
    }
}

/// Whether arguments fit the schema of the tool.
///
/// # Errors
/// What does not fit, and where.
pub fn check_arguments(offered: &Offered, arguments: &Value) -> Result<(), String> {
    schema::check(&offered.schema(), arguments)
}

/// What tells this caller of the server from others: headers that the operator wants passed on, and what it can be asked.
fn apart(server: &Server, headers: &HeaderMap) -> Apart {
    let passed = |name: &HeaderName| Some((name.clone(), headers.get(name)?.clone()));
    // In a pipe nobody says to whose call a question belongs.
    let session = headers.get("mcp-session-id").filter(|_| matches!(server.reach, Reach::Net { .. }));
    let asks = session.and_then(|id| id.to_str().ok()).map(Asks::of_session).unwrap_or_default();
    Apart { headers: server.forwarded.iter().filter_map(passed).collect(), asks }
}
