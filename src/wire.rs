//! Wire formats: bytes to frames and members. Pure, push style, no I/O.

pub mod json;
pub mod messages;
pub mod sse;
