//! End users and tags: owners of limits that a request names, and that no key leads to.
//!
//! Anybody may name any, a new one with each call, so little is remembered of each and nothing for long; and where the
//! store has none at all, none is asked for.

use super::terms::{self, Terms};
use crate::database::{State, Watch};
use crate::store::{Budget, Customer, Store, Tag};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is known of one of them.
#[derive(Debug, Default)]
pub struct Other {
    pub terms: Terms,
    /// Budgets by model: its own, and those of the budget that it names.
    pub models: [Value; 2],
}

impl Other {
    /// The budget that it has for a model.
    pub fn of_model(&self, model: &str) -> Terms {
        let [own, of_budget] = &self.models;
        Terms { caps: terms::cap_of_model([Some(own), Some(of_budget)], model), ..Terms::default() }
    }
}

type Memory = HashMap<String, (Instant, Arc<Other>)>;

/// Those that calls have named.
#[derive(Debug, Default)]
pub struct Others {
    customers: Mutex<Memory>,
    tags: Mutex<Memory>,
    /// Whether there are any, and since when that is known.
    any: Mutex<Option<(Instant, bool, bool)>>,
}

const AGE: Duration = Duration::from_secs(60);
const MOST: usize = 8192;

impl Others {
    /// Something was changed.
    pub fn forget(&self) {
        for memory in [&self.customers, &self.tags] {
            memory.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        *self.any.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub async fn customer(&self, store: &Store, database: &Watch, id: &str) -> Arc<Other> {
        find(&self.customers, id, database, async || {
            if !self.are_there(store).await?.0 {
                return Ok(Other::default());
            }
            let Some(customer) = store.get::<Customer>(id).await? else { return Ok(Other::default()) };
            let budget = budget(store, customer.budget_id.as_deref()).await?;
            let terms = terms::of_customer(&customer, budget.as_ref());
            let of_budget = budget.map(|budget| budget.model_max_budget).unwrap_or_default();
            Ok(Other { terms, models: [customer.model_max_budget, of_budget] })
        })
        .await
    }

    pub async fn tag(&self, store: &Store, database: &Watch, name: &str) -> Arc<Other> {
        find(&self.tags, name, database, async || {
            if !self.are_there(store).await?.1 {
                return Ok(Other::default());
            }
            let Some(tag) = store.get::<Tag>(name).await? else { return Ok(Other::default()) };
            let budget = budget(store, tag.budget_id.as_deref()).await?;
            let terms = terms::of_tag(&tag, budget.as_ref());
            let of_budget = budget.map(|budget| budget.model_max_budget).unwrap_or_default();
            Ok(Other { terms, models: [tag.model_max_budget, of_budget] })
        })
        .await
    }

    /// Whether the store has customers, and tags.
    async fn are_there(&self, store: &Store) -> crate::store::Result<(bool, bool)> {
        let known = *self.any.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, customers, tags)) = known
            && at.elapsed() < AGE
        {
            return Ok((customers, tags));
        }
        let found = (store.count::<Customer>().await? > 0, store.count::<Tag>().await? > 0);
        *self.any.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), found.0, found.1));
        Ok(found)
    }
}

async fn budget(store: &Store, id: Option<&str>) -> crate::store::Result<Option<Budget>> {
    match id {
        Some(id) => store.get(id).await,
        None => Ok(None),
    }
}

/// What is remembered, or is looked up. Where the store cannot tell, what was known goes on, and nobody is refused for
/// what nobody knows.
async fn find(
    memory: &Mutex<Memory>,
    id: &str,
    database: &Watch,
    look_up: impl AsyncFnOnce() -> crate::store::Result<Other>,
) -> Arc<Other> {
    let known = memory.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
    if let Some((at, other)) = &known
        && at.elapsed() < AGE
    {
        return other.clone();
    }
    if database.settled().await == State::Down {
        return known.map(|(_, other)| other).unwrap_or_default();
    }
    match look_up().await {
        Ok(other) => {
            let other = Arc::new(other);
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            if memory.len() >= MOST {
                memory.clear();
            }
            memory.insert(id.to_owned(), (Instant::now(), other.clone()));
            other
        }
        Err(fault) => {
            tracing::debug!("an owner of limits cannot be looked up: {fault}");
            known.map(|(_, other)| other).unwrap_or_default()
        }
    }
}
