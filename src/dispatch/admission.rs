//! Whether a deployment takes one more call: its slots, and where routing makes limits of them its weights. Its `limits`
//! are not here but in [`crate::limits`].

use super::Fault;
use crate::error::Error;
use crate::route::{Deployment, Out, Queue, Settings, Target};
use crate::usage::Usage;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A deployment's leave for one attempt. It ends with the attempt or, where that succeeds, with the answer.
#[derive(Debug)]
pub struct Admission {
    deployment: Arc<Deployment>,
    /// Whoever waits for it.
    queue: Arc<Queue>,
    begun: Instant,
    first: Option<Duration>,
    streams: bool,
    /// Tokens that were set aside.
    tokens: Option<u64>,
    /// Nothing has become free by its end.
    is_withdrawn: bool,
    /// The deployment is not asked itself.
    is_rehearsed: bool,
}

/// Asks for it, before anything is sent. `tokens` is what the call may use at most, as far as that can be told.
///
/// # Errors
/// The deployment takes no call now; another one may.
pub fn admit(
    settings: &Settings,
    target: &Target,
    queue: &Arc<Queue>,
    (streams, tokens): (bool, u64),
) -> Result<Admission, Out> {
    let deployment = &target.deployment;
    let (own, pulse, now) = (&deployment.own, &deployment.pulse, Instant::now());
    if !pulse.enter(own.slots) {
        return Err(Out::Full);
    }
    let mut admission = Admission {
        deployment: deployment.clone(),
        queue: queue.clone(),
        begun: now,
        first: None,
        streams,
        tokens: None,
        is_withdrawn: false,
        is_rehearsed: false,
    };
    let is_limited = settings.strategy.limits_rates() || settings.pre_call_checks;
    let (rpm, tpm) = (own.rpm, own.tpm);
    if !is_limited || (rpm.is_none() && tpm.is_none()) {
        return Ok(admission);
    }
    let mut windows = pulse.windows();
    let request = match rpm.map(|limit| windows.requests.take(now, 1, limit)).transpose() {
        Ok(request) => request,
        Err(wait) => {
            drop(windows);
            return Err(Out::Rate(wait));
        }
    };
    match tpm.map(|limit| windows.tokens.take(now, tokens, limit)).transpose() {
        Ok(taken) => admission.tokens = taken,
        Err(wait) => {
            if let Some(request) = request {
                windows.requests.correct(request, 0);
            }
            drop(windows);
            return Err(Out::Rate(wait));
        }
    }
    drop(windows);
    Ok(admission)
}

impl Admission {
    /// The first event of a stream is there.
    pub fn answered(&mut self) {
        self.first = Some(self.begun.elapsed());
    }

    /// The answer is complete.
    pub fn succeeded(&mut self, usage: Option<&Usage>) {
        let used = usage.map(|usage| usage.prompt_tokens.saturating_add(usage.completion_tokens));
        if !self.is_rehearsed {
            let pulse = &self.deployment.pulse;
            pulse.warm_up();
            let now = Instant::now();
            let whole = (!self.streams).then(|| now.saturating_duration_since(self.begun));
            pulse.succeeded(now, self.first, whole, used.unwrap_or(0));
        }
        self.used(used);
    }

    /// The answer broke off after it had begun.
    pub fn broke_off(&mut self, error: &Error) {
        let fault = Fault::of(error);
        if fault.is_the_deployments() && !self.is_rehearsed {
            self.deployment.pulse.failed(Instant::now(), fault.class());
        }
    }

    /// The answer is over, complete or not, and has used so much; nothing is known about it where that is `None`.
    pub fn used(&mut self, tokens: Option<u64>) {
        if let (Some(id), Some(tokens)) = (self.tokens, tokens) {
            self.tokens = None;
            self.deployment.pulse.windows().tokens.correct(id, tokens);
        }
    }

    /// The attempt is not made, since one of the deployment's limits refuses it: whoever waits would be refused as well.
    pub fn withdraw(mut self) {
        self.is_withdrawn = true;
    }

    /// A call has its answer made up: it says nothing of how the deployment does.
    pub fn rehearsed(mut self) -> Self {
        self.is_rehearsed = true;
        self
    }

    pub fn begun(&self) -> Instant {
        self.begun
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.deployment.pulse.leave();
        if !self.is_withdrawn {
            self.queue.call();
        }
    }
}
