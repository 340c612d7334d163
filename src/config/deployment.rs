//! From a written model to a deployment: which provider, which address, which key, which request shape.

mod address;
mod naming;

use super::cloud::{self, Account};
use super::{Mode, file, look_up};
use crate::error::{Error, Kind, Origin};
use crate::mock::{Mock, Outcome};
use crate::price::Prices;
use crate::provider::{self, Endpoint, KeyNeed, Provider, Shape, Wishes, anthropic, compatible};
use crate::route::{Deployment, Known, Labels, Own, Place, Pricing, Tariff, Timeouts, Transport};
use crate::secret::{Secrets, Written};
use crate::usage::Usage;
use actix_web::http::Uri;
use actix_web::http::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use address::{fill_names, parse_base, shown_base, with_path};
use naming::{Named, fallback, provider_of};

/// What every model of a file shares.
pub struct Context<'a> {
    pub defaults: &'a file::Defaults,
    pub secrets: &'a Secrets,
    pub mode: Mode,
    pub prices: &'a Prices,
    /// Calls at the same time, where a model does not say.
    pub slots: Option<u32>,
    /// The public names that the file writes out.
    pub names: HashSet<&'a str>,
    /// Ids given so far.
    pub ids: RefCell<HashSet<String>>,
}

/// What became of one written model.
pub struct Resolved {
    /// One, or for `*` -> `*` one for each provider whose key is there.
    pub deployments: Vec<Deployment>,
    pub warnings: Vec<String>,
}

/// Members that a deployment may not set: they are the call itself.
const RESERVED: &[&str] = &["model", "messages", "stream", "stream_options"];

/// Resolves a written model; its first deployment gets the place `index`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn resolve(context: &Context<'_>, model: &file::Model, index: usize) -> Result<Resolved, Vec<String>> {
    let text = |written: &str| plain(written, context.secrets);
    let mut model = model.clone();
    if let Some(name) = Written(model.model.clone()).reference() {
        if context.mode == Mode::Offline {
            return Ok(Resolved { deployments: Vec::new(), warnings: Vec::new() });
        }
        model.model = text(&model.model).ok_or_else(|| vec![format!("model: the variable {name} is not set")])?;
    }
    model.provider = model.provider.and_then(|p| text(&p));
    if model.name.is_empty() || model.name.len() > 256 {
        return Err(vec!["it needs a name of at most 256 characters".to_owned()]);
    }
    if model.name.matches('*').count() > 1 || model.model.matches('*').count() > 1 {
        return Err(vec!["a name holds at most one `*`".to_owned()]);
    }
    if model.model.contains('*') && !model.name.contains('*') {
        return Err(vec![format!(
            "`{}` is a pattern, but the name is none: there is nothing to fill it with",
            model.model
        )]);
    }
    if model.model == "*" && model.provider.is_none() {
        return Ok(every_provider(context, &model, index));
    }
    let mut warnings = Vec::new();
    let deployment = one(context, &model, index, &mut warnings)?;
    Ok(Resolved { deployments: vec![deployment], warnings })
}

/// LiteLLM's `*` -> `*`: any `provider/model`, for the providers whose key is there.
fn every_provider(context: &Context<'_>, model: &file::Model, index: usize) -> Resolved {
    let mut resolved = Resolved { deployments: Vec::new(), warnings: Vec::new() };
    let mut found = false;
    for provider in compatible::PROVIDERS.iter().filter(|p| p.base_url.is_some() && p.key == KeyNeed::Required) {
        // The same models at the same place, under a name of old.
        if provider.name.starts_with("text-completion-") {
            continue;
        }
        if !provider.key_env.iter().any(|name| context.secrets.get(name).is_some()) {
            continue;
        }
        found = true;
        let named = file::Model {
            name: model.name.replacen('*', &format!("{}/*", provider.name), 1),
            model: format!("{}/*", provider.name),
            ..model.clone()
        };
        // What the file says about a provider by name holds for it alone, as for any more specific pattern.
        if named.name != model.name && context.names.contains(named.name.as_str()) {
            continue;
        }
        if let Ok(deployment) = one(context, &named, index + resolved.deployments.len(), &mut resolved.warnings) {
            resolved.deployments.push(deployment);
        }
    }
    if !found && context.mode == Mode::Live {
        resolved.warnings.push(format!("model '{}': no provider's key was found, so it serves nothing", model.name));
    }
    resolved
}

/// All models of the providers whose key is in the environment, whether the file speaks of them or not.
pub fn of_environment(context: &Context<'_>, index: usize) -> Vec<Arc<Deployment>> {
    let mut found: Vec<Arc<Deployment>> = Vec::new();
    for provider in compatible::PROVIDERS.iter().filter(|p| !p.name.starts_with("text-completion-")) {
        let has_place =
            provider.base_url.is_some() || provider.base_env.iter().any(|n| context.secrets.get(n).is_some());
        if !has_place || !provider.key_env.iter().any(|name| context.secrets.get(name).is_some()) {
            continue;
        }
        let all = format!("{}/*", provider.name);
        let model = file::Model { name: all.clone(), model: all, ..file::Model::default() };
        if let Ok(deployment) = one(context, &model, index + found.len(), &mut Vec::new()) {
            found.push(Arc::new(deployment));
        }
    }
    found
}

fn one(
    context: &Context<'_>,
    model: &file::Model,
    index: usize,
    warnings: &mut Vec<String>,
) -> Result<Deployment, Vec<String>> {
    let mut errors = Vec::new();
    let (mock, before) = (mock(model), warnings.len());
    let base = model.api_base.as_deref().map(|written| plain(written, context.secrets));
    let missing_base = matches!(base, Some(None));
    let base = base.flatten();
    let (provider, upstream, mut unserved) = match provider_of(model, base.as_deref()) {
        Ok(Named::Served(provider, upstream)) => (provider, upstream, None),
        Ok(Named::Foreign(name, upstream)) => {
            warnings.push(format!(
                "model '{}': the provider '{name}' is not served yet; calls to it are answered with a 501",
                model.name
            ));
            (
                fallback(),
                upstream,
                Some(Error::new(Kind::NotServed, format!("The provider '{name}' is not served yet."))),
            )
        }
        Err(e) => return Err(vec![e]),
    };
    // A name with a path, or with a `#` for a deployment, is complete.
    let upstream = match upstream.contains(['/', '#']) {
        true => upstream,
        false => format!("{}{upstream}", provider.quirks.model_prefix),
    };
    let (own_base, own_name) = compatible::place(provider, &upstream);
    let upstream = own_name.unwrap_or(upstream);

    let base = base.or_else(|| {
        provider.base_env.iter().find_map(|name| context.secrets.get(name)).map(|s| s.expose_secret().to_owned())
    });
    let mut keys = keys(context, model, provider);
    let mut account = Account { model: upstream.clone(), ..Account::default() };
    let mut base = base;
    if let (Some(cloud), None, Mode::Live) = (provider.quirks.cloud, &unserved, context.mode) {
        match cloud::account(cloud, model, &upstream, base.clone(), std::mem::take(&mut keys), context.secrets) {
            Ok(mut made) => {
                keys = std::mem::take(&mut made.keys);
                base = made.base.take();
                account = made;
            }
            Err(what) => {
                warnings.push(format!("model '{}': {what}", model.name));
                let message = format!("The gateway is not configured for '{}': {what}.", provider.name);
                unserved = Some(Error::new(Kind::Internal, message));
            }
        }
    } else if provider.quirks.cloud.is_some() {
        // Without secrets nothing is known of the account.
        base = base.or_else(|| Some("http://localhost".to_owned()));
    }
    let upstream = std::mem::take(&mut account.model);
    let base = base.map(|base| with_path(base, &provider.quirks));
    let base = match base.or(own_base).or_else(|| provider.base_url.map(str::to_owned)) {
        Some(base) => fill_names(&base, context.secrets),
        None if unserved.is_some() || mock.is_some() => Ok("http://localhost".to_owned()),
        None if context.mode == Mode::Offline && (missing_base || !provider.base_env.is_empty()) => {
            Ok("http://localhost".to_owned())
        }
        None => {
            errors.push(format!("the provider '{}' has no default address; set api_base", provider.name));
            return Err(errors);
        }
    };
    // What a provider that is not served makes of its address is not known here.
    let base = match unserved {
        Some(_) => base.map(|base| if parse_base(&base, None).is_ok() { base } else { "http://localhost".to_owned() }),
        None => base,
    };
    let base = base.unwrap_or_else(|name| {
        if context.mode == Mode::Live {
            warnings.push(format!(
                "model '{}': set {name}, which is part of the address of '{}'",
                model.name, provider.name
            ));
            unserved.get_or_insert(Error::new(
                Kind::Internal,
                format!("The gateway is not configured for '{}': {name} is not set.", provider.name),
            ));
        }
        "http://localhost".to_owned()
    });
    let dialect = provider.dialect(&upstream);
    let parsed = parse_base(&base, dialect.path.pasted(dialect.language).as_deref());
    let (socket, place, calls) = match parsed.and_then(|(socket, base)| {
        let Account { path, auth, ref query, .. } = account;
        let place = Place { base, path, auth, query: query.clone() };
        let calls = place.url(dialect, Endpoint::Call, &upstream).parse::<Uri>();
        Ok((socket, place, calls.map_err(|_| "it is not a URL".to_owned())?))
    }) {
        Ok(parsed) => parsed,
        Err(e) => {
            errors.push(format!("api_base: {e}"));
            return Err(errors);
        }
    };

    let has_key = !keys.is_empty() || account.credential.is_some();
    if !has_key && needs_key(model, provider) && unserved.is_none() && context.mode == Mode::Live {
        let cure = key_cure(model, provider);
        warnings.push(format!("model '{}': no key for the provider '{}': {cure}", model.name, provider.name));
        let why = Error::new(
            Kind::Unauthorized,
            format!("The gateway has no key for the provider '{}' (your own key is fine): {cure}.", provider.name),
        );
        unserved = Some(why.with_type("authentication_error"));
    }

    if mock.is_some() {
        // It is never dialled: nothing has to be known of the provider.
        unserved = None;
        warnings.truncate(before);
    }

    let headers = headers(context, model, &mut errors);
    let mut bodies =
        |section: &str, map: &std::collections::BTreeMap<String, file::Json>| -> Vec<(String, Box<[u8]>)> {
            for name in map.keys().filter(|name| RESERVED.contains(&name.as_str()) || name.contains(['"', '\\'])) {
                errors.push(format!("{section}.{name}: this member belongs to the call and cannot be set here"));
            }
            map.iter()
                .filter_map(|(name, value)| {
                    let json = without_references(value, context)?;
                    Some((name.clone(), json.to_string().into_bytes().into()))
                })
                .collect()
        };
    let wishes = Wishes {
        drop_params: model.drop_params.or(context.defaults.drop_params).unwrap_or(false),
        additional_drop_params: model.additional_drop_params.clone(),
        allowed_openai_params: model.allowed_openai_params.clone(),
        params: bodies("params", &model.params),
        extra_body: bodies("extra_body", &model.extra_body).into_iter().chain(account.body).collect(),
    };
    // What an upstream may echo: its keys, and the headers that the operator adds.
    let added = model.extra_headers.values().filter_map(|written| look_up(written, context.secrets));
    let bare = |key: &SecretString| {
        let key = key.expose_secret();
        SecretString::from(key.strip_prefix(anthropic::BEARER).unwrap_or(key))
    };
    let known = std::mem::take(&mut account.secrets);
    let secrets: Vec<SecretString> = keys.iter().map(bare).chain(added).chain(known).collect();
    let ca_file = model.ca_file.clone();
    if let Some(path) = &ca_file
        && context.mode == Mode::Live
        && let Err(e) = crate::upstream::tls::check_ca(path)
    {
        errors.push(format!("ca_file: {e}"));
    }
    if !errors.is_empty() {
        return Err(errors);
    }

    let pricing = match pricing(context.prices, model, provider, &upstream) {
        Ok((pricing, slips)) => {
            let slip =
                |name| format!("model '{}': info.{name} looks like a price, but is none that is charged", model.name);
            warnings.extend(slips.into_iter().map(slip));
            pricing
        }
        Err(e) => return Err(vec![format!("info: {e}")]),
    };
    let timeout = |own: Option<file::Duration>, shared: Option<file::Duration>| {
        own.or(shared).map(|d| d.0).filter(|d| !d.is_zero())
    };
    let whole = timeout(model.timeout, context.defaults.timeout).unwrap_or(Duration::from_secs(600));
    let api_base = shown_base(&base);
    let id = match &model.id {
        Some(id) if !context.ids.borrow_mut().insert(id.clone()) => {
            return Err(vec![format!("the id `{id}` is used twice")]);
        }
        Some(id) => id.clone(),
        None => stable_id(context, &[&model.name, provider.name, &upstream, &api_base]),
    };
    let own = own(model, context)?;
    let mut digest = [0; 8];
    digest.copy_from_slice(&Sha256::digest(&id)[..8]);
    let (window, price_of_two) = match &pricing {
        Pricing::Fixed(known) => {
            let usage = Usage { prompt_tokens: 1000, completion_tokens: 1000, ..Usage::default() };
            let price = Tariff::new(known.clone()).cost(&usage).map(|nanos| nanos as f64 / 1e12);
            (known.facts.max_input_tokens, price)
        }
        Pricing::ByName { .. } => (None, None),
    };
    let mode = model.info.get("mode").and_then(serde_json::Value::as_str);
    let at_home = provider.base_url.is_some_and(|home| home == base.trim_end_matches('/'));
    let makes_responses = provider::endpoints::makes_responses(provider, at_home, mode, &upstream);
    let label = |text: &str| HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("-"));
    Ok(Deployment {
        index,
        labels: Labels {
            id: label(&id),
            group: label(&model.name),
            api_base: label(&api_base),
            region: own.region.as_deref().map(label),
        },
        info: info(model, provider, &upstream, &api_base),
        transport: Transport {
            tls: calls.scheme_str() == Some("https"),
            socket,
            ca_file,
            connect_timeout: timeout(model.connect_timeout, context.defaults.connect_timeout)
                .unwrap_or(Duration::from_secs(5)),
        },
        timeouts: Timeouts {
            whole,
            silence: timeout(model.stream_timeout, context.defaults.stream_timeout).unwrap_or(whole),
        },
        shape: Shape::new(provider, account.kind.as_deref().unwrap_or(&upstream), wishes),
        id,
        origin: Arc::new(Origin::new(provider.name, secrets)),
        name: model.name.clone(),
        provider,
        model: upstream,
        api_base,
        calls,
        place,
        keys,
        next_key: AtomicUsize::new(0),
        own,
        pulse: Arc::default(),
        hash: u64::from_le_bytes(digest),
        window,
        price_of_two,
        credential: account.credential,
        headers,
        mock,
        unserved,
        makes_responses,
        pricing,
        unpriced: AtomicBool::new(false),
    })
}

/// What answers in the place of the upstream, if anything is to.
fn mock(model: &file::Model) -> Option<Arc<Mock>> {
    let outcome = match (model.mock_timeout, &model.mock_response) {
        (true, _) => Outcome::Silence,
        (false, Some(text)) => Outcome::written(text, model.mock_tool_calls.clone()),
        (false, None) if !model.mock_tool_calls.is_empty() => Outcome::written("", model.mock_tool_calls.clone()),
        (false, None) => return None,
    };
    let delay = model.mock_delay.map_or(Duration::ZERO, |delay| delay.0);
    Some(Arc::new(Mock { outcome, delay }))
}

/// What a deployment says of its own share.
fn own(model: &file::Model, context: &Context<'_>) -> Result<Own, Vec<String>> {
    let mut errors = Vec::new();
    if model.weight.is_some_and(|weight| !weight.is_finite() || weight < 0.0) {
        errors.push("weight: it must be a number from 0 on".to_owned());
    }
    if model.max_parallel_requests == Some(0) {
        errors.push("max_parallel_requests: 0 would serve nothing; take the model out instead".to_owned());
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    // LiteLLM falls back on the rates for a number of slots; a rate that is only a weight is no reason to refuse.
    let slots = model.max_parallel_requests.or(context.slots);
    Ok(Own {
        weight: model.weight,
        order: model.order.unwrap_or(0),
        rpm: model.rpm,
        tpm: model.tpm,
        slots,
        tags: model.tags.clone(),
        retries: model.num_retries,
        cooldown: model.cooldown_time.map(|d| d.0),
        region: model.region.as_ref().or(model.cloud.region.as_ref()).and_then(|region| plain(region, context.secrets)),
    })
}

/// The price by what the tables and the operator say, and the names in `info` that are no prices and look like some.
///
/// # Errors
/// A price is not one.
fn pricing(
    prices: &Prices,
    model: &file::Model,
    provider: &'static Provider,
    upstream: &str,
) -> Result<(Pricing, Vec<String>), String> {
    let own: serde_json::Map<_, _> = model.info.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let slips = crate::price::not_charged(&own);
    // A name of the operator's own may stand for a model that is in the tables.
    let base = own.get("base_model").and_then(|name| name.as_str());
    let listed = match base.map(|name| name.split_once('/').filter(|(prefix, _)| compatible::find(prefix).is_some())) {
        Some(Some((prefix, model))) => (prefix, model),
        Some(None) => (provider.name, base.unwrap_or(upstream)),
        None => (provider.name, upstream),
    };
    let known = Known::find(prices, listed.0, listed.1, &own)?;
    let pricing = match upstream.contains('*') && base.is_none() {
        true => Pricing::ByName { prices: prices.clone(), provider: provider.name, own },
        false => Pricing::Fixed(Arc::new(known)),
    };
    Ok((pricing, slips))
}

/// A text that may be a reference to something that is no secret.
fn plain(written: &str, secrets: &Secrets) -> Option<String> {
    look_up(&Written(written.to_owned()), secrets).map(|s| s.expose_secret().to_owned())
}

fn keys(context: &Context<'_>, model: &file::Model, provider: &Provider) -> Vec<SecretString> {
    let written: Vec<&Written> = match &model.api_key {
        Some(file::OneOrMany::One(key)) => vec![key],
        Some(file::OneOrMany::Many(keys)) => keys.iter().collect(),
        None => {
            let found = provider.key_env.iter().find_map(|name| Some((name, context.secrets.get(name)?)));
            return found
                .map(|(name, key)| match *name {
                    "ANTHROPIC_AUTH_TOKEN" => {
                        SecretString::from(format!("{}{}", anthropic::BEARER, key.expose_secret()))
                    }
                    _ => key,
                })
                .into_iter()
                .collect();
        }
    };
    written.into_iter().filter_map(|key| look_up(key, context.secrets)).collect()
}

/// JSON with its references looked up; what refers to nothing is left out.
fn without_references(value: &file::Json, context: &Context<'_>) -> Option<file::Json> {
    Some(match value {
        file::Json::String(text) => match Written(text.clone()).reference() {
            Some(name) if context.mode == Mode::Live => context.secrets.get(name)?.expose_secret().into(),
            _ => value.clone(),
        },
        file::Json::Array(items) => items.iter().filter_map(|item| without_references(item, context)).collect(),
        file::Json::Object(members) => {
            let members = members.iter();
            members.filter_map(|(name, value)| Some((name.clone(), without_references(value, context)?))).collect()
        }
        other => other.clone(),
    })
}

/// A server of one's own may need no key, whoever's API it speaks.
fn needs_key(model: &file::Model, provider: &Provider) -> bool {
    model.api_key.is_some() || (provider.key == KeyNeed::Required && model.api_base.is_none())
}

fn key_cure(model: &file::Model, provider: &Provider) -> String {
    let names: Vec<&str> = match &model.api_key {
        Some(file::OneOrMany::One(key)) => key.reference().into_iter().collect(),
        Some(file::OneOrMany::Many(keys)) => keys.iter().filter_map(Written::reference).collect(),
        None => provider.key_env.to_vec(),
    };
    if names.is_empty() {
        "set api_key".to_owned()
    } else {
        format!("set {} in the env file or the environment", names.join(" or "))
    }
}

fn headers(context: &Context<'_>, model: &file::Model, errors: &mut Vec<String>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    if let Some(organization) = model.organization.as_deref().and_then(|o| plain(o, context.secrets))
        && let Ok(value) = HeaderValue::from_str(&organization)
    {
        headers.push((HeaderName::from_static("openai-organization"), value));
    }
    for (name, written) in &model.extra_headers {
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            errors.push(format!("extra_headers.{name}: not a header name"));
            continue;
        };
        let Some(value) = look_up(written, context.secrets) else { continue };
        match HeaderValue::from_str(value.expose_secret()) {
            Ok(mut value) => {
                value.set_sensitive(true);
                headers.retain(|(known, _)| *known != header);
                headers.push((header, value));
            }
            Err(_) => errors.push(format!("extra_headers.{name}: its value cannot stand in a header")),
        }
    }
    headers
}

/// The same for the same upstream across restarts; secrets are no part of it.
fn stable_id(context: &Context<'_>, parts: &[&str]) -> String {
    let mut ordinal: u32 = 0;
    loop {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        // Deployments that differ in their key alone are told apart by their order.
        hash.update(ordinal.to_le_bytes());
        let id: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        if context.ids.borrow_mut().insert(id.clone()) {
            return id;
        }
        ordinal += 1;
    }
}

fn info(
    model: &file::Model,
    provider: &Provider,
    upstream: &str,
    base: &str,
) -> serde_json::Map<String, serde_json::Value> {
    let mut params = serde_json::Map::new();
    params.insert("model".into(), format!("{}/{upstream}", provider.name).into());
    params.insert("custom_llm_provider".into(), provider.name.into());
    params.insert("api_base".into(), base.into());
    for (name, value) in &model.params {
        params.insert(name.clone(), value.clone());
    }
    if let Some(text) = &model.mock_response {
        params.insert("mock_response".into(), text.clone().into());
    }
    let mut facts = serde_json::Map::new();
    facts.insert("mode".into(), "chat".into());
    facts.extend(model.info.iter().map(|(name, value)| (name.clone(), value.clone())));
    let mut info = serde_json::Map::new();
    info.insert("litellm_params".into(), params.into());
    info.insert("model_info".into(), facts.into());
    info
}
