//! Chains of commands from a file, through the real program (S1.26, S1.28), and specifications (S0.8, S0.9, S0.14).

#[path = "pipeline/chain.rs"]
mod chain;
#[path = "pipeline/refused.rs"]
mod refused;
#[path = "pipeline/specification.rs"]
mod specification;
