//! `/v1/responses` and `/v1/completions`: over chat completions, and where the upstream serves them itself.

use crate::support::postgres::Postgres;
use crate::support::reply::{DONE, delta, event, usage_chunk};
use crate::support::{Answer, Gate, Gateway, Reply, Setup, Upstream, config, deployment, model};
use serde_json::{Value, json};

const PATH: &str = "/v1/responses";

fn over(up: &Upstream) -> Gateway {
    Gateway::start(&config("", &[model("small", up)]))
}

fn post(gateway: &Gateway, path: &str, body: &Value) -> Answer {
    gateway.post(path, body.to_string())
}

/// The data of all events of a stream, whose names must be their types and whose numbers must count.
pub fn events(answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    let read = |(n, event): (usize, &str)| {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: ").unwrap(), data["type"]);
        assert_eq!(data["sequence_number"], n);
        data
    };
    let events = text.split_terminator("\n\n").filter(|event| !event.starts_with(':'));
    events.enumerate().map(read).collect()
}

#[test]
fn a_text_is_answered_with_items_and_usage() {
    let up = Upstream::new(Reply::whole());
    let gateway = over(&up);
    let asked = json!({"model": "small", "input": "Hello", "instructions": "Be brief.", "max_output_tokens": 50,
        "metadata": {"a": "b"}});
    let answer = post(&gateway, PATH, &asked).ok();
    let told = answer.json();
    assert_eq!(
        (&told["object"], &told["status"], &told["error"]),
        (&json!("response"), &json!("completed"), &json!(null))
    );
    assert_eq!((&told["metadata"], &told["max_output_tokens"]), (&json!({"a": "b"}), &json!(50)));
    assert_eq!(told["output"][0]["content"][0]["type"], "output_text");
    assert_eq!((&told["usage"]["input_tokens"], &told["usage"]["output_tokens"]), (&json!(12), &json!(5)));
    assert!(answer.header("x-litellm-call-id").is_some());
    let sent = up.only_request().json();
    assert_eq!((&sent["model"], &sent["max_completion_tokens"]), (&json!("small-up"), &json!(50)));
    assert_eq!(sent["messages"][0], json!({"role": "system", "content": "Be brief."}));
    let call = gateway.only_call();
    assert_eq!((&call["prompt_tokens"], &call["outcome"]), (&json!(12), &json!("success")));
}

#[test]
fn a_stream_has_its_events_in_order_and_ends_with_the_whole_response() {
    let call = json!({"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let chunks = [
        delta(json!({"reasoning_content": "hm"}), None),
        delta(json!({"content": "Hello"}), None),
        delta(json!({"tool_calls": [call]}), None),
        delta(json!({}), Some("tool_calls")),
        usage_chunk(),
        DONE.to_owned(),
    ];
    let up = Upstream::new(Reply::stream().send(&chunks.concat()).end_body());
    let gateway = over(&up);
    let tools = json!([{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}]);
    let answer = post(&gateway, PATH, &json!({"model": "small", "input": "x", "stream": true, "tools": tools})).ok();
    let told = events(&answer);
    let kinds: Vec<&str> = told.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], *kinds.last().unwrap()), ("response.created", "response.completed"));
    let last = &told.last().unwrap()["response"];
    let items: Vec<&Value> = last["output"].as_array().unwrap().iter().map(|item| &item["type"]).collect();
    assert_eq!(items, ["reasoning", "message", "function_call"]);
    assert_eq!(last["usage"]["total_tokens"], 17);
    assert_eq!(gateway.only_call()["completion_tokens"], 5);
}

#[test]
fn a_conversation_goes_on_by_its_id_for_its_own_key_alone() {
    let up = Upstream::new(Reply::whole());
    let gateway = over(&up);
    let key = |name: &str| {
        let made = post(&gateway, "/key/generate", &json!({"key_alias": name})).ok().json();
        format!("Bearer {}", made["key"].as_str().unwrap())
    };
    let (mine, other) = (key("mine"), key("other"));
    let call = |method: &str, path: &str, key: &str, body: &Value| {
        gateway.call(method, path, &[("authorization", key)], body.to_string().as_bytes())
    };
    let first = call("POST", PATH, &mine, &json!({"model": "small", "input": "One"})).ok().json();
    let id = first["id"].as_str().unwrap().to_owned();
    let next = json!({"model": "small", "previous_response_id": id, "stream": true, "input": [
        {"role": "user", "content": "Two"}]});
    let up_again = call("POST", PATH, &mine, &json!({"model": "small", "previous_response_id": id, "input": "Two"}));
    assert_eq!(up_again.ok().json()["previous_response_id"], json!(id));
    let sent = up.requests().last().unwrap().json();
    let roles: Vec<&Value> = sent["messages"].as_array().unwrap().iter().map(|m| &m["role"]).collect();
    assert_eq!(roles, ["user", "assistant", "user"]);

    let one = format!("{PATH}/{id}");
    assert_eq!(call("GET", &one, &mine, &Value::Null).ok().json()["id"], json!(id));
    let items = call("GET", &format!("{one}/input_items"), &mine, &Value::Null).ok().json();
    assert_eq!((&items["object"], &items["has_more"]), (&json!("list"), &json!(false)));
    assert_eq!(items["data"][0]["content"][0]["text"], "One");
    assert!(call("POST", &format!("{one}/cancel"), &mine, &Value::Null).error(400).message.contains("background"));

    // To everybody else it is not there.
    let refused = call("POST", PATH, &other, &next).error(400);
    assert_eq!(refused.code, "previous_response_not_found");
    call("GET", &one, &other, &Value::Null).error(404);
    call("DELETE", &one, &other, &Value::Null).error(404);
    let gone = call("DELETE", &one, &mine, &Value::Null).ok().json();
    assert_eq!(gone, json!({"id": id, "object": "response", "deleted": true}));
    call("GET", &one, &mine, &Value::Null).error(404);
}

#[test]
fn a_streamed_response_is_kept_before_its_last_event_and_not_if_nobody_wants_it() {
    let up = Upstream::new(Reply::texts(&["Hel", "lo"]));
    let gateway = over(&up);
    let ask = |more: Value| {
        let mut body = json!({"model": "small", "input": "x", "stream": true});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let told = events(&post(&gateway, PATH, &body).ok());
        told.last().unwrap()["response"]["id"].as_str().unwrap().to_owned()
    };
    let kept = ask(json!({}));
    assert_eq!(gateway.get(&format!("{PATH}/{kept}")).ok().json()["output"][0]["content"][0]["text"], "Hello");
    let lost = ask(json!({"store": false}));
    gateway.get(&format!("{PATH}/{lost}")).error(404);
}

#[test]
fn an_upstream_that_makes_responses_gets_them_as_they_came() {
    let response = json!({"id": "resp_up", "object": "response", "status": "completed", "error": null, "model": "gpt-up",
        "output": [{"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "Hi", "annotations": []}]}],
        "usage": {"input_tokens": 20, "output_tokens": 3, "total_tokens": 23}});
    let up = Upstream::new(Reply::json(200, &response.to_string())).rules(|rules| rules.is_free = true);
    let entry = deployment("small", "openai/small-up", up.base()) + "info = { mode = \"responses\" }\n";
    let gateway = Gateway::start(&config("", &[entry]));
    let asked = json!({"model": "small", "input": "x", "tools": [{"type": "web_search"}], "truncation": "auto"});
    let told = post(&gateway, PATH, &asked).ok().json();
    assert_eq!(told, response);
    let sent = up.only_request();
    assert!(sent.target.ends_with("/responses"), "{}", sent.target);
    assert_eq!((&sent.json()["tools"], &sent.json()["model"]), (&asked["tools"], &json!("small-up")));
    assert_eq!(gateway.only_call()["prompt_tokens"], 20);
    // The same upstream remembers it.
    let next = json!({"model": "small", "input": "y", "previous_response_id": "resp_up"});
    post(&gateway, PATH, &next).ok();
    assert_eq!(up.requests().last().unwrap().json()["previous_response_id"], "resp_up");
}

#[test]
fn a_stream_that_fails_says_so_in_its_own_words() {
    let up = Upstream::new(Reply::stream().send(&delta(json!({"content": "a"}), None)).end_body());
    let told = events(&post(&over(&up), PATH, &json!({"model": "small", "input": "x", "stream": true})).ok());
    let kinds: Vec<&Value> = told.iter().rev().take(2).map(|event| &event["type"]).collect();
    assert_eq!(kinds, ["response.failed", "error"]);
}

#[test]
fn what_cannot_be_served_is_named() {
    let up = Upstream::new(Reply::whole());
    let gateway = over(&up);
    for (more, param) in [
        (json!({"input": null}), "input"),
        (json!({"input": 7}), "input"),
        (json!({"stream": "yes"}), "stream"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"tools": [{"type": "file_search"}]}), "tools[0].type"),
        (json!({"input": [{"type": "statue"}]}), "input[0].type"),
        (json!({"api_base": "http://x"}), "api_base"),
        (json!({"previous_response_id": "resp_none"}), "previous_response_id"),
    ] {
        let mut body = json!({"model": "small", "input": "x"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(post(&gateway, PATH, &body).error(400).param.as_deref(), Some(param), "{body}");
    }
    gateway.get("/v1/responses/resp_none").error(404);
    assert_eq!(up.requests().len(), 0);
}

#[test]
fn a_text_is_completed_by_a_model_that_chats() {
    let up = Upstream::new(Reply::whole());
    let gateway = over(&up);
    let told =
        post(&gateway, "/v1/completions", &json!({"model": "small", "prompt": "Once", "max_tokens": 5})).ok().json();
    assert_eq!(told["object"], "text_completion");
    assert!(told["choices"][0]["text"].is_string() && told["usage"]["prompt_tokens"] == 12);
    assert_eq!(up.only_request().json()["messages"], json!([{"role": "user", "content": "Once"}]));

    let up = Upstream::new(Reply::texts(&["Hel", "lo"]));
    let gateway = over(&up);
    let body = json!({"model": "small", "prompt": "x", "stream": true, "stream_options": {"include_usage": true}});
    let text = post(&gateway, "/completions", &body).ok().text();
    let chunks: Vec<Value> = text
        .split_terminator("\n\n")
        .filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?).ok())
        .collect();
    let said: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(said, "Hello");
    assert!(chunks.iter().any(|chunk| chunk["usage"]["completion_tokens"].is_u64()) && text.ends_with(DONE));
    assert_eq!(
        post(&gateway, "/v1/completions", &json!({"model": "small"})).error(400).param.as_deref(),
        Some("prompt")
    );
}

#[test]
fn a_server_that_completes_texts_is_asked_for_them() {
    let answer = json!({"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [
        {"text": " upon", "index": 0, "logprobs": null, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}});
    let up = Upstream::new(Reply::json(200, &answer.to_string())).rules(|rules| rules.is_free = true);
    let gateway = Gateway::start(&config("", &[deployment("small", "hosted_vllm/small-up", up.base())]));
    let asked = json!({"model": "small", "prompt": "def f(", "suffix": "return", "max_tokens": 5});
    assert_eq!(post(&gateway, "/v1/completions", &asked).ok().json(), answer);
    let sent = up.only_request();
    assert!(sent.target.ends_with("/completions") && !sent.target.contains("chat"), "{}", sent.target);
    assert_eq!((&sent.json()["suffix"], &sent.json()["model"]), (&json!("return"), &json!("small-up")));
    assert_eq!(gateway.only_call()["completion_tokens"], 1);

    let chunk = |text: &str, finish: Value| {
        event(&json!({"id": "c", "object": "text_completion", "created": 1, "model": "m",
            "choices": [{"text": text, "index": 0, "finish_reason": finish}]}))
    };
    let stream = [chunk("a", Value::Null), chunk("b", json!("stop")), usage_chunk(), DONE.to_owned()].concat();
    let up = Upstream::new(Reply::stream().send(&stream).end_body()).rules(|rules| rules.is_free = true);
    let gateway = Gateway::start(&config("", &[deployment("small", "hosted_vllm/small-up", up.base())]));
    let told = post(&gateway, "/v1/completions", &json!({"model": "small", "prompt": "x", "stream": true})).ok().text();
    assert!(told.contains("\"text\":\"b\"") && told.ends_with(DONE) && !told.contains("usage"), "{told}");
    assert_eq!(gateway.only_call()["completion_tokens"], 5);
}

/// A response of the background, once it is there.
pub fn finished(gateway: &Gateway, path: &str) -> Value {
    // The question itself takes its time.
    for _ in 0..20_000 {
        let told = gateway.get(path).ok().json();
        if told["status"] != "in_progress" {
            return told;
        }
    }
    panic!("{path} is not finished");
}

#[test]
fn a_response_is_made_in_the_background_and_found_by_its_id() {
    let gate = Gate::new();
    let up = Upstream::new(Reply::after(&gate, Reply::whole()));
    let gateway = over(&up);
    let asked = json!({"model": "small", "input": "Hello", "background": true, "metadata": {"a": "b"}});
    let begun = post(&gateway, PATH, &asked).ok().json();
    assert_eq!((&begun["status"], &begun["background"]), (&json!("queued"), &json!(true)));
    let path = format!("{PATH}/{}", begun["id"].as_str().unwrap());
    assert_eq!(gateway.get(&path).ok().json()["status"], "in_progress");
    // Nobody goes on from what is not there yet.
    let next = json!({"model": "small", "input": "And?", "previous_response_id": begun["id"]});
    assert!(post(&gateway, PATH, &next).error(400).message.contains("not finished"));
    gate.open();
    let told = finished(&gateway, &path);
    assert_eq!((&told["status"], &told["id"], &told["background"]), (&json!("completed"), &begun["id"], &json!(true)));
    assert_eq!(
        (&told["output"][0]["content"][0]["type"], &told["metadata"]),
        (&json!("output_text"), &json!({"a": "b"}))
    );
    assert!(up.only_request().json().get("background").is_none());
    let calls = gateway.wait_calls(2);
    let call = calls.iter().find(|call| call["outcome"] == "success").unwrap();
    assert_eq!(call["prompt_tokens"], 12);
    post(&gateway, PATH, &next).ok();
    // What is there stays as it is.
    let cancelled = post(&gateway, &format!("{path}/cancel"), &json!({})).ok().json();
    assert_eq!(cancelled["status"], "completed");
}

#[test]
fn a_response_of_the_background_is_cancelled_and_its_upstream_left() {
    let up = Upstream::new(Reply::silence());
    let gateway = over(&up);
    let asked = json!({"model": "small", "input": "Hello", "background": true});
    let begun = post(&gateway, PATH, &asked).ok().json();
    let path = format!("{PATH}/{}", begun["id"].as_str().unwrap());
    up.wait_requests(1);
    let told = post(&gateway, &format!("{path}/cancel"), &json!({})).ok().json();
    assert_eq!((&told["status"], &told["id"]), (&json!("cancelled"), &begun["id"]));
    up.wait_departures(1);
    assert_eq!(gateway.only_call()["outcome"], "cancelled");
    assert_eq!(gateway.get(&path).ok().json()["status"], "cancelled");
    assert_eq!(post(&gateway, &format!("{path}/cancel"), &json!({})).ok().json()["status"], "cancelled");
    // One that is forgotten ends as well.
    let begun = post(&gateway, PATH, &asked).ok().json();
    let path = format!("{PATH}/{}", begun["id"].as_str().unwrap());
    up.wait_requests(2);
    let (name, value) = crate::support::authorization();
    gateway.call("DELETE", &path, &[(name, &value)], b"").ok();
    up.wait_departures(2);
    gateway.get(&path).error(404);
}

#[test]
fn what_fails_in_the_background_says_why() {
    let up = Upstream::new(Reply::json(429, "{\"error\": {\"message\": \"Slow down\"}}"));
    let gateway = over(&up);
    let asked = json!({"model": "small", "input": "Hello", "background": true, "num_retries": 0});
    let begun = post(&gateway, PATH, &asked).ok().json();
    let told = finished(&gateway, &format!("{PATH}/{}", begun["id"].as_str().unwrap()));
    assert_eq!((&told["status"], &told["error"]["code"]), (&json!("failed"), &json!("rate_limit_exceeded")));
    assert!(told["error"]["message"].as_str().unwrap().contains("Slow down"));
    let mut body = asked.clone();
    body["store"] = json!(false);
    post(&gateway, PATH, &body).error(400);
    // Followed, it ends with the same words.
    body["store"] = json!(true);
    body["stream"] = json!(true);
    let told = events(&post(&gateway, PATH, &body).ok());
    assert_eq!(types(&told), ["response.created", "response.failed"]);
    let failed = &told[1]["response"];
    assert!(failed["error"]["message"].as_str().unwrap().contains("Slow down"), "{failed}");
    assert_eq!(&gateway.get(&format!("{PATH}/{}", failed["id"].as_str().unwrap())).ok().json(), failed);
    let mut unknown = asked;
    unknown["model"] = json!("nothing");
    post(&gateway, PATH, &unknown).error(400);
}

#[test]
fn a_stop_waits_for_responses_of_the_background_as_long_as_for_others() {
    for (drain, outcome) in [("30s", "success"), ("50ms", "failure")] {
        let gate = Gate::new();
        let up = Upstream::new(Reply::after(&gate, Reply::whole()));
        let mut gateway = Gateway::start(&config(&format!("drain = \"{drain}\""), &[model("small", &up)]));
        post(&gateway, PATH, &json!({"model": "small", "input": "Hello", "background": true})).ok();
        up.wait_requests(1);
        gateway.signal("TERM");
        gateway.wait_notice("STOPPING=1", 1);
        if outcome == "success" {
            gate.open();
        }
        assert!(gateway.wait_exit().success());
        assert_eq!(gateway.only_call()["outcome"], outcome, "{drain}");
    }
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// The data of an event of a stream that is read piece by piece.
fn data(event: &str) -> Value {
    serde_json::from_str(event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap()).unwrap()
}

#[test]
fn a_response_of_the_background_is_followed_left_and_followed_again() {
    let gate = Gate::new();
    let first = Reply::stream().send(&delta(json!({"role": "assistant", "content": "Hel"}), None)).wait(&gate);
    let first = first.send(&crate::support::reply::text("lo")).end();
    let up = Upstream::queue(vec![first, Reply::whole()]);
    let gateway = over(&up);
    let asked = json!({"model": "small", "input": "Hello", "background": true, "stream": true});
    let mut client = gateway.client();
    client.post(PATH, asked.to_string());
    assert_eq!(client.head().status(), 200);
    let created = data(&client.event().unwrap());
    assert_eq!((&created["type"], &created["sequence_number"]), (&json!("response.created"), &json!(0)));
    let id = created["response"]["id"].as_str().unwrap().to_owned();
    let mut last = 0;
    while client.event().map(|event| data(&event)).is_some_and(|event| {
        last = event["sequence_number"].as_u64().unwrap();
        event["type"] != "response.output_text.delta"
    }) {}
    // Whoever leaves leaves the response alone.
    drop(client);
    let path = format!("{PATH}/{id}");
    assert_eq!(gateway.get(&path).ok().json()["status"], "in_progress");
    let mut again = gateway.client();
    let (name, key) = crate::support::authorization();
    again.request("GET", &format!("{path}?stream=true&starting_after=0"), &[(name, &key)], b"");
    assert_eq!(again.head().status(), 200);
    assert_eq!(data(&again.event().unwrap())["sequence_number"], 1);
    gate.open();
    while again.event().map(|event| data(&event)).is_some_and(|event| event["type"] != "response.completed") {}
    assert_eq!(again.event(), None);
    // It is as it was told, also when it is over, from the beginning and from any event on.
    let whole = events(&gateway.get(&format!("{path}?stream=true")).ok());
    assert_eq!(whole[0], created);
    let response = &whole.last().unwrap()["response"];
    assert_eq!(
        (&response["status"], &response["background"], &response["id"]),
        (&json!("completed"), &json!(true), &json!(id))
    );
    assert_eq!(response["output"][0]["content"][0]["text"], "Hello");
    assert_eq!(&gateway.get(&path).ok().json(), response);
    let rest = gateway.get(&format!("{path}?stream=true&starting_after={last}")).ok().text();
    let rest: Vec<Value> = rest.split_terminator("\n\n").map(data).collect();
    assert_eq!(rest, whole[last as usize + 1..]);
    assert_eq!(
        gateway.get(&format!("{path}?stream=true&starting_after=x")).error(400).param.as_deref(),
        Some("starting_after")
    );
    assert_eq!(up.requests().len(), 1);
    assert_eq!(gateway.wait_calls(1)[0]["outcome"], "success");
    // The conversation goes on from there; what was not made as a stream is none.
    let next = json!({"model": "small", "input": "And?", "previous_response_id": id});
    let plain = post(&gateway, PATH, &next).ok().json();
    let plain = format!("{PATH}/{}?stream=true", plain["id"].as_str().unwrap());
    assert_eq!(gateway.get(&plain).error(400).param.as_deref(), Some("stream"));
    gateway.call("DELETE", &path, &[(name, &key)], b"").ok();
    gateway.get(&format!("{path}?stream=true")).error(404);
}

#[test]
fn a_response_whose_upstream_makes_it_is_followed_under_its_own_id() {
    let event = |kind: &str, more: Value| {
        let mut event = more;
        event["type"] = kind.into();
        format!("event: {kind}\ndata: {event}\n\n")
    };
    let response = |status: &str| {
        json!({"response": {"id": "resp_up", "object": "response", "status": status, "output": [],
            "usage": {"input_tokens": 12, "output_tokens": 5, "total_tokens": 17}}})
    };
    let reply = [
        event("response.created", response("in_progress")),
        event("response.in_progress", response("in_progress")),
        event(
            "response.output_text.delta",
            json!({"delta": "Hi", "item_id": "msg_1", "output_index": 0, "content_index": 0}),
        ),
        event("response.completed", response("completed")),
    ];
    let reply = reply.iter().fold(Reply::stream(), |reply, event| reply.send(event)).end_body();
    let up = Upstream::new(reply).rules(|rules| rules.is_free = true);
    let entry = deployment("native", "openai/gpt-x", up.base()) + "info = { mode = \"responses\" }\n";
    let gateway = Gateway::start(&config("", &[entry]));
    let asked = json!({"model": "native", "input": "Hello", "background": true, "stream": true});
    let told = events(&post(&gateway, PATH, &asked).ok());
    let expected = ["response.created", "response.in_progress", "response.output_text.delta", "response.completed"];
    assert_eq!(types(&told), expected);
    let id = &told[0]["response"]["id"];
    assert!(told[1]["response"]["id"] == *id && told[3]["response"]["id"] == *id && *id != "resp_up");
    let kept = gateway.get(&format!("{PATH}/{}", id.as_str().unwrap())).ok().json();
    assert_eq!((&kept["status"], &kept["id"]), (&json!("completed"), id));
}

#[test]
fn a_response_whose_gateway_died_has_failed() {
    let state = tempfile::tempdir().unwrap();
    let up = Upstream::new(Reply::silence());
    let text = config("", &[model("small", &up)]);
    let serve = || Setup::toml(&text).state(state.path()).start();
    let gateway = serve();
    let asked = json!({"model": "small", "input": "Hello", "background": true});
    let plain = post(&gateway, PATH, &asked).ok().json()["id"].clone();
    let mut streamed = asked.clone();
    streamed["stream"] = true.into();
    let mut client = gateway.client();
    client.post(PATH, streamed.to_string());
    assert_eq!(client.head().status(), 200);
    let followed = data(&client.event().unwrap())["response"]["id"].clone();
    up.wait_requests(2);
    gateway.signal("KILL");
    drop(gateway);
    let gateway = serve();
    for id in [&plain, &followed] {
        let told = gateway.get(&format!("{PATH}/{}", id.as_str().unwrap())).ok().json();
        assert_eq!((&told["status"], &told["error"]["code"]), (&json!("failed"), &json!("server_error")));
        assert!(told["error"]["message"].as_str().unwrap().contains("has ended"), "{told}");
    }
    let told = gateway.get(&format!("{PATH}/{}?stream=true&starting_after=0", followed.as_str().unwrap())).ok();
    let last = data(&told.text());
    assert_eq!((&last["type"], &last["sequence_number"]), (&json!("response.failed"), &json!(1)));
}

#[test]
fn a_response_of_another_gateway_is_followed_and_fails_with_it() {
    let Some(postgres) = Postgres::start() else { return };
    let gate = Gate::new();
    let up = Upstream::new(Reply::after(&gate, Reply::texts(&["Hello"])));
    let text = format!("database_url = \"{}\"\n{}", postgres.url(), config("", &[model("small", &up)]));
    let (one, two) = (Gateway::start(&text), Gateway::start(&text));
    let asked = json!({"model": "small", "input": "Hello", "background": true, "stream": true});
    let begin = || {
        let mut client = one.client();
        client.post(PATH, asked.to_string());
        assert_eq!(client.head().status(), 200);
        let id = data(&client.event().unwrap())["response"]["id"].as_str().unwrap().to_owned();
        (client, format!("{PATH}/{id}"))
    };
    let (_client, path) = begin();
    let mut follower = two.client();
    let (name, key) = crate::support::authorization();
    follower.request("GET", &format!("{path}?stream=true"), &[(name, &key)], b"");
    assert_eq!(follower.head().status(), 200);
    gate.open();
    assert_eq!(data(&follower.event().unwrap())["type"], "response.created");
    while follower.event().map(|event| data(&event)).is_some_and(|event| event["type"] != "response.completed") {}
    // Its gateway gives no sign of life any more.
    let silent = Upstream::new(Reply::silence());
    one.rewrite(&text.replace(up.base(), silent.base()));
    one.signal("HUP");
    one.wait_notice("READY=1", 2);
    let (_client, path) = begin();
    assert_eq!(two.get(&path).ok().json()["status"], "in_progress");
    one.signal("KILL");
    postgres
        .sql("UPDATE kept SET body = regexp_replace(body, '\"until\":[0-9]+', '\"until\":1') WHERE kind = 'response'");
    assert_eq!(two.get(&path).ok().json()["status"], "failed");
}
