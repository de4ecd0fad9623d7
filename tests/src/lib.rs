//! Tests that see everything: conformance, parity, the command line, the layering.

pub mod counting;
pub mod emulated;
pub mod helper;
pub mod home;
pub mod hub;
pub mod listener;
pub mod ollama;
pub mod uploads;

/// Bytes as people compare hashes.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
