//! Servers of tools, and sets of them, that are made while the gateway runs.

use super::{PLAIN, call, names, result, rpc, said, serve, server};
use crate::keys::{generate, get, post, text};
use crate::support::feed::{PATIENCE, pass};
use crate::support::mcp::{ToolServer, tool};
use crate::support::postgres::Postgres;
use crate::support::upstream::refusing;
use crate::support::{Answer, Gateway, MASTER_KEY, Reply, Setup, config};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SECRET: &str = "sk-of-the-tool-server-77";

fn ask(gateway: &Gateway, key: &str, method: &str, path: &str, body: &Value) -> Answer {
    let authorization = format!("Bearer {key}");
    let headers = [("Authorization", &*authorization), ("Content-Type", "application/json")];
    gateway.call(method, path, &headers, body.to_string().as_bytes())
}

fn make(gateway: &Gateway, record: Value) -> Answer {
    ask(gateway, MASTER_KEY, "POST", "/v1/mcp/server", &record)
}

fn tools(gateway: &Gateway) -> Vec<String> {
    let list = result(gateway, "/mcp", "tools/list", json!({}));
    names(&list).into_iter().map(str::to_owned).collect()
}

#[test]
fn a_server_is_made_changed_and_taken_away() {
    let (up, other) = (ToolServer::echo(PLAIN), ToolServer::echo(PLAIN));
    let gateway = serve("");
    let made = make(
        &gateway,
        json!({"server_name": "notes", "url": up.url(), "transport": "http", "auth_type": "bearer_token",
            "credentials": {"auth_value": SECRET}, "static_headers": {"x-room": SECRET}, "mcp_access_groups": ["house"],
            "command": "", "args": [], "env": {}}),
    );
    assert_eq!(made.status, 201, "{}", made.text());
    assert!(!made.text().contains(SECRET), "{}", made.text());
    let made = made.json();
    let id = text(&made["server_id"]).to_owned();
    assert_eq!((text(&made["server_name"]), text(&made["auth_type"])), ("notes", "bearer_token"));
    assert_eq!((text(&made["source"]), text(&made["created_by"])), ("database", "default_user_id"));
    assert_eq!(tools(&gateway), ["notes-echo"]);
    assert_eq!(said(&call(&gateway, "notes-echo", json!({"text": "x"})).ok().json()), "x");
    assert_eq!(up.upstream.requests()[0].header("authorization"), Some(format!("Bearer {SECRET}")));
    assert_eq!(up.upstream.requests()[0].header("x-room").as_deref(), Some(SECRET));

    // By id and by group it is granted, as LiteLLM's keys have it.
    for permission in [json!({"mcp_servers": [id]}), json!({"mcp_access_groups": ["house"]})] {
        let key = generate(&gateway, &json!({"object_permission": permission}));
        let list = rpc(&gateway, text(&key["key"]), "/mcp", "tools/list", json!({})).ok().json();
        assert_eq!(names(&list["result"]), ["notes-echo"], "{permission}");
        assert_eq!(get(&gateway, text(&key["key"]), "/v1/mcp/access_groups").ok().json()["access_groups"][0], "house");
        // What only administrators may do.
        for (method, path) in [("POST", "/v1/mcp/server"), ("PUT", "/v1/mcp/server"), ("POST", "/v1/mcp/toolset")] {
            ask(&gateway, text(&key["key"]), method, path, &json!({"server_id": id})).error(403);
        }
        ask(&gateway, text(&key["key"]), "DELETE", &format!("/v1/mcp/server/{id}"), &json!({})).error(403);
        ask(&gateway, text(&key["key"]), "POST", "/mcp-rest/test/connection", &json!({"url": up.url()})).error(403);
    }
    let health = get(&gateway, MASTER_KEY, &format!("/v1/mcp/server/health?server_ids={id}")).ok().json();
    assert_eq!((&health[0]["status"], &health[0]["server_id"]), (&json!("healthy"), &json!(id)));

    // What is not named stays; the credential too.
    let change = json!({"server_id": id, "alias": "memo", "url": other.url()});
    let changed = ask(&gateway, MASTER_KEY, "PUT", "/v1/mcp/server", &change);
    assert_eq!(changed.status, 202, "{}", changed.text());
    assert_eq!(tools(&gateway), ["memo-echo"]);
    assert_eq!(other.upstream.requests()[0].header("authorization"), Some(format!("Bearer {SECRET}")));
    let off = json!({"server_id": id, "auth_type": "none", "static_headers": null});
    ask(&gateway, MASTER_KEY, "PUT", "/v1/mcp/server", &off);
    assert_eq!(get(&gateway, MASTER_KEY, &format!("/v1/mcp/server/{id}")).ok().json()["auth_type"], "none");

    let gone = ask(&gateway, MASTER_KEY, "DELETE", &format!("/v1/mcp/server/{id}"), &json!({}));
    assert_eq!(gone.status, 202, "{}", gone.text());
    assert_eq!(tools(&gateway), Vec::<String>::new());
    ask(&gateway, MASTER_KEY, "DELETE", &format!("/v1/mcp/server/{id}"), &json!({})).error(404);
    ask(&gateway, MASTER_KEY, "PUT", "/v1/mcp/server", &json!({"server_id": id, "alias": "x"})).error(404);
    assert!(!gateway.logs().contains(SECRET));
}

#[test]
fn what_is_declared_is_locked_and_nothing_is_run_for_a_caller() {
    let up = ToolServer::echo(PLAIN);
    let gateway =
        serve(&(server("up", &up.url()) + "alias = \"tools\"\n[tools.sets]\nmorning = { up = [\"echo\"] }\n"));
    for (method, path, body) in [
        ("PUT", "/v1/mcp/server", json!({"server_id": "up", "url": "http://127.0.0.1:1/"})),
        ("DELETE", "/v1/mcp/server/up", json!({})),
        ("DELETE", "/v1/mcp/server/tools", json!({})),
        ("PUT", "/v1/mcp/toolset", json!({"toolset_id": "morning", "tools": []})),
        ("DELETE", "/v1/mcp/toolset/morning", json!({})),
    ] {
        let error = ask(&gateway, MASTER_KEY, method, path, &body).error(403);
        assert!(error.message.contains("declared by the configuration"), "{error:?}");
    }
    for (record, part) in [
        (json!({"server_name": "a", "command": "sh", "args": ["-c", "touch /tmp/x"]}), "only the configuration"),
        (json!({"server_name": "a", "url": "http://h", "auth_value": "os.environ/MASTER_KEY"}), "environment"),
        (json!({"server_name": "up", "url": "http://h"}), "called 'up' already"),
        (json!({"server_name": "x", "alias": "tools", "url": "http://h"}), "called 'tools' already"),
        (json!({"server_name": "morning", "url": "http://h"}), "called 'morning' already"),
        (json!({"server_name": "x", "server_id": "up", "url": "http://h"}), "called 'up' already"),
        (json!({"server_name": "x", "server_id": "a/b", "url": "http://h"}), "'server_id' must be"),
        (json!({"server_name": "x", "url": "ftp://h"}), "http://"),
        (json!({"server_name": "x", "url": "http://h", "transprot": "http"}), "did you mean `transport`"),
        (json!({"server_name": "x", "url": "http://h", "extra_headers": ["Authorization"]}), "goes nowhere else"),
        (json!({"server_name": ["x"], "url": "http://h"}), "server_name"),
    ] {
        let error = make(&gateway, record.clone()).error(400);
        assert!(error.message.contains(part), "{record}: {error:?}");
    }
    assert_eq!(tools(&gateway), ["tools-echo"]);
}

#[test]
fn a_set_of_tools_is_made_granted_and_taken_away() {
    let up = ToolServer::new(PLAIN, vec![tool("read", &[]), tool("wipe", &[])], |name, _| {
        crate::support::mcp::Outcome::Text(name.to_owned())
    });
    let gateway = serve(&server("up", &up.url()));
    let set = json!({"toolset_name": "quiet", "tools": [{"server_id": "up", "tool_name": "read"}]});
    let made = ask(&gateway, MASTER_KEY, "POST", "/v1/mcp/toolset", &set);
    assert_eq!(made.status, 201, "{}", made.text());
    let id = text(&made.json()["toolset_id"]).to_owned();
    let key = generate(&gateway, &json!({"object_permission": {"mcp_toolsets": [id]}}));
    let sees = |path: &str| {
        let list = rpc(&gateway, text(&key["key"]), path, "tools/list", json!({})).ok().json();
        names(&list["result"]).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(sees("/quiet/mcp"), ["up-read"]);
    let more = json!({"toolset_id": id, "tools": [{"server_id": "up", "tool_name": "read"}, {"server_id": "up", "tool_name": "wipe"}]});
    assert_eq!(ask(&gateway, MASTER_KEY, "PUT", "/v1/mcp/toolset", &more).status, 202);
    assert_eq!(sees("/mcp"), ["up-read", "up-wipe"]);
    assert_eq!(get(&gateway, text(&key["key"]), &format!("/v1/mcp/toolset/{id}")).ok().json()["toolset_name"], "quiet");
    let unknown = json!({"toolset_name": "other", "tools": [{"server_id": "none", "tool_name": "read"}]});
    ask(&gateway, MASTER_KEY, "POST", "/v1/mcp/toolset", &unknown).error(400);
    ask(&gateway, MASTER_KEY, "POST", "/v1/mcp/toolset", &json!({"toolset_name": "up", "tools": []})).error(400);
    assert_eq!(ask(&gateway, MASTER_KEY, "DELETE", &format!("/v1/mcp/toolset/{id}"), &json!({})).status, 202);
    assert_eq!(sees("/mcp"), Vec::<String>::new());
}

#[test]
fn a_server_is_tried_before_it_is_made() {
    let up = ToolServer::echo(PLAIN);
    let gateway = serve("");
    let test = |path: &str, record: Value| post(&gateway, MASTER_KEY, path, &record).ok().json();
    assert_eq!(test("/mcp-rest/test/connection", json!({"server_name": "a", "url": up.url()}))["status"], "ok");
    let found = test("/mcp-rest/test/tools/list", json!({"url": up.url()}));
    assert_eq!(found["tools"][0]["name"], "echo");
    let (_taken, dead) = refusing();
    let failed = test("/mcp-rest/test/connection", json!({"url": format!("http://{dead}/mcp")}));
    assert!(failed["status"] == "error" && text(&failed["message"]).contains("refused"), "{failed}");
    *up.fault.lock().unwrap() = Some(Reply::answer(401, &[], b""));
    assert!(text(&test("/mcp-rest/test/connection", json!({"url": up.url()}))["message"]).contains("401"));
    post(&gateway, MASTER_KEY, "/mcp-rest/test/connection", &json!({"command": "sh"})).error(400);
    assert_eq!(get(&gateway, MASTER_KEY, "/v1/mcp/server").ok().json(), json!([]));
}

#[test]
fn a_server_is_sealed_in_the_store_and_known_everywhere_within_a_second() {
    let Some(postgres) = Postgres::start() else { return };
    let up = ToolServer::echo(PLAIN);
    let text = format!("database_url = \"env:DB\"\n{}", config("", &[]));
    let start = || Setup::toml(&text).secret("DB", &postgres.url()).start();
    let (one, two) = (start(), start());
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let end = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < end, "{what}");
            pass(Duration::from_millis(20));
        }
    };
    until("the store of the other", &|| two.get("/health/readiness").ok().json()["db"] == "connected");
    let record = json!({"server_name": "notes", "url": up.url(), "credentials": {"auth_value": SECRET}});
    let made = make(&one, record);
    assert_eq!(made.status, 201, "{}", made.text());
    let begun = Instant::now();
    until("the server at the other", &|| tools(&two) == ["notes-echo"]);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // The script fails where the condition does not hold.
    postgres.sql(&format!(
        "DO $$ BEGIN ASSERT (SELECT count(*) FROM configured WHERE kind = 'mcp_server' AND body LIKE 'v1:%' \
         AND position('{SECRET}' in body) = 0 AND position('notes' in body) = 0) = 1; END $$"
    ));
    let id = crate::keys::text(&made.json()["server_id"]).to_owned();
    assert_eq!(ask(&two, MASTER_KEY, "DELETE", &format!("/v1/mcp/server/{id}"), &json!({})).status, 202);
    until("the end of the server at the first", &|| tools(&one).is_empty());
}
