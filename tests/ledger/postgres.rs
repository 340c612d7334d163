//! How a Postgres is reached: as who we are, or by a password from the env file.

use super::{priced, rows};
use crate::stream::HELLO as STREAM;
use crate::support::postgres::Postgres;
use crate::support::{Gateway, MASTER_KEY, Reply, Setup, Upstream};
use serde_json::Value;
use std::process::Command;

/// The name of who runs the tests, whom `peer` asks for.
fn me() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What README and the issue of every operator begin with: a key by curl, a streamed call with it, its row.
fn a_key_by_curl_and_a_streamed_call(gateway: &Gateway) {
    let curl = format!(
        "curl -sS http://{}/key/generate -H \"Authorization: Bearer $MASTER\" -H \"Content-Type: application/json\" \
         -d '{{\"models\": [\"small\"], \"max_budget\": 5, \"duration\": \"30d\"}}'",
        gateway.address()
    );
    let output = Command::new("/bin/sh").args(["-c", &curl]).env("MASTER", MASTER_KEY).output().unwrap();
    let made: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}, log:\n{}", gateway.logs()));
    let key = made["key"].as_str().unwrap_or_else(|| panic!("{made:#}"));
    let bearer = format!("Bearer {key}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let answer = gateway.call("POST", "/v1/chat/completions", &headers, STREAM.as_bytes()).ok();
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    let row = rows(gateway, 1).swap_remove(0);
    assert_eq!((&row["api_key"], row["metadata"]["stream"].as_bool()), (&made["token"], Some(true)), "{row:#}");
    eprintln!("{curl}\n{made:#}\n{row:#}");
}

#[test]
fn a_key_and_a_streamed_call_on_postgres_by_peer() {
    let me = me();
    let Some(postgres) = Postgres::with(&me, "peer", None) else { return };
    let up = Upstream::new(Reply::texts(&["Hello"]));
    let database = format!("database_url = \"{}\"\n", postgres.url_of(&me));
    a_key_by_curl_and_a_streamed_call(&Gateway::start(&priced(&database, &up)));
    // Whoever is somebody else is not let in; the gateway serves, and says why.
    let database = format!("database_url = \"{}\"\n", postgres.url_of("somebody"));
    let gateway = Gateway::start(&priced(&database, &up));
    gateway
        .wait_log("why", |line| line.contains("the store (postgres) is down") && line.contains("eer authentication"));
}

#[test]
fn a_password_comes_from_the_env_file() {
    let Some(postgres) = Postgres::with("gateway", "scram-sha-256", Some("p@ss/word?")) else { return };
    let up = Upstream::new(Reply::texts(&["Hello"]));
    let toml = priced("database_url = \"env:DATABASE\"\n", &up);
    let with = |password: &str| Setup::toml(&toml).secret("DATABASE", &postgres.url_of(&format!("gateway:{password}")));
    a_key_by_curl_and_a_streamed_call(&with("p%40ss%2Fword%3F").start());
    let gateway = with("wrong-hush").start();
    gateway.wait_log("why", |line| line.contains("the store (postgres) is down") && line.contains("28P01"));
    assert!(!gateway.logs().contains("hush"), "{}", gateway.logs());
}

#[test]
fn a_certificate_is_checked_as_far_as_the_address_says() {
    let (ca, own) = (crate::support::tls::CA_FILE, crate::support::tls::CERTIFICATE);
    let Some(postgres) = Postgres::over_tls(own, crate::support::tls::KEY) else { return };
    let up = Upstream::new(Reply::texts(&["Hello"]));
    // An authority that has signed for nobody here.
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/other-ca.pem");
    for (host, query, fault) in [
        ("localhost", String::new(), None),
        ("localhost", "sslmode=disable".to_owned(), Some("no encryption")),
        ("127.0.0.1", "sslmode=require".to_owned(), None),
        ("localhost", format!("sslmode=verify-full&sslrootcert={ca}"), None),
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={ca}"), Some("not valid for name")),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={ca}"), None),
        ("localhost", "sslmode=verify-full".to_owned(), Some("UnknownIssuer")),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={other}"), Some("UnknownIssuer")),
        ("localhost", "sslmode=verify-full&sslrootcert=/nonexistent.pem".to_owned(), Some("/nonexistent.pem")),
        ("localhost", format!("sslmode=require&sslcert={other}&sslaccept=accept_invalid_certs"), None),
    ] {
        let url = format!("postgresql://gateway@{host}:{}/postgres?{query}", postgres.port());
        let gateway = Gateway::start(&priced(&format!("database_url = \"{url}\"\n"), &up));
        // The first to ask is told what the first look found.
        let ready = gateway.get("/health/readiness");
        match fault {
            None => assert_eq!(ready.ok().json()["db"], "connected", "{host} {query}"),
            Some(fault) => {
                assert_eq!(ready.status, 503, "{host} {query}");
                gateway.wait_log("why", |line| line.contains("is down") && line.contains(fault));
            }
        }
    }
}
