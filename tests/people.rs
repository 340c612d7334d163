//! Users, teams, budgets and customers, and what follows for their keys.

use crate::keys::{beside, chat, generate, get, post, serve, text, until};
use crate::support::{Gateway, MASTER_KEY, Reply, Setup, Upstream, config, model};
use serde_json::{Value, json};

fn send(gateway: &Gateway, path: &str, body: &Value) -> Value {
    gateway.post(path, body.to_string()).ok().json()
}

#[test]
fn a_user_comes_with_a_key_and_goes_with_it() {
    let gateway = serve();
    let body = json!({"user_id": "ann", "user_email": "ann@home", "user_role": "internal_user", "models": ["small"]});
    let made = send(&gateway, "/user/new", &body);
    let key = text(&made["key"]);
    assert_eq!(
        (&made["user_id"], &made["user_role"], &made["models"]),
        (&json!("ann"), &json!("internal_user"), &json!(["small"]))
    );
    chat(&gateway, key).ok();
    let body = json!({"model": "fast", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(post(&gateway, key, "/v1/chat/completions", &body).error(403).kind, "user_model_access_denied");
    let info = get(&gateway, key, "/user/info").ok().json();
    assert_eq!(
        (info["keys"].as_array().map(Vec::len), &info["user_info"]["user_email"]),
        (Some(1), &json!("ann@home"))
    );
    // An internal user looks after keys of his own, and no others.
    let second = post(&gateway, key, "/key/generate", &json!({"key_alias": "second"})).ok().json();
    assert_eq!(second["user_id"], "ann");
    post(&gateway, key, "/key/generate", &json!({"user_id": "bob"})).error(403);
    post(&gateway, key, "/key/generate", &json!({"allowed_routes": ["*"]})).error(403);
    post(&gateway, key, "/user/new", &json!({})).error(403);
    get(&gateway, key, "/user/info?user_id=bob").error(403);
    let listed = get(&gateway, key, "/key/list").ok().json();
    assert_eq!(listed["total_count"], 2);
    gateway.post("/user/new", json!({"user_id": "bob", "user_email": "ANN@home"}).to_string()).error(400);
    // Empty texts are what a form sends that was not filled in.
    let body = json!({"user_id": "ann", "models": [], "max_budget": 3, "budget_id": "", "organization_id": ""});
    let updated = send(&gateway, "/user/update", &body);
    assert_eq!(updated["data"]["organization_id"], Value::Null, "{updated}");
    assert_eq!((&updated["user_id"], &updated["data"]["max_budget"]), (&json!("ann"), &json!(3.0)));
    let body = json!({"model": "fast", "messages": [{"role": "user", "content": "hi"}]});
    post(&gateway, key, "/v1/chat/completions", &body).ok();
    let users = gateway.get("/user/list?role=internal_user").ok().json();
    assert_eq!((&users["total"], &users["users"][0]["key_count"]), (&json!(1), &json!(2)));
    assert_eq!(send(&gateway, "/user/delete", &json!({"user_ids": ["ann"]})), json!(1));
    chat(&gateway, key).error(401);
    gateway.get("/user/info?user_id=ann").error(404);
}

#[test]
fn a_team_decides_for_its_keys_and_its_admins_for_it() {
    let gateway = serve();
    let members = json!([{"role": "admin", "user_id": "ann"}, {"role": "user", "user_id": "bob"}]);
    let team =
        send(&gateway, "/team/new", &json!({"team_alias": "home", "models": ["small"], "members_with_roles": members}));
    let id = text(&team["team_id"]);
    assert_eq!(team["members_with_roles"].as_array().map(Vec::len), Some(2), "{team}");
    let key = generate(&gateway, &json!({"team_id": id, "models": ["all-team-models"]}));
    let key = text(&key["key"]);
    chat(&gateway, key).ok();
    let body = json!({"model": "fast", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(post(&gateway, key, "/v1/chat/completions", &body).error(403).kind, "team_model_access_denied");
    let plain = generate(&gateway, &json!({"team_id": id}));
    assert_eq!(
        post(&gateway, text(&plain["key"]), "/v1/chat/completions", &body).error(403).kind,
        "team_model_access_denied"
    );
    let models = get(&gateway, key, "/v1/models").ok().json();
    assert_eq!(models["data"].as_array().map(Vec::len), Some(1));
    // Ann leads the team, Bob is only in it.
    for user in ["ann", "bob"] {
        send(&gateway, "/user/update", &json!({"user_id": user, "user_role": "internal_user"}));
    }
    let ann = generate(&gateway, &json!({"user_id": "ann"}));
    let bob = generate(&gateway, &json!({"user_id": "bob"}));
    let (ann, bob) = (text(&ann["key"]), text(&bob["key"]));
    post(&gateway, ann, "/key/generate", &json!({"team_id": id})).ok();
    let error = post(&gateway, bob, "/key/generate", &json!({"team_id": id, "user_id": "bob"})).error(403);
    assert_eq!(error.kind, "team_member_permission_error");
    // An administrator's key would make Ann one.
    send(&gateway, "/user/new", &json!({"user_id": "root", "user_role": "proxy_admin", "auto_create_key": false}));
    send(&gateway, "/team/member_add", &json!({"team_id": id, "member": {"role": "user", "user_id": "root"}}));
    let roots = generate(&gateway, &json!({"team_id": id, "user_id": "root"}));
    post(&gateway, ann, "/key/generate", &json!({"team_id": id, "user_id": "root"})).error(403);
    post(&gateway, ann, "/key/regenerate", &json!({"key": roots["token"]})).error(403);
    send(&gateway, "/key/delete", &json!({"keys": [roots["token"]]}));
    send(&gateway, "/team/member_delete", &json!({"team_id": id, "user_id": "root"}));
    post(
        &gateway,
        bob,
        "/team/permissions_update",
        &json!({"team_id": id, "team_member_permissions": ["/key/generate"]}),
    )
    .error(403);
    post(
        &gateway,
        ann,
        "/team/permissions_update",
        &json!({"team_id": id, "team_member_permissions": ["/key/generate"]}),
    )
    .ok();
    post(&gateway, bob, "/key/generate", &json!({"team_id": id, "user_id": "bob"})).ok();
    post(&gateway, bob, "/team/member_add", &json!({"team_id": id, "member": {"role": "user", "user_id": "eve"}}))
        .error(403);
    let added = json!({"team_id": id, "member": {"role": "user", "user_id": "eve"}, "max_budget_in_team": 2});
    let added = post(&gateway, ann, "/team/member_add", &added).ok().json();
    assert_eq!(added["updated_team_memberships"][0]["litellm_budget_table"]["max_budget"], 2.0);
    let changed = json!({"team_id": id, "user_id": "eve", "max_budget_in_team": 4, "role": "admin"});
    assert_eq!(send(&gateway, "/team/member_update", &changed)["max_budget_in_team"], 4.0);
    let left = send(&gateway, "/team/member_delete", &json!({"team_id": id, "user_id": "eve"}));
    assert_eq!(left["members_with_roles"].as_array().map(Vec::len), Some(2));
    let info = gateway.get(&format!("/team/info?team_id={id}")).ok().json();
    assert_eq!((&info["team_info"]["team_alias"], info["keys"].as_array().map(Vec::len)), (&json!("home"), Some(4)));
    assert_eq!(get(&gateway, bob, "/team/list").ok().json()[0]["team_id"], id);
    send(&gateway, "/team/block", &json!({"team_id": id}));
    assert!(chat(&gateway, key).error(401).message.contains("/team/unblock"));
    send(&gateway, "/team/unblock", &json!({"team_id": id}));
    chat(&gateway, key).ok();
    assert_eq!(send(&gateway, "/team/delete", &json!({"team_ids": [id]})), json!({"deleted_teams": [id]}));
    chat(&gateway, key).error(401);
}

#[test]
fn budgets_and_customers_are_kept() {
    let gateway = serve();
    let budget =
        send(&gateway, "/budget/new", &json!({"budget_id": "small", "max_budget": 1, "budget_duration": "1d"}));
    assert_eq!((&budget["budget_id"], &budget["max_budget"]), (&json!("small"), &json!(1.0)));
    gateway.post("/budget/new", r#"{"budget_duration":"soon"}"#).error(400);
    let shared = generate(&gateway, &json!({"budget_id": "small", "budget_duration": "1h"}));
    assert_eq!(shared["litellm_budget_table"]["max_budget"], 1.0);
    assert!(text(&shared["budget_reset_at"]).contains(":00:00"), "{shared}");
    gateway.post("/key/generate", r#"{"budget_id":"none"}"#).error(400);
    let customer =
        send(&gateway, "/customer/new", &json!({"user_id": "guest", "budget_id": "small", "alias": "Guest"}));
    assert_eq!((&customer["alias"], &customer["litellm_budget_table"]["max_budget"]), (&json!("Guest"), &json!(1.0)));
    let blocked = send(&gateway, "/end_user/block", &json!({"user_ids": ["guest", "stranger"]}));
    assert_eq!(blocked["blocked_users"].as_array().map(Vec::len), Some(2));
    assert_eq!(gateway.get("/customer/info?end_user_id=guest").ok().json()["blocked"], true);
    let ask = |user: &str| {
        let body = json!({"model": "small", "user": user, "messages": [{"role": "user", "content": "hi"}]});
        gateway.post("/v1/chat/completions", body.to_string())
    };
    assert!(ask("stranger").error(403).message.contains("User blocked"), "a blocked customer is served");
    ask("somebody").ok();
    send(&gateway, "/customer/unblock", &json!({"user_ids": ["stranger"]}));
    ask("stranger").ok();
    assert_eq!(gateway.get("/customer/list").ok().json().as_array().map(Vec::len), Some(2));
    send(&gateway, "/budget/update", &json!({"budget_id": "small", "max_budget": 2}));
    let infos = send(&gateway, "/budget/info", &json!({"budgets": ["small"]}));
    assert_eq!(infos[0]["max_budget"], 2.0);
    assert_eq!(send(&gateway, "/budget/delete", &json!({"id": "small"}))["budget_id"], "small");
    assert_eq!(send(&gateway, "/customer/delete", &json!({"user_ids": ["guest"]}))["deleted_customers"], 1);
    gateway.get("/customer/info?end_user_id=guest").error(404);
    let guest = generate(&gateway, &json!({"user_id": "guest"}));
    for path in ["/budget/list", "/customer/list", "/user/list"] {
        get(&gateway, text(&guest["key"]), path).error(403);
    }
}

#[test]
fn the_shell_makes_changes_and_deletes_people_of_a_running_gateway() {
    let gateway = serve();
    let run = |command: &str, words: &[&str]| {
        let (done, text) = beside(&gateway, command, words);
        assert!(done, "{command} {words:?}: {text}");
        text
    };
    let read = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let team = read(run("team", &["create", "home", "--model", "small", "--max-budget", "20", "--tpm-limit", "1000"]));
    assert_eq!((&team["models"], &team["max_budget"]), (&json!(["small"]), &json!(20.0)));
    let ann = ["create", "ann", "--email", "ann@home.example", "--role", "internal_user", "--team", "home"];
    assert_eq!(read(run("user", &ann))["teams"], json!(["home"]));
    run("team", &["add", "home", "ann", "--admin", "--max-budget", "2.5"]);
    let key = run("key", &["create", "--user", "ann", "--team", "home"]);
    chat(&gateway, &key).ok();
    let info = gateway.get("/team/info?team_id=home").ok().json();
    assert_eq!(info["team_info"]["admins"], json!(["ann"]));
    assert_eq!(info["team_memberships"][0]["litellm_budget_table"]["max_budget"], 2.5);
    assert_eq!(run("team", &["list"]), "home\t-\t1\t-");
    assert_eq!(run("user", &["list"]), "ann\tinternal_user\tann@home.example\t-\t-");
    run("user", &["block", "ann"]);
    until("a blocked user", 401, || chat(&gateway, &key));
    run("user", &["unblock", "ann"]);
    until("a user who is not blocked any more", 200, || chat(&gateway, &key));
    let changed = read(run("user", &["update", "ann", "--alias", "Ann", "--max-budget", "3"]));
    assert_eq!((&changed["user_alias"], &changed["user_email"]), (&json!("Ann"), &json!("ann@home.example")));
    run("team", &["update", "home", "--model", "fast"]);
    until("a model that was taken away", 403, || chat(&gateway, &key));
    for (command, words, said) in [
        ("user", &["create", "bob", "--role", "king"][..], "'user_role' is one of"),
        ("user", &["create", "bob", "--email", "ANN@home.example"], "the address of the user 'ann'"),
        ("user", &["create", "ann"], "a user 'ann' already"),
        ("user", &["create", "bob", "--team", "none"], "no team 'none'"),
        ("user", &["update", "ann", "--budget", "none"], "no budget 'none'"),
        ("user", &["info", "bob"], "no user 'bob'"),
        ("team", &["update", "home", "--budget-duration", "soon"], "A length of time"),
        ("team", &["remove", "home", "bob"], "no member"),
    ] {
        let (done, text) = beside(&gateway, command, words);
        assert!(!done && text.contains(said), "{command} {words:?}: {text}");
    }
    run("team", &["remove", "home", "ann"]);
    assert_eq!(read(run("user", &["info", "ann"]))["teams"], json!([]));
    run("user", &["delete", "ann"]);
    until("a key of a user who is gone", 401, || chat(&gateway, &key));
    run("team", &["delete", "home"]);
    gateway.get("/team/info?team_id=home").error(404);
}

#[test]
fn what_others_spend_is_shown_to_those_who_lead_them() {
    let gateway = serve();
    for user in ["ann", "bob"] {
        send(&gateway, "/user/new", &json!({"user_id": user, "user_role": "internal_user", "auto_create_key": false}));
    }
    let members = json!([{"role": "admin", "user_id": "ann"}, {"role": "user", "user_id": "bob"}]);
    send(&gateway, "/team/new", &json!({"team_id": "home", "members_with_roles": members}));
    send(&gateway, "/team/new", &json!({"team_id": "other"}));
    let key_of = |body: Value| text(&generate(&gateway, &body)["key"]).to_owned();
    let (ann, bob) = (key_of(json!({"user_id": "ann"})), key_of(json!({"user_id": "bob"})));
    chat(&gateway, &key_of(json!({"team_id": "home", "user_id": "bob"}))).ok();
    until("the call in its row", 200, || {
        let rows = get(&gateway, &bob, "/spend/logs").ok().json();
        if rows.as_array().is_some_and(|rows| rows.len() == 1) {
            get(&gateway, &bob, "/v1/models")
        } else {
            gateway.get("/nothing")
        }
    });
    // The path of one's own rows ends like one of everybody's days.
    for key in [&ann, &bob] {
        get(&gateway, key, "/spend/logs").ok();
        get(&gateway, key, "/global/spend/logs").error(403);
        get(&gateway, key, "/global/%73pend/logs").error(403);
        get(&gateway, key, "/team/daily/activity?team_ids=other").error(403);
        get(&gateway, key, "/team/daily/activity?team_ids=home,other").error(403);
    }
    let requests = |path: &str| get(&gateway, &ann, path).ok().json()["metadata"]["total_api_requests"].clone();
    for path in ["?team_ids=home", "", "/aggregated?team_ids=home"] {
        assert_eq!(requests(&format!("/team/daily/activity{path}")), 1, "{path}");
    }
    assert_eq!(requests("/user/daily/activity"), 0);
    get(&gateway, &bob, "/team/daily/activity").error(403);
}

#[test]
fn a_user_whose_key_cannot_be_made_is_not_made() {
    let gateway = serve();
    let body = |duration: &str| json!({"user_id": "ann", "user_email": "ann@home", "duration": duration}).to_string();
    let error = gateway.post("/user/new", body("soon")).error(400);
    assert_eq!(error.param.as_deref(), Some("duration"), "{error:?}");
    gateway.get("/user/info?user_id=ann").error(404);
    gateway.post("/user/new", body("30d")).ok();
}

#[test]
fn an_organization_limits_its_teams_and_keys_as_long_as_it_has_any() {
    let gateway = serve();
    let call = |method: &str, path: &str, body: &Value| {
        let headers = [("x-api-key", MASTER_KEY), ("Content-Type", "application/json")];
        gateway.call(method, path, &headers, body.to_string().as_bytes())
    };
    let body = json!({"organization_id": "house", "organization_alias": "House", "models": ["small"], "max_budget": 9});
    let made = send(&gateway, "/organization/new", &body);
    assert_eq!(
        (&made["max_budget"], &made["litellm_budget_table"]["max_budget"]),
        (&json!(9.0), &json!(9.0)),
        "{made}"
    );
    gateway.post("/organization/new", body.to_string()).error(400);
    assert_eq!(gateway.post("/organization/new", "{}").error(400).param.as_deref(), Some("organization_alias"));
    send(&gateway, "/team/new", &json!({"team_id": "home", "organization_id": "house"}));
    let key = generate(&gateway, &json!({"team_id": "home"}));
    let asks = || {
        let body = json!({"model": "fast", "messages": [{"role": "user", "content": "hi"}]});
        post(&gateway, text(&key["key"]), "/v1/chat/completions", &body)
    };
    chat(&gateway, text(&key["key"])).ok();
    assert_eq!(asks().error(403).kind, "org_model_access_denied");
    let changed =
        call("PATCH", "/organization/update", &json!({"organization_id": "house", "models": ["small", "fast"]})).ok();
    assert_eq!(changed.json()["models"], json!(["small", "fast"]));
    asks().ok();
    let info = gateway.get("/organization/info?organization_id=house").ok().json();
    assert_eq!((&info["teams"][0]["team_id"], &info["members"]), (&json!("home"), &json!([])), "{info:#}");
    assert_eq!(gateway.get("/organization/list?org_alias=hou").ok().json().as_array().map(Vec::len), Some(1));
    assert_eq!(gateway.get("/organization/list?org_id=x").ok().json(), json!([]));
    get(&gateway, text(&key["key"]), "/organization/list").error(403);
    let away = |ids: Value| call("DELETE", "/organization/delete", &json!({"organization_ids": ids}));
    let error = away(json!(["house"])).error(400);
    assert!(error.message.starts_with("1 teams, 0 users and 0 keys belong to"), "{error:?}");
    away(json!(["nobodys"])).error(404);
    send(&gateway, "/team/update", &json!({"team_id": "home", "organization_id": null}));
    assert_eq!(away(json!(["house"])).ok().json()[0]["organization_id"], "house");
    gateway.get("/organization/info?organization_id=house").error(404);
}

#[test]
fn an_access_group_is_given_to_keys_and_teams() {
    let gateway = serve();
    let call = |method: &str, path: &str, body: &Value| {
        let headers = [("x-api-key", MASTER_KEY), ("Content-Type", "application/json")];
        gateway.call(method, path, &headers, body.to_string().as_bytes())
    };
    send(&gateway, "/team/new", &json!({"team_id": "home", "models": ["small"]}));
    let of_team = generate(&gateway, &json!({"team_id": "home", "models": ["small"]}));
    let own = generate(&gateway, &json!({"models": ["small"]}));
    let asks = |key: &Value| {
        let body = json!({"model": "fast", "messages": [{"role": "user", "content": "hi"}]});
        post(&gateway, text(&key["key"]), "/v1/chat/completions", &body)
    };
    asks(&own).error(403);
    let body =
        json!({"access_group_name": "quick", "access_model_names": ["fast"], "assigned_key_ids": [own["token"]]});
    let made = call("POST", "/v1/access_group", &body);
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let path = format!("/v1/access_group/{}", text(&made["access_group_id"]));
    asks(&own).ok();
    asks(&of_team).error(403);
    let info = gateway.get(&format!("/key/info?key={}", text(&own["key"]))).ok().json();
    assert_eq!(info["info"]["access_group_ids"], json!([made["access_group_id"]]));
    let change = json!({"assigned_key_ids": [], "assigned_team_ids": ["home"], "description": "for all"});
    let changed = call("PUT", &path, &change).ok().json();
    assert_eq!((&changed["access_group_name"], &changed["description"]), (&json!("quick"), &json!("for all")));
    asks(&own).error(403);
    asks(&of_team).ok();
    for (name, ids) in [("assigned_team_ids", "nobody"), ("assigned_key_ids", "sk-nobody-1234")] {
        let error = call("PUT", &path, &json!({name: [ids]})).error(400);
        assert_eq!(error.param.as_deref(), Some(name), "{error:?}");
    }
    call("POST", "/v1/access_group", &json!({"access_group_name": "quick"})).error(400);
    call("POST", "/v1/access_group", &json!({})).error(400);
    assert_eq!(gateway.get("/v1/access_group").ok().json().as_array().map(Vec::len), Some(1));
    assert_eq!(get(&gateway, text(&own["key"]), &path).status, 403);
    call("DELETE", &path, &json!({})).ok();
    asks(&of_team).error(403);
    gateway.get(&path).error(404);
    assert_eq!(gateway.get("/team/info?team_id=home").ok().json()["team_info"]["access_group_ids"], json!([]));
}

/// A LiteLLM file with rules for new keys and users.
fn ruled() -> Gateway {
    let up = Upstream::new(Reply::whole());
    Setup::yaml(&format!(
        "model_list:\n- model_name: small\n  litellm_params: {{model: openai/small-up, api_base: {}, api_key: os.environ/UPSTREAM_KEY}}\n\
         general_settings: {{master_key: {MASTER_KEY}, user_header_name: X-OpenWebUI-User-Id}}\n\
         litellm_settings:\n\
         \x20 default_key_generate_params: {{models: [small], duration: 30d, metadata: {{from: defaults}}}}\n\
         \x20 upperbound_key_generate_params: {{max_budget: 100, duration: 90d, tpm_limit: 1000}}\n\
         \x20 key_generation_settings:\n\
         \x20   team_key_generation: {{allowed_team_member_roles: [admin]}}\n\
         \x20   personal_key_generation: {{allowed_user_roles: [proxy_admin], required_params: [key_alias]}}\n\
         \x20 default_internal_user_params: {{user_role: internal_user, models: [small]}}\n\
         \x20 max_internal_user_budget: 7\n\
         \x20 internal_user_budget_duration: 1mo\n",
        up.base()
    ))
    .start()
}

#[test]
fn new_keys_and_users_follow_the_rules_of_the_operator() {
    let gateway = ruled();
    assert!(!gateway.logs().contains("not served yet"), "{}", gateway.logs());
    let made = generate(&gateway, &json!({"key_alias": "a", "max_budget": 3}));
    assert_eq!(
        (&made["models"], &made["metadata"], &made["max_budget"], &made["tpm_limit"]),
        (&json!(["small"]), &json!({"from": "defaults"}), &json!(3.0), &json!(1000))
    );
    assert!(made["expires"].is_string(), "{made}");
    for (body, said) in [
        (json!({"key_alias": "b", "max_budget": 101}), "max_budget is over max limit"),
        (json!({"key_alias": "b", "duration": "91d"}), "duration is over max limit"),
        (json!({"key_alias": "b", "duration": "-1"}), "duration is over max limit"),
        (json!({}), "Required param key_alias"),
    ] {
        let error = gateway.post("/key/generate", body.to_string()).error(400);
        assert!(error.message.contains(said), "{body} {error:?}");
    }
    let over = json!({"key": made["key"], "max_budget": 1000});
    gateway.post("/key/update", over.to_string()).error(400);
    gateway.post("/key/regenerate", over.to_string()).error(400);
    gateway.post("/key/update", json!({"key": made["key"], "max_budget": null}).to_string()).error(400);
    gateway.post("/key/update", json!({"key": made["key"], "key_alias": "c"}).to_string()).ok();
    let ann = send(&gateway, "/user/new", &json!({"user_id": "ann"}));
    assert_eq!(
        (&ann["user_role"], &ann["models"], &ann["max_budget"], &ann["budget_duration"]),
        (&json!("internal_user"), &json!(["small"]), &json!(7.0), &json!("1mo"))
    );
    // An end user is named by the header of the file, and may be blocked by that name.
    send(&gateway, "/customer/block", &json!({"user_ids": ["guest"]}));
    let ask = |who: &str| {
        let bearer = format!("Bearer {MASTER_KEY}");
        let headers = [("Authorization", bearer.as_str()), ("x-openwebui-user-id", who)];
        gateway.call("POST", "/v1/chat/completions", &headers, crate::chat::HELLO.as_bytes())
    };
    ask("guest").error(403);
    ask("ann").ok();
    let root = send(&gateway, "/user/new", &json!({"user_id": "root", "user_role": "proxy_admin"}));
    assert_eq!(root["max_budget"], Value::Null);
    let error = post(&gateway, text(&ann["key"]), "/key/generate", &json!({"key_alias": "mine"})).error(403);
    assert!(error.message.contains("Personal key creation has been restricted"), "{error:?}");
    post(&gateway, text(&root["key"]), "/key/generate", &json!({"key_alias": "mine"})).ok();
    let members = json!([{"role": "user", "user_id": "ann"}]);
    let team = json!({"team_id": "home", "members_with_roles": members});
    send(&gateway, "/team/new", &team);
    send(
        &gateway,
        "/team/permissions_update",
        &json!({"team_id": "home", "team_member_permissions": ["/key/generate"]}),
    );
    let error = post(&gateway, text(&ann["key"]), "/key/generate", &json!({"team_id": "home"})).error(403);
    assert!(error.message.contains("Team key creation has been restricted"), "{error:?}");
}

#[test]
fn a_team_lets_its_members_do_what_it_says_and_no_more() {
    let gateway = serve();
    let user = |id: &str| {
        let made = send(&gateway, "/user/new", &json!({"user_id": id, "user_role": "internal_user"}));
        text(&made["key"]).to_owned()
    };
    let (ann, bob) = (user("ann"), user("bob"));
    let members = json!([{"role": "user", "user_id": "ann"}, {"role": "user", "user_id": "bob"}]);
    send(&gateway, "/team/new", &json!({"team_id": "home", "members_with_roles": members}));
    let shared = generate(&gateway, &json!({"team_id": "home", "key_alias": "shared"}));
    let of_bob = generate(&gateway, &json!({"team_id": "home", "user_id": "bob"}));
    let change = json!({"key": shared["token"], "tags": ["a"]});
    let grant = |what: &[&str]| {
        send(&gateway, "/team/permissions_update", &json!({"team_id": "home", "team_member_permissions": what}));
    };
    for (route, body) in [
        ("/key/update", change.clone()),
        ("/key/regenerate", json!({"key": shared["token"]})),
        ("/key/delete", json!({"keys": [shared["token"]]})),
        ("/key/block", json!({"key": shared["token"]})),
        ("/key/service-account/generate", json!({"team_id": "home"})),
    ] {
        post(&gateway, &ann, route, &body).error(403);
    }
    assert_eq!(get(&gateway, &ann, "/key/list?team_id=home").ok().json()["total_count"], 0);
    grant(&["/key/generate", "/key/update", "/key/list", "/key/service-account/generate"]);
    post(&gateway, &ann, "/key/update", &change).ok();
    post(&gateway, &ann, "/key/delete", &json!({"keys": [shared["token"]]})).error(403);
    assert_eq!(get(&gateway, &ann, "/key/list?team_id=home").ok().json()["total_count"], 2);
    // For herself, not for others; a service account is nobody's.
    assert_eq!(post(&gateway, &ann, "/key/generate", &json!({"team_id": "home"})).ok().json()["user_id"], "ann");
    post(&gateway, &ann, "/key/generate", &json!({"team_id": "home", "user_id": "bob"})).error(403);
    let service = post(&gateway, &ann, "/key/service-account/generate", &json!({"team_id": "home"})).ok().json();
    assert_eq!((&service["user_id"], &service["team_id"]), (&Value::Null, &json!("home")));
    // Whoever is blocked by others stays blocked.
    send(&gateway, "/key/block", &json!({"key": of_bob["key"]}));
    post(&gateway, &bob, "/key/unblock", &json!({"key": of_bob["key"]})).error(403);
    // Ann leads another team, whose keys she sees beside her own.
    send(
        &gateway,
        "/team/new",
        &json!({"team_id": "club", "members_with_roles": [{"role": "admin", "user_id": "ann"}]}),
    );
    generate(&gateway, &json!({"team_id": "club"}));
    assert_eq!(get(&gateway, &ann, "/key/list").ok().json()["total_count"], 2);
    assert_eq!(get(&gateway, &ann, "/key/list?include_team_keys=true").ok().json()["total_count"], 3);
    get(&gateway, &ann, "/key/list?sort_by=spend").error(400);
    get(&gateway, &ann, "/key/list?status=deleted").error(403);
    send(&gateway, "/key/delete", &json!({"key_aliases": ["shared"]}));
    let gone = gateway.get("/key/list?status=deleted").ok().json();
    assert_eq!(
        (&gone["keys"][0]["key_alias"], &gone["keys"][0]["deleted_by"]),
        (&json!("shared"), &json!("default_user_id"))
    );
    for (body, param) in [
        (json!({"key_alias": "x".repeat(2000)}), "key_alias"),
        (json!({"metadata": {"a": "x".repeat(70_000)}}), "metadata"),
        (json!({"whatever": "x".repeat(70_000)}), "whatever"),
        (json!({"models": vec!["m"; 1001]}), "models"),
    ] {
        assert_eq!(gateway.post("/key/generate", body.to_string()).error(400).param.as_deref(), Some(param));
    }
}

#[test]
fn a_user_who_is_made_in_a_team_is_its_member_and_its_tags_are_those_of_the_calls() {
    let up = Upstream::new(Reply::whole());
    let gateway = Gateway::start(&config("", &[model("small", &up)]));
    let team = send(&gateway, "/team/new", &json!({"team_alias": "house", "tags": ["attic"]}));
    let team = team["team_id"].as_str().unwrap();
    let user = send(&gateway, "/user/new", &json!({"user_id": "ada", "team_id": team}));
    send(&gateway, "/team/member_update", &json!({"team_id": team, "user_id": "ada", "max_budget_in_team": 1.5}));
    let info = gateway.get("/user/info?user_id=ada").ok().json();
    let place = &info["teams"][0]["team_memberships"][0];
    assert_eq!((&place["user_id"], &place["litellm_budget_table"]["max_budget"]), (&json!("ada"), &json!(1.5)));
    let bearer = format!("Bearer {}", user["key"].as_str().unwrap());
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let body = json!({"model": "small", "messages": [{"role": "user", "content": "a"}]});
    gateway.call("POST", "/v1/chat/completions", &headers, body.to_string().as_bytes()).ok();
    assert_eq!(crate::ledger::rows(&gateway, 1)[0]["request_tags"], json!(["attic"]));
}
