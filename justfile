# The recipes of every day; CI runs tests/run and nothing else.

# List the recipes
default:
    @just --list --unsorted

# Formatting and lints
check:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings

# Everything CI runs; FILTER is a part of a test's name
test *FILTER:
    tests/run {{ FILTER }}

# The same without the official OpenAI SDKs
quick *FILTER:
    tests/run --quick {{ FILTER }}

# The official OpenAI SDKs alone
sdk:
    tests/run sdk::

# A gateway with a model of its own, on 127.0.0.1
run *OPTIONS:
    cargo run --locked -- demo {{ OPTIONS }}

# The gateway beside nginx, in ratios
bench *OPTIONS:
    tests/bench/run {{ OPTIONS }}

# The binary as packages have it
build:
    cargo build --locked --profile dist

# Format the code
fmt:
    cargo fmt

# Look through changed snapshots, and accept or reject each (cargo-insta)
golden:
    cargo insta review

# Write the golden units of the NixOS module and docs/options.md anew (Nix)
units:
    tests/nix/eval --golden

# Licences, banned crates and sources of all dependencies (cargo-deny)
deny:
    cargo deny --locked check licenses bans sources

# The documentation of the code, private items too
doc:
    cargo doc --locked --no-deps --document-private-items
