//! The body of a chat completion, made into one of `generateContent`.

use super::NAMES;
use super::model::Traits;
use super::thinking;
use crate::error::Result;
use crate::provider::Facts;
use crate::provider::hub::{
    Ask, Choice, Context, Format, Media, Medium, Part, Role, Source, Tool, Tools, Turn, Wish, bad, instruction, turns,
    written,
};
use serde_json::{Map, Value, json};

/// Members that are Google's own and go on as they are, by both of their spellings.
const NATIVE: &[&str] = &["safetySettings", "cachedContent", "labels", "serviceTier"];
const SPELT: &[(&str, &str)] =
    &[("safety_settings", "safetySettings"), ("cached_content", "cachedContent"), ("service_tier", "serviceTier")];

/// Tools that Google runs itself, by their names on the wire.
const HOSTED: &[&str] = &[
    "googleSearch",
    "googleSearchRetrieval",
    "urlContext",
    "codeExecution",
    "googleMaps",
    "fileSearch",
    "computerUse",
    "enterpriseWebSearch",
    "retrieval",
];

/// What is sent in place of the proof of a call that another model made. Source: the "thought signatures" page.
const UNSIGNED: &str = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

/// Makes the request that means the same.
///
/// # Errors
/// A 400 that names what Google does not take.
pub fn request(chat: &[u8], facts: &Facts<'_>) -> Result<(Vec<u8>, Context)> {
    let mut ask = Ask::read(chat, facts)?;
    let traits = Traits::of(facts.model);
    let mut tools = ask.tools(NAMES)?;
    let turns = turns(&mut ask, &tools.names)?;
    let mut body = Map::new();
    let mut instructions = Vec::new();

    let mut config = match ask.take("generationConfig") {
        Value::Object(own) => own,
        _ => Map::new(),
    };
    numbers(&mut ask, &mut config)?;
    let stops = ask.stops()?;
    if stops.len() > 5 {
        ask.refuse("stop", " with more than 5 sequences")?;
    }
    if !stops.is_empty() {
        config.insert("stopSequences".to_owned(), stops.into_iter().take(5).collect());
    }
    modalities(&mut ask, &mut config)?;
    if let Some(wish) = ask.thinking()? {
        match thinking::config(wish, traits) {
            Some(told) => _ = config.insert("thinkingConfig".to_owned(), told),
            None if wish == Wish::Off => (),
            None => ask.refuse("reasoning_effort", " for this model, which does not think")?,
        }
    }
    let search = ask.take("web_search_options");
    let format = ask.format()?;
    let beside_tools = !tools.is_empty() && tools.choice != Some(Choice::None);
    match format {
        Format::Text => (),
        format if beside_tools && !traits.json_beside_tools() => {
            instructions.push(instruction(match &format {
                Format::Schema { schema, .. } => Some(schema),
                _ => None,
            }));
        }
        format => {
            config.insert("responseMimeType".to_owned(), "application/json".into());
            if let Format::Schema { schema, .. } = format {
                config.insert("responseJsonSchema".to_owned(), schema);
            }
        }
    }

    let (contents, mut system) = contents(&turns, facts, traits)?;
    system.extend(instructions.into_iter().map(|text| json!({"text": text})));
    body.insert("contents".to_owned(), contents.into());
    if !system.is_empty() {
        body.insert("systemInstruction".to_owned(), json!({"parts": system}));
    }
    let told = all_tools(&mut tools, search.is_object())?;
    if !told.is_empty() {
        body.insert("tools".to_owned(), told.into());
    }
    let mut tool_config = match ask.take("toolConfig") {
        Value::Object(own) => own,
        _ => Map::new(),
    };
    if let Some(calling) = calling(&tools) {
        tool_config.insert("functionCallingConfig".to_owned(), calling);
    }
    if !tool_config.is_empty() {
        body.insert("toolConfig".to_owned(), tool_config.into());
    }
    if !config.is_empty() {
        body.insert("generationConfig".to_owned(), config.into());
    }
    for (from, to) in SPELT {
        let value = ask.take(from);
        let says_nothing = value.is_null() || (*from == "service_tier" && (value == "auto" || value == "default"));
        if !says_nothing {
            body.insert((*to).to_owned(), value);
        }
    }
    ask.finish(NATIVE, &mut body)?;
    let context = Context {
        provider: facts.provider,
        id: facts.id.to_owned(),
        created: facts.created,
        model: facts.model.to_owned(),
        // Gemini cannot be told to call but once.
        one_call: tools.one_call,
        legacy_functions: tools.legacy,
        names: tools.names,
        json_tool: false,
    };
    Ok((written(&body, facts.provider)?, context))
}

fn numbers(ask: &mut Ask<'_>, config: &mut Map<String, Value>) -> Result<()> {
    if let Some(limit) = ask.max_tokens()? {
        config.insert("maxOutputTokens".to_owned(), limit.into());
    }
    for (from, to) in [
        ("temperature", "temperature"),
        ("top_p", "topP"),
        ("top_k", "topK"),
        ("n", "candidateCount"),
        ("presence_penalty", "presencePenalty"),
        ("frequency_penalty", "frequencyPenalty"),
        ("seed", "seed"),
    ] {
        if let Some(number) = ask.number(from)?
            && !(from == "n" && number.as_u64() == Some(1))
        {
            config.insert(to.to_owned(), number);
        }
    }
    if ask.take("logprobs") == true {
        config.insert("responseLogprobs".to_owned(), true.into());
        if let Some(top) = ask.number("top_logprobs")? {
            config.insert("logprobs".to_owned(), top);
        }
    }
    Ok(())
}

/// Answers other than text: `modalities`, and the voice of one that is spoken.
fn modalities(ask: &mut Ask<'_>, config: &mut Map<String, Value>) -> Result<()> {
    if let Value::Array(list) = ask.take("modalities") {
        let told: Vec<String> = list.iter().filter_map(Value::as_str).map(str::to_ascii_uppercase).collect();
        if told != ["TEXT"] {
            config.insert("responseModalities".to_owned(), told.into());
        }
    }
    let audio = ask.take("audio");
    if let Some(voice) = audio["voice"].as_str() {
        let voice = json!({"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": voice}}});
        config.insert("speechConfig".to_owned(), voice);
    }
    Ok(())
}

/// Turns that alternate, and what goes to the top.
fn contents(turns: &[Turn], facts: &Facts<'_>, traits: Traits) -> Result<(Vec<Value>, Vec<Value>)> {
    let mut system = Vec::new();
    let mut contents: Vec<(&str, Vec<Value>)> = Vec::new();
    for turn in turns {
        let (role, parts) = match turn.role {
            Role::System => {
                if let Some(media) = turn.media().next() {
                    return Err(bad(&media.place, "stands in a system message, which takes text only"));
                }
                let text = turn.text();
                if !text.is_empty() {
                    system.push(json!({"text": text}));
                }
                continue;
            }
            Role::User => ("user", said(turn, facts)?),
            Role::Assistant => ("model", assistant(turn, facts, traits)?),
            Role::Tool => ("user", result(turn, facts, traits)?),
        };
        if parts.is_empty() {
            continue;
        }
        match contents.last_mut() {
            Some((last, before)) if *last == role => before.extend(parts),
            _ => contents.push((role, parts)),
        }
    }
    if contents.is_empty() {
        // Something must be asked.
        contents.push(("user", vec![json!({"text": " "})]));
    }
    let contents = contents.into_iter().map(|(role, parts)| json!({"role": role, "parts": parts})).collect();
    Ok((contents, system))
}

fn said(turn: &Turn, facts: &Facts<'_>) -> Result<Vec<Value>> {
    let mut parts = Vec::new();
    for part in &turn.parts {
        match part {
            Part::Text(text) => parts.push(json!({"text": text})),
            Part::Media(media) => parts.push(self::media(media, facts)?),
            // Google caches by itself; its explicit caches are named by `cachedContent`.
            Part::Mark(_) => (),
        }
    }
    Ok(parts)
}

fn assistant(turn: &Turn, facts: &Facts<'_>, traits: Traits) -> Result<Vec<Value>> {
    let mut parts = said(turn, facts)?;
    if let (Some(signature), Some(first)) = (&turn.signature, parts.first_mut()) {
        first["thoughtSignature"] = signature.as_str().into();
    }
    for (i, call) in turn.calls.iter().enumerate() {
        let mut function = json!({"name": call.name, "args": call.input()});
        if has_ids(facts, traits) {
            function["id"] = call.id.as_str().into();
        }
        let mut part = json!({"functionCall": function});
        // Of calls at once, the first alone is signed.
        let stand_in = (i == 0 && traits.wants_signatures()).then(|| UNSIGNED.to_owned());
        if let Some(signature) = call.signature.as_deref().map(standard).or(stand_in) {
            part["thoughtSignature"] = signature.into();
        }
        parts.push(part);
    }
    Ok(parts)
}

/// Base64 of the standard alphabet, from either.
fn standard(signature: &str) -> String {
    let mut made: String = signature.trim_end_matches('=').replace('-', "+").replace('_', "/");
    while !made.len().is_multiple_of(4) {
        made.push('=');
    }
    made
}

/// Older models, and Vertex, tell calls apart by order and name.
fn has_ids(facts: &Facts<'_>, traits: Traits) -> bool {
    facts.provider == "gemini" && traits.version >= (3, 0)
}

fn result(turn: &Turn, facts: &Facts<'_>, traits: Traits) -> Result<Vec<Value>> {
    let Some((id, name)) = &turn.answers else { return Ok(Vec::new()) };
    if name.is_empty() {
        let param = format!("{}.tool_call_id", turn.place);
        return Err(bad(&param, "names no call of an earlier message"));
    }
    let text = turn.text();
    let response = match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Value::Object(object),
        _ if turn.is_error => json!({"error": text}),
        _ => json!({"result": text}),
    };
    let mut function = json!({"name": name, "response": response});
    if has_ids(facts, traits) {
        function["id"] = id.as_str().into();
    }
    let mut parts = vec![json!({"functionResponse": function})];
    for media in turn.media() {
        parts.push(self::media(media, facts)?);
    }
    Ok(parts)
}

fn media(media: &Media, facts: &Facts<'_>) -> Result<Value> {
    let mime = media.mime_or_guess();
    Ok(match &media.source {
        Source::Data(data) => json!({"inlineData": {"mimeType": mime, "data": data}}),
        // Google fetches it.
        Source::Url(url) if media.medium == Medium::Video && url.contains("youtu") => {
            json!({"fileData": {"fileUri": url}})
        }
        Source::Url(url) => json!({"fileData": {"mimeType": mime, "fileUri": url}}),
        Source::Id(id) if facts.provider == "gemini" => {
            let id = id.strip_prefix("files/").unwrap_or(id);
            let uri = format!("https://generativelanguage.googleapis.com/v1beta/files/{id}");
            json!({"fileData": {"mimeType": mime, "fileUri": uri}})
        }
        Source::Id(_) => return Err(bad(&media.place, "names an upload: Vertex AI takes 'gs://' addresses")),
    })
}

fn all_tools(tools: &mut Tools, search: bool) -> Result<Vec<Value>> {
    let mut told = Vec::new();
    let declared: Vec<Value> = tools.list.iter().map(declaration).collect();
    if !declared.is_empty() {
        told.push(json!({"functionDeclarations": declared}));
    }
    for (place, tool) in std::mem::take(&mut tools.others) {
        told.push(hosted(&place, &tool)?);
    }
    if search && !told.iter().any(|tool| tool["googleSearch"].is_object()) {
        told.push(json!({"googleSearch": {}}));
    }
    Ok(told)
}

fn declaration(tool: &Tool) -> Value {
    let mut told = json!({"name": tool.name});
    if let Some(description) = &tool.description {
        told["description"] = description.as_str().into();
    }
    // An object without members is refused; no parameters mean the same.
    let has_members = |schema: &&Value| {
        let none = schema["properties"].as_object().is_none_or(Map::is_empty);
        !none || schema.as_object().is_some_and(|schema| schema.len() > 2)
    };
    if let Some(schema) = tool.parameters.as_ref().filter(has_members) {
        told["parametersJsonSchema"] = schema.clone();
    }
    told
}

fn hosted(place: &str, tool: &Value) -> Result<Value> {
    match tool["type"].as_str() {
        Some("web_search" | "web_search_preview" | "google_search") => return Ok(json!({"googleSearch": {}})),
        Some("code_interpreter" | "code_execution") => return Ok(json!({"codeExecution": {}})),
        Some("url_context" | "web_fetch") => return Ok(json!({"urlContext": {}})),
        _ => (),
    }
    let mut told = Map::new();
    for (name, value) in tool.as_object().into_iter().flatten() {
        let name = camel(name);
        if HOSTED.contains(&name.as_str()) {
            told.insert(name, value.clone());
        }
    }
    if told.is_empty() {
        let known = "is no tool that Google has: functions, 'web_search', 'code_interpreter', 'url_context', or one of \
                     Google's own such as {\"googleSearch\": {}}";
        return Err(bad(place, known));
    }
    Ok(told.into())
}

/// `google_search` as `googleSearch`.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let mut made = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut chars = word.chars();
        made.extend(chars.next().map(|first| first.to_ascii_uppercase()));
        made.push_str(chars.as_str());
    }
    made
}

fn calling(tools: &Tools) -> Option<Value> {
    if tools.list.is_empty() {
        return None;
    }
    Some(match tools.choice.as_ref()? {
        Choice::Auto => json!({"mode": "AUTO"}),
        Choice::None => json!({"mode": "NONE"}),
        Choice::Required => json!({"mode": "ANY"}),
        Choice::Named(name) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
    })
}
