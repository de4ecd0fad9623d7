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
        Error::Unavailable { reason } => Fault::new("PS-HW-001", reason.clone()).caused_by(error),
        _ => Fault::new("PS-APP-004", format!("The computation stopped: {error}")).caused_by(error),
    }
}
