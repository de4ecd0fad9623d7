//! What is talked to: a model, a model with an adapter, a run, one of its checkpoints, or the run while it lives.

use crate::cli::args::ChatArgs;
use crate::cli::context::Context;
use crate::cli::evaluate::answering;
use crate::cli::export::{Source, source_of_run};
use crate::cli::output;
use crate::jobs::answer::Answerer;
use crate::jobs::live::{LiveRun, is_live};
use crate::jobs::model::spelled;
use crate::jobs::{kept, open_model, run::find};
use peft_models::base::BaseModel;
use peft_models::engine::{Engine, Quantization, answer_memory};
use peft_models::peft_format::{AdapterFile, read_adapter};
use peft_plan::{AnswerMemory, Fault, Method, Result, RunConfig, TrainingPlan};
use peft_storage::{Run, Store};
use std::cell::OnceCell;
use std::path::PathBuf;

/// Which adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Adapter {
    None,
    Folder(PathBuf),
    /// One that the run kept: a step, `best` or `last`.
    Kept(String),
}

/// What is talked to.
pub(crate) struct Partner {
    pub(crate) model: String,
    adapter: Adapter,
    template: Option<String>,
    pub(crate) system: Option<String>,
    quantize: Option<Quantization>,
    /// What is computed in, as `--precision` spells it.
    precision: String,
    /// Whether keys and values are kept in eight bits.
    eight_bit_cache: bool,
    run: Option<Run>,
    live: bool,
}

/// Who answers.
pub(crate) enum Voice<'a> {
    /// A model in this process.
    Loaded(Box<Answerer<'a>>),
    /// A run in another.
    Live(Box<LiveRun<'a>>),
}

impl Voice<'_> {
    pub(crate) fn is_live(&self) -> bool {
        matches!(self, Self::Live(_))
    }
}

fn plan_of(run: &Run) -> Option<TrainingPlan> {
    serde_json::from_value(run.plan.clone()).ok()
}

impl Partner {
    pub(crate) fn find(store: Option<&Store>, args: &ChatArgs) -> Result<Self> {
        let (precision, eight_bit_cache) = (args.precision.clone(), args.kv_cache == "int8");
        if let (Some(name), Some(store)) = (&args.run, store) {
            return Ok(Self {
                precision,
                eight_bit_cache,
                ..Self::of_run(find(store, name)?, args.checkpoint.as_deref())?
            });
        }
        let Some(model) = &args.model else {
            return Err(super::impossible("Say what to talk to: `--run RUN`, or `--model MODEL`"));
        };
        Ok(Self { precision, eight_bit_cache, ..Self::of_model(model.clone(), args.adapter.clone()) })
    }

    /// A model, with or without an adapter.
    pub(crate) fn of_model(model: String, adapter: Option<PathBuf>) -> Self {
        let adapter = adapter.map_or(Adapter::None, Adapter::Folder);
        let precision = "auto".to_owned();
        Self {
            model,
            adapter,
            template: None,
            system: None,
            quantize: None,
            precision,
            eight_bit_cache: false,
            run: None,
            live: false,
        }
    }

    /// What a run has to say.
    pub(crate) fn of_run(run: Run, checkpoint: Option<&str>) -> Result<Self> {
        let config = RunConfig::from_value(run.config.clone())?;
        let plan = plan_of(&run);
        let quantize = plan.as_ref().and_then(Quantization::of_plan);
        let live = is_live(&run) && checkpoint.is_none();
        let mut partner = Self {
            model: spelled(&config.model),
            adapter: Adapter::Kept(checkpoint.unwrap_or("last").to_owned()),
            template: config.dataset.chat_template,
            system: config.dataset.system_prompt,
            quantize,
            precision: "auto".to_owned(),
            eight_bit_cache: false,
            run: None,
            live,
        };
        if checkpoint.is_none() && !live {
            match source_of_run(&run) {
                Ok(Source { model, adapter, quantize }) => {
                    partner.model = model;
                    partner.adapter = adapter.map_or(Adapter::None, Adapter::Folder);
                    partner.quantize = quantize;
                }
                // Not finished, but it kept something.
                Err(_) if !kept::list(&run).is_empty() => {}
                Err(fault) => return Err(fault),
            }
        }
        partner.run = Some(run);
        Ok(partner)
    }

    /// Look again at what the run is now.
    pub(crate) fn refresh(&mut self, store: Option<&Store>) -> Result<()> {
        let (Some(run), Some(store)) = (&self.run, store) else { return Ok(()) };
        *self = Self {
            system: self.system.clone(),
            precision: self.precision.clone(),
            eight_bit_cache: self.eight_bit_cache,
            ..Self::of_run(store.get_run(&run.id)?, None)?
        };
        Ok(())
    }

    /// Whether there is anything besides the base.
    pub(crate) fn is_tuned(&self) -> bool {
        self.live || self.adapter != Adapter::None
    }

    /// Whether the base is still there to compare with.
    pub(crate) fn has_base(&self) -> bool {
        let is_full = self.run.as_ref().and_then(plan_of).is_some_and(|plan| plan.method == Method::Full);
        !is_full
    }

    pub(crate) fn run(&self) -> Option<&Run> {
        self.run.as_ref()
    }

    pub(crate) fn run_id(&self) -> Option<String> {
        self.run.as_ref().map(|run| run.id.to_string())
    }

    pub(crate) fn adapter_path(&self) -> Option<String> {
        match &self.adapter {
            Adapter::Folder(path) => Some(std::path::absolute(path).unwrap_or(path.clone()).display().to_string()),
            Adapter::None | Adapter::Kept(_) => None,
        }
    }

    /// What answers of a model in this process take of the memory, once it is there.
    pub(crate) fn memory(&self, cell: &OnceCell<BaseModel>) -> Option<AnswerMemory> {
        let base = cell.get()?;
        Some(answer_memory(base, self.quantize, base.spec().max_positions, self.eight_bit_cache))
    }

    /// Load the model, or find the run that has it loaded.
    pub(crate) fn voice<'a>(
        &self,
        context: &Context,
        store: Option<&'a Store>,
        cell: &'a OnceCell<BaseModel>,
    ) -> Result<Voice<'a>> {
        if let (true, Some(run), Some(store)) = (self.live, &self.run, store) {
            return Ok(Voice::Live(Box::new(LiveRun::new(store, run.clone()))));
        }
        let base = self.base(cell)?;
        let engine = answering(&Engine::open(&context.backend, context.threads)?, &self.precision);
        let engine = engine.with_eight_bit_cache(self.eight_bit_cache)?;
        let adapter = match &self.adapter {
            Adapter::None => None,
            Adapter::Folder(path) => Some(read_adapter(path)?),
            Adapter::Kept(which) => Some(self.kept(base, which)?),
        };
        let session = engine.session_with(base, adapter.as_ref(), self.quantize)?;
        Ok(Voice::Loaded(Box::new(Answerer::new(base, session, self.template.as_deref(), None)?)))
    }

    fn base<'a>(&self, cell: &'a OnceCell<BaseModel>) -> Result<&'a BaseModel> {
        if let Some(base) = cell.get() {
            return Ok(base);
        }
        let opened = open_model(&self.model)?;
        Ok(cell.get_or_init(|| opened))
    }

    fn kept(&self, base: &BaseModel, which: &str) -> Result<AdapterFile> {
        let Some(run) = &self.run else {
            return Err(super::impossible("Only a run has checkpoints; start with `--run RUN`"));
        };
        let (adapter, words) = kept::read(base, run, which)?;
        output::note(&format!("Talking to {words}"));
        Ok(adapter)
    }

    /// Talk to another checkpoint from here on. A live run's process is left to its work: the model is loaded here.
    pub(crate) fn switch<'a>(
        &mut self,
        context: &Context,
        store: Option<&'a Store>,
        cell: &'a OnceCell<BaseModel>,
        voice: &mut Voice<'a>,
        which: &str,
    ) -> Result<()> {
        if let Voice::Loaded(answerer) = voice {
            let adapter = self.kept(self.base(cell)?, which)?;
            answerer.switch_adapter(Some(&adapter))?;
            self.adapter = Adapter::Kept(which.to_owned());
            return Ok(());
        }
        let before = (std::mem::replace(&mut self.adapter, Adapter::Kept(which.to_owned())), self.live);
        self.live = false;
        match self.voice(context, store, cell) {
            Ok(loaded) => {
                *voice = loaded;
                Ok(())
            }
            Err(fault) => {
                (self.adapter, self.live) = before;
                Err(fault)
            }
        }
    }

    /// PS-CFG-001 where there is no run.
    pub(crate) fn run_or_fault(&self) -> Result<&Run> {
        self.run().ok_or_else(|| Fault::new("PS-CFG-001", "Only a run has checkpoints; start with `--run RUN`"))
    }
}
