//! `gateway demo`: the real gateway on embedded defaults, with a model that needs no key and no network.

mod model;
mod surroundings;

use crate::config::file::{File, Model};
use crate::config::{Mode, Sources, load};
use crate::gateway::Gateway;
use crate::secret::Written;
use crate::serve;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The longest path of a socket (`unix(7)`: 108 bytes with the zero at its end).
const LONGEST_SOCKET: usize = 107;

/// Runs the demo on this port of 127.0.0.1 until it is stopped.
///
/// # Errors
/// A text for the operator: what kept it from starting.
pub fn run(port: u16, state_dir: Option<PathBuf>) -> Result<(), String> {
    let mut sources = Sources { host: Some("127.0.0.1".to_owned()), port: Some(port), state_dir, ..Sources::default() };
    let state_dir = load(&sources, Mode::Offline)?.state_dir;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&state_dir).map_err(|e| {
        format!(
            "cannot make the state directory {}: {e}; choose another one with `--state-dir DIR`",
            state_dir.display()
        )
    })?;
    // One socket a process: two demos on two ports do not disturb each other.
    let socket = state_dir.join(format!("demo-{}.sock", std::process::id()));
    if socket.as_os_str().len() > LONGEST_SOCKET {
        return Err(format!(
            "the path of the state directory {} is too long for a socket in it; choose another one with `--state-dir DIR`",
            state_dir.display()
        ));
    }
    let key = new_key();
    let file = File {
        master_key: Some(Written(key.clone())),
        models: vec![Model {
            name: "demo".to_owned(),
            model: "openai_like/demo".to_owned(),
            api_base: Some(format!("unix:{}:/v1", socket.display())),
            ..Model::default()
        }],
        ..File::default()
    };
    sources.built_in = Some(file.clone());
    let model = socket.clone();
    let result = serve::run(sources, move |gateway, addresses| async move {
        if let Err(e) = model::start(&model) {
            tracing::error!("the demo model cannot be started: {e}");
        }
        let address = addresses.first().cloned().unwrap_or_default();
        match greet(&address, &key, &state_dir) {
            Ok(text) => print(&text),
            Err(e) => tracing::error!("{e}"),
        }
        add_surroundings(&gateway, file, &address).await;
    });
    // It may be gone already.
    let _ = std::fs::remove_file(&socket);
    result
}

/// 24 random bytes behind `sk-`.
fn new_key() -> String {
    let bytes: [u8; 24] = rand::random();
    bytes.iter().fold("sk-".to_owned(), |key, byte| key + &format!("{byte:02x}"))
}

/// What the operator reads; the key is shown to a terminal, and kept in a file where the output may be kept too.
fn greet(address: &str, key: &str, state_dir: &Path) -> Result<String, String> {
    let shown = if std::io::stdout().is_terminal() {
        (format!("  key   {key}"), key.to_owned())
    } else {
        let path = state_dir.join("demo-master-key");
        write_private(&path, key).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        (format!("  key   in the file {}", path.display()), format!("$(cat '{}')", path.display()))
    };
    let (line, inline) = shown;
    Ok(format!(
        "\nGateway {} is ready.\n\n  URL   http://{address}/v1\n{line}\n  model demo\n\nTry it:\n\n  curl -N http://{address}/v1/chat/completions -H \"Authorization: Bearer {inline}\" -H 'Content-Type: application/json' -d '{{\"model\":\"demo\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'\n\n",
        env!("CARGO_PKG_VERSION")
    ))
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    // A file of an earlier run may have other rights.
    if path.exists() {
        std::fs::remove_file(path)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// Standard output may be closed; the gateway serves all the same.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Adds the model servers of this machine, and the providers whose key is in the environment.
async fn add_surroundings(gateway: &Arc<Gateway>, mut file: File, own_address: &str) {
    let mut text = String::new();
    for server in surroundings::servers(own_address).await {
        let names = server.models.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", ");
        text.push_str(&format!("Found {} at {}: {names}\n", server.name, server.base));
        file.models.extend(server.models);
    }
    for (provider, variable) in surroundings::keys() {
        text.push_str(&format!(
            "Found {variable}: models {provider}/* are offered; only a call that names one spends it\n"
        ));
        file.models.push(Model { name: format!("{provider}/*"), model: format!("{provider}/*"), ..Model::default() });
    }
    if text.is_empty() {
        text.push_str("No model server was found on this machine (Ollama, LM Studio, llama.cpp, vLLM), and no provider's key in the environment.\n");
    }
    let sources = Sources { built_in: Some(file), ..(*gateway.sources()).clone() };
    match load(&sources, Mode::Live) {
        Ok(config) => {
            gateway.replace(config);
            gateway.read_from(sources);
            print(&text);
        }
        Err(e) => tracing::warn!("what was found on this machine cannot be offered: {e}"),
    }
}
