//! A provider's own API under its name: `/anthropic/...`, `/openai/...`, as LiteLLM's pass-through endpoints.
//!
//! The key of the gateway opens it, and the provider is shown the operator's. Keys of the store may ask for what names
//! a model that they may use; the rest of an account (its files, jobs and settings, whoever made them) is for
//! administrators, unless the operator opens it to all.

use super::{Booking, CALL_TYPE, Onward, Terms, Watch, headers, leads_out, send, streamed};
use crate::auth::{self, Caller, access};
use crate::config::Doors;
use crate::config::pass::below;
use crate::envelope::Envelope;
use crate::error::{Error, Kind, Result};
use crate::exchange::{Face, Plain};
use crate::gateway::{Live, Worker};
use crate::http::body::{self, Chunks};
use crate::provider::credential::Signing;
use crate::provider::{Auth, Cloud, Language, Provider, compatible};
use crate::route::{Deployment, Target};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::http::Method;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use uuid::Uuid;

/// LiteLLM's names for providers that have another one here.
const NAMES: &[(&str, &str)] = &[
    ("openai_passthrough", "openai"),
    ("vertex-ai", "vertex_ai"),
    ("vllm", "hosted_vllm"),
    ("eu.assemblyai", "assemblyai"),
];

/// APIs beside the one that models are asked by: where they are, and how a key is shown to them.
const ELSEWHERE: &[(&str, &str, Auth)] = &[
    ("assemblyai", "https://api.assemblyai.com", Auth::Header("authorization")),
    ("eu.assemblyai", "https://api.eu.assemblyai.com", Auth::Header("authorization")),
];

/// Members of a query that may hold a key of the gateway.
const KEYS: &[&str] = &["key", "api_key", "api-key"];

/// A path that leads to a provider.
pub struct Door<'a> {
    name: &'a str,
    /// What lies behind the name, with a slash at its beginning.
    rest: &'a str,
    provider: &'static Provider,
}

/// The door of a path. None for a name that no provider has, or where none is opened by its name.
pub fn find<'a>(live: &Live, path: &'a str) -> Option<Door<'a>> {
    if live.config.server.doors == Doors::Shut {
        return None;
    }
    let (name, _) = path.strip_prefix('/')?.split_once('/')?;
    let known = NAMES.iter().find(|(other, _)| *other == name).map_or(name, |(_, known)| known);
    Some(Door { name, rest: &path[name.len() + 1..], provider: compatible::find(known)? })
}

impl Door<'_> {
    pub fn language(&self) -> Language {
        self.provider.quirks.language
    }

    pub async fn pass(
        &self,
        request: &HttpRequest,
        payload: Payload,
        worker: &Rc<Worker>,
        live: &Live,
        id: Uuid,
    ) -> Result<HttpResponse> {
        let caller = auth::caller(&worker.gateway, live, request).await?;
        let limit = live.config.server.body_limit;
        let method = request.method();
        // What may name a model is read; anything else goes through as it comes.
        let is_json = method == Method::POST && is_json(request);
        let is_signed = self.provider.quirks.cloud == Some(Cloud::Aws);
        let (whole, mut payload) = match is_json || is_signed {
            true => {
                let read = body::read(request, payload, limit, &worker.clock);
                (Some(Box::pin(read).await?), None)
            }
            false => (None, Some(payload)),
        };
        let envelope = match &whole {
            Some(bytes) if is_json && !bytes.is_empty() => {
                Some(Envelope::parse(bytes.clone(), live.config.server.max_nesting)?)
            }
            _ => None,
        };
        let model = self.model(method, envelope.as_ref());
        self.admit(live, &caller, model.as_deref())?;
        let deployment = self.deployment(live, model.as_deref())?;
        let (base, auth) = self.place(&deployment);
        let authority = authority(&base);
        let query = query(request.uri().query().unwrap_or_default());
        let url = below(&base, authority, self.rest, Some(&*query).filter(|query| !query.is_empty()));
        let url = url.ok_or_else(leads_out)?;

        let mut headers = headers(request.headers(), live);
        let upstream_model = model.as_deref().unwrap_or_default();
        let dialect = deployment.provider.dialect(upstream_model);
        for (name, value) in dialect.headers {
            if !headers.contains_key(*name) {
                headers.insert(actix_web::http::header::HeaderName::from_static(name), HeaderValue::from_static(value));
            }
        }
        for (name, value) in &deployment.headers {
            headers.insert(name.clone(), value.clone());
        }
        if is_signed {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let signing = Signing {
            method: method.as_str(),
            host: authority,
            path: url.path(),
            query: &query,
            content_type: "application/json",
            body: whole.as_deref().unwrap_or_default(),
        };
        let auth = auth.or(deployment.place.auth).unwrap_or(dialect.auth);
        worker.upstream.show(&deployment, auth, &signing, &mut headers).await?;

        let target = Target::named(deployment.clone(), upstream_model.to_owned());
        let name = match &model {
            Some(model) => format!("{}/{model}", self.provider.name),
            None => format!("/{}", self.name),
        };
        let endpoint = format!("/{}{}", self.name, crate::envelope::shorten(self.rest));
        let face = self.face();
        let terms = Terms {
            endpoint: &endpoint,
            call_type: CALL_TYPE,
            provider: self.provider.name,
            api_base: &base,
            model: &name,
            upstream_model: model.as_deref(),
            deployment: Some(&deployment).map(|deployment| &**deployment),
            cost_nanos: 0,
            tariff: target.tariff(),
            body: model.as_ref().and(envelope.as_ref()).map(|envelope| (face, envelope)),
            streams: envelope.as_ref().is_some_and(|envelope| envelope.flag("stream")) || self.rest.contains("tream"),
            spends: model.is_some(),
            is_owed: false,
            routed: None,
        };
        let booking = Booking::open(request, worker, live, &caller, terms, id).await?;
        let (body, fault) = match (whole, payload.take()) {
            (Some(bytes), _) => (sized(bytes), Default::default()),
            (None, Some(payload)) => streamed(request.headers(), Chunks::new(request, payload, limit, &worker.clock)?),
            (None, None) => (BoxBody::new(()), Default::default()),
        };
        let onward =
            Onward { transport: &deployment.transport, authority, method: method.clone(), url, headers, body, fault };
        send(worker, onward, booking, Some(Watch::of)).await
    }

    /// The model that is asked: by the path where the provider names it there, else by the body.
    fn model(&self, method: &Method, envelope: Option<&Envelope>) -> Option<String> {
        if method != Method::POST {
            return None;
        }
        let behind = |mark: &str| {
            let (_, rest) = self.rest.split_once(mark)?;
            let part = rest.split(['/', '?']).next()?;
            let part = percent_decode_str(part).decode_utf8().ok()?;
            // `model:generateContent`, but `model-v1:0` of Bedrock.
            let model = if mark == "/models/" { part.split(':').next()? } else { &*part };
            (!model.is_empty()).then(|| model.to_owned())
        };
        let in_path = match self.provider.quirks.cloud {
            Some(Cloud::Aws) => return behind("/model/"),
            Some(Cloud::Azure | Cloud::AzureAi) => behind("/deployments/"),
            Some(Cloud::Google) => behind("/models/"),
            _ if self.language() == Language::Gemini => behind("/models/").or_else(|| behind("/tunedModels/")),
            _ => None,
        };
        in_path.or_else(|| {
            let model = envelope?.string("model")?;
            (!model.is_empty() && model.len() <= 256).then(|| model.into_owned())
        })
    }

    /// # Errors
    /// 403 where the caller may not ask for this.
    fn admit(&self, live: &Live, caller: &Caller, model: Option<&str>) -> Result<()> {
        let is_admin =
            caller.holder().is_none() || caller.user().is_some_and(|user| user.role.as_deref() == Some("proxy_admin"));
        match model {
            Some(model) => access::upstream(live, caller, self.provider.name, model),
            None if is_admin || live.config.server.doors == Doors::Open => Ok(()),
            None => Err(Error::new(
                Kind::Forbidden,
                format!(
                    "This request of /{} names no model: it is about the account of the provider, and takes the master key or an administrator's (server.provider_pass_through = \"all\" lets every key ask).",
                    self.name
                ),
            )
            .with_type("auth_error")),
        }
    }

    /// Whose account is asked: that of a deployment of this model, of the provider's own address, of any; else what the
    /// environment says of the provider.
    fn deployment(&self, live: &Live, model: Option<&str>) -> Result<Arc<Deployment>> {
        let of_provider = || {
            let all = live.routes.deployments.iter().chain(&live.config.doors);
            all.filter(|d| d.provider.name == self.provider.name)
        };
        let served = || of_provider().filter(|d| d.unserved.is_none());
        let of_model = served().find(|d| model.is_some_and(|model| d.model == model));
        let at_home = || served().find(|d| self.provider.base_url.is_some_and(|home| home == d.place.base));
        if let Some(deployment) = of_model.or_else(at_home).or_else(|| served().next()) {
            return Ok(deployment.clone());
        }
        Err(of_provider().find_map(|d| d.unserved.clone()).unwrap_or_else(|| {
            let cure = match self.provider.key_env.first() {
                Some(name) => format!("set {name}, or configure a model of '{}'", self.provider.name),
                None => format!("configure a model of '{}'", self.provider.name),
            };
            Error::new(Kind::NotFound, format!("The gateway has no account with '{}': {cure}.", self.provider.name))
        }))
    }

    /// Where the API begins, and how a key is shown to it where that differs.
    fn place(&self, deployment: &Deployment) -> (String, Option<Auth>) {
        if let Some((_, base, auth)) = ELSEWHERE.iter().find(|(name, ..)| *name == self.name) {
            return ((*base).to_owned(), Some(*auth));
        }
        let base = &deployment.place.base;
        if self.provider.quirks.cloud.is_some() {
            return (origin(base).to_owned(), None);
        }
        // Whoever writes the version is not given another one.
        let first = self.rest.split('/').nth(1).unwrap_or_default();
        let base = match base.rsplit_once('/') {
            Some((before, last)) if is_version(last) && is_version(first) => before,
            _ => base,
        };
        (base.to_owned(), None)
    }

    /// The format by which the cost of a call is bounded.
    fn face(&self) -> Face {
        let ends = |end: &str| self.rest.ends_with(end);
        match self.language() {
            Language::Anthropic => Face::Messages,
            Language::Gemini => Face::Gemini,
            _ if ends("/responses") => Face::Responses,
            _ if ends("/embeddings") || ends("/embed") => Face::Plain(Plain::Embeddings),
            _ if ends("/rerank") => Face::Plain(Plain::Rerank),
            _ if self.rest.contains("/images/") => Face::Plain(Plain::Images),
            _ if ends("/audio/speech") => Face::Plain(Plain::Speech),
            _ => Face::Chat,
        }
    }
}

fn is_json(request: &HttpRequest) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).map_or(&b"application/json"[..], |kind| kind.as_bytes());
    kind.to_ascii_lowercase().starts_with(b"application/json")
}

/// A version as paths have it: `v1`, `v1beta`.
fn is_version(segment: &str) -> bool {
    let mut bytes = segment.bytes();
    bytes.next() == Some(b'v')
        && bytes.next().is_some_and(|b| b.is_ascii_digit())
        && bytes.all(|b| b.is_ascii_alphanumeric())
}

/// A URL without its path.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    url[start..].find('/').map_or(url, |at| &url[..start + at])
}

fn authority(url: &str) -> &str {
    let origin = origin(url);
    origin.split_once("://").map_or(origin, |(_, authority)| authority)
}

/// The query without what may be a key of the gateway.
fn query(query: &str) -> Cow<'_, str> {
    let is_key = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        let name = percent_decode_str(name).decode_utf8_lossy();
        KEYS.iter().any(|key| name.eq_ignore_ascii_case(key))
    };
    match query.split('&').any(|pair| is_key(&pair)) {
        true => query.split('&').filter(|pair| !is_key(pair)).collect::<Vec<_>>().join("&").into(),
        false => query.into(),
    }
}

fn sized(bytes: Bytes) -> BoxBody {
    match bytes.is_empty() {
        true => BoxBody::new(()),
        false => bytes.boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(path: &str, body: &str) -> Option<String> {
        let (name, _) = path[1..].split_once('/').unwrap();
        let known = NAMES.iter().find(|(other, _)| *other == name).map_or(name, |(_, known)| known);
        let door = Door { name, rest: &path[name.len() + 1..], provider: compatible::find(known).unwrap() };
        let envelope = Envelope::parse(Bytes::copy_from_slice(body.as_bytes()), 16).ok();
        door.model(&Method::POST, envelope.as_ref())
    }

    #[test]
    fn the_model_is_found_where_the_provider_has_it() {
        for (path, body, found) in [
            ("/openai/v1/chat/completions", r#"{"model":"gpt-4o"}"#, Some("gpt-4o")),
            // A path that means nothing to the provider does not name the model.
            ("/openai/v1/chat/completions/models/cheap", r#"{"model":"gpt-4o"}"#, Some("gpt-4o")),
            ("/openai/v1/files", "{}", None),
            ("/gemini/v1beta/models/gemini-2.5-pro:generateContent", "{}", Some("gemini-2.5-pro")),
            ("/gemini/v1beta/cachedContents", "{}", None),
            (
                "/vertex-ai/v1/projects/p/locations/l/publishers/google/models/gemini-x:rawPredict",
                "{}",
                Some("gemini-x"),
            ),
            (
                "/vertex_ai/v1/projects/p/locations/l/endpoints/openapi/chat/completions",
                r#"{"model":"meta/x"}"#,
                Some("meta/x"),
            ),
            ("/bedrock/model/us.anthropic.claude-v1%3A0/converse", "{}", Some("us.anthropic.claude-v1:0")),
            ("/bedrock/knowledgebases/x/retrieve", r#"{"model":"m"}"#, None),
            ("/azure/openai/deployments/mine/chat/completions", r#"{"model":"other"}"#, Some("mine")),
        ] {
            assert_eq!(model(path, body).as_deref(), found, "{path}");
        }
    }

    #[test]
    fn no_key_of_the_gateway_goes_on_in_a_query() {
        assert_eq!(query("alt=sse&key=sk-1&a=b"), "alt=sse&a=b");
        assert_eq!(query("K%65y=sk-1"), "");
        assert_eq!(query("keyword=a"), "keyword=a");
    }

    #[test]
    fn versions_and_origins() {
        assert!(is_version("v1") && is_version("v1beta") && is_version("v2"));
        assert!(!is_version("vision") && !is_version("v") && !is_version("openai"));
        assert_eq!(origin("https://a.example:1/v1/x"), "https://a.example:1");
        assert_eq!(authority("https://a.example:1/v1/x"), "a.example:1");
        assert_eq!(authority("https://a.example"), "a.example");
    }
}
