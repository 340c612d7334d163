//! Fuzzing with libFuzzer, on a stable compiler: `tests/fuzz/run` builds this with the coverage flags of LLVM, which
//! `cargo fuzz` would set too, and runs each target of [`targets::ALL`]. It needs a C++ compiler for libFuzzer itself.
//!
//!   tests/fuzz/run                      every target for ten minutes
//!   tests/fuzz/run SECONDS [TARGET...]  some of them, for that long each
//!
//! The corpus begins with `tests/fixtures` and grows in `target/fuzz/corpus`. A finding is a file in
//! `target/fuzz/findings/TARGET`; `TARGET=NAME target/fuzz/*/debug/gateway-fuzz FILE` plays it again.
#![no_main]

mod targets;

use std::sync::OnceLock;

/// The target that the environment names.
fn chosen() -> targets::Target {
    static CHOSEN: OnceLock<targets::Target> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("TARGET").unwrap_or_default();
        match targets::ALL.iter().find(|(known, _)| *known == name) {
            Some((_, target)) => *target,
            None => {
                let known: Vec<&str> = targets::ALL.iter().map(|(name, _)| *name).collect();
                eprintln!("set TARGET to one of: {}", known.join(" "));
                std::process::exit(2);
            }
        }
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| chosen()(data));
