//! The harness: the real program, a scripted upstream and a client that sees every byte.
//!
//! Nothing here sleeps or uses a fixed port; every wait is for an event, with a bound.

pub mod anthropic;
pub mod client;
pub mod feed;
pub mod forms;
pub mod gateway;
pub mod http;
pub mod link;
pub mod mcp;
pub mod openai;
pub mod postgres;
pub mod reply;
pub mod setup;
pub mod socket;
pub mod strict;
pub mod tls;
pub mod upstream;

pub use client::{Answer, Client, ErrorBody};
pub use gateway::{Gateway, MASTER_KEY, authorization};
pub use reply::{Gate, Reply, Step};
pub use setup::{Setup, config, deployment, model};
pub use upstream::{Seen, UPSTREAM_KEY, Upstream};
