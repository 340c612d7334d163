//! Which limits a call is under, in the order in which they are told.

use super::calendar::{self, Window};
use super::pace::{Pace, Paces};
use super::shelf::Hint;
use super::subject::{Subject, Who};
use super::terms::{self, Cap, Fields, Terms};
use crate::auth::Caller;
use crate::config::limits::Limits as Settings;
use crate::route::Deployment;
use crate::store::{Budget, Entity, Holder};
use serde_json::Value;
use std::sync::Arc;

/// The rates of one owner.
#[derive(Debug, Clone)]
pub struct Line {
    pub subject: Arc<Subject>,
    pub requests: Option<u64>,
    pub tokens: Option<u64>,
    pub parallel: Option<u64>,
    /// Where it is counted.
    pub account: Hint,
}

/// A budget of one owner.
#[derive(Debug, Clone)]
pub struct Pot {
    pub subject: Arc<Subject>,
    /// Where its spend is counted: within the window, if it has windows.
    pub entity: Arc<Entity>,
    pub max_nanos: Option<i64>,
    pub soft_nanos: Option<i64>,
    pub window: Option<Window>,
    /// Not to be exceeded at all.
    pub strict: bool,
    /// Where it is counted.
    pub purse: Hint,
}

/// All limits of a call.
#[derive(Debug, Clone)]
pub struct Plan {
    pub lines: Vec<Line>,
    pub pots: Vec<Pot>,
    /// What answers of the model usually have.
    pub pace: Arc<Pace>,
    /// It is the same from then on, and until then, in microseconds: windows begin and end, and increases end.
    from: i64,
    until: i64,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { lines: Vec::new(), pots: Vec::new(), pace: Arc::default(), from: i64::MIN, until: i64::MAX }
    }
}

/// What a call says that limits depend on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub caller: &'a Caller,
    /// The public name that the call is routed by.
    pub model: &'a str,
    /// Microseconds.
    pub now: i64,
    /// The model fails lately: a limit that holds only then holds.
    pub is_strained: bool,
}

/// Whether a limit of this sort holds only while the model fails: LiteLLM's `dynamic`.
pub fn is_dynamic(sort: Option<&str>) -> bool {
    sort == Some("dynamic")
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.pots.is_empty()
    }

    /// Whether it is the plan of a call that is made now.
    pub fn holds_at(&self, now: i64) -> bool {
        (self.from..self.until).contains(&now)
    }

    /// Without what another one counts.
    pub fn without_rates(&self) -> Plan {
        Plan { lines: Vec::new(), ..self.clone() }
    }

    /// Of a call that costs nothing.
    pub fn without_budgets(&self) -> Plan {
        Plan { pots: Vec::new(), ..self.clone() }
    }

    /// The limits of whoever shows the key, and of all calls.
    pub fn of(settings: &Settings, paces: &Paces, facts: Facts<'_>) -> Plan {
        let mut plan = Plan { pace: paces.of(facts.model), ..Plan::default() };
        if let Caller::Key(holder) = facts.caller {
            plan.add_holder(settings, holder, facts);
        }
        let strict = is_strict(settings, facts.caller);
        plan.add(settings, facts.now, Subject::new(Who::Gateway, ""), &settings.gateway, strict);
        plan
    }

    /// Of rates this gateway has its part: so many share them.
    pub fn divided(&self, gateways: u64) -> Plan {
        let mut plan = self.clone();
        for line in &mut plan.lines {
            for limit in [&mut line.requests, &mut line.tokens, &mut line.parallel].into_iter().flatten() {
                // A limit that is not nothing admits something everywhere.
                *limit = (*limit / gateways.max(1)).max(u64::from(*limit > 0));
            }
        }
        plan
    }

    /// Whether one of its budgets is never to be exceeded.
    pub fn is_strict(&self) -> bool {
        self.pots.iter().any(|pot| pot.strict)
    }

    fn add_holder(&mut self, settings: &Settings, holder: &Holder, facts: Facts<'_>) {
        let Holder { key, user, team, member, organization, budgets, .. } = holder;
        let budget = |id: &Option<String>| -> Option<&Budget> { budgets.iter().find(|b| Some(&b.id) == id.as_ref()) };
        let strict = is_strict(settings, facts.caller);
        let own_budget = budget(&key.budget_id);
        let increase = key.temp_budget_expires_at.filter(|end| *end > facts.now);
        match (increase, key.temp_budget_expires_at) {
            (Some(end), _) => self.until = self.until.min(end),
            (None, Some(end)) => self.from = self.from.max(end),
            (None, None) => (),
        }
        let increase = increase.and(key.temp_budget_increase_nanos).unwrap_or(0);
        let mut of_key = Fields {
            requests: key.rpm_limit,
            tokens: key.tpm_limit,
            parallel: key.max_parallel_requests,
            max_nanos: key.max_budget_nanos,
            soft_nanos: key.soft_budget_nanos,
            span: key.budget_duration.as_deref(),
            windows: Some(&key.budget_limits),
        }
        .or(own_budget)
        .terms();
        of_key.parallel = of_key.parallel.or(settings.key_parallel);
        let is_off = |sort: &Option<String>| !facts.is_strained && is_dynamic(sort.as_deref());
        of_key.requests = of_key.requests.filter(|_| !is_off(&key.rpm_limit_type));
        of_key.tokens = of_key.tokens.filter(|_| !is_off(&key.tpm_limit_type));
        if let Some(first) = of_key.caps.first_mut() {
            first.max_nanos = first.max_nanos.map(|max| max.saturating_add(increase));
        }
        self.add_if(settings, facts.now, || Subject::new(Who::Key, &key.id), &of_key, strict);

        let by_model = |own: &Value, in_metadata: &str, metadata: &Value| {
            number(own, facts.model).or_else(|| number(&metadata[in_metadata], facts.model))
        };
        let of_model = own_budget.map(|budget| &budget.model_max_budget);
        let key_model = Terms {
            requests: by_model(&key.model_rpm_limit, "model_rpm_limit", &key.metadata)
                .or_else(|| number(&key.model_max_budget[facts.model], "rpm_limit")),
            tokens: by_model(&key.model_tpm_limit, "model_tpm_limit", &key.metadata)
                .or_else(|| number(&key.model_max_budget[facts.model], "tpm_limit")),
            parallel: None,
            caps: terms::cap_of_model([Some(&key.model_max_budget), of_model], facts.model),
        };
        let subject = || Subject::new(Who::KeyModel, &key.id).with(facts.model);
        self.add_if(settings, facts.now, subject, &key_model, strict);

        if let Some(user) = user {
            let mut of_user = terms::of_user(user, budget(&user.budget_id));
            if team.is_some() || key.team_id.is_some() {
                // The team's budget replaces the personal one, as in LiteLLM.
                of_user.caps.clear();
            }
            self.add_if(settings, facts.now, || Subject::new(Who::User, &user.id), &of_user, strict);
            if team.is_none() && key.team_id.is_none() {
                let models = budget(&user.budget_id).map(|budget| &budget.model_max_budget);
                let caps = terms::cap_of_model([Some(&user.model_max_budget), models], facts.model);
                let subject = || Subject::new(Who::UserModel, &user.id).with(facts.model);
                self.add_if(settings, facts.now, subject, &Terms { caps, ..Terms::default() }, strict);
            }
        }
        if let Some(team) = team {
            let of_team = terms::of_team(team, budget(&team.budget_id));
            self.add_if(settings, facts.now, || Subject::new(Who::Team, &team.id), &of_team, strict);
            let models = budget(&team.budget_id).map(|budget| &budget.model_max_budget);
            let team_model = Terms {
                requests: by_model(&team.model_rpm_limit, "model_rpm_limit", &team.metadata),
                tokens: by_model(&team.model_tpm_limit, "model_tpm_limit", &team.metadata),
                parallel: None,
                caps: terms::cap_of_model([Some(&team.model_max_budget), models], facts.model),
            };
            let subject = || Subject::new(Who::TeamModel, &team.id).with(facts.model);
            self.add_if(settings, facts.now, subject, &team_model, strict);
            if let Some(user_id) = member.as_ref().map(|m| &m.user_id).or(key.user_id.as_ref()) {
                let own = member.as_ref().and_then(|m| budget(&m.budget_id));
                let terms = terms::of_member(member.as_ref(), team, own, budget(&team.member_budget_id));
                let subject = || Subject::new(Who::Member, &team.id).with(user_id);
                self.add_if(settings, facts.now, subject, &terms, strict);
            }
        }
        if let Some(organization) = organization {
            let terms = terms::of_organization(organization, budget(&organization.budget_id));
            let subject = || Subject::new(Who::Organization, &organization.id);
            self.add_if(settings, facts.now, subject, &terms, strict);
        }
    }

    /// The same for owners whose name is only made where they have limits.
    fn add_if(
        &mut self,
        settings: &Settings,
        now: i64,
        subject: impl FnOnce() -> Subject,
        terms: &Terms,
        strict: bool,
    ) {
        if !terms.is_empty() {
            self.add(settings, now, subject(), terms, strict);
        }
    }

    /// The limits of where an attempt goes.
    pub fn of_target(settings: &Settings, paces: &Paces, facts: Facts<'_>, deployment: &Deployment) -> Plan {
        let mut plan = Plan { pace: paces.of(facts.model), ..Plan::default() };
        let strict = is_strict(settings, facts.caller);
        if let Some(terms) = settings.deployments.get(&deployment.id) {
            plan.add(settings, facts.now, Subject::new(Who::Deployment, &deployment.id), terms, strict);
        }
        let provider = deployment.provider.name;
        if let Some(terms) = settings.providers.get(provider) {
            plan.add(settings, facts.now, Subject::new(Who::Provider, provider), terms, strict);
        }
        plan
    }

    pub fn add(&mut self, settings: &Settings, now: i64, subject: Subject, terms: &Terms, strict: bool) {
        if terms.is_empty() {
            return;
        }
        let subject = Arc::new(subject);
        for cap in &terms.caps {
            let pot = pot(settings, now, &subject, cap, strict);
            if let Some(window) = pot.window {
                (self.from, self.until) = (self.from.max(window.start), self.until.min(window.end));
            }
            // Two budgets of one sum are the smaller one.
            match self.pots.iter_mut().find(|other| other.entity == pot.entity) {
                Some(other) => {
                    let least = |a: Option<i64>, b: Option<i64>| a.into_iter().chain(b).min();
                    other.max_nanos = least(other.max_nanos, pot.max_nanos);
                    other.soft_nanos = least(other.soft_nanos, pot.soft_nanos);
                }
                None => self.pots.push(pot),
            }
        }
        let Terms { requests, tokens, parallel, .. } = *terms;
        if requests.is_some() || tokens.is_some() || parallel.is_some() {
            self.lines.push(Line { subject, requests, tokens, parallel, account: Hint::default() });
        }
    }
}

/// Whether the caller's budgets are never to be exceeded.
pub fn is_strict(settings: &Settings, caller: &Caller) -> bool {
    match caller.holder().and_then(|holder| holder.key.budget_mode.as_deref()) {
        Some("strict") => true,
        Some("compatible") => false,
        _ => settings.strict,
    }
}

/// A span that is none has no windows: the budget holds over the whole life, which refuses sooner and never later.
fn pot(settings: &Settings, now: i64, subject: &Arc<Subject>, cap: &Cap, strict: bool) -> Pot {
    let entity = subject.entity();
    let window = cap.span.as_deref().and_then(|span| Some((span, calendar::current(span, &settings.zone, now)?)));
    let entity = match window {
        Some((span, window)) => entity.within(span, window.start),
        None => entity,
    };
    Pot {
        subject: subject.clone(),
        entity: Arc::new(entity),
        max_nanos: cap.max_nanos,
        soft_nanos: cap.soft_nanos,
        window: window.map(|(_, window)| window),
        strict,
        purse: Hint::default(),
    }
}

/// A limit by name; a text of digits will do.
fn number(limits: &Value, name: &str) -> Option<u64> {
    terms::count(limits.get(name)?)
}
