//! What is said before a run against what the run then does: settings, memory, time.

#[path = "planning/answers.rs"]
mod answers;
#[path = "planning/campaigns.rs"]
mod campaigns;
#[path = "planning/card.rs"]
mod card;
#[path = "planning/machine.rs"]
mod machine;
#[path = "planning/reserved.rs"]
mod reserved;
