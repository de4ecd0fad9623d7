//! Preference tuning (DPO, ORPO, KTO): the same steps as TRL, exact resumes, models that learn what is preferred.

#[path = "preference/golden.rs"]
mod golden;
#[path = "preference/learning.rs"]
mod learning;
#[path = "preference/passes.rs"]
mod passes;
#[path = "preference/program.rs"]
mod program;
#[path = "training/tiny.rs"]
#[expect(dead_code, reason = "shared with the tests of training")]
mod tiny;
