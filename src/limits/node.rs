//! The name of this process among the gateways that share a store.

/// A new one: a gateway that is started again is another one.
pub fn new_id() -> String {
    let random: u64 = rand::random();
    format!("{random:016x}")
}
