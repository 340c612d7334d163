//! What is looked at before a call is sent: the region and the window.

use super::{asks, good, with};
use crate::support::{MASTER_KEY, Setup, model};
use serde_json::json;

#[test]
fn calls_that_have_to_stay_in_a_region_go_nowhere_else() {
    let ups = [good(), good(), good()];
    let entry = |up: &crate::support::Upstream, more: &str| {
        let base = up.base();
        format!(
            "  - model_name: small\n    litellm_params: {{model: openai/small-up, api_base: '{base}', api_key: os.environ/UPSTREAM_KEY{more}}}\n"
        )
    };
    let [eu, us, unknown] = &ups;
    let text = format!(
        "model_list:\n{}{}{}router_settings: {{enable_pre_call_checks: true}}\ngeneral_settings: {{master_key: os.environ/MASTER_KEY}}\n",
        entry(eu, ", region_name: eu-central-1"),
        entry(us, ", region_name: us"),
        entry(unknown, ""),
    );
    let gateway = Setup::yaml(&text).start();
    let came = || ups.each_ref().map(|up| up.requests().len());
    for _ in 0..4 {
        gateway.chat(asks("small", r#""allowed_model_region":"eu","#)).ok();
    }
    assert_eq!(came(), [4, 0, 0]);
    let error = gateway.chat(asks("small", r#""allowed_model_region":"mars","#)).error(400);
    assert!(error.message.contains("region"), "{error:?}");
    // A customer's calls stay where an administrator says, whatever they say themselves.
    gateway.post("/customer/new", json!({"user_id": "ann", "allowed_model_region": "us"}).to_string()).ok();
    let headers = [("Authorization", &*format!("Bearer {MASTER_KEY}")), ("Content-Type", "application/json")];
    let ask = |body: &str| gateway.call("POST", "/v1/chat/completions", &headers, body.as_bytes());
    for _ in 0..3 {
        ask(&asks("small", r#""user":"ann","allowed_model_region":"eu","#)).ok();
    }
    assert_eq!(came(), [4, 3, 0]);
    ask(&asks("small", r#""user":"bob","allowed_model_region":"eu","#)).ok();
    assert_eq!(came(), [5, 3, 0]);
}

#[test]
fn a_prompt_goes_where_it_has_room() {
    let (small, large) = (good(), good());
    let models = [
        model("small", &small) + "info = { max_input_tokens = 20 }\n",
        model("small", &large) + "info = { max_input_tokens = 100000 }\n",
        model("tight", &small) + "info = { max_input_tokens = 20 }\n",
    ];
    let gateway = with("pre_call_checks = true\ncontext_window_fallbacks = { tight = [\"small\"] }\n", &models);
    let long = |name: &str, more: &str| asks(name, more).replace("\"hi\"", &format!("\"{}\"", "word ".repeat(100)));
    for _ in 0..3 {
        gateway.chat(long("small", "")).ok();
    }
    assert_eq!((small.requests().len(), large.requests().len()), (0, 3));
    gateway.chat(long("tight", "")).ok();
    assert_eq!((small.requests().len(), large.requests().len()), (0, 4));
    let error = gateway.chat(long("tight", "\"disable_fallbacks\":true,")).error(400);
    assert_eq!(error.code, "context_length_exceeded");
}
