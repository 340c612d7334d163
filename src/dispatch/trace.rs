//! What was done for a call, step by step, for whoever asks why.

use super::Fault;
use crate::envelope::shorten;
use crate::error::Error;
use crate::route::{Deployment, Out};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The steps of a call. Empty where the first deployment answered and nobody asked.
#[derive(Debug, Default)]
pub struct Trace {
    /// Every choice is recorded, not only what failed.
    pub is_full: bool,
    steps: Vec<Value>,
}

/// More steps say nothing new.
const MOST_STEPS: usize = 64;

impl Trace {
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    fn push(&mut self, step: Value) {
        if self.steps.len() < MOST_STEPS {
            self.steps.push(step);
        }
    }

    /// A choice among the deployments of a model.
    pub fn choice(&mut self, model: &str, candidates: &[(Arc<Deployment>, Option<Out>)]) {
        let shown: Vec<Value> = candidates
            .iter()
            .map(|(d, out)| json!({"id": d.id, "deployment": name(d), "dropped": out.map(Out::reason)}))
            .collect();
        self.push(json!({"step": "choice", "model": model, "candidates": shown}));
    }

    /// An attempt that failed.
    pub fn failed(&mut self, deployment: &Deployment, took: Duration, error: &Error) {
        self.push(json!({
            "step": "attempt",
            "id": deployment.id,
            "deployment": name(deployment),
            "duration_ms": millis(took),
            "outcome": Fault::of(error).name(),
            "status": error.status().as_u16(),
            "error": shorten(&error.to_string()),
        }));
    }

    /// The attempt that succeeded, where there is something to tell.
    pub fn answered(&mut self, deployment: &Deployment, took: Duration) {
        if self.is_full || !self.is_empty() {
            self.push(json!({
                "step": "attempt",
                "id": deployment.id,
                "deployment": name(deployment),
                "duration_ms": millis(took),
                "outcome": "answered",
            }));
        }
    }

    /// A deployment that was chosen and did not take the call.
    pub fn refused(&mut self, deployment: &Deployment, out: Out) {
        if self.is_full {
            self.push(
                json!({"step": "refused", "id": deployment.id, "deployment": name(deployment), "limit": out.reason()}),
            );
        }
    }

    pub fn waited(&mut self, why: &str, took: Duration) {
        self.push(json!({"step": "wait", "why": why, "duration_ms": millis(took)}));
    }

    /// Another model is gone over to, or passed over.
    pub fn fallback(&mut self, from: &str, to: &str, because: &str) {
        self.push(json!({"step": "fallback", "from": from, "to": to, "because": because}));
    }

    pub fn steps(&self) -> &[Value] {
        &self.steps
    }
}

fn name(deployment: &Deployment) -> String {
    format!("{}/{}", deployment.provider.name, deployment.model)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
