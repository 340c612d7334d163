//! What a request says about its way: retries, fallbacks, tags, priority, what it belongs to.
//!
//! Names of headers and members are LiteLLM's. None of it may lead where the caller's key may not go.

use super::call::wrong_type;
use super::explain::EXPLAIN;
use crate::auth::Caller;
use crate::call::Wishes;
use crate::envelope::{Envelope, Member};
use crate::error::{Error, Result};
use crate::gateway::Live;
use crate::meter::Meter;
use crate::mock::{Failure, Mock, Outcome, Rehearsal};
use crate::route::{Fallback, Priority};
use crate::wire::json::Kind;
use actix_web::http::header::{HeaderMap, HeaderName};
use serde_json::Value;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

static RETRIES: HeaderName = HeaderName::from_static("x-litellm-num-retries");
static PRIORITY: HeaderName = HeaderName::from_static("x-gateway-priority");

const MOST_RETRIES: f64 = 20.0;
const MOST_FALLBACKS: usize = 32;
/// LiteLLM's names for what a request may have made up.
const MOCKS: [&[u8]; 8] = [
    b"mock_response",
    b"mock_tool_calls",
    b"mock_timeout",
    b"mock_delay",
    b"mock_testing_fallbacks",
    b"mock_testing_context_fallbacks",
    b"mock_testing_content_policy_fallbacks",
    b"mock_testing_rate_limit_error",
];
const LONGEST_MOCK: usize = 64 << 10;
/// How much of a prompt tells one that was cached from another.
const PREFIX: usize = 4096;

/// # Errors
/// A 400 that names what is not as it should be.
pub fn of(live: &Live, caller: &Caller, envelope: &Envelope, headers: &HeaderMap, meter: &mut Meter) -> Result<Wishes> {
    let settings = &live.routes.settings;
    let header = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let explains = header(&EXPLAIN).is_some_and(|value| matches!(value, "1" | "true"));
    meter.trace.is_full = explains;
    let affinity = &settings.affinity;
    Ok(Wishes {
        retries: retries(envelope, header(&RETRIES))?,
        fallbacks: fallbacks(envelope)?,
        no_fallbacks: envelope.flag("disable_fallbacks"),
        tags: if settings.tags.is_some() { super::entry::tags(headers, envelope, caller) } else { Vec::new() },
        region: match settings.pre_call_checks {
            true => envelope.string("allowed_model_region").map(|region| region.into_owned()),
            false => None,
        },
        priority: match settings.queue {
            Some(_) => priority(caller, envelope, header(&PRIORITY))?,
            None => Priority::DEFAULT,
        },
        affinity: if affinity.is_off() { None } else { key(live, caller, envelope, headers) },
        explains,
        rehearsal: rehearsal(settings.mock_requests, envelope)?.map(Box::new),
    })
}

/// What the request wants to have made up. Where the operator does not let it, it is told so: an answer of the model
/// would pass for one that was tried out.
fn rehearsal(is_allowed: bool, envelope: &Envelope) -> Result<Option<Rehearsal>> {
    let asks = |member: &&Member| {
        let says_nothing = matches!(envelope.text(&member.value), b"null" | b"false");
        MOCKS.contains(&envelope.name(member)) && !says_nothing
    };
    let Some(asked) = envelope.members().iter().find(asks) else { return Ok(None) };
    if !is_allowed {
        let name = String::from_utf8_lossy(envelope.name(asked));
        let message = format!(
            "'{name}' asks for something made up, which this gateway does not let requests do. Its operator can allow it with routing.mock_requests (general_settings.dangerously_allow_mock_testing_request_params)."
        );
        return Err(Error::invalid(message).at_param(name.into_owned()));
    }
    let fails = [
        ("mock_testing_fallbacks", Failure::Server),
        ("mock_testing_context_fallbacks", Failure::Window),
        ("mock_testing_content_policy_fallbacks", Failure::Policy),
    ];
    let fails = fails.into_iter().find(|(name, _)| envelope.flag(name)).map(|(_, failure)| failure);
    let first = envelope.flag("mock_testing_rate_limit_error").then_some(Failure::RateLimit);
    Ok(Some(Rehearsal { mock: mock(envelope)?.map(Arc::new), fails, first }))
}

fn mock(envelope: &Envelope) -> Result<Option<Mock>> {
    for name in ["mock_response", "mock_tool_calls"] {
        if envelope.get(name).is_some_and(|member| member.value.span.len() > LONGEST_MOCK) {
            return Err(Error::invalid(format!("'{name}' is longer than {LONGEST_MOCK} bytes.")).at_param(name));
        }
    }
    let tool_calls = match envelope.get("mock_tool_calls") {
        None => Vec::new(),
        Some(member) => {
            let calls: Option<Vec<Value>> = serde_json::from_slice(envelope.text(&member.value)).ok();
            let calls = calls.filter(|calls| calls.iter().all(Value::is_object));
            calls.ok_or_else(|| wrong_type("mock_tool_calls", "a list of tool calls"))?
        }
    };
    let text = match envelope.get("mock_response") {
        None => None,
        Some(_) => Some(envelope.string("mock_response").ok_or_else(|| wrong_type("mock_response", "a text"))?),
    };
    let outcome = match (envelope.flag("mock_timeout"), text) {
        (true, _) => Outcome::Silence,
        (false, Some(text)) => Outcome::written(&text, tool_calls),
        (false, None) if !tool_calls.is_empty() => Outcome::written("", tool_calls),
        (false, None) => return Ok(None),
    };
    let delay = match envelope.get("mock_delay") {
        None => Duration::ZERO,
        Some(_) => {
            let seconds =
                envelope.number("mock_delay").ok_or_else(|| wrong_type("mock_delay", "a number of seconds"))?;
            Duration::try_from_secs_f64(seconds).map_err(|_| wrong_type("mock_delay", "a number of seconds"))?
        }
    };
    Ok(Some(Mock { outcome, delay }))
}

fn retries(envelope: &Envelope, header: Option<&str>) -> Result<Option<u32>> {
    let number = match header {
        Some(text) => Some(text.parse::<f64>().map_err(|_| {
            let message = "The header 'x-litellm-num-retries' must be a whole number.";
            Error::invalid(message).at_param("x-litellm-num-retries")
        })?),
        None => match envelope.get("num_retries") {
            None => None,
            Some(_) => Some(envelope.number("num_retries").ok_or_else(|| wrong_type("num_retries", "a number"))?),
        },
    };
    match number {
        None => Ok(None),
        Some(number) if number >= 0.0 && number.fract() == 0.0 => Ok(Some(number.min(MOST_RETRIES) as u32)),
        Some(_) => Err(Error::invalid("'num_retries' must be a whole number from 0 on.").at_param("num_retries")),
    }
}

fn fallbacks(envelope: &Envelope) -> Result<Option<Vec<Fallback>>> {
    let Some(member) = envelope.get("fallbacks") else { return Ok(None) };
    let expected = || wrong_type("fallbacks", "a list of names of models, or of objects with 'model'");
    if member.value.kind != Kind::Array {
        return Err(expected());
    }
    let list: Vec<Value> = serde_json::from_slice(envelope.text(&member.value)).map_err(|_| expected())?;
    if list.len() > MOST_FALLBACKS {
        return Err(
            Error::invalid(format!("'fallbacks' holds more than {MOST_FALLBACKS} entries.")).at_param("fallbacks")
        );
    }
    let read = |(place, value): (usize, &Value)| {
        let fallback = Fallback::read(value).ok_or_else(expected)?;
        // Its members become members of the request, which no caller may set there either.
        for name in fallback.set.keys() {
            super::call::check_owner(name.as_bytes()).map_err(|e| e.at_param(format!("fallbacks[{place}].{name}")))?;
        }
        Ok(fallback)
    };
    list.iter().enumerate().map(read).collect::<Result<_>>().map(Some)
}

/// The key's class is the most that it may ask for; a request may ask for less.
fn priority(caller: &Caller, envelope: &Envelope, header: Option<&str>) -> Result<Priority> {
    let unknown = |name: &str| {
        let message = format!("'{name}' must be interactive, default, batch, or a whole number from 0 on.");
        Error::invalid(message).at_param(name)
    };
    let asked = match (header, envelope.get("priority")) {
        (Some(text), _) => Some(Priority::named(text).ok_or_else(|| unknown("x-gateway-priority"))?),
        (None, Some(member)) => {
            let text = String::from_utf8_lossy(envelope.text(&member.value));
            Some(Priority::named(text.trim_matches('"')).ok_or_else(|| unknown("priority"))?)
        }
        (None, None) => None,
    };
    let of_key = caller.holder().and_then(|holder| {
        let value = holder.key.metadata.get("priority")?;
        Priority::named(value.as_str().map_or_else(|| value.to_string(), str::to_owned).as_str())
    });
    Ok(match (of_key, asked) {
        (Some(most), Some(asked)) => most.max(asked),
        (Some(own), None) => own,
        (None, Some(asked)) => asked,
        (None, None) => Priority::DEFAULT,
    })
}

/// What calls that belong together have in common: the session, the beginning of a prompt that is to be cached, or the
/// key; the first of those that are asked for and there.
fn key(live: &Live, caller: &Caller, envelope: &Envelope, headers: &HeaderMap) -> Option<u64> {
    let affinity = live.routes.settings.affinity;
    let hash = |sort: u8, bytes: &[u8]| {
        let mut hasher = DefaultHasher::new();
        (sort, bytes).hash(&mut hasher);
        hasher.finish()
    };
    let of_session = || super::entry::session(headers, envelope).map(|session| hash(1, session.as_bytes()));
    let of_prompt = || {
        let prompt = ["system", "messages", "input"].iter().find_map(|name| envelope.get(name))?;
        let text = envelope.text(&prompt.value);
        memchr::memmem::find(envelope.bytes(), b"\"cache_control\"")?;
        Some(hash(2, &text[..text.len().min(PREFIX)]))
    };
    let of_caller = || caller.holder().map(|holder| hash(3, holder.key.id.as_bytes()));
    let session = affinity.session.then(of_session).flatten();
    let prompt = || affinity.prompt.then(of_prompt).flatten();
    session.or_else(prompt).or_else(|| affinity.caller.then(of_caller).flatten())
}
