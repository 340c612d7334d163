//! `model_list`: one entry, one [`Model`] of the written form.

use super::keys::{self, Fate};
use super::values::{Report, without_nulls};
use super::{shown, survey, survey_one};
use crate::config::file::limits::Own;
use crate::config::file::{Model, OneOrMany, Routing};
use crate::secret::Written;
use serde_json::{Map, Value};

/// All entries in their order; those that cannot be read are left out, with an error.
pub fn read(list: Option<&Value>, routing: &mut Routing, report: &mut Report) -> Vec<Model> {
    let entries = report.list("model_list", list);
    let models = entries.iter().enumerate().filter_map(|(index, entry)| {
        let model = model(index, entry, report)?;
        // What a deployment falls back on is what its name falls back on.
        let path = format!("model_list[{index}].litellm_params.fallbacks");
        let own: Vec<_> = report
            .list(&path, entry.get("litellm_params").and_then(|params| params.get("fallbacks")))
            .iter()
            .filter_map(without_nulls)
            .collect();
        if !own.is_empty() {
            routing.fallbacks.entry(model.name.clone()).or_insert(own);
        }
        Some(model)
    });
    models.collect()
}

/// The list with what `router_settings.default_litellm_params` and `credential_list` add to its entries; `None` where
/// neither is there.
pub fn with_defaults(tree: &Map<String, Value>, report: &mut Report) -> Option<Value> {
    let router = tree.get(keys::ROUTER).and_then(Value::as_object);
    let defaults = router.and_then(|router| router.get("default_litellm_params")).filter(|value| !value.is_null());
    let defaults = report.map("router_settings.default_litellm_params", defaults);
    let mut credentials = std::collections::BTreeMap::new();
    for (place, one) in report.list("credential_list", tree.get("credential_list")).iter().enumerate() {
        let at = format!("credential_list[{place}]");
        let Some(one) = report.map(&at, Some(one)) else { continue };
        let name = report.text(&format!("{at}.credential_name"), one.get("credential_name"));
        let values = report.map(&format!("{at}.credential_values"), one.get("credential_values"));
        if let (Some(name), Some(values)) = (name, values) {
            credentials.insert(name, values.clone());
        }
    }
    let list = tree.get("model_list").and_then(Value::as_array)?;
    let names_one =
        |entry: &Value| entry.get("litellm_params").is_some_and(|p| p.get("litellm_credential_name").is_some());
    if defaults.is_none() && !list.iter().any(names_one) {
        return None;
    }
    let mut list = list.clone();
    for (place, entry) in list.iter_mut().enumerate() {
        let Some(entry) = entry.as_object_mut() else { continue };
        if !super::give_credentials(entry, &credentials) {
            report.errors.push(format!(
                "model_list[{place}].litellm_params.litellm_credential_name: no entry of credential_list has this name"
            ));
        }
        if let (Some(defaults), Some(Value::Object(params))) = (defaults, entry.get_mut("litellm_params")) {
            for (name, value) in defaults {
                params.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
    }
    Some(Value::Array(list))
}

fn model(index: usize, entry: &Value, report: &mut Report) -> Option<Model> {
    let at = format!("model_list[{index}]");
    let Some(entry) = entry.as_object() else {
        report.wrong(&at, entry, "a map with `model_name` and `litellm_params`");
        return None;
    };
    survey(keys::ENTRY, keys::ENTRY, entry, report);
    let path = |key: &str| format!("{at}.{key}");
    let before = report.errors.len();
    let name = report.text(&path("model_name"), entry.get("model_name"));
    let empty = Map::new();
    let params = report.map(&path("litellm_params"), entry.get("litellm_params")).unwrap_or(&empty);
    let info = report.map(&path("model_info"), entry.get("model_info")).unwrap_or(&empty);
    let upstream = report.text(&path("litellm_params.model"), params.get("model"));
    // A value of the wrong type was reported already; "is missing" would be a second, wrong message.
    if report.errors.len() == before {
        match (&name, &upstream) {
            (None, _) => report.errors.push(format!("{at}: model_name is missing")),
            (Some(name), None) => report.errors.push(format!("{at} ({name}): litellm_params.model is missing")),
            _ => {}
        }
    }
    let mut model = Model { name: name?, model: upstream?, ..Model::default() };
    apply_params(&mut model, &path("litellm_params"), params, report);
    apply_info(&mut model, &path("model_info"), info, report);
    // Prices may stand in either place; those beside the model count more.
    model.info.extend(free::<Vec<_>>(params.iter().filter(|(key, _)| is_price(key))));
    Some(model)
}

fn apply_params(model: &mut Model, at: &str, params: &Map<String, Value>, report: &mut Report) {
    let path = |key: &str| format!("{at}.{key}");
    let text = |report: &mut Report, key: &str| report.text(&path(key), params.get(key));
    model.provider = text(report, "custom_llm_provider");
    model.api_key = text(report, "api_key").map(|key| OneOrMany::One(Written(key)));
    let base_url = text(report, "base_url");
    model.api_base = text(report, "api_base").or(base_url);
    model.organization = text(report, "organization");
    model.timeout = report.seconds(&path("timeout"), params.get("timeout"));
    model.stream_timeout = report.seconds(&path("stream_timeout"), params.get("stream_timeout"));
    model.weight = report.number(&path("weight"), params.get("weight"));
    model.order = report.number(&path("order"), params.get("order")).map(|order| order as i64);
    model.rpm = report.whole(&path("rpm"), params.get("rpm")).map(u64::from);
    model.tpm = report.whole(&path("tpm"), params.get("tpm")).map(u64::from);
    let slots = report.whole(&path("max_parallel_requests"), params.get("max_parallel_requests"));
    model.max_parallel_requests = slots.filter(|slots| *slots > 0);
    let retries = report.whole(&path("num_retries"), params.get("num_retries"));
    model.num_retries = retries.or_else(|| report.whole(&path("max_retries"), params.get("max_retries")));
    model.cooldown_time = report.seconds(&path("cooldown_time"), params.get("cooldown_time"));
    model.tags = report.texts(&path("tags"), params.get("tags"));
    let own = Own {
        max_budget: report.number(&path("max_budget"), params.get("max_budget")),
        budget_duration: text(report, "budget_duration"),
        ..Own::default()
    };
    model.limits = (own != Own::default()).then_some(own);
    model.region = text(report, "region_name");
    model.mock_response = text(report, "mock_response");
    model.mock_tool_calls =
        report.list(&path("mock_tool_calls"), params.get("mock_tool_calls")).iter().filter_map(without_nulls).collect();
    model.mock_delay = report.seconds(&path("mock_delay"), params.get("mock_delay"));
    model.mock_timeout = report.flag(&path("mock_timeout"), params.get("mock_timeout")) == Some(true);
    cloud(model, at, params, report);
    model.drop_params = report.flag(&path("drop_params"), params.get("drop_params"));
    model.additional_drop_params = report.texts(&path("additional_drop_params"), params.get("additional_drop_params"));
    model.allowed_openai_params = report.texts(&path("allowed_openai_params"), params.get("allowed_openai_params"));
    model.extra_headers = report.scalars(&path("extra_headers"), params.get("extra_headers")).into_iter().collect();
    if let Some(body) = report.map(&path("extra_body"), params.get("extra_body")) {
        model.extra_body = free(body.iter());
    }
    let (known, members): (Vec<_>, Vec<_>) =
        params.iter().partition(|(key, _)| keys::fate(keys::PARAMS, key).is_some());
    for (key, value) in known {
        survey_one(keys::PARAMS, keys::PARAMS, key, value, report);
    }
    for (key, _) in &members {
        if let Some(meant) = keys::nearest(keys::PARAMS, key) {
            let path = format!("{}.{}", keys::PARAMS, shown(key));
            report.note(path, format!("unknown; did you mean `{meant}`? Sent upstream as it stands"));
        }
    }
    model.params = free(members.into_iter());
}

/// The account of a cloud, by LiteLLM's names.
fn cloud(model: &mut Model, at: &str, params: &Map<String, Value>, report: &mut Report) {
    let mut text = |names: &[&str]| {
        names.iter().find_map(|name| match params.get(*name) {
            // Credentials may be written out as a map.
            Some(map @ Value::Object(_)) if name.ends_with("credentials") => Some(map.to_string()),
            other => report.text(&format!("{at}.{name}"), other),
        })
    };
    let cloud = &mut model.cloud;
    cloud.project = text(&["vertex_project", "vertex_ai_project"]);
    cloud.region = text(&["aws_region_name", "region_name", "vertex_location", "vertex_ai_location"]);
    cloud.api_version = text(&["api_version"]);
    cloud.credentials = text(&["vertex_credentials", "vertex_ai_credentials"]).map(Written);
    cloud.access_key_id = text(&["aws_access_key_id"]).map(Written);
    cloud.secret_access_key = text(&["aws_secret_access_key"]).map(Written);
    cloud.session_token = text(&["aws_session_token"]).map(Written);
    cloud.profile = text(&["aws_profile_name"]);
    cloud.role = text(&["aws_role_name"]);
    cloud.role_session = text(&["aws_session_name"]);
    cloud.external_id = text(&["aws_external_id"]);
    cloud.web_identity_file = text(&["aws_web_identity_token"]).map(Into::into);
    cloud.token_url = text(&["aws_sts_endpoint"]);
    cloud.tenant_id = text(&["tenant_id"]);
    cloud.client_id = text(&["client_id"]);
    cloud.client_secret = text(&["client_secret"]).map(Written);
    cloud.token = text(&["azure_ad_token"]).map(Written);
    cloud.scope = text(&["azure_scope"]);
    let base = text(&["aws_bedrock_runtime_endpoint"]);
    model.api_base = model.api_base.take().or(base);
}

fn apply_info(model: &mut Model, at: &str, info: &Map<String, Value>, report: &mut Report) {
    // LiteLLM takes a number for an id as well.
    model.id = match info.get("id") {
        Some(Value::Number(number)) => Some(number.to_string()),
        other => report.text(&format!("{at}.id"), other),
    };
    for (key, value) in info {
        match keys::fate(keys::INFO, key) {
            Some(Fate::Carried | Fate::NoNeed(_)) => {}
            Some(_) => survey_one(keys::INFO, keys::INFO, key, value, report),
            // The facts are free: only what looks like a slip is worth a word.
            None => {
                if let Some(meant) = keys::nearest(keys::INFO, key) {
                    let path = format!("{}.{}", keys::INFO, shown(key));
                    report.note(path, format!("unknown; did you mean `{meant}`? Kept as it stands"));
                }
            }
        }
    }
    model.info = free(info.iter().filter(|(key, _)| *key != "id"));
}

/// Whether a parameter is a price of the deployment, by LiteLLM's names.
fn is_price(key: &str) -> bool {
    key.contains("_cost_per_") || key.ends_with("_token_cost") || key.contains("_token_cost_above_")
}

fn free<'a, T: FromIterator<(String, Value)>>(members: impl Iterator<Item = (&'a String, &'a Value)>) -> T {
    members.filter_map(|(key, value)| Some((key.clone(), without_nulls(value)?))).collect()
}
