//! Parameters on their way up: dropped, refused, renamed, added.

use crate::chat::HELLO;
use crate::support::{Gateway, Reply, Upstream, config, deployment, model};
use serde_json::{Value, json};

/// A request with these members added.
fn with(members: &str) -> String {
    HELLO.replace("{\"model\":\"small\",", &format!("{{\"model\":\"small\",{members},"))
}

/// A model of the provider that its rules apply to.
fn upstream_model(provider: &str) -> String {
    format!("{provider}/{}", if provider == "perplexity" { "sonar" } else { "up" })
}

/// What an upstream of this provider gets to see of a request.
fn seen(provider: &str, lines: &str, body: &str) -> Value {
    let up = Upstream::new(Reply::whole()).allow(&["top_k", "x_extra", "random_seed"]);
    let gateway = Gateway::start(&config("", &[deployment("small", &upstream_model(provider), up.base()) + lines]));
    gateway.chat(body).ok();
    up.only_request().json()
}

#[test]
fn a_parameter_that_the_provider_does_not_take_is_a_400_that_names_it() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[deployment("small", "perplexity/sonar", up.base())]));
    let error = gateway.chat(with("\"seed\":1")).error(400);
    assert_eq!(error.param.as_deref(), Some("seed"));
    assert!(error.message.contains("seed") && error.message.contains("drop_params"), "{error:?}");
    assert!(up.requests().is_empty());
}

#[test]
fn drop_params_drops_it_silently_wherever_it_stands() {
    for body in [with("\"seed\":1"), HELLO.replace("]}", "],\"seed\":1}"), with("\"seed\" : 1 \n")] {
        let sent = seen("perplexity", "drop_params = true\n", &body);
        assert_eq!(sent.get("seed"), None, "{sent}");
        assert_eq!(sent["messages"][0]["content"], "hi");
    }
}

#[test]
fn drop_params_can_be_the_default_of_all_models() {
    let up = Upstream::new(Reply::whole());
    let models = [deployment("small", "perplexity/sonar", up.base())];
    let gateway = Gateway::start(&(config("", &models) + "[defaults]\ndrop_params = true\n"));
    gateway.chat(with("\"seed\":1")).ok();
    assert_eq!(up.only_request().json().get("seed"), None);
}

#[test]
fn allowed_openai_params_are_sent_all_the_same() {
    let sent = seen("perplexity", "allowed_openai_params = [\"seed\"]\n", &with("\"seed\":1"));
    assert_eq!(sent["seed"], 1);
    let sent = seen("perplexity", "drop_params = true\nallowed_openai_params = [\"seed\"]\n", &with("\"seed\":1"));
    assert_eq!(sent["seed"], 1);
}

#[test]
fn additional_drop_params_are_never_sent() {
    let sent =
        seen("openai", "additional_drop_params = [\"user\", \"seed\"]\n", &with("\"user\":\"me\",\"seed\":1,\"n\":1"));
    assert_eq!((sent.get("user"), sent.get("seed"), &sent["n"]), (None, None, &json!(1)));
}

#[test]
fn members_that_nobody_knows_are_sent_as_they_are() {
    assert_eq!(seen("openai", "", &with("\"top_k\":5"))["top_k"], 5);
}

#[test]
fn extra_body_is_added_and_wins() {
    let sent =
        seen("openai", "extra_body = { x_extra = { a = [1, true] }, user = \"house\" }\n", &with("\"user\":\"me\""));
    assert_eq!(sent["x_extra"], json!({"a": [1, true]}));
    assert_eq!(sent["user"], "house");
}

#[test]
fn default_params_fill_in_and_do_not_win() {
    let lines = "params = { temperature = 0.5, max_tokens = 100 }\n";
    let sent = seen("openai", lines, &with("\"max_tokens\":7"));
    assert_eq!((&sent["temperature"], &sent["max_tokens"]), (&json!(0.5), &json!(7)));
}

#[test]
fn a_null_of_the_caller_is_a_value_of_his_own() {
    let sent = seen("openai", "", &with("\"stop\":null,\"user\":null"));
    assert_eq!((sent.get("stop"), sent.get("user")), (Some(&Value::Null), Some(&Value::Null)));
}

#[test]
fn a_default_is_never_sent_twice() {
    let up = Upstream::new(Reply::whole());
    let lines = "params = { temperature = 0.5 }\nextra_body = { temperature = 0.7 }\n";
    let gateway = Gateway::start(&config("", &[model("small", &up) + lines]));
    gateway.chat(with("\"temperature\":0.1")).ok();
    gateway.chat(HELLO).ok();
    for sent in up.requests() {
        assert_eq!(sent.text().matches("temperature").count(), 1, "{}", sent.text());
        assert_eq!(sent.json()["temperature"], 0.7);
    }
}

#[test]
fn extra_headers_are_sent_and_may_name_secrets() {
    let up = Upstream::new(Reply::whole());
    let lines = "extra_headers = { X-House = \"kitchen\", X-Token = \"env:TOKEN\" }\n";
    let text = config("", &[model("small", &up) + lines]);
    let gateway = crate::support::Setup::toml(&text).secret("TOKEN", "t0ken-4711").start();
    gateway.chat(HELLO).ok();
    let seen = up.only_request();
    assert_eq!(seen.header("x-house").as_deref(), Some("kitchen"));
    assert_eq!(seen.header("x-token").as_deref(), Some("t0ken-4711"));
}

#[test]
fn the_organization_of_a_deployment_is_sent() {
    let up = Upstream::new(Reply::whole());
    Gateway::start(&config("", &[model("small", &up) + "organization = \"org-7\"\n"])).chat(HELLO).ok();
    assert_eq!(up.only_request().header("openai-organization").as_deref(), Some("org-7"));
}

#[test]
fn a_parameter_with_another_name_upstream_is_renamed() {
    let sent = seen("mistral", "", &with("\"seed\":3"));
    assert_eq!((sent.get("seed"), &sent["random_seed"]), (None, &json!(3)));
    let sent = seen("mistral", "", &with("\"max_completion_tokens\":3"));
    assert_eq!((sent.get("max_completion_tokens"), &sent["max_tokens"]), (None, &json!(3)));
}

#[test]
fn an_upstream_that_takes_no_stream_options_gets_none() {
    let up = Upstream::new(Reply::texts(&["a"]));
    let gateway = Gateway::start(&config("", &[deployment("small", "mistral/up", up.base())]));
    gateway.chat(crate::stream::HELLO).ok();
    assert_eq!(up.only_request().json().get("stream_options"), None);
}

#[test]
fn the_developer_role_becomes_system_where_it_is_not_known() {
    let body = HELLO.replace("[{", "[{\"role\":\"developer\",\"content\":\"role: developer\"},{");
    assert_eq!(seen("mistral", "", &body)["messages"][0], json!({"role": "system", "content": "role: developer"}));
    assert_eq!(seen("openai", "", &body)["messages"][0]["role"], "developer");
}

#[test]
fn a_value_that_the_provider_does_not_take_is_a_400_or_dropped() {
    for (provider, member) in [
        ("moonshot", r#""tool_choice":"required""#),
        ("deepinfra", r#""tool_choice":{"type":"function","function":{"name":"f"}}"#),
        ("lm_studio", r#""response_format":{ "type" : "json_object" }"#),
    ] {
        let body = with(&format!(r#"{member},"tools":[{{"type":"function","function":{{"name":"f"}}}}]"#));
        let up = Upstream::new(Reply::whole());
        let lines = deployment("small", &format!("{provider}/up"), up.base());
        let error = Gateway::start(&config("", std::slice::from_ref(&lines))).chat(&body).error(400);
        let name = &member[1..member.find(':').unwrap() - 1];
        assert_eq!(error.param.as_deref(), Some(name), "{error:?}");
        assert!(up.requests().is_empty());
        assert_eq!(seen(provider, "drop_params = true\n", &body).get(name), None);
    }
    let fine = with(r#""tool_choice":"auto","tools":[{"type":"function","function":{"name":"f"}}]"#);
    assert_eq!(seen("moonshot", "", &fine)["tool_choice"], "auto");
}

#[test]
fn messages_and_tools_are_made_to_fit_where_a_provider_is_narrower() {
    let told = r#"{"role":"assistant","content":null,"refusal":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"call_1","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"user","name":"x","content":"hi"}"#;
    let tools = r#""tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"type":"object","properties":{},"additionalProperties":false}}}]"#;
    let body = format!(r#"{{"model":"small",{tools},"messages":[{{"role":"user","content":"go"}},{told}]}}"#);
    let sent = seen("openai", "", &body);
    assert_eq!(sent["messages"], serde_json::from_str::<Value>(&body).unwrap()["messages"]);

    let sent = seen("groq", "", &body);
    assert_eq!((sent["messages"][1].get("refusal"), sent["messages"][1].get("content")), (None, None), "{sent}");
    assert_eq!(seen("sambanova", "", &body)["messages"][2]["content"], "a\nb");
    let sent = seen("mistral", "", &body);
    let id = sent["messages"][1]["tool_calls"][0]["id"].as_str().unwrap();
    assert!(id.len() == 9 && sent["messages"][2]["tool_call_id"] == id, "{sent}");
    assert_eq!(sent["messages"][3].get("name"), None);
    let function = &sent["tools"][0]["function"];
    assert_eq!((function.get("strict"), function["parameters"].get("additionalProperties")), (None, None));
}

#[test]
fn reasoning_models_get_the_name_of_the_limit_that_they_know() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[deployment("small", "openai/o3-mini", up.base())]));
    gateway.chat(with("\"max_tokens\":9")).ok();
    let sent = up.only_request().json();
    assert_eq!((sent.get("max_tokens"), &sent["max_completion_tokens"]), (None, &json!(9)));
}

#[test]
fn both_names_of_the_limit_at_once_do_not_become_a_duplicate() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[deployment("small", "mistral/up", up.base())]));
    let answer = gateway.chat(with("\"max_tokens\":5,\"max_completion_tokens\":9"));
    assert!([200, 400].contains(&answer.status), "{}", answer.text());
    for sent in up.requests() {
        assert_eq!(sent.text().matches("max_tokens").count(), 1, "{}", sent.text());
    }
}
