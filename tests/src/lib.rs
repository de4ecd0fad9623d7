//! Tests that see everything: conformance, parity, the command line, the layering.

pub mod counting;
pub mod emulated;
pub mod helper;
pub mod home;
pub mod hub;
pub mod listener;
pub mod ollama;
pub mod uploads;

pub use durable::hex;
