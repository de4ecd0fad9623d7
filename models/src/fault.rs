//! Device errors in words for a person.

use peft_kernels::Error;
use peft_plan::Fault;

/// A failed kernel call as a fault.
pub fn device(error: Error) -> Fault {
    match &error {
        Error::OutOfMemory { bytes, .. } => {
            Fault::new("PS-MEM-001", format!("There is no room for another {} MiB of memory", bytes >> 20))
                .caused_by(error)
        }
        Error::Weight { what } => {
            Fault::new("PS-MODEL-005", format!("A weight of the model is damaged: {what}")).caused_by(error)
        }
        Error::Unavailable { reason } => Fault::new("PS-HW-001", sentence(reason)).caused_by(error),
        Error::OldDriver { reason } => Fault::new("PS-HW-002", sentence(reason)).caused_by(error),
        Error::OldCard { reason } => Fault::new("PS-HW-004", sentence(reason)).caused_by(error),
        Error::Lost { reason } => Fault::new("PS-HW-005", sentence(reason)).caused_by(error),
        _ => Fault::new("PS-APP-004", format!("The computation stopped: {error}")).caused_by(error),
    }
}

/// Words of a kernel as a sentence: its first letter is a capital one.
fn sentence(reason: &str) -> String {
    let mut letters = reason.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_card_says_has_a_code_of_its_own() {
        let reason = || "the card said so".to_owned();
        let codes = [
            (Error::Unavailable { reason: reason() }, "PS-HW-001"),
            (Error::OldDriver { reason: reason() }, "PS-HW-002"),
            (Error::OldCard { reason: reason() }, "PS-HW-004"),
            (Error::Lost { reason: reason() }, "PS-HW-005"),
        ];
        for (error, code) in codes {
            let fault = device(error);
            assert_eq!((fault.code, fault.detail.as_str()), (code, "The card said so"));
        }
    }
}
