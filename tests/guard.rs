//! Runs in trouble: what is planted is found, what is found is acted upon, and healthy runs are left alone.

#[path = "guard/campaign.rs"]
mod campaign;
#[path = "guard/card.rs"]
mod card;
#[path = "guard/faults.rs"]
mod faults;
#[path = "guard/poison.rs"]
mod poison;
#[path = "guard/reactions.rs"]
mod reactions;
#[path = "guard/scores.rs"]
mod scores;
#[path = "guard/world.rs"]
mod world;
