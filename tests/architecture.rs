//! The rules of the house, checked: who may see whom, where `unsafe` may be, how large a file may get.
//!
//! The manifests are read through `cargo metadata`, the sources as text. Each test is one rule of
//! `ARCHITECTURE.md`; a new crate, a new place for `unsafe` or a new entry at the top level is a line here.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Every crate, and which of our crates it may depend on.
const SEES: &[(&str, &[&str])] = &[
    ("peft_durable", &[]),
    ("peft_kernels", &[]),
    ("peft_plan", &[]),
    ("peft_starter", &[]),
    ("peft_data", &["peft_durable", "peft_plan"]),
    ("peft_documents", &["peft_data", "peft_kernels", "peft_plan"]),
    ("peft_models", &["peft_durable", "peft_kernels", "peft_plan", "peft_text"]),
    ("peft_remote", &["peft_durable", "peft_plan"]),
    ("peft_storage", &["peft_durable", "peft_plan"]),
    ("peft_teach", &["peft_data", "peft_plan"]),
    ("peft_text", &["peft_plan"]),
    (
        "peft_studio",
        &[
            "peft_data",
            "peft_documents",
            "peft_durable",
            "peft_kernels",
            "peft_models",
            "peft_plan",
            "peft_remote",
            "peft_starter",
            "peft_storage",
            "peft_teach",
            "peft_text",
        ],
    ),
    (
        "peft_tests",
        &[
            "peft_data",
            "peft_documents",
            "peft_durable",
            "peft_kernels",
            "peft_models",
            "peft_plan",
            "peft_remote",
            "peft_starter",
            "peft_storage",
            "peft_studio",
            "peft_teach",
            "peft_text",
        ],
    ),
];

/// The pure crate: all it may use.
const PLAN_USES: &[&str] = &["serde", "serde_json", "strsim", "thiserror"];

/// Libraries that belong to one part of the house: the beginning of their names, and who may use them.
const OWNED: &[(&str, &[&str])] = &[
    ("anyhow", &["peft_studio"]),
    ("clap", &["peft_studio"]),
    ("ctrlc", &["peft_studio"]),
    ("eframe", &["peft_studio"]),
    ("egui", &["peft_studio"]),
    ("hyper", &["peft_remote"]),
    ("indicatif", &["peft_studio"]),
    ("memmap2", &["peft_models"]),
    ("minijinja", &["peft_text"]),
    ("rayon", &["peft_kernels"]),
    ("reqwest", &["peft_remote"]),
    ("rusqlite", &["peft_storage", "peft_tests"]),
    ("rustls", &["peft_remote"]),
    ("tokenizers", &["peft_starter", "peft_text"]),
    ("tokio", &["peft_remote"]),
    ("zbus", &["peft_studio", "peft_tests"]),
];

/// The one crate that may open a socket, and where it is.
const REMOTE: (&str, &str) = ("peft_remote", "models/remote/");

/// Nothing of this is reached by any crate but through the one that may open a socket (B13).
const NETWORK: &[&str] = &[
    "async-std",
    "attohttpc",
    "curl",
    "h2",
    "hf-hub",
    "hyper",
    "isahc",
    "mio",
    "native-tls",
    "openssl",
    "reqwest",
    "rustls",
    "smol",
    "tokio",
    "ureq",
];

/// What may stand beside `Cargo.toml`.
const TOP_LEVEL: &[&str] = &[
    ".ci",
    ".clippy.toml",
    ".gitignore",
    ".rustfmt.toml",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "app",
    "icons",
    "kernels",
    "models",
    "rust-toolchain.toml",
    "storage",
    "tests",
];

/// What a machine adds to a checkout: never part of the project.
const NOT_OURS: &[&str] = &[".git", ".idea", ".vscode", "target"];

/// A name that says nothing of what is inside.
const EMPTY_NAMES: &[&str] = &["common", "helpers", "manager", "misc", "types", "utils"];

/// Files with `unsafe` beside the vector kernels: calls of NVIDIA's driver, a memory map, and calls into the library of
/// the emulated GPU.
const UNSAFE: &[&str] = &[
    "kernels/src/cuda/driver.rs",
    "kernels/src/cuda/graphs.rs",
    "kernels/src/cuda/lanes.rs",
    "kernels/src/cuda/lt.rs",
    "kernels/src/pages.rs",
    "models/src/checkpoint/map.rs",
    "tests/src/emulated.rs",
];

const LONGEST_FILE: usize = 600;

/// What follows the word where it opens unsafe code.
const KEYWORDS: &[&str] = &[" {", "{", " fn ", " impl", " extern ", " trait ", "("];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are inside the workspace")
}

fn is_temporary(name: &str) -> bool {
    // As in `.gitignore`.
    Path::new(name).extension().is_some_and(|ending| ending == "tmp")
}

/// Names of what is in a directory.
fn entries(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).expect("a readable directory");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("a readable entry").file_name().into_string().expect("a plain name")
    };
    entries.map(name).filter(|name| !NOT_OURS.contains(&name.as_str()) && !is_temporary(name)).collect()
}

/// Every file of the project as text, by its path from the root. Files that are not text are left out.
fn texts() -> BTreeMap<String, String> {
    fn walk(directory: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
        for name in entries(directory) {
            let path = directory.join(&name);
            if path.is_dir() {
                walk(&path, &format!("{prefix}{name}/"), found);
            } else if let Ok(text) = String::from_utf8(std::fs::read(&path).expect("a readable file")) {
                found.insert(format!("{prefix}{name}"), text);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root(), "", &mut found);
    found
}

fn has_ending(path: &str, ending: &str) -> bool {
    Path::new(path).extension().is_some_and(|own| own == ending)
}

/// Every Rust source, by its path from the root.
fn sources() -> BTreeMap<String, String> {
    let found: BTreeMap<String, String> = texts().into_iter().filter(|(path, _)| has_ending(path, "rs")).collect();
    assert!(found.len() > 200, "the sources are not where they should be");
    found
}

/// The code of a line, without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Name of every crate to the names of everything it depends on, for building and for testing.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let packages = document["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let names = package["dependencies"].as_array().expect("dependencies").iter().map(name);
            (name(package), names.collect())
        })
        .collect()
}

/// Fails with all of `broken`, one a line.
fn none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn crates_see_only_what_is_below_them() {
    let dependencies = dependencies();
    let known: BTreeSet<&str> = SEES.iter().map(|(name, _)| *name).collect();
    let there: BTreeSet<&str> = dependencies.keys().map(String::as_str).collect();
    assert_eq!(there, known, "every crate has a line in SEES");
    let mut broken = Vec::new();
    for (name, allowed) in SEES {
        let seen = dependencies[*name].iter().filter(|seen| known.contains(seen.as_str()));
        broken.extend(seen.filter(|seen| !allowed.contains(&seen.as_str())).map(|seen| format!("{name} sees {seen}")));
    }
    none("A crate depends on one of ours that it must not see", &broken);
}

#[test]
fn the_plan_is_pure() {
    let uses = &dependencies()["peft_plan"];
    let foreign: Vec<String> = uses.iter().filter(|name| !PLAN_USES.contains(&name.as_str())).cloned().collect();
    none("peft_plan uses more than data types", &foreign);
    let mut broken = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| path.starts_with("models/plan/src/")) {
        let program = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (index, line) in program.lines().enumerate() {
            let words = ["std::fs", "std::thread", "std::time", "std::net", "std::process", "std::env"];
            if words.iter().any(|word| code(line).contains(word)) {
                broken.push(format!("{path}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    none("peft_plan touches the world", &broken);
}

#[test]
fn libraries_stay_with_the_part_that_owns_them() {
    let mut broken = Vec::new();
    for (name, uses) in &dependencies() {
        for (library, owners) in OWNED {
            if uses.iter().any(|used| used.starts_with(library)) && !owners.contains(&name.as_str()) {
                broken.push(format!("{name} uses {library}, which belongs to {}", owners.join(" and ")));
            }
        }
    }
    none("A library is used outside its part", &broken);
}

/// Built for pages of a browser alone, which this program never is.
const BROWSERS: &str = "wasm-bindgen-futures";

/// Every library that `crate_name` is built with, other than through `without`, for any system.
fn reached(crate_name: &str, without: &str) -> BTreeSet<String> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("a lock file");
    let quoted = |line: &str| line.split('"').nth(1).unwrap_or_default().to_owned();
    let mut uses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let line = |start: &str| package.lines().find(|line| line.starts_with(start)).map(quoted).unwrap_or_default();
        let needs =
            package.split("dependencies = [").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or_default();
        // `name`, or `name version` where there are several.
        let names = needs.lines().filter(|line| line.contains('"')).map(quoted);
        let names = names.map(|name| name.split(' ').next().unwrap_or_default().to_owned());
        uses.entry(line("name = ")).or_default().extend(names);
    }
    let mut found = BTreeSet::new();
    let mut open = vec![crate_name.to_owned()];
    while let Some(name) = open.pop() {
        if name != without && name != BROWSERS && found.insert(name.clone()) {
            open.extend(uses.get(&name).into_iter().flatten().cloned());
        }
    }
    found
}

#[test]
fn only_one_crate_has_a_way_to_a_network_b13() {
    let (remote, place) = REMOTE;
    let mut broken = Vec::new();
    for (name, _) in SEES {
        let reached = reached(name, remote);
        assert!(*name == remote || reached.len() > 1, "{name} is in the lock file");
        let ways = NETWORK.iter().filter(|library| reached.contains(**library));
        broken.extend(ways.map(|library| format!("{name} reaches {library} without {remote}")));
    }
    assert!(reached(remote, "").contains("reqwest"), "the lock file is read as it is meant");
    let openers = ["Listener", "Stream", "Socket"].map(|kind| [format!("Tcp{kind}"), format!("Udp{kind}")]);
    for (path, text) in sources().iter().filter(|(path, _)| !path.starts_with("tests/") && !path.starts_with(place)) {
        if openers.iter().flatten().any(|opener| text.contains(opener.as_str())) {
            broken.push(format!("{path} opens a socket"));
        }
    }
    none("Something can open a socket", &broken);
}

#[test]
fn unsafe_code_is_where_it_may_be_and_says_why_it_is_sound() {
    let may = |path: &str| path.starts_with("kernels/src/cpu/simd_") || UNSAFE.contains(&path);
    let opens = |line: &str| {
        let code = code(line);
        KEYWORDS.iter().any(|next| code.contains(&format!("{}{next}", "unsafe")))
    };
    let mut broken = Vec::new();
    let mut seen = 0;
    for (path, text) in &sources() {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (index, _) in lines.iter().enumerate().filter(|(_, line)| opens(line)) {
            seen += 1;
            let place = format!("{path}:{}", index + 1);
            if !may(path) {
                broken.push(format!("{place} is not a place for it"));
            }
            let above = lines[..index].iter().rev().take_while(|line| line.starts_with("//") || line.starts_with("#["));
            if !above.into_iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety")) {
                broken.push(format!("{place} has no `SAFETY:` comment above it"));
            }
        }
    }
    assert!(seen > 0, "the kernels have unsafe code, and none was found");
    none("Unsafe code", &broken);
}

#[test]
fn every_source_says_what_it_is_for_is_short_and_has_a_name() {
    let mut broken = Vec::new();
    for (path, text) in &sources() {
        let first = text.lines().next().unwrap_or_default();
        if first.strip_prefix("//! ").is_none_or(|sentence| sentence.trim().is_empty()) {
            broken.push(format!("{path} does not begin with `//!` and a sentence"));
        }
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            broken.push(format!("{path} has {lines} lines"));
        }
        if Path::new(path).file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| EMPTY_NAMES.contains(&stem)) {
            broken.push(format!("{path} has a name that says nothing"));
        }
    }
    none("Sources", &broken);
}

#[test]
fn nothing_is_left_unfinished() {
    let words = ["todo", "unimplemented", "dbg"].map(|word| format!("{word}!("));
    let comments = [concat!("FIX", "ME"), concat!("TO", "DO")];
    let mut broken = Vec::new();
    for (path, text) in &sources() {
        for (index, line) in text.lines().enumerate() {
            let is_word = words.iter().any(|word| code(line).contains(word.as_str()));
            let is_comment = line.contains("//") && comments.iter().any(|word| line.contains(word));
            if is_word || is_comment {
                broken.push(format!("{path}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    none("Unfinished", &broken);
}

#[test]
fn every_crate_describes_itself_and_takes_the_lints_of_the_house() {
    let texts = texts();
    let manifests = texts.iter().filter(|(path, _)| path.ends_with("/Cargo.toml"));
    let mut broken = Vec::new();
    for (path, text) in manifests {
        let needed = ["\ndescription = ", "\n[lints]\nworkspace = true", "\nversion.workspace = true"];
        let missing = needed.iter().filter(|line| !text.contains(*line));
        broken.extend(missing.map(|line| format!("{path} has no `{}`", line.trim().replace('\n', "` `"))));
        let library = path.replace("Cargo.toml", "src/lib.rs");
        if !texts.contains_key(&library) {
            broken.push(format!("{library} is not there"));
        }
    }
    none("Manifests", &broken);
}

#[test]
fn the_top_level_has_a_place_for_everything() {
    let there = entries(root());
    let extra: Vec<String> = there.iter().filter(|name| !TOP_LEVEL.contains(&name.as_str())).cloned().collect();
    none("Beside Cargo.toml there is something that does not belong there", &extra);
    let missing: Vec<String> =
        TOP_LEVEL.iter().filter(|name| !there.contains(**name)).map(|name| (*name).to_owned()).collect();
    none("Beside Cargo.toml something is missing", &missing);
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let homes = ["work", "tmp", "root", "home", "Users"].map(|name| format!("/{name}/"));
    let starts_a_path = |before: Option<char>| before.is_none_or(|c| !c.is_alphanumeric() && !"/.-_~}".contains(c));
    let mut broken = Vec::new();
    for (path, text) in &texts() {
        for (index, line) in text.lines().enumerate() {
            let is_there = |home: &String| {
                line.match_indices(home.as_str()).any(|(at, _)| starts_a_path(line[..at].chars().next_back()))
            };
            if homes.iter().any(is_there) {
                broken.push(format!("{path}:{}", index + 1));
            }
        }
    }
    none("A path of one machine", &broken);
}

#[test]
fn the_papers_name_only_what_is_there() {
    let places: [&str; 7] = ["app/", "icons/", "kernels/", "models/", "storage/", "tests/", ".ci/"];
    let mut broken = Vec::new();
    let mut seen = 0;
    for paper in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = std::fs::read_to_string(root().join(paper)).expect("the papers are there");
        // Between single backticks is what stands at odd positions; fences have none inside a line.
        for word in
            text.lines().filter(|line| !line.contains("```")).flat_map(|line| line.split('`').skip(1).step_by(2))
        {
            let is_path = places.iter().any(|place| word.starts_with(place))
                && word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if is_path {
                seen += 1;
                if !root().join(word).exists() {
                    broken.push(format!("{paper}: `{word}`"));
                }
            }
        }
    }
    assert!(seen > 20, "the papers name files");
    none("A paper names a file that is not there", &broken);
}

#[test]
fn the_readme_explains_every_area_of_error_codes() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("a README");
    let codes = peft_plan::fault::catalogue().keys();
    let areas: BTreeSet<&str> = codes.filter_map(|code| code.rsplit_once('-').map(|(area, _)| area)).collect();
    let missing: Vec<String> =
        areas.iter().filter(|area| !readme.contains(**area)).map(|area| (*area).to_owned()).collect();
    none("README.md does not explain", &missing);
}
