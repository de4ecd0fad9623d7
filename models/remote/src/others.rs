//! Models that LM Studio and Ollama keep on this computer: looked at, never touched.

use serde::Serialize;
use serde_json::Value;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders below a model folder that are looked into.
const DEPTH: u32 = 5;
/// Most models of one program that are listed.
const MOST: usize = 10_000;

/// A model of another program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ForeignModel {
    /// What that program calls it.
    pub name: String,
    /// Whose it is: `lmstudio` or `ollama`.
    pub program: &'static str,
    /// The file with its weights.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

/// Every model of LM Studio and Ollama that can be found, by name.
pub fn list(variable: impl Fn(&str) -> Option<OsString>, home: Option<&Path>) -> Vec<ForeignModel> {
    let mut found = Vec::new();
    for folder in [".lmstudio/models", ".cache/lm-studio/models"].iter().filter_map(|name| Some(home?.join(name))) {
        lm_studio(&folder, &folder, 0, &mut found);
    }
    let ollama = variable("OLLAMA_MODELS").filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = ollama.or_else(|| Some(home?.join(".ollama").join("models"))) {
        self::ollama(&folder, &folder.join("manifests"), 0, &mut found);
    }
    found.sort_by(|a, b| (a.program, &a.name).cmp(&(b.program, &b.name)));
    found
}

fn lm_studio(root: &Path, folder: &Path, depth: u32, found: &mut Vec<ForeignModel>) {
    for path in entries(folder) {
        if found.len() >= MOST {
            return;
        }
        if path.is_dir() {
            if depth < DEPTH {
                lm_studio(root, &path, depth + 1, found);
            }
        } else if path.extension().is_some_and(|ending| ending == "gguf") {
            let name = path.strip_prefix(root).unwrap_or(&path).with_extension("");
            // A projector of images belongs to the model beside it.
            let is_projector = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mmproj"));
            if !is_projector {
                let bytes = fs::metadata(&path).map_or(0, |data| data.len());
                found.push(ForeignModel {
                    name: name.to_string_lossy().replace('\\', "/"),
                    program: "lmstudio",
                    path,
                    bytes,
                });
            }
        }
    }
}

/// `manifests/registry.ollama.ai/library/NAME/TAG` names the blob with the weights.
fn ollama(root: &Path, folder: &Path, depth: u32, found: &mut Vec<ForeignModel>) {
    for path in entries(folder) {
        if found.len() >= MOST {
            return;
        }
        if path.is_dir() {
            if depth < DEPTH {
                ollama(root, &path, depth + 1, found);
            }
        } else if let Some((digest, bytes)) = weights_of(&path) {
            let relative = path.strip_prefix(root.join("manifests")).unwrap_or(&path);
            let parts: Vec<_> = relative.iter().skip(1).map(|part| part.to_string_lossy()).collect();
            let Some((tag, name)) = parts.split_last() else { continue };
            let name = name.join("/");
            let name = format!("{}:{tag}", name.strip_prefix("library/").unwrap_or(&name));
            found.push(ForeignModel { name, program: "ollama", path: root.join("blobs").join(digest), bytes });
        }
    }
}

/// The blob with the weights, whose name is a hash and nothing else.
fn weights_of(manifest: &Path) -> Option<(String, u64)> {
    if fs::metadata(manifest).ok()?.len() > 1 << 20 {
        return None;
    }
    let value: Value = serde_json::from_slice(&fs::read(manifest).ok()?).ok()?;
    let layer = value["layers"]
        .as_array()?
        .iter()
        .find(|layer| layer["mediaType"].as_str() == Some("application/vnd.ollama.image.model"))?;
    let hash = layer["digest"].as_str()?.strip_prefix("sha256:")?;
    let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| (format!("sha256-{hash}"), layer["size"].as_u64().unwrap_or(0)))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_both_programs_are_found_under_their_own_names() {
        let home = tempfile::tempdir().expect("a directory");
        let write = |path: &str, content: &str| {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            fs::write(path, content).expect("written");
        };
        write(".lmstudio/models/lm-community/Qwen-GGUF/Qwen-Q4_K_M.gguf", "12345");
        write(".lmstudio/models/lm-community/Qwen-GGUF/mmproj-Qwen.gguf", "x");
        write(".lmstudio/models/readme.txt", "x");
        let manifest = |digest: &str| {
            format!(
                r#"{{"layers":[{{"mediaType":"application/vnd.ollama.image.license","digest":"sha256:0"}},
                {{"mediaType":"application/vnd.ollama.image.model","digest":"{digest}","size":7}}]}}"#
            )
        };
        let good = format!("sha256:{}", "a".repeat(64));
        write(".ollama/models/manifests/registry.ollama.ai/library/llama3.2/1b", &manifest(&good));
        write(".ollama/models/manifests/registry.ollama.ai/someone/thing/latest", &manifest(&good));
        write(".ollama/models/manifests/registry.ollama.ai/library/evil/latest", &manifest("sha256:../../x"));
        write(".ollama/models/manifests/registry.ollama.ai/library/broken/latest", "{");
        let found = list(|_| None, Some(home.path()));
        let names: Vec<(&str, &str, u64)> = found.iter().map(|m| (m.program, m.name.as_str(), m.bytes)).collect();
        let expected = [
            ("lmstudio", "lm-community/Qwen-GGUF/Qwen-Q4_K_M", 5),
            ("ollama", "llama3.2:1b", 7),
            ("ollama", "someone/thing:latest", 7),
        ];
        assert_eq!(names, expected);
        assert!(list(|_| Some("/nowhere".into()), None).is_empty());
    }
}
