//! An Anthropic request as an OpenAI chat completions request.
//!
//! Texts, schemas and tool inputs are copied as they were written, so that the same history gives the same bytes and
//! the upstream's prompt cache finds them again.

mod parts;
mod tools;
mod turn;

use crate::error::Error;
use crate::wire::MAX_DEPTH;
use crate::wire::json::{Fault, What};
use crate::wire::place::{Members, Place, Val, inner};
use crate::wire::write::{Object, quoted};
use sha2::{Digest, Sha256};

/// OpenAI takes no longer `user`.
const MAX_USER: usize = 64;
/// What `response_format` calls a schema that has no name of its own.
const SCHEMA_NAME: &str = "answer";

/// Members that say how an answer is to be made in a way that other upstreams cannot; a request that depends on them is
/// refused.
const REFUSED: [(&str, &str); 3] = [
    (
        "mcp_servers",
        "the upstream of this model cannot connect to MCP servers; name one of the gateway's own, as \"litellm_proxy/mcp/SERVER\", or give the tools in 'tools'",
    ),
    ("container", "the upstream of this model has no containers"),
    ("inference_geo", "the upstream of this model does not let the caller choose where it computes"),
];

/// Translates a request of Anthropic's Messages API into one of OpenAI's chat completions.
///
/// Dropped without a word, because the answer means the same without it: `context_management` (edits of old turns that
/// save tokens), `betas`, `anthropic_beta`, `anthropic_version`, `speed`, the automatic `cache_control` of the whole
/// request (that of blocks and tools is kept), `citations` of documents, `display` of thinking, `defer_loading`,
/// `input_examples`, `allowed_callers` and `eager_input_streaming` of tools together with the tool search that needs
/// them (all tools are simply there), `max_uses` of the web search, what Anthropic's hosted tools did in earlier turns
/// (it is written for Anthropic's models alone; the text that came of it stays), Claude Code's billing line, and members
/// nobody knows.
///
/// Thinking of earlier turns goes into `reasoning_content`; blocks with a signature, which an Anthropic upstream would
/// want back unchanged, into `thinking_blocks` as well. A `user_id` longer than OpenAI's bound is sent as its SHA-256.
///
/// # Errors
/// A 400 that names the member which is wrong or cannot be said in OpenAI's format.
pub fn to_chat(body: &[u8]) -> Result<Vec<u8>, Error> {
    let root = Place::ROOT;
    let request = Val::root(body).map_err(bad_body)?;
    for (name, why) in REFUSED {
        if request.get(name).is_some_and(|value| value.json != "[]") {
            return Err(root.name(name).wrong(why));
        }
    }

    let mut chat = Vec::with_capacity(body.len() + body.len() / 8 + 256);
    let mut out = Object::open(&mut chat);
    out.json("model", request.string("model", &root)?);
    turn::messages(&request, out.slot("messages"))?;
    for (theirs, ours) in
        [("max_tokens", "max_tokens"), ("temperature", "temperature"), ("top_p", "top_p"), ("top_k", "top_k")]
    {
        if let Some(value) = request.get(theirs) {
            out.json(ours, value.number(&root.name(theirs))?);
        }
    }
    stop(&request, &mut out)?;
    tools::tools(&request, &mut out)?;
    effort(&request, &mut out)?;
    format(&request, &mut out)?;
    user(&request, &mut out)?;
    if let Some(tier) = request.get("service_tier") {
        let at = root.name("service_tier");
        // Anthropic's `standard_only` is OpenAI's `default`; `auto` means the same to both.
        let tier = if tier.text(&at)? == "standard_only" { "\"default\"" } else { tier.json };
        out.json("service_tier", tier);
    }
    if request.get("stream").is_some_and(Val::is_true) {
        out.json("stream", "true");
        out.json("stream_options", "{\"include_usage\":true}");
    }
    out.close();
    Ok(chat)
}

/// The error about a body that is no JSON object.
pub fn bad_body(fault: Fault) -> Error {
    match fault.what {
        What::TooDeep => Error::invalid(format!("The request body is nested deeper than {MAX_DEPTH} levels.")),
        what => Error::invalid(format!("The request body is not acceptable JSON: {what} (byte {}).", fault.at)),
    }
}

/// `stop_sequences` is `stop`. All of them go on: an upstream that takes fewer says so itself.
fn stop(request: &Members<'_>, out: &mut Object<'_>) -> Result<(), Error> {
    let at = Place::ROOT.name("stop_sequences");
    let Some(list) = request.get("stop_sequences") else { return Ok(()) };
    let items = list.items(&at)?;
    for (i, item) in items.iter().enumerate() {
        item.string(&at.index(i))?;
    }
    if !items.is_empty() {
        out.json("stop", list.json);
    }
    Ok(())
}

/// How hard the model is to think: what `output_config.effort` says, else what the budget of `thinking` comes to.
///
/// `thinking: disabled` is told by silence: most upstreams that take `reasoning_effort` do not take `none`.
fn effort(request: &Members<'_>, out: &mut Object<'_>) -> Result<(), Error> {
    let root = Place::ROOT;
    let at = root.name("output_config");
    let config = request.get("output_config").map(|config| config.members(&at)).transpose()?;
    let mut effort = match config.as_ref().and_then(|config| config.get("effort")) {
        Some(effort) => Some(effort.string(&at.name("effort"))?),
        None => None,
    };
    if let Some(thinking) = request.get("thinking") {
        let at = root.name("thinking");
        let thinking = thinking.members(&at)?;
        match &*thinking.text("type", &at)? {
            "disabled" => effort = None,
            "enabled" => {
                let budget = thinking.need("budget_tokens", &at)?.number(&at.name("budget_tokens"))?;
                effort = effort.or(Some(effort_of(budget.parse().unwrap_or(0.0))));
            }
            "adaptive" | "between_tools" => effort = effort.or(Some("\"medium\"")),
            other => {
                let known = "'enabled', 'adaptive', 'between_tools' or 'disabled'";
                let other = crate::envelope::shorten(other);
                return Err(at.name("type").wrong(format_args!("'{other}' is not known; {known} is")));
            }
        }
    }
    if let Some(effort) = effort {
        out.json("reasoning_effort", effort);
    }
    Ok(())
}

/// The effort that LiteLLM's default budgets belong to (low 1024, medium 2048, high 4096), read backwards.
fn effort_of(budget: f64) -> &'static str {
    match budget {
        b if b < 1024.0 => "\"minimal\"",
        b if b < 2048.0 => "\"low\"",
        b if b < 4096.0 => "\"medium\"",
        _ => "\"high\"",
    }
}

/// `output_config.format`, or its older name `output_format`, is `response_format`.
fn format(request: &Members<'_>, out: &mut Object<'_>) -> Result<(), Error> {
    let root = Place::ROOT;
    let config_at = root.name("output_config");
    let config = request.get("output_config").map(|config| config.members(&config_at)).transpose()?;
    let (format, at) = match config.as_ref().and_then(|config| config.get("format")) {
        Some(format) => (format, config_at.name("format")),
        None => match request.get("output_format") {
            Some(format) => (format, root.name("output_format")),
            None => return Ok(()),
        },
    };
    let format = format.members(&at)?;
    match &*format.text("type", &at)? {
        "json_schema" => {
            let schema_at = at.name("schema");
            let schema = format.need("schema", &at)?;
            schema.members(&schema_at)?;
            let name = match format.get("name") {
                Some(name) => inner(name.string(&at.name("name"))?),
                None => SCHEMA_NAME,
            };
            let mut written = Object::open(out.slot("response_format"));
            written.text("type", "json_schema");
            let mut inside = Object::open(written.slot("json_schema"));
            inside.json("name", format!("\"{name}\""));
            inside.json("schema", schema.json);
            // Anthropic holds the model to the schema; without `strict` OpenAI would only suggest it.
            inside.json("strict", "true");
            inside.close();
            written.close();
            Ok(())
        }
        "text" => Ok(()),
        other => {
            let other = crate::envelope::shorten(other);
            Err(at.name("type").wrong(format_args!("the format '{other}' is not known; 'json_schema' is")))
        }
    }
}

/// `metadata.user_id` is `user`.
fn user(request: &Members<'_>, out: &mut Object<'_>) -> Result<(), Error> {
    let root = Place::ROOT;
    let at = root.name("metadata");
    let Some(metadata) = request.get("metadata") else { return Ok(()) };
    let metadata = metadata.members(&at)?;
    let Some(id) = metadata.get("user_id") else { return Ok(()) };
    let id = id.text(&at.name("user_id"))?;
    if id.chars().count() <= MAX_USER {
        out.json("user", quoted(&id));
    } else {
        let hash: String = Sha256::digest(id.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        out.text("user", &hash);
    }
    Ok(())
}
