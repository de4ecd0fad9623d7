//! Runs that are killed, interrupted, paused, damaged and starved of disk, with the real program: whatever was
//! committed is still there, and the end is the same to the byte as that of a run that was left alone (B2, G1-G4).
//!
//! Six kills here; `PEFT_STUDIO_KILLS=200` for a campaign. The seed of the moments is printed and can be set with
//! `PEFT_STUDIO_KILL_SEED`.

#[path = "crash/damage.rs"]
mod damage;
#[cfg(unix)]
#[path = "crash/disk.rs"]
mod disk;
#[path = "crash/kills.rs"]
mod kills;
#[path = "crash/requests.rs"]
mod requests;
#[path = "crash/trial.rs"]
mod trial;
