//! What is around the pages: rail, bars, messages, and what keys and drops mean.

pub mod broken;
pub mod closing;
pub mod confirm;
pub mod drops;
pub mod rail;
pub mod run_strip;
pub mod shortcuts;
pub mod toasts;
pub mod top_bar;
pub mod window_icon;
