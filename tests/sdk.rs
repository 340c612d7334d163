//! The official SDKs as callers: the scenarios of `tests/sdk`, each with the upstream that its comment asks for.
//!
//! `tests/run` prepares the SDKs and names them in `GATEWAY_SDK_PYTHON` (an interpreter) and `GATEWAY_SDK_NODE` (a
//! directory with `node_modules`). `GATEWAY_SDK=off` leaves these tests out, loudly.

mod clients;
mod mcp;
mod messages;
mod more;

use crate::support::anthropic::reply as claude;
use crate::support::reply::{delta, event, text};
use crate::support::{Gate, Gateway, MASTER_KEY, Reply, Step, Upstream, config, deployment, model};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{Write, stderr};
use std::process::{Child, Command, Stdio};

const MODEL: &str = "sdk-model";

#[derive(Clone, Copy, PartialEq)]
enum Sdk {
    Python,
    Node,
}

/// Scenarios that need nothing but replies; each stands for one test per SDK.
macro_rules! scenarios {
    ($($name:ident: $replies:expr;)*) => {
        const PLAIN: &[&str] = &[$(stringify!($name)),*];

        mod python {
            use super::*;
            $(#[test] fn $name() { holds(Sdk::Python, stringify!($name), $replies); })*
        }

        mod node {
            use super::*;
            $(#[test] fn $name() { holds(Sdk::Node, stringify!($name), $replies); })*
        }
    };
}

scenarios! {
    whole: vec![Reply::whole()];
    stream: vec![pieces()];
    stream_usage: vec![pieces()];
    unknown_model: vec![];
    wrong_key: vec![];
    provider_key_failed: vec![Reply::error(401, "invalid_request_error", Some("invalid_api_key"), "Incorrect API key.")];
    rate_limited: vec![too_many("7")];
    retried: vec![too_many("0.1"), Reply::whole()];
    server_error: vec![failed()];
    server_error_stream: vec![failed()];
    models: vec![];
    headers: vec![Reply::whole(), pieces()];
    error_event: vec![begun().send(&event(&overloaded())).end_body()];
    cut_stream: vec![begun().then(Step::Close)];
}

/// The scenarios that have a test of their own below.
const OWN: &[(Sdk, &[&str])] = &[
    (Sdk::Python, &["tools", "thinking", "timeout", "cancelled", "async_client"]),
    (Sdk::Node, &["tools", "thinking", "timeout", "cancelled"]),
];

#[test]
fn every_scenario_is_played() {
    for (sdk, own) in OWN {
        let Some(listed) = listed(*sdk, "chat") else { continue };
        let mut played: Vec<&str> = PLAIN.iter().chain(*own).copied().collect();
        played.sort_unstable();
        assert_eq!(listed, played);
    }
}

/// The scenarios of a script in order; `None` if SDKs are left out.
fn listed(sdk: Sdk, script: &str) -> Option<Vec<String>> {
    let output = sdk.command(script, "--list")?.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut listed: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    listed.sort_unstable();
    Some(listed)
}

#[test]
fn the_async_python_client_is_answered() {
    holds(Sdk::Python, "async_client", vec![Reply::whole(), pieces()]);
}

#[test]
fn python_calls_tools() {
    calls_tools(Sdk::Python);
}

#[test]
fn node_calls_tools() {
    calls_tools(Sdk::Node);
}

#[test]
fn python_thinks_between_tools_of_an_anthropic() {
    thinks(Sdk::Python);
}

#[test]
fn node_thinks_between_tools_of_an_anthropic() {
    thinks(Sdk::Node);
}

#[test]
fn a_timeout_in_python_ends_the_call_upstream() {
    times_out(Sdk::Python);
}

#[test]
fn a_timeout_in_node_ends_the_call_upstream() {
    times_out(Sdk::Node);
}

#[test]
fn a_stream_left_by_python_ends_upstream() {
    leaves(Sdk::Python);
}

#[test]
fn a_stream_left_by_node_ends_upstream() {
    leaves(Sdk::Node);
}

fn calls_tools(sdk: Sdk) {
    let Some(upstream) = holds(sdk, "tools", vec![tool_calls(), pieces()]) else { return };
    let requests: Vec<Value> = upstream.requests().iter().map(|seen| seen.json()).collect();
    assert_eq!(requests[0]["tools"][0]["function"]["name"], "get_weather");
    let roles: Vec<_> = requests[1]["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str()).collect();
    assert_eq!(roles, [Some("user"), Some("assistant"), Some("tool"), Some("tool")]);
}

/// The second turn is refused upstream unless the thinking comes back as it was, with its signature.
fn thinks(sdk: Sdk) {
    let replies = vec![claude::stream(&claude::loop_blocks(), "tool_use"), claude::pieces()];
    let upstream = Upstream::queue(replies).anthropic();
    let entry = deployment(MODEL, "anthropic/claude-sonnet-4-5", upstream.base());
    let Some(play) = Play::over(sdk, "chat", "thinking", upstream, entry, 2) else { return };
    let (upstream, gateway) = play.ends();
    let sent = upstream.requests()[1].json();
    assert_eq!(sent["thinking"]["type"], "enabled");
    assert_eq!(sent["messages"][1]["content"], json!(claude::loop_blocks()));
    // 12 x 3 + 5 x 15 millionths of a dollar each.
    assert!(gateway.wait_calls(2).iter().all(|call| call["cost_usd"] == "0.000111"));
}

fn times_out(sdk: Sdk) {
    let Some(upstream) = holds(sdk, "timeout", vec![Reply::silence()]) else { return };
    upstream.wait_departures(1);
}

/// The second call is answered only once the gateway has left the first.
fn leaves(sdk: Sdk) {
    let gate = Gate::new();
    let held = Reply::stream().send(&role()).send(&text("Hello")).then(Step::Hold);
    let Some(play) = Play::start(sdk, "cancelled", vec![held, Reply::after(&gate, Reply::whole())]) else { return };
    play.upstream.wait_departures(1);
    gate.open();
    play.holds();
}

/// Plays a scenario to its good end, with one call upstream for each reply; `None` if SDKs are left out.
fn holds(sdk: Sdk, scenario: &str, replies: Vec<Reply>) -> Option<Upstream> {
    Some(Play::start(sdk, scenario, replies)?.holds())
}

/// A scenario that is under way.
struct Play {
    child: Child,
    upstream: Upstream,
    calls: usize,
    /// Lives as long as the scenario.
    gateway: Gateway,
    /// So does the server of its tools.
    house: Option<crate::support::mcp::ToolServer>,
}

impl Play {
    /// Starts a scenario of OpenAI's SDK against a gateway of its own; `None` if SDKs are left out.
    fn start(sdk: Sdk, scenario: &str, replies: Vec<Reply>) -> Option<Self> {
        let calls = replies.len();
        let upstream = if replies.is_empty() { Upstream::new(failed()) } else { Upstream::queue(replies) };
        let entry = model(MODEL, &upstream);
        Play::over(sdk, "chat", scenario, upstream, entry, calls)
    }

    /// The same of any script, with that entry for the model.
    fn over(sdk: Sdk, script: &str, scenario: &str, upstream: Upstream, entry: String, calls: usize) -> Option<Self> {
        let mut command = sdk.command(script, scenario)?;
        let gateway = Gateway::start(&config("", &[entry]));
        let root = if matches!(script, "chat" | "more") { "/v1" } else { "" };
        command.env("BASE_URL", format!("http://{}{root}", gateway.address()));
        let child = command.spawn().unwrap();
        Some(Play { child, upstream, calls, gateway, house: None })
    }

    fn holds(self) -> Upstream {
        self.ends().0
    }

    /// Waits for the good end.
    fn ends(self) -> (Upstream, Gateway) {
        let output = self.child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&said));
        drop(self.house);
        assert_eq!(self.upstream.requests().len(), self.calls, "calls upstream");
        (self.upstream, self.gateway)
    }
}

impl Sdk {
    /// The command for a scenario, without `BASE_URL`; `None` if SDKs are left out.
    ///
    /// Its environment is empty but for what it needs: a proxy of this machine must not come between.
    fn command(self, script: &str, scenario: &str) -> Option<Command> {
        let (variable, script) = match self {
            Sdk::Python => ("GATEWAY_SDK_PYTHON", format!("python/{script}.py")),
            Sdk::Node => ("GATEWAY_SDK_NODE", format!("node/{script}.mjs")),
        };
        let place = environment(variable)?;
        let mut command = Command::new(if self == Sdk::Python { place.clone() } else { "node".into() });
        command.arg(format!("{}/tests/sdk/{script}", env!("CARGO_MANIFEST_DIR"))).arg(scenario);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env(variable, place).env("API_KEY", MASTER_KEY).env("MODEL", MODEL);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Some(command)
    }
}

/// Where an SDK is; `None`, and a line on standard error, if SDKs are left out.
fn environment(variable: &str) -> Option<OsString> {
    if std::env::var_os("GATEWAY_SDK").is_some_and(|value| value == "off") {
        // Not `eprintln!`: the test runner would keep it to itself.
        stderr().write_all(b"\nSKIPPED, because GATEWAY_SDK=off: the official SDKs are not tested\n").unwrap();
        return None;
    }
    let place = std::env::var_os(variable);
    Some(place.unwrap_or_else(|| panic!("{variable} is not set: use tests/run, or leave SDKs out by GATEWAY_SDK=off")))
}

fn role() -> String {
    delta(json!({"role": "assistant", "content": ""}), None)
}

/// The text of [`Reply::whole`] as a stream.
fn pieces() -> Reply {
    Reply::texts(&["Hello", " über", " there"])
}

/// A stream that is not complete.
fn begun() -> Reply {
    Reply::stream().send(&role()).send(&text("Hello")).send(&text(" über"))
}

fn overloaded() -> Value {
    json!({"error": {"message": "The model fell over.", "type": "server_error", "param": null, "code": "overloaded"}})
}

fn failed() -> Reply {
    Reply::error(500, "server_error", Some("server_error"), "The server had an error.")
}

fn too_many(retry_after: &str) -> Reply {
    let error = json!({"message": "Slow down.", "type": "requests", "param": null, "code": "rate_limit_exceeded"});
    let headers = [("Content-Type", "application/json"), ("retry-after", retry_after)];
    Reply::answer(429, &headers, json!({ "error": error }).to_string().as_bytes())
}

/// Two tool calls, their arguments in several pieces.
fn tool_calls() -> Reply {
    let calls = ["Oslo", "Rome"].into_iter().enumerate().flat_map(|(index, place)| {
        let head = json!({"index": index, "id": format!("call_{}", place.to_lowercase()), "type": "function",
            "function": {"name": "get_weather", "arguments": ""}});
        let arguments = ["{\"pl", "ace\":\"", place, "\"}"];
        let parts = arguments.map(|part| json!({"index": index, "function": {"arguments": part}}));
        [head].into_iter().chain(parts)
    });
    let start = Reply::stream().send(&delta(json!({"role": "assistant", "content": null}), None));
    let reply = calls.fold(start, |reply, call| reply.send(&delta(json!({"tool_calls": [call]}), None)));
    reply.send(&delta(json!({}), Some("tool_calls"))).send("data: [DONE]\n\n").end_body()
}
