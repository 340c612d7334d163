//! Scripted servers of tools: of every revision and transport, with faults, and stand-ins for Home Assistant.

use super::http;
use super::reply::{EVENT_STREAM, Reply, Step};
use super::upstream::{Seen, Upstream};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// The credential that servers of tools expect where they expect one.
pub const TOKEN: &str = "ha-long-lived-token-91";

/// What becomes of a tool's call.
pub enum Outcome {
    Text(String),
    /// These events go first, each a message.
    After(Vec<Value>, String),
    Reply(Reply),
}

pub type Call = dyn Fn(&str, &Value) -> Outcome + Send + Sync;

/// How a server speaks.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// With a handshake; with or without sessions.
    Legacy { sessions: bool },
    /// 2026-07-28 alone.
    Modern,
}

/// A tool that takes texts.
pub fn tool(name: &str, params: &[&str]) -> Value {
    let properties: serde_json::Map<String, Value> =
        params.iter().map(|p| ((*p).to_owned(), json!({"type": "string"}))).collect();
    json!({"name": name, "description": format!("Does {name}."), "inputSchema": {"type": "object", "properties": properties}})
}

/// A server behind HTTP.
pub struct ToolServer {
    pub upstream: Upstream,
    pub tools: Arc<Mutex<Vec<Value>>>,
    /// The session that is known; requests of others get a 404.
    pub session: Arc<Mutex<String>>,
    /// Answers everything with this status, if it is set.
    pub fault: Arc<Mutex<Option<Reply>>>,
    /// The `Authorization` that it wants, if it wants one; others get a 401.
    pub wants: Arc<Mutex<Option<String>>>,
}

impl ToolServer {
    pub fn new(kind: Kind, tools: Vec<Value>, call: impl Fn(&str, &Value) -> Outcome + Send + Sync + 'static) -> Self {
        let tools = Arc::new(Mutex::new(tools));
        let session = Arc::new(Mutex::new("session-1".to_owned()));
        let fault: Arc<Mutex<Option<Reply>>> = Arc::default();
        let wants: Arc<Mutex<Option<String>>> = Arc::default();
        let state = (tools.clone(), session.clone(), fault.clone(), wants.clone());
        let upstream = Upstream::script(move |seen| {
            let (tools, session, fault, wants) = &state;
            if wants
                .lock()
                .unwrap()
                .as_ref()
                .is_some_and(|wanted| seen.header("authorization").as_ref() != Some(wanted))
            {
                return Reply::answer(401, &[], b"");
            }
            if let Some(reply) = &*fault.lock().unwrap() {
                return reply.clone();
            }
            answer(kind, seen, &tools.lock().unwrap().clone(), &session.lock().unwrap(), &call)
        })
        .rules(|rules| rules.is_free = true);
        ToolServer { upstream, tools, session, fault, wants }
    }

    /// A server with one tool, `echo`, that says what it is told.
    pub fn echo(kind: Kind) -> Self {
        ToolServer::new(kind, vec![tool("echo", &["text"])], |_, arguments| {
            Outcome::Text(arguments["text"].as_str().unwrap_or("nothing").to_owned())
        })
    }

    pub fn url(&self) -> String {
        self.upstream.base().replace("/v1", "/mcp")
    }

    /// How often a method was asked for.
    pub fn count(&self, method: &str) -> usize {
        self.upstream.requests().iter().filter(|seen| seen.method == "POST" && seen.json()["method"] == method).count()
    }
}

fn rpc(id: &Value, result: Result<Value, (i64, String)>) -> Value {
    match result {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err((code, message)) => json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}),
    }
}

fn error(status: u16, id: &Value, code: i64, message: &str) -> Reply {
    Reply::json(status, &rpc(id, Err((code, message.to_owned()))).to_string())
}

fn answer(kind: Kind, seen: &Seen, tools: &[Value], session: &str, call: &Call) -> Reply {
    if seen.method != "POST" {
        return Reply::json(405, "{}");
    }
    let accept = seen.header("accept").unwrap_or_default();
    if !(accept.contains("application/json") && accept.contains("text/event-stream")) {
        return Reply::json(406, "{}");
    }
    let message = seen.json();
    let (id, method, params) = (&message["id"], message["method"].as_str().unwrap_or_default(), &message["params"]);
    // A member that is null is no object, and strict servers drop the message.
    if params.get("_meta").is_some_and(|meta| !meta.is_object()) {
        return error(200, id, -32602, "_meta is no object");
    }
    match kind {
        Kind::Modern => {
            if method == "initialize" {
                return error(400, id, -32022, "Unsupported protocol version");
            }
            let version = seen.header("mcp-protocol-version");
            if version.as_deref() != Some("2026-07-28") || seen.header("mcp-method").as_deref() != Some(method) {
                return error(400, id, -32020, "Header mismatch");
            }
            if params["_meta"]["io.modelcontextprotocol/protocolVersion"] != "2026-07-28"
                || !params["_meta"]["io.modelcontextprotocol/clientCapabilities"].is_object()
            {
                return error(400, id, -32602, "Missing _meta");
            }
            if method == "tools/call" && seen.header("mcp-name").as_deref() != params["name"].as_str() {
                return error(400, id, -32020, "Header mismatch: Mcp-Name");
            }
        }
        Kind::Legacy { sessions } => {
            if method == "initialize" {
                let result = json!({"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}},
                    "serverInfo": {"name": "scripted", "version": "1"}, "instructions": "Be brief."});
                let body = rpc(id, Ok(result)).to_string();
                let headers = [("Content-Type", "application/json"), ("Mcp-Session-Id", session)];
                return Reply::answer(200, &headers[..if sessions { 2 } else { 1 }], body.as_bytes());
            }
            if sessions && seen.header("mcp-session-id").as_deref() != Some(session) {
                return error(404, id, -32001, "Session not found");
            }
            if message.get("id").is_none() {
                return Reply::answer(202, &[], b"");
            }
        }
    }
    let result = match method {
        "server/discover" => {
            Ok(json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}))
        }
        "tools/list" => Ok(json!({"tools": tools})),
        "tools/call" => {
            let name = params["name"].as_str().unwrap_or_default();
            if !tools.iter().any(|tool| tool["name"] == name) {
                return error(200, id, -32602, &format!("Unknown tool: {name}"));
            }
            match call(name, &params["arguments"]) {
                Outcome::Text(text) => Ok(json!({"content": [{"type": "text", "text": text}], "isError": false})),
                Outcome::Reply(reply) => return reply,
                Outcome::After(events, text) => {
                    let token = &params["_meta"]["progressToken"];
                    let mut steps = vec![Step::Raw(EVENT_STREAM.into())];
                    for mut event in events {
                        if event["method"] == "notifications/progress" {
                            event["params"]["progressToken"] = token.clone();
                        }
                        steps.push(Step::Chunk(format!("event: message\r\ndata: {event}\r\n\r\n").into()));
                    }
                    let last = rpc(id, Ok(json!({"content": [{"type": "text", "text": text}]})));
                    steps.push(Step::Chunk(format!("data: {last}\n\n").into()));
                    steps.push(Step::Raw(b"0\r\n\r\n".to_vec()));
                    return Reply(steps);
                }
            }
        }
        "prompts/list" => Ok(json!({"prompts": [{"name": "Assist"}, {"name": "Other"}]})),
        "prompts/get" => {
            let text = format!("The prompt {}.", params["name"].as_str().unwrap_or_default());
            Ok(json!({"messages": [{"role": "user", "content": {"type": "text", "text": text}}]}))
        }
        _ if kind == Kind::Modern => return error(404, id, -32601, "Method not found"),
        _ => Err((-32601, "Method not found".to_owned())),
    };
    Reply::json(200, &rpc(id, result).to_string())
}

/// A server that speaks the transport of 2024-11-05: GET a stream, POST messages.
pub struct OldServer {
    pub url: String,
}

impl OldServer {
    /// Home Assistant's way of it: CRLF, 200 for a POST, 404 for a session that is not.
    pub fn new(tools: Vec<Value>, call: impl Fn(&str, &Value) -> Outcome + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/mcp_server/sse", listener.local_addr().unwrap());
        let streams: Arc<Mutex<HashMap<String, TcpStream>>> = Arc::default();
        let shared = Arc::new((tools, call, streams));
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let shared = shared.clone();
                thread::spawn(move || {
                    let (tools, call, streams) = &*shared;
                    old_connection(stream, tools, call, streams)
                });
            }
        });
        OldServer { url }
    }
}

fn old_connection(
    stream: TcpStream,
    tools: &[Value],
    call: &Call,
    streams: &Mutex<HashMap<String, TcpStream>>,
) -> Option<()> {
    let mut out = stream.try_clone().ok()?;
    let mut input = BufReader::new(stream);
    while let Ok(Some(head)) = http::read_head(&mut input) {
        let body = http::read_body(&mut input, &head).ok()?;
        if head.header("authorization").is_some_and(|value| value != format!("Bearer {TOKEN}")) {
            out.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 17\r\n\r\n401: Unauthorized").ok()?;
            continue;
        }
        if head.start.starts_with("GET /mcp_server/sse") {
            let id = format!("01J{}", streams.lock().unwrap().len());
            let first = format!("event: endpoint\r\ndata: /mcp_server/messages/{id}\r\n\r\n");
            out.write_all(EVENT_STREAM.as_bytes()).ok()?;
            out.write_all(&chunk(&first)).ok()?;
            streams.lock().unwrap().insert(id, out.try_clone().ok()?);
            continue;
        }
        let id = head.start.split('/').nth(3).and_then(|rest| rest.split(' ').next()).unwrap_or_default().to_owned();
        let to = streams.lock().unwrap().get(&id).and_then(|to| to.try_clone().ok());
        let Some(mut to) = to.filter(|_| head.start.starts_with("POST /mcp_server/messages/")) else {
            out.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").ok()?;
            continue;
        };
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
        let message: Value = serde_json::from_slice(&body).ok()?;
        let id = &message["id"];
        let result = match message["method"].as_str()? {
            "initialize" => {
                json!({"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": {"name": "old", "version": "1"}})
            }
            "tools/list" => json!({"tools": tools}),
            "tools/call" => match call(message["params"]["name"].as_str()?, &message["params"]["arguments"]) {
                Outcome::Text(text) => json!({"content": [{"type": "text", "text": text}], "isError": false}),
                _ => continue,
            },
            _ => continue,
        };
        let event = format!(": ping\r\n\r\nevent: message\r\ndata: {}\r\n\r\n", rpc(id, Ok(result)));
        to.write_all(&chunk(&event)).ok()?;
    }
    Some(())
}

fn chunk(event: &str) -> Vec<u8> {
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

/// A program that speaks over standard input and output: `echo` says its arguments, `env` its environment, `die` ends it.
pub const PROGRAM: &str = r#"
say() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$1" "$2"; }
text() { say "$1" '{"content":[{"type":"text","text":"'"$2"'"}]}'; }
echo "program starts" >&2
echo "a greeting that is no message"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
  *'"initialize"'*) say "$id" '{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}' ;;
  *'"tools/list"'*) say "$id" '{"tools":[{"name":"echo","inputSchema":{"type":"object"}},{"name":"env","inputSchema":{"type":"object"}},{"name":"die","inputSchema":{"type":"object"}}]}' ;;
  *'"name":"echo"'*) text "$id" "$(printf '%s' "$line" | sed -n 's/.*"text":"\([^"]*\)".*/\1/p')" ;;
  *'"name":"env"'*) text "$id" "$(env | grep -v '^_=' | grep -v '^PWD=' | grep -v '^SHLVL=' | sort | tr '\n' ' ')$$" ;;
  *'"name":"die"'*) exit 3 ;;
  esac
done
"#;
