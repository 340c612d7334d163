//! A tool as its server describes it, and by which names callers know it.

use super::rpc;
use crate::config::mcp::Server;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::sync::Arc;

/// A tool.
#[derive(Debug)]
pub struct Tool {
    /// The server's own name for it.
    pub name: String,
    /// The whole description, as it came.
    pub told: Value,
    /// Arguments that are repeated in headers.
    pub mirrored: Vec<(Vec<String>, String)>,
}

impl Tool {
    /// None for what is no tool, or what a client of its revision has to leave out.
    pub fn read(told: Value, modern: bool) -> Option<Tool> {
        let name = told["name"].as_str().filter(|name| (1..=256).contains(&name.len()))?.to_owned();
        let mirrored = if modern { rpc::mirrored(&told["inputSchema"])? } else { Vec::new() };
        Some(Tool { name, told, mirrored })
    }

    pub fn description(&self) -> Option<&str> {
        self.told["description"].as_str()
    }

    /// What the server says of it beside that, null where it says nothing.
    pub fn annotations(&self) -> &Value {
        &self.told["annotations"]
    }

    /// The schema of its arguments; one that takes nothing where there is none.
    pub fn schema(&self) -> Value {
        match &self.told["inputSchema"] {
            schema @ Value::Object(_) => schema.clone(),
            _ => json!({"type": "object", "properties": {}}),
        }
    }
}

/// Who knows a tool by which name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming<'a> {
    /// For clients of the protocol: `SERVER-TOOL`, at most 128 characters.
    Protocol(&'a str),
    /// For models: at most 64 letters, digits, `_` and `-`.
    Model(&'a str),
    /// The tool's own, where there is one server alone.
    Bare,
}

impl Naming<'_> {
    fn name(self, server: &Server, tool: &str) -> String {
        let (separator, most) = match self {
            Naming::Protocol(separator) => (separator, 128),
            Naming::Model(separator) => (separator, 64),
            Naming::Bare => return tool.to_owned(),
        };
        let dots = matches!(self, Naming::Protocol(_));
        let whole = format!("{}{separator}{tool}", server.prefix);
        let squeezed: String = whole
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' || (dots && c == '.') { c } else { '_' })
            .collect();
        if squeezed.len() <= most { squeezed } else { marked(&squeezed, server, tool, most) }
    }
}

/// A name that no other tool has, cut to length.
fn marked(name: &str, server: &Server, tool: &str, most: usize) -> String {
    let digest = Sha256::digest(format!("{}\0{tool}", server.name));
    let mark: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let kept = &name[..name.len().min(most - mark.len() - 1)];
    format!("{kept}_{mark}")
}

/// A tool that a caller may use, under the name by which he knows it.
#[derive(Debug, Clone)]
pub struct Offered {
    pub name: String,
    pub server: Arc<Server>,
    pub tool: Arc<Tool>,
    /// The only parameters that may be given; none means all.
    pub params: Option<Vec<String>>,
}

impl Offered {
    pub fn description(&self) -> Option<&str> {
        self.server.tool_descriptions.get(&self.tool.name).map(String::as_str).or_else(|| self.tool.description())
    }

    /// The schema without parameters that may not be given.
    pub fn schema(&self) -> Value {
        let mut schema = self.tool.schema();
        let Some(allowed) = &self.params else { return schema };
        let is_allowed = |name: &str| allowed.iter().any(|a| a == name);
        if let Some(properties) = schema["properties"].as_object_mut() {
            properties.retain(|name, _| is_allowed(name));
        }
        if let Some(required) = schema["required"].as_array_mut() {
            required.retain(|name| name.as_str().is_some_and(is_allowed));
        }
        schema
    }

    /// As clients of the protocol are told of it.
    pub fn told(&self) -> Value {
        let mut told = self.tool.told.clone();
        told["name"] = self.name.as_str().into();
        if self.params.is_some() || !told["inputSchema"].is_object() {
            told["inputSchema"] = self.schema();
        }
        if let Some(text) = self.server.tool_descriptions.get(&self.tool.name) {
            told["description"] = text.as_str().into();
        }
        if let Some(title) = self.server.tool_titles.get(&self.tool.name) {
            told["title"] = title.as_str().into();
        }
        told
    }

    /// The first argument that may not be given.
    pub fn forbidden<'a>(&self, arguments: &'a Map<String, Value>) -> Option<&'a str> {
        let allowed = self.params.as_ref()?;
        arguments.keys().find(|name| !allowed.contains(name)).map(String::as_str)
    }

    /// For the ledger: `server/tool`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.server.name, self.tool.name)
    }

    pub fn cost_nanos(&self) -> u64 {
        self.server.cost(&self.tool.name)
    }
}

/// Gives every tool its name. Two of one name are told apart by a mark on the second.
pub fn name_all(tools: &mut [Offered], naming: Naming<'_>) {
    name_beside(tools, naming, &[]);
}

/// The same, beside names that are taken already.
pub fn name_beside(tools: &mut [Offered], naming: Naming<'_>, taken: &[String]) {
    let mut taken: HashSet<String> = taken.iter().cloned().collect();
    for offered in tools {
        let mut name = naming.name(&offered.server, &offered.tool.name);
        if taken.contains(&name) {
            let most = if matches!(naming, Naming::Model(_)) { 64 } else { 128 };
            name = marked(&name, &offered.server, &offered.tool.name, most);
        }
        taken.insert(name.clone());
        offered.name = name;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::kit::Kit;

    fn offered(names: &[&str]) -> Vec<Offered> {
        let tools: Vec<(&str, bool)> = names.iter().map(|name| (*name, false)).collect();
        Kit::of_names(&tools, &[]).tools.into_iter().map(|chosen| chosen.offered).collect()
    }

    #[test]
    fn names_fit_their_readers_and_lead_back_to_one_tool_each() {
        let long = "x".repeat(200);
        let longer = format!("{long}y");
        let names = ["plain", "a.b", "a_b", "a/b", "über", long.as_str(), longer.as_str()];
        for (naming, most) in [(Naming::Protocol("-"), 128), (Naming::Model("__"), 64)] {
            let mut tools = offered(&names);
            let own = ["s__plain".to_owned()];
            name_beside(&mut tools, naming, &own);
            let all: HashSet<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
            assert_eq!(all.len(), names.len(), "{all:?}");
            assert!(!all.contains("s__plain"));
            for tool in &tools {
                assert!(tool.name.len() <= most, "{}", tool.name);
                let dot = |c: char| c == '.' && matches!(naming, Naming::Protocol(_));
                assert!(tool.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-' || dot(c)));
            }
            // The same tools get the same names, whenever they are listed.
            let before: Vec<String> = tools.iter().map(|tool| tool.name.clone()).collect();
            name_beside(&mut tools, naming, &own);
            assert_eq!(before, tools.iter().map(|tool| tool.name.clone()).collect::<Vec<_>>());
        }
    }
}
