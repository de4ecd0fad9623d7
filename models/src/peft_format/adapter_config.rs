//! `adapter_config.json`: few settings matter here, all of them survive a round trip.
//!
//! Old versions of PEFT fail on keys they do not know, so a fresh adapter is written with the keys
//! that every version has, and others only where they say something.

use super::targets::end_of_path;
use peft_plan::{Fault, Result, TargetModules};
use regex::Regex;
use serde_json::{Map, Value, json};

/// Highest rank that is read.
const RANK: usize = 1 << 16;

/// The settings of an adapter.
#[derive(Clone, Debug)]
pub struct AdapterConfig {
    /// Name or path of the base model.
    pub base_model: Option<String>,
    /// Rank.
    pub r: usize,
    /// Numerator of the scaling.
    pub lora_alpha: f64,
    /// Dropout on the input of A while training.
    pub lora_dropout: f64,
    /// Which modules carry an adapter.
    pub target_modules: TargetModules,
    /// Scale by `alpha / √rank`.
    pub use_rslora: bool,
    /// Magnitude vectors.
    pub use_dora: bool,
    /// Modules trained whole beside the adapters, by the ends of their paths.
    pub modules_to_save: Vec<String>,
    rank_pattern: Vec<(String, Regex, usize)>,
    alpha_pattern: Vec<(String, Regex, f64)>,
    /// As it was read; empty for a fresh one.
    source: Map<String, Value>,
}

/// Keys whose value here is the only one whose arithmetic is done: `null`, absent and empty count
/// as it too.
const REFUSED: &[(&str, &str)] = &[
    ("lora_bias", "a bias in the adapter"),
    ("fan_in_fan_out", "transposed weights"),
    ("trainable_token_indices", "rows of the embedding matrix"),
    ("target_parameters", "an adapter of parameters that are not linear modules"),
    ("layer_replication", "replicated layers"),
    ("use_qalora", "pooled inputs (QA-LoRA)"),
    ("alora_invocation_tokens", "an adapter that starts at a token (aLoRA)"),
    ("arrow_config", "several adapters with a router"),
    ("use_bdlora", "block-diagonal adapters"),
    ("kasa_config", "singular-value adapters"),
    ("monteclora_config", "sampled adapters"),
    ("velora_config", "compressed activations"),
];

/// Keys that only matter before or outside training, whatever they say.
const HARMLESS: &[&str] = &[
    "eva_config",
    "corda_config",
    "loftq_config",
    "lora_ga_config",
    "megatron_config",
    "runtime_config",
    "use_rslora",
    "use_dora",
];

impl AdapterConfig {
    /// Settings of a fresh adapter; the rest as PEFT has it by default.
    pub fn new(r: usize, lora_alpha: f64, target_modules: TargetModules) -> Self {
        Self {
            base_model: None,
            r,
            lora_alpha,
            lora_dropout: 0.0,
            target_modules,
            use_rslora: false,
            use_dora: false,
            modules_to_save: Vec::new(),
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            source: Map::new(),
        }
    }

    /// Read the content of an `adapter_config.json`.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let source: Map<String, Value> = serde_json::from_slice(bytes)
            .map_err(|error| damaged(format!("it is not a JSON object ({error})")).caused_by(error))?;
        refuse(&source)?;
        let get = |key: &str| source.get(key).filter(|value| !value.is_null());
        let flag = |key: &str| match get(key) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| damaged(format!("`{key}` is {value}"))),
        };
        let target_modules = match get("target_modules") {
            Some(Value::String(pattern)) => TargetModules::Pattern(pattern.clone()),
            Some(Value::Array(names)) => TargetModules::List(
                names
                    .iter()
                    .map(|name| name.as_str().map(str::to_owned))
                    .collect::<Option<_>>()
                    .ok_or_else(|| damaged("`target_modules` lists something that is not a name"))?,
            ),
            // What PEFT chose for these families before it wrote its choice down.
            None => TargetModules::List(vec!["q_proj".to_owned(), "v_proj".to_owned()]),
            Some(other) => return Err(damaged(format!("`target_modules` is {other}"))),
        };
        Ok(Self {
            base_model: get("base_model_name_or_path").and_then(Value::as_str).map(str::to_owned),
            r: get("r").map_or(Ok(8), |value| rank("r", value))?,
            lora_alpha: get("lora_alpha").map_or(Ok(8.0), |value| alpha("lora_alpha", value))?,
            lora_dropout: match get("lora_dropout").map_or(Some(0.0), Value::as_f64) {
                Some(p) if (0.0..1.0).contains(&p) => p,
                _ => return Err(damaged("`lora_dropout` is not a number from 0 up to 1")),
            },
            target_modules,
            use_rslora: flag("use_rslora")?,
            use_dora: flag("use_dora")?,
            modules_to_save: match get("modules_to_save") {
                None => Vec::new(),
                Some(Value::Array(names)) => names
                    .iter()
                    .map(|name| name.as_str().filter(|name| !name.is_empty()).map(str::to_owned))
                    .collect::<Option<_>>()
                    .ok_or_else(|| damaged("`modules_to_save` lists something that is not a name"))?,
                Some(other) => return Err(damaged(format!("`modules_to_save` is {other}"))),
            },
            rank_pattern: pattern(get("rank_pattern"), "rank_pattern", rank)?,
            alpha_pattern: pattern(get("alpha_pattern"), "alpha_pattern", alpha)?,
            source,
        })
    }

    /// Head and embedding are one matrix in the adapter too (`ensure_weight_tying`).
    pub fn keeps_tied(&self) -> bool {
        self.source.get("ensure_weight_tying") == Some(&Value::Bool(true)) && !self.modules_to_save.is_empty()
    }

    /// Modules trained whole beside the adapters, by the ends of their paths: with those that PEFT ties to them.
    pub fn saved_names(&self) -> Vec<String> {
        let mut names = self.modules_to_save.clone();
        if self.keeps_tied() {
            names.extend(["embed_tokens", "lm_head"].map(str::to_owned));
        }
        names
    }

    /// Rank of the module at `path`.
    pub fn rank_for(&self, path: &str) -> usize {
        self.rank_pattern.iter().find(|(_, regex, _)| regex.is_match(path)).map_or(self.r, |(_, _, rank)| *rank)
    }

    /// Alpha of the module at `path`.
    pub fn alpha_for(&self, path: &str) -> f64 {
        let own = self.alpha_pattern.iter().find(|(_, regex, _)| regex.is_match(path));
        own.map_or(self.lora_alpha, |(_, _, alpha)| *alpha)
    }

    /// What every `B·A` at `path` is multiplied by.
    pub fn scaling_for(&self, path: &str) -> f64 {
        let rank = self.rank_for(path) as f64;
        self.alpha_for(path) / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// The content of `adapter_config.json`, with sorted keys as PEFT writes it.
    pub fn to_json(&self) -> String {
        let mut keys = self.source.clone();
        let targets = match &self.target_modules {
            TargetModules::Pattern(pattern) => json!(pattern),
            TargetModules::List(names) => {
                let mut names = names.clone();
                names.sort();
                json!(names)
            }
        };
        for (key, value) in [
            ("peft_type", json!("LORA")),
            ("base_model_name_or_path", json!(self.base_model)),
            ("r", json!(self.r)),
            ("lora_alpha", number(self.lora_alpha)),
            ("lora_dropout", json!(self.lora_dropout)),
            ("target_modules", targets),
            ("inference_mode", json!(true)),
        ] {
            keys.insert(key.to_owned(), value);
        }
        for (key, value) in [
            ("task_type", json!("CAUSAL_LM")),
            ("bias", json!("none")),
            ("fan_in_fan_out", json!(false)),
            ("init_lora_weights", json!(true)),
        ] {
            keys.entry(key).or_insert(value);
        }
        let saved = if self.modules_to_save.is_empty() { Value::Null } else { json!(self.modules_to_save) };
        keys.insert("modules_to_save".to_owned(), saved);
        for (key, value) in [("use_rslora", self.use_rslora), ("use_dora", self.use_dora)] {
            if value || keys.contains_key(key) {
                keys.insert(key.to_owned(), json!(value));
            }
        }
        keys.sort_keys();
        format!("{:#}", Value::Object(keys))
    }
}

/// PEFT takes a float for alpha, other readers only whole numbers.
fn number(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 1e15 { json!(x as i64) } else { json!(x) }
}

fn damaged(how: impl std::fmt::Display) -> Fault {
    Fault::new("PS-MODEL-005", format!("`adapter_config.json` makes no sense: {how}."))
}

fn rank(key: &str, value: &Value) -> Result<usize> {
    let n = value.as_u64().and_then(|n| usize::try_from(n).ok());
    n.filter(|n| (1..=RANK).contains(n))
        .ok_or_else(|| damaged(format!("`{key}` is {value}, not a rank from 1 to {RANK}")))
}

fn alpha(key: &str, value: &Value) -> Result<f64> {
    let finite = value.as_f64().filter(|x| (*x as f32).is_finite());
    finite.ok_or_else(|| damaged(format!("`{key}` is {value}, not a number")))
}

/// The order of the file counts: the first key that matches a path wins.
fn pattern<T>(
    value: Option<&Value>,
    key: &str,
    read: impl Fn(&str, &Value) -> Result<T>,
) -> Result<Vec<(String, Regex, T)>> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::Object(map)) => {
            map.iter().map(|(path, value)| Ok((path.clone(), end_of_path(path)?, read(path, value)?))).collect()
        }
        Some(other) => Err(damaged(format!("`{key}` is {other}"))),
    }
}

/// Whether a value says nothing.
fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::String(_) => false,
    }
}

fn refuse(source: &Map<String, Value>) -> Result<()> {
    let refused =
        |what: String| Err(Fault::new("PS-MODEL-002", format!("This adapter uses {what}, which is not there yet.")));
    match source.get("peft_type").and_then(Value::as_str) {
        Some("LORA") => {}
        Some(other) => return refused(format!("the method `{other}`")),
        None => return Err(damaged("it does not say `peft_type`")),
    }
    match source.get("bias").and_then(Value::as_str) {
        None | Some("none") => {}
        Some(other) => return refused(format!("trained biases (`bias` is `{other}`)")),
    }
    if let Some(init) = source.get("init_lora_weights").and_then(Value::as_str) {
        let init = init.to_ascii_lowercase();
        if ["pissa", "olora", "corda", "loftq", "lora_ga"].iter().any(|name| init.starts_with(name)) {
            let detail = format!(
                "This adapter began from a base model that its initialisation `{init}` had changed: on the model as it \
                 was published it gives wrong output. Convert it to a plain adapter with the PEFT library first."
            );
            return Err(Fault::new("PS-MODEL-002", detail));
        }
    }
    for (key, value) in source.iter().filter(|(_, value)| !is_unset(value)) {
        if let Some((_, what)) = REFUSED.iter().find(|(refused, _)| refused == key) {
            return refused(format!("{what} (`{key}`)"));
        }
        let changes_maths = (key.starts_with("use_") && value == &json!(true)) || key.ends_with("_config");
        if changes_maths && !HARMLESS.contains(&key.as_str()) {
            return refused(format!("`{key}`, a setting of a later version of PEFT"));
        }
    }
    Ok(())
}
