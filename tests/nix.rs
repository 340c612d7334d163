//! The NixOS module and what belongs to it, without NixOS: see `tests/nix/evaluate.nix`.
//!
//! What needs Nix is in `evaluation`; `GATEWAY_NIX=off` leaves that out, loudly. The rest looks at the golden files and
//! at the script that collects secrets.

mod evaluation;
mod lock;
mod secrets;
mod units;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The golden files, by case.
const CASES: &[&str] = &["house", "idle", "lan", "minimal", "tools", "vault"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn golden() -> PathBuf {
    root().join("tests/nix/golden")
}

/// Every file below a directory, by its path from there.
fn tree(directory: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
                files.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

/// The blocks of a document in a language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let begin = format!("```{language}\n");
    let parts = text.split(&begin).skip(1).map(|rest| rest.split_once("```").unwrap().0.to_owned());
    let found: Vec<_> = parts.collect();
    assert!(!found.is_empty(), "{document}");
    found
}
