//! Items of tools that the gateway calls for the model: what a server offers, calls, and questions for leave.

use super::Items;
use crate::wire::hub::calls::Sink;
use bytes::BytesMut;
use serde_json::{Value, json};

/// A call of a tool of a server.
#[derive(Debug, Clone)]
pub struct Served {
    pub id: String,
    /// The label that the request gives the server.
    pub label: String,
    pub name: String,
    pub arguments: String,
    /// The question for leave that was answered with yes.
    pub request: Option<String>,
}

impl Items {
    /// What a server offers, or why it does not.
    pub fn listed(&mut self, id: &str, label: &str, tools: &Value, error: Option<&str>, out: &mut BytesMut) {
        let begun = json!({"id": id, "type": "mcp_list_tools", "server_label": label, "tools": []});
        self.added(&begun, out);
        self.of(id, "response.mcp_list_tools.in_progress", None, out);
        let kind = if error.is_some() { "failed" } else { "completed" };
        self.of(id, &format!("response.mcp_list_tools.{kind}"), None, out);
        let mut item = begun;
        item["tools"] = tools.clone();
        item["error"] = error.into();
        self.put(item.to_string().into_bytes(), out);
    }

    /// A call begins: no other item begins before it has ended.
    pub fn served_begins(&mut self, call: &Served, out: &mut BytesMut) {
        self.added(&item(call, "in_progress", "", None), out);
        self.of(&call.id, "response.mcp_call.in_progress", None, out);
        let arguments = Some(call.arguments.as_str());
        self.of(&call.id, "response.mcp_call_arguments.delta", arguments.map(|text| ("delta", text)), out);
        self.of(&call.id, "response.mcp_call_arguments.done", arguments.map(|text| ("arguments", text)), out);
    }

    /// The call that has begun last is over: with its result, or with why it failed.
    pub fn served_ends(&mut self, call: &Served, result: Result<&str, &str>, out: &mut BytesMut) {
        let kind = if result.is_ok() { "completed" } else { "failed" };
        self.of(&call.id, &format!("response.mcp_call.{kind}"), None, out);
        let item = item(call, kind, &call.arguments, Some(result));
        self.put(item.to_string().into_bytes(), out);
    }

    /// A call that somebody has to allow.
    pub fn asks(&mut self, call: &Served, out: &mut BytesMut) {
        let item = json!({"id": call.id, "type": "mcp_approval_request", "server_label": call.label,
            "name": call.name, "arguments": call.arguments});
        self.added(&item, out);
        self.put(item.to_string().into_bytes(), out);
    }

    fn added(&mut self, item: &Value, out: &mut BytesMut) {
        self.close(out);
        let index = self.count;
        self.event("response.output_item.added", out, |event| {
            event.json("output_index", index.to_string());
            event.json("item", item.to_string());
        });
    }

    /// An event about the item of that id.
    fn of(&mut self, id: &str, kind: &str, more: Option<(&str, &str)>, out: &mut BytesMut) {
        let index = self.count;
        self.event(kind, out, |event| {
            event.text("item_id", id);
            event.json("output_index", index.to_string());
            if let Some((name, text)) = more {
                // A piece is one of many elsewhere; here the model has written all of it.
                event.json(name, Value::from(text).to_string());
            }
        });
    }
}

fn item(call: &Served, status: &str, arguments: &str, result: Option<Result<&str, &str>>) -> Value {
    let output = result.and_then(Result::ok);
    let error = result.and_then(Result::err);
    let error =
        error.map(|text| json!({"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": text}]}));
    json!({"id": call.id, "type": "mcp_call", "status": status, "server_label": call.label, "name": call.name,
        "arguments": arguments, "approval_request_id": call.request, "output": output, "error": error})
}
