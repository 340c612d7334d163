//! A request to the management API: who asks, what for, and what they may.

use super::fields::texts;
use super::times;
use crate::auth::{self, Caller};
use crate::database::{self, Told};
use crate::error::{Error, Kind, Result};
use crate::gateway::{Gateway, Live};
use crate::http::body;
use crate::http::reply::{path_part, plain, worker};
use crate::limits::calendar;
use crate::store::{Change, Key, Page, Store, Team, User};
use crate::wire::json;
use actix_web::http::StatusCode;
use actix_web::web::{Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Instant;

/// The members of a request.
pub type Body = Map<String, Value>;

/// LiteLLM's name for whoever holds the master key.
pub const ADMIN: &str = "default_user_id";

/// Who asks, and with what.
pub struct Desk {
    pub gateway: Arc<Gateway>,
    pub live: Arc<Live>,
    pub caller: Caller,
    /// Now, in microseconds.
    pub at: i64,
    query: Vec<(String, String)>,
    key_in_path: Option<String>,
}

/// Carries out a request.
pub async fn run<F, R>(request: HttpRequest, payload: Payload, act: F) -> HttpResponse
where
    F: FnOnce(Desk, Body) -> R,
    R: Future<Output = Result<Value>>,
{
    run_as(StatusCode::OK, request, payload, act).await
}

/// The same, answered with this status.
pub async fn run_as<F, R>(status: StatusCode, request: HttpRequest, payload: Payload, act: F) -> HttpResponse
where
    F: FnOnce(Desk, Body) -> R,
    R: Future<Output = Result<Value>>,
{
    let started = Instant::now();
    let result = async {
        let worker = worker(&request)?;
        let gateway = worker.gateway.clone();
        let live = gateway.live();
        let caller = auth::caller(&gateway, &live, &request).await?;
        gateway.database.settled().await;
        let bytes = body::read(&request, payload, live.config.server.body_limit, &worker.clock).await?;
        let body = members(&bytes, live.config.server.max_nesting)?;
        let query = Query::<Vec<(String, String)>>::from_query(request.query_string());
        let query = query.map(Query::into_inner).unwrap_or_default();
        let key_in_path = path_part(&request, "key").map(std::borrow::Cow::into_owned);
        act(Desk { gateway, live, caller, at: database::now(), query, key_in_path }, body).await
    };
    let result = result.await.map(|answer| HttpResponse::build(status).json(answer));
    plain(&request, started, result)
}

/// An empty body is one without members.
fn members(bytes: &[u8], max_nesting: usize) -> Result<Body> {
    if bytes.trim_ascii().is_empty() {
        return Ok(Body::new());
    }
    // Bounds the depth before a tree is built.
    json::object(bytes, max_nesting, |_| ())
        .map_err(|fault| Error::invalid(format!("The request body is not acceptable JSON: {}.", fault.what)))?;
    serde_json::from_slice(bytes).map_err(|e| Error::invalid(format!("The request body is not as expected: {e}.")))
}

impl Desk {
    pub fn store(&self) -> &Store {
        &self.gateway.store
    }

    /// A part of the query, where it is not empty.
    pub fn query(&self, name: &str) -> Option<String> {
        self.query.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.clone())
    }

    pub fn wants(&self, name: &str) -> bool {
        self.query(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The key that the path names.
    pub fn key_in_path(&self) -> Option<&str> {
        self.key_in_path.as_deref()
    }

    /// Which page is asked for, and how long one is: `page` from 1, `size` or `page_size` up to 100.
    pub fn page(&self) -> Result<(i64, i64)> {
        let number = |name: &str| -> Result<Option<i64>> {
            let Some(text) = self.query(name) else { return Ok(None) };
            let number = text.parse().ok().filter(|n: &i64| (1..=1_000_000).contains(n));
            number.map(Some).ok_or_else(|| Error::invalid(format!("'{name}' must be a number from 1.")).at_param(name))
        };
        let size = match number("size")? {
            Some(size) => size,
            None => number("page_size")?.unwrap_or(10),
        };
        Ok((number("page")?.unwrap_or(1), size.min(100)))
    }

    /// The same as the store counts.
    pub fn rows(page: i64, size: i64) -> Page {
        Page { after: None, skip: (page - 1) * size, limit: size }
    }

    pub fn role(&self) -> Option<&str> {
        self.caller.user()?.role.as_deref()
    }

    /// May change everything.
    pub fn is_admin(&self) -> bool {
        matches!(self.caller, Caller::Master | Caller::Anonymous) || self.role() == Some("proxy_admin")
    }

    /// May see everything.
    pub fn is_viewer(&self) -> bool {
        self.is_admin() || self.role() == Some("proxy_admin_viewer")
    }

    /// When a budget of this length begins anew.
    pub fn resets_at(&self, span: Option<&String>) -> Value {
        let window = span.and_then(|span| calendar::window(span, &self.live.config.limits.zone, self.at));
        window.map(|window| times::iso(window.end)).into()
    }

    /// Who does it, for the record.
    pub fn by(&self) -> Option<String> {
        Some(self.caller.user_id().unwrap_or(ADMIN).to_owned())
    }

    /// # Errors
    /// 403 for everybody but administrators.
    pub fn admin_only(&self) -> Result<()> {
        if self.is_admin() { Ok(()) } else { Err(self.refused("Only proxy admins may do this.")) }
    }

    /// # Errors
    /// 403 for everybody who may not see everything.
    pub fn viewer_only(&self) -> Result<()> {
        if self.is_viewer() { Ok(()) } else { Err(self.refused("Only proxy admins may see this.")) }
    }

    pub fn refused(&self, what: &str) -> Error {
        let role = self.role().unwrap_or("none");
        Error::new(Kind::Forbidden, format!("{what} Your role is '{role}'.")).with_type("auth_error")
    }

    /// What the caller is in the team.
    pub async fn role_in(&self, team_id: &str) -> Result<Option<String>> {
        let Some(user) = self.caller.user() else { return Ok(None) };
        Ok(self.store().member(team_id, &user.id).await?.map(|member| member.role))
    }

    /// Whether the caller is an administrator of the team.
    pub async fn leads(&self, team_id: &str) -> Result<bool> {
        Ok(self.role_in(team_id).await?.as_deref() == Some("admin"))
    }

    /// Whether the team lets its plain members do this with its keys, and the caller is one of them.
    pub async fn is_granted(&self, team_id: &str, route: &str) -> Result<bool> {
        if self.role_in(team_id).await?.is_none() {
            return Ok(false);
        }
        let team: Option<Team> = self.store().get(team_id).await?;
        Ok(team.is_some_and(|team| team.member_permissions.iter().any(|granted| granted == route)))
    }

    /// Whether a key of this user is the business of the team's admins: a member who is nothing more than that.
    /// Whoever could make a key of an administrator would be one.
    async fn is_within(&self, team_id: &str, user_id: Option<&str>) -> Result<bool> {
        let Some(user_id) = user_id.filter(|user| Some(*user) != self.caller.user_id()) else { return Ok(true) };
        let user: Option<User> = self.store().get(user_id).await?;
        let plain = user.is_some_and(|user| {
            matches!(user.role.as_deref(), None | Some("internal_user" | "internal_user_viewer" | "customer"))
        });
        Ok(plain && self.store().member(team_id, user_id).await?.is_some())
    }

    /// # Errors
    /// 403 where the key is neither the caller's own, nor of a team that he leads or that lets its members do this.
    pub async fn may_change(&self, key: &Key, route: &str) -> Result<()> {
        if self.is_admin() {
            return Ok(());
        }
        let changes = matches!(self.role(), Some("internal_user" | "org_admin" | "team"));
        let own = key.user_id.is_some() && key.user_id.as_deref() == self.caller.user_id();
        if changes && own {
            return Ok(());
        }
        if let Some(team) = &key.team_id
            && self.role() != Some("proxy_admin_viewer")
            && (self.leads(team).await? || self.is_granted(team, route).await?)
            && self.is_within(team, key.user_id.as_deref()).await?
        {
            return Ok(());
        }
        let refused = self.refused("This key is not yours to change.");
        Err(match (&key.team_id, self.caller.user_id()) {
            (Some(team), Some(user)) if self.store().member(team, user).await?.is_some() => {
                refused.with_type("team_member_permission_error")
            }
            _ => refused,
        })
    }

    /// # Errors
    /// 403 where the caller may not see the key.
    pub async fn may_see(&self, key: &Key) -> Result<()> {
        let own = key.user_id.is_some() && key.user_id.as_deref() == self.caller.user_id();
        if self.is_viewer() || own || self.caller.key_id() == Some(&key.id) {
            return Ok(());
        }
        if let Some(team) = &key.team_id
            && (self.leads(team).await? || self.is_granted(team, "/key/info").await?)
        {
            return Ok(());
        }
        Err(self.refused("This key is not yours to see."))
    }

    /// This process forgets at once what has changed; others hear of it within a second.
    pub fn changed(&self, hashes: &[String]) {
        let change = |hash: &String| Change { number: 0, kind: "key".to_owned(), id: hash.clone() };
        self.gateway.keys.forget(&Told::Some(hashes.iter().map(change).collect()));
        self.gateway.limits.forget();
    }

    /// Limits of somebody whom no key leads to have changed.
    pub fn changed_limits(&self) {
        self.gateway.limits.forget();
    }

    /// The same for everything that is not a key.
    pub fn changed_people(&self) {
        self.gateway.keys.forget(&Told::All);
        self.gateway.limits.forget();
    }
}

/// A text of the request.
pub fn text(body: &Body, name: &str) -> Result<Option<String>> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Error::invalid(format!("Invalid type for '{name}': expected a text.")).at_param(name)),
    }
}

/// A text that must be there.
pub fn needed(body: &Body, name: &str) -> Result<String> {
    text(body, name)?.ok_or_else(|| Error::invalid(format!("Missing required parameter: '{name}'.")).at_param(name))
}

/// A list of texts; none where it is not there.
pub fn list(body: &Body, name: &str) -> Result<Vec<String>> {
    body.get(name).map_or(Ok(Vec::new()), |value| texts(name, value))
}
