//! Which `anthropic-beta` values a request needs.

use serde_json::Value;

/// The values gathered so far, each once.
#[derive(Debug, Default)]
pub(super) struct Betas(Vec<&'static str>);

pub(super) const FILES: &str = "files-api-2025-04-14";
pub(super) const MCP: &str = "mcp-client-2025-04-04";
const MCP_TOOLSET: &str = "mcp-client-2025-11-20";
pub(super) const CONTEXT: &str = "context-management-2025-06-27";
const COMPACT: &str = "compact-2026-01-12";
pub(super) const FAST: &str = "fast-mode-2026-02-01";
const SKILLS: &str = "skills-2025-10-02";
pub(super) const OUTPUT_FORMAT: &str = "structured-outputs-2025-11-13";
pub(super) const EFFORT: &str = "effort-2025-11-24";
const LONG_CACHE: &str = "extended-cache-ttl-2025-04-11";
const ADVANCED_TOOLS: &str = "advanced-tool-use-2025-11-20";

/// Beginnings of the types of hosted tools, and what they need.
const TOOLS: &[(&str, &str)] = &[
    ("computer_20241022", "computer-use-2024-10-22"),
    ("computer_20250124", "computer-use-2025-01-24"),
    ("computer_20251124", "computer-use-2025-11-24"),
    ("code_execution_20250522", "code-execution-2025-05-22"),
    ("code_execution_20250825", "code-execution-2025-08-25"),
    ("web_fetch_20250910", "web-fetch-2025-09-10"),
    ("memory_", CONTEXT),
    ("tool_search_tool_", ADVANCED_TOOLS),
    ("mcp_toolset", MCP_TOOLSET),
];

impl Betas {
    pub(super) fn add(&mut self, beta: &'static str) {
        if !self.0.contains(&beta) {
            self.0.push(beta);
        }
    }

    /// What a hosted tool, or a newer member of a tool, needs.
    pub(super) fn for_tool(&mut self, tool: &Value) {
        let kind = tool["type"].as_str().unwrap_or_default();
        for (start, beta) in TOOLS {
            if kind.starts_with(start) {
                self.add(beta);
            }
        }
        if ["defer_loading", "input_examples", "allowed_callers"].iter().any(|name| !tool[*name].is_null()) {
            self.add(ADVANCED_TOOLS);
        }
    }

    /// What a member of the body that is passed through needs.
    pub(super) fn for_member(&mut self, name: &str, value: &Value) {
        match name {
            "mcp_servers" if !self.0.contains(&MCP_TOOLSET) => self.add(MCP),
            "context_management" => {
                self.add(CONTEXT);
                let compacts = |edit: &Value| edit["type"].as_str().is_some_and(|kind| kind.starts_with("compact_"));
                if value["edits"].as_array().is_some_and(|edits| edits.iter().any(compacts)) {
                    self.add(COMPACT);
                }
            }
            "speed" if value == "fast" => self.add(FAST),
            "container" if !value["skills"].is_null() => self.add(SKILLS),
            "output_format" => self.add(OUTPUT_FORMAT),
            _ => (),
        }
    }

    /// All values, once the body is written: a cache entry of an hour is told by its text, which no string can hold
    /// unescaped.
    pub(super) fn finish(mut self, body: &[u8]) -> Vec<&'static str> {
        if memchr::memmem::find(body, br#""ttl":"1h""#).is_some() {
            self.add(LONG_CACHE);
        }
        self.0
    }
}
