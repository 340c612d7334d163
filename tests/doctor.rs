//! `gateway doctor`: what it finds, what it advises, what it keeps to itself.

use crate::support::setup::{Ended, run};
use crate::support::{MASTER_KEY, Reply, Setup, UPSTREAM_KEY, Upstream, config, deployment, model};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn examine(dir: &Path) -> Ended {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    std::fs::set_permissions(dir.join("env"), std::fs::Permissions::from_mode(0o400)).unwrap();
    let (config, env) = (path("gateway.toml"), path("env"));
    run(&["doctor", "--config", &config, "--env-file", &env, "--state-dir", dir.to_str().unwrap()])
}

fn assert_line(ended: &Ended, state: &str, parts: &[&str]) {
    let fits = |line: &&str| line.starts_with(state) && parts.iter().all(|part| line.contains(part));
    assert!(ended.stdout.lines().any(|line| fits(&line)), "no {state} {parts:?} in\n{}", ended.stdout);
}

#[test]
fn a_healthy_gateway_is_found_healthy() {
    let socket = tempfile::tempdir().unwrap();
    let listen = format!("listen = [\"unix:{}\"]", socket.path().join("gateway.sock").display());
    let gateway = Setup::toml(&config(&listen, &[model("small", &Upstream::new(Reply::whole()))])).unbound().start();
    let ended = examine(gateway.dir());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for parts in [
        &["configuration", "1 model"][..],
        &["env file", "0400"],
        &["secrets", "2 references"],
        &["clock"],
        &["state directory"],
        &["gateway at unix:", "ready"],
        &["control socket"],
        &["upstream of small"],
    ] {
        assert_line(&ended, "ok", parts);
    }
    assert!(ended.stdout.ends_with("to note\n") && ended.stdout.contains("all is well"), "{}", ended.stdout);
}

#[test]
fn everything_that_is_wrong_has_its_line_and_its_cure() {
    let dir = tempfile::tempdir().unwrap();
    // A port on which nobody listens any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let models = [
        deployment("down", "openai_like/x", &format!("http://127.0.0.1:{port}/v1")),
        deployment("local", "openai_like/x", &format!("unix:{}/none.sock:/v1", dir.path().display())),
    ];
    let tools = format!(
        "[mcp_servers.far]\nurl = \"http://127.0.0.1:{port}/mcp\"\n[mcp_servers.near]\nsocket = \"{}/no.sock\"\n[mcp_servers.own]\ncommand = [\"/no/such/program\"]\n",
        dir.path().display()
    );
    let text = format!(
        "database_url = \"env:DB\"\n{}\n{tools}",
        config(&format!("listen = [\"127.0.0.1:{port}\"]"), &models).replace("env:MASTER_KEY", "env:LOST_KEY")
    );
    std::fs::write(dir.path().join("gateway.toml"), text).unwrap();
    let env =
        format!("UPSTREAM_KEY={UPSTREAM_KEY}\nMASTER_KEY={MASTER_KEY}\nDB=postgres://me:pa55word@127.0.0.1:{port}/x\n");
    std::fs::write(dir.path().join("env"), env).unwrap();
    let ended = examine(dir.path());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let at = format!("127.0.0.1:{port}");
    for parts in [
        &["secret", "master_key", "LOST_KEY", " -> "][..],
        &["gateway at", &at, "nobody listens", " -> "],
        &["upstream of down", &at, " -> "],
        &["upstream of local", "none.sock", " -> "],
        &["database", &at, " -> "],
        &["tools of far", &at, "url", " -> "],
        &["tools of near", "no.sock", " -> "],
        &["tools of own", "/no/such/program", " -> "],
    ] {
        assert_line(&ended, "FAIL", parts);
    }
    let all = format!("{}{}", ended.stdout, ended.stderr);
    for secret in [MASTER_KEY, UPSTREAM_KEY, "pa55word"] {
        assert!(!all.contains(secret), "{all}");
    }
}

#[test]
fn an_env_file_that_everybody_can_read_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let (toml, env) = (dir.path().join("gateway.toml"), dir.path().join("env"));
    std::fs::write(&toml, "").unwrap();
    std::fs::write(&env, "A=b\n").unwrap();
    std::fs::set_permissions(&env, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ended = run(&["doctor", "--config", toml.to_str().unwrap(), "--env-file", env.to_str().unwrap()]);
    assert_line(&ended, "FAIL", &["env file", "0644", "chmod"]);
}

#[test]
fn a_broken_configuration_is_one_line_that_names_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let toml = dir.path().join("gateway.toml");
    std::fs::write(&toml, "master_kee = \"sk-very-secret\"\n").unwrap();
    let ended = run(&["doctor", "--config", toml.to_str().unwrap()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_line(&ended, "FAIL", &["configuration", "gateway.toml:1", "master_key", "gateway check"]);
    assert!(!ended.stdout.contains("sk-very"), "{}", ended.stdout);
}
