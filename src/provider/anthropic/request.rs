//! The body of a chat completion, made into one of the Messages API.

use super::betas::{self, Betas};
use super::messages::{self, Prompt, Turn};
use super::model::Traits;
use super::thinking::Plan;
use super::tools::{self, Choice};
use super::{Context, Facts, Foreign, JSON_TOOL, NAMES, ToolNames, content, schema};
use crate::error::Error;
use crate::provider::hub;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// `max_tokens` where neither the caller nor the model's limit says one.
const DEFAULT_MAX_TOKENS: u64 = 4096;

/// Members that are Anthropic's own and go on as they are.
const NATIVE: &[&str] = &[
    "mcp_servers",
    "container",
    "context_management",
    "output_format",
    "speed",
    "inference_geo",
    "cache_control",
    "stream",
];

/// Members that change nothing about the answer: hints for a cache, labels, and what the gateway itself sees to.
const HINTS: &[&str] = &["stream_options", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"];

#[derive(Serialize)]
struct Body {
    #[serde(flatten)]
    members: Map<String, Value>,
    messages: Vec<Turn>,
}

/// Makes the Messages request that means the same as a checked chat completion (members that are the gateway's alone
/// have left it; `model` is the upstream's name).
///
/// # Errors
/// A 400 that names what cannot be said to Anthropic; under `drop_params` only for what cannot be left out either.
pub fn request(hub: &[u8], facts: &Facts<'_>) -> Result<Foreign, Error> {
    let hub = serde_json::from_slice(hub)
        .map_err(|fault| Error::invalid(format!("The request body cannot be translated for Anthropic: {fault}.")))?;
    let Value::Object(mut hub) = hub else {
        return Err(Error::invalid("The request body must be a JSON object."));
    };
    hub.retain(|_, value| !value.is_null());
    let names = ToolNames::new(NAMES, tools::all_names(&hub).into_iter());
    let traits = Traits::of(facts.model);
    let making = Making {
        hub,
        drop_params: facts.drop_params,
        traits,
        betas: Betas::default(),
        members: Map::new(),
        context: Context { names, ..Context::default() },
        one_call: false,
    };
    making.make(facts)
}

/// A request half-way.
struct Making {
    /// What is left of the caller's body.
    hub: Map<String, Value>,
    drop_params: bool,
    traits: Traits,
    betas: Betas,
    members: Map<String, Value>,
    context: Context,
    /// Several calls at once are forbidden in Anthropic's own words.
    one_call: bool,
}

impl Making {
    fn make(mut self, facts: &Facts<'_>) -> Result<Foreign, Error> {
        let model = self.hub.remove("model").unwrap_or_else(|| facts.model.into());
        self.members.insert("model".to_owned(), model);

        let messages = self.array("messages")?.unwrap_or_default();
        let setting = messages::Setting { names: &self.context.names, mid_system: self.traits.mid_system };
        let mut prompt = Prompt::read(messages, &setting, &mut self.betas)?;

        let mut plan = self.thinking()?;
        if plan.is_on() && !self.traits.always_thinks && prompt.lost_its_thinking() {
            plan = Plan::off(self.traits);
        }
        let (mut tools, mut choice) = self.tools()?;
        let mut instructions = Vec::new();
        let mut output = self.output(&plan, &mut tools, &mut choice, &mut instructions)?;
        if let Some(forced) = choice.as_ref().filter(|choice| choice.is_forced()) {
            if !self.traits.forced_tool {
                instructions.extend(forced.instruction());
                choice = Some(Choice::Auto);
            } else if plan.has_budget() {
                // The caller wants the call; the thinking is only a way to it.
                plan = Plan::off(self.traits);
            }
        }
        if tools.is_empty() && prompt.uses_tools() {
            tools.push(tools::placeholder());
            choice = Some(Choice::None);
        }

        let max_tokens = self.max_tokens(facts.max_output, &mut plan)?;
        self.members.insert("max_tokens".to_owned(), max_tokens.into());
        if let (Some(effort), None) = (plan.effort, output.get("effort")) {
            output.insert("effort".to_owned(), effort.into());
        }
        if !output.is_empty() {
            self.members.insert("output_config".to_owned(), output.into());
        }
        self.sampling(&plan)?;
        if let Some(thinking) = plan.thinking {
            self.members.insert("thinking".to_owned(), thinking);
        }

        // Behind all other texts, so that a cached beginning stays what it was.
        prompt.system.extend(instructions.into_iter().map(content::text_block));
        if !prompt.system.is_empty() {
            self.members.insert("system".to_owned(), prompt.system.into());
        }
        self.write_tools(tools, choice)?;
        self.stops()?;
        self.user();
        self.service_tier()?;
        self.others()?;

        let body = Body { members: self.members, messages: prompt.turns };
        let body = serde_json::to_vec(&body).map_err(|fault| {
            Error::new(
                crate::error::Kind::Internal,
                format!("The request for Anthropic could not be written: {fault}."),
            )
        })?;
        let betas = self.betas.finish(&body);
        Ok(Foreign { body, betas, context: self.context })
    }

    fn take(&mut self, name: &str) -> Value {
        self.hub.remove(name).unwrap_or_default()
    }

    fn array(&mut self, name: &str) -> Result<Option<Vec<Value>>, Error> {
        match self.take(name) {
            Value::Array(list) => Ok(Some(list)),
            Value::Null => Ok(None),
            _ => Err(Error::invalid(format!("'{name}' must be an array.")).at_param(name)),
        }
    }

    fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, Error> {
        match self.take(name) {
            Value::Object(object) => Ok(Some(object)),
            Value::Null => Ok(None),
            _ => Err(Error::invalid(format!("'{name}' must be an object.")).at_param(name)),
        }
    }

    /// What has no twin: left out if the operator or the caller says so, else refused.
    fn refuse(&self, name: &str, why: &str) -> Result<(), Error> {
        if self.drop_params {
            return Ok(());
        }
        let message = format!(
            "Anthropic does not take the parameter '{name}'{why}. Leave it out, or set drop_params to have it dropped."
        );
        Err(Error::invalid(message).at_param(name))
    }

    fn thinking(&mut self) -> Result<Plan, Error> {
        let effort = self.take("reasoning_effort");
        let native = self.object("thinking")?.map(Value::Object);
        match Plan::read(&effort, native, self.traits)? {
            Some(plan) => Ok(plan),
            None => {
                self.refuse("reasoning_effort", " for this model, which does not think")?;
                Ok(Plan::default())
            }
        }
    }

    fn tools(&mut self) -> Result<(Vec<Value>, Option<Choice>), Error> {
        let (tools, functions) = (self.array("tools")?, self.array("functions")?);
        let (choice, function_call) = (self.take("tool_choice"), self.take("function_call"));
        let search = self.object("web_search_options")?;
        let setting = tools::Setting { names: &self.context.names, traits: self.traits };
        let mut list = tools::tools(tools.unwrap_or_default(), &setting, &mut self.betas)?;
        let mut legacy = false;
        if let Some(functions) = functions.filter(|functions| !functions.is_empty()) {
            legacy = list.is_empty();
            list.extend(tools::functions(functions, &setting)?);
        }
        let chosen = match tools::choice(&choice, &mut list, &self.context.names)? {
            Some(choice) => Some(choice),
            None => tools::function_call(&function_call, &self.context.names)?,
        };
        // Behind the choice, which may take tools away, but not this one.
        if let Some(search) = search {
            list.push(tools::web_search(&search.into()));
        }
        if let (true, Some(forced)) = (list.is_empty(), &chosen)
            && forced.is_forced()
        {
            let message = "'tool_choice' demands a call, and there are no 'tools' to call.";
            return Err(Error::invalid(message).at_param("tool_choice"));
        }
        self.one_call = choice["disable_parallel_tool_use"] == true;
        self.context.legacy_functions = legacy;
        Ok((list, chosen))
    }

    /// `response_format`: by the model's own means, else by a forced tool, else by asking for it. What is returned is
    /// the caller's `output_config` with the format in it.
    fn output(
        &mut self,
        plan: &Plan,
        tools: &mut Vec<Value>,
        choice: &mut Option<Choice>,
        instructions: &mut Vec<String>,
    ) -> Result<Map<String, Value>, Error> {
        let mut output = self.object("output_config")?.unwrap_or_default();
        if output.contains_key("effort") && self.traits.effort_is_beta {
            self.betas.add(betas::EFFORT);
        }
        let format = self.take("response_format");
        let schema = match format["type"].as_str() {
            Some("json_schema") => {
                let schema = [&format["json_schema"]["schema"], &format["schema"]].into_iter().find(|s| s.is_object());
                schema.cloned()
            }
            // A schema here is an extension of LiteLLM's.
            Some("json_object") => Some(format["response_schema"].clone()).filter(Value::is_object),
            Some("text") => return Ok(output),
            None if format.is_null() => return Ok(output),
            _ => {
                let message = "'response_format.type' must be 'text', 'json_object' or 'json_schema'.";
                return Err(Error::invalid(message).at_param("response_format.type"));
            }
        };
        let Some(schema) = schema else {
            instructions.push(hub::instruction(None));
            return Ok(output);
        };
        if let Some(strict) = schema::strict(&schema).filter(|_| self.traits.structured) {
            output.insert("format".to_owned(), json!({"type": "json_schema", "schema": strict}));
            return Ok(output);
        }
        let taken = tools.iter().any(|tool| tool["name"] == JSON_TOOL);
        let may_force = self.traits.forced_tool && !plan.has_budget() && !self.context.legacy_functions && !taken;
        match choice {
            // A call is demanded anyway, and its input has a schema of its own.
            Some(Choice::Named(_) | Choice::Any) => (),
            _ if !may_force => instructions.push(hub::instruction(Some(&schema))),
            _ => {
                let alone = tools.is_empty() || *choice == Some(Choice::None);
                tools.push(tools::json_tool(&schema));
                *choice = Some(if alone { Choice::Named(JSON_TOOL.to_owned()) } else { Choice::Any });
                self.context.json_tool = true;
            }
        }
        Ok(output)
    }

    fn max_tokens(&mut self, limit: Option<u64>, plan: &mut Plan) -> Result<u64, Error> {
        let mut given = None;
        for name in ["max_completion_tokens", "max_tokens"] {
            let value = self.take(name);
            if value.is_null() {
                continue;
            }
            let whole =
                value.as_u64().or_else(|| value.as_f64().filter(|n| n.fract() == 0.0 && *n >= 0.0).map(|n| n as u64));
            let Some(number) = whole else {
                return Err(Error::invalid(format!("'{name}' must be a whole number.")).at_param(name));
            };
            given = given.or(Some(number));
        }
        let wanted = given.or(limit).unwrap_or(DEFAULT_MAX_TOKENS);
        Ok(plan.fit(wanted, limit, self.traits))
    }

    /// `temperature`, `top_p` and `top_k`: 0 to 1, refused by newer models, and bound by thinking.
    fn sampling(&mut self, plan: &Plan) -> Result<(), Error> {
        let why = match (self.traits.sampling, plan.is_on()) {
            (false, _) => " for this model",
            (true, true) => " while it thinks",
            (true, false) => "",
        };
        let mut has_temperature = false;
        for name in ["temperature", "top_p", "top_k"] {
            let value = self.take(name);
            let Some(number) = value.as_f64() else {
                if !value.is_null() {
                    return Err(Error::invalid(format!("'{name}' must be a number.")).at_param(name));
                }
                continue;
            };
            let is_default = name != "top_k" && number == 1.0;
            let near_one = name == "top_p" && number >= 0.95 && self.traits.sampling;
            if is_default && (!why.is_empty() || name == "top_p") {
                continue;
            } else if !why.is_empty() && !near_one {
                self.refuse(name, why)?;
            } else if name != "top_k" && !(0.0..=1.0).contains(&number) {
                self.refuse(name, " with a value outside of 0 to 1")?;
            } else if name == "top_p" && has_temperature && !self.traits.temperature_and_top_p {
                self.refuse(name, " together with 'temperature' for this model")?;
            } else {
                has_temperature |= name == "temperature";
                self.members.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }

    fn write_tools(&mut self, tools: Vec<Value>, choice: Option<Choice>) -> Result<(), Error> {
        let parallel = self.take("parallel_tool_calls");
        if tools.is_empty() {
            return Ok(());
        }
        // An older client has room for one call, and an answer in JSON is one.
        let alone = matches!(&choice, Some(Choice::Named(name)) if name == JSON_TOOL);
        let one = parallel == false || self.one_call || self.context.legacy_functions || alone;
        self.members.insert("tools".to_owned(), tools.into());
        if choice.is_some() || one {
            self.members.insert("tool_choice".to_owned(), choice.unwrap_or(Choice::Auto).written(one));
        }
        Ok(())
    }

    /// Anthropic refuses blank stop sequences.
    fn stops(&mut self) -> Result<(), Error> {
        let mut stops: Vec<Value> = Vec::new();
        for name in ["stop", "stop_sequences"] {
            match self.take(name) {
                Value::Null => (),
                stop @ Value::String(_) => stops.push(stop),
                Value::Array(list) if list.iter().all(Value::is_string) => stops.extend(list),
                _ => {
                    return Err(
                        Error::invalid(format!("'{name}' must be a string, or an array of them.")).at_param(name)
                    );
                }
            }
        }
        let given = stops.len();
        stops.retain(|stop| stop.as_str().is_some_and(|stop| !stop.trim().is_empty()));
        if stops.len() < given {
            self.refuse("stop", " with a sequence of blanks only")?;
        }
        if !stops.is_empty() {
            self.members.insert("stop_sequences".to_owned(), stops.into());
        }
        Ok(())
    }

    /// Who the end user is. Anthropic wants an opaque id, so what reads like an address or a number of somebody stays
    /// here.
    fn user(&mut self) {
        let metadata = self.take("metadata");
        let (user, safety) = (self.take("user"), self.take("safety_identifier"));
        let mut ids = [&metadata["user_id"], &user, &safety].into_iter().filter_map(Value::as_str);
        if let Some(id) = ids.find(|id| !id.is_empty() && !is_personal(id)) {
            self.members.insert("metadata".to_owned(), json!({"user_id": id}));
        }
    }

    fn service_tier(&mut self) -> Result<(), Error> {
        let tier = self.take("service_tier");
        let sent = match tier.as_str() {
            None if tier.is_null() => return Ok(()),
            Some("auto" | "priority") => "auto",
            Some("default" | "standard_only") => "standard_only",
            _ => return self.refuse("service_tier", " with this value"),
        };
        self.members.insert("service_tier".to_owned(), sent.into());
        Ok(())
    }

    /// Whatever else was in the body.
    fn others(&mut self) -> Result<(), Error> {
        for (name, value) in std::mem::take(&mut self.hub) {
            if NATIVE.contains(&name.as_str()) {
                self.betas.for_member(&name, &value);
                self.members.insert(name, value);
            } else if !HINTS.contains(&name.as_str()) && !says_nothing(&name, &value) {
                let shown: String = name.chars().take(100).collect();
                self.refuse(&shown, "")?;
            }
        }
        Ok(())
    }
}

/// Whether a value is what Anthropic does anyway.
fn says_nothing(name: &str, value: &Value) -> bool {
    let number = value.as_f64();
    match name {
        "n" => number == Some(1.0),
        "presence_penalty" | "frequency_penalty" | "top_logprobs" => number == Some(0.0),
        "verbosity" => value == "medium",
        "modalities" => *value == json!(["text"]),
        _ => match value {
            Value::Null | Value::Bool(false) => true,
            Value::Object(members) => members.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::String(text) => text.is_empty(),
            Value::Bool(true) | Value::Number(_) => false,
        },
    }
}

/// Whether an id looks like an e-mail address or a telephone number.
fn is_personal(id: &str) -> bool {
    let mail = id.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'));
    let digits = id.bytes().filter(u8::is_ascii_digit).count();
    let phone = id.starts_with('+') || id.contains([' ', '-', '(', '.']);
    let phone = phone && (7..=15).contains(&digits) && id.bytes().all(|b| b.is_ascii_digit() || b"+ -().".contains(&b));
    mail || phone
}
