//! What an error means for the next step: whether another try can help, and where.

use crate::error::{Error, Kind};

/// The sort of a failure, as settings and decisions know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The request is at fault: no deployment of this kind would take it.
    Request,
    /// The upstream refused the gateway's own key, or does not know the model.
    Access,
    /// The upstream has had too many calls.
    RateLimit,
    /// No answer in time.
    Timeout,
    /// The upstream cannot be reached, errs, or talks nonsense.
    Server,
    /// The deployment cannot be called as it is configured, or does not take what is asked.
    Unfit,
    /// The call ends here, for a reason that has nothing to do with any deployment.
    Final,
}

impl Fault {
    pub fn of(error: &Error) -> Self {
        match error.kind {
            Kind::Upstream(status) => match status.as_u16() {
                401 | 403 | 404 => Fault::Access,
                408 => Fault::Timeout,
                429 => Fault::RateLimit,
                400..=499 => Fault::Request,
                _ => Fault::Server,
            },
            Kind::Unreachable | Kind::Garbled => Fault::Server,
            Kind::Timeout => Fault::Timeout,
            // A limit of a deployment; those of the caller end a call before it is tried.
            Kind::RateLimited => Fault::RateLimit,
            Kind::OverBudget(_) | Kind::Invalid | Kind::Unauthorized | Kind::Forbidden | Kind::NotServed => {
                Fault::Unfit
            }
            Kind::NotFound
            | Kind::MethodNotAllowed
            | Kind::SlowRequest
            | Kind::TooLarge
            | Kind::Stopping
            | Kind::Internal => Fault::Final,
        }
    }

    /// Whether another deployment of the same model may answer.
    pub fn may_go_elsewhere(self) -> bool {
        match self {
            Fault::Access | Fault::RateLimit | Fault::Timeout | Fault::Server | Fault::Unfit => true,
            Fault::Request | Fault::Final => false,
        }
    }

    /// Whether the caller is better told this than that a rate limit or a deployment of another kind stood in the way.
    pub fn is_telling(self) -> bool {
        !matches!(self, Fault::RateLimit | Fault::Unfit)
    }
}
