//! Several gateways on one store: who is there, and whether budgets are counted here or there.
//!
//! A gateway that is alone counts in memory. One that sees another sets aside in the store, call by call, what a call may
//! cost, and so does the other: the one that was alone first puts what its calls hold into the store, and until it says
//! so the one that joins admits nobody under a budget. What a gateway that is gone has set aside stays, until its spool
//! is booked by its successor or somebody releases it.

use super::Limits;
use super::plan::Pot;
use crate::database::{self, State as Database};
use crate::gateway::Gateway;
use crate::store::{Engine, Node, Reservation, Result};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a gateway says that it lives, and looks who else does.
const BEAT: Duration = Duration::from_secs(1);
/// The same while it waits for another to see it.
const JOINING: Duration = Duration::from_millis(100);
/// A gateway that has not been seen for so long is gone, in microseconds.
pub const GONE: i64 = 10_000_000;
/// How long a call waits until it is known who counts.
const PATIENCE: Duration = Duration::from_secs(5);
/// Locks of the gateways that use a state directory, each by its id.
const FOLDER: &str = "nodes";

/// Who counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Not known yet.
    Unknown,
    /// This gateway, in memory.
    Alone,
    /// Another one is there, and may count in its memory still.
    Joining,
    /// The store.
    Shared,
}

/// What a gateway knows of the others.
#[derive(Debug)]
pub struct Share {
    mode: AtomicU8,
    /// Other gateways that live.
    others: AtomicU64,
    changed: tokio::sync::Notify,
    /// Calls that were never made, and whose reservation is in the store.
    unmade: Mutex<Vec<String>>,
    news: tokio::sync::Notify,
}

impl Default for Share {
    fn default() -> Self {
        Share {
            mode: AtomicU8::new(Mode::Unknown as u8),
            others: AtomicU64::new(0),
            changed: tokio::sync::Notify::new(),
            unmade: Mutex::default(),
            news: tokio::sync::Notify::new(),
        }
    }
}

impl Share {
    pub fn mode(&self) -> Mode {
        match self.mode.load(Ordering::Acquire) {
            1 => Mode::Alone,
            2 => Mode::Joining,
            3 => Mode::Shared,
            _ => Mode::Unknown,
        }
    }

    fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// How many gateways live, this one included.
    pub fn gateways(&self) -> u64 {
        self.others.load(Ordering::Relaxed) + 1
    }

    /// Whether the store counts; none where that is not known in time.
    pub async fn is_shared(&self) -> Option<bool> {
        let settled = || match self.mode() {
            Mode::Alone => Some(false),
            Mode::Shared => Some(true),
            Mode::Unknown | Mode::Joining => None,
        };
        if let Some(known) = settled() {
            return Some(known);
        }
        let wait = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                if let Some(known) = settled() {
                    return known;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.ok()
    }

    /// What the store holds for this call is to be given back.
    pub fn give_back(&self, call_id: String) {
        self.unmade.lock().unwrap_or_else(PoisonError::into_inner).push(call_id);
        self.news.notify_one();
    }
}

/// The lock of this gateway in its state directory, for as long as it is kept.
struct Place {
    folder: PathBuf,
    _own: Option<File>,
    /// Gateways of this directory that have ended, and whose reservations are still to be released.
    ended: Vec<String>,
}

impl Place {
    /// Takes a place in the state directory, and finds out who is no longer there.
    fn take(state_dir: &Path, node: &str) -> io::Result<Place> {
        let folder = state_dir.join(FOLDER);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let mut ended = Vec::new();
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            // A lock that can be taken is nobody's: its process has ended, however that came.
            if File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
                ended.extend(entry.file_name().into_string());
            }
        }
        let own = OpenOptions::new().create(true).append(true).mode(0o600).open(folder.join(node))?;
        let _ = own.try_lock();
        Ok(Place { folder, _own: Some(own), ended })
    }

    fn forget(&mut self, node: &str) {
        let _ = std::fs::remove_file(self.folder.join(node));
        self.ended.retain(|id| id != node);
    }
}

/// Says that this gateway lives, and looks for others; until the process ends.
pub async fn keep(gateway: Arc<Gateway>) {
    let limits = gateway.limits.clone();
    let state_dir = gateway.live().config.state_dir.clone();
    let mut place = Place::take(&state_dir, &limits.node).unwrap_or_else(|e| {
        tracing::warn!("{}: {e}; what an ended gateway had set aside is not found", state_dir.join(FOLDER).display());
        Place { folder: state_dir.join(FOLDER), _own: None, ended: Vec::new() }
    });
    let mut said_ended = false;
    loop {
        match gateway.database.settled().await {
            // SQLite is one machine's, and each beat would be a write to its disk.
            _ if gateway.store.engine() == Engine::Sqlite => {
                if let Err(fault) = release_ended(&limits, &mut place).await {
                    tracing::debug!("what was set aside cannot be released: {fault}");
                }
                if limits.share.mode() == Mode::Unknown {
                    limits.share.set(Mode::Alone);
                }
                if place.ended.is_empty() {
                    // The lock is kept.
                    std::future::pending::<()>().await;
                }
            }
            // Nobody can be seen, so nobody can be shared with.
            Database::Down if limits.share.mode() == Mode::Unknown => limits.share.set(Mode::Alone),
            Database::Up => {
                let beat = async {
                    if !said_ended {
                        for id in &place.ended {
                            say_gone(&limits, id).await?;
                        }
                        said_ended = true;
                    }
                    beat(&limits, None).await?;
                    give_back(&limits).await?;
                    release_ended(&limits, &mut place).await
                };
                if let Err(fault) = beat.await {
                    tracing::debug!("other gateways cannot be looked for: {fault}");
                }
            }
            Database::Down | Database::Unknown => (),
        }
        let pause = if limits.share.mode() == Mode::Joining { JOINING } else { BEAT };
        let _ = tokio::time::timeout(pause, limits.share.news.notified()).await;
    }
}

/// Says that this gateway ends: the others need not wait until it is not seen any more.
pub async fn leave(gateway: &Gateway) {
    let limits = &gateway.limits;
    let folder = gateway.live().config.state_dir.join(FOLDER);
    let last = async {
        give_back(limits).await?;
        beat(limits, Some(database::now())).await
    };
    let counts = gateway.store.engine() == Engine::Postgres && gateway.database.state() == Database::Up;
    if !counts || matches!(tokio::time::timeout(BEAT, last).await, Ok(Ok(()))) {
        let _ = std::fs::remove_file(folder.join(&limits.node));
    }
}

async fn beat(limits: &Limits, gone_at: Option<i64>) -> Result<()> {
    let now = database::now();
    let share = &limits.share;
    let me = |mode: Mode| Node {
        id: limits.node.clone(),
        name: host(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: limits.started_at,
        seen_at: now,
        gone_at,
        alone: mode == Mode::Alone,
    };
    limits.store.heartbeat(&me(share.mode())).await?;
    if gone_at.is_some() {
        return Ok(());
    }
    let look = async || {
        let mut others = limits.store.live_nodes(now - GONE).await?;
        others.retain(|node| node.id != limits.node);
        share.others.store(others.len() as u64, Ordering::Relaxed);
        Ok::<_, crate::store::Fault>(others)
    };
    let mut others = look().await?;
    if others.is_empty() && share.mode() != Mode::Alone {
        // Whoever comes from now on must see that calls are counted here, before the first of them is.
        limits.store.heartbeat(&me(Mode::Alone)).await?;
        others = look().await?;
        if others.is_empty() {
            // What others have spent and set aside is read again.
            limits.forget();
            share.set(Mode::Alone);
        } else {
            limits.store.heartbeat(&me(Mode::Joining)).await?;
        }
    }
    if others.is_empty() {
        return Ok(());
    }
    if share.mode() == Mode::Alone {
        tracing::info!("another gateway ('{}') uses the store: budgets are counted there from now on", others[0].name);
        share.set(Mode::Joining);
        put_into_store(limits, now).await?;
        limits.store.heartbeat(&me(Mode::Joining)).await?;
    }
    let is_clear = others.iter().all(|node| !node.alone);
    match share.mode() {
        Mode::Shared => (),
        _ if is_clear => share.set(Mode::Shared),
        _ => share.set(Mode::Joining),
    }
    Ok(())
}

/// What calls hold in memory is set aside in the store, without being asked whether there is room: those under way, and
/// what those have cost that the ledger has not booked yet.
async fn put_into_store(limits: &Limits, now: i64) -> Result<()> {
    let flying = limits.book().flying();
    for one in flying {
        let name = one.claim.name();
        let (mut stored, mut more) = (0, one.nanos);
        // The ledger books what has ended meanwhile.
        if !limits.book().is_flying(&one) {
            continue;
        }
        // A call that went to a dearer deployment meanwhile has set more aside; there is an end to that.
        loop {
            let wanted = |pot: &Pot| Reservation {
                entity: (*pot.entity).clone(),
                nanos: more,
                limit_nanos: None,
                strict: false,
            };
            let wanted: Vec<Reservation> = one.plan.pots.iter().map(wanted).collect();
            let _ = limits.store.reserve(&name, &limits.node, &wanted, now).await?;
            stored += more;
            let marked = limits.book().mark_stored(&one, stored);
            match marked {
                Some(0) => break,
                Some(missing) => more = missing,
                // One that has ended meanwhile did not know of it.
                None => {
                    limits.store.unreserve(std::slice::from_ref(&name)).await?;
                    break;
                }
            }
        }
    }
    Ok(())
}

async fn give_back(limits: &Limits) -> Result<()> {
    let ids = std::mem::take(&mut *limits.share.unmade.lock().unwrap_or_else(PoisonError::into_inner));
    if ids.is_empty() {
        return Ok(());
    }
    let done = limits.store.unreserve(&ids).await;
    if done.is_err() {
        limits.share.unmade.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
    }
    done
}

/// The process of that gateway has ended.
async fn say_gone(limits: &Limits, id: &str) -> Result<()> {
    match limits.store.node(id).await? {
        Some(node) if node.gone_at.is_none() => {
            limits.store.heartbeat(&Node { gone_at: Some(database::now()), ..node }).await
        }
        _ => Ok(()),
    }
}

/// What ended gateways of this directory had set aside: their spools are booked, so what is left was never sent.
async fn release_ended(limits: &Limits, place: &mut Place) -> Result<()> {
    if place.ended.is_empty() || !limits.is_recovered.load(Ordering::Acquire) {
        return Ok(());
    }
    for id in place.ended.clone() {
        limits.store.release(&id, database::now()).await?;
        place.forget(&id);
    }
    Ok(())
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
