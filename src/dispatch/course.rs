//! The course of a call: from deployment to deployment within a group, then from group to group.

use super::admission;
use super::fault::WINDOW_CODE;
use super::recent::Course;
use super::{Asked, Fault, Sent, backoff, prepare, signatures, stopping};
use crate::auth::access;
use crate::call::Call;
use crate::clock::Ring;
use crate::envelope::Envelope;
use crate::error::{Error, Kind, Origin, Result};
use crate::exchange::Face;
use crate::limits::Denied;
use crate::meter::Meter;
use crate::route::{Cause, Deployment, Fallback, Nobody, Out, Plan, Policy, Question, Queue, Settings, Target, Ticket};
use actix_web::http::header::{HeaderValue, RETRY_AFTER};
use serde_json::json;
use std::time::{Duration, Instant, SystemTime};

/// Goes from deployment to deployment until one of them gives what `one` waits for, then from model to model.
///
/// # Errors
/// Why nobody gave it: what the asked model failed with, or what says more.
pub async fn attempts<T>(
    call: &Call,
    meter: &mut Meter,
    one: impl AsyncFn(&mut Sent) -> Result<T>,
) -> Result<(Sent, T)> {
    let outcome = from_model_to_model(call, meter, one).await;
    if !meter.trace.is_empty() {
        let key_id = call.caller.holder().map(|holder| holder.key.id.clone());
        let told = json!({"steps": meter.trace.steps(), "price": meter.price()});
        call.worker.gateway.recent.keep(Course { id: call.id, key_id, told });
    }
    outcome
}

async fn from_model_to_model<T>(
    call: &Call,
    meter: &mut Meter,
    one: impl AsyncFn(&mut Sent) -> Result<T>,
) -> Result<(Sent, T)> {
    let begun = Instant::now();
    // Who has signed what was said before, as far as that can be told: whoever is asked first.
    let mut home: Option<&'static str> = None;
    let rehearsal = call.wishes.rehearsal.as_deref();
    let asked = Asked { plan: &call.plan, envelope: &call.envelope, rehearsal };
    let first = match rehearsal.and_then(|rehearsal| rehearsal.fails) {
        Some(failure) => failure.error(&Origin::default()),
        None => match in_group(call, &asked, (begun, &mut home), meter, &one).await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        },
    };
    let settings = &call.live.routes.settings;
    let wishes = &call.wishes;
    if !Fault::of(&first).may_fall_back() || wishes.no_fallbacks {
        return Err(first);
    }
    let because = Fault::of(&first).because();
    let named = match &wishes.fallbacks {
        Some(own) => &own[..],
        None => settings.fallbacks.of(&call.plan.group().name, because),
    };
    // The next one is the last: what is found on the way is tried before what is left.
    let mut waiting: Vec<Fallback> = named.iter().rev().cloned().collect();
    let mut seen = vec![call.plan.model().to_owned()];
    let (mut told, mut last, mut tried) = (first, String::new(), 0);
    while let Some(fallback) = waiting.pop() {
        if tried >= settings.fallbacks.most {
            break;
        }
        if seen.contains(&fallback.model) && fallback.set.is_empty() {
            continue;
        }
        seen.push(fallback.model.clone());
        let from = if last.is_empty() { call.plan.model() } else { &last };
        let allowed = access::may_call(&call.live, &call.caller, &fallback.model);
        let (plan, envelope) = match (allowed, gone_over(call, &fallback)) {
            (true, Ok(made)) => made,
            (false, _) => {
                meter.trace.fallback(from, &fallback.model, "passed over: the key may not use it");
                continue;
            }
            (_, Err(error)) => {
                meter.trace.fallback(from, &fallback.model, &format!("passed over: {error}"));
                continue;
            }
        };
        tried += 1;
        meter.trace.fallback(from, &fallback.model, Fault::of(&told).name());
        meter.falls_back();
        let envelope = envelope.as_ref().unwrap_or(&call.envelope);
        // What falls back on it is what the rehearsal is for.
        let asked = Asked { plan: &plan, envelope, rehearsal: None };
        let error = match Box::pin(in_group(call, &asked, (begun, &mut home), meter, &one)).await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let fault = Fault::of(&error);
        if fault == Fault::Final {
            return Err(error);
        }
        // What fails has fallbacks of its own; those that the caller names are all there are.
        if wishes.fallbacks.is_none() {
            let further = settings.fallbacks.of(&plan.group().name, fault.because());
            waiting.extend(further.iter().rev().filter(|f| !seen.contains(&f.model)).cloned());
        }
        told = worse(told, error);
        last = fallback.model;
    }
    Err(told)
}

/// Of two errors the one that the caller is better told: the earlier, unless only the later says something.
fn worse(earlier: Error, later: Error) -> Error {
    match Fault::of(&earlier).is_telling() || !Fault::of(&later).is_telling() {
        true => earlier,
        false => later,
    }
}

/// Where a fallback leads, and the request that it makes.
fn gone_over(call: &Call, fallback: &Fallback) -> Result<(Plan, Option<Envelope>)> {
    let plan = call.live.routes.plan(&fallback.model)?;
    if fallback.set.is_empty() {
        return Ok((plan, None));
    }
    let changed = call.envelope.with(&fallback.set);
    Ok((plan, Some(Envelope::parse(changed, call.live.config.server.max_nesting)?)))
}

/// What is to be kept in mind while the deployments of a group are tried.
struct Progress {
    tried: Vec<usize>,
    /// Those that did not take the call just now.
    refused: Vec<(usize, Out)>,
    /// Of those whose own limits did not, what the one says that has room first.
    denied: Option<(Duration, Error)>,
    /// Attempts in this tier of `order`.
    used: u32,
    order: i64,
    /// Rounds through all that can be tried.
    repeats: u32,
    told: Option<Error>,
    last: Option<Fault>,
    /// A connection that was closed too early was replaced once.
    reconnected: bool,
}

async fn in_group<T>(
    call: &Call,
    asked: &Asked<'_>,
    (begun, home): (Instant, &mut Option<&'static str>),
    meter: &mut Meter,
    one: &impl AsyncFn(&mut Sent) -> Result<T>,
) -> Result<(Sent, T)> {
    let settings = &call.live.routes.settings;
    let group = asked.plan.group();
    group.repeats.earn();
    let tokens = call.tokens();
    let mut progress = Progress {
        tried: Vec::new(),
        refused: Vec::new(),
        denied: None,
        used: 0,
        order: i64::MIN,
        repeats: 0,
        told: None,
        last: None,
        reconnected: false,
    };
    let mut turn: Option<Turn> = None;
    loop {
        let now = Instant::now();
        let question = Question {
            now,
            settings,
            tried: &progress.tried,
            refused: &progress.refused,
            tags: &call.wishes.tags,
            prompt_tokens: tokens.0,
            streams: call.streams,
            region: call.wishes.region.as_deref(),
            affinity: call.wishes.affinity,
        };
        if meter.trace.is_full {
            meter.trace.choice(asked.plan.model(), &asked.plan.survey(&question));
        }
        let mut next = asked.plan.next(&question);
        if settings.queue.is_some() && next.is_ok() && progress.told.is_none() && others_first(&turn, &group.queue) {
            next = Err(Nobody::Rates(Duration::from_secs(1)));
        }
        let target = match next {
            Ok(target) => target,
            Err(nobody) => {
                if let Nobody::Rates(wait) = nobody
                    && progress.told.is_none()
                    && let Some(queue) = settings.queue
                {
                    // Everything is busy: the call waits for its turn.
                    let turn = match &mut turn {
                        Some(turn) => turn,
                        None => match group.queue.join(call.wishes.priority, queue.length) {
                            Some(ticket) => turn.insert(Turn { before: ticket.before(), ticket, since: now }),
                            None => {
                                return Err(busy(
                                    asked.plan,
                                    &format!("and {} calls wait for it already", queue.length),
                                ));
                            }
                        },
                    };
                    let end = (turn.since + queue.patience).min(deadline(call, settings, begun, None));
                    Box::pin(turn.wait(call, asked.plan, wait, end)).await?;
                    progress.refused.clear();
                    progress.denied = None;
                    continue;
                }
                let Some(wait) = repeat(call, settings, asked.plan, &progress, nobody, begun) else {
                    let denied = progress.denied.filter(|_| matches!(nobody, Nobody::Rates(_)));
                    let told = progress.told.or(denied.map(|(_, error)| error));
                    return Err(told.unwrap_or_else(|| nobody_of(call, asked.plan, nobody)));
                };
                meter.trace.waited("before another round", wait);
                Box::pin(pause(call, wait)).await?;
                progress.repeats += 1;
                progress.tried.clear();
                progress.refused.clear();
                continue;
            }
        };
        let made_up = asked.rehearsal.and_then(|rehearsal| rehearsal.next(progress.told.is_none()));
        let is_made_up = made_up.is_some();
        let target = match made_up {
            Some(mock) => target.mocked(mock),
            None => target,
        };
        let deployment = target.deployment.clone();
        if progress.used > 0 && deployment.own.order != progress.order {
            // Each tier has its own retries.
            progress.used = 0;
        }
        progress.order = deployment.own.order;
        let most = || retries(call, settings, asked.plan, &target, progress.last);
        if progress.used > 0 && most().is_some_and(|most| progress.used > most) {
            return Err(progress.told.unwrap_or_else(|| nobody_of(call, asked.plan, Nobody::Tried)));
        }
        let admitted = admission::admit(settings, &target, &group.queue, (call.streams, tokens.0 + tokens.1));
        let admission = match admitted {
            // What a caller makes up says nothing of how the deployment does.
            Ok(admission) if is_made_up => admission.rehearsed(),
            Ok(admission) => admission,
            Err(out) => {
                meter.trace.refused(&deployment, out);
                progress.refused.push((deployment.index, out));
                continue;
            }
        };
        meter.goes_to(&target);
        // The caller's own limits, once, at the price of where it goes first.
        meter.admit(call).await.map_err(Error::ends_the_call)?;
        let entered = match meter.enter(call, &target.deployment).await {
            Err(Denied { error, wait: Some(wait) }) => {
                admission.withdraw();
                meter.trace.refused(&deployment, Out::Rate(wait));
                progress.refused.push((deployment.index, Out::Rate(wait)));
                if progress.denied.as_ref().is_none_or(|(least, _)| wait < *least) {
                    progress.denied = Some((wait, error));
                }
                continue;
            }
            entered => entered.map_err(Error::from),
        };
        if let Some(turn) = turn.take() {
            let why = format!("in the queue, behind {} others", turn.before);
            meter.trace.waited(&why, turn.since.elapsed());
        }
        let vendor = signatures::vendor(&deployment);
        let has_moved = *home.get_or_insert(vendor) != vendor;
        let (in_blocks, nesting) = (call.face == Face::Messages, call.live.config.server.max_nesting);
        let bare = has_moved.then(|| signatures::without(asked.envelope, in_blocks, nesting)).flatten();
        let envelope = bare.as_ref().unwrap_or(asked.envelope);
        let prepared = entered.and_then(|()| {
            let limited = meter.limited(call, envelope)?;
            prepare(call, &Asked { envelope: limited.as_ref().unwrap_or(envelope), ..*asked }, &target)
        });
        let outcome = match prepared {
            Ok((request, back)) => {
                meter.open(call.live.config.ledger.serve_unaccounted).map_err(Error::ends_the_call)?;
                meter.tries();
                let left = deadline(call, settings, begun, Some(&target)).saturating_duration_since(now);
                let mut limits = call.patience.within(deployment.timeouts);
                (limits.whole, limits.silence) = (limits.whole.min(left), limits.silence.min(left));
                let tariff = meter.tariff();
                let mut sent = Sent { target, request, back, limits, tariff, admission };
                match one(&mut sent).await {
                    Ok(got) => {
                        meter.trace.answered(&deployment, sent.admission.begun().elapsed());
                        return Ok((sent, got));
                    }
                    Err(error) => {
                        sent.admission.used(Some(0));
                        (error, true)
                    }
                }
            }
            Err(error) => {
                drop(admission);
                (error, false)
            }
        };
        let (error, was_sent) = outcome;
        let fault = Fault::of(&error);
        meter.trace.failed(&deployment, now.elapsed(), &error);
        if was_sent {
            progress.used += 1;
            if !is_made_up {
                note(settings, &deployment, fault, &error);
            }
            // The upstream has not seen the request: a connection that was kept too long is nobody's fault.
            if error.is_unsent() && !std::mem::replace(&mut progress.reconnected, true) {
                continue;
            }
        }
        if !fault.may_go_elsewhere() {
            return Err(match progress.told {
                Some(told) if fault != Fault::Final => worse(told, error),
                _ => error,
            });
        }
        progress.last = Some(fault);
        progress.told = Some(match progress.told {
            // Of attempts at one model the last one is the freshest news.
            Some(told) if Fault::of(&told).is_telling() && !fault.is_telling() => told,
            _ => error,
        });
        progress.tried.push(deployment.index);
        progress.refused.clear();
        progress.denied = None;
    }
}

/// When all attempts of the call must be over.
fn deadline(call: &Call, settings: &Settings, begun: Instant, target: Option<&Target>) -> Instant {
    let most = call.patience.whole.unwrap_or_else(|| {
        let one = target.map_or(Duration::ZERO, |target| target.deployment.timeouts.whole);
        settings.deadline.max(one)
    });
    begun.checked_add(most).unwrap_or(begun + Duration::from_secs(86_400))
}

/// How many attempts may follow the first one in this group; `None`: each deployment once.
fn retries(call: &Call, settings: &Settings, plan: &Plan, target: &Target, last: Option<Fault>) -> Option<u32> {
    let of = |policy: &Policy| last.and_then(|fault| policy.get(fault.class()));
    call.wishes
        .retries
        .or_else(|| settings.group_retry_policy.get(&plan.group().name).and_then(of))
        .or_else(|| of(&settings.retry_policy))
        .or(target.deployment.own.retries)
        .or(settings.retries)
}

/// How long to wait before those that failed are tried again, if they are.
fn repeat(
    call: &Call,
    settings: &Settings,
    plan: &Plan,
    progress: &Progress,
    nobody: Nobody,
    begun: Instant,
) -> Option<Duration> {
    let fault = progress.last.filter(|fault| fault.may_pass())?;
    let told = progress.told.as_ref()?;
    let group = plan.group();
    let of = |policy: &Policy| policy.get(fault.class());
    let own = || group.deployments.iter().filter_map(|d| d.own.retries).max();
    let most = call
        .wishes
        .retries
        .or_else(|| settings.group_retry_policy.get(&group.name).and_then(of))
        .or_else(|| of(&settings.retry_policy))
        .or_else(own)
        .or(settings.retries)?;
    if progress.used > most {
        return None;
    }
    let asked = match nobody {
        Nobody::Rates(wait) => Some(wait),
        _ if fault == Fault::RateLimit => backoff::asked(told, SystemTime::now()),
        _ => None,
    };
    let wait = backoff::wait(progress.repeats, asked, settings.retry_after, rand::random())?;
    let now = Instant::now();
    let in_time = now + wait < deadline(call, settings, begun, None);
    (in_time && group.repeats.spend(now)).then_some(wait)
}

async fn pause(call: &Call, wait: Duration) -> Result<()> {
    match call.worker.clock.after(wait).await {
        Ring::Late => Ok(()),
        Ring::Ending => Err(stopping()),
    }
}

/// A place in the queue of a group.
struct Turn {
    ticket: Ticket,
    since: Instant,
    /// How many were there before.
    before: usize,
}

impl Turn {
    /// Waits until it is called, or for `wait`, but not beyond `end`.
    async fn wait(&mut self, call: &Call, plan: &Plan, wait: Duration, end: Instant) -> Result<()> {
        let now = Instant::now();
        if now >= end {
            return Err(busy(plan, "for as long as a call may wait for it"));
        }
        let most = wait.max(Duration::from_millis(1)).min(end - now);
        tokio::select! {
            biased;
            () = &mut self.ticket => Ok(()),
            ring = call.worker.clock.after(most) => match ring {
                Ring::Late => Ok(()),
                Ring::Ending => Err(stopping()),
            },
        }
    }
}

/// Whether somebody else is to be served before this call.
fn others_first(turn: &Option<Turn>, queue: &Queue) -> bool {
    match turn {
        Some(turn) => turn.ticket.before() > 0,
        None => !queue.is_empty(),
    }
}

fn busy(plan: &Plan, why: &str) -> Error {
    let message =
        format!("The model '{}' is busy, {why} (routing.queue); try again.", crate::envelope::shorten(plan.model()));
    Error::new(Kind::RateLimited, message).with_headers(vec![(RETRY_AFTER, HeaderValue::from_static("1"))])
}

/// What a failure says about the deployment.
pub fn note(settings: &Settings, deployment: &Deployment, fault: Fault, error: &Error) {
    if !fault.is_the_deployments() || error.is_unsent() {
        return;
    }
    if fault == Fault::Unreachable {
        deployment.pulse.reached(false);
    }
    let now = Instant::now();
    let (calls, fails, of_class) = deployment.pulse.failed(now, fault.class());
    if !settings.cooldowns {
        return;
    }
    let own_count = settings.allowed_fails_policy.get(fault.class()).map(|most| of_class > most);
    let counted = own_count.or_else(|| settings.allowed_fails.map(|most| fails > most));
    let cools = counted.unwrap_or_else(|| fault.cools_at_once() || (calls >= 5 && fails * 2 > calls));
    if !cools && fault != Fault::RateLimit {
        return;
    }
    let asked = backoff::asked(error, SystemTime::now()).filter(|wait| !wait.is_zero());
    // A number of failures says when to stop asking; a time that the upstream names is to be kept in any case.
    if !cools && asked.is_none() {
        return;
    }
    let length = asked.unwrap_or_else(|| deployment.own.cooldown.unwrap_or(settings.cooldown));
    let cause = match fault {
        Fault::RateLimit | Fault::Quota => Cause::RateLimit,
        _ => Cause::Failures,
    };
    if deployment.pulse.cooling(now).is_none() {
        tracing::warn!(
            deployment = deployment.id,
            model = deployment.name,
            fault = fault.name(),
            "deployment cools down for {length:.1?}"
        );
    }
    deployment.pulse.cool(now, length.min(Duration::from_secs(3600)), cause);
}

fn nobody_of(call: &Call, plan: &Plan, why: Nobody) -> Error {
    nobody(plan, why, call.tokens().0, &call.wishes.tags)
}

/// The error where nobody was asked: of a prompt of so many tokens, for a call with these tags.
pub fn nobody(plan: &Plan, nobody: Nobody, tokens: u64, tags: &[String]) -> Error {
    let model = crate::envelope::shorten(plan.model());
    match nobody {
        Nobody::Rates(wait) => {
            let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
            let message = format!(
                "No deployments available for selected model, Try again in {seconds} seconds. Each deployment of '{model}' is at its rate limit."
            );
            Error::new(Kind::RateLimited, message).with_headers(vec![(RETRY_AFTER, HeaderValue::from(seconds))])
        }
        Nobody::Failing(wait) => {
            let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
            let message = format!("No deployment of '{model}' can be asked now; try again in {seconds} seconds.");
            Error::new(Kind::Unreachable, message).with_headers(vec![(RETRY_AFTER, HeaderValue::from(seconds))])
        }
        Nobody::Window => Error::invalid(format!(
            "The prompt has about {tokens} tokens, more than any deployment of '{model}' takes (enable_pre_call_checks)."
        ))
        .at_param("messages")
        .with_code(WINDOW_CODE),
        Nobody::Tags => Error::invalid(format!(
            "No deployment of '{model}' has the tags of this call ({}), and none is its default.",
            tags.join(", ")
        ))
        .at_param("tags"),
        Nobody::Region => Error::invalid(format!("No deployment of '{model}' stands in the region of this call.")),
        Nobody::Unserved | Nobody::Tried => {
            let why = plan.group().deployments.iter().find_map(|d| d.unserved.clone());
            why.unwrap_or_else(|| Error::new(Kind::Unreachable, format!("No deployment of '{model}' can be called.")))
        }
    }
}
