//! The daemon: sockets, workers, signals, and an end that loses nothing.

mod door;
mod pages;
mod threads;

use crate::checks;
use crate::clock::Clock;
use crate::config::stamp::Stamp;
use crate::config::units::count;
use crate::config::{Config, Listen, Mode, Sources, load};
use crate::database::{self, State};
use crate::gateway::{Gateway, Worker};
use crate::ledger::writer::Writer;
use crate::limits::plans::Plans;
use crate::systemd::{self, Listener};
use crate::upstream::Upstream;
use crate::{control, http, limits, telemetry};
use actix_cors::Cors;
use actix_web::dev::ServerHandle;
use actix_web::middleware::Condition;
use actix_web::{App, HttpServer, web};
use socket2::{Domain, SockAddr, Socket, Type};
use std::net::ToSocketAddrs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// Time for the ledger's last rows; what is not booked by then, the next process finds.
const LAST_BOOKING: Duration = Duration::from_secs(1);
/// By then the workers have begun, and what only the start needed is not needed any more.
const BEGUN: Duration = Duration::from_millis(300);
/// The name of sockets that no service manager named.
const CONFIGURED: &str = "configured";

/// Runs the gateway until it is asked to stop. `then` runs once it is ready.
///
/// # Errors
/// A text for the operator: what kept it from starting.
pub fn run<F, R>(sources: Sources, then: F) -> Result<(), String>
where
    F: FnOnce(Arc<Gateway>, Vec<String>) -> R + 'static,
    R: Future<Output = ()> + 'static,
{
    let read = Stamp::of(&sources);
    let config = load(&sources, Mode::Live)?;
    telemetry::start(&config.log)?;
    for warning in &config.warnings {
        tracing::warn!("configuration: {warning}");
    }
    let listeners = listeners(&config, sources.port)?;
    if config.master_key.is_none() {
        check_anonymous(&config, &listeners)?;
    }
    make_private(&config.state_dir);
    // Sockets of our own making go with us; systemd's stay.
    let own: Vec<PathBuf> =
        listeners.iter().filter(|(name, _)| name == CONFIGURED).filter_map(|(_, l)| l.path()).collect();
    check_idle(&config, &listeners)?;
    let result = actix_web::rt::System::new().block_on(async {
        let gateway = Gateway::new(sources, config)?;
        daemon(gateway, read, listeners, then).await
    });
    for path in own {
        let _ = std::fs::remove_file(path);
    }
    result
}

/// One line for `systemctl status`.
pub fn status(gateway: &Gateway) -> String {
    let models = gateway.live().routes.names().len();
    let mut serving = format!("serving {}", count(models, "model"));
    let down = checks::ill(&gateway.live());
    if let Some(first) = down.first() {
        let more = if down.len() > 1 { format!(" and {} more", down.len() - 1) } else { String::new() };
        serving.push_str(&format!("; down: {first}{more}"));
    }
    match gateway.database.state() {
        State::Down => format!("{serving}; the store ({}) is down", gateway.store.engine().name()),
        _ => serving,
    }
}

async fn daemon<F, R>(
    gateway: Arc<Gateway>,
    read: Stamp,
    listeners: Vec<(String, Listener)>,
    then: F,
) -> Result<(), String>
where
    F: FnOnce(Arc<Gateway>, Vec<String>) -> R + 'static,
    R: Future<Output = ()> + 'static,
{
    let watch = |kind| signal(kind).map_err(|e| format!("signals cannot be handled: {e}"));
    let (mut terminate, mut interrupt, mut hangup) =
        (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?, watch(SignalKind::hangup())?);
    let addresses: Vec<String> = listeners.iter().map(|(_, listener)| listener.address()).collect();

    let watchdog = systemd::watchdog();
    let beats = Arc::new(Beats::new(gateway.live().config.server.workers));
    let server = workers(&gateway, listeners, watchdog.map(|_| beats.clone()))?;
    let handle = server.handle();
    let mut server = actix_web::rt::spawn(server);

    let control_path = control::path(&gateway.live().config.state_dir);
    let control = control::bind(&control_path)
        .inspect_err(|e| tracing::warn!("`gateway reload` will not reach this gateway: {e}"))
        .ok();
    let owner = control::owner(&control_path);

    if Stamp::of(&gateway.sources()) != read {
        // Whoever wrote the new one asked for a reload, and found nobody. From here on somebody can be asked.
        control::take_up(&gateway).await;
    }
    systemd::ready(&status(&gateway));
    tracing::info!("ready on {}: {}", addresses.join(", "), status(&gateway));
    warm_up(&gateway);
    gateway.mcp.warm_up(&gateway.live());
    actix_web::rt::spawn(database::keep(gateway.clone()));
    actix_web::rt::spawn(checks::keep(gateway.clone()));
    actix_web::rt::spawn(database::sweep::keep(gateway.clone()));
    actix_web::rt::spawn(http::open_batches::keep(worker(&gateway)));
    actix_web::rt::spawn(limits::alerts::keep(gateway.clone()));
    actix_web::rt::spawn(limits::share::keep(gateway.clone()));
    actix_web::rt::spawn(limits::remote::keep(gateway.clone()));
    let booked = Arc::new(tokio::sync::Notify::new());
    let writer = Writer::new(gateway.store.clone(), gateway.ledger.clone(), gateway.limits.clone());
    let writer = actix_web::rt::spawn(writer.run(booked.clone(), LAST_BOOKING));
    actix_web::rt::spawn(then(gateway.clone(), addresses));
    actix_web::rt::spawn(async {
        tokio::time::sleep(BEGUN).await;
        pages::give_back();
    });

    let idle = gateway.live().config.server.idle_timeout;
    let mut look = tokio::time::interval(door::look_every(idle));
    let mut ended_by_itself = false;
    let mut tick = tokio::time::interval(watchdog.map_or(Duration::from_secs(3600), |limit| limit / 3));
    let result = loop {
        tokio::select! {
            ended = &mut server => break ended.map_err(|e| e.to_string()).and_then(|r| r.map_err(|e| e.to_string())),
            () = gateway.ending.empty.notified() => break Ok(()),
            _ = terminate.recv() => stop(&gateway, &handle),
            _ = interrupt.recv() => stop(&gateway, &handle),
            _ = hangup.recv() => { control::reload(&gateway).await; }
            Some(stream) = accept(control.as_ref()) => {
                let visit = gateway.visitors.enter();
                let gateway = gateway.clone();
                actix_web::rt::spawn(async move {
                    control::serve(gateway, stream, owner).await;
                    drop(visit);
                });
            }
            _ = look.tick(), if idle.is_some() && !ended_by_itself && !gateway.ending.is_draining() => {
                let limit = idle.unwrap_or_default();
                if gateway.visitors.quiet().is_some_and(|quiet| quiet >= limit) && door::close(&gateway, &handle).await {
                    ended_by_itself = true;
                    tracing::info!("no connection for {limit:?}: ending; the next one starts the gateway again");
                    systemd::stopping("idle; the next connection starts the gateway again");
                    actix_web::rt::spawn(handle.stop(true));
                }
            }
            _ = tick.tick(), if watchdog.is_some() => {
                if beats.are_fresh(watchdog.unwrap_or_default()) {
                    systemd::alive();
                } else {
                    tracing::error!("a worker does not move any more; the watchdog is not answered");
                }
            }
        }
    };
    if control.is_some() {
        // Left behind it would only be in the way of the next one.
        let _ = std::fs::remove_file(&control_path);
    }
    gateway.mcp.close().await;
    // All calls are over, and so are their records: what is left of a second's work is booked now.
    gateway.ledger.sync();
    booked.notify_one();
    let _ = writer.await;
    limits::share::leave(&gateway).await;
    tracing::info!("stopped");
    result.map_err(|e| format!("the server failed: {e}"))
}

async fn accept(control: Option<&tokio::net::UnixListener>) -> Option<tokio::net::UnixStream> {
    match control {
        Some(listener) => listener.accept().await.ok().map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// What a thread needs to ask somebody upstream.
fn worker(gateway: &Arc<Gateway>) -> Rc<Worker> {
    Rc::new(Worker {
        gateway: gateway.clone(),
        upstream: Upstream::new(gateway.tls.clone()),
        clock: Clock::start(gateway.clone()),
        pen: gateway.ledger.pen(),
        plans: Plans::default(),
    })
}

fn workers(
    gateway: &Arc<Gateway>,
    listeners: Vec<(String, Listener)>,
    beats: Option<Arc<Beats>>,
) -> Result<actix_web::dev::Server, String> {
    let settings = gateway.live().config.server.clone();
    let shared = gateway.clone();
    let (origins, root) = (settings.cors_origins.clone(), settings.root_path.clone());
    let mut server = HttpServer::new(move || {
        let worker = worker(&shared);
        if let Some(beats) = &beats {
            actix_web::rt::spawn(beats.clone().keep());
        }
        let root = root.clone();
        App::new()
            .wrap(Condition::new(!origins.is_empty(), cors(&origins)))
            .app_data(worker)
            .configure(move |config| {
                http::routes(config, "");
                if !root.is_empty() {
                    http::routes(config, &root);
                }
            })
            .default_service(web::to(http::elsewhere))
    })
    .workers(settings.workers)
    // Signals are ours: the end has an order.
    .disable_signals()
    // A caller that leaves during a silent stream is noticed at once, and the upstream call ends with it.
    .h1_allow_half_closed(false)
    // Without it the second event of a kept connection waits for an acknowledgement, 40 ms.
    .tcp_nodelay(true)
    .keep_alive(Duration::from_secs(75))
    .client_request_timeout(Duration::from_secs(30))
    .shutdown_timeout(settings.drain.as_secs() + 5);
    let visitors = gateway.visitors.clone();
    server = server.on_connect(move |_, connection| drop(connection.insert(visitors.enter())));
    for (name, listener) in listeners {
        let address = listener.address();
        server = match listener {
            Listener::Tcp(tcp) => server.listen(tcp),
            Listener::Unix(unix) => server.listen_uds(unix),
        }
        .map_err(|e| format!("cannot listen on {address}: {e}"))?;
        tracing::debug!("listening on {address} ({name})");
    }
    Ok(server.run())
}

fn cors(origins: &[String]) -> Cors {
    let cors = Cors::default().allow_any_method().allow_any_header().expose_any_header().max_age(3600);
    if origins.iter().any(|o| o == "*") {
        return cors.allow_any_origin().send_wildcard();
    }
    origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
}

/// No new connections; open calls go on until the limit, then they are ended. A second signal ends them at once.
fn stop(gateway: &Arc<Gateway>, handle: &ServerHandle) {
    if gateway.ending.is_draining() {
        gateway.ending.cut();
        return;
    }
    tracing::info!("stopping: open calls may go on for {:?}", gateway.live().config.server.drain);
    gateway.ending.drain();
    systemd::stopping("finishing open calls");
    let leaving = (gateway.clone(), handle.clone());
    actix_web::rt::spawn(async move {
        door::leave(&leaving.0, &leaving.1).await;
        leaving.0.ending.empty.notify_one();
    });
    let gateway = gateway.clone();
    actix_web::rt::spawn(async move {
        tokio::time::sleep(gateway.live().config.server.drain).await;
        gateway.ending.cut();
    });
}

/// Reads the certificates before the first call needs them, away from the workers.
fn warm_up(gateway: &Arc<Gateway>) {
    let live = gateway.live();
    if live.routes.deployments.iter().any(|d| d.transport.tls) {
        let tls = gateway.tls.clone();
        std::thread::spawn(move || tls.get(None).inspect_err(|e| tracing::warn!("{e}")).map(drop));
    }
}

/// Shows that the workers still move.
struct Beats {
    started: Instant,
    /// Each running worker's last beat, in milliseconds since the start.
    last: Vec<AtomicU64>,
    next: AtomicU64,
}

impl Beats {
    fn new(workers: usize) -> Self {
        Beats {
            started: Instant::now(),
            last: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            next: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn keep(self: Arc<Self>) {
        // A worker that actix starts again takes the place of one that is gone.
        let place = usize::try_from(self.next.fetch_add(1, Ordering::Relaxed)).unwrap_or(0) % self.last.len().max(1);
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tick.tick().await;
            if let Some(beat) = self.last.get(place) {
                beat.store(self.now(), Ordering::Relaxed);
            }
        }
    }

    fn are_fresh(&self, limit: Duration) -> bool {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(3_000);
        let now = self.now();
        self.last.iter().all(|beat| now.saturating_sub(beat.load(Ordering::Relaxed)) < limit)
    }
}

/// The inherited sockets, or those of the configuration.
fn listeners(config: &Config, port: Option<u16>) -> Result<Vec<(String, Listener)>, String> {
    let inherited = systemd::inherited()?;
    if !inherited.is_empty() {
        return Ok(inherited);
    }
    config.server.listen.iter().map(|address| bind(address, port).map(|l| (CONFIGURED.to_owned(), l))).collect()
}

fn bind(address: &Listen, port: Option<u16>) -> Result<Listener, String> {
    match address {
        Listen::Tcp(text) => {
            let mut last = format!("`{text}` leads to no address");
            for address in text.to_socket_addrs().map_err(|e| format!("cannot listen on {text}: {e}"))? {
                let socket = tcp(&address.into());
                match socket {
                    Ok(socket) => return systemd::listener(socket),
                    Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
                        let other = port.unwrap_or(address.port()).checked_add(1).unwrap_or(4000);
                        last = format!(
                            "cannot listen on {address}: the port is taken by another program; choose another one with `--port {other}`"
                        );
                    }
                    Err(e) => last = format!("cannot listen on {address}: {e}"),
                }
            }
            Err(last)
        }
        Listen::Unix(path) => {
            let fail = |e: std::io::Error| format!("cannot listen on unix:{}: {e}", path.display());
            match std::os::unix::net::UnixStream::connect(path) {
                Ok(_) => {
                    return Err(format!("cannot listen on unix:{}: another program listens there", path.display()));
                }
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path).map_err(fail)?
                }
                Err(_) => (),
            }
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(fail)?;
            socket.bind(&SockAddr::unix(path).map_err(fail)?).map_err(fail)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(fail)?;
            socket.listen(BACKLOG).map_err(fail)?;
            systemd::listener(socket)
        }
    }
}

fn tcp(address: &SockAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(address.domain(), Type::STREAM, None)?;
    // A restart must not wait for connections of the process before.
    socket.set_reuse_address(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Without a master key everybody who can connect may spend the providers' keys.
fn check_anonymous(config: &Config, listeners: &[(String, Listener)]) -> Result<(), String> {
    match listeners.iter().find(|(_, listener)| !listener.is_local()) {
        Some((_, open)) if !config.allow_anonymous => Err(format!(
            "there is no master key, and {} can be reached from other machines: set master_key (or LITELLM_MASTER_KEY), listen on 127.0.0.1, or set allow_anonymous = true",
            open.address()
        )),
        _ => {
            tracing::warn!("there is no master key: whoever can connect may use every model");
            Ok(())
        }
    }
}

/// A gateway that ends by itself must be started again by somebody.
fn check_idle(config: &Config, listeners: &[(String, Listener)]) -> Result<(), String> {
    if config.server.idle_timeout.is_some() && listeners.iter().any(|(name, _)| name == CONFIGURED) {
        return Err("server.idle_timeout (--idle-timeout) needs sockets that the service manager keeps: without them nobody starts the gateway again. Take it out, or start the gateway through gateway.socket".to_owned());
    }
    Ok(())
}

/// Makes the state directory, for the gateway's eyes only. What needs it says so when it is missing.
fn make_private(directory: &Path) {
    if let Err(e) = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory) {
        tracing::warn!("the state directory {} cannot be made: {e}", directory.display());
    }
}
