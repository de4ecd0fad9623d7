//! The local server over real sockets: its protocol with a model of our own, and the real program.

#[path = "serve/client.rs"]
mod client;
#[path = "serve/exports.rs"]
mod exports;
#[path = "serve/program.rs"]
mod program;
#[path = "serve/protocol.rs"]
mod protocol;
