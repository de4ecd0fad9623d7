//! The binary: everything is in the library.

fn main() -> std::process::ExitCode {
    peft_studio::cli::main()
}
