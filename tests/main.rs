//! One binary of black-box tests: each starts the real program and talks to it from outside.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

mod access;
mod anthropic;
mod cancel;
mod chat;
mod cli;
mod daemon;
mod declared;
mod demo;
mod doctor;
mod faults;
mod idle;
mod imports;
mod keys;
mod ledger;
mod limits;
mod litellm;
mod mcp;
mod messages;
mod models;
mod nix;
mod params;
mod people;
mod prices;
mod prompts;
mod providers;
mod requests;
mod responses;
mod routing;
mod sdk;
mod secrets;
mod stream;
mod support;
mod systemd;
mod tools;
mod units;
