//! A LiteLLM `config.yaml` as our own written form, with a note about everything that was not carried over.
//!
//! What becomes of each setting is one table, [`keys::KEYS`]; `docs/litellm.md` explains it row by row. Neither notes
//! nor errors ever hold a value of the file: they name paths.

mod include;
pub mod keys;
mod mcp;
mod models;
mod routing;
#[cfg(test)]
mod tests;
mod values;
mod yaml;

use self::keys::Fate;
use self::values::Report;
use super::file::limits::{Counting, Own, Port};
use super::file::{Duration, File, LogFormat};
use crate::secret::Written;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// What a LiteLLM file says in our terms.
#[derive(Debug)]
pub struct Converted {
    pub file: File,
    /// What was not carried over, and why.
    pub notes: Vec<Note>,
}

/// A setting that was not carried over as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where, such as `litellm_settings.cache`.
    pub path: String,
    /// Why, and what to do about it.
    pub reason: String,
}

impl Note {
    fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Note { path: path.into(), reason: reason.into() }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

/// Reads a LiteLLM file and the files it includes.
///
/// # Errors
/// A text for the operator, one line per error: the file, the place (`LINE:COLUMN` or the path of the setting), what
/// was found and what is expected.
pub fn read(path: &Path) -> Result<Converted, String> {
    let mut notes = Vec::new();
    let tree = include::load(path, &mut notes)?;
    from_tree(&tree, &path.display().to_string(), notes)
}

/// Converts a LiteLLM text; `name` stands for the file in errors. Files named by `include` are not read.
///
/// # Errors
/// As [`read`].
pub fn convert(text: &str, name: &str) -> Result<Converted, String> {
    let mut notes = Vec::new();
    let mut tree = include::root(text, name, &mut notes)?;
    if tree.remove("include").is_some() {
        notes.push(Note::new("include", "included files were not read"));
    }
    from_tree(&tree, name, notes)
}

fn from_tree(tree: &Map<String, Value>, name: &str, mut notes: Vec<Note>) -> Result<Converted, String> {
    let mut report = Report::default();
    let mut file = File::default();
    survey(keys::TOP, "", tree, &mut report);
    let list = models::with_defaults(tree, &mut report);
    file.models = models::read(list.as_ref().or(tree.get("model_list")), &mut file.routing, &mut report);
    file.environment = report.scalars("environment_variables", tree.get("environment_variables")).into_iter().collect();
    litellm_settings(&mut file, tree, &mut report);
    general_settings(&mut file, tree, &mut report);
    router_settings(&mut file, tree, &mut report);
    file.mcp_servers = mcp::read(tree, &mut report);
    if !report.errors.is_empty() {
        let lines: Vec<String> = report.errors.iter().map(|error| format!("{name}: {error}")).collect();
        return Err(lines.join("\n"));
    }
    notes.extend(report.into_notes());
    Ok(Converted { file, notes })
}

/// A model as LiteLLM's management API has it.
///
/// # Errors
/// What cannot be read, in one line.
pub fn model(entry: &Map<String, Value>) -> Result<super::file::Model, String> {
    let mut report = Report::default();
    let list = Value::Array(vec![Value::Object(entry.clone())]);
    let models = models::read(Some(&list), &mut Default::default(), &mut report);
    let said = || report.errors.join("; ").replace("model_list[0]: ", "").replace("model_list[0].", "");
    match models.into_iter().next() {
        Some(model) if report.errors.is_empty() => Ok(model),
        _ => Err(said()),
    }
}

/// One entry of LiteLLM's `mcp_servers`.
///
/// # Errors
/// What cannot be read or is not served, in one line.
pub fn mcp_server(entry: &Map<String, Value>) -> Result<super::file::McpServer, String> {
    let mut report = Report::default();
    let server = mcp::one("", entry, &mut report);
    let tidy = |text: String| text.trim_start_matches('.').to_owned();
    let mut problems: Vec<String> = std::mem::take(&mut report.errors).into_iter().map(tidy).collect();
    problems.extend(report.into_notes().into_iter().map(|note| tidy(format!("{}: {}", note.path, note.reason))));
    if problems.is_empty() { Ok(server) } else { Err(problems.join("; ")) }
}

/// Settings of LiteLLM's router.
///
/// # Errors
/// What cannot be read, in one line.
pub fn router(settings: &Map<String, Value>) -> Result<super::file::Routing, String> {
    let (mut file, mut report) = (File::default(), Report::default());
    routing::shared(&mut file, keys::ROUTER, settings, &mut report);
    routing::router(&mut file, settings, &mut report);
    match report.errors.is_empty() {
        true => Ok(file.routing),
        false => Err(report.errors.join("; ")),
    }
}

/// Puts the values of the credential that an entry names into its parameters, where those say nothing themselves.
pub fn give_credentials(entry: &mut Map<String, Value>, credentials: &BTreeMap<String, Map<String, Value>>) -> bool {
    let Some(Value::Object(params)) = entry.get_mut("litellm_params") else { return true };
    let Some(Value::String(name)) = params.remove("litellm_credential_name") else { return true };
    match credentials.get(&name) {
        Some(values) => {
            for (name, value) in values {
                params.entry(name.clone()).or_insert_with(|| value.clone());
            }
            true
        }
        None => false,
    }
}

fn litellm_settings(file: &mut File, tree: &Map<String, Value>, report: &mut Report) {
    let Some(settings) = report.map(keys::LITELLM, tree.get(keys::LITELLM)) else {
        return;
    };
    survey(keys::LITELLM, keys::LITELLM, settings, report);
    file.defaults.drop_params = report.flag("litellm_settings.drop_params", settings.get("drop_params"));
    file.defaults.timeout = report.seconds("litellm_settings.request_timeout", settings.get("request_timeout"));
    file.server.ask_for_models =
        report.flag("litellm_settings.check_provider_endpoint", settings.get("check_provider_endpoint"));
    if report.flag("litellm_settings.json_logs", settings.get("json_logs")) == Some(true) {
        file.log.format = Some(LogFormat::Json);
    }
    file.database_url = report.text("litellm_settings.database_url", settings.get("database_url")).map(Written);
    routing::shared(file, keys::LITELLM, settings, report);
    newcomers(file, settings, report);
    budget_of_all(file, keys::LITELLM, settings, report);
    file.limits.timezone = report.text("litellm_settings.timezone", settings.get("timezone"));
    if let Some(tags) = report.map("litellm_settings.tag_budget_config", settings.get("tag_budget_config")) {
        for (tag, written) in tags {
            if let Some(own) = budget(&format!("litellm_settings.tag_budget_config.{}", shown(tag)), written, report) {
                file.limits.tags.insert(tag.clone(), own);
            }
        }
    }
    file.limits.end_user_max_budget =
        report.number("litellm_settings.max_end_user_budget", settings.get("max_end_user_budget"));
    if let Some(cache) = report.map(keys::CACHE, settings.get("cache_params")) {
        survey_unknown(keys::CACHE, keys::CACHE, cache, report);
    }
}

/// What is too old is looked for once a month at least.
const MOST_INTERVAL: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);

/// What new keys and users get, and may have.
fn newcomers(file: &mut File, settings: &Map<String, Value>, report: &mut Report) {
    let path = |key: &str| format!("{}.{key}", keys::LITELLM);
    let part = |key: &str| (path(key), settings.get(key));
    let (at, value) = part("default_key_generate_params");
    file.new_keys.defaults = report.part(&at, value);
    let (at, value) = part("upperbound_key_generate_params");
    file.new_keys.bounds = report.part(&at, value);
    let (at, value) = part("key_generation_settings");
    if let Some(rules) = report.map(&at, value) {
        file.new_keys.team = report.part(&format!("{at}.team_key_generation"), rules.get("team_key_generation"));
        file.new_keys.personal =
            report.part(&format!("{at}.personal_key_generation"), rules.get("personal_key_generation"));
        for other in
            rules.keys().filter(|key| !matches!(key.as_str(), "team_key_generation" | "personal_key_generation"))
        {
            report.note(format!("{at}.{}", shown(other)), "unknown key");
        }
    }
    let (at, value) = part("default_internal_user_params");
    file.new_users = report.part(&at, value);
    // What internal users get where nothing else is said.
    let most = report.number(&path("max_internal_user_budget"), settings.get("max_internal_user_budget"));
    file.new_users.max_budget = file.new_users.max_budget.or(most);
    let span = "internal_user_budget_duration";
    let span = report.text(&path(span), settings.get(span));
    file.new_users.budget_duration = file.new_users.budget_duration.take().or(span);
}

/// A path that leads to another API.
fn passage(at: &str, entry: &Map<String, Value>, report: &mut Report) -> super::file::PassThrough {
    let part = |name: &str| (format!("{at}.{name}"), entry.get(name));
    for name in entry.keys() {
        if !["id", "path", "target", "headers", "include_subpath", "auth", "cost_per_request"].contains(&name.as_str())
        {
            report.note(
                format!("{at}.{}", shown(name)),
                "without effect: requests go on with their own headers, keys aside",
            );
        }
    }
    let (path_at, path) = part("path");
    let (target_at, target) = part("target");
    let (headers_at, headers) = part("headers");
    let (below_at, below) = part("include_subpath");
    let (auth_at, auth) = part("auth");
    let (cost_at, cost) = part("cost_per_request");
    super::file::PassThrough {
        path: report.text(&path_at, path).unwrap_or_default(),
        target: report.text(&target_at, target).unwrap_or_default(),
        headers: report
            .scalars(&headers_at, headers)
            .into_iter()
            // Unlike elsewhere, a word may stand before the reference.
            .map(|(name, value)| (name, Written(value.0.replace(" os.environ/", " env:"))))
            .collect(),
        include_subpath: report.flag(&below_at, below) == Some(true),
        auth: report.flag(&auth_at, auth),
        cost_per_request: report.number(&cost_at, cost),
    }
}

fn general_settings(file: &mut File, tree: &Map<String, Value>, report: &mut Report) {
    let Some(settings) = report.map(keys::GENERAL, tree.get(keys::GENERAL)) else {
        return;
    };
    survey(keys::GENERAL, keys::GENERAL, settings, report);
    let path = |key: &str| format!("{}.{key}", keys::GENERAL);
    file.master_key = report.text(&path("master_key"), settings.get("master_key")).map(Written);
    if let Some(url) = report.text(&path("database_url"), settings.get("database_url")) {
        file.database_url = Some(Written(url));
    }
    file.server.key_header = report.text(&path("litellm_key_header_name"), settings.get("litellm_key_header_name"));
    file.server.user_header = report.text(&path("user_header_name"), settings.get("user_header_name"));
    let mappings = path("user_header_mappings");
    for (place, mapping) in report.list(&mappings, settings.get("user_header_mappings")).iter().enumerate() {
        let at = format!("{mappings}[{place}]");
        let Some(mapping) = report.map(&at, Some(mapping)) else { continue };
        let header = report.text(&format!("{at}.header_name"), mapping.get("header_name"));
        let role = report.text(&format!("{at}.litellm_user_role"), mapping.get("litellm_user_role"));
        match (role.as_deref(), &file.server.user_header) {
            (Some("customer"), None) => file.server.user_header = header,
            _ => report.note(at, "one header names the end user; whoever shows a key is known by the key"),
        }
    }
    let passages = path("pass_through_endpoints");
    for (place, entry) in report.list(&passages, settings.get("pass_through_endpoints")).iter().enumerate() {
        let at = format!("{passages}[{place}]");
        if let Some(entry) = report.map(&at, Some(entry)) {
            file.pass_through.push(passage(&at, entry, report));
        }
    }
    let mocks = "dangerously_allow_mock_testing_request_params";
    file.routing.mock_requests = report.flag(&path(mocks), settings.get(mocks)) == Some(true);
    file.server.body_limit = report.mebibytes(&path("max_request_size_mb"), settings.get("max_request_size_mb"));
    file.server.answer_limit = report.mebibytes(&path("max_response_size_mb"), settings.get("max_response_size_mb"));
    file.store.allow_requests_on_db_unavailable = report
        .flag(&path("allow_requests_on_db_unavailable"), settings.get("allow_requests_on_db_unavailable"))
        == Some(true);
    file.store.key_cache_age = report.seconds(&path("user_api_key_cache_ttl"), settings.get("user_api_key_cache_ttl"));
    for key in ["disable_spend_logs", "disable_spend_updates"] {
        if report.flag(&path(key), settings.get(key)) == Some(true) {
            file.ledger.disabled = true;
            report.note(path(key), "the ledger is off as a whole: calls have no rows, and no spend is counted");
        }
    }
    let kept = "store_prompts_in_spend_logs";
    file.ledger.store_prompts = report.flag(&path(kept), settings.get(kept)) == Some(true);
    let silent = tree.get(keys::LITELLM).and_then(|settings| settings.get("turn_off_message_logging"));
    if file.ledger.store_prompts && silent.and_then(Value::as_bool) == Some(true) {
        file.ledger.store_prompts = false;
        report.note(path(kept), "litellm_settings.turn_off_message_logging is on, so none are kept");
    }
    let kept = "maximum_spend_logs_retention_period";
    file.ledger.retention = report.age(&path(kept), settings.get(kept));
    let interval = "maximum_spend_logs_retention_interval";
    file.ledger.retention_interval =
        report.age(&path(interval), settings.get(interval)).map(|age| Duration(age.0.min(MOST_INTERVAL)));
    if report.flag(&path("use_x_forwarded_for"), settings.get("use_x_forwarded_for")) == Some(true) {
        file.server.trusted_proxies = Some(["unix", "0.0.0.0/0", "::/0"].map(str::to_owned).to_vec());
        report.note(
            path("use_x_forwarded_for"),
            "as in LiteLLM, whoever calls may say from where; name your proxies in server.trusted_proxies instead",
        );
    }
    budget_of_all(file, keys::GENERAL, settings, report);
    let count = |report: &mut Report, key: &str| report.count(&path(key), settings.get(key)).map(|n| n as u64);
    file.limits.key_max_parallel_requests = count(report, "max_parallel_requests");
    file.limits.max_parallel_requests = count(report, "global_max_parallel_requests");
    if let Some(counted) = report.text(&path("token_rate_limit_type"), settings.get("token_rate_limit_type")) {
        file.limits.tokens_counted = match counted.as_str() {
            "total" => Some(Counting::Total),
            "input" => Some(Counting::Input),
            "output" => Some(Counting::Output),
            _ => {
                report
                    .note(path("token_rate_limit_type"), "it is none of total, input and output; total is what counts");
                None
            }
        };
    }
    file.health.background =
        report.flag(&path("background_health_checks"), settings.get("background_health_checks")) == Some(true);
    file.health.interval = report.seconds(&path("health_check_interval"), settings.get("health_check_interval"));
    file.health.concurrency = report.count(&path("health_check_concurrency"), settings.get("health_check_concurrency"));
}

/// The budget of the whole gateway; LiteLLM reads it in either section.
fn budget_of_all(file: &mut File, section: &str, settings: &Map<String, Value>, report: &mut Report) {
    let path = |key: &str| format!("{section}.{key}");
    let max = report.number(&path("max_budget"), settings.get("max_budget"));
    let span = report.text(&path("budget_duration"), settings.get("budget_duration"));
    // A budget of nothing is LiteLLM's way to have none.
    file.limits.max_budget = max.filter(|max| *max > 0.0).or(file.limits.max_budget);
    file.limits.budget_duration = span.or(file.limits.budget_duration.take());
}

/// After [`litellm_settings`]: where both say something, the router counts, as in LiteLLM.
fn router_settings(file: &mut File, tree: &Map<String, Value>, report: &mut Report) {
    let Some(settings) = report.map(keys::ROUTER, tree.get(keys::ROUTER)) else {
        return;
    };
    survey(keys::ROUTER, keys::ROUTER, settings, report);
    if let Some(timeout) = report.seconds("router_settings.timeout", settings.get("timeout")) {
        file.defaults.timeout = Some(timeout);
    }
    if let Some(budgets) = report.map("router_settings.provider_budget_config", settings.get("provider_budget_config"))
    {
        for (provider, written) in budgets {
            let at = format!("router_settings.provider_budget_config.{}", shown(provider));
            if let Some(own) = budget(&at, written, report) {
                file.limits.providers.insert(provider.clone(), own);
            }
        }
    }
    redis(file, settings, report);
    file.defaults.stream_timeout = report.seconds("router_settings.stream_timeout", settings.get("stream_timeout"));
    routing::shared(file, keys::ROUTER, settings, report);
    routing::router(file, settings, report);
}

/// Notes for every key of a section that is not carried.
fn survey(section: &str, at: &str, map: &Map<String, Value>, report: &mut Report) {
    for (key, value) in map {
        survey_one(section, at, key, value, report);
    }
}

/// Notes for the unknown keys of a part that is not carried as a whole, and has its one note already.
fn survey_unknown(section: &str, at: &str, map: &Map<String, Value>, report: &mut Report) {
    for (key, value) in map {
        if keys::fate(section, key).is_none() {
            survey_one(section, at, key, value, report);
        }
    }
}

fn survey_one(section: &str, at: &str, key: &str, value: &Value, report: &mut Report) {
    let path = if at.is_empty() { shown(key).to_owned() } else { format!("{at}.{}", shown(key)) };
    match keys::fate(section, key) {
        Some(Fate::Carried | Fate::NoNeed(_)) => {}
        Some(Fate::NotYet(reason) | Fate::Refused(reason)) => {
            if !says_nothing(key, value) {
                report.note(path, reason);
            }
        }
        // `x-...` is where YAML files keep what they only refer to.
        None if section == keys::TOP && key.starts_with("x-") => {}
        None => report.note(path, unknown(section, key)),
    }
}

fn unknown(section: &str, key: &str) -> String {
    match (keys::home(section, key), keys::nearest(section, key)) {
        (Some(home), _) => format!("unknown key here; did you mean `{home}.{key}`?"),
        (None, Some(meant)) => format!("unknown key; did you mean `{meant}`?"),
        (None, None) => "unknown key".to_owned(),
    }
}

/// Empty, or switched off where off is what is so anyway.
fn says_nothing(key: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on && !keys::ON_BY_DEFAULT.contains(&key),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// A key as it may be shown: with a slip of indentation or a colon, a secret can end up as one.
fn shown(key: &str) -> &str {
    let plain = key.len() <= 64 && !key.starts_with("sk-");
    let plain = plain && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ' '));
    if plain { key } else { "(a key not shown)" }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// A budget of a provider or a tag, by either of LiteLLM's two names for each member.
fn budget(at: &str, written: &Value, report: &mut Report) -> Option<Own> {
    let written = report.map(at, Some(written))?;
    let one = |names: [&'static str; 2]| names.into_iter().find(|name| written.contains_key(*name));
    let max =
        one(["budget_limit", "max_budget"]).and_then(|name| report.number(&format!("{at}.{name}"), written.get(name)));
    let span = one(["time_period", "budget_duration"])
        .and_then(|name| report.text(&format!("{at}.{name}"), written.get(name)));
    Some(Own { max_budget: max, budget_duration: span, ..Own::default() })
}

/// Where several gateways count rates: an address wins over its parts.
fn redis(file: &mut File, settings: &Map<String, Value>, report: &mut Report) {
    let path = |name: &str| format!("router_settings.{name}");
    let mut text = |name: &str| report.text(&path(name), settings.get(name)).map(Written);
    let (url, host, password) = (text("redis_url"), text("redis_host"), text("redis_password"));
    if url.is_some() || host.is_none() {
        file.limits.redis = url;
        return;
    }
    (file.limits.redis_host, file.limits.redis_password) = (host, password);
    file.limits.redis_port = match settings.get("redis_port") {
        Some(Value::String(_)) => {
            report.text(&path("redis_port"), settings.get("redis_port")).map(|port| Port::Reference(Written(port)))
        }
        port => {
            let port = report.whole(&path("redis_port"), port);
            port.map(|port| u16::try_from(port).map_or(Port::Reference(Written(port.to_string())), Port::Number))
        }
    };
    file.limits.redis_db = report.whole(&path("redis_db"), settings.get("redis_db"));
}
