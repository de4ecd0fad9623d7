//! Tests that see everything: conformance, parity, the command line, the layering.

pub mod home;
pub mod hub;
