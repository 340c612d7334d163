//! Plans that were made, by whose they are: a key that calls again is under the same limits until it, the configuration
//! or a window changes. Each worker remembers its own, so that no two of them write to the same memory.

use super::pace::Paces;
use super::plan::{Facts, Plan};
use crate::auth::Caller;
use crate::config::limits::Limits as Settings;
use crate::route::Deployment;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// Plans of a worker; beyond it all are made anew.
const MOST: usize = 1024;

/// What a worker remembers.
#[derive(Debug, Default)]
pub struct Plans(RefCell<Known>);

#[derive(Debug, Default)]
struct Known {
    plans: HashMap<usize, Vec<Remembered>>,
    count: usize,
}

#[derive(Debug)]
struct Remembered {
    owner: Owner,
    settings: Arc<Settings>,
    model: String,
    is_strained: bool,
    plan: Arc<Plan>,
}

/// Kept as long as a plan is, so that no other owner comes to lie where it lies.
#[derive(Debug, Clone)]
enum Owner {
    Caller(Caller),
    /// And whether the caller's budgets are never to be exceeded.
    Target(Arc<Deployment>, bool),
}

impl Owner {
    fn address(&self) -> usize {
        match self {
            Owner::Caller(Caller::Key(holder)) => Arc::as_ptr(holder).addr(),
            // Under the limits of the gateway alone.
            Owner::Caller(Caller::Master | Caller::Anonymous) => 0,
            Owner::Target(deployment, _) => Arc::as_ptr(deployment).addr(),
        }
    }

    fn is(&self, other: &Owner) -> bool {
        match (self, other) {
            (Owner::Target(_, strict), Owner::Target(_, other)) => strict == other,
            (Owner::Caller(_), Owner::Caller(_)) => true,
            (Owner::Caller(_), Owner::Target(..)) | (Owner::Target(..), Owner::Caller(_)) => false,
        }
    }
}

impl Plans {
    /// The limits of whoever calls.
    pub fn of_caller(&self, settings: &Arc<Settings>, paces: &Paces, facts: Facts<'_>) -> Arc<Plan> {
        self.find(Owner::Caller(facts.caller.clone()), settings, facts, || Plan::of(settings, paces, facts))
    }

    /// The limits of where an attempt goes.
    pub fn of_target(
        &self,
        settings: &Arc<Settings>,
        paces: &Paces,
        facts: Facts<'_>,
        deployment: &Arc<Deployment>,
    ) -> Arc<Plan> {
        let owner = Owner::Target(deployment.clone(), super::plan::is_strict(settings, facts.caller));
        self.find(owner, settings, facts, || Plan::of_target(settings, paces, facts, deployment))
    }

    fn find(&self, owner: Owner, settings: &Arc<Settings>, facts: Facts<'_>, make: impl FnOnce() -> Plan) -> Arc<Plan> {
        let known = &mut *self.0.borrow_mut();
        let place = known.plans.entry(owner.address()).or_default();
        let is_it = |one: &Remembered| {
            Arc::ptr_eq(&one.settings, settings)
                && one.model == facts.model
                && one.is_strained == facts.is_strained
                && one.owner.is(&owner)
        };
        let old = place.iter().position(is_it);
        if let Some(one) = old.and_then(|n| place.get(n)).filter(|one| one.plan.holds_at(facts.now)) {
            return one.plan.clone();
        }
        let plan = Arc::new(make());
        match old.and_then(|n| place.get_mut(n)) {
            Some(one) => one.plan = plan.clone(),
            None => {
                if known.count >= MOST {
                    *known = Known::default();
                }
                let (settings, model, is_strained) = (settings.clone(), facts.model.to_owned(), facts.is_strained);
                let address = owner.address();
                let one = Remembered { owner, settings, model, is_strained, plan: plan.clone() };
                known.plans.entry(address).or_default().push(one);
                known.count += 1;
            }
        }
        plan
    }
}
