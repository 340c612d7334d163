//! What all workers share: the configuration in force, and the end of the process.

use crate::auth::Auth;
use crate::auth::customers::Customers;
use crate::auth::remembered::Remembered;
use crate::clock::Clock;
use crate::config::stored::Stored;
use crate::config::{Config, Mode, Sources, load};
use crate::database::{self, Told, Watch};
use crate::dispatch::recent::Recent;
use crate::http::Underway;
use crate::ledger::{Ledger, Pen};
use crate::limits::Limits;
use crate::limits::plans::Plans;
use crate::mcp::Mcp;
use crate::route::{Deployment, Pulse, Routes};
use crate::store::Store;
use crate::upstream::Upstream;
use crate::upstream::tls::TlsConfigs;
use crate::visitors::Visitors;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// A configuration in force. Calls keep the one they began with.
pub struct Live {
    /// Counts the configurations of this process.
    pub generation: u64,
    pub config: Config,
    pub routes: Routes,
    pub auth: Auth,
}

impl Live {
    pub fn new(generation: u64, config: Config) -> Self {
        Live {
            generation,
            routes: Routes::new(config.deployments.clone(), config.routing.clone()),
            auth: Auth::new(config.master_key.as_ref(), config.server.key_header.as_deref()),
            config,
        }
    }
}

/// Shared by all workers.
pub struct Gateway {
    live: ArcSwap<Live>,
    sources: ArcSwap<Sources>,
    generation: AtomicU64,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
    pub tls: Arc<TlsConfigs>,
    /// Servers of tools.
    pub mcp: Mcp,
    /// What is remembered; nothing is asked of it before the gateway is ready.
    pub store: Store,
    /// Whether the store answers.
    pub database: Watch,
    /// Calls on their way to the store.
    pub ledger: Arc<Ledger>,
    /// What is counted against limits.
    pub limits: Arc<Limits>,
    /// How the latest calls went that did not go straight.
    pub recent: Recent,
    /// Keys that were looked up.
    pub keys: Remembered,
    /// Customers that calls are not routed like others for.
    pub customers: Customers,
    /// Responses that are being made in the background.
    pub underway: Underway,
    pub ending: Ending,
    pub visitors: Arc<Visitors>,
    pub started: Instant,
}

/// What a reload did.
#[derive(Debug)]
pub struct Reloaded {
    pub warnings: Vec<String>,
    /// Settings that differ and wait for a restart.
    pub needs_restart: Vec<&'static str>,
    /// Whether a gateway that is started with them would get up as far as can be known here.
    pub may_restart: bool,
    pub models: usize,
}

impl Gateway {
    /// To be called on the runtime that lives as long as the process: connections of the store are made there.
    ///
    /// # Errors
    /// A text for the operator: the store cannot be set up.
    pub fn new(sources: Sources, config: Config) -> Result<Arc<Self>, String> {
        let store = database::open(&config, tokio::runtime::Handle::current())?;
        store.declare(config.declared.clone());
        let tls: Arc<TlsConfigs> = Arc::default();
        Ok(Arc::new(Gateway {
            limits: Limits::new(store.clone()),
            mcp: Mcp::new(tls.clone()),
            store,
            database: Watch::default(),
            keys: Remembered::default(),
            recent: Recent::default(),
            customers: Customers::default(),
            underway: Underway::default(),
            ledger: Ledger::new(&config.state_dir, config.ledger.spool_limit, database::now()),
            live: ArcSwap::from_pointee(Live::new(0, config)),
            sources: ArcSwap::from_pointee(sources),
            generation: AtomicU64::new(0),
            reloading: tokio::sync::Mutex::default(),
            tls,
            ending: Ending::new(),
            visitors: Arc::default(),
            started: Instant::now(),
        }))
    }

    /// The configuration in force now.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Where the configuration is read from.
    pub fn sources(&self) -> Arc<Sources> {
        self.sources.load_full()
    }

    /// From now on the configuration is read from there.
    pub fn read_from(&self, sources: Sources) {
        self.sources.store(Arc::new(sources));
    }

    /// Reads configuration and secrets again; what is open goes on with the old ones.
    ///
    /// # Errors
    /// What is wrong with the new configuration; the old one stays.
    pub async fn reload(&self) -> Result<Reloaded, String> {
        let _one = self.reloading.lock().await;
        let sources = self.sources();
        let config = tokio::task::spawn_blocking(move || load(&sources, Mode::Live))
            .await
            .map_err(|e| format!("the reload failed: {e}"))??;
        Ok(self.replace(config))
    }

    /// Puts in force what is stored now, if that is not so already.
    ///
    /// # Errors
    /// The store does not answer, or the configuration cannot be read any more.
    pub async fn take_stored(&self) -> Result<(), String> {
        let rows = self.store.configured().await.map_err(|e| e.to_string())?;
        let stored = Stored::open(rows, &self.live().config.seals);
        let sources = self.sources();
        if *sources.stored == stored {
            return Ok(());
        }
        self.read_from(Sources { stored: Arc::new(stored), ..(*sources).clone() });
        self.reload().await.map(|reloaded| reloaded.warnings.iter().for_each(|w| tracing::warn!("{w}")))
    }

    /// What becomes of a model, without serving it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn try_model(&self, model: &crate::config::file::Model) -> Result<Deployment, String> {
        crate::config::try_model(&self.sources(), model)
    }

    /// Puts another configuration in force.
    pub fn replace(&self, config: Config) -> Reloaded {
        let old = self.live();
        let mut needs_restart = old.config.server.needs_restart(&config.server);
        if old.config.log != config.log {
            needs_restart.push("log");
        }
        if old.config.ledger.spool_limit != config.ledger.spool_limit {
            needs_restart.push("ledger.spool_limit");
        }
        let is_same_redis = match (&old.config.limits.redis, &config.limits.redis) {
            (Some(old), Some(new)) => old.is_same(new),
            (old, new) => old.is_none() && new.is_none(),
        };
        if !is_same_redis {
            needs_restart.push("limits.redis");
        }
        if old.config.state_dir != config.state_dir {
            needs_restart.push("state_dir");
        }
        if !old.config.store.is_at(&config.store) {
            needs_restart.push("database_url");
        }
        if old.config.allow_anonymous != config.allow_anonymous {
            needs_restart.push("allow_anonymous");
        }
        if config.master_key.is_none() && old.config.master_key.is_some() {
            // Whether callers without a key may be served depends on the addresses, which are checked at the start.
            needs_restart.push("master_key (it is gone; the old one stays in force until then)");
        }
        // Without a key the addresses decide at the start, and they may say no.
        let loses_key = config.master_key.is_none()
            && (old.config.master_key.is_some() || old.config.allow_anonymous && !config.allow_anonymous);
        let reloaded = Reloaded {
            warnings: config.warnings.clone(),
            needs_restart,
            may_restart: !loses_key,
            models: config.deployments.len(),
        };
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let keeps_key = config.master_key.is_none();
        let mut config = config;
        adopt(&mut config.deployments, &old.routes);
        let mut live = Live::new(generation, config);
        if keeps_key {
            live.auth = Auth::new(old.config.master_key.as_ref(), live.config.server.key_header.as_deref());
            live.config.master_key = old.config.master_key.clone();
        }
        self.tls.clear();
        let declared = live.config.declared.clone();
        self.mcp.keep(&live);
        let has_other_servers = old.config.mcp.servers != live.config.mcp.servers;
        self.live.store(Arc::new(live));
        if has_other_servers {
            self.mcp.changed();
        }
        self.store.declare(declared);
        // What is remembered of a key that is no longer declared, or declared otherwise, counts no more.
        self.keys.forget(&Told::All);
        reloaded
    }
}

/// What is known of how a deployment does outlives a reload.
fn adopt(deployments: &mut [Arc<Deployment>], old: &Routes) {
    let known: HashMap<&str, &Arc<Pulse>> = old.deployments.iter().map(|d| (&*d.id, &d.pulse)).collect();
    for deployment in deployments {
        // Nobody else has it yet.
        if let (Some(pulse), Some(deployment)) = (known.get(&*deployment.id).copied(), Arc::get_mut(deployment)) {
            deployment.pulse = pulse.clone();
        }
    }
}

/// The end of the process, in two steps: no new work, then no work at all.
pub struct Ending {
    draining: AtomicBool,
    cut: AtomicBool,
    /// Told when the last connection has ended.
    pub empty: tokio::sync::Notify,
}

impl Ending {
    fn new() -> Self {
        Ending { draining: AtomicBool::new(false), cut: AtomicBool::new(false), empty: tokio::sync::Notify::new() }
    }

    /// From now on connections are closed after their answer.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// What is still open ends within a tick of the workers' clocks.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::Release);
    }

    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }
}

/// One of the threads that serve calls.
pub struct Worker {
    pub gateway: Arc<Gateway>,
    pub upstream: Upstream,
    pub clock: Rc<Clock>,
    /// Writes this worker's calls into the ledger.
    pub pen: Rc<Pen>,
    /// The limits of those who called lately.
    pub plans: Plans,
}
