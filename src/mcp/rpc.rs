//! JSON-RPC 2.0 as the Model Context Protocol uses it: messages, their errors, and the revisions of the protocol.
//!
//! Pure: values in, values out. Source: the published specification, revisions 2024-11-05 to 2026-07-28.

use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// A revision of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revision {
    V2024_11_05,
    V2025_03_26,
    V2025_06_18,
    V2025_11_25,
    /// No handshake and no sessions: every request says what its sender can do.
    V2026_07_28,
}

impl Revision {
    pub const ALL: [Revision; 5] = [
        Revision::V2026_07_28,
        Revision::V2025_11_25,
        Revision::V2025_06_18,
        Revision::V2025_03_26,
        Revision::V2024_11_05,
    ];
    /// The newest that begins with a handshake.
    pub const NEWEST_LEGACY: Revision = Revision::V2025_11_25;

    pub fn name(self) -> &'static str {
        match self {
            Revision::V2024_11_05 => "2024-11-05",
            Revision::V2025_03_26 => "2025-03-26",
            Revision::V2025_06_18 => "2025-06-18",
            Revision::V2025_11_25 => "2025-11-25",
            Revision::V2026_07_28 => "2026-07-28",
        }
    }

    pub fn of(name: &str) -> Option<Revision> {
        Self::ALL.into_iter().find(|revision| revision.name() == name)
    }

    pub fn is_modern(self) -> bool {
        self >= Revision::V2026_07_28
    }
}

/// The keys of `_meta` since 2026-07-28.
pub mod meta {
    pub const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    pub const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    pub const CLIENT: &str = "io.modelcontextprotocol/clientInfo";
    pub const SERVER: &str = "io.modelcontextprotocol/serverInfo";
    pub const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
}

pub const PARSE: i64 = -32700;
pub const INVALID: i64 = -32600;
pub const NO_METHOD: i64 = -32601;
pub const PARAMS: i64 = -32602;
pub const INTERNAL: i64 = -32603;
/// A header and the body say different things.
pub const HEADERS: i64 = -32020;
pub const CAPABILITY: i64 = -32021;
pub const VERSION: i64 = -32022;
/// As SDKs have it for a request that took too long.
pub const LATE: i64 = -32001;

/// What JSON-RPC says instead of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcError {
    pub code: i64,
    pub message: String,
    pub data: Option<Value>,
}

impl RpcError {
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        RpcError { code, message: message.into(), data: None }
    }

    pub fn with(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    fn read(value: &Value) -> Self {
        RpcError {
            code: value["code"].as_i64().unwrap_or(INTERNAL),
            message: value["message"].as_str().unwrap_or("no message").chars().take(2000).collect(),
            data: value.get("data").cloned(),
        }
    }

    pub fn value(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(data) = &self.data {
            error["data"] = data.clone();
        }
        error
    }
}

/// A message, in either direction.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    Request { id: Value, method: String, params: Value },
    Notification { method: String, params: Value },
    Response { id: Value, result: Result<Value, RpcError> },
}

impl Message {
    /// Reads one message.
    ///
    /// # Errors
    /// What is to be answered instead: it is no JSON, or no message.
    pub fn read(bytes: &[u8]) -> Result<Message, RpcError> {
        let value = serde_json::from_slice(bytes)
            .map_err(|e| RpcError::new(PARSE, format!("The message is not JSON: {e}.")))?;
        Self::of(value)
    }

    /// # Errors
    /// It is no message.
    pub fn of(value: Value) -> Result<Message, RpcError> {
        let invalid = |what: &str| RpcError::new(INVALID, format!("This is no JSON-RPC 2.0 message: {what}."));
        let Value::Object(mut members) = value else {
            return Err(invalid(if value.is_array() { "batches are not served" } else { "an object is expected" }));
        };
        if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return Err(invalid("'jsonrpc' must be \"2.0\""));
        }
        let id = members.remove("id");
        if id.as_ref().is_some_and(|id| !(id.is_string() || id.is_number() || id.is_null())) {
            return Err(invalid("'id' must be a string or a number"));
        }
        match members.remove("method") {
            Some(Value::String(method)) => {
                let params = members.remove("params").unwrap_or(Value::Null);
                if !(params.is_object() || params.is_null()) {
                    return Err(RpcError::new(PARAMS, "'params' must be an object."));
                }
                match id {
                    Some(Value::Null) => Err(invalid("'id' must not be null")),
                    Some(id) => Ok(Message::Request { id, method, params }),
                    None => Ok(Message::Notification { method, params }),
                }
            }
            Some(_) => Err(invalid("'method' must be a string")),
            None => {
                let id = id.unwrap_or(Value::Null);
                match (members.remove("result"), members.get("error")) {
                    (Some(result), None) => Ok(Message::Response { id, result: Ok(result) }),
                    (None, Some(error)) => Ok(Message::Response { id, result: Err(RpcError::read(error)) }),
                    _ => Err(invalid("there is neither 'method' nor one of 'result' and 'error'")),
                }
            }
        }
    }

    pub fn value(self) -> Value {
        match self {
            Message::Request { id, method, params } => match params {
                Value::Null => json!({"jsonrpc": "2.0", "id": id, "method": method}),
                params => json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}),
            },
            Message::Notification { method, params } => match params {
                Value::Null => json!({"jsonrpc": "2.0", "method": method}),
                params => json!({"jsonrpc": "2.0", "method": method, "params": params}),
            },
            Message::Response { id, result: Ok(result) } => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Message::Response { id, result: Err(error) } => {
                json!({"jsonrpc": "2.0", "id": id, "error": error.value()})
            }
        }
    }
}

/// Who we are, to servers and clients.
pub fn our_name() -> Value {
    json!({"name": "gateway", "version": env!("CARGO_PKG_VERSION")})
}

/// The `_meta` that every request has had since 2026-07-28.
pub fn modern_meta(params: &mut Value) {
    if !params.is_object() {
        *params = Value::Object(Map::new());
    }
    let meta = &mut params["_meta"];
    if !meta.is_object() {
        *meta = Value::Object(Map::new());
    }
    meta[meta::VERSION] = Revision::V2026_07_28.name().into();
    meta[meta::CAPABILITIES] = json!({});
    meta[meta::CLIENT] = our_name();
}

/// The value of `Mcp-Name` or `Mcp-Param-*`: as it is where it is plain, else in base64.
pub fn header_text(text: &str) -> Cow<'_, str> {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let is_plain = text.bytes().all(|b| (0x20..0x7f).contains(&b)) && text.trim() == text;
    let looks_encoded = text.starts_with("=?base64?") && text.ends_with("?=");
    if is_plain && !looks_encoded && !text.is_empty() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("=?base64?{}?=", BASE64_STANDARD.encode(text)))
}

/// What a header says; none where it is badly encoded.
pub fn header_value(text: &str) -> Option<Cow<'_, str>> {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    match text.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        Some(encoded) => String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok().map(Cow::Owned),
        None => Some(Cow::Borrowed(text)),
    }
}

/// The member of the params that `Mcp-Name` repeats.
pub fn named_by(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        _ => None,
    }
}

/// The arguments that a schema wants repeated in headers: path of the property, and the header's name. None where the
/// schema asks for what may not be (then clients leave the tool out).
pub fn mirrored(schema: &Value) -> Option<Vec<(Vec<String>, String)>> {
    let mut found: Vec<(Vec<String>, String)> = Vec::new();
    let mut open = vec![(Vec::new(), schema)];
    while let Some((path, schema)) = open.pop() {
        if path.len() > 16 || found.len() > 64 {
            return None;
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let mut inner: Vec<String> = path.clone();
            inner.push(name.clone());
            if let Some(header) = property.get("x-mcp-header") {
                let header = header.as_str().filter(|h| {
                    !h.is_empty()
                        && h.len() <= 64
                        && h.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                })?;
                let is_single = matches!(property["type"].as_str(), Some("string" | "integer" | "boolean"));
                if !is_single || found.iter().any(|(_, known)| known.eq_ignore_ascii_case(header)) {
                    return None;
                }
                found.push((inner.clone(), header.to_owned()));
            }
            open.push((inner, property));
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_are_told_apart() {
        let read = |text: &str| Message::read(text.as_bytes());
        assert!(matches!(
            read(r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#).unwrap(),
            Message::Request { params: Value::Null, .. }
        ));
        assert!(matches!(read(r#"{"jsonrpc":"2.0","method":"x","params":{}}"#).unwrap(), Message::Notification { .. }));
        assert!(matches!(read(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).unwrap(), Message::Response { .. }));
        for (text, code) in [
            ("{", PARSE),
            ("[]", INVALID),
            (r#"{"id":1,"method":"x"}"#, INVALID),
            (r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#, INVALID),
            (r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#, INVALID),
            (r#"{"jsonrpc":"2.0","id":1}"#, INVALID),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":[]}"#, PARAMS),
            (&format!("{}{}", "[".repeat(5000), "]".repeat(5000)), PARSE),
        ] {
            assert_eq!(read(text).unwrap_err().code, code, "{text:.40}");
        }
    }

    #[test]
    fn headers_are_mirrored_only_where_they_may_be() {
        let schema = json!({"properties": {"a": {"type": "object", "properties": {"b": {"type": "string", "x-mcp-header": "B"}}}}});
        assert_eq!(mirrored(&schema).unwrap(), [(vec!["a".to_owned(), "b".to_owned()], "B".to_owned())]);
        for bad in [json!({"type": "array", "x-mcp-header": "B"}), json!({"type": "string", "x-mcp-header": "a b"})] {
            assert_eq!(mirrored(&json!({"properties": {"a": bad}})), None);
        }
    }

    proptest! {
        #[test]
        fn what_stands_in_a_header_comes_back(text: String) {
            let header = header_text(&text).into_owned();
            prop_assert!(actix_web::http::header::HeaderValue::from_str(&header).is_ok());
            prop_assert_eq!(header_value(&header).unwrap(), text);
        }

        #[test]
        fn no_bytes_are_too_much(bytes: Vec<u8>) {
            let _ = Message::read(&bytes);
        }
    }
}
