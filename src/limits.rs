//! Limits: what a caller may use in a minute and at once, and what it may spend.
//!
//! A call asks once for a [`Permit`], which its meter owns: [`Limits::admit`] finds all limits that the call is under
//! (the [`plan`]), and checks and charges them in one step of the [`book`]. When the call is over the meter settles the
//! permit with what was really used; a call that was never sent gives everything back.
//!
//! Nothing here knows a format or does I/O on the way of a call, but for sums of money that this process has not read
//! from the store yet.

pub mod alerts;
mod ask;
pub mod book;
pub mod bound;
pub mod bucket;
pub mod calendar;
pub mod demand;
mod node;
mod others;
mod pace;
mod permit;
pub mod plan;
pub mod plans;
pub mod purse;
pub mod refusal;
pub mod remote;
pub mod share;
pub mod shelf;
mod shown;
pub mod subject;
mod sums;
pub mod terms;

use crate::auth::Caller;
use crate::config::limits::{Counted, Limits as Settings};
use crate::database::{self, Watch};
use crate::envelope::{Envelope, shorten};
use crate::error::{Error, Result};
use crate::exchange::Face;
use crate::price::usd_text;
use crate::route::{Deployment, Tariff};
use crate::store::Store;
use crate::usage::Usage;
use alerts::Alerts;
use ask::Asker;
use book::{Book, Crossed};
use bucket::{SLOT_MS, Slot};
pub use demand::Demand;
use others::Others;
use pace::Paces;
pub use permit::{Permit, Strict};
use plan::{Facts, Plan};
use plans::Plans;
use remote::Remote;
use share::Share;
use std::sync::atomic::{AtomicBool, AtomicU64};
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
    paces: Paces,
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
    pub worth: Worth<'a>,
    pub demand: Demand,
    pub tariff: &'a Tariff,
    /// The model fails lately.
    pub is_strained: bool,
}

impl Asked<'_> {
    fn facts(&self) -> Facts<'_> {
        Facts { caller: self.caller, model: self.model, now: database::now(), is_strained: self.is_strained }
    }

    /// End users and tags, which may have limits.
    fn names_others(&self) -> bool {
        self.end_user.is_some() || !self.tags.is_empty()
    }
}

/// Why a call, or its attempt, is not admitted.
#[derive(Debug)]
pub struct Denied {
    pub error: Error,
    /// Set where it is a rate that will have room again.
    pub wait: Option<Duration>,
}

impl From<Error> for Denied {
    fn from(error: Error) -> Self {
        Denied { error, wait: None }
    }
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        denied.error
    }
}

/// What is known of a call's cost before it is made.
#[derive(Debug, Clone, Copy)]
pub enum Worth<'a> {
    /// The body of which it depends, in its format.
    Body(Face, &'a Envelope),
    /// All of it, in nano-dollars.
    Known(i64),
}

impl Limits {
    pub fn new(store: Store) -> Arc<Self> {
        Arc::new(Limits {
            started: Instant::now(),
            started_at: database::now(),
            node: node::new_id(),
            store,
            book: Mutex::default(),
            paces: Paces::default(),
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
    pub async fn admit(
        self: &Arc<Self>,
        plans: &Plans,
        database: &Watch,
        settings: &Arc<Settings>,
        asked: &Asked<'_>,
    ) -> Result<Permit> {
        let facts = asked.facts();
        let mut plan = plans.of_caller(settings, &self.paces, facts);
        if asked.names_others() {
            Box::pin(self.add_others(database, settings, asked, facts, &mut plan)).await;
        }
        Ok(self.ask(database, settings, asked, plan, Asker::Call).await?)
    }

    /// Admits a tool's call, whose cost is known, under the budgets of its caller. Rates are for models.
    ///
    /// # Errors
    /// As [`Limits::admit`].
    pub async fn admit_tool(
        self: &Arc<Self>,
        database: &Watch,
        settings: &Settings,
        asked: &Asked<'_>,
    ) -> Result<Permit> {
        let facts = asked.facts();
        let mut plan = Arc::new(Plan::of(settings, &self.paces, facts));
        if asked.names_others() {
            Box::pin(self.add_others(database, settings, asked, facts, &mut plan)).await;
        }
        let plan = Arc::new(plan.without_rates());
        Ok(self.ask(database, settings, asked, plan, Asker::Call).await?)
    }

    /// Admits one attempt under the limits of the deployment and the provider that it goes to. `strict` is what bounds
    /// the call, if one of its budgets is never to be exceeded.
    ///
    /// # Errors
    /// As [`Limits::admit`]; another deployment may admit it.
    pub async fn enter(
        self: &Arc<Self>,
        plans: &Plans,
        database: &Watch,
        settings: &Arc<Settings>,
        asked: &Asked<'_>,
        deployment: &Arc<Deployment>,
        strict: Option<Strict>,
    ) -> std::result::Result<Permit, Denied> {
        let plan = plans.of_target(settings, &self.paces, asked.facts(), deployment);
        self.ask(database, settings, asked, plan, Asker::Visit(strict)).await
    }

    /// End users and tags, which no key leads to.
    async fn add_others(
        &self,
        database: &Watch,
        settings: &Settings,
        asked: &Asked<'_>,
        facts: Facts<'_>,
        plan: &mut Arc<Plan>,
    ) {
        let strict = plan::is_strict(settings, facts.caller);
        let mut add = |subject: Subject, terms: &terms::Terms| {
            if !terms.is_empty() {
                Arc::make_mut(plan).add(settings, facts.now, subject, terms, strict);
            }
        };
        if let Some(id) = asked.end_user {
            let customer = self.others.customer(&self.store, database, id).await;
            let mut terms = customer.terms.clone();
            if terms.caps.is_empty() {
                terms.caps.clone_from(&settings.customer.caps);
            }
            add(Subject::new(Who::Customer, id), &terms);
            add(Subject::new(Who::CustomerModel, id).with(facts.model), &customer.of_model(facts.model));
        }
        for tag in asked.tags {
            let subject = Subject::new(Who::Tag, tag);
            match settings.tags.get(tag) {
                Some(terms) => add(subject, terms),
                None => {
                    let found = self.others.tag(&self.store, database, tag).await;
                    add(subject, &found.terms);
                    add(Subject::new(Who::TagModel, tag).with(facts.model), &found.of_model(facts.model));
                }
            }
        }
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
