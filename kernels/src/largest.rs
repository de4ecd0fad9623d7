//! The largest numbers of a row of logits: all that most ways of choosing a token need to know of it.

/// So many of them.
pub const LARGEST: usize = 64;

/// How the logits of tokens that were said before are lowered first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Penalties {
    /// Which tokens, none of them twice and all of them in the vocabulary.
    pub tokens: Vec<u32>,
    /// How often each was written; those that were only read: 0.
    pub written: Vec<u32>,
    /// Divides positive and multiplies negative logits of all of them.
    pub repetition: f32,
    /// Subtracted from the logits of those that were written.
    pub presence: f32,
    /// Subtracted once for each time that one was written.
    pub frequency: f32,
}

impl Penalties {
    /// Lower `logits`.
    pub fn lower(&self, logits: &mut [f32]) {
        for (&token, &count) in self.tokens.iter().zip(&self.written) {
            let Some(z) = logits.get_mut(token as usize) else { continue };
            *z = if *z < 0.0 { *z * self.repetition } else { *z / self.repetition };
            if count > 0 {
                *z -= self.frequency * count as f32 + self.presence;
            }
        }
    }
}

/// The places of the largest of `logits` and what stands there: the largest first, of equals the earlier one, without
/// what is no number.
pub fn largest(logits: &[f32]) -> Vec<(u32, f32)> {
    let numbers = (0u32..).zip(logits.iter().copied()).filter(|(_, z)| !z.is_nan());
    // Both zeros are one.
    let mut all: Vec<(u32, f32)> = numbers.map(|(at, z)| (at, z + 0.0)).collect();
    all.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(LARGEST);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first_and_of_equals_the_earlier() {
        let found = largest(&[1.0, f32::NAN, 3.0, -0.0, 0.0, 3.0, f32::NEG_INFINITY]);
        assert_eq!(found, [(2, 3.0), (5, 3.0), (0, 1.0), (3, 0.0), (4, 0.0), (6, f32::NEG_INFINITY)]);
        assert_eq!(largest(&vec![1.0; 100]).last(), Some(&(63, 1.0)));
    }
}
