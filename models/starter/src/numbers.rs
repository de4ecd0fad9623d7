//! Conversations about numbers: counting, sums, order, and small word problems.

use crate::place_talk::Turn;
use crate::rng::Rng;
use crate::wording::choose;

const THINGS: &[(&str, &str)] = &[
    ("apple", "apples"),
    ("ball", "balls"),
    ("book", "books"),
    ("cookie", "cookies"),
    ("coin", "coins"),
    ("flower", "flowers"),
    ("egg", "eggs"),
    ("pencil", "pencils"),
];

const PEOPLE: &[&str] = &["Tom", "Anna", "Ben", "Lucy", "Sam", "Kate", "Jack", "Emma"];

/// One question about numbers.
pub(crate) fn talk(rng: &mut Rng) -> Turn {
    let (template, answer) = match rng.weighted(&[16, 8, 12, 26, 14, 7, 18, 5]) {
        0 => {
            let n = rng.range(0, 98);
            (
                format!(
                    "[What|Which number] comes after {n}?/What number [is|comes] after {n}?/Which number follows {n}?/What is the next number after {n}?/[Tell me|Do you know] the number after {n}."
                ),
                format!("{} comes after {n}.", n + 1),
            )
        }
        1 => {
            let n = rng.range(1, 99);
            (
                format!(
                    "[What|Which number] comes before {n}?/What number [is|comes] before {n}?/Which number stands before {n}?/[Tell me|Do you know] the number before {n}."
                ),
                format!("{} comes before {n}.", n - 1),
            )
        }
        2 => {
            let low = rng.range(0, 12);
            let high = low + rng.range(2, 7);
            let row: Vec<String> = (low..=high).map(|n| n.to_string()).collect();
            (
                format!(
                    "Count from {low} to {high}./Can you count from {low} to {high}?/Please count from {low} to {high}./Count up from {low} to {high}./[Say|Tell me|List] the numbers from {low} to {high}."
                ),
                format!("{}.", row.join(", ")),
            )
        }
        3 => {
            let (a, b) = (rng.range(0, 9), rng.range(0, 9));
            (
                format!(
                    "What is {a} plus {b}?/How much is {a} plus {b}?/What does {a} plus {b} make?/{a} plus {b}?/What is {a} and {b}?/How much is {a} and {b} together?/Add {a} and {b}./What is the sum of {a} and {b}?/What do {a} and {b} make?"
                ),
                format!("{a} plus {b} is {}.", a + b),
            )
        }
        4 => {
            let b = rng.range(0, 9);
            let a = b + rng.range(0, 9);
            (
                format!(
                    "What is {a} minus {b}?/How much is {a} minus {b}?/What does {a} minus {b} make?/{a} minus {b}?/Take {b} away from {a}./What is {a} take away {b}?/What is left when you take {b} from {a}?"
                ),
                format!("{a} minus {b} is {}.", a - b),
            )
        }
        5 => {
            let a = rng.range(0, 99);
            let b = (a + rng.range(1, 99)) % 100;
            let (low, high) = (a.min(b), a.max(b));
            if rng.chance(50) {
                (
                    format!(
                        "[Which|What] [number|] is [bigger|larger|greater], {a} or {b}?/Is {a} or {b} [bigger|larger]?/Which of {a} and {b} is [bigger|larger|more]?"
                    ),
                    format!("{high} is bigger than {low}."),
                )
            } else {
                (
                    format!(
                        "[Which|What] [number|] is [smaller|less], {a} or {b}?/Is {a} or {b} smaller?/Which of {a} and {b} is [smaller|less]?"
                    ),
                    format!("{low} is smaller than {high}."),
                )
            }
        }
        6 => return word_problem(rng),
        _ => {
            let high = rng.range(3, 10);
            let row: Vec<String> = (1..=high).rev().map(|n| n.to_string()).collect();
            (
                format!(
                    "Count [back|down] from {high} to 1./Can you count [back|down] from {high}?/Count backwards from {high}."
                ),
                format!("{}.", row.join(", ")),
            )
        }
    };
    let forms: Vec<&str> = template.split('/').collect();
    (choose(rng.word(&forms), rng), answer)
}

fn word_problem(rng: &mut Rng) -> Turn {
    let name = rng.word(PEOPLE);
    let (one, many) = rng.pick(THINGS);
    let some = |n: usize| format!("{n} {}", if n == 1 { one } else { many });
    let (ask, left) = if rng.chance(55) {
        let (a, b) = (rng.range(1, 9), rng.range(1, 9));
        let deed = choose(&format!("[gets|buys|finds] {b} more"), rng);
        (format!("{name} has {} and {deed}. ", some(a)), a + b)
    } else {
        let b = rng.range(1, 9);
        let a = b + rng.range(1, 9);
        let deed = choose(&format!("[gives {b} away|loses {b}|gives {b} to a friend]"), rng);
        (format!("{name} has {} and {deed}. ", some(a)), a - b)
    };
    let last = choose(
        &format!(
            "How many {many} [does {name} have|does {name} have now|does {name} have then|are there|does {name} have in the end]?"
        ),
        rng,
    );
    (ask + &last, format!("{name} has {}.", some(left)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_right_and_order_is_told_the_right_way_round() {
        let mut rng = Rng::new(2, 2);
        let mut sums = 0;
        for _ in 0..3_000 {
            let (ask, answer) = talk(&mut rng);
            assert!(!ask.contains(['[', '|', '/']), "{ask}");
            let parts: Vec<&str> = answer.trim_end_matches('.').split(' ').collect();
            let number = |at: usize| -> Option<usize> { parts.get(at)?.parse().ok() };
            match (number(0), parts.get(1).copied(), number(2), number(4)) {
                (Some(a), Some("plus"), Some(b), Some(c)) => {
                    assert_eq!(a + b, c, "{answer}");
                    sums += 1;
                }
                (Some(a), Some("minus"), Some(b), Some(c)) => assert_eq!(a - b, c, "{answer}"),
                (Some(a), Some("is"), _, Some(b)) if parts[2] == "bigger" => assert!(a > b, "{answer}"),
                (Some(a), Some("is"), _, Some(b)) if parts[2] == "smaller" => assert!(a < b, "{answer}"),
                (Some(a), Some("comes"), _, _) if parts[2] == "after" => {
                    assert_eq!(number(3).map(|b| b + 1), Some(a), "{answer}");
                }
                _ => {}
            }
        }
        assert!(sums > 300, "{sums}");
    }
}
