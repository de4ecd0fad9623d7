//! Smart defaults: every value that was not given, each with its reason in one sentence and its source (S4.2).
//!
//! They depend on the installed hardware, the model and the data: never on a timing, and on the memory that is free
//! at the moment only where the run would not fit. What was given is never changed.

mod fit;

use crate::config::{Method, RunConfig, Scheduler, TargetModules, TrainOn};
use crate::facts::Facts;
use crate::fault::Result;
use crate::preference::Objective;
use crate::profile::{self, Profile};
use crate::resolve::{Arithmetic, build, default_sequence_length, default_validation_split};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who decided a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// It was given.
    You,
    /// The profile.
    Profile,
    /// What the data is like.
    Data,
    /// What the model is like.
    Model,
    /// What the machine can do.
    Hardware,
}

/// One value and why it is what it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reasoned {
    /// Where it is in the run file, e.g. `training.epochs`.
    pub key: String,
    /// What it is.
    pub value: Value,
    /// Why, in one sentence.
    pub reason: String,
    /// Who decided it.
    pub source: Source,
}

/// A completed configuration.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// With nothing left open that the planner decides.
    pub config: RunConfig,
    /// Every value with its reason.
    pub values: Vec<Reasoned>,
}

/// Fills one configuration.
struct Filler<'a> {
    config: RunConfig,
    values: Vec<Reasoned>,
    profile: Option<(&'static Profile, RunConfig)>,
    facts: &'a Facts<'a>,
}

impl Filler<'_> {
    /// The value at `slot`: given, or the profile's, or `default`.
    fn pick<T: Clone + Serialize>(
        &mut self,
        key: &str,
        slot: fn(&mut RunConfig) -> &mut Option<T>,
        default: impl FnOnce() -> (T, Source, String),
    ) -> T {
        let suggested = self.profile.as_mut().and_then(|(profile, config)| {
            let reason = profile.reasons.get(key).cloned();
            let reason = reason.unwrap_or_else(|| format!("Where the profile {} starts.", profile.name));
            Some((slot(config).clone()?, Source::Profile, reason))
        });
        self.decide(key, slot, || suggested.unwrap_or_else(default))
    }

    /// The value at `slot`: given, or `default`, whatever the profile says.
    fn decide<T: Clone + Serialize>(
        &mut self,
        key: &str,
        slot: fn(&mut RunConfig) -> &mut Option<T>,
        default: impl FnOnce() -> (T, Source, String),
    ) -> T {
        let (value, source, reason) = match slot(&mut self.config) {
            Some(given) => (given.clone(), Source::You, "You gave this value.".to_owned()),
            None => default(),
        };
        *slot(&mut self.config) = Some(value.clone());
        self.note(key, &value, source, reason);
        value
    }

    /// A value and its reason; what was noted of the same key before is replaced.
    fn note(&mut self, key: &str, value: &impl Serialize, source: Source, reason: String) {
        let value = serde_json::to_value(value).expect("a setting is plain data");
        let entry = Reasoned { key: key.to_owned(), value, reason, source };
        match self.values.iter_mut().find(|v| v.key == key) {
            Some(old) => *old = entry,
            None => self.values.push(entry),
        }
    }

    fn is_given(&self, key: &str) -> bool {
        self.values.iter().any(|v| v.key == key && v.source == Source::You)
    }
}

/// Complete `config`: what was left out is chosen for these facts.
pub fn fill(config: &RunConfig, facts: &Facts) -> Result<Defaults> {
    let profile = match &config.use_case {
        Some(name) => {
            let profile = profile::find(name)?;
            Some((profile, profile.config()?))
        }
        None => None,
    };
    let mut f = Filler { config: config.clone(), values: Vec::new(), profile, facts };
    if let Some((profile, _)) = &f.profile {
        let (id, name) = (profile.id.clone(), profile.name.clone());
        f.note("use_case", &id, Source::You, format!("You chose the profile {name}."));
    }
    data(&mut f);
    adapter(&mut f);
    length(&mut f);
    batch(&mut f);
    rates(&mut f);
    saving(&mut f);
    fit::reduce(&mut f)?;
    cadence(&mut f)?;
    Ok(Defaults { config: f.config, values: f.values })
}

/// What products are rounded to, where they are computed fastest like that.
fn precision(fastest: Arithmetic) -> (&'static str, &'static str) {
    match fastest {
        Arithmetic::F32 => ("f32", "This processor computes fastest in 32 bits, which needs no scaling of the loss."),
        Arithmetic::Bf16 => (
            "bf16",
            "This processor multiplies pairs of bf16 faster than 32 bits; sums and everything else keep 32 bits.",
        ),
    }
}

fn data(f: &mut Filler) {
    let rows = f.facts.data.rows;
    f.pick(
        "dataset.validation_split",
        |c| &mut c.dataset.validation_split,
        || {
            let reason = if rows < 40 {
                format!("With {rows} rows every one is needed for training, so none is held out.")
            } else if rows > 5000 {
                "500 held-out rows measure the result well enough; the others are for training.".to_owned()
            } else {
                "A tenth of the rows is held out to see whether what is learnt also holds for new questions.".to_owned()
            };
            (default_validation_split(rows), Source::Data, reason)
        },
    );
    f.pick(
        "training.objective",
        |c| &mut c.training.objective,
        || {
            (
                "sft".to_owned(),
                Source::Data,
                "The rows hold questions with one answer each, which is learnt as it is.".to_owned(),
            )
        },
    );
    f.pick(
        "training.train_on",
        |c| &mut c.training.train_on,
        || {
            (
                TrainOn::Assistant,
                Source::Data,
                "Only the answers are learnt; the questions are read, not imitated.".to_owned(),
            )
        },
    );
}

fn adapter(f: &mut Filler) {
    let stored = f.facts.stored_in_4bit;
    let parameters = f.facts.spec.parameters();
    let rows = f.facts.data.rows;
    let objective = Objective::of(&f.config);
    let method = f.pick("adapter.method", |c| &mut c.adapter.method, || {
        if stored {
            (Method::Qlora, Source::Model, "The model is stored in 4 bit, so the adapter is trained on top of that.".to_owned())
        } else {
            let reason = "A small adapter on the model as it is: close to training everything, for a fraction of the memory.";
            (Method::Lora, Source::Model, reason.to_owned())
        }
    });
    if method != Method::Full {
        let rank = f.pick(
            "adapter.rank",
            |c| &mut c.adapter.rank,
            || {
                if rows >= 50_000 {
                    (32, Source::Data, format!("{rows} rows hold more than a small adapter can take in."))
                } else {
                    (16, Source::Model, "Rank 16 has room for most tasks; a larger one mostly costs memory.".to_owned())
                }
            },
        );
        f.pick(
            "adapter.alpha",
            |c| &mut c.adapter.alpha,
            || (2.0 * rank as f64, Source::Model, "Twice the rank: the usual strength of an adapter.".to_owned()),
        );
        f.pick(
            "adapter.dropout",
            |c| &mut c.adapter.dropout,
            || {
                (
                    0.0,
                    Source::Data,
                    "Nothing is left out at random; held-out rows show if that becomes necessary.".to_owned(),
                )
            },
        );
        f.pick(
            "adapter.use_rslora",
            |c| &mut c.adapter.use_rslora,
            || (false, Source::Model, "Ranks below 64 do not need rank-stabilised scaling.".to_owned()),
        );
        f.pick(
            "adapter.target_modules",
            |c| &mut c.adapter.target_modules,
            || {
                let all = TargetModules::Pattern("all-linear".to_owned());
                (
                    all,
                    Source::Model,
                    "Adapters on every linear module come closest to training the whole model.".to_owned(),
                )
            },
        );
    }
    f.pick(
        "training.learning_rate",
        |c| &mut c.training.learning_rate,
        || match method {
            Method::Full => (2e-5, Source::Model, "Where every weight moves, steps must be small.".to_owned()),
            _ if objective.is_preference() => {
                let reason = "Comparing answers takes far smaller steps than copying them.";
                (objective.learning_rate(), Source::Model, reason.to_owned())
            }
            _ if parameters > 13_000_000_000 => {
                (1e-4, Source::Model, "Large models learn with smaller steps.".to_owned())
            }
            _ => (2e-4, Source::Model, "A common rate for adapters on models of this size.".to_owned()),
        },
    );
}

/// How many of `lengths` are longer than `most`.
fn longer(lengths: &[usize], most: usize) -> usize {
    lengths.iter().filter(|&&l| l > most).count()
}

fn length(f: &mut Filler) {
    let Facts { spec, lengths, .. } = *f.facts;
    let longest = lengths.iter().copied().max().unwrap_or(0);
    // The limit holds for each sequence; an example that compares has two.
    let sequences = if Objective::of(&f.config).is_preference() { 2 } else { 1 };
    let profiled = f.profile.as_ref().and_then(|(_, c)| c.training.max_sequence_length);
    // Longer only where the data asks for it: more than one example in twenty would lose its end.
    let mut most = profiled.unwrap_or(2048);
    while most < 4096 && longer(lengths, most * sequences) * 20 > lengths.len() {
        most *= 2;
    }
    f.decide(
        "training.max_sequence_length",
        |c| &mut c.training.max_sequence_length,
        || {
            let value = default_sequence_length(spec, longest, most);
            let cut = longer(lengths, value * sequences);
            let (source, reason) = if cut == 0 {
                (Source::Data, format!("The longest example has {longest} tokens, so nothing is cut."))
            } else if value == spec.max_positions {
                (
                    Source::Model,
                    format!("The model reads at most {value} tokens; {cut} of {} examples are cut.", lengths.len()),
                )
            } else if profiled == Some(most) {
                (
                    Source::Profile,
                    format!("The profile reads {value} tokens together; {cut} of {} examples are cut.", lengths.len()),
                )
            } else {
                (
                    Source::Data,
                    format!(
                        "{cut} of {} examples are longer and lose their end; more would cost much memory.",
                        lengths.len()
                    ),
                )
            };
            (value, source, reason)
        },
    );
    f.pick(
        "training.packing",
        |c| &mut c.training.packing,
        || {
            let reason = "Batches have no padding here, so filling rows with several examples would save nothing.";
            (false, Source::Data, reason.to_owned())
        },
    );
}

fn batch(f: &mut Filler) {
    let most = f.config.training.max_sequence_length.unwrap_or(2048);
    let packing = f.config.training.packing.unwrap_or(false);
    let examples = f.facts.lengths.len();
    let objective = Objective::of(&f.config);
    let limit = most * if objective.is_preference() { 2 } else { 1 };
    let tokens: usize = f.facts.lengths.iter().map(|&l| l.min(limit)).sum();
    let average = (tokens / examples.max(1)).max(1);
    let row = if packing { most } else { average };
    let micro = f.pick(
        "training.micro_batch_size",
        |c| &mut c.training.micro_batch_size,
        || {
            // About 1,000 tokens keep every product busy; more only costs memory.
            let value = (1024 / row).clamp(1, 16);
            let reason =
                format!("{value} examples of about {row} tokens keep the processor busy; more would only cost memory.");
            (value, Source::Hardware, reason)
        },
    );
    // Sixteen examples a step, fewer where the data is so small that an epoch would have fewer than 16 steps.
    let goal = (examples / 16).clamp(1, 16);
    f.pick(
        "training.gradient_accumulation",
        |c| &mut c.training.gradient_accumulation,
        || {
            let value = goal.div_ceil(micro);
            let reason = if goal < 16 {
                format!("{} examples a step, so that {examples} examples make enough steps.", value * micro)
            } else {
                format!("{} examples a step make corrections steady.", value * micro)
            };
            (value, Source::Data, reason)
        },
    );
}

fn rates(f: &mut Filler) {
    let rows = f.facts.data.rows;
    let fastest = f.facts.machine.map_or(Arithmetic::F32, |machine| machine.fastest);
    let copies = f.facts.data.duplicates;
    let epochs = f.pick(
        "training.epochs",
        |c| &mut c.training.epochs,
        || {
            let (value, reason) = match rows {
                100_000.. => (1.0, format!("{rows} rows teach enough in one pass.")),
                20_000.. => (2.0, format!("{rows} rows teach enough in two passes.")),
                _ => (3.0, "Three passes learn the examples without repeating them by heart.".to_owned()),
            };
            (value, Source::Data, reason)
        },
    );
    // Copies count as further passes over the same example.
    if !f.is_given("training.epochs") && rows > 0 && copies * 3 >= rows && epochs > 1.0 {
        let value = (epochs - 1.0).max(1.0);
        f.config.training.epochs = Some(value);
        let reason = format!("{copies} of {rows} rows repeat others, so one pass less shows each as often.");
        f.note("training.epochs", &value, Source::Data, reason);
    }
    if f.config.training.max_steps.is_some() {
        f.decide("training.max_steps", |c| &mut c.training.max_steps, || (1, Source::You, String::new()));
    }
    f.pick(
        "training.scheduler",
        |c| &mut c.training.scheduler,
        || {
            (
                Scheduler::Cosine,
                Source::Model,
                "The rate falls gently to nothing, which settles what was learnt.".to_owned(),
            )
        },
    );
    let warmup = Objective::of(&f.config).warmup_ratio();
    f.pick(
        "training.warmup_ratio",
        |c| &mut c.training.warmup_ratio,
        || {
            (
                warmup,
                Source::Model,
                "The first steps are small, while the optimizer learns the size of the gradients.".to_owned(),
            )
        },
    );
    f.pick(
        "training.weight_decay",
        |c| &mut c.training.weight_decay,
        || (0.01, Source::Model, "A gentle pull towards small values.".to_owned()),
    );
    f.pick(
        "training.adam_beta2",
        |c| &mut c.training.adam_beta2,
        || (0.999, Source::Model, "The optimizer's usual memory of the size of gradients.".to_owned()),
    );
    f.pick(
        "training.optimizer",
        |c| &mut c.training.optimizer,
        || ("adamw".to_owned(), Source::Model, "The usual optimizer for adapters.".to_owned()),
    );
    f.pick(
        "training.max_gradient_norm",
        |c| &mut c.training.max_gradient_norm,
        || (1.0, Source::Model, "A single odd batch cannot move the adapter far.".to_owned()),
    );
    f.pick(
        "training.precision",
        |c| &mut c.training.precision,
        || {
            let (precision, reason) = precision(fastest);
            (precision.to_owned(), Source::Hardware, reason.to_owned())
        },
    );
    f.pick(
        "training.activation_checkpointing",
        |c| &mut c.training.activation_checkpointing,
        || (false, Source::Hardware, "What a pass computes fits in memory, so nothing is computed twice.".to_owned()),
    );
    f.pick(
        "training.kept_layers",
        |c| &mut c.training.kept_layers,
        || (0, Source::Hardware, "Says something only where layers are computed twice.".to_owned()),
    );
    f.pick(
        "training.offloaded_layers",
        |c| &mut c.training.offloaded_layers,
        || (0, Source::Hardware, "What a pass computes stays where it is computed.".to_owned()),
    );
    f.pick(
        "training.decoded_layers",
        |c| &mut c.training.decoded_layers,
        || (0, Source::Hardware, "Weights are decoded when they are multiplied with.".to_owned()),
    );
    f.pick(
        "training.decode_ahead",
        |c| &mut c.training.decode_ahead,
        || (false, Source::Hardware, "Nothing would be faster by it.".to_owned()),
    );
    f.pick(
        "training.seed",
        |c| &mut c.training.seed,
        || (42, Source::Model, "Any number; the same one repeats the same run.".to_owned()),
    );
}

fn saving(f: &mut Filler) {
    f.pick(
        "checkpoint.every_seconds",
        |c| &mut c.checkpoint.every_seconds,
        || (60.0, Source::Hardware, "At most a minute of work is lost, whatever happens.".to_owned()),
    );
    f.pick(
        "checkpoint.keep",
        |c| &mut c.checkpoint.keep,
        || {
            (
                2,
                Source::Hardware,
                "The newest full state and the one before it; the small adapters of all others stay.".to_owned(),
            )
        },
    );
    f.pick(
        "guards.memory_limit_fraction",
        |c| &mut c.guards.memory_limit_fraction,
        || (0.9, Source::Hardware, "A tenth of the memory stays for the system and other programs.".to_owned()),
    );
}

/// What depends on the number of steps, and so on everything before.
fn cadence(f: &mut Filler) -> Result<()> {
    if f.config.adapter.method.is_some_and(Method::is_quantized) {
        let stored = f.facts.stored_in_4bit;
        f.pick(
            "quantization.format",
            |c| &mut c.quantization.format,
            || {
                let reason = if stored {
                    "The checkpoint brings its own 4-bit format."
                } else {
                    "NF4 suits weights best of the 4-bit formats."
                };
                ("nf4".to_owned(), Source::Model, reason.to_owned())
            },
        );
        f.pick(
            "quantization.double_quantization",
            |c| &mut c.quantization.double_quantization,
            || {
                (
                    true,
                    Source::Hardware,
                    "The scales are stored in 8 bit too, which costs no quality and saves memory.".to_owned(),
                )
            },
        );
    }
    let steps = build(&f.config, f.facts)?.total_steps;
    let held_out = f.facts.data.held_out.len();
    f.pick(
        "evaluation.every_steps",
        |c| &mut c.evaluation.every_steps,
        || {
            let reason = match held_out {
                0 => format!("Nothing is held out, so nothing is measured during the {steps} steps."),
                n => format!("Ten looks at the {n} held-out rows during {steps} steps show where learning goes."),
            };
            (steps.div_ceil(10).max(1), Source::Data, reason)
        },
    );
    Ok(())
}

#[cfg(test)]
mod tests;
