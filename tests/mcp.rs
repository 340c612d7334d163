//! Servers of tools behind the gateway, and the gateway as one.

mod registry;
mod upstreams;

use crate::keys::{generate, get, post, text};
use crate::support::mcp::{Kind, OldServer, Outcome, PROGRAM, TOKEN, ToolServer, tool};
use crate::support::upstream::refusing;
use crate::support::{Answer, Gateway, MASTER_KEY, Reply, Setup, Step, config};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub const PLAIN: Kind = Kind::Legacy { sessions: false };

pub fn serve(mcp: &str) -> Gateway {
    Gateway::start(&(config("", &[]) + mcp))
}

pub fn server(name: &str, url: &str) -> String {
    format!("[mcp_servers.{name}]\nurl = \"{url}\"\n")
}

/// A message to an endpoint of the gateway.
pub fn rpc(gateway: &Gateway, key: &str, path: &str, method: &str, params: Value) -> Answer {
    let bearer = format!("Bearer {key}");
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
    ];
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
    gateway.call("POST", path, &headers, body.to_string().as_bytes())
}

pub fn result(gateway: &Gateway, path: &str, method: &str, params: Value) -> Value {
    let answer = rpc(gateway, MASTER_KEY, path, method, params).ok().json();
    assert_eq!(answer["id"], 7);
    answer["result"].clone()
}

pub fn names(list: &Value) -> Vec<&str> {
    list["tools"].as_array().unwrap_or_else(|| panic!("{list}")).iter().map(|tool| text(&tool["name"])).collect()
}

pub fn call(gateway: &Gateway, name: &str, arguments: Value) -> Answer {
    post(gateway, MASTER_KEY, "/mcp-rest/tools/call", &json!({"name": name, "arguments": arguments}))
}

pub fn said(answer: &Value) -> &str {
    text(&answer["content"][0]["text"])
}

#[test]
fn tools_of_every_revision_are_listed_and_called() {
    for kind in [PLAIN, Kind::Legacy { sessions: true }, Kind::Modern] {
        let up = ToolServer::echo(kind);
        let gateway = serve(&server("up", &up.url()));
        let greeting =
            json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let hello = result(&gateway, "/mcp", "initialize", greeting);
        assert_eq!(hello["protocolVersion"], "2025-06-18");
        assert_eq!(names(&result(&gateway, "/mcp", "tools/list", json!({}))), ["up-echo"]);
        for path in ["/up/mcp", "/mcp/up"] {
            assert_eq!(names(&result(&gateway, path, "tools/list", json!({}))), ["echo"]);
            let answer = result(&gateway, path, "tools/call", json!({"name": "echo", "arguments": {"text": path}}));
            assert_eq!(said(&answer), path);
        }
        let answer = result(&gateway, "/mcp", "tools/call", json!({"name": "up-echo", "arguments": {"text": "a"}}));
        assert_eq!(said(&answer), "a");
        assert_eq!(said(&call(&gateway, "echo", json!({"text": "b"})).ok().json()), "b");
        // One handshake, one list: the rest is remembered.
        assert_eq!(up.count("tools/list"), 1);
    }
}

#[test]
fn the_old_transport_is_spoken_and_found_out() {
    let up = OldServer::new(vec![tool("echo", &["text"])], |_, a| Outcome::Text(text(&a["text"]).to_owned()));
    let found_out = server("up", &up.url);
    for entry in [format!("{found_out}transport = \"sse\"\n"), found_out] {
        let gateway = serve(&entry);
        assert_eq!(said(&call(&gateway, "up-echo", json!({"text": "hi"})).ok().json()), "hi");
        assert_eq!(names(&result(&gateway, "/up/mcp", "tools/list", json!({}))), ["echo"]);
    }
}

#[test]
fn a_program_has_what_is_declared_and_ends_with_the_gateway() {
    let entry = "[mcp_servers.sh]\ncommand = [\"/bin/sh\", \"program\"]\nenv = { PATH = \"/usr/bin:/bin\", TOKEN = \"env:UPSTREAM_KEY\" }\n";
    let setup = Setup::toml(&(config("", &[]) + entry)).variable("SECRET", "of-the-gateway");
    std::fs::write(setup.dir().join("program"), PROGRAM).unwrap();
    let mut gateway = setup.start();
    assert_eq!(said(&call(&gateway, "sh-echo", json!({"text": "hi"})).ok().json()), "hi");
    let answer = call(&gateway, "sh-env", json!({})).ok().json();
    let (env, pid) = said(&answer).rsplit_once(' ').unwrap();
    assert_eq!(env, format!("PATH=/usr/bin:/bin TOKEN={}", crate::support::UPSTREAM_KEY));
    gateway.wait_log("the program's standard error", |line| line.contains("program starts"));
    // It dies in mid-call: that is told, and the next call starts another one.
    let died = call(&gateway, "sh-die", json!({})).error(502);
    assert!(died.message.contains("ended"), "{died:?}");
    let answer = call(&gateway, "sh-env", json!({})).ok().json();
    let (_, second) = said(&answer).rsplit_once(' ').unwrap();
    assert_ne!(pid, second);
    let alive = format!("/proc/{second}/stat");
    assert!(std::path::Path::new(&alive).exists());
    gateway.signal("TERM");
    gateway.wait_exit();
    assert!(!std::path::Path::new(&alive).exists(), "the program outlives the gateway");
}

#[test]
fn a_program_that_ends_at_once_is_not_started_for_ever() {
    let gateway = serve(
        "[mcp_servers.bad]\ncommand = [\"/bin/sh\", \"-c\", \"echo no >&2; exit 1\"]\n[mcp_servers.none]\ncommand = \"/nowhere/program\"\n",
    );
    let look = || get(&gateway, MASTER_KEY, "/v1/mcp/server/health").ok().json();
    let rows = look();
    assert!(text(&rows[1]["health_check_error"]).contains("cannot be started"), "{rows}");
    for _ in 0..12 {
        look();
    }
    let rows = look();
    assert!(text(&rows[0]["health_check_error"]).contains("started again in"), "{rows}");
    assert!(gateway.logs().matches("\"no\"").count() <= 5);
}

#[test]
fn a_key_sees_what_it_is_granted() {
    let make = || {
        ToolServer::new(PLAIN, vec![tool("read", &["what"]), tool("wipe", &["what", "how"])], |name, _| {
            Outcome::Text(name.to_owned())
        })
    };
    let (a, b, open) = (make(), make(), make());
    let entries = server("a", &a.url())
        + "access_groups = [\"house\"]\nallowed_params = { wipe = [\"what\"] }\n"
        + &server("b", &b.url())
        + "disallowed_tools = [\"wipe\"]\n"
        + &server("open", &open.url())
        + "allow_all_keys = true\nallowed_tools = [\"read\"]\n"
        + "[tools.sets]\nsome = { a = [\"wipe\"], b = [\"read\", \"wipe\"] }\n";
    let gateway = serve(&entries);
    let sees = |permission: Value| {
        let key = generate(&gateway, &json!({"object_permission": permission}));
        let answer = rpc(&gateway, text(&key["key"]), "/mcp", "tools/list", json!({})).ok().json();
        names(&answer["result"]).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(sees(Value::Null), ["open-read"]);
    assert_eq!(sees(json!({"mcp_servers": ["b"]})), ["b-read", "open-read"]);
    assert_eq!(sees(json!({"mcp_access_groups": ["house"]})), ["a-read", "a-wipe", "open-read"]);
    assert_eq!(sees(json!({"mcp_tool_permissions": {"a": ["wipe"]}})), ["a-wipe", "open-read"]);
    assert_eq!(sees(json!({"mcp_servers": ["a"], "blocked_tools": ["a-wipe"]})), ["a-read", "open-read"]);
    assert_eq!(sees(json!({"mcp_servers": ["nothing"]})), ["open-read"]);
    assert_eq!(sees(json!({"mcp_toolsets": ["some"]})), ["a-wipe", "b-read", "open-read"]);
    assert_eq!(names(&result(&gateway, "/some/mcp", "tools/list", json!({}))), ["a-wipe", "b-read"]);
    assert_eq!(result(&gateway, "/mcp", "tools/list", json!({}))["tools"].as_array().unwrap().len(), 4);

    let none = generate(&gateway, &json!({}));
    let none = text(&none["key"]);
    // Neither a path, nor a header, nor a name leads further than the grant.
    rpc(&gateway, none, "/a/mcp", "tools/list", json!({})).error(404);
    let answer = rpc(&gateway, none, "/mcp", "tools/call", json!({"name": "a-read", "arguments": {}})).json();
    assert_eq!(answer["error"]["code"], -32602);
    post(&gateway, none, "/mcp-rest/tools/call", &json!({"server_id": "a", "name": "read"})).error(404);
    post(&gateway, none, "/mcp-rest/tools/call", &json!({"name": "a-read"})).error(404);
    assert_eq!(get(&gateway, none, "/v1/mcp/server").ok().json().as_array().unwrap().len(), 1);
    assert_eq!((a.count("tools/call"), b.count("tools/call")), (0, 0));

    // Parameters: those that are not allowed are neither shown nor taken.
    let list = result(&gateway, "/a/mcp", "tools/list", json!({}));
    let wipe = &list["tools"][1]["inputSchema"]["properties"];
    assert_eq!(*wipe, json!({"what": {"type": "string"}}));
    let body = json!({"name": "a-wipe", "arguments": {"what": "x", "how": "all"}});
    post(&gateway, MASTER_KEY, "/mcp-rest/tools/call", &body).error(403);
    assert_eq!(a.count("tools/call"), 0);
}

#[test]
fn a_team_bounds_its_keys_and_gives_to_those_that_name_nothing() {
    let (a, b) = (ToolServer::echo(PLAIN), ToolServer::echo(PLAIN));
    let gateway = serve(&(server("a", &a.url()) + &server("b", &b.url())));
    let team = json!({"team_id": "t", "object_permission": {"mcp_servers": ["a"]}});
    post(&gateway, MASTER_KEY, "/team/new", &team).ok();
    let sees = |permission: Value| {
        let key = generate(&gateway, &json!({"team_id": "t", "object_permission": permission}));
        let answer = rpc(&gateway, text(&key["key"]), "/mcp", "tools/list", json!({})).ok().json();
        names(&answer["result"]).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(sees(Value::Null), ["a-echo"]);
    assert_eq!(sees(json!({"mcp_servers": ["a", "b"]})), ["a-echo"]);
    assert_eq!(sees(json!({"mcp_servers": ["b"]})), Vec::<String>::new());
}

#[test]
fn a_dead_server_costs_the_others_nothing() {
    let (a, b) = (ToolServer::echo(PLAIN), ToolServer::echo(PLAIN));
    let silent = ToolServer::echo(PLAIN);
    *silent.fault.lock().unwrap() = Some(Reply(vec![Step::Hold]));
    let (_taken, dead) = refusing();
    let entries = server("a", &a.url())
        + &server("b", &b.url())
        + &server("dead", &format!("http://{dead}/mcp"))
        + &server("silent", &silent.url());
    let gateway = serve(&entries);
    let started = Instant::now();
    let list = result(&gateway, "/mcp", "tools/list", json!({}));
    assert_eq!(names(&list), ["a-echo", "b-echo"]);
    let missing = &list["_meta"]["gateway/missing_servers"];
    assert!(text(&missing["dead"]).contains("refused") && text(&missing["silent"]).contains("within"), "{missing}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // Nobody waits for them a second time.
    let started = Instant::now();
    assert_eq!(names(&result(&gateway, "/mcp", "tools/list", json!({}))).len(), 2);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    // A call asks nobody but its own server.
    let started = Instant::now();
    assert_eq!(said(&call(&gateway, "a-echo", json!({"text": "x"})).ok().json()), "x");
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let rows = get(&gateway, MASTER_KEY, "/v1/mcp/server").ok().json();
    let status = |name: &str| {
        let row = rows.as_array().unwrap().iter().find(|row| row["server_name"] == name).unwrap();
        text(&row["status"]).to_owned()
    };
    assert_eq!((status("a"), status("dead")), ("healthy".to_owned(), "unhealthy".to_owned()));
}

#[test]
fn a_forgotten_session_is_begun_again_and_the_call_sent_once_more() {
    let up = ToolServer::echo(Kind::Legacy { sessions: true });
    let gateway = serve(&server("up", &up.url()));
    call(&gateway, "up-echo", json!({"text": "x"})).ok();
    *up.session.lock().unwrap() = "session-2".to_owned();
    assert_eq!(said(&call(&gateway, "up-echo", json!({"text": "y"})).ok().json()), "y");
    assert_eq!((up.count("initialize"), up.count("tools/call")), (2, 3));
}

#[test]
fn a_call_that_may_have_run_is_not_sent_again() {
    let up = ToolServer::new(
        PLAIN,
        vec![tool("cut", &[]), tool("huge", &[]), tool("junk", &[]), tool("slow", &[])],
        |name, _| {
            Outcome::Reply(match name {
                "cut" => Reply(vec![Step::Close]),
                "huge" => {
                    Reply::json(200, &format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"{}\"}}", "x".repeat(70_000)))
                }
                "junk" => Reply::answer(200, &[("Content-Type", "application/json")], b"<html>no</html>"),
                _ => Reply(vec![Step::Hold]),
            })
        },
    );
    let gateway = serve(&(server("up", &up.url()) + "answer_limit = \"64KiB\"\ntimeout = \"500ms\"\n"));
    for (name, status, part) in [
        ("cut", 502, "without an answer"),
        ("huge", 502, "answer_limit"),
        ("junk", 502, "no message"),
        ("slow", 504, "500ms"),
    ] {
        let error = call(&gateway, &format!("up-{name}"), json!({})).error(status);
        assert!(error.message.contains(part), "{name}: {error:?}");
        // A client of the protocol gets the same as a result that its model can read.
        let answer = result(&gateway, "/mcp", "tools/call", json!({"name": format!("up-{name}")}));
        assert!(answer["isError"] == true && said(&answer).contains(part), "{answer}");
    }
    assert_eq!(up.count("tools/call"), 8);
}

#[test]
fn a_refused_credential_is_not_shown_again() {
    let up = ToolServer::echo(PLAIN);
    *up.fault.lock().unwrap() = Some(Reply::answer(401, &[("Content-Type", "text/plain")], b"401: Unauthorized"));
    let gateway =
        serve(&(server("up", &up.url()) + "auth_type = \"bearer_token\"\nauth_value = \"env:UPSTREAM_KEY\"\n"));
    up.upstream.wait_requests(1);
    for _ in 0..3 {
        assert!(call(&gateway, "up-echo", json!({})).error(404).message.contains("401"));
    }
    assert_eq!(up.upstream.requests().len(), 1);
    let bearer = format!("Bearer {}", crate::support::UPSTREAM_KEY);
    assert_eq!(up.upstream.requests()[0].header("authorization"), Some(bearer));
    assert!(!gateway.logs().contains(crate::support::UPSTREAM_KEY));
}

#[test]
fn a_tool_that_is_new_is_found() {
    let up = ToolServer::echo(PLAIN);
    let gateway = serve(&(server("up", &up.url()) + "tools_age = \"0s\"\n"));
    assert_eq!(names(&result(&gateway, "/mcp", "tools/list", json!({}))), ["up-echo"]);
    *up.tools.lock().unwrap() = vec![tool("other", &[])];
    assert_eq!(names(&result(&gateway, "/mcp", "tools/list", json!({}))), ["up-other"]);
}

#[test]
fn progress_reaches_the_caller_under_his_own_token() {
    let up = ToolServer::new(PLAIN, vec![tool("work", &[])], |_, _| {
        let step = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}});
        Outcome::After(vec![step], "done".to_owned())
    });
    let gateway = serve(&server("up", &up.url()));
    let params = json!({"name": "work", "_meta": {"progressToken": "mine"}});
    let answer = rpc(&gateway, MASTER_KEY, "/up/mcp", "tools/call", params).ok();
    assert_eq!(answer.header("content-type").as_deref(), Some("text/event-stream"));
    let events: Vec<Value> = answer
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|d| serde_json::from_str(d).unwrap())
        .collect();
    assert_eq!(events[0]["params"], json!({"progress": 1, "progressToken": "mine"}));
    assert_eq!(said(&events[1]["result"]), "done");
}

#[test]
fn a_call_has_a_row_with_its_cost() {
    let up = ToolServer::echo(PLAIN);
    let gateway = serve(&(server("up", &up.url()) + "cost_per_call = 0.25\ntool_costs = { other = 1 }\n"));
    let key = generate(&gateway, &json!({"key_alias": "phone", "object_permission": {"mcp_servers": ["up"]}}));
    let key = text(&key["key"]);
    rpc(&gateway, key, "/mcp", "tools/call", json!({"name": "up-echo", "arguments": {"text": "a"}})).ok();
    let spent = crate::ledger::rows(&gateway, 1);
    assert_eq!(spent[0]["mcp_namespaced_tool_name"], "up/echo");
    assert_eq!((&spent[0]["call_type"], &spent[0]["spend"]), (&json!("call_mcp_tool"), &json!(0.25)));
}

#[test]
fn web_pages_of_others_are_kept_out() {
    let up = ToolServer::echo(PLAIN);
    let gateway =
        Gateway::start(&(config("public_url = \"https://llm.home.example\"", &[]) + &server("up", &up.url())));
    let ask = |host: &str, origin: Option<&str>| {
        let bearer = format!("Bearer {MASTER_KEY}");
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        let mut client = gateway.client();
        let origin = origin.map_or(String::new(), |origin| format!("Origin: {origin}\r\n"));
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: {host}\r\n{origin}Authorization: {bearer}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        client.send(head.as_bytes());
        client.answer().status
    };
    assert_eq!(ask("llm.home.example", None), 200);
    assert_eq!(ask("127.0.0.1:4000", None), 200);
    assert_eq!(ask("llm.home.example", Some("https://llm.home.example")), 200);
    assert_eq!(ask("evil.example", None), 403);
    assert_eq!(ask("llm.home.example", Some("https://evil.example")), 403);
    assert_eq!(ask("llm.home.example", Some("null")), 403);
}

#[test]
fn clients_of_2026_07_28_are_served_without_a_handshake() {
    let up = ToolServer::echo(PLAIN);
    let gateway = serve(&server("up", &up.url()));
    let ask = |method: &str, name: Option<&str>, version: &str, mut params: Value| {
        params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}});
        let bearer = format!("Bearer {MASTER_KEY}");
        let mut headers = vec![
            ("Authorization", bearer.as_str()),
            ("Accept", "application/json, text/event-stream"),
            ("MCP-Protocol-Version", version),
            ("Mcp-Method", method),
        ];
        headers.extend(name.map(|name| ("Mcp-Name", name)));
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        gateway.call("POST", "/up/mcp", &headers, body.to_string().as_bytes())
    };
    let found = ask("server/discover", None, "2026-07-28", json!({})).ok().json();
    assert_eq!(found["result"]["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(found["result"]["resultType"], "complete");
    let call = json!({"name": "echo", "arguments": {"text": "new"}});
    let answer = ask("tools/call", Some("echo"), "2026-07-28", call.clone()).ok().json();
    assert_eq!((said(&answer["result"]), &answer["result"]["resultType"]), ("new", &json!("complete")));
    let wrong = ask("tools/call", Some("other"), "2026-07-28", call);
    assert_eq!((wrong.status, wrong.json()["error"]["code"].as_i64()), (400, Some(-32020)));
    let unknown = ask("no/such", None, "2026-07-28", json!({}));
    assert_eq!((unknown.status, unknown.json()["error"]["code"].as_i64()), (404, Some(-32601)));
    let future = ask("tools/list", None, "2031-01-01", json!({}));
    assert_eq!((future.status, future.json()["error"]["code"].as_i64()), (400, Some(-32022)));
}

#[test]
fn the_house_is_found_in_both_releases() {
    // 2026.2: one address, no prefix; 2026.11: Assist's own address as well.
    let old = house(&["/api/mcp"], "HassListAddItem");
    let new = house(&["/api/mcp", "/api/mcp/assist"], "todo__HassListAddItem");
    for (up, path, name) in [(&old, "/api/mcp", "HassListAddItem"), (&new, "/api/mcp/assist", "todo__HassListAddItem")]
    {
        let base = up.base().replace("/v1", "");
        let entry = format!("[home_assistant]\nurl = \"{base}\"\ntoken = \"env:HA\"\n");
        let gateway = Setup::toml(&(config("", &[]) + &entry)).secret("HA", TOKEN).start();
        let list = result(&gateway, "/home_assistant/mcp", "tools/list", json!({}));
        assert_eq!(names(&list), [name]);
        let full = format!("home_assistant-{name}");
        let answer = call(&gateway, &full, json!({"item": "milk", "name": "Shopping"})).ok().json();
        assert!(said(&answer).contains("action_done"), "{answer}");
        assert_eq!(up.requests().last().unwrap().target, path);
    }
}

/// Home Assistant's streamable HTTP, as measured: stateless, strict about `Accept` and the spelling of `Bearer`.
fn house(paths: &'static [&'static str], tool_name: &'static str) -> crate::support::Upstream {
    crate::support::Upstream::script(move |seen| {
        let plain = |status: u16, body: &str| Reply::answer(status, &[("Content-Type", "text/plain; charset=utf-8")], body.as_bytes());
        if !paths.contains(&seen.target.as_str()) {
            return plain(404, "404: Not Found");
        }
        if seen.header("authorization") != Some(format!("Bearer {TOKEN}")) {
            return plain(401, "401: Unauthorized");
        }
        if seen.method != "POST" {
            return plain(405, "405: Method Not Allowed");
        }
        if !seen.header("accept").unwrap_or_default().contains("application/json")
            || !seen.header("content-type").unwrap_or_default().contains("application/json")
        {
            return plain(400, "Client must accept application/json");
        }
        let message = seen.json();
        if message.get("id").is_none() {
            return Reply::answer(202, &[], b"");
        }
        let result = match text(&message["method"]) {
            "initialize" => json!({"protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"prompts": {"listChanged": false}, "tools": {"listChanged": false}},
                "serverInfo": {"name": "home-assistant", "version": "1.26.0"}}),
            "tools/list" => json!({"tools": [tool(tool_name, &["item", "name"])]}),
            "tools/call" => json!({"content": [{"type": "text", "text": "{\"response_type\": \"action_done\"}"}], "isError": false}),
            _ => {
                let error = json!({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32602, "message": "Invalid request parameters"}});
                return Reply::json(200, &error.to_string());
            }
        };
        Reply::json(200, &json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string())
    })
    .rules(|rules| rules.is_free = true)
}
