//! Sums of money: read from the store once, and kept in step with the ledger that is booked there.

use super::book::Book;
use super::{Limits, purse, refusal, share};
use crate::database::{State, Watch};
use crate::error::Result;
use crate::store::{Entity, Fault, Settled};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use uuid::Uuid;

/// How long a call waits for what was left behind by a process that has ended.
const RECOVERY: Duration = Duration::from_secs(5);

impl Limits {
    /// Reads sums that are not known yet.
    pub(super) async fn read(&self, database: &Watch, entities: &[Arc<Entity>], may_assume: bool) -> Result<()> {
        // A window that began under the eyes of this process holds nothing that it does not know of.
        let old: Vec<Arc<Entity>> = {
            let mut book = self.book();
            let is_new = |book: &Book, entity: &Arc<Entity>| {
                entity.start > self.started_at
                    && self.share.mode() == share::Mode::Alone
                    && !book.has_forgotten
                    && !book.purses.contains(entity)
            };
            let (new, old): (Vec<_>, Vec<_>) = entities.iter().cloned().partition(|entity| is_new(&book, entity));
            for entity in new {
                book.purse(&entity).read(0, 0);
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
        let read = async {
            let totals = self.store.totals(&names).await?;
            // What ended gateways have set aside stays until somebody says what became of it.
            let held = self.store.reserved_by_others(&self.node, &names).await?;
            Ok::<_, Fault>((totals, held))
        };
        let (totals, held) = match read.await {
            Err(fault) if fault.is_unavailable() => return self.assume(&old, may_assume),
            read => read?,
        };
        let mut book = self.book();
        if self.bookings.load(Ordering::Acquire) == before {
            for ((entity, total), held) in old.into_iter().zip(totals).zip(held) {
                let purse = book.purse(&entity);
                if !purse.is_read() {
                    purse.read(total.spent(), held);
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
            let purse = book.purse(entity);
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
        if is_own
            && !call.windows.is_empty()
            && let Ok(id) = Uuid::try_parse(&call.row.id)
        {
            for claim in book.is_booked(id) {
                self.share.give_back(claim.name());
            }
        }
        for entity in &call.windows {
            if let Some(purse) = book.purses.named(entity) {
                if is_own { purse.booked(call.row.cost_nanos) } else { purse.found(call.row.cost_nanos) }
            }
        }
        for entity in call.row.entities() {
            if !call.windows.contains(&entity)
                && let Some(purse) = book.purses.named(&entity)
            {
                purse.found(call.row.cost_nanos);
            }
        }
    }

    /// Something was changed in the store by hand: what was read of it is read again.
    pub fn forget(&self) {
        self.others.forget();
        let mut book = self.book();
        book.purses.values_mut().for_each(purse::Purse::forget);
        // Who is reading just now may have read it before.
        self.bookings.fetch_add(2, Ordering::AcqRel);
    }
}
