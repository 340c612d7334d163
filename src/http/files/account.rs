//! Whose account with a provider is asked, and the asking.

use super::{Asker, Item, text};
use crate::auth::access;
use crate::dispatch::stopping;
use crate::envelope::Envelope;
use crate::error::{Error, Kind, Result, from_upstream};
use crate::gateway::Live;
use crate::http::files::shelf::query;
use crate::provider::credential::Signing;
use crate::provider::{Language, Path};
use crate::route::Deployment;
use crate::upstream::gather;
use actix_web::HttpRequest;
use actix_web::body::BoxBody;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// RFC 3986's unreserved characters go as they are.
pub const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// An upload may be read by its provider before it answers.
const PATIENCE: Duration = Duration::from_secs(600);
/// Of models, the first one counts.
const MODELS: &str = "target_model_names";

/// What a request says of where it goes. It names what is configured, never an address.
#[derive(Debug, Default)]
pub struct Wanted {
    model: Option<String>,
    provider: Option<String>,
}

impl Wanted {
    /// By the body, headers or query of a request, in LiteLLM's words.
    ///
    /// # Errors
    /// One of them is no text.
    pub fn of(request: &HttpRequest, envelope: Option<&Envelope>) -> Result<Self> {
        let told = |name: &str| envelope.map_or(Ok(None), |envelope| text(envelope, name));
        let header = |name: &str| request.headers().get(name)?.to_str().ok().map(str::to_owned);
        let models = match told(MODELS)? {
            Some(models) => Some(models),
            None => query(request, MODELS),
        };
        let first = models.and_then(|all| all.split(',').map(str::trim).find(|m| !m.is_empty()).map(str::to_owned));
        let model = match told("model")? {
            Some(model) => Some(model),
            None => header("x-litellm-model").or_else(|| query(request, "model")),
        };
        let provider = match told("custom_llm_provider")? {
            Some(provider) => Some(provider),
            None => header("custom-llm-provider")
                .or_else(|| query(request, "custom_llm_provider"))
                .or_else(|| query(request, "provider")),
        };
        Ok(Wanted { model: first.or(model), provider })
    }
}

/// A deployment whose account is asked.
pub struct Account {
    pub deployment: Arc<Deployment>,
}

impl Account {
    /// The one that the request wants; else OpenAI's, else the first that speaks OpenAI's format.
    ///
    /// # Errors
    /// There is none that the caller may use, or it has no files.
    pub fn choose(asker: &Asker, wanted: &Wanted) -> Result<Self> {
        let (live, caller) = (&asker.live, &asker.caller);
        if let Some(model) = &wanted.model {
            let name = access::model(live, caller, model)?;
            return Account::with_files(live.routes.target(&name)?.deployment);
        }
        let mut may_use = live.routes.deployments.iter().filter(|d| access::may_call(live, caller, &d.name));
        let found = match &wanted.provider {
            Some(provider) => {
                let name = crate::provider::compatible::find(provider).map_or(provider.as_str(), |known| known.name);
                let found = may_use.find(|d| d.provider.name == name);
                found.ok_or_else(|| {
                    let shown = crate::envelope::shorten(provider);
                    let message = format!("No model of the provider '{shown}' is configured that your key may use.");
                    Error::invalid(message).at_param("custom_llm_provider")
                })?
            }
            None => {
                let all: Vec<_> = may_use.filter(|d| d.unserved.is_none() && has_files(d)).collect();
                let first = all.iter().find(|d| d.provider.name == "openai").or(all.first());
                *first.ok_or_else(|| {
                    Error::invalid("No model that your key may use has a provider with files in OpenAI's format.")
                })?
            }
        };
        match &found.unserved {
            Some(why) => Err(why.clone()),
            None => Account::with_files(found.clone()),
        }
    }

    fn with_files(deployment: Arc<Deployment>) -> Result<Self> {
        match has_files(&deployment) {
            true => Ok(Account { deployment }),
            false => {
                let name = deployment.provider.name;
                let message = format!(
                    "Files and batches of the provider '{name}' are not in OpenAI's format, and not translated; its own API is at /{name}/."
                );
                Err(Error::new(Kind::NotServed, message))
            }
        }
    }

    /// Where an item lies.
    ///
    /// # Errors
    /// It is not configured any more.
    pub fn of_item(live: &Live, item: &Item) -> Result<Self> {
        let found = live.routes.deployments.iter().find(|d| d.id == item.deployment);
        let deployment = found.cloned().ok_or_else(|| {
            Error::new(Kind::NotFound, "The account with the provider in which this lies is not configured any more.")
        })?;
        match &deployment.unserved {
            Some(why) => Err(why.clone()),
            None => Ok(Account { deployment }),
        }
    }

    /// The URL and the headers of a request at this path.
    ///
    /// # Errors
    /// Its credential cannot be got.
    pub async fn request(
        &self,
        asker: &Asker,
        method: &Method,
        path: &str,
        mut headers: HeaderMap,
    ) -> Result<(Uri, HeaderMap)> {
        let deployment = &*self.deployment;
        let dialect = deployment.provider.dialect(&deployment.model);
        let url = deployment.place.beside(dialect, path);
        let url: Uri = url.parse().map_err(|_| Error::invalid("This id cannot stand in a path.").at_param("id"))?;
        let agent = HeaderValue::from_static(concat!("gateway/", env!("CARGO_PKG_VERSION")));
        headers.insert(header::USER_AGENT, agent);
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in dialect.headers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        for (name, value) in &deployment.headers {
            headers.insert(name.clone(), value.clone());
        }
        let auth = deployment.place.auth.unwrap_or(dialect.auth);
        let signing = Signing { method: method.as_str(), path: url.path(), ..Signing::default() };
        asker.worker.upstream.show_first(deployment, auth, &signing, &mut headers).await?;
        Ok((url, headers))
    }

    /// Asks, and reads the object that is answered.
    ///
    /// # Errors
    /// The provider's own refusal, or why it was not asked.
    pub async fn ask(
        &self,
        asker: &Asker,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: BoxBody,
    ) -> Result<Value> {
        let deployment = &*self.deployment;
        let (url, mut headers) = self.request(asker, &method, path, headers).await?;
        if let Some(host) = url.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
            headers.insert(header::HOST, host);
        }
        let asked = async {
            let response = asker.worker.upstream.raw(&deployment.transport, method, url, headers, body).await?;
            let status = response.status();
            let body = gather(response, asker.live.config.server.answer_limit, deployment).await?;
            Ok::<_, Error>((status, body))
        };
        let (status, body) = tokio::select! {
            biased;
            asked = asked => asked?,
            ring = asker.worker.clock.after(PATIENCE) => return Err(match ring {
                crate::clock::Ring::Late => Error::new(
                    Kind::Timeout,
                    format!("'{}' did not answer within {PATIENCE:?}.", deployment.provider.name),
                ),
                crate::clock::Ring::Ending => stopping(),
            }),
        };
        if !status.is_success() {
            return Err(from_upstream(&deployment.origin, status, &body));
        }
        let object = serde_json::from_slice::<Value>(&body).ok().filter(Value::is_object);
        object.ok_or_else(|| {
            let message = format!("'{}' answered with something else than was asked for.", deployment.provider.name);
            Error::new(Kind::Garbled, message)
        })
    }
}

/// Whether the deployment's provider keeps files in OpenAI's way.
fn has_files(deployment: &Deployment) -> bool {
    let dialect = deployment.provider.dialect(&deployment.model);
    let path = deployment.place.path(dialect);
    dialect.language == Language::OpenAi && (path == Path::OWN || path == Path::AzureDeployment)
}
