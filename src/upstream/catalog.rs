//! The models that providers say they have, asked for now and then.

use super::{Upstream, gather};
use crate::error::{Error, Kind, Result};
use crate::provider::catalog;
use crate::provider::credential::Signing;
use crate::route::Deployment;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode, Uri};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A list is good for so long, and so is a failure.
const LIFETIME: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_secs(60);
/// Nobody waits longer for one.
const PATIENCE: Duration = Duration::from_secs(5);
/// More of a list than this is none.
const MAX_LIST: usize = 8 << 20;

/// Lists by the ids of deployments, for the configuration of this generation; with the time until which they are good.
pub type Catalogs = (u64, HashMap<String, (Instant, Option<Rc<[String]>>)>);

impl Upstream {
    /// The models that a deployment's provider says it has; none where it does not say.
    pub async fn catalog(&self, generation: u64, deployment: &Deployment) -> Option<Rc<[String]>> {
        {
            let mut catalogs = self.catalogs.borrow_mut();
            if catalogs.0 != generation {
                *catalogs = (generation, HashMap::new());
            }
            if let Some((until, list)) = catalogs.1.get(&deployment.id)
                && Instant::now() < *until
            {
                return list.clone();
            }
        }
        let late = || Error::new(Kind::Timeout, format!("no answer within {PATIENCE:?}"));
        let asked = tokio::time::timeout(PATIENCE, self.ask_for_models(deployment)).await;
        let (life, list) = match asked.unwrap_or_else(|_| Err(late())) {
            Ok(list) => (LIFETIME, Some(Rc::from(list))),
            Err(error) => {
                tracing::warn!(
                    "'{}' does not list its models ({}): {error}",
                    deployment.provider.name,
                    deployment.name
                );
                (PAUSE, None)
            }
        };
        let mut catalogs = self.catalogs.borrow_mut();
        if catalogs.0 == generation {
            catalogs.1.insert(deployment.id.clone(), (Instant::now() + life, list.clone()));
        }
        list
    }

    async fn ask_for_models(&self, deployment: &Deployment) -> Result<Vec<String>> {
        let dialect = deployment.provider.dialect(&deployment.model);
        let Some(detour) = catalog::place(deployment.provider, dialect.language) else { return Ok(Vec::new()) };
        let url: Uri = deployment.place.url_by(&detour).parse().map_err(|_| {
            Error::new(Kind::Internal, format!("The list of models of '{}' has no address.", deployment.provider.name))
        })?;
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("gateway/", env!("CARGO_PKG_VERSION"))));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in dialect.headers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        for (name, value) in &deployment.headers {
            headers.insert(name.clone(), value.clone());
        }
        let auth = deployment.place.auth.unwrap_or(dialect.auth);
        self.show(deployment, auth, &Signing::default(), &mut headers).await?;
        let response = self.raw(&deployment.transport, Method::GET, url, headers, ()).await?;
        if response.status() != StatusCode::OK {
            let message = format!("it answers with the status {}", response.status().as_u16());
            return Err(Error::new(Kind::Garbled, message));
        }
        let body = gather(response, MAX_LIST, deployment).await?;
        catalog::read(&body).ok_or_else(|| Error::new(Kind::Garbled, "its answer is no list of models"))
    }
}
