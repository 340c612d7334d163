//! Limits: what a caller may use in a minute and at once, and what it may spend.
//!
//! A call asks once for a [`Permit`], which its meter owns: [`Limits::admit`] finds all limits that the call is under
//! (the [`plan`]), and checks and charges them in one step of the [`book`]. When the call is over the meter settles the
//! permit with what was really used; a call that was never sent gives everything back.
//!
//! Nothing here knows a format or does I/O on the way of a call, but for sums of money that this process has not read
//! from the store yet.

pub mod book;
pub mod bucket;
pub mod calendar;
pub mod demand;
mod node;
mod permit;
pub mod plan;
pub mod purse;
pub mod refusal;
pub mod subject;
pub mod terms;

use crate::auth::Caller;
use crate::config::limits::{Counted, Limits as Settings};
use crate::database::{self, State, Watch};
use crate::error::Result;
use crate::route::Tariff;
use crate::store::{Entity, Settled, Store};
use crate::usage::Usage;
use book::{Book, Refused};
use bucket::{SLOT_MS, Slot};
pub use demand::Demand;
pub use permit::Permit;
use plan::{Facts, Plan};
use refusal::Told;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Everything that is counted against limits in this process.
pub struct Limits {
    started: Instant,
    /// Microseconds: what happened before is in the store, or in somebody's spool.
    started_at: i64,
    /// What this process is called in the ledger's rows.
    pub node: String,
    store: Store,
    book: Mutex<Book>,
    /// Odd while the ledger is being booked: sums that are read then may be old or new.
    bookings: AtomicU64,
    booked: tokio::sync::Notify,
    /// What was in the spool at the start is in the store.
    is_recovered: AtomicBool,
}

/// A call that wants to be admitted.
#[derive(Debug)]
pub struct Asked<'a> {
    pub caller: &'a Caller,
    /// The public name that it is routed by.
    pub model: &'a str,
    pub end_user: Option<&'a str>,
    pub tags: &'a [String],
    pub demand: Demand,
    pub tariff: &'a Tariff,
}

/// Reads that a booking got in the way of, before a call is told to come again.
const MOST_READS: usize = 100;
/// How long a call waits for what was left behind by a process that has ended.
const RECOVERY: Duration = Duration::from_secs(5);

impl Limits {
    pub fn new(store: Store) -> Arc<Self> {
        Arc::new(Limits {
            started: Instant::now(),
            started_at: database::now(),
            node: node::new_id(),
            store,
            book: Mutex::default(),
            bookings: AtomicU64::new(0),
            booked: tokio::sync::Notify::new(),
            is_recovered: AtomicBool::new(false),
        })
    }

    fn slot(&self) -> Slot {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(0) / SLOT_MS
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a call under all its limits, or under none.
    ///
    /// # Errors
    /// A 429 for a rate, the status for spent budgets, a 503 where nobody knows what was spent.
    pub async fn admit(self: &Arc<Self>, database: &Watch, settings: &Settings, asked: &Asked<'_>) -> Result<Permit> {
        let now = database::now();
        let mut plan = Plan::of(settings, Facts { caller: asked.caller, model: asked.model, now });
        if !plan.pots.is_empty() && demand::is_free(asked.tariff) {
            plan.pots.clear();
        }
        if plan.is_empty() {
            return Ok(Permit::free());
        }
        for _ in 0..MOST_READS {
            let slot = self.slot();
            let outcome = {
                let mut book = self.book();
                let expected = asked.demand.expected(book.pace(asked.model));
                let tokens = settings.counted.tokens(&expected);
                let reserve = |_| i64::try_from(asked.tariff.charge(&expected).nanos).unwrap_or(i64::MAX);
                let held = book.admit(&plan, tokens, reserve, slot);
                held.map(|held| (held, book.left(&plan.lines, slot)))
            };
            match outcome {
                Ok((held, left)) => {
                    let headers = refusal::headers(&left, slot);
                    return Ok(Permit::new(self.clone(), held, asked.model, settings.counted, headers));
                }
                Err(Refused::Unread(entities)) => {
                    self.read(database, &entities, !plan.pots.iter().any(|pot| pot.strict)).await?;
                }
                Err(refused) => {
                    let told = Told { caller: asked.caller, slot, now, over_budget: settings.over_budget };
                    return Err(refused.error(&told));
                }
            }
        }
        Err(refusal::unread())
    }

    /// Reads sums that are not known yet.
    async fn read(&self, database: &Watch, entities: &[Arc<Entity>], may_assume: bool) -> Result<()> {
        // A window that began under the eyes of this process holds nothing that it does not know of.
        let old: Vec<Arc<Entity>> = {
            let mut book = self.book();
            let is_new =
                |book: &Book, entity: &Arc<Entity>| entity.start > self.started_at && !book.purses.contains_key(entity);
            let (new, old): (Vec<_>, Vec<_>) = entities.iter().cloned().partition(|entity| is_new(&book, entity));
            for entity in new {
                book.purses.entry(entity).or_default().read(0, 0);
            }
            old
        };
        if old.is_empty() {
            return Ok(());
        }
        if database.settled().await == State::Down {
            return self.assume(&old, may_assume);
        }
        self.recovered().await?;
        let names: Vec<Entity> = old.iter().map(|entity| (**entity).clone()).collect();
        let mut booked = std::pin::pin!(self.booked.notified());
        booked.as_mut().enable();
        let before = self.bookings.load(Ordering::Acquire);
        if before % 2 == 1 {
            booked.await;
            return Ok(());
        }
        let totals = match self.store.totals(&names).await {
            Err(fault) if fault.is_unavailable() => return self.assume(&old, may_assume),
            totals => totals?,
        };
        let mut book = self.book();
        if self.bookings.load(Ordering::Acquire) == before {
            for (entity, total) in old.into_iter().zip(totals) {
                let purse = book.purses.entry(entity).or_default();
                if !purse.is_read() {
                    purse.read(total.spent(), 0);
                }
            }
        }
        Ok(())
    }

    /// Counts from nothing until the database is back; but where a budget is never to be exceeded nobody is served.
    fn assume(&self, entities: &[Arc<Entity>], may_assume: bool) -> Result<()> {
        if !may_assume {
            return Err(refusal::unread());
        }
        let mut book = self.book();
        for entity in entities {
            let purse = book.purses.entry(entity.clone()).or_default();
            if !purse.is_read() {
                tracing::warn!(
                    "the database is down and nobody knows what {} '{}' has spent: its budget counts from now until it is back",
                    entity.kind.word(),
                    crate::envelope::shorten(&entity.id)
                );
                purse.read(0, 0);
            }
        }
        Ok(())
    }

    /// Waits until what ended processes left behind is in the store.
    async fn recovered(&self) -> Result<()> {
        let wait = async {
            loop {
                let mut booked = std::pin::pin!(self.booked.notified());
                booked.as_mut().enable();
                if self.is_recovered.load(Ordering::Acquire) {
                    return;
                }
                booked.await;
            }
        };
        tokio::time::timeout(RECOVERY, wait).await.map_err(|_| refusal::unread())
    }

    /// Everything that was left behind is booked.
    pub fn has_recovered(&self) {
        if !self.is_recovered.swap(true, Ordering::AcqRel) {
            self.booked.notify_waiters();
        }
    }

    /// The ledger is about to book calls.
    pub fn booking_begins(&self) {
        self.bookings.fetch_add(1, Ordering::AcqRel);
    }

    /// These calls are booked.
    pub fn booking_ends<'a>(&self, calls: impl Iterator<Item = &'a Settled>) {
        {
            let mut book = self.book();
            if !book.purses.is_empty() {
                for call in calls {
                    self.is_booked(&mut book, call);
                }
            }
            self.bookings.fetch_add(1, Ordering::AcqRel);
        }
        self.booked.notify_waiters();
    }

    /// A call was counted when it ended in the sums that it names, if this process made it. In others it is found now.
    fn is_booked(&self, book: &mut Book, call: &Settled) {
        let is_own = call.row.node.as_deref() == Some(&*self.node);
        for entity in &call.windows {
            if let Some(purse) = book.purses.get_mut(entity) {
                if is_own { purse.booked(call.row.cost_nanos) } else { purse.found(call.row.cost_nanos) }
            }
        }
        for entity in call.row.entities() {
            if !call.windows.contains(&entity)
                && let Some(purse) = book.purses.get_mut(&entity)
            {
                purse.found(call.row.cost_nanos);
            }
        }
    }

    /// Something was changed in the store by hand: what was read of it is read again.
    pub fn forget(&self) {
        let mut book = self.book();
        let now = database::now();
        // Windows of yesterday are not asked for any more.
        book.purses.retain(|entity, purse| !purse.is_idle() || now - entity.start < 400 * 86_400_000_000);
        book.purses.values_mut().for_each(purse::Purse::forget);
        // Who is reading just now may have read it before.
        self.bookings.fetch_add(2, Ordering::AcqRel);
    }
}

impl Counted {
    /// The tokens that count.
    pub fn tokens(self, usage: &Usage) -> u64 {
        match self {
            Counted::Total => usage.prompt_tokens.saturating_add(usage.completion_tokens),
            Counted::Input => usage.prompt_tokens,
            Counted::Output => usage.completion_tokens,
        }
    }
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Limits")
    }
}
