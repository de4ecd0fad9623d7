//! Preference tuning (DPO, ORPO, KTO): the same steps as TRL, exact resumes, models that learn what is preferred.

#[path = "preference/golden.rs"]
mod golden;
