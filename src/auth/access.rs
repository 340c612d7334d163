//! What a key may use: models by key, team and user, and routes.
//!
//! Names and types of errors are LiteLLM's (its documentation of virtual keys, "model access" and "allowed routes").

use super::Caller;
use crate::envelope::shorten;
use crate::error::{Error, Kind, Result};
use crate::gateway::Live;
use crate::pattern;
use crate::route::Deployment;
use crate::store::Holder;
use serde_json::Value;
use std::borrow::Cow;

/// Names in a list of models that stand for others.
const ALL: [&str; 2] = ["all-proxy-models", "*"];
const OF_TEAM: &str = "all-team-models";
const NONE: &str = "no-default-models";
/// What is said of a list of models.
const SHOWN: usize = 20;

/// The name that a call is routed by: the caller's own name for a model is put in its place.
///
/// # Errors
/// 403 where the caller may not use the model.
pub fn model<'a>(live: &Live, caller: &'a Caller, asked: &'a str) -> Result<Cow<'a, str>> {
    let Some(holder) = caller.holder() else { return Ok(Cow::Borrowed(asked)) };
    let name = renamed(holder, asked).unwrap_or(asked);
    // What counts is the model that is called: whoever may name models for a key must not reach others by it.
    match denied(live, holder, name) {
        Some(denied) if !may_call(live, caller, name) => Err(denied.error(name)),
        _ => Ok(Cow::Borrowed(name)),
    }
}

/// Whether the caller may use the model, by this name or by the one that it stands for.
pub fn may_call(live: &Live, caller: &Caller, model: &str) -> bool {
    let behind = || live.routes.alias(model).is_some_and(|behind| may_use(live, caller, behind));
    may_use(live, caller, model) || behind()
}

/// Whether the caller may use the model.
pub fn may_use(live: &Live, caller: &Caller, model: &str) -> bool {
    caller.holder().is_none_or(|holder| denied(live, holder, model).is_none())
}

/// A model by the name that its provider has for it, asked past the names of the configuration: allowed by
/// `provider/model`, or by a name that leads to this very model.
///
/// # Errors
/// 403 where the caller may not use the model.
pub fn upstream(live: &Live, caller: &Caller, provider: &str, model: &str) -> Result<()> {
    let Some(holder) = caller.holder() else { return Ok(()) };
    let full = format!("{provider}/{model}");
    let Some(denied) = denied(live, holder, &full) else { return Ok(()) };
    let leads_there =
        |d: &&std::sync::Arc<Deployment>| d.provider.name == provider && d.model == model && !d.name.contains('*');
    match live.routes.deployments.iter().filter(leads_there).any(|d| may_call(live, caller, &d.name)) {
        true => Ok(()),
        false => Err(denied.error(&full)),
    }
}

fn renamed<'a>(holder: &'a Holder, asked: &str) -> Option<&'a str> {
    let of_team = holder.team.as_ref().map(|team| &team.model_aliases);
    [Some(&holder.key.aliases), of_team].into_iter().flatten().find_map(|aliases| aliases.get(asked)?.as_str())
}

struct Denied<'a> {
    whose: &'static str,
    models: &'a [String],
}

impl Denied<'_> {
    fn error(&self, model: &str) -> Error {
        let mut models: Vec<String> = self.models.iter().take(SHOWN).map(|m| format!("'{m}'")).collect();
        if self.models.len() > SHOWN {
            models.push(format!("and {} more", self.models.len() - SHOWN));
        }
        let (whose, model) = (self.whose, shorten(model));
        let message = format!(
            "{whose} not allowed to access model. This {whose} can only access models=[{}]. Tried to access {model}",
            models.join(", ")
        );
        Error::new(Kind::Forbidden, message).with_type(format!("{whose}_model_access_denied")).at_param("model")
    }
}

/// The first list that does not hold the model.
fn denied<'a>(live: &Live, holder: &'a Holder, model: &str) -> Option<Denied<'a>> {
    let key = &holder.key;
    let check = |whose, models: &'a [String], leads_to_team: bool| {
        let named =
            models.is_empty() || models.iter().any(|m| admits(live, m, model) || (leads_to_team && m == OF_TEAM));
        (!named).then_some(Denied { whose, models })
    };
    let by_group = holder.access_groups.iter().any(|group| group.models.iter().any(|m| admits(live, m, model)));
    if !by_group && let Some(denied) = check("key", &key.models, holder.team.is_some()) {
        return Some(denied);
    }
    if let Some(team) = &holder.team {
        // A name that the team gives to a model is the team's leave for it.
        let named =
            team.model_aliases.as_object().is_some_and(|names| names.values().any(|m| m.as_str() == Some(model)));
        if !by_group
            && !named
            && let Some(denied) = check("team", &team.models, false)
        {
            return Some(denied);
        }
        if let Some(denied) = holder.member.as_ref().and_then(|member| check("team", &member.models, true)) {
            return Some(denied);
        }
    } else if let Some(user) = &holder.user
        && let Some(denied) = check("user", &user.models, false)
    {
        // The user's own list counts for personal keys alone.
        return Some(denied);
    }
    holder.organization.as_ref().and_then(|organization| check("org", &organization.models, false))
}

/// Whether an entry of a list of models means this one: by name, wildcard, or the name of an access group that the
/// configuration gives to deployments.
fn admits(live: &Live, entry: &str, model: &str) -> bool {
    if entry == NONE || entry == OF_TEAM {
        return false;
    }
    if entry == model || ALL.contains(&entry) {
        return true;
    }
    if entry.contains('*') && pattern::capture(entry, model).is_some() {
        return true;
    }
    live.routes
        .deployments
        .iter()
        .filter(|d| groups_of(d).any(|group| group == entry))
        .any(|d| pattern::capture(&d.name, model).is_some())
}

/// The access groups that a deployment's info names.
pub fn groups_of(deployment: &Deployment) -> impl Iterator<Item = &str> {
    let groups = deployment.info.get("model_info").and_then(|info| info.get("access_groups")).and_then(Value::as_array);
    groups.into_iter().flatten().filter_map(Value::as_str)
}

/// # Errors
/// 403 where the key is for other routes.
pub fn route(caller: &Caller, path: &str) -> Result<()> {
    let Some(holder) = caller.holder() else { return Ok(()) };
    let allowed = &holder.key.allowed_routes;
    if allowed.is_empty() || allowed.iter().any(|entry| leads(entry, path)) {
        return Ok(());
    }
    let message = format!(
        "Virtual key is not allowed to call this route. Only allowed to call routes: [{}]. Tried to call route: {}",
        allowed.iter().take(SHOWN).map(|r| format!("'{r}'")).collect::<Vec<_>>().join(", "),
        shorten(path)
    );
    Err(Error::new(Kind::Forbidden, message).with_type("auth_error"))
}

/// Routes about keys, people, models, tools and settings, each with what lies under it: the management API.
const MANAGEMENT: [&str; 18] = [
    "/key",
    "/v2/key",
    "/user",
    "/v2/user",
    "/team",
    "/v2/team",
    "/budget",
    "/customer",
    "/end_user",
    "/tag",
    "/organization",
    "/model",
    "/credentials",
    "/fallback",
    "/router",
    "/config",
    "/v1/mcp/server",
    "/v1/mcp/toolset",
];
/// The same where the name goes on.
const MANAGEMENT_OF: [&str; 3] = ["/mcp-rest/test/", "/access_group", "/v1/access_group"];
/// Routes about the gateway itself.
const OPERATING: [&str; 4] = ["/spend", "/global", "/health", "/cache"];
/// Routes that only tell.
const INFO: [&str; 24] = [
    "/key/info",
    "/v2/key/info",
    "/key/health",
    "/key/list",
    "/key/aliases",
    "/user/info",
    "/v2/user/info",
    "/user/list",
    "/team/info",
    "/team/list",
    "/v2/team/list",
    "/budget/list",
    "/customer/info",
    "/customer/list",
    "/tag/list",
    "/access_group/list",
    "/organization/list",
    "/models",
    "/model/info",
    "/v2/model/info",
    "/model_group/info",
    "/health",
    "/routes",
    "/spend/logs",
];

fn leads(entry: &str, path: &str) -> bool {
    let bare = |path: &str| path.strip_prefix("/v1").filter(|rest| rest.starts_with('/')).unwrap_or(path).to_owned();
    let (entry, short) = (bare(entry), bare(path));
    let under = |all: &[&str]| {
        all.iter().any(|base| path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    // A model may be looked at by whoever may call it.
    let manages = path != "/model/info" && (under(&MANAGEMENT) || MANAGEMENT_OF.iter().any(|of| path.starts_with(of)));
    match entry.as_str() {
        "*" | "all_routes" => true,
        "llm_api_routes" | "openai_routes" | "anthropic_routes" => !manages && !under(&OPERATING),
        "spend_tracking_routes" => under(&["/spend", "/global"]) || path.contains("/daily/activity"),
        "management_routes" => manages || INFO.contains(&short.as_str()),
        "info_routes" => INFO.contains(&short.as_str()) || short.starts_with("/models/"),
        _ => pattern::capture(&entry, &short).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Key, Team, User};

    fn live() -> Live {
        let file = concat!(
            "[[models]]\nname = \"fast\"\nmodel = \"openai_like/a\"\napi_base = \"http://x/v1\"\ninfo = { access_groups = [\"free\"] }\n",
            "[[models]]\nname = \"slow\"\nmodel = \"openai_like/b\"\napi_base = \"http://x/v1\"\n",
        );
        let path = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        std::fs::write(path.path(), file).unwrap();
        let sources = crate::config::Sources { config: Some(path.path().to_owned()), ..Default::default() };
        Live::new(0, crate::config::load(&sources, crate::config::Mode::Offline).unwrap())
    }

    fn holder(key: &[&str], team: Option<&[&str]>, user: Option<&[&str]>) -> Caller {
        let texts = |list: &[&str]| list.iter().map(|&m| m.to_owned()).collect::<Vec<_>>();
        let mut holder = Holder::of(Key { models: texts(key), ..Key::default() });
        holder.team = team.map(|models| Team { models: texts(models), ..Team::default() });
        holder.user = user.map(|models| User { models: texts(models), ..User::default() });
        Caller::Key(std::sync::Arc::new(holder))
    }

    #[test]
    fn lists_of_models_mean_what_litellms_mean() {
        let live = live();
        for (key, team, user, fast, slow) in [
            (&[][..], None, None, true, true),
            (&["fast"], None, None, true, false),
            (&["f*"], None, None, true, false),
            (&["free"], None, None, true, false),
            (&["all-proxy-models"], None, None, true, true),
            (&["no-default-models"], None, None, false, false),
            (&["all-team-models"], Some(&["slow"][..]), None, false, true),
            (&["all-team-models"], None, None, false, false),
            (&[], Some(&["slow"]), None, false, true),
            (&["fast", "slow"], Some(&["slow"]), None, false, true),
            (&[], Some(&["slow"]), Some(&["fast"][..]), false, true),
            (&[], None, Some(&["fast"]), true, false),
            (&[], None, Some(&["no-default-models"]), false, false),
        ] {
            let caller = holder(key, team, user);
            let found = (may_use(&live, &caller, "fast"), may_use(&live, &caller, "slow"));
            assert_eq!(found, (fast, slow), "{key:?} {team:?} {user:?}");
        }
    }

    #[test]
    fn what_is_refused_says_whose_list_it_was() {
        let (live, caller) = (live(), holder(&["fast"], None, None));
        let error = model(&live, &caller, "slow").unwrap_err();
        assert_eq!((error.status().as_u16(), &error.body()["error"]["type"]), (403, &"key_model_access_denied".into()));
        let caller = holder(&[], Some(&["fast"]), None);
        assert_eq!(model(&live, &caller, "slow").unwrap_err().body()["error"]["type"], "team_model_access_denied");
    }

    #[test]
    fn routes_are_named_alone_or_as_kinds() {
        for (entry, path, leads_there) in [
            ("llm_api_routes", "/v1/chat/completions", true),
            ("llm_api_routes", "/key/generate", false),
            ("llm_api_routes", "/global/spend/report", false),
            ("llm_api_routes", "/v1/models", true),
            ("spend_tracking_routes", "/spend/logs", true),
            ("spend_tracking_routes", "/key/generate", false),
            ("management_routes", "/key/generate", true),
            ("management_routes", "/v1/chat/completions", false),
            ("info_routes", "/key/info", true),
            ("info_routes", "/key/generate", false),
            ("/chat/completions", "/v1/chat/completions", true),
            ("/v1/*", "/v1/models", true),
            ("/v1/models", "/v1/chat/completions", false),
            ("llm_api_routes", "/key2/mcp", true),
            ("llm_api_routes", "/model/info", true),
            ("spend_tracking_routes", "/team/daily/activity", true),
        ] {
            assert_eq!(leads(entry, path), leads_there, "{entry} {path}");
        }
    }

    #[test]
    fn a_key_for_calls_manages_nothing() {
        for (_, path) in crate::http::admin::all() {
            assert!(!leads("llm_api_routes", path) && leads("management_routes", path), "{path}");
        }
        let managing: Vec<&str> =
            crate::http::all().map(|(_, path)| path).filter(|path| leads("management_routes", path)).collect();
        let beside = |path: &&str| !crate::http::admin::all().any(|(_, managed)| managed == path);
        let told: Vec<&str> = managing.into_iter().filter(beside).collect();
        let only_tell = |path: &&str| path.contains("info") || path.contains("models") || path.contains("activity");
        let others: Vec<&str> = told.into_iter().filter(|path| !only_tell(path)).collect();
        assert_eq!(others, ["/health", "/spend/logs", "/routes"]);
    }
}
