//! Everything before the first step: model, data, rendered examples, complete plan.

use super::facts::{RunFacts, machine};
use super::model::spelled;
use super::open_model;
use super::sources::{self, Sourced};
use crate::cli::context::Context;
use peft_data::{BadLine, Dataset, ReadOptions, Split};
use peft_models::base::BaseModel;
use peft_models::peft_format::matches;
use peft_models::prepare::{Cut, CutPairs, Prepared, PreparedPairs, render, render_pairs};
use peft_models::train::{SamplePrompt, Tokens};
use peft_plan::{
    Example, Fault, Method, Objective, Result, Row, RunConfig, TargetModules, TrainOn, TrainingPlan, defaults, resolve,
    tools_of,
};
use peft_text::{ChatTemplate, RenderOptions};
use std::path::PathBuf;

/// A run, ready to start.
pub struct Setup {
    /// The base.
    pub base: BaseModel,
    /// The complete plan.
    pub plan: TrainingPlan,
    /// Training examples.
    pub train: Vec<Tokens>,
    /// Held-out examples.
    pub validation: Vec<Tokens>,
    /// Examples cut to the sequence length.
    pub truncated: u64,
    /// Examples left out because nothing was left to learn.
    pub dropped: u64,
    /// Hash of the data, as read.
    pub dataset_hash: String,
    /// Bytes of its files.
    pub data_bytes: u64,
    /// Path, length and SHA-256 of every file of the data, as read.
    pub data_files: Vec<(PathBuf, u64, String)>,
    /// What the reader noticed, for people.
    pub notes: Vec<String>,
    /// The configuration, completed by the planner.
    pub config: RunConfig,
    /// What the plan was made from; `None` where it was taken as it was.
    pub facts: Option<RunFacts>,
    /// Prompts answered at each evaluation.
    pub samples: Vec<SamplePrompt>,
    /// The first row of the data that asks something.
    pub first_question: Option<Example>,
    /// Where the rows are, as people find them.
    pub places: Places,
}

/// The date that templates print.
const DATE: &str = "2024-07-26";

/// The data of a configuration.
pub fn read_data(config: &RunConfig) -> Result<Sourced> {
    let options = ReadOptions {
        format: config.dataset.format.clone(),
        columns: config.dataset.columns.clone().unwrap_or_default(),
        system_prompt: config.dataset.system_prompt.clone(),
        on_bad_line: BadLine::Fail,
    };
    sources::read(config, &options)
}

/// Bytes of the files of a configuration's data; what cannot be asked counts nothing.
pub fn data_bytes(config: &RunConfig) -> u64 {
    config.dataset_paths().iter().filter_map(|path| std::fs::metadata(path).ok()).map(|data| data.len()).sum()
}

/// How rows become tokens under a configuration: the same for training, scoring and chat.
pub fn render_options(
    base: &BaseModel,
    template: Option<&str>,
    train_on: TrainOn,
    system_prompt: Option<&str>,
) -> Result<RenderOptions> {
    let template = ChatTemplate::resolve(template.unwrap_or("auto"), base.tokenizer())?;
    // Templates that print today's date must print the same one on every resume.
    let mut options = RenderOptions::new(template, DATE);
    options.train_on = train_on;
    options.system_prompt = system_prompt.map(str::to_owned);
    Ok(options)
}

/// Open, read, render and resolve. `frozen`: the plan of a run that is resumed; it is taken as it is.
pub fn prepare(config: &RunConfig, context: &Context, frozen: Option<TrainingPlan>) -> Result<Setup> {
    resolve::check(config)?;
    let base = open_model(&spelled(&config.model))?;
    let Sourced { dataset, weights: sources, notes: found } = read_data(config)?;
    let dataset_hash = peft_data::dataset_hash(&dataset.files);
    let data_bytes = data_bytes(config);
    let data_files = dataset.files.iter().map(|f| (f.path.clone(), f.bytes, f.sha256.clone())).collect();
    let mut notes = found;
    notes.extend(dataset.files.iter().flat_map(|f| f.notes.iter().cloned()));
    if let Some(first) = dataset.rejected.first() {
        let n = dataset.rejected.len();
        notes.push(format!("{n} rows were left out, the first on line {}: {}", first.line, first.reason));
    }
    let fraction = match (&frozen, config.dataset.validation_split) {
        (Some(plan), _) => plan.validation_split,
        (None, Some(fraction)) => fraction,
        (None, None) => resolve::default_validation_split(dataset.rows.len()),
    };
    let seed = config.training.seed.unwrap_or(42);
    let objective = Objective::of(config);
    let selected = peft_data::select(&dataset.rows, &peft_data::split(&dataset.rows, fraction, seed), objective)?;
    notes.extend(selected.notes);
    let Split { train, validation } = selected.split;
    let train_on = config.training.train_on.unwrap_or(TrainOn::Assistant);
    let options = render_options(
        &base,
        config.dataset.chat_template.as_deref(),
        train_on,
        config.dataset.system_prompt.as_deref(),
    )?;
    let samples = super::samples::prompts(config, &base, &dataset.rows, &validation)?;
    let first_question = super::samples::first_question(&dataset.rows);
    let train_rows = train;
    let train = Ready::new(&base, &dataset.rows, &train_rows, &options, objective)?;
    let offers = |row: &&Row| matches!(&row.example, Example::Messages(turns) if !tools_of(turns).is_empty());
    let offering = dataset.rows.iter().filter(offers).count();
    if offering > 0 && !options.template.writes_tools() {
        notes.push(format!(
            "{offering} rows describe tools, and the chat layout does not write such descriptions: they are not learnt from"
        ));
    }
    let validation = Ready::new(&base, &dataset.rows, &validation, &options, objective)?;
    let (mut completed, mut gathered) = (config.clone(), None);
    let mut plan = if let Some(plan) = frozen {
        plan
    } else {
        let weights = resolve::weights_of(&sources, train_rows.iter().map(|&row| row as u32));
        let known = RunFacts { weights, ..RunFacts::of(&base, config, &dataset.rows, &train, &validation)? };
        let machine = machine(context);
        let facts = known.facts(context.threads, machine);
        completed = defaults::fill(config, &facts)?.config;
        let plan = TrainingPlan { sources, ..resolve::build(&completed, &facts)? };
        gathered = Some(known);
        plan
    };
    check_targets(&plan, &base)?;
    let excluded = &mut plan.guards.exclude_rows;
    excluded.extend(excluded_rows(&config.guards.exclude_rows, &dataset)?);
    excluded.sort_unstable();
    excluded.dedup();
    let is_kept = |t: &Tokens| plan.guards.exclude_rows.binary_search(&t.row).is_err();
    let Cut { examples: train, truncated, dropped } = train.cut(plan.max_sequence_length);
    let Cut { examples: mut validation, .. } = validation.cut(plan.max_sequence_length);
    // Held-out rows that are left out are not measured by either. Training rows stay where they are, so that what is
    // left of every step is the same as without.
    validation.retain(is_kept);
    if !train.is_empty() && !train.iter().any(is_kept) {
        return Err(Fault::new("PS-DATA-005", "Every row to train on is left out by `guards.exclude_rows`"));
    }
    if train.is_empty() {
        return Err(Fault::new(
            "PS-DATA-006",
            format!(
                "None of the {dropped} examples has anything left to learn within {} tokens",
                plan.max_sequence_length
            ),
        ));
    }
    if truncated > 0 {
        let how = if objective.is_preference() { "lost the beginning of their prompt" } else { "were cut" };
        notes.push(format!(
            "{truncated} examples are longer than {} tokens and {how}, keeping their stop token",
            plan.max_sequence_length
        ));
    }
    if dropped > 0 {
        notes.push(format!(
            "{dropped} examples were left out: within {} tokens nothing of their answers was left{}",
            plan.max_sequence_length,
            if objective.is_preference() { ", or no difference between them" } else { "" }
        ));
    }
    let places = Places::new(&dataset);
    Ok(Setup {
        base,
        plan,
        train,
        validation,
        truncated,
        dropped,
        dataset_hash,
        data_bytes,
        data_files,
        notes,
        config: completed,
        facts: gathered,
        samples,
        first_question,
        places,
    })
}

/// Rendered rows of either kind.
pub(super) enum Ready {
    /// Answers to copy.
    Single(Prepared),
    /// Answers to compare.
    Pairs(PreparedPairs),
}

impl Ready {
    fn new(
        base: &BaseModel,
        rows: &[Row],
        indices: &[usize],
        options: &RenderOptions,
        objective: Objective,
    ) -> Result<Self> {
        Ok(if objective.is_preference() {
            Self::Pairs(render_pairs(base, rows, indices, options, objective)?)
        } else {
            Self::Single(render(base, rows, indices, options)?)
        })
    }

    /// Tokens of every example.
    pub(super) fn lengths(&self) -> Vec<usize> {
        match self {
            Self::Single(rows) => rows.lengths(),
            Self::Pairs(rows) => rows.lengths(),
        }
    }

    /// Tokens of the first of two sequences, where examples compare.
    pub(super) fn firsts(&self) -> Vec<usize> {
        match self {
            Self::Single(_) => Vec::new(),
            Self::Pairs(rows) => rows.firsts(),
        }
    }

    /// Share of all tokens that is learnt.
    pub(super) fn learnt_share(&self) -> f64 {
        match self {
            Self::Single(rows) => rows.learnt_share(),
            Self::Pairs(rows) => rows.learnt_share(),
        }
    }

    fn cut(self, max_length: usize) -> Cut {
        match self {
            Self::Single(rows) => rows.cut(max_length),
            Self::Pairs(rows) => {
                let CutPairs { examples, truncated, dropped } = rows.cut(max_length);
                Cut { examples, truncated, dropped }
            }
        }
    }
}

/// Where rows are, for people.
#[derive(Clone, Debug, Default)]
pub struct Places {
    files: Vec<String>,
    /// File and line of every row.
    rows: Vec<(u32, u32)>,
}

impl Places {
    /// Of every row of `dataset`.
    pub fn new(dataset: &Dataset) -> Self {
        let name =
            |path: &std::path::Path| path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        Self {
            files: dataset.files.iter().map(|f| name(&f.path)).collect(),
            rows: dataset.rows.iter().map(|row| (row.file as u32, row.line as u32)).collect(),
        }
    }

    /// The number of `row`, counted from 1, with file and line.
    pub fn of(&self, row: u32) -> String {
        match self.rows.get(row as usize) {
            Some(&(file, line)) => {
                let file = self.files.get(file as usize).map_or("", String::as_str);
                format!("row {} ({file}:{line})", u64::from(row) + 1)
            }
            None => format!("row {}", u64::from(row) + 1),
        }
    }
}

/// The rows that `words` name: numbers counted from 1, or `FILE:LINE`; several in one word are separated by commas.
pub fn excluded_rows(words: &[String], dataset: &Dataset) -> Result<Vec<u32>> {
    let unknown =
        |word: &str, why: String| Err(Fault::new("PS-CFG-001", format!("`guards.exclude_rows` names `{word}`: {why}")));
    let mut found = Vec::new();
    for word in words.iter().flat_map(|w| w.split(',')).map(str::trim).filter(|w| !w.is_empty()) {
        if let Ok(number) = word.parse::<usize>() {
            if number == 0 || number > dataset.rows.len() {
                return unknown(word, format!("rows are numbered from 1 to {}", dataset.rows.len()));
            }
            found.push(number as u32 - 1);
            continue;
        }
        let Some((name, Ok(line))) = word.rsplit_once(':').map(|(name, line)| (name, line.parse::<usize>())) else {
            return unknown(word, "write the number of a row, or FILE:LINE".to_owned());
        };
        let is_it = |row: &peft_plan::Row| {
            let path = dataset.files.get(row.file).map(|f| f.path.as_path());
            row.line == line && path.is_some_and(|p| p.ends_with(name))
        };
        let here: Vec<u32> = (0..).zip(&dataset.rows).filter(|(_, row)| is_it(row)).map(|(index, _)| index).collect();
        if here.is_empty() {
            return unknown(word, "there is no row on that line".to_owned());
        }
        found.extend(here);
    }
    Ok(found)
}

/// Refuse a module that was asked for by name and is not in the model, also where others are.
fn check_targets(plan: &TrainingPlan, base: &BaseModel) -> Result<()> {
    // With an adapter to start from, its own modules count.
    let TargetModules::List(names) = &plan.target_modules else { return Ok(()) };
    if plan.method == Method::Full || plan.init_from.is_some() {
        return Ok(());
    }
    let spec = base.spec();
    let paths: Vec<String> = (0..spec.layers.len())
        .flat_map(|layer| spec.target_modules(layer).map(move |module| format!("model.layers.{layer}.{}", module.name)))
        .collect();
    for name in names {
        let one = TargetModules::List(vec![name.clone()]);
        let mut is_there = false;
        for path in &paths {
            is_there |= matches(&one, path)?;
        }
        if !is_there {
            let known = spec.target_names();
            return Err(Fault::new(
                "PS-CFG-003",
                format!("This model has no module `{name}`; its modules are {}", known.join(", ")),
            ));
        }
    }
    Ok(())
}
