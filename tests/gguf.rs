//! GGUF files: against llama.cpp's converter, back through our engine, damaged, and forged.

#[path = "gguf/converter.rs"]
mod converter;
#[path = "gguf/damage.rs"]
mod damage;
#[cfg(unix)]
#[path = "gguf/ends.rs"]
mod ends;
#[path = "gguf/faults.rs"]
mod faults;
#[path = "gguf/program.rs"]
mod program;
#[path = "gguf/resumed.rs"]
mod resumed;
#[path = "gguf/targets.rs"]
mod targets;
#[path = "gguf/unigram.rs"]
mod unigram;
#[path = "gguf/world.rs"]
mod world;
