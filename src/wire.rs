//! Wire formats: bytes to frames and members. Pure, push style, no I/O.

pub mod audio;
pub mod completions;
pub mod embeddings;
pub mod eventstream;
pub mod feed;
pub mod form;
pub mod gemini;
pub mod hub;
pub mod json;
pub mod messages;
pub mod place;
pub mod realtime;
pub mod responses;
pub mod sse;
pub mod write;

/// Requests and answers nested deeper than this are refused where they are translated.
pub const MAX_DEPTH: usize = 128;
