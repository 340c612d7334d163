//! What servers of tools do to the gateway: they take tokens back, start again, change, and are given up.

use super::{PLAIN, call, names, result, rpc, said, serve, server};
use crate::keys::{generate, post, text};
use crate::support::mcp::{Kind, Outcome, ToolServer, tool};
use crate::support::{Gateway, MASTER_KEY, Reply, Setup, Step, Upstream, config};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const SECRET: &str = "client-secret-with-%-and-:";

/// A server that gives tokens, `token-1` first, each good for so many seconds; or fails with a status.
fn issuer(seconds: u64, status: Arc<Mutex<u16>>) -> (Upstream, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let given = count.clone();
    let up = Upstream::script(move |seen| {
        assert_eq!(seen.header("content-type").as_deref(), Some("application/x-www-form-urlencoded"));
        // RFC 6749, section 2.3.1: both are encoded as in a form before they are joined.
        let basic = "Basic aXQlMjBpczpjbGllbnQlMkRzZWNyZXQlMkR3aXRoJTJEJTI1JTJEYW5kJTJEJTNB";
        assert_eq!(seen.header("authorization").as_deref(), Some(basic), "{}", seen.text());
        assert_eq!(seen.text(), "grant_type=client_credentials&scope=read%20call");
        let status = *status.lock().unwrap();
        let number = given.fetch_add(1, Ordering::SeqCst) + 1;
        let body = json!({"access_token": format!("token-{number}"), "token_type": "Bearer", "expires_in": seconds});
        Reply::json(status, &body.to_string())
    })
    .rules(|rules| rules.is_free = true);
    (up, count)
}

fn with_tokens(up: &ToolServer, issuer: &Upstream) -> Gateway {
    let entry = server("up", &up.url())
        + &format!(
            "auth_type = \"oauth2\"\ntoken_url = \"{}/token\"\nclient_id = \"it is\"\nclient_secret = \"env:SECRET\"\nscopes = [\"read\", \"call\"]\n",
            issuer.base()
        );
    Setup::toml(&(config("", &[]) + &entry)).secret("SECRET", SECRET).start()
}

#[test]
fn a_token_is_fetched_kept_and_got_anew_when_it_is_taken_back() {
    let (up, status) = (ToolServer::echo(PLAIN), Arc::new(Mutex::new(200)));
    let (issuer, given) = issuer(3600, status);
    *up.wants.lock().unwrap() = Some("Bearer token-1".to_owned());
    let gateway = with_tokens(&up, &issuer);
    for _ in 0..3 {
        assert_eq!(said(&call(&gateway, "up-echo", json!({"text": "x"})).ok().json()), "x");
    }
    assert_eq!(given.load(Ordering::SeqCst), 1);
    // Before its time it is good no more: nothing was done with it, so the call goes on with another one.
    *up.wants.lock().unwrap() = Some("Bearer token-2".to_owned());
    assert_eq!(said(&call(&gateway, "up-echo", json!({"text": "y"})).ok().json()), "y");
    assert_eq!(given.load(Ordering::SeqCst), 2);
    // A new one that is refused, too, is the end.
    *up.wants.lock().unwrap() = Some("Bearer other".to_owned());
    assert!(call(&gateway, "up-echo", json!({})).any_error().message.contains("401"));
    let before = up.upstream.requests().len();
    assert!(call(&gateway, "up-echo", json!({})).any_error().message.contains("401"));
    assert_eq!((up.upstream.requests().len(), given.load(Ordering::SeqCst)), (before, 3));
    for secret in [SECRET, "token-1", "token-2"] {
        assert!(!gateway.logs().contains(secret));
    }
}

#[test]
fn a_token_that_has_ended_is_got_anew_and_one_that_cannot_be_got_is_told() {
    let (up, status) = (ToolServer::echo(PLAIN), Arc::new(Mutex::new(200)));
    let (issuer, given) = issuer(0, status.clone());
    let gateway = with_tokens(&up, &issuer);
    call(&gateway, "up-echo", json!({"text": "x"})).ok();
    let first = given.load(Ordering::SeqCst);
    call(&gateway, "up-echo", json!({"text": "x"})).ok();
    assert!(given.load(Ordering::SeqCst) > first && first > 1);
    *status.lock().unwrap() = 503;
    let calls = up.count("tools/call");
    let error = post(
        &gateway,
        MASTER_KEY,
        "/mcp-rest/test/connection",
        &json!({"url": up.url(), "auth_type": "oauth2",
        "token_url": format!("{}/token", issuer.base()), "scopes": ["read", "call"],
        "credentials": {"client_id": "it is", "client_secret": SECRET}}),
    )
    .ok()
    .json();
    assert!(text(&error["message"]).contains("token_url answers with the status 503"), "{error}");
    assert_eq!(up.count("tools/call"), calls);
    assert!(!error.to_string().contains(SECRET) && !gateway.logs().contains(SECRET));
}

#[test]
fn a_server_that_starts_again_is_waited_for() {
    let up = ToolServer::echo(PLAIN);
    let gateway = serve(&server("up", &up.url()));
    assert_eq!(said(&call(&gateway, "up-echo", json!({"text": "a"})).ok().json()), "a");
    // As Home Assistant does while it loads its integrations.
    let before = up.upstream.requests().len();
    *up.fault.lock().unwrap() = Some(Reply::answer(404, &[("Content-Type", "text/plain")], b"404: Not Found"));
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| call(&gateway, "up-echo", json!({"text": "b"})));
        up.upstream.wait_requests(before + 2);
        *up.fault.lock().unwrap() = None;
        assert_eq!(said(&answer.join().unwrap().ok().json()), "b");
    });
}

#[test]
fn a_call_that_its_client_gives_up_is_given_up_at_the_server() {
    for kind in [PLAIN, Kind::Legacy { sessions: true }, Kind::Modern] {
        let up = ToolServer::new(kind, vec![tool("slow", &[])], |_, _| Outcome::Reply(Reply(vec![Step::Hold])));
        let gateway = serve(&server("up", &up.url()));
        let hello =
            json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let session = rpc(&gateway, MASTER_KEY, "/mcp", "initialize", hello).ok().header("mcp-session-id").unwrap();
        let bearer = format!("Bearer {MASTER_KEY}");
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
            ("Mcp-Session-Id", &session),
        ];
        let mut client = gateway.client();
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "up-slow"}});
        client.request("POST", "/mcp", &headers, body.to_string().as_bytes());
        until(|| up.count("tools/call") == 1);
        // Another session's request of that id is another one.
        for (of, id) in [("another", 7), (session.as_str(), 8), (session.as_str(), 7)] {
            let mut headers = headers;
            headers[3].1 = of;
            let body = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
            assert_eq!(gateway.call("POST", "/mcp", &headers, body.to_string().as_bytes()).status, 202);
        }
        client.answer();
        up.upstream.wait_hang_ups(1);
        let told = usize::from(kind != Kind::Modern);
        until(|| up.count("notifications/cancelled") == told);
    }
}

/// Waits for what a script sees.
fn until(is_so: impl Fn() -> bool) {
    let end = std::time::Instant::now() + crate::support::feed::PATIENCE;
    while !is_so() {
        assert!(std::time::Instant::now() < end, "waited in vain");
        crate::support::feed::pass(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_server_that_asks_whom_it_may_not_ask_is_told_so() {
    let up = ToolServer::new(PLAIN, vec![tool("ask", &[])], |_, _| {
        let question =
            json!({"jsonrpc": "2.0", "id": "q1", "method": "sampling/createMessage", "params": {"messages": []}});
        Outcome::After(vec![question], "went on".to_owned())
    });
    let gateway = serve(&server("up", &up.url()));
    // Neither plain JSON nor a client that has declared nothing has anybody to ask.
    call(&gateway, "up-ask", json!({})).ok();
    rpc(&gateway, MASTER_KEY, "/mcp", "tools/call", json!({"name": "up-ask"})).ok();
    let hello = up.upstream.requests().iter().find(|seen| seen.json()["method"] == "initialize").unwrap().json();
    assert_eq!(hello["params"]["capabilities"], json!({}));
    let told = || {
        let all = up.upstream.requests().into_iter().filter(|seen| seen.method == "POST").map(|seen| seen.json());
        all.filter(|message| message["id"] == "q1").collect::<Vec<_>>()
    };
    until(|| told().len() == 2);
    for answer in told() {
        assert_eq!(answer["error"]["code"], -32601, "{answer}");
        assert!(text(&answer["error"]["message"]).contains("does not serve 'sampling/createMessage'"), "{answer}");
    }
}

#[test]
fn a_list_that_changes_is_read_again() {
    // The server says nothing: whoever calls what is gone finds out.
    let up = ToolServer::echo(PLAIN);
    let gateway = serve(&server("up", &up.url()));
    assert_eq!(names(&result(&gateway, "/up/mcp", "tools/list", json!({}))), ["echo"]);
    *up.tools.lock().unwrap() = vec![tool("other", &[])];
    assert_eq!(names(&result(&gateway, "/up/mcp", "tools/list", json!({}))), ["echo"]);
    let gone = rpc(&gateway, MASTER_KEY, "/up/mcp", "tools/call", json!({"name": "echo"})).ok().json();
    assert_eq!(gone["error"]["code"], -32602);
    assert_eq!(names(&result(&gateway, "/up/mcp", "tools/list", json!({}))), ["other"]);
}

/// A program whose tool `grow` adds one more, and says so.
const GROWING: &str = r#"
n=1
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  say() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
  case "$line" in
  *'"initialize"'*) say '{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"sh","version":"1"}}' ;;
  *'"tools/list"'*)
    list='{"name":"grow","inputSchema":{"type":"object"}}'
    [ $n -gt 1 ] && list="$list"',{"name":"grown","inputSchema":{"type":"object"}}'
    say '{"tools":['"$list"']}' ;;
  *'"grow"'*) n=2; printf '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n'; say '{"content":[{"type":"text","text":"ok"}]}' ;;
  esac
done
"#;

#[test]
fn a_server_that_says_so_has_its_list_read_again_and_clients_are_told() {
    let entry = "[mcp_servers.sh]\ncommand = [\"/bin/sh\", \"program\"]\nenv = { PATH = \"/usr/bin:/bin\" }\n";
    let setup = Setup::toml(&(config("", &[]) + entry));
    std::fs::write(setup.dir().join("program"), GROWING).unwrap();
    let gateway = setup.start();
    assert_eq!(names(&result(&gateway, "/mcp", "tools/list", json!({}))), ["sh-grow"]);
    let bearer = format!("Bearer {MASTER_KEY}");
    let mut listener = gateway.client();
    listener.request("GET", "/mcp", &[("Authorization", &bearer), ("Accept", "text/event-stream")], b"");
    assert_eq!(listener.head().status(), 200);
    call(&gateway, "sh-grow", json!({})).ok();
    let heard = loop {
        let event = listener.event().unwrap();
        if event.contains("list_changed") {
            break event;
        }
    };
    assert!(heard.contains("notifications/tools/list_changed"), "{heard}");
    assert_eq!(names(&result(&gateway, "/mcp", "tools/list", json!({}))), ["sh-grow", "sh-grown"]);
}

#[test]
fn tools_with_schemas_that_are_none_harm_nobody() {
    let tools = vec![
        json!({"name": "text", "inputSchema": "no schema"}),
        json!({"name": "missing"}),
        json!({"name": "odd", "inputSchema": {"type": "banana", "properties": 7, "required": "x", "$ref": "#/nowhere"}}),
        json!({"name": 5, "inputSchema": {}}),
        json!("no tool"),
        json!({"name": "deep", "inputSchema": {"type": "object", "properties": {"a": {"$ref": "#"}}}}),
    ];
    let up = ToolServer::new(PLAIN, tools, |name, _| Outcome::Text(name.to_owned()));
    let gateway = serve(&server("up", &up.url()));
    let list = result(&gateway, "/up/mcp", "tools/list", json!({}));
    assert_eq!(names(&list), ["text", "missing", "odd", "deep"]);
    assert!(list["tools"].as_array().unwrap().iter().all(|tool| tool["inputSchema"].is_object()), "{list}");
    for name in ["text", "missing", "odd", "deep"] {
        assert_eq!(said(&call(&gateway, &format!("up-{name}"), json!({"a": {}})).ok().json()), name);
    }
    // A list that is none takes the server out, and says why.
    let broken = crate::support::Upstream::script(|seen| {
        let message = seen.json();
        let result = match message["method"].as_str() {
            Some("initialize") => json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "x", "version": "1"}}),
            Some("tools/list") => json!({"tools": {"a": 1}}),
            _ => return Reply::answer(202, &[], b""),
        };
        Reply::json(200, &json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string())
    })
    .rules(|rules| rules.is_free = true);
    let gateway = serve(&server("bad", &broken.base().replace("/v1", "/mcp")));
    let list = result(&gateway, "/mcp", "tools/list", json!({}));
    assert!(text(&list["_meta"]["gateway/missing_servers"]["bad"]).contains("list of tools is none"), "{list}");
}

#[test]
fn a_tool_that_costs_is_bound_by_its_caller_s_budget() {
    let up = ToolServer::echo(PLAIN);
    let gateway = serve(&(server("up", &up.url()) + "tool_costs = { echo = 0.02 }\n"));
    let key = generate(
        &gateway,
        &json!({"key_alias": "phone", "max_budget": 0.05, "object_permission": {"mcp_servers": ["up"]}}),
    );
    let key = text(&key["key"]);
    let go = || post(&gateway, key, "/mcp-rest/tools/call", &json!({"name": "up-echo", "arguments": {"text": "x"}}));
    for _ in 0..3 {
        go().ok();
    }
    // A compatible budget is checked before a call, not bounded by it.
    let error = go().any_error();
    assert!(
        error.kind == "budget_exceeded" && error.message.contains("It is the budget of api_key: phone"),
        "{error:?}"
    );
    let told = rpc(&gateway, key, "/mcp", "tools/call", json!({"name": "up-echo"})).json();
    assert!(text(&told["error"]["message"]).contains("budget"), "{told}");
    assert_eq!(up.count("tools/call"), 3);
    assert_eq!(crate::ledger::rows(&gateway, 3).len(), 3);
    let strict = generate(
        &gateway,
        &json!({"max_budget": 0.03, "budget_mode": "strict", "object_permission": {"mcp_servers": ["up"]}}),
    );
    let strict = text(&strict["key"]);
    let go = || post(&gateway, strict, "/mcp-rest/tools/call", &json!({"name": "up-echo", "arguments": {"text": "x"}}));
    go().ok();
    assert_eq!(go().any_error().kind, "budget_exceeded");
    assert_eq!(up.count("tools/call"), 4);
}
