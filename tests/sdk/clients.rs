//! SDKs other than OpenAI's and Anthropic's own, and programs over them: a script of `tests/sdk/clients` for each, over one
//! upstream that speaks OpenAI's, Anthropic's, Cohere's and Ollama's API and says the same in all of them.

use super::environment;
use crate::support::anthropic::{self, reply as claude};
use crate::support::openai;
use crate::support::reply::delta;
use crate::support::{Gateway, MASTER_KEY, Reply, Seen, Step, UPSTREAM_KEY, Upstream, config, deployment};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};

const TEXT: &str = "Hello über there";

/// One test for each script.
macro_rules! clients {
    ($($name:ident: $interpreter:expr, $script:literal;)*) => {
        $(#[test] fn $name() { plays($interpreter, $script); })*

        #[test]
        fn every_script_is_played() {
            let mut listed: Vec<String> = std::fs::read_dir(directory())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.starts_with("with_") || name.ends_with(".mjs"))
                .collect();
            listed.sort_unstable();
            let mut played = vec![$($script),*];
            played.sort_unstable();
            assert_eq!(listed, played);
        }
    };
}

clients! {
    google_genai: PYTHON, "with_google.py";
    cohere: PYTHON, "with_cohere.py";
    mistral: PYTHON, "with_mistral.py";
    ollama: PYTHON, "with_ollama.py";
    langchain: PYTHON, "with_langchain.py";
    llama_index: PYTHON, "with_llama_index.py";
    instructor: PYTHON, "with_instructor.py";
    litellm: PYTHON, "with_litellm.py";
    litellm_admin: PYTHON, "with_litellm_admin.py";
    llm: PYTHON, "with_llm.py";
    vercel_ai: NODE, "ai.mjs";
}

const PYTHON: &str = "GATEWAY_SDK_CLIENTS";
const NODE: &str = "GATEWAY_SDK_NODE";

fn directory() -> String {
    format!("{}/tests/sdk/clients", env!("CARGO_MANIFEST_DIR"))
}

fn plays(interpreter: &str, script: &str) {
    let Some(place) = environment(interpreter) else { return };
    let upstream = Upstream::script(answer).rules(|rules| rules.is_free = true);
    let origin = upstream.origin();
    let models = [
        deployment("small", "openai/small-up", upstream.base()),
        deployment("broken", "openai/broken-up", upstream.base()),
        deployment("embed", "openai/embed-up", upstream.base()),
        deployment("claude", "anthropic/claude-sonnet-4-5", upstream.base()),
        deployment("ranker", "cohere/rerank-v3.5", &format!("{origin}/v2")),
        deployment("command", "cohere/command-a-03-2025", &format!("{origin}/v2")),
        deployment("llama", "ollama/llama3.2", origin),
    ];
    let gateway = Gateway::start(&config("", &models));
    let is_node = interpreter == NODE;
    let mut command = Command::new(if is_node { "node".into() } else { place.clone() });
    command.arg(format!("{}/{script}", directory()));
    // Nothing of this machine comes between, and nothing is left in the source tree: the packages were not compiled when
    // they were installed, since most of their modules are never imported.
    let compiled = Path::new(&place).with_file_name("compiled");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("PYTHONPYCACHEPREFIX", compiled);
    command.env("HOME", gateway.dir()).env("LANGSMITH_TRACING", "false");
    command.env("GATEWAY_URL", format!("http://{}", gateway.address())).env("API_KEY", MASTER_KEY);
    command.env(interpreter, place).stdin(Stdio::null());
    let ended = command.output().unwrap();
    let said = [ended.stdout, ended.stderr].concat();
    let refused = upstream.requests().iter().find_map(|seen| check(seen).err().map(|why| format!("{why}: {seen:?}")));
    let said = String::from_utf8_lossy(&said);
    assert!(ended.status.success(), "{script}: {}\n{said}\nrefused upstream: {refused:?}", ended.status);
    assert_eq!(refused, None);
}

/// What the provider has against a request.
fn check(seen: &Seen) -> Result<(), String> {
    match seen.target.as_str() {
        "/v1/chat/completions" => {
            let rules = openai::Rules {
                authorization: vec![Some(format!("Bearer {UPSTREAM_KEY}"))],
                host: None,
                path: seen.target.clone(),
                extras: Vec::new(),
                is_free: false,
            };
            openai::check(&rules, seen).map(drop).map_err(|(_, _, why)| why)
        }
        "/v1/messages" => {
            let rules = anthropic::Rules {
                key: (UPSTREAM_KEY.to_owned(), false),
                host: None,
                versions: ["2023-06-01", "2026-10-21"].map(str::to_owned).into(),
                betas: Vec::new(),
                counts: true,
            };
            anthropic::check(&rules, seen).map(drop).map_err(|(_, _, why)| why)
        }
        "/api/tags" => Ok(()),
        _ if seen.header("authorization") != Some(format!("Bearer {UPSTREAM_KEY}")) => {
            Err("Incorrect API key provided.".to_owned())
        }
        "/v1/embeddings" | "/v2/rerank" | "/v2/chat" | "/v2/embed" | "/api/chat" | "/api/embed" => Ok(()),
        other => Err(format!("there is nothing at {other}")),
    }
}

fn answer(seen: &Seen) -> Reply {
    if let Err(why) = check(seen) {
        return Reply::error(400, "invalid_request_error", None, &why);
    }
    let asked: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    if asked["model"] == "broken-up" {
        return Reply::error(429, "requests", Some("rate_limit_exceeded"), "Slow down.");
    }
    let streams = asked["stream"] == true;
    let said = said(&asked);
    match seen.target.as_str() {
        "/v1/chat/completions" => chat(&said, streams),
        "/v1/messages" => messages(&said, streams),
        "/v1/embeddings" => {
            let vector = |index| json!({"object": "embedding", "index": index, "embedding": [1.0, -0.5]});
            let data: Vec<Value> = (0..count(&asked["input"])).map(vector).collect();
            let usage = json!({"prompt_tokens": 2, "total_tokens": 2});
            json_reply(&json!({"object": "list", "model": "embed-up", "data": data, "usage": usage}))
        }
        "/v2/rerank" => json_reply(&json!({"id": "r1", "results": [{"index": 1, "relevance_score": 0.9}],
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}})),
        "/v2/embed" => json_reply(&json!({"id": "e1", "texts": asked["texts"],
            "embeddings": {"float": vec![[1.0, -0.5]; count(&asked["texts"])]}, "meta": {"billed_units": {"input_tokens": 2}}})),
        "/v2/chat" => of_cohere(&said, streams),
        "/api/chat" => of_ollama(&said, streams),
        "/api/embed" => {
            json_reply(&json!({"model": "llama3.2", "embeddings": vec![[1.0, -0.5]; count(&asked["input"])],
            "prompt_eval_count": 2}))
        }
        _ => json_reply(&json!({"models": [{"name": "llama3.2:latest", "model": "llama3.2:latest", "size": 1,
            "digest": "a", "modified_at": "2026-01-01T00:00:00Z", "details": {"family": "llama"}}]})),
    }
}

fn count(input: &Value) -> usize {
    input.as_array().map_or(1, Vec::len)
}

fn json_reply(body: &Value) -> Reply {
    Reply::json(200, &body.to_string())
}

/// What a model says: a text, or a call of this function.
enum Said {
    Text(&'static str),
    Call(String, Value),
}

fn said(asked: &Value) -> Said {
    let person = json!({"name": "Ada", "age": 36});
    let tool = &asked["tools"][0];
    let name = tool["function"]["name"].as_str().or(tool["name"].as_str());
    let messages = asked["messages"].to_string();
    let has_result = messages.contains(r#""role":"tool""#) || messages.contains("tool_result");
    if let Some(name) = name.filter(|_| !has_result) {
        let arguments = if name == "get_weather" { json!({"place": "Oslo"}) } else { person };
        return Said::Call(name.to_owned(), arguments);
    }
    // Some ask for a schema in words alone.
    let by_schema = !asked["response_format"].is_null()
        || !asked["output_config"]["format"].is_null()
        || messages.contains("JSON")
        || asked["system"].to_string().contains("JSON");
    if by_schema { Said::Text(r#"{"name": "Ada", "age": 36}"#) } else { Said::Text(TEXT) }
}

fn chat(said: &Said, streams: bool) -> Reply {
    let usage = json!({"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17});
    match said {
        Said::Text(text) if streams => {
            let (head, tail) = text.split_at(6);
            Reply::texts(&[head, tail])
        }
        Said::Text(text) => json_reply(&json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1763600000,
            "model": "small-up", "choices": [{"index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": text, "refusal": null}}], "usage": usage})),
        Said::Call(name, arguments) => {
            let text = arguments.to_string();
            let call = |arguments: &str| json!({"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}});
            if !streams {
                let message = json!({"role": "assistant", "content": null, "tool_calls": [call(&text)]});
                return json_reply(&json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1763600000,
                    "model": "small-up", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}],
                    "usage": usage}));
            }
            let (head, tail) = text.split_at(5);
            let mut first = call(head);
            first["index"] = 0.into();
            let more = json!({"index": 0, "function": {"arguments": tail}});
            let start = delta(json!({"role": "assistant", "content": null, "tool_calls": [first]}), None);
            let reply = Reply::stream().send(&start).send(&delta(json!({"tool_calls": [more]}), None));
            let usage = crate::support::reply::usage_chunk();
            let reply = reply.send(&delta(json!({}), Some("tool_calls"))).then(Step::ChunkIfUsageAsked(usage.into()));
            reply.send("data: [DONE]\n\n").end_body()
        }
    }
}

fn messages(said: &Said, streams: bool) -> Reply {
    let (block, stop) = match said {
        Said::Text(text) => (claude::text(text), "end_turn"),
        Said::Call(name, input) => (claude::tool_use("toolu_1", name, input), "tool_use"),
    };
    if streams { claude::stream(&[block], stop) } else { claude::whole(&[block], stop) }
}

fn of_cohere(said: &Said, streams: bool) -> Reply {
    let usage = json!({"billed_units": {"input_tokens": 12, "output_tokens": 5}, "tokens": {"input_tokens": 12, "output_tokens": 5}});
    let text = match said {
        Said::Text(text) => text,
        Said::Call(name, arguments) => {
            let function = json!({"name": name, "arguments": arguments.to_string()});
            let calls = json!([{"id": "call_1", "type": "function", "function": function}]);
            return json_reply(&json!({"id": "c1", "finish_reason": "TOOL_CALL", "usage": usage,
                "message": {"role": "assistant", "tool_plan": "I look.", "tool_calls": calls}}));
        }
    };
    if !streams {
        let content = json!([{"type": "text", "text": text}]);
        return json_reply(&json!({"id": "c1", "finish_reason": "COMPLETE", "usage": usage,
            "message": {"role": "assistant", "content": content}}));
    }
    let (head, tail) = text.split_at(6);
    let piece =
        |text: &str| json!({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": text}}}});
    let events = [
        json!({"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}}}),
        json!({"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}}),
        piece(head),
        piece(tail),
        json!({"type": "content-end", "index": 0}),
        json!({"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}}),
    ];
    let told = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    events.iter().fold(Reply::stream(), |reply, event| reply.send(&told(event))).end_body()
}

fn of_ollama(said: &Said, streams: bool) -> Reply {
    let line = |message: Value, done: bool| {
        let mut line =
            json!({"model": "llama3.2", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": done});
        if done {
            for (name, value) in
                [("done_reason", json!("stop")), ("prompt_eval_count", json!(12)), ("eval_count", json!(5))]
            {
                line[name] = value;
            }
        }
        line
    };
    let says = |text: &str| json!({"role": "assistant", "content": text});
    match said {
        Said::Call(name, arguments) => {
            let calls = json!([{"function": {"name": name, "arguments": arguments}}]);
            json_reply(&line(json!({"role": "assistant", "content": "", "tool_calls": calls}), true))
        }
        Said::Text(text) if !streams => json_reply(&line(says(text), true)),
        Said::Text(text) => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
            let (first, rest) = text.split_at(6);
            let lines = [line(says(first), false), line(says(rest), false), line(says(""), true)];
            let reply = Reply(vec![Step::Raw(head.into())]);
            lines.iter().fold(reply, |reply, line| reply.send(&format!("{line}\n"))).end_body()
        }
    }
}
