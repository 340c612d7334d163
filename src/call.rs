//! A call that was checked: what is asked, by whom, and where it may go.
//!
//! It knows nothing of the request that brought it: what the gateway asks for by itself, such as a round of a tool
//! loop, is a call like any other.

use crate::auth::Caller;
use crate::envelope::Envelope;
use crate::exchange::{Ask, Face, History};
use crate::form::Files;
use crate::gateway::{Live, Worker};
use crate::meter;
use crate::mock::Rehearsal;
use crate::route::{Fallback, Plan, Priority, Timeouts};
use crate::usage::Usage;
use actix_web::http::header::HeaderValue;
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// A call that is checked and not sent yet.
pub struct Call {
    pub id: Uuid,
    pub worker: Rc<Worker>,
    /// The configuration that the call began with.
    pub live: Arc<Live>,
    pub caller: Caller,
    /// The format that it is asked in.
    pub face: Face,
    pub envelope: Envelope,
    /// The answer is to be streamed.
    pub streams: bool,
    /// Where it may go.
    pub plan: Plan,
    pub patience: Patience,
    pub wishes: Wishes,
    /// The betas that the caller asks for, for upstreams that know what a beta is.
    pub betas: Vec<Cow<'static, str>>,
    /// Another `anthropic-version` than the usual one.
    pub version: Option<HeaderValue>,
    /// The response that it goes on from.
    pub history: Option<History>,
    /// It came as a form, with these files, and goes on as one.
    pub files: Option<Files>,
    /// What it uses as far as its request says, where its answer says nothing.
    pub presumed: Option<Presumed>,
    /// Its response is kept by whoever asks for it, and not as it comes.
    pub is_kept_elsewhere: bool,
}

/// What a request says of what its call will use.
#[derive(Debug, Clone, Copy, Default)]
pub struct Presumed {
    pub usage: Usage,
    /// Nobody has counted it.
    pub is_guess: bool,
}

impl Call {
    /// What is asked of an upstream.
    pub fn ask(&self) -> Ask<'_> {
        Ask {
            face: self.face,
            envelope: &self.envelope,
            streams: self.streams,
            model: self.plan.model(),
            id: self.id,
            max_nesting: self.live.config.server.max_nesting,
            history: self.history.as_ref(),
        }
    }

    /// Estimates of the tokens that the prompt has, and of those that the answer may have where the caller says so.
    pub fn tokens(&self) -> (u64, u64) {
        let most = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
        let output = most.iter().find_map(|name| self.envelope.number(name));
        (meter::estimate(self.envelope.bytes().len()), output.map_or(0, |tokens| tokens.max(0.0) as u64))
    }
}

/// What a call says about its way, beyond the model.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// Attempts behind the first one in each group.
    pub retries: Option<u32>,
    /// In place of the configured fallbacks.
    pub fallbacks: Option<Vec<Fallback>>,
    /// A failure is told as it is.
    pub no_fallbacks: bool,
    /// For deployments with tags.
    pub tags: Vec<String>,
    /// Where it has to stay.
    pub region: Option<String>,
    pub priority: Priority,
    /// What calls that belong together have in common.
    pub affinity: Option<u64>,
    /// The answer is to say how it came about.
    pub explains: bool,
    /// What is to be made up.
    pub rehearsal: Option<Box<Rehearsal>>,
}

impl Default for Wishes {
    fn default() -> Self {
        Wishes {
            retries: None,
            fallbacks: None,
            no_fallbacks: false,
            tags: Vec::new(),
            region: None,
            priority: Priority::DEFAULT,
            affinity: None,
            explains: false,
            rehearsal: None,
        }
    }
}

/// How long the caller wants to wait, where it says so.
#[derive(Debug, Clone, Copy, Default)]
pub struct Patience {
    pub whole: Option<Duration>,
    pub silence: Option<Duration>,
}

impl Patience {
    /// The deployment's time limits, or the shorter ones of the caller.
    pub fn within(self, limits: Timeouts) -> Timeouts {
        Timeouts {
            whole: self.whole.map_or(limits.whole, |t| t.min(limits.whole)),
            silence: self.silence.or(self.whole).map_or(limits.silence, |t| t.min(limits.silence)),
        }
    }
}
