//! The body of a chat completion, made into one of Converse.

use super::NAMES;
use super::model::Family;
use super::parts::{Prompt, cache_point};
use crate::error::Result;
use crate::provider::Facts;
use crate::provider::anthropic::Plan;
use crate::provider::hub::{
    Ask, Choice, Context, Effort, Format, JSON_TOOL, Tool, Tools, Wish, instruction, turns, written,
};
use serde_json::{Map, Value, json};

/// Members that are Bedrock's own and go on as they are.
const NATIVE: &[&str] = &[
    "guardrailConfig",
    "performanceConfig",
    "requestMetadata",
    "promptVariables",
    "additionalModelResponseFieldPaths",
    "serviceTier",
];

/// Makes the request that means the same. The model stands in the path.
///
/// # Errors
/// A 400 that names what Bedrock does not take.
pub fn request(chat: &[u8], facts: &Facts<'_>) -> Result<(Vec<u8>, Context)> {
    let mut ask = Ask::read(chat, facts)?;
    let family = Family::of(facts.model);
    let mut tools = ask.tools(NAMES)?;
    tools.only_functions(facts.provider)?;
    let turns = turns(&mut ask, &tools.names)?;
    let mut prompt = Prompt::read(&turns, family, facts)?;
    let mut body = Map::new();
    let mut fields = match ask.take("additionalModelRequestFields") {
        Value::Object(own) => own,
        _ => Map::new(),
    };
    let mut config = Map::new();
    let mut instructions = Vec::new();

    let mut plan = thinking(&mut ask, family, &mut fields)?;
    if plan.is_on() && prompt.lost_its_thinking {
        plan = off(family);
    }
    let json_tool = output(&mut ask, family, &plan, &mut tools, &mut body, &mut instructions)?;
    if tools.is_forced() {
        if !family.is_forceable() {
            instructions.extend(tools.instruction());
            tools.choice = Some(Choice::Auto);
        } else if plan.has_budget() {
            // The caller wants the call; the thinking is only a way to it.
            plan = off(family);
        }
    }
    if let Some(limit) = limit(&mut ask, family, &mut plan, facts)? {
        config.insert("maxTokens".to_owned(), limit.into());
    }
    sampling(&mut ask, family, &plan, &mut config, &mut fields)?;
    let stops = ask.stops()?;
    if !stops.is_empty() {
        config.insert("stopSequences".to_owned(), stops.into());
    }
    if let Some(thinking) = plan.thinking {
        fields.insert("thinking".to_owned(), thinking);
    }
    if let Some(effort) = plan.effort {
        fields.insert("output_config".to_owned(), json!({"effort": effort}));
    }
    let betas = ask.take("anthropic_beta");
    if !betas.is_null() {
        fields.insert("anthropic_beta".to_owned(), betas);
    }

    if let Some(told) = tool_config(&tools, &prompt, family, &mut instructions) {
        body.insert("toolConfig".to_owned(), told);
    }
    prompt.system.extend(instructions.into_iter().map(|text| json!({"text": text})));
    body.insert("messages".to_owned(), prompt.messages());
    if !prompt.system.is_empty() {
        body.insert("system".to_owned(), prompt.system.into());
    }
    for (name, members) in [("inferenceConfig", config), ("additionalModelRequestFields", fields)] {
        if !members.is_empty() {
            body.insert(name.to_owned(), members.into());
        }
    }
    match ask.take("service_tier").as_str() {
        Some(tier @ ("priority" | "flex" | "reserved")) => {
            _ = body.insert("serviceTier".to_owned(), json!({"type": tier}))
        }
        None | Some("auto" | "default") => (),
        Some(_) => ask.refuse("service_tier", " with this value")?,
    }
    ask.finish(NATIVE, &mut body)?;
    let Tools { one_call, legacy, names, .. } = tools;
    let context = Context {
        provider: facts.provider,
        id: facts.id.to_owned(),
        created: facts.created,
        model: facts.model.to_owned(),
        names,
        json_tool,
        legacy_functions: legacy,
        one_call,
    };
    Ok((written(&body, facts.provider)?, context))
}

fn off(family: Family) -> Plan {
    match family {
        Family::Claude(traits) => Plan::off(traits),
        _ => Plan::default(),
    }
}

/// What the family takes about thinking: Claude's has a plan, the others a member of their own.
fn thinking(ask: &mut Ask<'_>, family: Family, fields: &mut Map<String, Value>) -> Result<Plan> {
    if let Family::Claude(traits) = family {
        let effort = ask.take("reasoning_effort");
        let native = Some(ask.take("thinking")).filter(Value::is_object);
        return match Plan::read(&effort, native, traits)? {
            Some(plan) => Ok(plan),
            None => {
                ask.refuse("reasoning_effort", " for this model, which does not think")?;
                Ok(Plan::default())
            }
        };
    }
    let effort = match ask.thinking()? {
        None | Some(Wish::Off) => return Ok(Plan::default()),
        Some(Wish::Free) => Effort::Medium,
        Some(Wish::Effort(effort)) => effort,
        Some(Wish::Budget(budget)) => Effort::of_budget(budget),
    };
    let word = match effort {
        Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High | Effort::Xhigh | Effort::Max => "high",
    };
    match family {
        Family::Nova if ask.facts.model.contains("nova-2") => {
            let config = json!({"type": "enabled", "maxReasoningEffort": word});
            fields.insert("reasoningConfig".to_owned(), config);
        }
        Family::GptOss => _ = fields.insert("reasoning_effort".to_owned(), word.into()),
        _ => ask.refuse("reasoning_effort", " for this model, which cannot be told how to think")?,
    }
    Ok(Plan::default())
}

/// `response_format`: by the model's own means, else by a forced tool, else by asking for it. True where the tool is the
/// answer.
fn output(
    ask: &mut Ask<'_>,
    family: Family,
    plan: &Plan,
    tools: &mut Tools,
    body: &mut Map<String, Value>,
    instructions: &mut Vec<String>,
) -> Result<bool> {
    let (name, schema) = match ask.format()? {
        Format::Text => return Ok(false),
        Format::Json => {
            instructions.push(instruction(None));
            return Ok(false);
        }
        Format::Schema { name, schema, .. } => (name, schema),
    };
    if family.is_structured() {
        let told = json!({"name": name, "schema": schema.to_string()});
        body.insert(
            "outputConfig".to_owned(),
            json!({"textFormat": {"type": "json_schema", "structure": {"jsonSchema": told}}}),
        );
        return Ok(false);
    }
    let is_object = schema["type"] == "object";
    let may_force = family.is_forceable() && !plan.has_budget() && !tools.legacy && is_object;
    if !may_force || tools.is_forced() {
        instructions.push(instruction(Some(&schema)));
        return Ok(false);
    }
    let alone = tools.list.is_empty() || tools.choice == Some(Choice::None);
    tools.list.push(Tool {
        name: JSON_TOOL.to_owned(),
        description: Some("Gives the final answer to the user. Its input is the whole answer.".to_owned()),
        parameters: Some(schema),
        strict: false,
        marked: false,
    });
    tools.choice = Some(if alone { Choice::Named(JSON_TOOL.to_owned()) } else { Choice::Required });
    Ok(true)
}

fn limit(ask: &mut Ask<'_>, family: Family, plan: &mut Plan, facts: &Facts<'_>) -> Result<Option<u64>> {
    let given = ask.max_tokens()?;
    let Family::Claude(traits) = family else { return Ok(given) };
    // A budget has to fit below the limit, so that there must be one.
    match given.or(plan.has_budget().then(|| facts.max_output.unwrap_or(4096))) {
        Some(wanted) => Ok(Some(plan.fit(wanted, facts.max_output, traits))),
        None => Ok(None),
    }
}

fn sampling(
    ask: &mut Ask<'_>,
    family: Family,
    plan: &Plan,
    config: &mut Map<String, Value>,
    fields: &mut Map<String, Value>,
) -> Result<()> {
    let (never, why) = match family {
        Family::Claude(traits) if !traits.sampling => (true, " for this model"),
        Family::Claude(_) if plan.is_on() => (true, " while it thinks"),
        _ => (false, ""),
    };
    for (from, to) in [("temperature", "temperature"), ("top_p", "topP")] {
        let Some(number) = ask.number(from)? else { continue };
        let both = from == "top_p" && config.contains_key("temperature");
        let exclusive = matches!(family, Family::Claude(traits) if !traits.temperature_and_top_p);
        if number.as_f64() == Some(1.0) && (never || from == "top_p") {
            continue;
        } else if never {
            ask.refuse(from, why)?;
        } else if both && exclusive {
            ask.refuse(from, " together with 'temperature' for this model")?;
        } else {
            config.insert(to.to_owned(), number);
        }
    }
    let Some(top_k) = ask.number("top_k")? else { return Ok(()) };
    match family {
        Family::Claude(_) if never => ask.refuse("top_k", why),
        Family::Claude(_) => {
            fields.insert("top_k".to_owned(), top_k);
            Ok(())
        }
        Family::Nova => {
            fields.insert("inferenceConfig".to_owned(), json!({"topK": top_k}));
            Ok(())
        }
        _ => ask.refuse("top_k", " for this model"),
    }
}

fn tool_config(tools: &Tools, prompt: &Prompt, family: Family, instructions: &mut Vec<String>) -> Option<Value> {
    let mut list: Vec<Value> = Vec::new();
    let wanted = tools.choice != Some(Choice::None);
    if wanted || prompt.uses_tools {
        for tool in &tools.list {
            list.push(spec(tool));
            if tool.marked && family.caches() {
                list.push(cache_point(false));
            }
        }
    }
    if list.is_empty() && prompt.uses_tools {
        // Calls in the history of a request without tools are refused.
        list.push(json!({"toolSpec": {
            "name": "unavailable_tool",
            "description": "Not available. Never call it.",
            "inputSchema": {"json": {"type": "object", "properties": {}}},
        }}));
        instructions.push("Answer with text; call no tool.".to_owned());
    } else if !wanted && !list.is_empty() {
        instructions.push("Answer with text; call no tool.".to_owned());
    }
    if list.is_empty() {
        return None;
    }
    let mut told = json!({"tools": list});
    match &tools.choice {
        Some(Choice::Required) => told["toolChoice"] = json!({"any": {}}),
        Some(Choice::Named(name)) => told["toolChoice"] = json!({"tool": {"name": name}}),
        Some(Choice::Auto) => told["toolChoice"] = json!({"auto": {}}),
        Some(Choice::None) | None => (),
    }
    Some(told)
}

fn spec(tool: &Tool) -> Value {
    let mut schema = tool.parameters.clone().unwrap_or_else(|| json!({"properties": {}}));
    schema["type"] = "object".into();
    // A tool without a description is refused.
    let description = tool.description.as_deref().unwrap_or(&tool.name);
    json!({"toolSpec": {"name": tool.name, "description": description, "inputSchema": {"json": schema}}})
}
