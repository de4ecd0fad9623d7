//! What stands between a graphics card and the kernels, in plain words, before a run starts (S0.10, D7).

use super::cards::{Card, Cards};
use super::surroundings::Surroundings;
use crate::cli::quantity::bytes;
use peft_plan::Fault;
use serde::Serialize;

/// CUDA version that the driver must offer: the 12 series, and with it drivers from 525 on.
const CUDA: (i32, i32) = (12, 0);
/// First driver of that series.
const DRIVER: &str = "525";
/// Oldest cards that compute in bfloat16 and copy asynchronously.
const CAPABILITY: (u32, u32) = (8, 0);

/// What the kernels for graphics cards need, against what is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Requirement {
    /// CUDA version that the driver must offer at least.
    pub cuda: String,
    /// Driver that does.
    pub driver: String,
    /// Compute capability of the card at least.
    pub compute_capability: String,
    /// CUDA version that the driver offers.
    pub cuda_offered: Option<String>,
    /// `null` where there is no card to judge.
    pub satisfied: Option<bool>,
    /// What to do, in plain words.
    pub advice: String,
}

pub(super) fn requirement(cards: &Cards) -> Requirement {
    let text = |(major, minor): (i32, i32)| format!("{major}.{minor}");
    let (offered, satisfied, advice) = match cards {
        Cards::Found { cards, cuda } if !cards.is_empty() => {
            let driver = cuda.is_some_and(|cuda| cuda >= CUDA);
            let card = cards.iter().any(is_recent);
            let advice = match (driver, card) {
                (false, _) => format!("Update NVIDIA's driver to {DRIVER} or newer."),
                (true, false) => "Use the processor: the card is older than the kernels need.".to_owned(),
                (true, true) => "Nothing: driver and card are recent enough.".to_owned(),
            };
            (cuda.map(text), Some(driver && card), advice)
        }
        _ => (None, None, "Nothing: the processor is used.".to_owned()),
    };
    Requirement {
        cuda: text(CUDA),
        driver: DRIVER.to_owned(),
        compute_capability: format!("{}.{}", CAPABILITY.0, CAPABILITY.1),
        cuda_offered: offered,
        satisfied,
        advice,
    }
}

fn is_recent(card: &Card) -> bool {
    let parsed = card.compute_capability.as_deref().and_then(|text| {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    parsed.is_some_and(|capability| capability >= CAPABILITY)
}

/// Everything that stands in the way; the processor can be used in any case.
pub(super) fn problems(cards: &Cards, system: &Surroundings) -> Vec<Fault> {
    let mut found = Vec::new();
    match cards {
        Cards::Unasked { reason, mismatch, .. } => {
            if *mismatch {
                found.push(Fault::new("PS-HW-003", format!("{reason}, as after an update without a restart.")));
            } else if !system.has_device_files && !system.has_dxg && (system.wsl || hides_a_card(system)) {
                let place = system.container.as_deref().unwrap_or("WSL");
                let detail = format!("This program runs inside {place}, which shows it no graphics card: {reason}.");
                found.push(Fault::new("PS-HW-008", detail));
            }
        }
        Cards::Found { cards, cuda } => {
            if let Some((major, minor)) = cuda.filter(|cuda| *cuda < CUDA && !cards.is_empty()) {
                let driver = cards[0].driver.as_deref().unwrap_or("installed");
                let detail = format!(
                    "The driver {driver} offers CUDA {major}.{minor}; the kernels for graphics cards need {}.{}.",
                    CUDA.0, CUDA.1
                );
                found.push(Fault::new("PS-HW-002", detail));
            }
            for card in cards {
                if let Some(capability) = &card.compute_capability
                    && !is_recent(card)
                {
                    let detail = format!(
                        "{} has compute capability {capability}; training in 4 bit needs {}.{} or newer.",
                        card.name, CAPABILITY.0, CAPABILITY.1
                    );
                    found.push(Fault::new("PS-HW-004", detail));
                }
                found.extend(busy(card));
            }
        }
    }
    found
}

/// A container that a card of this machine was not given to.
fn hides_a_card(system: &Surroundings) -> bool {
    system.container.is_some() && system.has_card
}

fn busy(card: &Card) -> Option<Fault> {
    let (total, free) = (card.memory_bytes?, card.free_bytes?);
    if total == 0 || free * 10 >= total * 6 {
        return None;
    }
    let mut detail = format!("{} has {} of {} free.", card.name, bytes(free), bytes(total));
    let names = card.processes.iter().take(5).map(|p| {
        let name = p.name.as_deref().unwrap_or("a program");
        let held = p.memory_bytes.map_or_else(String::new, |held| format!(", {}", bytes(held)));
        format!("{name} (process {}{held})", p.pid)
    });
    let names: Vec<String> = names.collect();
    if !names.is_empty() {
        detail = format!("{detail} It is used by {}.", names.join("; "));
    }
    Some(Fault::new("PS-HW-007", detail))
}

#[cfg(test)]
mod tests {
    use super::super::cards::CardProcess;
    use super::*;

    fn card() -> Card {
        Card {
            name: "RTX".to_owned(),
            memory_bytes: Some(8 << 30),
            free_bytes: Some(7 << 30),
            driver: Some("550.54".to_owned()),
            compute_capability: Some("8.6".to_owned()),
            ..Card::default()
        }
    }

    fn found(card: Card, cuda: (i32, i32)) -> Cards {
        Cards::Found { cards: vec![card], cuda: Some(cuda) }
    }

    fn codes(cards: &Cards, system: &Surroundings) -> Vec<&'static str> {
        let faults = problems(cards, system);
        for fault in &faults {
            assert!(fault.detail.ends_with('.') && fault.shown_actions().len() >= 2, "{fault:?}");
        }
        faults.iter().map(|fault| fault.code).collect()
    }

    #[test]
    fn a_recent_free_card_has_no_problem() {
        let cards = found(card(), (12, 4));
        assert!(codes(&cards, &Surroundings::default()).is_empty());
        assert_eq!(requirement(&cards).satisfied, Some(true));
    }

    #[test]
    fn an_old_driver_is_ps_hw_002_and_an_old_card_ps_hw_004_d7() {
        let cards = found(card(), (11, 8));
        assert_eq!(codes(&cards, &Surroundings::default()), ["PS-HW-002"]);
        assert!(requirement(&cards).advice.contains("525"));
        let old = Card { compute_capability: Some("6.1".to_owned()), ..card() };
        let cards = found(old, (12, 4));
        assert_eq!(codes(&cards, &Surroundings::default()), ["PS-HW-004"]);
        assert_eq!(requirement(&cards).satisfied, Some(false));
    }

    #[test]
    fn a_busy_card_is_ps_hw_007_and_names_who_uses_it() {
        let process = CardProcess { pid: 42, name: Some("game".to_owned()), memory_bytes: Some(5 << 30) };
        let cards = found(Card { free_bytes: Some(2 << 30), processes: vec![process], ..card() }, (12, 4));
        assert_eq!(codes(&cards, &Surroundings::default()), ["PS-HW-007"]);
        assert!(problems(&cards, &Surroundings::default())[0].detail.contains("game (process 42"));
    }

    #[test]
    fn a_library_of_another_version_is_ps_hw_003() {
        let cards = Cards::Unasked { cards: vec![card()], reason: "they differ".to_owned(), mismatch: true };
        assert_eq!(codes(&cards, &Surroundings::default()), ["PS-HW-003"]);
        assert_eq!(requirement(&cards).satisfied, None);
    }

    #[test]
    fn a_card_that_wsl_or_a_container_does_not_show_is_ps_hw_008() {
        let cards = Cards::Unasked { cards: Vec::new(), reason: "no library".to_owned(), mismatch: false };
        let wsl = Surroundings { wsl: true, ..Surroundings::default() };
        assert_eq!(codes(&cards, &wsl), ["PS-HW-008"]);
        let container =
            Surroundings { container: Some("docker".to_owned()), has_card: true, ..Surroundings::default() };
        assert_eq!(codes(&cards, &container), ["PS-HW-008"]);
        // A container on a machine without a card is no problem.
        assert!(codes(&cards, &Surroundings { has_card: false, ..container }).is_empty());
    }
}
