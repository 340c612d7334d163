//! The official MCP SDKs of both lines as clients, the conformance suite, and the reference server behind the gateway.
//!
//! `tests/run` prepares them and names them in `GATEWAY_SDK_MCP`: a directory with `node_modules`, `python1` and `python2`.

use super::environment;
use crate::support::{Gateway, MASTER_KEY, Setup, config};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn here(script: &str) -> String {
    format!("{}/tests/sdk/mcp/{script}", env!("CARGO_MANIFEST_DIR"))
}

/// A gateway before the reference server, which is a program.
fn reference(place: &Path) -> Gateway {
    let script = place.join("node_modules/@modelcontextprotocol/server-everything/dist/index.js");
    let path = std::env::var("PATH").unwrap();
    let entry = format!(
        "[mcp_servers.every]\ncommand = [\"node\", {:?}, \"stdio\"]\nenv = {{ PATH = {path:?} }}\n",
        script.to_str().unwrap()
    );
    Gateway::start(&(config("", &[]) + &entry))
}

/// Runs a client to its good end.
fn holds(interpreter: &str, script: &str) {
    let Some(place) = environment("GATEWAY_SDK_MCP").map(PathBuf::from) else { return };
    let gateway = reference(&place);
    let interpreter = match interpreter {
        "node" => PathBuf::from("node"),
        python => place.join(python).join("bin/python"),
    };
    let mut command = Command::new(interpreter);
    command.arg(here(script)).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("GATEWAY_SDK_MCP", &place).env("API_KEY", MASTER_KEY);
    command.env("URL", format!("http://{}", gateway.address())).stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&said));
}

#[test]
fn the_python_sdk_1_is_served_over_both_transports() {
    holds("python1", "python1.py");
}

#[test]
fn the_python_sdk_2_is_served_in_both_eras() {
    holds("python2", "python2.py");
}

#[test]
fn the_typescript_sdk_1_is_served_over_both_transports() {
    holds("node", "node1.mjs");
}

#[test]
fn the_typescript_sdk_2_is_served_in_both_eras() {
    holds("node", "node2.mjs");
}

/// The server that the suite asks for, until this is dropped.
struct Upstream {
    child: Child,
    url: String,
}

impl Upstream {
    fn start(place: &Path) -> Self {
        let mut command = Command::new("node");
        command.arg(here("conformance_server.mjs")).env("GATEWAY_SDK_MCP", place);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Upstream { child, url: url.trim().to_owned() }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_conformance_suite_finds_nothing() {
    let Some(place) = environment("GATEWAY_SDK_MCP").map(PathBuf::from) else { return };
    let upstream = Upstream::start(&place);
    // The suite shows no key.
    let gateway = Setup::toml(&format!("[mcp_servers.conf]\nurl = \"{}\"\n", upstream.url)).start();
    let url = format!("http://{}/conf/mcp", gateway.address());
    let mut command = Command::new(place.join("node_modules/.bin/conformance"));
    command.args(["server", "--suite", "all", "--url", &url]).stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("✗ ")?.split(':').next()).collect();
    assert!(failed.is_empty() && said.contains(" passed, 0 failed"), "{failed:?}: {said}");
}
