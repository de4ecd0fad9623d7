//! What the card of a dataset says about its files: `configs` in the first lines of `README.md`.

use super::pattern;
use super::splits::{holds_examples, infer};
use std::io::Read;
use std::path::Path;
use yaml_rust2::{Yaml, YamlLoader};

/// The longest card that is read.
const LONGEST: u64 = 1 << 20;

/// One configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) name: String,
    is_default: bool,
    /// Patterns of each split; empty where the card names none.
    data_files: Vec<(String, Vec<String>)>,
    /// The folder that the patterns are about.
    folder: String,
}

/// The configurations that the card of `folder` names, in order; none where it has no card or says nothing.
pub(super) fn configs(folder: &Path) -> Vec<Config> {
    let Ok(file) = std::fs::File::open(folder.join("README.md")) else { return Vec::new() };
    let mut bytes = Vec::new();
    if file.take(LONGEST).read_to_end(&mut bytes).is_err() {
        return Vec::new();
    }
    read(&String::from_utf8_lossy(&bytes))
}

fn read(card: &str) -> Vec<Config> {
    let card = card.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let Some(body) = card.strip_prefix("---\n") else { return Vec::new() };
    let Some(end) = body.find("\n---") else { return Vec::new() };
    let matter = &body[..end];
    // References inside a document can make a short one huge, and no card has them.
    let refers = |line: &str| line.split([' ', '[', ',', '{']).any(|word| word.starts_with('&') && word.len() > 1);
    if matter.lines().any(refers) {
        return Vec::new();
    }
    let Ok(documents) = YamlLoader::load_from_str(matter) else { return Vec::new() };
    let configs = documents.first().and_then(|document| document["configs"].as_vec());
    configs.into_iter().flatten().map(config).collect()
}

fn config(entry: &Yaml) -> Config {
    let patterns = |value: &Yaml| -> Vec<String> {
        match value {
            Yaml::String(one) => vec![one.clone()],
            Yaml::Array(list) => list.iter().filter_map(|item| Some(item.as_str()?.to_owned())).collect(),
            _ => Vec::new(),
        }
    };
    let files = &entry["data_files"];
    let data_files = match files {
        Yaml::Array(list) if list.iter().any(|item| item["split"].as_str().is_some()) => {
            list.iter().filter_map(|item| Some((item["split"].as_str()?.to_owned(), patterns(&item["path"])))).collect()
        }
        Yaml::Hash(splits) => {
            splits.iter().filter_map(|(split, value)| Some((split.as_str()?.to_owned(), patterns(value)))).collect()
        }
        Yaml::BadValue => Vec::new(),
        other => vec![("train".to_owned(), patterns(other))],
    };
    Config {
        name: entry["config_name"].as_str().unwrap_or("default").to_owned(),
        is_default: entry["default"].as_bool().unwrap_or(false),
        data_files,
        folder: entry["data_dir"].as_str().unwrap_or_default().trim_matches('/').to_owned(),
    }
}

/// The configuration called `name`; without a name the default one, or the only one.
pub(super) fn choose<'a>(configs: &'a [Config], name: Option<&str>) -> Option<&'a Config> {
    let named = |wanted: &str| configs.iter().find(|config| config.name == wanted);
    match name {
        Some(name) => named(name),
        None => configs.iter().find(|config| config.is_default).or_else(|| named("default")).or(match configs {
            [only] => Some(only),
            _ => None,
        }),
    }
}

impl Config {
    /// The splits with those of `files` that belong to each.
    pub(super) fn splits(&self, files: &[String]) -> Vec<(String, Vec<String>)> {
        let inside: Vec<String> = files
            .iter()
            .filter(|file| self.folder.is_empty() || file.starts_with(&format!("{}/", self.folder)))
            .cloned()
            .collect();
        if self.data_files.is_empty() {
            return infer(&inside);
        }
        let matching = |pattern: &String| {
            let whole = if self.folder.is_empty() { pattern.clone() } else { format!("{}/{pattern}", self.folder) };
            let expression = pattern::compile(&whole);
            let fits =
                move |file: &&String| expression.as_ref().is_some_and(|e| e.is_match(file)) && holds_examples(file);
            inside.iter().filter(fits).cloned().collect::<Vec<_>>()
        };
        let of = |patterns: &[String]| {
            let mut found: Vec<String> = Vec::new();
            for file in patterns.iter().flat_map(matching) {
                if !found.contains(&file) {
                    found.push(file);
                }
            }
            found
        };
        self.data_files.iter().map(|(split, patterns)| (split.clone(), of(patterns))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: &str = "---\nlicense: mit\nconfigs:\n- config_name: small\n  data_files:\n  - split: train\n    path: s/train*\n  \
                        - split: held\n    path:\n    - s/a.csv\n    - s/b.csv\n- config_name: main\n  default: true\n  \
                        data_files: data/*.jsonl\n- config_name: folder\n  data_dir: f\n---\n# A dataset\n";

    fn files(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn configurations_come_from_the_first_lines() {
        let configs = read(CARD);
        let all =
            files(&["README.md", "s/train-1.csv", "s/a.csv", "s/b.csv", "data/x.jsonl", "f/test.json", "f/train.json"]);
        let small = choose(&configs, Some("small")).expect("named").splits(&all);
        assert_eq!(
            small,
            [("train".to_owned(), files(&["s/train-1.csv"])), ("held".to_owned(), files(&["s/a.csv", "s/b.csv"]))]
        );
        let main = choose(&configs, None).expect("a default");
        assert_eq!(main.splits(&all), [("train".to_owned(), files(&["data/x.jsonl"]))]);
        let folder = choose(&configs, Some("folder")).expect("named").splits(&all);
        assert_eq!(folder.len(), 2);
        assert!(choose(&configs, Some("large")).is_none());
    }

    #[test]
    fn cards_that_say_nothing_or_too_much_are_no_configurations() {
        for card in [
            "",
            "# A dataset",
            "---\nlicense: mit\n---\n",
            "---\nconfigs: [",
            "---\na: &x [1]\nconfigs: *x\n---\n",
            "---\nconfigs: 7\n---\n",
        ] {
            assert!(read(card).is_empty(), "{card}");
        }
    }
}
