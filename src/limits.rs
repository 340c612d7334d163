//! Limits: what a caller may use in a minute and at once, and what it may spend.
//!
//! A call asks once for a [`Permit`], which its meter owns: [`Limits::admit`] finds all limits that the call is under
//! (the [`plan`]), and checks and charges them in one step of the [`book`]. When the call is over the meter settles the
//! permit with what was really used; a call that was never sent gives everything back.
//!
//! Nothing here knows a format or does I/O on the way of a call, but for sums of money that this process has not read
//! from the store yet.

pub mod alerts;
pub mod book;
pub mod bound;
pub mod bucket;
pub mod calendar;
pub mod demand;
mod node;
mod others;
mod permit;
pub mod plan;
pub mod purse;
pub mod refusal;
pub mod remote;
pub mod share;
pub mod subject;
pub mod terms;

use crate::auth::Caller;
use crate::config::limits::{Counted, Limits as Settings};
use crate::database::{self, State, Watch};
use crate::envelope::{Envelope, shorten};
use crate::error::{Error, Result};
use crate::price::usd_text;
use crate::route::{Deployment, Tariff};
use crate::store::{self, Entity, Fault, Reservation, Settled, Store};
use crate::usage::Usage;
use alerts::Alerts;
use book::{Book, Crossed, Held, Refused};
use bound::Bound;
use bucket::{SLOT_MS, Slot};
pub use demand::Demand;
use others::Others;
pub use permit::{Permit, Strict};
use plan::{Facts, Plan, Pot};
use refusal::Told;
use remote::Remote;
use share::Share;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use subject::{Subject, Who};
use uuid::Uuid;

/// Everything that is counted against limits in this process.
pub struct Limits {
    started: Instant,
    /// Microseconds: what happened before is in the store, or in somebody's spool.
    started_at: i64,
    /// What this process is called in the ledger's rows.
    pub node: String,
    store: Store,
    book: Mutex<Book>,
    others: Others,
    /// Who else uses the store.
    share: Share,
    /// Where several gateways count rates.
    remote: Remote,
    /// What is to be told to somebody.
    pub alerts: Alerts,
    /// Odd while the ledger is being booked: sums that are read then may be old or new.
    bookings: AtomicU64,
    booked: tokio::sync::Notify,
    /// What was in the spool at the start is in the store.
    is_recovered: AtomicBool,
}

/// A call that wants to be admitted.
#[derive(Debug)]
pub struct Asked<'a> {
    pub id: Uuid,
    pub caller: &'a Caller,
    /// The public name that it is routed by.
    pub model: &'a str,
    pub end_user: Option<&'a str>,
    pub tags: &'a [String],
    pub envelope: &'a Envelope,
    pub demand: Demand,
    pub tariff: &'a Tariff,
}

/// Reads that a booking got in the way of, before a call is told to come again.
const MOST_READS: usize = 100;
/// Times that a call asks the store for room, under a budget of which others take at the same time.
const SHARED_TRIES: usize = 5;
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
            others: Others::default(),
            share: Share::default(),
            remote: Remote::default(),
            alerts: Alerts::default(),
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

    /// Admits a call under all limits of its caller, or under none.
    ///
    /// # Errors
    /// A 429 for a rate, the status for spent budgets, a 503 where nobody knows what was spent; a 400 for what has no
    /// bound where a budget is never to be exceeded.
    pub async fn admit(self: &Arc<Self>, database: &Watch, settings: &Settings, asked: &Asked<'_>) -> Result<Permit> {
        let facts = Facts { caller: asked.caller, model: asked.model, now: database::now() };
        let mut plan = Plan::of(settings, facts);
        self.add_others(database, settings, asked, facts, &mut plan).await;
        self.ask(database, settings, asked, plan, None).await
    }

    /// Admits one attempt under the limits of the deployment and the provider that it goes to. `strict` is what bounds
    /// the call, if one of its budgets is never to be exceeded.
    ///
    /// # Errors
    /// As [`Limits::admit`]; another deployment may admit it.
    pub async fn enter(
        self: &Arc<Self>,
        database: &Watch,
        settings: &Settings,
        asked: &Asked<'_>,
        deployment: &Deployment,
        strict: Option<Strict>,
    ) -> Result<Permit> {
        if settings.deployments.is_empty() && settings.providers.is_empty() {
            return Ok(Permit::free());
        }
        let facts = Facts { caller: asked.caller, model: asked.model, now: database::now() };
        let plan = Plan::of_target(settings, facts, deployment);
        self.ask(database, settings, asked, plan, Some(strict)).await
    }

    /// End users and tags, which no key leads to.
    async fn add_others(
        &self,
        database: &Watch,
        settings: &Settings,
        asked: &Asked<'_>,
        facts: Facts<'_>,
        plan: &mut Plan,
    ) {
        let strict = plan::is_strict(settings, facts.caller);
        if let Some(id) = asked.end_user {
            let customer = self.others.customer(&self.store, database, id).await;
            let mut terms = customer.terms.clone();
            if terms.caps.is_empty() {
                terms.caps.clone_from(&settings.customer.caps);
            }
            plan.add(settings, facts.now, Subject::new(Who::Customer, id), &terms, strict);
        }
        for tag in asked.tags {
            let found = self.others.tag(&self.store, database, tag).await;
            plan.add(settings, facts.now, Subject::new(Who::Tag, tag), &found.terms, strict);
        }
    }

    /// Checks and charges a plan. `attempt` is set for an attempt, with what bounds its call.
    async fn ask(
        self: &Arc<Self>,
        database: &Watch,
        settings: &Settings,
        asked: &Asked<'_>,
        mut plan: Plan,
        attempt: Option<Option<Strict>>,
    ) -> Result<Permit> {
        let is_free = !plan.pots.is_empty() && demand::is_free(asked.tariff);
        if is_free {
            plan.pots.clear();
        }
        if plan.is_empty() {
            return Ok(Permit::free());
        }
        let remote = self.ask_remote(settings, asked, &plan).await?;
        match remote {
            Some(_) => plan.lines.clear(),
            None => plan.divide(self.share.gateways()),
        }
        let permit = self.ask_here(database, settings, asked, &plan, attempt).await?;
        // Where this is not come to, what is held there is given back.
        Ok(permit.with_remote(remote))
    }

    /// Asks the server that several gateways share for leave under the rates of a call; none where there is none.
    async fn ask_remote(
        &self,
        settings: &Settings,
        asked: &Asked<'_>,
        plan: &Plan,
    ) -> Result<Option<remote::Admitted>> {
        if settings.redis.is_none() || plan.lines.is_empty() {
            return Ok(None);
        }
        let slot = self.slot();
        let expected = asked.demand.expected(self.book().pace(asked.model));
        match self.remote.admit(&plan.lines, &asked.id, settings.counted.tokens(&expected), slot).await {
            None => Ok(None),
            Some(Ok(admitted)) => Ok(Some(admitted)),
            Some(Err(refused)) => Err(self.told(settings, asked.caller, slot, database::now(), &refused)),
        }
    }

    async fn ask_here(
        self: &Arc<Self>,
        database: &Watch,
        settings: &Settings,
        asked: &Asked<'_>,
        plan: &Plan,
        attempt: Option<Option<Strict>>,
    ) -> Result<Permit> {
        let now = database::now();
        let bound = match attempt {
            Some(strict) => strict.map(|strict| strict.bound),
            None if plan.is_strict() => {
                let limit = asked.tariff.max_output();
                let bound = Bound::of(asked.envelope, &asked.demand, limit)?;
                // A price that is not known has no bound.
                bound.nanos(asked.tariff, 1).ok_or_else(|| bound::unpriced(asked.model))?;
                Some(bound)
            }
            None => None,
        };
        // While the store is away what is known of budgets is counted on here, but for those that are never exceeded.
        let is_away = database.state() == State::Down && !plan.is_strict();
        let mut is_looked_up = false;
        for _ in 0..MOST_READS {
            let counts_in_store = !plan.pots.is_empty() && !is_away;
            if counts_in_store && self.share.is_shared().await.ok_or_else(refusal::unread)? {
                if attempt.is_none() {
                    return self.ask_store(settings, asked, plan, bound).await;
                }
                // What is spent where an attempt goes is looked up; nothing is set aside for it.
                if !std::mem::replace(&mut is_looked_up, true) {
                    self.book().forget(&plan.pots);
                }
            }
            let slot = self.slot();
            let mut strict = None;
            let outcome = {
                let mut book = self.book();
                if counts_in_store && attempt.is_none() && self.share.mode() != share::Mode::Alone {
                    // Another gateway came between: what calls held in memory was put into the store already.
                    continue;
                }
                let expected = asked.demand.expected(book.pace(asked.model));
                let tokens = settings.counted.tokens(&expected);
                let reserve = |free: i64| match (bound, attempt) {
                    (None, _) => i64::try_from(asked.tariff.charge(&expected).nanos).unwrap_or(i64::MAX),
                    (Some(bound), Some(known)) => {
                        strict = known;
                        known.and_then(|known| bound.nanos(asked.tariff, known.output)).unwrap_or(i64::MAX)
                    }
                    (Some(bound), None) => {
                        let reserved = bound.within(asked.tariff, free);
                        strict = reserved.map(|reserved| bound.strict(reserved.output));
                        reserved.map_or(i64::MAX, |reserved| reserved.nanos)
                    }
                };
                let held = book.admit(plan, tokens, reserve, slot);
                held.map(|held| {
                    if attempt.is_none() {
                        book.depart(asked.id, &held, false);
                    }
                    let left = book.left(&plan.lines, slot);
                    let spent: Vec<i64> = plan.pots.iter().map(|pot| book.spent(pot)).collect();
                    (held, left, spent)
                })
            };
            match outcome {
                Ok((held, left, spent)) => {
                    let mut headers = refusal::headers(&left, slot);
                    refusal::add_budgets(&mut headers, plan.pots.iter().zip(spent));
                    let model = attempt.is_none().then(|| asked.model.to_owned());
                    let id = (attempt.is_none() && !plan.pots.is_empty()).then_some(asked.id);
                    return Ok(Permit::new(self.clone(), held, model, id, settings.counted, strict, headers));
                }
                Err(Refused::Unread(entities)) => self.read(database, &entities, !plan.is_strict()).await?,
                Err(refused) => return Err(self.told(settings, asked.caller, slot, now, &refused)),
            }
        }
        Err(refusal::unread())
    }

    /// The same for a call of one of several gateways: rates are this gateway's part, and money is set aside in the store.
    async fn ask_store(
        self: &Arc<Self>,
        settings: &Settings,
        asked: &Asked<'_>,
        plan: &Plan,
        bound: Option<Bound>,
    ) -> Result<Permit> {
        let (slot, now) = (self.slot(), database::now());
        let told = |refused: Refused| self.told(settings, asked.caller, slot, now, &refused);
        let expected = asked.demand.expected(self.book().pace(asked.model));
        let tokens = settings.counted.tokens(&expected);
        self.book().check_lines(&plan.lines, tokens, slot).map_err(told)?;
        let entities: Vec<Entity> = plan.pots.iter().map(|pot| (*pot.entity).clone()).collect();
        let id = asked.id.hyphenated().to_string();
        let mut last = None;
        for _ in 0..if bound.is_some() { SHARED_TRIES } else { 1 } {
            let totals = self.store.totals(&entities).await.map_err(|_| refusal::unread())?;
            let free = plan.pots.iter().zip(&totals).filter(|(pot, _)| pot.strict).filter_map(|(pot, total)| {
                Some(pot.max_nanos?.saturating_sub(total.spent()).saturating_sub(total.reserved_nanos))
            });
            let (nanos, strict) = match bound {
                Some(bound) => {
                    let reserved = bound.within(asked.tariff, free.min().unwrap_or(i64::MAX));
                    let reserved = reserved.ok_or_else(|| bound::unpriced(asked.model))?;
                    (reserved.nanos, Some(bound.strict(reserved.output)))
                }
                None => (i64::try_from(asked.tariff.charge(&expected).nanos).unwrap_or(i64::MAX), None),
            };
            let wanted: Vec<Reservation> = plan.pots.iter().map(|pot| wanted(pot, nanos)).collect();
            match self.store.reserve(&id, &self.node, &wanted, now).await {
                Ok(Ok(())) => {
                    let mut held = Held { lines: Vec::new(), pots: plan.pots.clone(), nanos };
                    let charged = {
                        let mut book = self.book();
                        book.hold(&held.pots, nanos);
                        book.depart(asked.id, &held, true);
                        // Another call may have taken the last place of a rate meanwhile.
                        book.check_lines(&plan.lines, tokens, slot).map(|()| {
                            held.lines = book.charge(&plan.lines, tokens, slot);
                            book.left(&plan.lines, slot)
                        })
                    };
                    let mut headers = charged.as_ref().map_or_else(|_| Vec::new(), |left| refusal::headers(left, slot));
                    refusal::add_budgets(&mut headers, plan.pots.iter().zip(totals.iter().map(store::Total::spent)));
                    let model = Some(asked.model.to_owned());
                    // Dropped, it gives back what the store holds.
                    let permit =
                        Permit::new(self.clone(), held, model, Some(asked.id), settings.counted, strict, headers);
                    return charged.map(|_| permit).map_err(told);
                }
                // With less room than was seen a moment ago a lower limit may fit.
                Ok(Err(refused)) => last = Some((refused, nanos)),
                Err(fault) => {
                    tracing::warn!("what a call may cost cannot be set aside in the store: {fault}");
                    return Err(refusal::unread());
                }
            }
        }
        let found = last.and_then(|(refused, need)| {
            let pot = plan.pots.iter().find(|pot| *pot.entity == refused.entity)?;
            let (spent, reserved) = (refused.spent_nanos, refused.reserved_nanos);
            Some(Refused::Budget { pot: Box::new(pot.clone()), spent, reserved, need })
        });
        Err(found.map_or_else(refusal::unread, told))
    }

    fn told(&self, settings: &Settings, caller: &Caller, slot: Slot, now: i64, refused: &Refused) -> Error {
        refused.error(&Told { caller, slot, now, over_budget: settings.over_budget })
    }

    /// The call goes to a dearer deployment than it was admitted for; true where more is set aside now.
    ///
    /// # Errors
    /// A budget that is never to be exceeded has not so much left.
    pub fn raise(&self, settings: &Settings, caller: &Caller, permit: &mut Permit, tariff: &Tariff) -> Result<bool> {
        let refused = |refused: Refused| self.told(settings, caller, self.slot(), database::now(), &refused);
        permit.raise(tariff, refused)
    }

    /// A soft budget is reached.
    fn say(&self, crossed: Crossed) {
        tracing::warn!(
            "the soft budget of {} '{}' is reached: {} dollars are spent of {}",
            crossed.pot.subject.who.word(),
            shorten(&crossed.pot.subject.id),
            usd_text(u64::try_from(crossed.spent).unwrap_or(0)),
            usd_text(crossed.pot.soft_nanos.and_then(|soft| u64::try_from(soft).ok()).unwrap_or(0)),
        );
        self.alerts.push(crossed);
    }

    /// Reads sums that are not known yet.
    async fn read(&self, database: &Watch, entities: &[Arc<Entity>], may_assume: bool) -> Result<()> {
        // A window that began under the eyes of this process holds nothing that it does not know of.
        let old: Vec<Arc<Entity>> = {
            let mut book = self.book();
            let is_new = |book: &Book, entity: &Arc<Entity>| {
                entity.start > self.started_at
                    && self.share.mode() == share::Mode::Alone
                    && !book.has_forgotten
                    && !book.purses.contains_key(entity)
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
        self.others.forget();
        let mut book = self.book();
        book.purses.values_mut().for_each(purse::Purse::forget);
        // Who is reading just now may have read it before.
        self.bookings.fetch_add(2, Ordering::AcqRel);
    }
}

/// What a call asks of a budget in the store.
fn wanted(pot: &Pot, nanos: i64) -> Reservation {
    Reservation { entity: (*pot.entity).clone(), nanos, limit_nanos: pot.max_nanos, strict: pot.strict }
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
