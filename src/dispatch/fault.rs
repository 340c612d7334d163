//! What an error means for the next step: whether another try can help, and where.

use crate::error::{Error, Kind};
use crate::route::{Because, Class};

/// The sort of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The request is at fault: no deployment of this model would take it.
    Request,
    /// The prompt is too long for the model.
    Window,
    /// The provider does not like the content.
    Policy,
    /// The upstream refused the gateway's own key.
    Access,
    /// The upstream does not know the model.
    Missing,
    /// The upstream has had too many calls.
    RateLimit,
    /// The gateway's account there is used up.
    Quota,
    /// No answer in time.
    Timeout,
    /// The upstream errs, or talks nonsense.
    Server,
    /// The upstream cannot be reached.
    Unreachable,
    /// The deployment cannot be called as it is configured, or does not take what is asked.
    Unfit,
    /// The call ends here, for a reason that has nothing to do with any deployment.
    Final,
}

/// Ways to say that a prompt is too long, in lower case, as providers and local servers say it.
const TOO_LONG: &[&str] = &[
    "maximum context length",
    "context_length_exceeded",
    "prompt is too long",
    "input is too long",
    "exceeds the maximum number of tokens",
    "input token count",
    "too many tokens",
    "context window",
    "exceeds the context",
    "model's maximum context",
    "tokens_limit_reached",
    "request too large for model",
    "reduce the length",
    "exceed context limit",
    "exceeds the available context size",
    "longer than the model's context length",
    "input tokens exceed the configured limit",
    "maximum number of tokens allowed",
];

/// Ways to say that content is not liked.
const NOT_LIKED: &[&str] = &[
    "content_filter",
    "responsibleaipolicyviolation",
    "content_policy_violation",
    "content management policy",
    "moderation_blocked",
    "prohibited_content",
    "flagged",
];

/// Ways to say that there is no money left.
const USED_UP: &[&str] =
    &["insufficient_quota", "billing_hard_limit_reached", "exceeded your current quota", "credit balance is too low"];

impl Fault {
    pub fn of(error: &Error) -> Self {
        match error.kind {
            _ if error.is_final() => Fault::Final,
            Kind::Upstream(status) => {
                let status = status.as_u16();
                let said = || format!("{} {}", error.code().unwrap_or_default(), error).to_lowercase();
                let says = |texts: &[&str]| {
                    let said = said();
                    texts.iter().any(|text| said.contains(text))
                };
                match status {
                    400 | 413 | 422 if says(TOO_LONG) => Fault::Window,
                    400 | 403 | 422 if says(NOT_LIKED) => Fault::Policy,
                    400 | 402 | 403 | 429 if says(USED_UP) => Fault::Quota,
                    402 => Fault::Quota,
                    401 | 403 => Fault::Access,
                    404 => Fault::Missing,
                    408 => Fault::Timeout,
                    429 => Fault::RateLimit,
                    400..=499 => Fault::Request,
                    _ => Fault::Server,
                }
            }
            Kind::Unreachable => Fault::Unreachable,
            Kind::Garbled => Fault::Server,
            Kind::Timeout => Fault::Timeout,
            // A limit of ours on a deployment says nothing of its health; those of the caller end a call before it is tried.
            Kind::RateLimited | Kind::OverBudget(_) => Fault::Unfit,
            Kind::Invalid if error.code() == Some(WINDOW_CODE) => Fault::Window,
            Kind::Invalid | Kind::Unauthorized | Kind::Forbidden | Kind::NotServed => Fault::Unfit,
            Kind::NotFound
            | Kind::MethodNotAllowed
            | Kind::SlowRequest
            | Kind::TooLarge
            | Kind::Stopping
            | Kind::Internal => Fault::Final,
        }
    }

    /// A word for the operator.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Request => "request",
            Fault::Window => "context_window",
            Fault::Policy => "content_policy",
            Fault::Access => "access",
            Fault::Missing => "model_missing",
            Fault::RateLimit => "rate_limit",
            Fault::Quota => "quota",
            Fault::Timeout => "timeout",
            Fault::Server => "server",
            Fault::Unreachable => "unreachable",
            Fault::Unfit => "unfit",
            Fault::Final => "final",
        }
    }

    /// Whether another deployment of the same model may answer.
    pub fn may_go_elsewhere(self) -> bool {
        !matches!(self, Fault::Request | Fault::Window | Fault::Policy | Fault::Final)
    }

    /// Whether the same deployment may answer the next time.
    pub fn may_pass(self) -> bool {
        matches!(self, Fault::RateLimit | Fault::Timeout | Fault::Server | Fault::Unreachable)
    }

    /// Whether another model may answer, where the operator or the caller names one.
    pub fn may_fall_back(self) -> bool {
        self != Fault::Final
    }

    /// Whether the caller is better told this than that a rate limit or a deployment of another kind stood in the way.
    pub fn is_telling(self) -> bool {
        !matches!(self, Fault::RateLimit | Fault::Quota | Fault::Unfit)
    }

    /// By which of LiteLLM's names settings know it.
    pub fn class(self) -> Class {
        match self {
            Fault::Request | Fault::Window | Fault::Missing | Fault::Unfit | Fault::Final => Class::BadRequest,
            Fault::Policy => Class::ContentPolicy,
            Fault::Access => Class::Authentication,
            Fault::RateLimit | Fault::Quota => Class::RateLimit,
            Fault::Timeout => Class::Timeout,
            Fault::Server | Fault::Unreachable => Class::Server,
        }
    }

    /// Whether it says something about the deployment.
    pub fn is_the_deployments(self) -> bool {
        !matches!(self, Fault::Request | Fault::Window | Fault::Policy | Fault::Unfit | Fault::Final)
    }

    /// Whether the deployment is left alone at once, as LiteLLM does after a 401, 404, 408 or 429.
    pub fn cools_at_once(self) -> bool {
        matches!(self, Fault::Access | Fault::Missing | Fault::RateLimit | Fault::Quota | Fault::Timeout)
    }

    pub fn because(self) -> Because {
        match self {
            Fault::Window => Because::Window,
            Fault::Policy => Because::Policy,
            _ => Because::Other,
        }
    }
}

/// OpenAI's word for a prompt that is too long.
pub const WINDOW_CODE: &str = "context_length_exceeded";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Origin, from_upstream};
    use actix_web::http::StatusCode;

    #[test]
    fn upstream_errors_are_told_apart_by_status_code_and_words() {
        for (status, body, fault) in [
            (
                400,
                r#"{"error":{"message":"This model's maximum context length is 8 tokens","code":null}}"#,
                Fault::Window,
            ),
            (400, r#"{"error":{"message":"too big","code":"context_length_exceeded"}}"#, Fault::Window),
            (400, r#"{"error":"the request exceeds the available context size"}"#, Fault::Window),
            (400, r#"{"error":{"message":"no","code":"content_filter"}}"#, Fault::Policy),
            (400, r#"{"error":{"message":"'n' must be 1"}}"#, Fault::Request),
            (422, r#"{"detail":"no"}"#, Fault::Request),
            (401, "", Fault::Access),
            (404, r#"{"error":"model not found"}"#, Fault::Missing),
            (429, r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#, Fault::RateLimit),
            (
                429,
                r#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}"#,
                Fault::Quota,
            ),
            (402, "", Fault::Quota),
            (500, r#"{"error":{"message":"context window"}}"#, Fault::Server),
            (529, "", Fault::Server),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = from_upstream(&Origin::default(), status, body.as_bytes());
            assert_eq!(Fault::of(&error), fault, "{status} {body}");
        }
    }

    #[test]
    fn nothing_is_repeated_that_cannot_succeed() {
        for fault in
            [Fault::Request, Fault::Window, Fault::Policy, Fault::Access, Fault::Missing, Fault::Quota, Fault::Final]
        {
            assert!(!fault.may_pass(), "{fault:?}");
        }
    }
}
