//! Pieces that views are made of.

pub mod button;
pub mod card;
pub mod chart;
pub mod chooser;
pub mod curve;
pub mod empty;
pub mod field;
pub mod markdown;
pub mod problem_card;
pub mod status;
