//! What can go wrong with a call, and how the caller is told.
//!
//! One type; one exhaustive match from it to status, type and code. `Display` is for the caller and never holds a
//! secret. The body is OpenAI's, with LiteLLM's `type` names and the status as a string `code`.

use crate::envelope::shorten;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::fmt;

pub type Result<T> = std::result::Result<T, Error>;

/// A call that ends without an answer.
#[derive(Debug, Clone)]
pub struct Error {
    pub kind: Kind,
    told: Box<Words>,
}

#[derive(Debug, Clone, Default)]
struct Words {
    message: String,
    param: Option<String>,
    /// Instead of the status: the upstream's own.
    code: Option<String>,
    /// Instead of the kind's own type: what an upstream called it.
    type_name: Option<String>,
    /// What Anthropic says more exactly than by the type: `error.details.error_code`, which its clients branch on.
    detail_code: Option<String>,
    /// When another try may succeed, and how much is left: the upstream's headers about that. Which deployment it was.
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The upstream has not got the whole request.
    is_unsent: bool,
    /// It is about the call as a whole, whoever is asked.
    is_final: bool,
}

/// Whose fault, and of what sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request cannot be served as it is.
    Invalid,
    /// No key, or not one of ours.
    Unauthorized,
    /// A key of ours that may not do this.
    Forbidden,
    /// No such route, or nothing of that name.
    NotFound,
    /// The route has other methods.
    MethodNotAllowed,
    /// The caller took too long to send the body.
    SlowRequest,
    /// The body is larger than allowed.
    TooLarge,
    /// A limit of ours does not admit it now.
    RateLimited,
    /// A budget of ours is spent; the status is the operator's choice.
    OverBudget(StatusCode),
    /// The upstream answered with this error status.
    Upstream(StatusCode),
    /// The upstream could not be connected to, or went away before it answered.
    Unreachable,
    /// The upstream did not answer in time.
    Timeout,
    /// The upstream's answer makes no sense.
    Garbled,
    /// The gateway is about to stop.
    Stopping,
    /// The provider or feature is known but not served.
    NotServed,
    /// A mistake of ours.
    Internal,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, told: Box::new(Words { message: message.into(), ..Words::default() }) }
    }

    /// The request cannot be served as it is: a 400.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::new(Kind::Invalid, message)
    }

    /// Names the member at fault.
    pub fn at_param(mut self, param: impl Into<String>) -> Self {
        self.told.param = Some(param.into());
        self
    }

    /// The member at fault.
    pub fn param(&self) -> Option<&str> {
        self.told.param.as_deref()
    }

    /// The type an upstream gave it.
    pub fn with_type(mut self, type_name: impl Into<String>) -> Self {
        self.told.type_name = Some(type_name.into());
        self
    }

    /// Tells the caller when to come back, in the upstream's words, or who was asked.
    pub fn with_headers(mut self, headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        self.told.headers.retain(|(name, _)| !headers.iter().any(|(other, _)| other == name));
        self.told.headers.extend(headers);
        self
    }

    /// OpenAI's word for it, in place of the status.
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.told.code = Some(code.into());
        self
    }

    /// The connection was gone before the request was fully written.
    pub fn unsent(mut self) -> Self {
        self.told.is_unsent = true;
        self
    }

    /// No other deployment or model can change it.
    pub fn ends_the_call(mut self) -> Self {
        self.told.is_final = true;
        self
    }

    pub fn is_final(&self) -> bool {
        self.told.is_final
    }

    pub fn is_unsent(&self) -> bool {
        self.told.is_unsent
    }

    /// The exact cause, where it has a word.
    pub fn code(&self) -> Option<&str> {
        self.told.code.as_deref()
    }

    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.told.headers
    }

    /// Anthropic's `error.details.error_code`.
    pub fn detail_code(&self) -> Option<&str> {
        self.told.detail_code.as_deref()
    }

    pub fn status(&self) -> StatusCode {
        match self.kind {
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Unauthorized => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Kind::SlowRequest => StatusCode::REQUEST_TIMEOUT,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Kind::OverBudget(status) => status,
            // 529 is known to Anthropic's clients only.
            Kind::Upstream(status) if status.as_u16() == 529 => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Upstream(status) => status,
            Kind::Unreachable | Kind::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Kind::Garbled => StatusCode::BAD_GATEWAY,
            Kind::NotServed => StatusCode::NOT_IMPLEMENTED,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The status for a client of Anthropic's API.
    pub fn status_for_anthropic(&self) -> StatusCode {
        match self.kind {
            Kind::Upstream(status) => status,
            _ => self.status(),
        }
    }

    /// Whether the provider's account is empty or at its limit.
    fn is_about_money(&self) -> bool {
        const CODES: &[&str] = &["insufficient_quota", "billing_hard_limit_reached", "payment_required"];
        let words = [&self.told.code, &self.told.type_name];
        self.kind == Kind::Upstream(StatusCode::PAYMENT_REQUIRED)
            || words.into_iter().flatten().any(|word| CODES.contains(&word.as_str()))
    }

    fn type_name(&self) -> &str {
        if let Some(name) = &self.told.type_name {
            return name;
        }
        match self.kind {
            Kind::Invalid | Kind::NotFound | Kind::MethodNotAllowed | Kind::TooLarge | Kind::SlowRequest => {
                "invalid_request_error"
            }
            Kind::Unauthorized | Kind::Forbidden => "auth_error",
            Kind::RateLimited => "rate_limit_error",
            Kind::OverBudget(_) => "budget_exceeded",
            Kind::Upstream(status) => match status.as_u16() {
                401 => "authentication_error",
                403 => "permission_error",
                429 => "rate_limit_error",
                400..=499 => "invalid_request_error",
                _ => "server_error",
            },
            Kind::Unreachable | Kind::Stopping => "service_unavailable",
            Kind::Timeout => "timeout_error",
            Kind::Garbled => "upstream_error",
            Kind::NotServed => "not_implemented",
            Kind::Internal => "internal_server_error",
        }
    }

    /// The OpenAI error body.
    pub fn body(&self) -> serde_json::Value {
        let code = self.told.code.clone().unwrap_or_else(|| self.status().as_u16().to_string());
        json!({"error": {"message": self.told.message, "type": self.type_name(), "param": self.told.param, "code": code}})
    }

    /// The last event of a stream that failed after its status was sent.
    pub fn event(&self) -> bytes::Bytes {
        format!("data: {}\n\n", self.body()).into()
    }

    /// A word for logs.
    pub fn class(&self) -> &'static str {
        match self.kind {
            Kind::Invalid => "invalid",
            Kind::Unauthorized => "unauthorized",
            Kind::Forbidden => "forbidden",
            Kind::NotFound => "not_found",
            Kind::MethodNotAllowed => "method_not_allowed",
            Kind::SlowRequest => "slow_request",
            Kind::TooLarge => "too_large",
            Kind::RateLimited => "rate_limited",
            Kind::OverBudget(_) => "over_budget",
            Kind::Upstream(_) => "upstream",
            Kind::Unreachable => "unreachable",
            Kind::Timeout => "timeout",
            Kind::Garbled => "garbled",
            Kind::Stopping => "stopping",
            Kind::NotServed => "not_served",
            Kind::Internal => "internal",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told.message)
    }
}

impl std::error::Error for Error {}

/// Who an upstream's answer comes from, and what must not come back with it: some upstreams quote the key, or echo
/// the headers that they were sent.
#[derive(Debug, Default)]
pub struct Origin {
    pub provider: &'static str,
    secrets: Vec<SecretString>,
}

impl Origin {
    /// Texts shorter than this are no secrets, and would be found in any sentence.
    const SHORTEST_SECRET: usize = 6;

    pub fn new(provider: &'static str, secrets: impl IntoIterator<Item = SecretString>) -> Self {
        let long = |secret: &SecretString| secret.expose_secret().len() >= Self::SHORTEST_SECRET;
        Origin { provider, secrets: secrets.into_iter().filter(long).collect() }
    }

    fn clean(&self, text: String) -> String {
        self.secrets.iter().fold(text, |text, secret| match text.contains(secret.expose_secret()) {
            true => text.replace(secret.expose_secret(), "[redacted]"),
            false => text,
        })
    }
}

/// The error that an upstream's answer means, whatever shape its body has.
pub fn from_upstream(origin: &Origin, status: StatusCode, body: &[u8]) -> Error {
    let told = Told::read(body);
    let clean = |text| origin.clean(text);
    let mut message =
        clean(told.message.unwrap_or_else(|| status.canonical_reason().unwrap_or("no message").to_owned()));
    if let 401 | 403 = status.as_u16() {
        let provider = origin.provider;
        message =
            format!("The provider '{provider}' refused the gateway's own key for it, not yours; its answer: {message}");
    }
    // Statuses below 400 never come here but for a 200 that holds an error.
    let is_error = status.is_client_error() || status.is_server_error();
    let status = if is_error { status } else { told.status.unwrap_or(StatusCode::BAD_GATEWAY) };
    let mut error = Error::new(Kind::Upstream(status), message);
    error.told.param = told.param.map(clean);
    error.told.code = told.code.map(clean);
    error.told.type_name = told.type_name.map(clean);
    error.told.detail_code = told.detail_code.map(clean);
    if error.is_about_money() {
        // Clients would try again what only a payment changes.
        error.told.headers.push((HeaderName::from_static("x-should-retry"), HeaderValue::from_static("false")));
    }
    error
}

/// What could be made out of an upstream's error body.
#[derive(Default)]
struct Told {
    message: Option<String>,
    type_name: Option<String>,
    param: Option<String>,
    code: Option<String>,
    detail_code: Option<String>,
    status: Option<StatusCode>,
}

impl Told {
    fn read(body: &[u8]) -> Told {
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else {
            return Told { message: plain_text(body), ..Told::default() };
        };
        let value = value.get(0).unwrap_or(&value);
        let error = value.get("error").filter(|e| e.is_object()).unwrap_or(value);
        let text = |name: &str| match error.get(name) {
            Some(serde_json::Value::String(s)) if !s.is_empty() => Some(s.clone()),
            Some(serde_json::Value::Number(n)) => Some(n.to_string()),
            _ => None,
        };
        let message = text("message")
            .or_else(|| value.get("error").and_then(|e| e.as_str()).map(str::to_owned))
            .or_else(|| value.get("message").and_then(|e| e.as_str()).map(str::to_owned))
            .or_else(|| value.get("detail").map(detail))
            .or_else(|| value.get("errors").and_then(|e| e.get(0)?.get("message")?.as_str()).map(str::to_owned))
            .or_else(|| value.get("base_resp").and_then(|e| e.get("status_msg")?.as_str()).map(str::to_owned))
            .or_else(|| plain_text(body));
        let status = error.get("code").and_then(|c| c.as_u64().or_else(|| c.as_str()?.parse().ok()));
        Told {
            message,
            type_name: text("type"),
            param: text("param"),
            code: text("code"),
            detail_code: error.get("details").and_then(|d| d.get("error_code")?.as_str()).map(str::to_owned),
            status: status
                .filter(|c| (400..600).contains(c))
                .and_then(|c| StatusCode::from_u16(u16::try_from(c).ok()?).ok()),
        }
    }
}

/// FastAPI's `detail`: a text, or a list of `{loc, msg}`.
fn detail(value: &serde_json::Value) -> String {
    let Some(list) = value.as_array() else {
        return value.as_str().map_or_else(|| shorten(&value.to_string()), str::to_owned);
    };
    let one = |item: &serde_json::Value| {
        let place: Vec<String> = item["loc"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|p| p.as_str().map_or_else(|| p.to_string(), str::to_owned))
            .collect();
        format!("{}: {}", place.join("."), item["msg"].as_str().unwrap_or("not acceptable"))
    };
    list.iter().take(8).map(one).collect::<Vec<_>>().join("; ")
}

/// The readable text of a body that is not JSON: no markup, at most 500 characters.
fn plain_text(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&body[..body.len().min(16 * 1024)]);
    let mut plain = String::new();
    let mut in_tag = false;
    for c in text.chars() {
        match c {
            '<' => in_tag = true,
            '>' if in_tag => {
                in_tag = false;
                plain.push(' ');
            }
            _ if !in_tag => plain.push(c),
            _ => (),
        }
    }
    let words: Vec<&str> = plain.split_whitespace().collect();
    let line: String = words.join(" ").chars().filter(|c| !c.is_control()).take(500).collect();
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, body: &str) -> serde_json::Value {
        let status = StatusCode::from_u16(status).unwrap();
        from_upstream(&Origin::new("groq", [SecretString::from("sk-secret-key")]), status, body.as_bytes()).body()["error"].clone()
    }

    #[test]
    fn upstream_bodies_of_every_shape_are_read() {
        for (status, body, message, code) in [
            (
                400,
                r#"{"error":{"message":"bad","type":"invalid_request_error","param":"n","code":"invalid_value"}}"#,
                "bad",
                "invalid_value",
            ),
            (404, r#"{"error":"model not found"}"#, "model not found", "404"),
            (500, r#"{"message":"oops"}"#, "oops", "500"),
            (422, r#"{"detail":[{"loc":["body","n"],"msg":"too big"}]}"#, "body.n: too big", "422"),
            (400, r#"[{"error":{"code":400,"message":"Gemini"}}]"#, "Gemini", "400"),
            (502, "<html><head><title>502</title></head><body>Bad  Gateway</body></html>", "502 Bad Gateway", "502"),
            (503, "", "Service Unavailable", "503"),
            (200, r#"{"error":{"message":"no credits","code":402}}"#, "no credits", "402"),
            (200, r#"{"base_resp":{"status_code":1004,"status_msg":"login fail"}}"#, "login fail", "502"),
        ] {
            let error = told(status, body);
            assert_eq!((error["message"].as_str(), error["code"].as_str()), (Some(message), Some(code)), "{body}");
        }
    }

    #[test]
    fn what_only_a_payment_changes_is_not_to_be_tried_again() {
        let retry = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let error = from_upstream(&Origin::default(), status, body.as_bytes());
            error.headers().iter().find(|(name, _)| name == "x-should-retry").map(|(_, value)| value.clone())
        };
        let no = Some(HeaderValue::from_static("false"));
        assert_eq!(retry(429, r#"{"error":{"message":"quota","type":"insufficient_quota"}}"#), no);
        assert_eq!(retry(429, r#"{"error":{"message":"quota","code":"billing_hard_limit_reached"}}"#), no);
        assert_eq!(retry(402, r#"{"error":{"message":"credits","code":402}}"#), no);
        assert_eq!(retry(429, r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#), None);
    }

    #[test]
    fn a_quoted_key_does_not_come_back() {
        let error = told(401, r#"{"error":{"message":"Incorrect key sk-secret-key"}}"#);
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("[redacted]") && !message.contains("sk-secret-key") && message.contains("groq"),
            "{message}"
        );
    }
}
