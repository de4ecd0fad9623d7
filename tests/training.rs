//! Training as a whole, on models of a few thousand weights: what a step computes, what a run leaves, what a
//! resumed run repeats.

#[path = "training/emulated.rs"]
mod emulated;
#[path = "training/gradients.rs"]
mod gradients;
#[path = "training/graphs.rs"]
mod graphs;
#[path = "training/learning.rs"]
mod learning;
#[path = "training/merged.rs"]
mod merged;
#[path = "training/offload.rs"]
mod offload;
#[path = "training/options.rs"]
mod options;
#[path = "training/resumed.rs"]
mod resumed;
#[path = "training/rounded.rs"]
mod rounded;
#[path = "training/sampled.rs"]
mod sampled;
#[path = "training/steps.rs"]
mod steps;
#[path = "training/tiny.rs"]
mod tiny;
