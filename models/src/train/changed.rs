//! A device that computes otherwise than when the run was begun, because a library of its maker failed: told once, and what
//! the run is resumed with from there on.

use super::{RunState, Trainer};
use peft_kernels::Backend;
use peft_plan::findings::{Finding, FindingKind};

impl<B: Backend> Trainer<'_, '_, B> {
    /// What changed on the device up to the step that was done, if anything.
    pub(super) fn device_changed(&mut self, be: &B, state: &mut RunState) -> Option<Finding> {
        let backend = self.fingerprint.get_mut("backend")?;
        let now = be.fingerprint();
        if *backend == now {
            return None;
        }
        let before = std::mem::replace(backend, now.clone());
        state.fingerprint.clone_from(&self.fingerprint);
        let message = format!("The run was computed with `{before}`, and a part of it failed: now it is `{now}`");
        Some(Finding::new(FindingKind::Device, "PS-HW-009", state.step, message))
    }
}
