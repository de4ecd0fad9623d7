//! PEFT Studio as a library: the command line behind the binary's one line, and the jobs it starts.

pub mod cli;
pub mod gui;
pub mod jobs;
