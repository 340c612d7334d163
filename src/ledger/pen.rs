//! What a worker writes calls with, and what all pens and the writer of the store share.

use super::record::{self, End};
use super::spool::{self, Spool};
use crate::error::{Error, Kind, Result};
use crate::store::Settled;
use std::cell::RefCell;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

/// The folder of the spool in the state directory.
pub const FOLDER: &str = "ledger";
/// What a power cut may cost.
const SYNC: Duration = Duration::from_secs(1);
/// How often it is said again that nothing can be written.
const SAY: i64 = 10_000_000;

/// The spool of a process, as its workers and the writer of the store share it.
pub struct Ledger {
    directory: PathBuf,
    started_at: i64,
    /// Pens that were made: each has files of its own.
    pens: AtomicUsize,
    syncs: Mutex<Vec<Arc<spool::Sync>>>,
    unsynced: AtomicBool,
    syncing: OnceLock<Thread>,
    pub(super) unbooked: AtomicBool,
    /// Wakes the writer of the store.
    pub(super) news: tokio::sync::Notify,
    /// What the spool may have on the disk.
    pub(super) limit: u64,
    /// It has grown to its limit, because the store is down.
    pub(super) is_full: AtomicBool,
    /// Ends of calls that the disk did not take any more.
    pub(super) unwritten: Mutex<Vec<Settled>>,
    /// When it was last said that nothing can be written.
    said: AtomicU64,
}

impl Ledger {
    /// A ledger in this state directory, with so many bytes for what is not in the store yet. Nothing is made before the
    /// first call.
    pub fn new(state_dir: &Path, limit: u64, now: i64) -> Arc<Self> {
        Arc::new(Ledger {
            directory: state_dir.join(FOLDER),
            started_at: now,
            pens: AtomicUsize::new(0),
            syncs: Mutex::default(),
            unsynced: AtomicBool::new(false),
            syncing: OnceLock::new(),
            unbooked: AtomicBool::new(false),
            news: tokio::sync::Notify::new(),
            limit,
            is_full: AtomicBool::new(false),
            unwritten: Mutex::default(),
            said: AtomicU64::new(0),
        })
    }

    /// Where the files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The pen of a worker.
    pub fn pen(self: &Arc<Self>) -> Rc<Pen> {
        Rc::new(Pen {
            ledger: self.clone(),
            spool: RefCell::default(),
            bytes: RefCell::default(),
            late: RefCell::default(),
        })
    }

    /// Whether files with this beginning are those of this process.
    pub(super) fn is_own(&self, worker: &str) -> bool {
        worker.strip_prefix(&format!("{:020}", self.started_at)).is_some_and(|rest| rest.starts_with('-'))
    }

    fn begin(self: &Arc<Self>) -> io::Result<Spool> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let spool = Spool::begin(&self.directory, self.started_at, self.pens.fetch_add(1, Ordering::Relaxed))?;
        self.syncs.lock().unwrap_or_else(PoisonError::into_inner).push(spool.sync());
        if self.syncing.get().is_none() {
            let ledger = self.clone();
            let thread =
                std::thread::Builder::new().name("ledger-sync".to_owned()).spawn(move || ledger.keep_synced())?;
            // Of two workers that come at once, one has a second thread that syncs: nothing is lost by that.
            let _ = self.syncing.set(thread.thread().clone());
        }
        Ok(spool)
    }

    /// Something was written.
    fn changed(&self) {
        if !self.unsynced.swap(true, Ordering::AcqRel)
            && let Some(thread) = self.syncing.get()
        {
            thread.unpark();
        }
        if !self.unbooked.swap(true, Ordering::AcqRel) {
            self.news.notify_one();
        }
    }

    /// Syncs what was written, about once a second, and sleeps while nothing is.
    fn keep_synced(&self) {
        loop {
            while !self.unsynced.load(Ordering::Acquire) {
                std::thread::park();
            }
            std::thread::sleep(SYNC);
            self.sync();
        }
    }

    /// Brings everything that was written to the disk.
    pub fn sync(&self) {
        self.unsynced.store(false, Ordering::Release);
        let syncs = self.syncs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for sync in syncs {
            if let Err(e) = sync.sync() {
                self.unsynced.store(true, Ordering::Release);
                self.say(&format!("the ledger in {} cannot be synced to the disk: {e}", self.directory.display()));
            }
        }
        // A spool whose pen is gone lets go of its lock with this.
        let mut syncs = self.syncs.lock().unwrap_or_else(PoisonError::into_inner);
        syncs.retain(|sync| Arc::strong_count(sync) > 1);
    }

    /// Says a fault in the log, and not with every call.
    fn say(&self, what: &str) {
        let now = crate::database::now();
        let last = self.said.load(Ordering::Relaxed);
        if now.abs_diff(i64::try_from(last).unwrap_or(0)) > SAY.unsigned_abs() {
            self.said.store(u64::try_from(now).unwrap_or(0), Ordering::Relaxed);
            tracing::error!("{what}");
        }
    }

    fn refusal(&self, why: &str) -> Error {
        self.say(&format!(
            "the ledger cannot be written: {why}. New calls get a 503 until it can, or are served without a row where ledger.serve_unaccounted is set. The files are in {}",
            self.directory.display()
        ));
        let message =
            "The gateway cannot write its ledger, so it serves no calls now; its operator finds the reason in its log.";
        Error::new(Kind::Unreachable, message).with_type("ledger_unavailable")
    }
}

/// Writes the calls of one worker.
pub struct Pen {
    ledger: Arc<Ledger>,
    /// None before the first call, and where it could not be begun.
    spool: RefCell<Option<Spool>>,
    bytes: RefCell<Vec<u8>>,
    /// Ends of calls that the disk has not taken yet.
    late: RefCell<Vec<Settled>>,
}

impl Pen {
    /// A call is about to be sent upstream. When this says true, its row is sure to come.
    ///
    /// # Errors
    /// A 503: nothing can be written, or the spool is full; with `serve_unaccounted` that is false.
    pub fn open(&self, call: &Settled, serve_unaccounted: bool) -> Result<bool> {
        let refusal = if self.ledger.is_full.load(Ordering::Relaxed) {
            self.ledger.refusal("the store is down, and the spool has grown to ledger.spool_limit")
        } else if let Err(e) = self.write(End::Open, call) {
            self.ledger.refusal(&e.to_string())
        } else {
            self.catch_up();
            return Ok(true);
        };
        if serve_unaccounted { Ok(false) } else { Err(refusal) }
    }

    /// A call is over. Where it was opened and the disk does not take its end any more, that is booked out of memory, and
    /// written as soon as there is room: whichever comes first.
    pub fn settle(&self, call: &Settled, was_opened: bool) {
        if !was_opened && self.ledger.is_full.load(Ordering::Relaxed) {
            return;
        }
        if let Err(e) = self.write(End::Settle, call)
            && was_opened
        {
            self.ledger.say(&format!("the end of call {} cannot be written to the spool: {e}", call.row.id));
            self.ledger
                .unwritten
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Settled { prompt: None, ..call.clone() });
            self.ledger.changed();
            self.late.borrow_mut().push(call.clone());
        } else {
            self.catch_up();
        }
    }

    /// Writes what the disk did not take before. No more of it can come together than calls were under way.
    fn catch_up(&self) {
        if self.late.borrow().is_empty() {
            return;
        }
        let mut late = std::mem::take(&mut *self.late.borrow_mut());
        while let Some(call) = late.last() {
            if self.write(End::Settle, call).is_err() {
                break;
            }
            late.pop();
        }
        *self.late.borrow_mut() = late;
    }

    fn write(&self, end: End, call: &Settled) -> io::Result<()> {
        let mut bytes = self.bytes.borrow_mut();
        record::encode(end, call, &mut bytes)?;
        let mut spool = self.spool.borrow_mut();
        let spool = match &mut *spool {
            Some(spool) => spool,
            none => none.insert(self.ledger.begin()?),
        };
        spool.write(&bytes)?;
        if bytes.capacity() > 1 << 20 {
            // One large prompt is no reason to keep its room.
            *bytes = Vec::new();
        }
        self.ledger.changed();
        Ok(())
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        self.catch_up();
        let lost = self.late.borrow().len();
        if lost > 0 {
            tracing::error!(
                "the ends of {lost} calls could not be written to the spool; those that the database has not got either are interrupted ones for the next start"
            );
        }
    }
}

impl std::fmt::Debug for Pen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pen")
    }
}
