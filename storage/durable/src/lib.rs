//! The durable write: a file or directory is there whole or not at all.
//!
//! Every checkpoint, export, adapter and setting goes through this one protocol: write under a
//! temporary name beside the target, fsync, rename, fsync the parent. A crash, a full disk or a
//! power cut at any instant leaves the old content or the new, never a mixture. A directory also
//! carries `manifest.json` with the length and SHA-256 of every file, so that damage which happens
//! later is noticed before anything is read from it.
//!
//! An fsync that failed is never tried again on the same file: the kernel may have dropped the
//! pages and would report success. The temporary file is removed and the caller starts over from
//! what it has in memory.
//!
//! A large file that takes long is a [`Part`]: it grows in steps, and goes on at the last one after a crash.

mod directory;
mod file;
mod fs;
mod hashed;
mod manifest;
mod part;

pub use directory::{
    Writer, commit_directory, commit_directory_on, continue_directory, remove_leftovers, replace_directory,
    replace_directory_on,
};
pub use file::{create_directories, rename_file, write_file, write_file_on, write_file_with};
pub use fs::{DurableFile, Fs, RealFs};
pub use hashed::{Digest, hex, sha256_file};
pub use manifest::{Damage, Entry, MANIFEST_NAME, Manifest, read_manifest, verify_directory};
pub use part::{Part, Sealed, part_bytes, part_path};
