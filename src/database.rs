//! The store in the daemon: brought up to date once the gateway serves, watched, and its state told.
//!
//! The gateway is ready before it asks for the database, and goes on without it: what a call needs of it is remembered
//! ([`crate::auth`]), and what a call leaves behind waits in the ledger's spool.

pub mod sweep;

use crate::auth::customers::Customers;
use crate::config::Config;
use crate::config::store::FILE;
use crate::gateway::Gateway;
use crate::store::{CONFIGURED, Change, Engine, Fault, Store};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How often changes are asked for while keys are remembered: a revoked one stops within a second.
const POLL: Duration = Duration::from_millis(400);
/// The same while none is.
const IDLE: Duration = Duration::from_secs(5);
/// Between two tries to reach a database that is down.
const RETRY: Duration = Duration::from_secs(1);
/// The longest that a call waits for the first look.
const FIRST: Duration = Duration::from_secs(5);
/// Changes read at once.
const MANY: i64 = 1000;

/// Whether the database answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Not asked yet.
    Unknown,
    Up,
    Down,
}

/// The state of the store, as the last look at it found it.
#[derive(Debug)]
pub struct Watch {
    state: AtomicU8,
    why: Mutex<String>,
    /// When it answered last.
    answered: Mutex<Option<Instant>>,
    /// Told with the first look.
    looked: tokio::sync::Notify,
    /// Told where the next look is not to wait.
    pub wake: tokio::sync::Notify,
}

impl Default for Watch {
    fn default() -> Self {
        Watch {
            state: AtomicU8::new(State::Unknown as u8),
            why: Mutex::default(),
            answered: Mutex::default(),
            looked: tokio::sync::Notify::new(),
            wake: tokio::sync::Notify::new(),
        }
    }
}

impl Watch {
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            1 => State::Up,
            2 => State::Down,
            _ => State::Unknown,
        }
    }

    /// The state after the first look. A call that comes at once waits for it, instead of finding no tables.
    pub async fn settled(&self) -> State {
        if self.state() == State::Unknown {
            let mut looked = std::pin::pin!(self.looked.notified());
            looked.as_mut().enable();
            if self.state() == State::Unknown {
                let _ = tokio::time::timeout(FIRST, looked).await;
            }
        }
        self.state()
    }

    /// What is wrong with a database that is down; for the operator.
    pub fn why(&self) -> String {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long ago it answered last: what was remembered then was true then.
    pub fn silent_for(&self) -> Option<Duration> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.elapsed())
    }

    /// Notes what was found; whether that is news.
    fn found(&self, state: State, why: &str) -> bool {
        why.clone_into(&mut self.why.lock().unwrap_or_else(PoisonError::into_inner));
        if state == State::Up {
            *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        let news = self.state.swap(state as u8, Ordering::Relaxed) != state as u8;
        self.looked.notify_waiters();
        news
    }
}

/// The store that the configuration names. Nothing is connected to, and no file is made, before the first verb.
///
/// # Errors
/// A text for the operator: there can be no pool, or no thread.
pub fn open(config: &Config, runtime: tokio::runtime::Handle) -> Result<Store, String> {
    match &config.store.postgres {
        Some(address) => Store::postgres(address, runtime),
        None => Store::sqlite(&config.state_dir.join(FILE)),
    }
    .map_err(|e| format!("the store cannot be opened: {e}"))
}

/// Microseconds since 1970, as the store counts time.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Migrates the store, follows its changes, and reconnects where it was lost; until the process ends.
pub async fn keep(gateway: Arc<Gateway>) {
    let mut seen: Option<i64> = None;
    let mut migrated = false;
    loop {
        let look = async {
            if !migrated {
                let schema = gateway.store.migrate(now()).await?;
                tracing::debug!("the store has the schema {}.{}", schema.major, schema.version);
            }
            let (number, told) = changes(&gateway.store, seen).await?;
            if matches!(&told, Told::All) || matches!(&told, Told::Some(changes) if Customers::concerns(changes)) {
                gateway.customers.read(&gateway.store).await?;
            }
            Ok::<_, Fault>((number, told))
        };
        match look.await {
            Ok((number, told)) => {
                migrated = true;
                seen = Some(number);
                gateway.keys.forget(&told);
                if told != Told::Some(Vec::new()) {
                    gateway.limits.forget();
                }
                if concerns_configuration(&told)
                    && let Err(why) = gateway.take_stored().await
                {
                    tracing::warn!("what is stored of the configuration cannot be put in force: {why}");
                }
                if gateway.database.found(State::Up, "") {
                    // What was counted without it is known better now.
                    gateway.limits.forget();
                    tracing::info!("the store ({}) is in use", gateway.store.engine().name());
                    crate::systemd::status(&crate::serve::status(&gateway));
                }
                if told == Told::Some(Vec::new()) || told == Told::All {
                    // Other gateways may be told of a model at any time; a file of one's own is changed by oneself.
                    let alone = gateway.store.engine() == Engine::Sqlite;
                    let pause = if gateway.keys.is_empty() && alone { IDLE } else { POLL };
                    let _ = tokio::time::timeout(pause, gateway.database.wake.notified()).await;
                }
            }
            Err(fault) => {
                say_down(&gateway, &fault);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn say_down(gateway: &Gateway, fault: &Fault) {
    let news = gateway.database.found(State::Down, &fault.to_string());
    if !news {
        return;
    }
    let name = gateway.store.engine().name();
    match gateway.store.engine() {
        Engine::Postgres => {
            tracing::error!(
                "the store ({name}) is down; keys that are remembered go on, and it is tried again: {fault}"
            );
        }
        Engine::Sqlite => tracing::warn!(
            "the store ({name}) cannot be used, so there are no keys but the master key; it is tried again: {fault}"
        ),
    }
    crate::systemd::status(&crate::serve::status(gateway));
}

fn concerns_configuration(told: &Told) -> bool {
    match told {
        Told::All => true,
        Told::Some(changes) => changes.iter().any(|change| change.kind == CONFIGURED),
    }
}

/// What is to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// What these changes name.
    Some(Vec<Change>),
    /// Everything: the changes in between are no longer told.
    All,
}

/// What was changed since the last look, and the number to go on from.
async fn changes(store: &Store, seen: Option<i64>) -> Result<(i64, Told), Fault> {
    let Some(seen) = seen else {
        return Ok((store.last_change().await?, Told::All));
    };
    let changes = store.changes_after(seen, MANY).await?;
    match (changes.first(), changes.last()) {
        (Some(first), Some(last)) if first.number == seen + 1 => Ok((last.number, Told::Some(changes))),
        (Some(_), Some(_)) => Ok((store.last_change().await?, Told::All)),
        _ => Ok((seen, Told::Some(changes))),
    }
}
