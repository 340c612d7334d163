//! No secret is ever shown: not in a log, an error, an answer, the environment or the command line.

use crate::chat::HELLO;
use crate::stream::HELLO as STREAM;
use crate::support::reply::event;
use crate::support::setup::run;
use crate::support::{Gateway, MASTER_KEY, Reply, Setup, UPSTREAM_KEY, Upstream, config, model, upstream};
use serde_json::json;

const TOKEN: &str = "t0ken-9911-hidden";
const LITERAL: &str = "sk-literal-77aa66bb";

fn assert_silent(what: &str, text: &str) {
    for secret in [MASTER_KEY, UPSTREAM_KEY, TOKEN, LITERAL] {
        assert!(!text.contains(secret), "{what} shows {secret}:\n{text}");
    }
}

fn process(gateway: &Gateway, file: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{}/{file}", gateway.pid())).unwrap()).into_owned()
}

#[test]
fn secrets_are_in_no_log_error_answer_environment_or_command_line() {
    let good = Upstream::new(Reply::whole());
    let echo = Upstream::script(|seen| {
        let message = format!("Incorrect API key provided: {}", seen.header("authorization").unwrap_or_default());
        Reply::error(401, "invalid_request_error", Some("invalid_api_key"), &message)
    });
    let html = Upstream::script(|seen| {
        let page = format!("<p>you sent {:?}</p>", seen.head.headers);
        Reply::answer(500, &[("Content-Type", "text/html")], page.as_bytes())
    });
    let midway = Upstream::script(|seen| {
        let message = format!("your key {} has expired", seen.header("authorization").unwrap_or_default());
        Reply::stream()
            .send(&crate::support::reply::text("a"))
            .send(&event(&json!({"error": {"message": message}})))
            .end_body()
    });
    let (_socket, nobody) = upstream::refusing();
    let models = [
        model("good", &good) + "extra_headers = { X-Token = \"env:TOKEN\" }\n",
        model("echo", &echo),
        model("html", &html) + "extra_headers = { X-Token = \"env:TOKEN\" }\n",
        model("midway", &midway),
        crate::support::deployment("gone", "openai/up", &format!("http://{nobody}/v1"))
            .replace("env:UPSTREAM_KEY", LITERAL),
    ];
    let text = config("", &models).replace("format = \"json\"", "format = \"json\"\nlevel = \"trace\"");
    let gateway = Setup::toml(&text).secret("TOKEN", TOKEN).start();
    for name in ["good", "echo", "html", "midway", "gone", "nowhere"] {
        for body in [HELLO, STREAM] {
            let answer = gateway.chat(body.replace("small", name));
            assert_silent(name, &format!("{:?} {}", answer.head, answer.text()));
        }
    }
    for path in ["/health", "/model/info", "/model_group/info", "/v1/models", "/routes", "/", "/health/readiness"] {
        let answer = gateway.get(path);
        assert_silent(path, &format!("{:?} {}", answer.head, answer.text()));
    }
    gateway.get(&format!("/v1/nothing?key={MASTER_KEY}"));
    gateway.wait_calls(12);
    assert_silent("the log", &gateway.logs());
    assert_silent("the environment", &process(&gateway, "environ"));
    assert_silent("the command line", &process(&gateway, "cmdline"));
    assert_silent("the notifications", &gateway.notices().join("\n"));
    assert_silent("standard output", &gateway.output());
}

#[test]
fn the_env_file_wins_over_the_process_environment() {
    let up = Upstream::new(Reply::whole());
    let gateway = Setup::toml(&config("", &[model("small", &up)])).variable("UPSTREAM_KEY", "sk-stale").start();
    gateway.chat(HELLO).ok();
}

#[test]
fn a_systemd_credential_is_read() {
    let credentials = tempfile::tempdir().unwrap();
    std::fs::write(credentials.path().join("env"), format!("FROM_CREDENTIAL=\"{UPSTREAM_KEY}\"\n")).unwrap();
    let up = Upstream::new(Reply::whole());
    let text = config("", &[model("small", &up).replace("UPSTREAM_KEY", "FROM_CREDENTIAL")]);
    let folder = credentials.path().to_str().unwrap();
    let gateway = Setup::toml(&text).variable("CREDENTIALS_DIRECTORY", folder).start();
    gateway.chat(HELLO).ok();
    assert!(!process(&gateway, "environ").contains(UPSTREAM_KEY));
}

#[test]
fn a_broken_env_file_is_named_without_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let (env, toml) = (dir.path().join("env"), dir.path().join("gateway.toml"));
    std::fs::write(&env, format!("{LITERAL} is not an assignment\n")).unwrap();
    std::fs::write(&toml, "").unwrap();
    let words = ["check", "--config", toml.to_str().unwrap(), "--env-file", env.to_str().unwrap()];
    let ended = run(&words);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(env.to_str().unwrap()), "{}", ended.stderr);
    assert_silent("the error", &ended.stderr);
}

#[test]
fn a_literal_key_in_the_configuration_is_in_no_message_about_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.toml");
    let entry = format!("[[models]]\nname = \"a\"\nmodel = \"opnai/x\"\napi_key = \"{LITERAL}\"\n");
    for text in [
        format!("master_key = \"{LITERAL}\"\n{entry}"),
        format!("master_kye = \"{LITERAL}\"\n"),
        format!("master_key = [\"{LITERAL}\"]\n"),
        format!("{entry}extra_headers = {{ Authorization = \"{LITERAL}\nx\" }}\n"),
        format!("[[models]]\nname = \"a\"\nmodel = \"openai/x\"\napi_base = \"https://user:{LITERAL}@[bad\"\n"),
    ] {
        std::fs::write(&path, text).unwrap();
        let ended = run(&["check", "--offline", "--config", path.to_str().unwrap()]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_silent("the error", &format!("{}{}", ended.stdout, ended.stderr));
    }
}

#[test]
fn an_upstream_that_echoes_its_request_does_not_hand_out_the_key() {
    let echo = |seen: &crate::support::upstream::Seen| {
        let key = seen.header("authorization").unwrap();
        let headers =
            [("Content-Type", "application/json"), ("Authorization", key.as_str()), ("X-Api-Key", key.as_str())];
        Reply::answer(200, &headers, crate::support::reply::WHOLE.as_bytes())
    };
    let gateway = Gateway::start(&config("", &[model("small", &Upstream::script(echo))]));
    let answer = gateway.chat(crate::chat::HELLO).ok();
    assert_eq!(answer.header("llm_provider-authorization"), None);
    assert_eq!(answer.header("llm_provider-x-api-key"), None);
}
