//! GGUF, the file of llama.cpp and of everything built on it: version 3, read and written.

pub mod mix;
