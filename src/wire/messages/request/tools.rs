//! Tools, and which of them is to be used.

use crate::envelope::shorten;
use crate::error::Error;
use crate::wire::place::{Members, Place, Val, inner};
use crate::wire::write::{Object, comma};

/// What became of the tools.
#[derive(Default)]
struct Offered<'a> {
    functions: Vec<u8>,
    /// The names of hosted web searches, which are no functions any more.
    searches: Vec<&'a str>,
}

/// Writes `tools`, `web_search_options`, `tool_choice` and `parallel_tool_calls`.
///
/// # Errors
/// A 400 that names a tool which only Anthropic can run, or what is wrong in one.
pub fn tools(request: &Members<'_>, out: &mut Object<'_>) -> Result<(), Error> {
    let root = Place::ROOT;
    let at = root.name("tools");
    let mut offered = Offered::default();
    let items = request.get("tools").map(|tools| tools.items(&at)).transpose()?.unwrap_or_default();
    for (i, item) in items.into_iter().enumerate() {
        let at = at.index(i);
        let tool = item.members(&at)?;
        let kind = tool.get("type").map(|kind| kind.text(&at.name("type"))).transpose()?;
        match kind.as_deref() {
            None | Some("custom") => function(&tool, &at, &mut offered.functions)?,
            Some(kind) if kind.starts_with("web_search_") => {
                search(&tool, &at, out, offered.searches.is_empty())?;
                offered.searches.push(tool.get("name").map_or("", |name| inner(name.json)));
            }
            // It finds tools whose loading is deferred; here all of them are loaded.
            Some(kind) if kind.starts_with("tool_search_tool_") => (),
            Some(kind) => {
                let name = tool.get("name").map_or(kind.into(), |name| name.text(&at).unwrap_or_default());
                return Err(at.wrong(format_args!(
                    "the tool '{}' of type '{}' works with Anthropic's models only; offer it as a custom tool with an \
                     'input_schema' instead",
                    shorten(&name),
                    shorten(kind)
                )));
            }
        }
    }
    if !offered.functions.is_empty() {
        let slot = out.slot("tools");
        slot.push(b'[');
        slot.extend_from_slice(&offered.functions);
        slot.push(b']');
    }
    choice(request, &offered, out)
}

fn function(tool: &Members<'_>, at: &Place<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let name = tool.string("name", at)?;
    let schema = tool.need("input_schema", at)?;
    schema.members(&at.name("input_schema"))?;
    let mut empty = out.is_empty();
    comma(out, &mut empty);
    let mut written = Object::open(out);
    written.text("type", "function");
    let mut function = Object::open(written.slot("function"));
    function.json("name", name);
    if let Some(description) = tool.get("description") {
        function.json("description", description.string(&at.name("description"))?);
    }
    function.json("parameters", schema.json);
    if let Some(strict) = tool.get("strict") {
        function.json("strict", if strict.is_true() { "true" } else { "false" });
    }
    function.close();
    if let Some(cache) = tool.get("cache_control") {
        written.json("cache_control", cache.json);
    }
    written.close();
    Ok(())
}

/// Anthropic's web search is OpenAI's `web_search_options`, as far as that can say it.
fn search(tool: &Members<'_>, at: &Place<'_>, out: &mut Object<'_>, first: bool) -> Result<(), Error> {
    for name in ["allowed_domains", "blocked_domains"] {
        if tool.get(name).is_some_and(|list| list.json != "[]") {
            let what = "the web search of this model's upstream cannot be held to some domains; leave this out";
            return Err(at.name(name).wrong(what));
        }
    }
    if !first {
        return Ok(());
    }
    let mut options = Object::open(out.slot("web_search_options"));
    if let Some(location) = tool.get("user_location") {
        let at = at.name("user_location");
        let location = location.members(&at)?;
        let mut written = Object::open(options.slot("user_location"));
        written.text("type", "approximate");
        let mut inside = Object::open(written.slot("approximate"));
        for name in ["city", "country", "region", "timezone"] {
            if let Some(value) = location.get(name) {
                inside.json(name, value.string(&at.name(name))?);
            }
        }
        inside.close();
        written.close();
    }
    options.close();
    Ok(())
}

/// `tool_choice`, which OpenAI takes only together with tools.
fn choice(request: &Members<'_>, offered: &Offered<'_>, out: &mut Object<'_>) -> Result<(), Error> {
    let root = Place::ROOT;
    let at = root.name("tool_choice");
    let Some(choice) = request.get("tool_choice") else { return Ok(()) };
    let choice = choice.members(&at)?;
    let kind = choice.text("type", &at)?;
    let named = if kind == "tool" { Some(choice.string("name", &at)?) } else { None };
    if offered.functions.is_empty() {
        return Ok(());
    }
    match (&*kind, named) {
        ("auto", _) => out.text("tool_choice", "auto"),
        ("any", _) => out.text("tool_choice", "required"),
        ("none", _) => out.text("tool_choice", "none"),
        // A hosted search cannot be forced; it is offered anyway.
        ("tool", Some(name)) if offered.searches.contains(&inner(name)) => (),
        ("tool", Some(name)) => {
            let mut written = Object::open(out.slot("tool_choice"));
            written.text("type", "function");
            let mut function = Object::open(written.slot("function"));
            function.json("name", name);
            function.close();
            written.close();
        }
        (other, _) => {
            let what = format!("'{}' is not known; 'auto', 'any', 'tool' and 'none' are", shorten(other));
            return Err(at.name("type").wrong(what));
        }
    }
    if choice.get("disable_parallel_tool_use").is_some_and(Val::is_true) && kind != "none" {
        out.json("parallel_tool_calls", "false");
    }
    Ok(())
}
