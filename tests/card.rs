//! The program on a graphics card: what it says where there is none that it can use, and what it computes on one that
//! is emulated, through the same driver calls as on a real one (issue 8, 2 to 4).

use peft_kernels::Error;
use peft_tests::emulated::driver;
use peft_tests::home::{Home, text};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The folder of the emulated driver; `None` where it cannot be built.
fn emulated() -> Option<PathBuf> {
    match driver() {
        Ok(folder) => Some(folder),
        Err(Error::Unavailable { .. }) => None,
        Err(e) => panic!("{e}"),
    }
}

/// The program with a driver in `folder`, and what the emulated card is like.
fn on(home: &Home, folder: &Path, card: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = home.command(arguments);
    command.env("LD_LIBRARY_PATH", folder).env_remove("CUDA_VISIBLE_DEVICES").envs(card.iter().copied());
    command.output().expect("the program starts")
}

/// The fault that the program ends with, on such a card.
fn fault(folder: &Path, card: &[(&str, &str)], backend: &str) -> (String, String) {
    let output = on(&Home::new(), folder, card, &["hardware", "--backend", backend, "--json"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    let document: Value = serde_json::from_str(&stderr).expect("one JSON document on stderr");
    let field = |name: &str| document["error"][name].as_str().expect("text").to_owned();
    (field("code"), field("detail"))
}

#[test]
fn a_card_that_cannot_be_used_is_refused_with_its_reason() {
    let Some(folder) = emulated() else { return };
    for (card, backend, code, reason) in [
        (&[("EMULATED_CARDS", "0")][..], "cuda", "PS-HW-001", "finds no card"),
        (&[("EMULATED_CARDS", "2")], "cuda:2", "PS-HW-001", "there are 2 graphics cards"),
        (&[], "cuda:1", "PS-HW-001", "one graphics card, number 0"),
        (&[("EMULATED_DRIVER", "11080")], "cuda", "PS-HW-002", "offers CUDA 11.8"),
        (&[("EMULATED_CHIP", "75")], "cuda", "PS-HW-004", "compute capability 7.5"),
        (&[("EMULATED_MEMORY", "1000")], "cuda", "PS-MEM-001", "no room"),
    ] {
        let (found, detail) = fault(&folder, card, backend);
        assert_eq!(found, code, "{card:?}: {detail}");
        assert!(detail.to_lowercase().contains(&reason.to_lowercase()), "{card:?}: {detail}");
    }
}

#[test]
fn a_driver_that_lacks_a_function_is_too_old_and_nothing_panics() {
    let folder = tempfile::tempdir().expect("a folder");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let source = folder.path().join("old.c");
    std::fs::write(&source, "int cuInit(unsigned flags) { return 0; }\n").expect("written");
    let mut command = Command::new(compiler);
    command.args(["-shared", "-fPIC", "-o"]).arg(folder.path().join("libcuda.so")).arg(&source);
    if !cfg!(target_os = "linux") || !command.status().is_ok_and(|status| status.success()) {
        return;
    }
    let (code, detail) = fault(folder.path(), &[], "cuda");
    assert_eq!(code, "PS-HW-002", "{detail}");
    assert!(detail.contains("cuDriverGetVersion"), "{detail}");
}

/// `auto` computes on the processor wherever the card cannot be used, and says why.
#[test]
fn a_card_that_computes_wrongly_is_not_used_and_auto_falls_back_with_the_reason() {
    let Some(folder) = emulated() else { return };
    for (card, reason) in [
        (("EMULATED_BREAKS", "fill_window"), "did not start fill_window"),
        (("EMULATED_DRIVER", "11080"), "offers CUDA 11.8"),
        (("EMULATED_CARDS", "0"), "finds no card"),
    ] {
        let output = on(&Home::new(), &folder, &[card], &["hardware", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{card:?}: {}", text(&output.stderr));
        let hardware: Value = serde_json::from_str(&text(&output.stdout)).expect("JSON");
        assert_eq!(hardware["backend"]["chosen"], "cpu", "{card:?}");
        let told = hardware["backend"]["reason"].as_str().expect("a reason");
        assert!(told.contains(reason) && told.ends_with("the processor is used"), "{card:?}: {told}");
    }
}

/// Every kernel against the reference and the golden steps, by the program itself.
#[test]
#[ignore = "minutes: the whole self-test on an emulated card"]
fn the_self_test_passes_on_the_emulated_card() {
    let Some(folder) = emulated() else { return };
    let output = on(&Home::new(), &folder, &[], &["selftest", "--backend", "cuda", "--json"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{}\n{stderr}", text(&output.stdout));
    assert!(!stderr.contains("still holds"), "{stderr}");
}
