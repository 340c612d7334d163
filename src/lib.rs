//! Gateway: a self-hosted LLM gateway, LiteLLM Proxy's job as one small daemon.
//!
//! The modules, in the order in which a call meets them:
//!
//! - [`cli`] reads the command line; [`serve`], [`demo`], [`doctor`] and [`control`] carry it out
//! - [`config`] what was written, checked and given its meaning; [`secret`] where secrets are looked up
//! - [`gateway`] what all workers share; [`clock`] the time limits of a worker's calls;
//!   [`visitors`] who is connected
//! - [`database`] the store in the daemon: brought up to date, watched
//! - [`http`] the routes; [`auth`] who calls, and what a key may use
//! - [`limits`] rates and budgets: what a call may use, and what it holds meanwhile
//! - [`envelope`] the body as it came, and changes to it
//! - [`form`] the files that come with a call, where it is a form
//! - [`call`] what is asked, checked; [`dispatch`] one deployment after the other, until one answers
//! - [`checks`] whether the deployments are well
//! - [`route`] from a name to a deployment; [`pattern`] names with a `*`
//! - [`provider`] the upstream APIs, and the body each of them wants
//! - [`exchange`] the upstream's body from the caller's, and the caller's answer from the upstream's
//! - [`upstream`] the only connections to them; [`mock`] answers that nobody upstream gives
//! - [`tap`] watches a stream on its way back; [`meter`] settles the call: its [`usage`], and by the [`price`] its cost
//! - [`mcp`] servers of tools, and the gateway as one
//! - [`price`] what a call costs; [`kept`] its prompt and its answer, where the operator keeps them
//! - [`ledger`] calls on their way to the store, safe from the end of the process
//! - [`import`] from the database of LiteLLM to the store
//! - [`seal`] secrets at rest
//! - [`store`] what is remembered: keys, people, budgets, the ledger
//! - [`wire`] bytes to members and events
//! - [`error`] what can go wrong, and how it is told
//! - [`systemd`] and [`telemetry`] the process and its log

pub mod auth;
pub mod call;
pub mod checks;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod database;
pub mod demo;
pub mod dispatch;
pub mod doctor;
pub mod envelope;
pub mod error;
pub mod exchange;
pub mod form;
pub mod gateway;
pub mod http;
pub mod import;
pub mod kept;
pub mod ledger;
pub mod limits;
pub mod mcp;
pub mod meter;
pub mod mock;
pub mod pattern;
pub mod price;
pub mod provider;
pub mod route;
pub mod seal;
pub mod secret;
pub mod serve;
pub mod store;
pub mod systemd;
pub mod tap;
pub mod telemetry;
pub mod upstream;
pub mod usage;
pub mod visitors;
pub mod wire;
