//! What LiteLLM's clients read of the ledger.

use super::{COST, on_both, priced, rows};
use crate::support::gateway::authorization;
use crate::support::{Gateway, Reply, Upstream};
use serde_json::Value;

/// A call with what a client may say of it.
fn tagged(gateway: &Gateway, id: &str, user: &str, tag: &str) {
    let (name, key) = authorization();
    let body = format!(
        r#"{{"model":"small","messages":[{{"role":"user","content":"hi"}}],"user":"{user}","metadata":{{"tags":["{tag}"],"session_id":"s-{id}"}}}}"#
    );
    let headers = [(name, key.as_str()), ("Content-Type", "application/json"), ("x-request-id", id)];
    gateway.call("POST", "/v1/chat/completions", &headers, body.as_bytes()).ok();
}

fn found(gateway: &Gateway, query: &str) -> Vec<String> {
    let rows = gateway.get(&format!("/spend/logs?{query}")).ok().json();
    rows.as_array().unwrap().iter().map(|row| row["metadata"]["client_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn rows_and_sums_are_told_in_litellms_shapes() {
    on_both(|database| {
        let up = Upstream::new(Reply::whole());
        let gateway = Gateway::start(&priced(database, &up));
        for (id, user, tag) in [("one", "ann", "red"), ("two", "bob", "blue"), ("three", "ann", "blue")] {
            tagged(&gateway, id, user, tag);
        }
        let rows = rows(&gateway, 3);
        assert_eq!(rows[0]["session_id"], "s-three");
        assert_eq!(found(&gateway, "end_user=ann"), ["three", "one"]);
        assert_eq!(found(&gateway, "tag=blue&end_user=bob"), ["two"]);
        assert_eq!(found(&gateway, "request_id=two"), ["two"]);
        assert_eq!(found(&gateway, "request_id=chatcmpl-9a1").len(), 3);
        assert_eq!(found(&gateway, &format!("request_id={}", rows[2]["request_id"].as_str().unwrap())), ["one"]);
        assert_eq!(found(&gateway, "status_filter=failure").len(), 0);
        assert_eq!(found(&gateway, "custom_llm_provider=openai&min_spend=0.00001"), ["three", "two", "one"]);
        assert_eq!(found(&gateway, "error_message=broke").len(), 0);
        assert_eq!(found(&gateway, "limit=2"), ["three", "two"]);
        let after = rows[1]["request_id"].as_str().unwrap();
        assert_eq!(found(&gateway, &format!("limit=2&after={after}")), ["one"]);

        let date = &rows[0]["startTime"].as_str().unwrap()[..10];
        let day = gateway.get(&format!("/spend/logs?start_date={date}&end_date={date}")).ok().json();
        assert_eq!((day[0]["startTime"].as_str(), money(&day[0]["spend"])), (Some(date), 3), "{day:#}");
        assert_eq!(money(&day[0]["models"]["small"]), 3);

        let page = gateway.get("/spend/logs/ui?page=2&page_size=2").ok().json();
        assert_eq!((page["total"].as_i64(), page["total_pages"].as_i64()), (Some(3), Some(2)), "{page:#}");
        assert_eq!(page["data"][0]["request_id"], rows[2]["request_id"]);

        let get = |path: &str| gateway.get(path).ok().json();
        assert_eq!(money(&get("/spend/keys")[0]["spend"]), 3);
        assert_eq!(money(&get("/spend/users")[0]["spend"]), 3);
        let tags = get("/spend/tags");
        assert_eq!((tags[0]["individual_request_tag"].as_str(), money(&tags[0]["total_spend"])), (Some("blue"), 2));
        assert_eq!(get("/global/spend/tags")["spend_per_tag"][1]["name"], "red");
        assert_eq!(get("/global/spend/all_tag_names")["tag_names"], serde_json::json!(["blue", "red"]));
        assert_eq!(money(&get("/global/spend/logs")[0]["spend"]), 3);
        assert_eq!(get("/global/spend/models")[0]["model"], "small");
        assert_eq!(get("/global/spend/provider")[0]["provider"], "openai");
        assert_eq!(get("/global/spend/end_users")[0]["end_user"], "ann");
        assert_eq!(money(&get("/global/spend/keys")[0]["total_spend"]), 3);
        assert_eq!(money(&get("/global/spend/report?group_by=customer")[0]["customers"][0]["total_spend"]), 2);
        assert_eq!(money(&get("/global/spend/report?group_by=api_key")[0]["total_cost"]), 3);
        assert_eq!(get("/global/activity")["sum_total_tokens"], 51);
        assert_eq!(get("/global/activity/model")[0]["sum_api_requests"], 3);
        let activity = get("/customer/daily/activity?end_user_ids=ann");
        assert_eq!(money(&activity["results"][0]["metrics"]["spend"]), 2, "{activity:#}");
        assert_eq!(money(&activity["results"][0]["breakdown"]["entities"]["ann"]["metrics"]["spend"]), 2);
        assert_eq!(get("/user/daily/activity/aggregated")["metadata"]["total_successful_requests"], 3);
        for wrong in ["/spend/logs?start_date=soon", "/spend/logs?limit=0", "/spend/logs/ui?page=900&page_size=100"] {
            gateway.get(wrong).error(400);
        }
        gateway.call("GET", "/spend/logs", &[], b"").error(401);
    });
}

#[test]
fn a_call_is_booked_on_its_key_user_and_tags() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&priced("", &up));
    let wanted = r#"{"key_alias":"laptop","user_id":"ann","tags":["home"],"models":["small"]}"#;
    let made = gateway.post("/key/generate", wanted).ok().json();
    let bearer = format!("Bearer {}", made["key"].as_str().unwrap());
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    gateway.call("POST", "/v1/chat/completions", &headers, crate::chat::HELLO.as_bytes()).ok();
    let row = rows(&gateway, 1).swap_remove(0);
    assert_eq!((&row["api_key"], &row["user"]), (&made["token"], &Value::from("ann")), "{row:#}");
    assert_eq!(row["metadata"]["user_api_key_alias"], "laptop");
    let get = |path: &str| gateway.get(path).ok().json();
    let key = made["key"].as_str().unwrap();
    assert_eq!(get(&format!("/spend/logs?api_key={key}")).as_array().unwrap().len(), 1);
    let keys = get("/spend/keys");
    assert_eq!((&keys[0]["key_alias"], money(&keys[0]["spend"])), (&Value::from("laptop"), 1));
    assert_eq!(money(&get(&format!("/key/info?key={key}"))["info"]["spend"]), 1);
    assert_eq!(get("/spend/users?user_id=ann")[0]["user_id"], "ann");
    assert_eq!(money(&get("/user/daily/activity?user_id=ann")["metadata"]["total_spend"]), 1);
    // What others spend is not for everybody.
    gateway.call("GET", "/spend/logs", &headers, b"").error(403);
}

#[test]
fn a_user_sees_his_own_calls_and_no_others() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&priced("", &up));
    let made = |user: &str| {
        let wanted = format!(r#"{{"user_id":"{user}","user_role":"internal_user","auto_create_key":false}}"#);
        gateway.post("/user/new", wanted).ok();
        let made = gateway.post("/key/generate", format!(r#"{{"user_id":"{user}"}}"#)).ok().json();
        made["key"].as_str().unwrap().to_owned()
    };
    let (ann, bob) = (made("ann"), made("bob"));
    let get = |key: &str, path: &str| gateway.call("GET", path, &[("x-api-key", key)], b"");
    for (key, id) in [(&ann, "a1"), (&bob, "b1"), (&ann, "a2")] {
        let headers = [("x-api-key", key.as_str()), ("Content-Type", "application/json"), ("x-request-id", id)];
        gateway.call("POST", "/v1/chat/completions", &headers, crate::chat::HELLO.as_bytes()).ok();
    }
    rows(&gateway, 3);
    let ids = |key: &str, path: &str| -> Vec<String> {
        let told = get(key, path).ok().json();
        let rows = told.get("data").unwrap_or(&told).as_array().unwrap().clone();
        rows.iter().map(|row| row["metadata"]["client_id"].as_str().unwrap().to_owned()).collect()
    };
    for path in ["/spend/logs", "/spend/logs?user_id=bob", "/spend/logs/ui?user_id=bob", "/spend/logs/v2"] {
        assert_eq!(ids(&ann, path), ["a2", "a1"], "{path}");
    }
    assert_eq!(ids(&ann, "/spend/logs?request_id=b1"), [""; 0]);
    assert_eq!(ids(&bob, "/spend/logs?request_id=b1"), ["b1"]);
    for path in ["/user/daily/activity?user_id=bob", "/user/daily/activity/aggregated"] {
        assert_eq!(get(&ann, path).ok().json()["metadata"]["total_api_requests"], 2, "{path}");
    }
    for path in ["/spend/keys", "/global/spend", "/team/daily/activity", "/spend/logs/ui/x", "/global/activity"] {
        get(&ann, path).error(403);
    }
    // Only who has the master key sets back what all have spent.
    gateway.call("POST", "/global/spend/reset", &[("x-api-key", &ann)], b"").error(403);
    gateway.post("/global/spend/reset", "").ok();
    assert_eq!(money(&gateway.get(&format!("/key/info?key={ann}")).ok().json()["info"]["spend"]), 0);
    assert_eq!(money(&gateway.get("/global/spend").ok().json()["spend"]), 3);
    assert_eq!(rows(&gateway, 3).len(), 3);
}

/// How often the price of a call.
fn money(spend: &Value) -> i64 {
    (spend.as_f64().unwrap_or_else(|| panic!("no money: {spend}")) / COST).round() as i64
}
