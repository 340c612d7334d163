//! Whether a deployment takes one more call.

use crate::call::Call;
use crate::error::Result;
use crate::route::{Deployment, Target};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A deployment's leave for one attempt. It ends with the attempt or, where that succeeds, with the answer.
#[derive(Debug)]
pub struct Admission {
    deployment: Arc<Deployment>,
}

/// Asks for it, before anything is sent.
///
/// # Errors
/// The deployment takes no call now; another one may.
pub fn admit(_call: &Call, target: &Target) -> Result<Admission> {
    target.deployment.in_flight.fetch_add(1, Ordering::Relaxed);
    Ok(Admission { deployment: target.deployment.clone() })
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.deployment.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
