//! Conversions that are stopped at any tensor and begun again: the bytes are those of one that was left alone (B5).

use crate::world::{adapter, engine, layout, model};
use peft_models::base::BaseModel;
use peft_models::engine::{Engine, MergeOptions};
use peft_models::export::gguf::write::Source;
use peft_models::export::gguf::{FileType, Metadata};
use peft_models::peft_format::AdapterFile;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

const TYPES: [FileType; 3] = [FileType::Q8_0, FileType::Q4_0, FileType::F16];

/// Write on into `folder`; stopped after so many calls of the progress. What was there at the beginning comes back, and
/// whether it came to its end.
fn attempt(engine: &Engine, base: &BaseModel, adapter: &AdapterFile, folder: &Path, calls: usize) -> (u64, bool) {
    let (about, layout) = (Metadata::default(), layout(base));
    let source =
        Source { base, adapter: Some(adapter), quantize: None, layout: Some(&layout), about: &about, importance: None };
    let conversion = engine.conversion(source, &TYPES).expect("a plan");
    let paths: Vec<PathBuf> = TYPES.iter().map(|kind| folder.join(format!("{}.gguf", kind.name()))).collect();
    let (mut heard, mut first) = (0, None);
    let mut progress = |done: u64, total: u64| {
        first.get_or_insert(done);
        assert!(done <= total);
        heard += 1;
        if heard > calls { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let written = conversion.write(&paths, &mut progress).expect("no fault");
    (first.expect("it says where it begins"), written.is_some())
}

fn contents(folder: &Path) -> Vec<Vec<u8>> {
    TYPES.iter().filter_map(|kind| std::fs::read(folder.join(format!("{}.gguf", kind.name()))).ok()).collect()
}

#[test]
fn a_conversion_goes_on_at_the_last_tensor_to_the_same_bytes_b5() {
    let engine = engine();
    let home = tempfile::tempdir().expect("a folder");
    let base = model("llama", &home);
    let tuned = adapter(&base, 4, 8.0, false, 11);
    let whole = home.path().join("whole");
    std::fs::create_dir(&whole).expect("created");
    assert_eq!(attempt(&engine, &base, &tuned, &whole, usize::MAX), (0, true));
    let wanted = contents(&whole);
    assert_eq!(wanted.len(), TYPES.len());
    let total: usize = wanted.iter().map(Vec::len).sum();

    for calls in [0, 1, 2, 5, 9] {
        let folder = home.path().join(format!("stopped-{calls}"));
        std::fs::create_dir(&folder).expect("created");
        let (begun, mut is_done) = attempt(&engine, &base, &tuned, &folder, calls);
        assert!(begun == 0 && !is_done);
        let mut before = 0;
        // Stopped again and again, it never loses a tensor and comes to its end.
        for _ in 0..100 {
            let (kept, done) = attempt(&engine, &base, &tuned, &folder, 4);
            assert!(kept >= before && kept < total as u64, "{kept} after {before}");
            (before, is_done) = (kept, done);
            if done {
                break;
            }
        }
        assert!(is_done && (calls < 2 || before > 0));
        assert!(contents(&folder) == wanted, "stopped after {calls}");
        assert_eq!(std::fs::read_dir(&folder).expect("read").count(), TYPES.len(), "nothing else is left");
    }

    // What is made of another adapter is not gone on with.
    let folder = home.path().join("other");
    std::fs::create_dir(&folder).expect("created");
    let other = adapter(&base, 4, 8.0, false, 12);
    assert!(!attempt(&engine, &base, &other, &folder, 9).1);
    assert_eq!(attempt(&engine, &base, &tuned, &folder, usize::MAX), (0, true));
    assert!(contents(&folder) == wanted);

    // Nor is anything believed that changed on the disk.
    let folder = home.path().join("damaged");
    std::fs::create_dir(&folder).expect("created");
    assert!(!attempt(&engine, &base, &tuned, &folder, 9).1);
    let part = folder.join("Q4_0.gguf.part");
    let mut bytes = std::fs::read(&part).expect("read");
    let last = bytes.len() - 1;
    bytes[last / 2] ^= 1;
    std::fs::write(&part, &bytes).expect("written");
    assert!(attempt(&engine, &base, &tuned, &folder, usize::MAX).1);
    assert!(contents(&folder) == wanted);
}

#[test]
fn a_merge_goes_on_at_the_last_tensor_to_the_same_bytes_b5() {
    let engine = engine();
    let home = tempfile::tempdir().expect("a folder");
    let base = model("qwen2", &home);
    let tuned = adapter(&base, 4, 8.0, false, 11);
    let options = MergeOptions { shard_bytes: Some(40_000), ..MergeOptions::of(peft_models::DType::F16) };
    let whole = home.path().join("whole");
    let manifest = engine.merge(&base, Some(&tuned), &options, &whole).expect("merged");
    assert!(manifest.files.iter().filter(|file| file.name.ends_with(".safetensors")).count() > 2);
    let out = home.path().join("stopped");
    let mut produced = Vec::new();
    for most in [3, 7, 1, usize::MAX] {
        let mut heard = 0;
        let done = engine.merge_unless(&base, Some(&tuned), &options, &out, &mut |_, _| {
            heard += 1;
            if heard > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        produced.push(heard.min(most));
        match done.expect("no fault") {
            None => assert!(!out.exists() && home.path().join("stopped.part").is_dir()),
            Some(written) => assert_eq!(written, manifest),
        }
    }
    durable::verify_directory(&out).expect("whole");
    let mut once = 0;
    engine
        .merge_unless(&base, Some(&tuned), &options, &home.path().join("again"), &mut |_, _| {
            once += 1;
            ControlFlow::Continue(())
        })
        .expect("no fault");
    assert_eq!(produced.iter().sum::<usize>(), once, "every tensor was produced once");
    for file in &manifest.files {
        assert!(
            std::fs::read(out.join(&file.name)).expect("read") == std::fs::read(whole.join(&file.name)).expect("read")
        );
    }
}
