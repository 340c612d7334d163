//! The ledger on its way to the store: what must not be lost is in a file before the caller has the end of an answer.
//!
//! Two records a call in a [`spool`]: `open` before the upstream is called, `settle` before the last frame. A worker
//! writes them with its [`Pen`]; the [`writer`] moves them to the store. [`record`] says how they look as bytes,
//! [`recover`] what they mean after a crash.

mod pen;
pub mod record;
pub mod recover;
pub mod spool;
pub mod writer;

pub use pen::{Ledger, Pen};
