//! Plans that were made, by whose they are: a key that calls again is under the same limits until it, the configuration
//! or a window changes. Each worker remembers its own, so that no two of them write to the same memory.

use super::pace::Paces;
use super::plan::{self, Facts, Plan};
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
#[derive(Debug)]
enum Owner {
    Caller(Caller),
    /// And whether the caller's budgets are never to be exceeded.
    Target(Arc<Deployment>, bool),
}

/// Whose plan is looked for.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    Caller(&'a Caller),
    Target(&'a Arc<Deployment>, bool),
}

impl Wanted<'_> {
    fn address(self) -> usize {
        match self {
            Wanted::Caller(Caller::Key(holder)) => Arc::as_ptr(holder).addr(),
            // Under the limits of the gateway alone.
            Wanted::Caller(Caller::Master | Caller::Anonymous) => 0,
            Wanted::Target(deployment, _) => Arc::as_ptr(deployment).addr(),
        }
    }

    /// Whether it is this one, of those that lie at its address.
    fn is(self, owner: &Owner) -> bool {
        match (self, owner) {
            (Wanted::Target(this, strict), Owner::Target(other, is)) => Arc::ptr_eq(this, other) && strict == *is,
            (Wanted::Caller(Caller::Key(this)), Owner::Caller(Caller::Key(other))) => Arc::ptr_eq(this, other),
            (Wanted::Caller(this), Owner::Caller(other)) => this.holder().is_none() && other.holder().is_none(),
            (Wanted::Caller(_), Owner::Target(..)) | (Wanted::Target(..), Owner::Caller(_)) => false,
        }
    }

    fn owner(self) -> Owner {
        match self {
            Wanted::Caller(caller) => Owner::Caller(caller.clone()),
            Wanted::Target(deployment, strict) => Owner::Target(deployment.clone(), strict),
        }
    }
}

impl Plans {
    /// The limits of whoever calls.
    pub fn of_caller(&self, settings: &Arc<Settings>, paces: &Paces, facts: Facts<'_>) -> Arc<Plan> {
        self.find(Wanted::Caller(facts.caller), settings, facts, || Plan::of(settings, paces, facts))
    }

    /// The limits of where an attempt goes.
    pub fn of_target(
        &self,
        settings: &Arc<Settings>,
        paces: &Paces,
        facts: Facts<'_>,
        deployment: &Arc<Deployment>,
    ) -> Arc<Plan> {
        let wanted = Wanted::Target(deployment, plan::is_strict(settings, facts.caller));
        self.find(wanted, settings, facts, || Plan::of_target(settings, paces, facts, deployment))
    }

    fn find(
        &self,
        wanted: Wanted<'_>,
        settings: &Arc<Settings>,
        facts: Facts<'_>,
        make: impl FnOnce() -> Plan,
    ) -> Arc<Plan> {
        let known = &mut *self.0.borrow_mut();
        let is_it = |one: &Remembered| {
            Arc::ptr_eq(&one.settings, settings)
                && one.model == facts.model
                && one.is_strained == facts.is_strained
                && wanted.is(&one.owner)
        };
        let old = known.plans.get_mut(&wanted.address()).and_then(|all| all.iter_mut().find(|one| is_it(one)));
        match old {
            Some(one) if one.plan.holds_at(facts.now) => one.plan.clone(),
            Some(one) => {
                one.plan = Arc::new(make());
                one.plan.clone()
            }
            None => {
                let plan = Arc::new(make());
                if known.count >= MOST {
                    *known = Known::default();
                }
                let one = Remembered {
                    owner: wanted.owner(),
                    settings: settings.clone(),
                    model: facts.model.to_owned(),
                    is_strained: facts.is_strained,
                    plan: plan.clone(),
                };
                known.plans.entry(wanted.address()).or_default().push(one);
                known.count += 1;
                plan
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Mode, Sources, load};
    use crate::store::{Holder, Key};

    fn settings() -> Arc<Settings> {
        load(&Sources::default(), Mode::Offline).unwrap().limits
    }

    #[test]
    fn a_plan_is_made_anew_where_a_window_an_increase_or_the_configuration_ends() {
        let (plans, paces) = (Plans::default(), Paces::default());
        let settings = settings();
        let key = Key {
            id: "k".to_owned(),
            max_budget_nanos: Some(5),
            budget_duration: Some("1d".to_owned()),
            temp_budget_increase_nanos: Some(2),
            temp_budget_expires_at: Some(50_000_000_000),
            ..Key::default()
        };
        let caller = Caller::Key(Arc::new(Holder::of(key)));
        let day = 86_400_000_000;
        let of = |settings: &Arc<Settings>, caller: &Caller, model: &str, now: i64| {
            plans.of_caller(settings, &paces, Facts { caller, model, now, is_strained: false })
        };
        let first = of(&settings, &caller, "a", 10);
        assert_eq!(first.pots[0].max_nanos, Some(7));
        assert!(Arc::ptr_eq(&first, &of(&settings, &caller, "a", 49_999_999_999)));
        // Another model, another record of the key, another configuration.
        let again = Caller::Key(Arc::new((**caller.holder().unwrap()).clone()));
        for (settings, caller, model) in
            [(&settings, &caller, "b"), (&settings, &again, "a"), (&Arc::new(Settings::clone(&settings)), &caller, "a")]
        {
            assert!(!Arc::ptr_eq(&first, &of(settings, caller, model, 10)));
        }
        // The increase ends, and then the day.
        let without = of(&settings, &caller, "a", 50_000_000_000);
        assert_eq!((without.pots[0].max_nanos, &without.pots[0].entity), (Some(5), &first.pots[0].entity));
        let next = of(&settings, &caller, "a", day);
        assert_eq!(next.pots[0].entity.start, day);
        // A clock that is put back does not stay in the day that has not come.
        assert_eq!(of(&settings, &caller, "a", day - 1).pots[0].entity.start, 0);
    }

    #[test]
    fn a_worker_remembers_so_many_and_no_more() {
        let (plans, paces) = (Plans::default(), Paces::default());
        let settings = settings();
        for n in 0..3 * MOST {
            let facts =
                Facts { caller: &Caller::Master, model: &n.to_string(), now: 0, is_strained: n.is_multiple_of(2) };
            plans.of_caller(&settings, &paces, facts);
            assert!(plans.0.borrow().count <= MOST);
        }
    }
}
