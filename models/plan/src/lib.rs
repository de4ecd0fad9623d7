//! The vocabulary of a run: configuration, families, schedules, events. Pure: no files, no clock,
//! no threads, no device. Everything that can be decided from values is decided here.

pub mod alternatives;
pub mod config;
pub mod conversation;
pub mod defaults;
pub mod estimate;
pub mod event;
pub mod facts;
pub mod family;
pub mod fault;
pub mod findings;
pub mod helper;
pub mod import;
pub mod judge;
pub mod lengths;
pub mod memory;
pub mod order;
pub mod preference;
pub mod preset;
pub mod profile;
pub mod quality;
pub mod remedy;
pub mod resolve;
pub mod rope;
pub mod run_view;
pub mod samples;
pub mod saved;
pub mod schedule;
pub mod settings;
pub mod spec;
pub mod zones;

pub use config::{Method, RunConfig, Scheduler, TargetModules, TrainOn};
pub use conversation::{Example, Role, Row, Turn, TurnExtra, schema_of, tools_of};
pub use event::{
    Evaluation, EventSink, Finished, GpuReading, Interval, Probe, QualityPart, Reading, RunEvent, Started, StepMetrics,
};
pub use facts::{DataFacts, Facts, MachineFacts, ModelFacts, Targets};
pub use fault::{Action, Fault, Result};
pub use memory::answers::AnswerMemory;
pub use memory::{Adapters, MemoryFacts, MemoryItem, MemoryPlan, Rows};
pub use order::OrderParams;
pub use preference::{Objective, PreferenceMetrics, PreferencePlan};
pub use quality::{Quality, assess};
pub use remedy::Remedy;
pub use resolve::{Arithmetic, GuardPlan, Optimizer, Reaction, SourceWeight, TrainingPlan};
pub use run_view::RunView;
pub use samples::SamplePlan;
pub use schedule::LrSchedule;
pub use spec::{
    Clamp, ExpertsSpec, GateActivation, LayerSpec, ModelSpec, ModuleSpec, NormPlacement, Part, QkNorm, RopeScaling,
    RopeSpec,
};
