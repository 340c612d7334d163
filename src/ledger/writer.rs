//! Moves the spool to the store: reads along, books in batches, deletes what is booked.
//!
//! One task a process. It reads no further than a batch ahead, so that a store that is down costs disk and no memory,
//! and takes care of what ended processes left behind as of its own.

mod group;

use super::pen::Ledger;
use super::spool;
use crate::limits::Limits;
use crate::store::{Fault, Settled, Store};
use group::Group;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Calls that are booked in one transaction.
const BATCH: usize = 500;
/// Calls that end close together are booked together.
const GATHER: Duration = Duration::from_millis(100);
/// Between tries while the store is down.
const RETRY: Duration = Duration::from_millis(500);
/// The same at the end, when there is not much time.
const LAST_TRIES: Duration = Duration::from_millis(50);
/// How often it is said that the store is still down.
const SAY: Duration = Duration::from_secs(60);
/// What the store refuses is put here, a call a line.
const REFUSED: &str = "refused.jsonl";

/// The task that books.
pub struct Writer {
    store: Store,
    ledger: Arc<Ledger>,
    /// Hears of what is booked.
    limits: Arc<Limits>,
    /// By worker: the files of a process that is older come first.
    groups: BTreeMap<String, Group>,
    /// Read and not booked yet.
    batch: Vec<Settled>,
    /// The store was there, with its tables.
    is_ready: bool,
    down_since: Option<Instant>,
    /// Nobody knows how much of the batch was booked when the store failed.
    is_uncertain: bool,
    said: Option<Instant>,
    /// Interrupted calls were found and told.
    interrupted: usize,
}

impl Writer {
    pub fn new(store: Store, ledger: Arc<Ledger>, limits: Arc<Limits>) -> Self {
        Writer {
            store,
            ledger,
            limits,
            groups: BTreeMap::new(),
            batch: Vec::new(),
            is_ready: false,
            down_since: None,
            is_uncertain: false,
            said: None,
            interrupted: 0,
        }
    }

    /// Books until it is told to stop; then what is left, for no longer than `patience`. What is not booked by then is
    /// found by the next process.
    pub async fn run(mut self, stop: Arc<tokio::sync::Notify>, patience: Duration) {
        if let Err(e) = spool::sweep(self.ledger.directory())
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("the spool in {} cannot be tidied up: {e}", self.ledger.directory().display());
        }
        loop {
            let wait = match self.pass().await {
                Ok(true) => Duration::ZERO,
                Ok(false) => {
                    self.limits.has_recovered();
                    let ledger = self.ledger.clone();
                    tokio::select! {
                        () = ledger.news.notified() => GATHER,
                        () = stop.notified() => break,
                    }
                }
                Err(()) => RETRY,
            };
            tokio::select! {
                biased;
                () = stop.notified() => break,
                () = tokio::time::sleep(wait) => (),
            }
        }
        let rest = async {
            loop {
                match self.pass().await {
                    Ok(false) => break,
                    Ok(true) => (),
                    Err(()) => tokio::time::sleep(LAST_TRIES).await,
                }
            }
        };
        let is_booked = tokio::time::timeout(patience, rest).await.is_ok();
        if is_booked {
            self.close();
        } else {
            tracing::warn!(
                "the ledger was not booked to its end; the rest waits in {} for the next start",
                self.ledger.directory().display()
            );
        }
    }

    /// One batch. Says whether there may be more at once.
    async fn pass(&mut self) -> Result<bool, ()> {
        self.ledger.unbooked.store(false, Ordering::Release);
        // Behind a batch that could not be booked before nothing was read: there may be more.
        let mut is_full = true;
        if self.batch.is_empty() {
            is_full = self.read().map_err(|e| {
                self.say(&format!("the spool in {} cannot be read: {e}", self.ledger.directory().display()));
            })?;
        }
        if !self.batch.is_empty() {
            self.book().await.inspect_err(|()| self.measure())?;
        }
        self.delete();
        self.measure();
        Ok(is_full)
    }

    /// Reads until there is a batch; true where it is full.
    fn read(&mut self) -> io::Result<bool> {
        let unwritten = std::mem::take(&mut *self.ledger.unwritten.lock().unwrap_or_else(PoisonError::into_inner));
        for call in unwritten {
            for group in self.groups.values_mut() {
                group.forget(&call.row.id);
            }
            self.batch.push(call);
        }
        self.find_files()?;
        for group in self.groups.values_mut() {
            let before = self.interrupted;
            group.read(&mut self.batch, BATCH, &mut self.interrupted)?;
            if self.interrupted > before {
                tracing::warn!(
                    "{} calls were under way when a gateway ended; they are booked as interrupted, at their estimate",
                    self.interrupted - before
                );
            }
            if self.batch.len() >= BATCH {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn find_files(&mut self) -> io::Result<()> {
        let files = match spool::files(self.ledger.directory()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            files => files?,
        };
        for path in files {
            let Some(worker) = spool::worker_of(&path) else { continue };
            self.groups.entry(worker.to_owned()).or_default().add(&path)?;
        }
        Ok(())
    }

    async fn book(&mut self) -> Result<(), ()> {
        if !self.is_ready {
            // Without its tables, or with older ones, every call would look like one that is refused.
            self.store.migrate(crate::database::now()).await.map_err(|fault| self.is_down(&fault))?;
            self.is_ready = true;
        }
        self.limits.booking_begins();
        let outcome = self.store.book_all_but_refused(&self.batch).await;
        self.tell_limits(outcome.as_ref().ok().map(|(_, refused)| refused.as_slice()));
        match outcome {
            Ok((booked, refused)) => {
                if !refused.is_empty() {
                    // All of them at once: it is the database that is wrong, and not the calls.
                    self.store.health().await.map_err(|fault| self.is_down(&fault))?;
                    let refused = refused.iter().filter_map(|(place, why)| Some((self.batch.get(*place)?, why)));
                    if let Err(e) = put_aside(self.ledger.directory(), refused) {
                        self.say(&format!("calls that the database refuses cannot be put aside: {e}"));
                        return Err(());
                    }
                }
                if let Some(since) = self.down_since.take() {
                    self.said = None;
                    tracing::info!("the database is back after {:?}; the ledger is booked on", since.elapsed());
                }
                tracing::debug!(inserted = booked.inserted, known = booked.known, "calls are booked");
                self.batch.clear();
                Ok(())
            }
            Err(fault) => {
                self.is_down(&fault);
                Err(())
            }
        }
    }

    /// What is booked no longer counts beside the store.
    fn tell_limits(&mut self, refused: Option<&[(usize, Fault)]>) {
        let Some(refused) = refused else {
            self.limits.booking_ends([].iter());
            self.is_uncertain = true;
            return;
        };
        let is_booked = |place: usize| !refused.iter().any(|(refused, _)| *refused == place);
        self.limits.booking_ends(self.batch.iter().enumerate().filter(|(n, _)| is_booked(*n)).map(|(_, call)| call));
        if std::mem::take(&mut self.is_uncertain) {
            self.limits.forget();
        }
    }

    fn is_down(&mut self, fault: &Fault) {
        self.is_ready = false;
        self.down_since.get_or_insert_with(Instant::now);
        let (bytes, files) = self.size();
        self.say(&format!(
            "the ledger cannot be booked ({fault}); calls are kept in {} until it can: {bytes} bytes in {files} files, of at most {}",
            self.ledger.directory().display(),
            self.ledger.limit
        ));
    }

    fn say(&mut self, what: &str) {
        if self.said.is_none_or(|said| said.elapsed() >= SAY) {
            self.said = Some(Instant::now());
            tracing::warn!("{what}");
        }
    }

    /// Takes the files of this process away, whose calls are over and booked.
    fn close(&mut self) {
        for (worker, group) in &mut self.groups {
            if self.ledger.is_own(worker) {
                group.close();
            }
        }
        self.delete();
    }

    fn delete(&mut self) {
        for group in self.groups.values_mut() {
            group.delete();
        }
        self.groups.retain(|_, group| !group.is_gone());
    }

    fn size(&self) -> (u64, usize) {
        let files = spool::files(self.ledger.directory()).unwrap_or_default();
        (files.iter().filter_map(|file| Some(std::fs::metadata(file).ok()?.len())).sum(), files.len())
    }

    /// New calls are refused while there is more in the spool than may be.
    fn measure(&mut self) {
        let is_full = self.size().0 >= self.ledger.limit;
        self.ledger.is_full.store(is_full, Ordering::Relaxed);
    }
}

/// Keeps calls that the database refuses, for a person to look at: each a line of JSON.
fn put_aside<'a>(directory: &Path, calls: impl Iterator<Item = (&'a Settled, &'a Fault)>) -> io::Result<()> {
    let path = directory.join(REFUSED);
    let mut file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
    for (call, why) in calls {
        let mut line = serde_json::to_vec(call)?;
        line.push(b'\n');
        file.write_all(&line)?;
        tracing::error!("the database refuses call {}: {why}; it is kept in {}", call.row.id, path.display());
    }
    file.sync_data()
}

#[cfg(test)]
mod tests;
