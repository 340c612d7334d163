//! flake.lock, which nobody here can have written by Nix: that it has the form Nix would give it, and fits flake.nix.

use super::root;
use serde_json::Value;

fn lock() -> Value {
    serde_json::from_slice(&std::fs::read(root().join("flake.lock")).unwrap()).unwrap()
}

fn flake() -> String {
    std::fs::read_to_string(root().join("flake.nix")).unwrap()
}

#[test]
fn nixpkgs_is_the_only_input() {
    let lock = lock();
    assert_eq!(lock["version"], 7);
    let nodes: Vec<&String> = lock["nodes"].as_object().unwrap().keys().collect();
    assert_eq!(nodes, ["nixpkgs", "root"]);
    assert_eq!(lock["nodes"]["root"]["inputs"], serde_json::json!({"nixpkgs": "nixpkgs"}));
    assert_eq!(flake().matches(".url = ").count(), 1);
}

#[test]
fn the_locked_input_is_a_revision_with_a_hash() {
    let locked = &lock()["nodes"]["nixpkgs"]["locked"];
    let revision = locked["rev"].as_str().unwrap();
    assert!(revision.len() == 40 && revision.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{revision}");
    let hash = locked["narHash"].as_str().unwrap().strip_prefix("sha256-").unwrap();
    // 32 bytes in base64.
    assert!(hash.len() == 44 && hash.ends_with('=') && !hash.ends_with("=="), "{hash}");
    assert!(locked["lastModified"].as_u64().unwrap() > 1_700_000_000);
}

#[test]
fn lock_and_flake_name_the_same_branch() {
    let original = &lock()["nodes"]["nixpkgs"]["original"];
    let part = |name: &str| original[name].as_str().unwrap().to_owned();
    let url = format!("{}:{}/{}/{}", part("type"), part("owner"), part("repo"), part("ref"));
    assert!(flake().contains(&format!("\"{url}\"")), "{url}");
}

#[test]
fn the_flake_is_read_at_a_glance() {
    assert!(flake().lines().count() < 60);
}

#[test]
fn no_crate_comes_from_git() {
    // Nix would want a hash for it that cannot be computed here.
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    assert!(!lock.contains("source = \"git+"));
}
