//! The catalogue of errors at work: explained offline, provoked each, applied where a program can (S4.10).

#[path = "errors/applied.rs"]
mod applied;
#[path = "errors/coverage.rs"]
mod coverage;
#[path = "errors/findings.rs"]
mod findings;
