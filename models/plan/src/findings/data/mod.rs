//! What can be seen in the rows themselves, before the first step costs anything.

mod leak;
mod masking;
mod pairing;
mod unlike;

pub use pairing::mismatched;

use super::Finding;

/// A rendered example, as detectors see it.
#[derive(Clone, Copy, Debug)]
pub struct ExampleView<'a> {
    /// Token ids.
    pub ids: &'a [u32],
    /// Learnt or only read.
    pub trained: &'a [bool],
    /// Which row of the dataset it is.
    pub row: u32,
}

impl<'a> ExampleView<'a> {
    /// Where its first learnt token is.
    pub fn answer_at(&self) -> usize {
        self.trained.iter().position(|&learnt| learnt).unwrap_or(self.ids.len())
    }

    /// What is only read before the first learnt token.
    pub fn question(&self) -> &'a [u32] {
        &self.ids[..self.answer_at()]
    }

    /// Everything from the first learnt token on.
    pub fn answer(&self) -> &'a [u32] {
        &self.ids[self.answer_at()..]
    }
}

/// What an examination of the rows came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examined {
    /// What was found.
    pub findings: Vec<Finding>,
    /// Nothing in the words ties the answers to their questions. A model that knows better must be asked before
    /// anybody says so: the capital of a country shares no word with its name.
    pub unrelated: Option<Finding>,
}

/// Examine the rows. `place` says where a row is, for people.
pub fn examine(train: &[ExampleView], validation: &[ExampleView], place: &dyn Fn(u32) -> String) -> Examined {
    let masked = masking::masked(train, place);
    // Where the masks are wrong, what they call answers tells nothing.
    let unrelated = if masked.is_some() { None } else { pairing::unrelated(train) };
    let found = [
        masked,
        pairing::all_the_same(train),
        unlike::unlike_the_rest(train, place),
        leak::leaked(train, validation, place),
    ];
    Examined { findings: found.into_iter().flatten().collect(), unrelated }
}

/// The first few of `rows` as people find them.
fn places(rows: &[u32], place: &dyn Fn(u32) -> String) -> String {
    let named: Vec<String> = rows.iter().take(3).map(|&row| place(row)).collect();
    let more = rows.len().saturating_sub(named.len());
    if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
}
