//! Several rankings of the same chunks to one, by reciprocal ranks.
//!
//! Scores of a search for words and of one for meaning cannot be compared; places in a ranking can.

use std::collections::HashMap;

/// How much the first places are worth more than the next ones: 60, as in Cormack, Clarke and Büttcher (2009).
const SMOOTHING: f64 = 60.0;

/// The ids of all `rankings`, best first, with what they scored; at most `count`.
pub fn fused(rankings: &[Vec<i64>], count: usize) -> Vec<(i64, f64)> {
    let mut scores: HashMap<i64, f64> = HashMap::new();
    for ranking in rankings {
        for (place, id) in (1_u32..).zip(ranking) {
            *scores.entry(*id).or_default() += 1.0 / (SMOOTHING + f64::from(place));
        }
    }
    let mut fused: Vec<(i64, f64)> = scores.into_iter().collect();
    // Equal scores in the order of ids: the same question has the same answer.
    fused.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    fused.truncate(count);
    fused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_searches_find_comes_first() {
        let ids: Vec<i64> = fused(&[vec![1, 2, 3], vec![4, 2, 5]], 4).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [2, 1, 4, 3]);
        assert!(fused(&[], 4).is_empty());
    }
}
