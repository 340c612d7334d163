//! Where a call may go next: the deployments of a group that can take it, and the one of them that is chosen.

use super::pulse::Cause;
use super::settings::{Settings, TagMatch};
use super::strategy::{self, Candidate};
use super::{Deployment, Group, Target};
use crate::pattern;
use actix_web::http::header::HeaderValue;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Where a call may go: the deployments behind the name that was asked for, in an order that is made as they are tried.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) group: Arc<Group>,
    /// The name that was asked for, where that is not the group's own.
    pub(super) name: Option<String>,
    /// No other than this one, by its index: what the call goes on from lies there.
    pub(super) only: Option<usize>,
}

/// What of a call counts for the choice.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub now: Instant,
    pub settings: &'a Settings,
    /// Those that are out for this call, by their index.
    pub tried: &'a [usize],
    /// Those that did not take the call just now.
    pub refused: &'a [(usize, Out)],
    pub tags: &'a [String],
    /// An estimate of the prompt.
    pub prompt_tokens: u64,
    pub streams: bool,
    /// Where the call has to stay.
    pub region: Option<&'a str>,
    /// What calls that belong together have in common.
    pub affinity: Option<u64>,
}

/// Why a deployment is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Out {
    /// It was tried already.
    Tried,
    /// It cannot be called as it is configured.
    Unserved,
    /// It has other tags than the call.
    Tags,
    /// It stands elsewhere.
    Region,
    /// Its window is too small for the prompt.
    Window,
    /// The last check found it ill, or no connection could be made.
    Ill,
    /// It cools down for so long.
    Cooling(Duration, Cause),
    /// It is at its limit of requests or tokens in a minute, for so long.
    Rate(Duration),
    /// All its slots are taken.
    Full,
    /// Others of a lower order can be asked.
    Order,
}

impl Out {
    /// Whether waiting would help.
    pub fn is_for_now(self) -> bool {
        matches!(self, Out::Cooling(..) | Out::Rate(_) | Out::Full | Out::Ill)
    }

    /// Whether it is too many calls that stand in the way.
    pub fn is_rate(self) -> bool {
        matches!(self, Out::Cooling(_, Cause::RateLimit) | Out::Rate(_) | Out::Full)
    }

    /// For the operator.
    pub fn reason(self) -> String {
        match self {
            Out::Tried => "tried already".to_owned(),
            Out::Unserved => "cannot be called as it is configured".to_owned(),
            Out::Tags => "other tags".to_owned(),
            Out::Region => "another region".to_owned(),
            Out::Window => "its context window is too small for the prompt".to_owned(),
            Out::Ill => "down by the last check".to_owned(),
            Out::Cooling(left, Cause::RateLimit) => format!("rate limited by the upstream, for {left:.1?} more"),
            Out::Cooling(left, Cause::Failures) => format!("cooling down after failures, for {left:.1?} more"),
            Out::Rate(left) => format!("at its limit of a minute, for {left:.1?} more"),
            Out::Full => "all its slots are taken".to_owned(),
            Out::Order => "others of a lower order go first".to_owned(),
        }
    }
}

/// Why no deployment can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nobody {
    /// All were tried.
    Tried,
    /// None is configured so that it could be called.
    Unserved,
    /// None has the tags of the call.
    Tags,
    /// None stands where the call has to stay.
    Region,
    /// The prompt is too long for all of them.
    Window,
    /// Each has had too many calls; the first may be asked again after so long.
    Rates(Duration),
    /// Some fail and the others have had too many calls.
    Failing(Duration),
}

impl Plan {
    /// From now on only the deployment of that id is asked, if it is one of these.
    pub fn stay_with(&mut self, id: &str) {
        self.only = self.group.deployments.iter().find(|d| d.id == id).map(|d| d.index).or(self.only);
    }

    /// The model as it was asked for.
    pub fn model(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.group.name)
    }

    /// The name of the group, as the configuration writes it.
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// The name that was asked for, as a header value.
    pub fn label(&self) -> HeaderValue {
        let own = || self.group.deployments.first().map(|d| d.labels.group.clone());
        let asked = self.name.as_deref().and_then(|name| HeaderValue::from_str(name).ok());
        asked.or_else(own).unwrap_or(HeaderValue::from_static(""))
    }

    /// The one to ask.
    ///
    /// # Errors
    /// Why there is none.
    pub fn next(&self, question: &Question<'_>) -> Result<Target, Nobody> {
        let group = &*self.group;
        // One deployment is asked whatever became of the calls before: it is the only one that can answer.
        if let [only] = &group.deployments[..] {
            return match self.out(only, question).filter(|out| !matches!(out, Out::Cooling(..) | Out::Ill)) {
                None => Ok(self.to(only)),
                Some(out) => Err(nobody(&[out])),
            };
        }
        let outs: Vec<Option<Out>> = group.deployments.iter().map(|d| self.out(d, question)).collect();
        let fitting = |usable: &dyn Fn(Option<Out>) -> bool| -> Vec<&Arc<Deployment>> {
            let usable = group.deployments.iter().zip(&outs).filter(|(_, out)| usable(**out)).map(|(d, _)| d);
            let first = usable.clone().map(|d| d.own.order).min();
            usable.filter(|d| Some(d.own.order) == first).collect()
        };
        let mut candidates = fitting(&|out| out.is_none());
        if candidates.is_empty() {
            // Nobody is known to be well: who is only thought to fail is asked all the same, for it may be over.
            candidates = fitting(&|out| matches!(out, Some(Out::Cooling(_, Cause::Failures) | Out::Ill)));
        }
        let deployment = match &candidates[..] {
            [] => {
                let outs: Vec<Out> = outs.into_iter().flatten().collect();
                return Err(nobody(&outs));
            }
            [only] => only,
            many => &many[self.choose(many, question)],
        };
        Ok(self.to(deployment))
    }

    /// Every deployment, and why it is not asked.
    pub fn survey(&self, question: &Question<'_>) -> Vec<(Arc<Deployment>, Option<Out>)> {
        let mut all: Vec<_> = self.group.deployments.iter().map(|d| (d.clone(), self.out(d, question))).collect();
        let first = all.iter().filter(|(_, out)| out.is_none()).map(|(d, _)| d.own.order).min();
        for (deployment, out) in &mut all {
            if out.is_none() && Some(deployment.own.order) != first {
                *out = Some(Out::Order);
            }
        }
        all
    }

    fn choose(&self, candidates: &[&Arc<Deployment>], question: &Question<'_>) -> usize {
        if let Some(key) = question.affinity {
            // The same key finds the same deployment, whichever others come and go (rendezvous hashing).
            let score = |d: &Deployment| mix(key ^ d.hash);
            let best = candidates.iter().enumerate().max_by_key(|(_, d)| score(d));
            return best.map_or(0, |(place, _)| place);
        }
        let settings = question.settings;
        let seen: Vec<Candidate> = candidates
            .iter()
            .map(|d| {
                let (own, pulse) = (&d.own, &d.pulse);
                Candidate {
                    weight: own.weight,
                    rpm: own.rpm,
                    tpm: own.tpm,
                    in_flight: pulse.in_flight(),
                    tokens: pulse.usage(question.now).1,
                    latency: pulse.latency(question.streams),
                    price: d.price_of_two,
                }
            })
            .collect();
        let turn = self.group.next.fetch_add(1, Ordering::Relaxed);
        strategy::choose(settings.strategy, &seen, turn, settings.latency_buffer, rand::random)
    }

    /// Why the deployment is not asked, if it is not.
    fn out(&self, deployment: &Deployment, question: &Question<'_>) -> Option<Out> {
        let (own, pulse, settings) = (&deployment.own, &deployment.pulse, question.settings);
        let elsewhere = self.only.is_some_and(|only| only != deployment.index);
        if elsewhere || question.tried.contains(&deployment.index) {
            return Some(Out::Tried);
        }
        if let Some((_, out)) = question.refused.iter().find(|(index, _)| *index == deployment.index) {
            return Some(*out);
        }
        if deployment.unserved.is_some() {
            return Some(Out::Unserved);
        }
        if let Some(how) = settings.tags
            && !meet(how, question.tags, &own.tags, &self.group)
        {
            return Some(Out::Tags);
        }
        if settings.pre_call_checks {
            if question.region.is_some_and(|region| !stands_in(own.region.as_deref(), region)) {
                return Some(Out::Region);
            }
            let window = deployment.window.filter(|window| question.prompt_tokens > *window);
            if window.is_some() {
                return Some(Out::Window);
            }
        }
        if let Some((left, cause)) = pulse.cooling(question.now) {
            return Some(Out::Cooling(left, cause));
        }
        if pulse.is_unreachable() {
            return Some(Out::Ill);
        }
        if let Some(trust) = settings.trust_health
            && let Some((false, age)) = pulse.health(question.now)
            && age <= trust
        {
            return Some(Out::Ill);
        }
        own.slots.filter(|slots| pulse.in_flight() >= *slots).map(|_| Out::Full)
    }

    pub fn to(&self, deployment: &Arc<Deployment>) -> Target {
        let captured = self.name.as_deref().and_then(|name| pattern::capture(&self.group.name, name));
        let named = captured.filter(|_| deployment.model.contains('*')).map(|captured| {
            // `*` -> `openai/*` is asked for `openai/gpt-x` as well as for `gpt-x`.
            let bare = captured
                .strip_prefix(deployment.provider.name)
                .and_then(|rest| rest.strip_prefix('/'))
                .unwrap_or(captured);
            pattern::fill(&deployment.model, bare)
        });
        Target { deployment: deployment.clone(), named, mock: deployment.mock.clone() }
    }
}

/// Whether a deployment of that region is meant by the other one: itself, or where it lies (`eu-west-1` in `eu`). Of one
/// whose region is not known nobody can say that a call stays there.
fn stands_in(own: Option<&str>, region: &str) -> bool {
    let Some(own) = own else { return false };
    let lies_in = |outer: &str| own.strip_prefix(outer).is_some_and(|rest| rest.starts_with('-'));
    own == region || lies_in(region) || (region == "eu" && lies_in("europe"))
}

/// A call with tags goes to deployments that have them; one without, to those without or with the tag `default`.
fn meet(how: TagMatch, asked: &[String], own: &[String], group: &Group) -> bool {
    if asked.is_empty() {
        let has_default = |tags: &[String]| tags.iter().any(|tag| tag == "default");
        return match group.deployments.iter().any(|d| has_default(&d.own.tags)) {
            true => has_default(own),
            false => own.is_empty() || group.deployments.iter().all(|d| !d.own.tags.is_empty()),
        };
    }
    let fits = |own: &[String]| match how {
        TagMatch::Any => own.iter().any(|tag| asked.contains(tag)),
        TagMatch::All => !own.is_empty() && own.iter().all(|tag| asked.contains(tag)),
    };
    fits(own) || (own.iter().any(|tag| tag == "default") && !group.deployments.iter().any(|d| fits(&d.own.tags)))
}

fn nobody(outs: &[Out]) -> Nobody {
    let waits = outs.iter().filter_map(|out| match out {
        Out::Cooling(left, _) | Out::Rate(left) => Some(*left),
        Out::Full | Out::Ill => Some(Duration::from_secs(1)),
        _ => None,
    });
    let wait = waits.min();
    let fixed = |which: Out| outs.contains(&which);
    let usable: Vec<&Out> = outs.iter().filter(|out| out.is_for_now()).collect();
    match wait {
        Some(wait) if usable.iter().all(|out| out.is_rate()) => Nobody::Rates(wait),
        Some(wait) => Nobody::Failing(wait),
        None if fixed(Out::Tried) => Nobody::Tried,
        None if fixed(Out::Window) => Nobody::Window,
        None if fixed(Out::Region) => Nobody::Region,
        None if fixed(Out::Tags) => Nobody::Tags,
        None => Nobody::Unserved,
    }
}

/// Spreads the bits of a hash (the last step of MurmurHash3).
fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ bits >> 33
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Mode, Sources, load};
    use crate::route::Routes;

    fn routes(models: &str) -> Routes {
        let path = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        std::fs::write(path.path(), models).unwrap();
        let sources = Sources { config: Some(path.path().to_owned()), ..Sources::default() };
        let config = load(&sources, Mode::Offline).unwrap();
        Routes::new(config.deployments, config.routing)
    }

    fn of(count: usize, more: &str) -> Routes {
        let model = |i| {
            format!(
                "[[models]]\nname = \"m\"\nmodel = \"openai_like/m\"\nid = \"{i}\"\napi_base = \"http://x/v1\"\n{more}"
            )
        };
        routes(&(0..count).map(model).collect::<String>())
    }

    fn question<'a>(settings: &'a Settings, tried: &'a [usize], refused: &'a [(usize, Out)]) -> Question<'a> {
        Question {
            now: Instant::now(),
            settings,
            tried,
            refused,
            tags: &[],
            prompt_tokens: 1,
            streams: false,
            region: None,
            affinity: None,
        }
    }

    #[test]
    fn who_cools_down_is_passed_over_unless_nobody_else_is_there() {
        let routes = of(3, "");
        let plan = routes.plan("m").unwrap();
        let rest = Duration::from_secs(60);
        let cool = |i: usize, cause| routes.deployments[i].pulse.cool(Instant::now(), rest, cause);
        cool(0, Cause::Failures);
        cool(1, Cause::RateLimit);
        for _ in 0..10 {
            assert_eq!(plan.next(&question(&routes.settings, &[], &[])).unwrap().deployment.index, 2);
        }
        // Of those that are left only the one that fails may be well again; the other one asked for rest.
        assert_eq!(plan.next(&question(&routes.settings, &[2], &[])).unwrap().deployment.index, 0);
        cool(0, Cause::RateLimit);
        cool(2, Cause::RateLimit);
        assert!(matches!(plan.next(&question(&routes.settings, &[], &[])), Err(Nobody::Rates(_))));
        assert_eq!(plan.next(&question(&routes.settings, &[0, 1, 2], &[])).unwrap_err(), Nobody::Tried);
    }

    #[test]
    fn those_who_belong_together_stay_while_others_come_and_go() {
        let routes = of(5, "");
        let plan = routes.plan("m").unwrap();
        let at = |key: u64, tried: &[usize]| {
            let asked = Question { affinity: Some(key), ..question(&routes.settings, tried, &[]) };
            plan.next(&asked).unwrap().deployment.index
        };
        let homes: Vec<usize> = (0..100).map(|key| at(key, &[])).collect();
        assert!((0..5).all(|i| homes.contains(&i)));
        for (key, home) in homes.iter().enumerate() {
            let gone = (home + 1) % 5;
            assert_eq!(at(key as u64, &[gone]), *home);
        }
    }

    /// The best of many rounds, so that a busy machine does not count.
    #[test]
    fn a_choice_among_eight_takes_little_time() {
        let routes = of(8, "weight = 1\n");
        let mut best = Duration::MAX;
        for _ in 0..50 {
            let begun = Instant::now();
            for _ in 0..200 {
                let plan = routes.plan("m").unwrap();
                std::hint::black_box(plan.next(&question(&routes.settings, &[], &[])).unwrap());
            }
            best = best.min(begun.elapsed() / 200);
        }
        eprintln!("a choice among 8 deployments: {best:?}");
        let most = if cfg!(debug_assertions) { Duration::from_micros(60) } else { Duration::from_micros(2) };
        assert!(best <= most, "{best:?}");
    }

    #[test]
    fn a_region_is_itself_or_lies_in_another_one() {
        for (own, region, fits) in [
            (Some("eu"), "eu", true),
            (Some("eu-west-1"), "eu", true),
            (Some("europe-west4"), "eu", true),
            (Some("us-east-1"), "us", true),
            (Some("us-east-1"), "eu", false),
            (Some("euphoria"), "eu", false),
            (Some("eu"), "eu-west-1", false),
            (None, "eu", false),
        ] {
            assert_eq!(stands_in(own, region), fits, "{own:?} {region}");
        }
    }
}
