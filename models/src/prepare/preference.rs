//! Rows that compare answers become examples of two sequences with a prompt in common.
//!
//! What is too long loses the beginning of its prompt: both answers and their stop tokens stay, and both sides keep the
//! same part of the prompt. Only an answer that does not fit by itself loses its tail, and keeps its stop token.

use super::at_line;
use crate::base::BaseModel;
use crate::train::{Pair, Tokens};
use peft_plan::{Example, Objective, Result, Row, Turn};
use peft_text::{RenderOptions, Rendered};

/// Rows searched for an answer to another question.
const NEIGHBOURS: usize = 64;

/// Rendered comparisons, before the sequence length is decided.
pub struct PreparedPairs {
    examples: Vec<Compared>,
    /// The token that begins every text, which a cut keeps.
    bos: Option<u32>,
    /// Two answers of one row each; else an answer and somebody else's.
    is_pairs: bool,
}

/// Comparisons ready to train on.
#[derive(Default)]
pub struct CutPairs {
    /// The examples.
    pub examples: Vec<Tokens>,
    /// How many were cut to the sequence length.
    pub truncated: u64,
    /// How many had nothing left to learn from.
    pub dropped: u64,
}

/// One answer after its prompt. What comes behind its last learnt token is nothing to anybody and gone.
#[derive(Clone)]
struct Sequence {
    prompt: Vec<u32>,
    answer: Vec<u32>,
    trained: Vec<bool>,
}

struct Compared {
    first: Sequence,
    second: Sequence,
    desirable: bool,
    row: u32,
}

/// Render the rows `indices`, each of which compares. KTO takes a pair as a wanted and an unwanted answer.
pub fn render_pairs(
    base: &BaseModel,
    rows: &[Row],
    indices: &[usize],
    options: &RenderOptions,
    objective: Objective,
) -> Result<PreparedPairs> {
    let sequence = |row: &Row, prompt: &[Turn], answer: &[Turn]| -> Result<Sequence> {
        let example = Example::Messages([prompt, answer].concat());
        let rendered = base.tokenizer().render(&example, options).map_err(|fault| at_line(row, fault))?;
        Ok(Sequence::of(rendered))
    };
    let mut examples = Vec::new();
    for &i in indices {
        let row = &rows[i];
        match &row.example {
            Example::Preference { prompt, chosen, rejected } => {
                let (first, second) = (sequence(row, prompt, chosen)?, sequence(row, prompt, rejected)?);
                if objective == Objective::Kto {
                    for (answer, desirable) in [(first, true), (second, false)] {
                        examples.push(Compared { second: answer.clone(), first: answer, desirable, row: i as u32 });
                    }
                } else {
                    examples.push(Compared { first, second, desirable: true, row: i as u32 });
                }
            }
            Example::Rated { prompt, answer, desirable } => {
                let first = sequence(row, prompt, answer)?;
                examples.push(Compared { second: first.clone(), first, desirable: *desirable, row: i as u32 });
            }
            // Nothing to compare; whoever chose the rows left these out.
            Example::Messages(_) | Example::Text(_) => {}
        }
    }
    if objective == Objective::Kto {
        mismatch(&mut examples);
    }
    let bos = base.tokenizer().bos().map(|token| token.id);
    Ok(PreparedPairs { examples, bos, is_pairs: objective != Objective::Kto })
}

/// Give every example the answer to another question, from which KTO estimates how far the model has moved: that of the
/// nearest row before it with another prompt.
fn mismatch(examples: &mut [Compared]) {
    let count = examples.len();
    let partners: Vec<usize> = (0..count)
        .map(|at| {
            let before = |distance: usize| (at + count - distance % count) % count;
            let other = (1..count.min(NEIGHBOURS)).map(before);
            let is_other = |&j: &usize| examples[j].first.prompt != examples[at].first.prompt;
            other.clone().find(is_other).unwrap_or_else(|| before(1))
        })
        .collect();
    for at in 0..count {
        let other = &examples[partners[at]].first;
        let (answer, trained) = (other.answer.clone(), other.trained.clone());
        let own = &mut examples[at].second;
        (own.answer, own.trained) = (answer, trained);
    }
}

impl Sequence {
    fn of(rendered: Rendered) -> Self {
        let Rendered { mut ids, mut trained, .. } = rendered;
        let end = trained.iter().rposition(|t| *t).map_or(0, |last| last + 1);
        ids.truncate(end);
        trained.truncate(end);
        let start = trained.iter().position(|t| *t).unwrap_or(end);
        Self { answer: ids.split_off(start), trained: trained.split_off(start), prompt: ids }
    }

    fn len(&self) -> usize {
        self.prompt.len() + self.answer.len()
    }

    /// The first token of the prompt that every cut keeps, if there is one.
    fn head(&self, bos: Option<u32>) -> usize {
        usize::from(self.prompt.first().is_some_and(|first| Some(*first) == bos))
    }

    /// Cut to at most `room` tokens of prompt, its first one if that is BOS and then its last ones, and to `limit`
    /// tokens altogether.
    fn cut(&mut self, room: usize, limit: usize, bos: Option<u32>) {
        // Something must be there to predict the answer's first token from.
        let room = room.max(1);
        let head = self.head(bos).min(room);
        if self.prompt.len() > room {
            self.prompt.drain(head..self.prompt.len() - (room - head));
        }
        let left = limit.saturating_sub(self.prompt.len());
        if self.answer.len() > left && left > 0 {
            let (stop, flag) = (self.answer[self.answer.len() - 1], self.trained[self.trained.len() - 1]);
            self.answer.truncate(left - 1);
            self.trained.truncate(left - 1);
            self.answer.push(stop);
            self.trained.push(flag);
        }
    }

    /// Whether something is learnt that has a token before it.
    fn teaches(&self) -> bool {
        self.trained.iter().skip(usize::from(self.prompt.is_empty())).any(|t| *t)
    }
}

impl PreparedPairs {
    /// Tokens of every example: of both sequences.
    pub fn lengths(&self) -> Vec<usize> {
        self.examples.iter().map(|e| e.first.len() + e.second.len()).collect()
    }

    /// Tokens of the first sequence of every example.
    pub fn firsts(&self) -> Vec<usize> {
        self.examples.iter().map(|e| e.first.len()).collect()
    }

    /// Share of all tokens that is an answer's.
    pub fn learnt_share(&self) -> f64 {
        let learnt = |s: &Sequence| s.trained.iter().filter(|&&trained| trained).count();
        let answers: usize = self.examples.iter().map(|e| learnt(&e.first) + learnt(&e.second)).sum();
        answers as f64 / self.lengths().iter().sum::<usize>().max(1) as f64
    }

    /// Cut every sequence to `max_length`; leave out what has nothing to learn, or two equal answers.
    pub fn cut(self, max_length: usize) -> CutPairs {
        let mut cut = CutPairs::default();
        let bos = self.bos;
        for Compared { mut first, mut second, desirable, row } in self.examples {
            let is_long = first.len().max(second.len()) > max_length;
            if is_long {
                let room = max_length.saturating_sub(first.answer.len().max(second.answer.len()));
                first.cut(room, max_length, bos);
                second.cut(room, max_length, bos);
            }
            // Cut answers can be equal; whole ones can be too, where the tokenizer normalises.
            let says_nothing = self.is_pairs && first.answer == second.answer;
            if says_nothing || !first.teaches() || !second.teaches() {
                cut.dropped += 1;
                continue;
            }
            cut.truncated += u64::from(is_long);
            cut.examples.push(joined(first, second, desirable, row));
        }
        cut
    }
}

fn joined(first: Sequence, second: Sequence, desirable: bool, row: u32) -> Tokens {
    let border = first.len();
    let mut tokens = Tokens {
        ids: Vec::with_capacity(border + second.len()),
        trained: Vec::with_capacity(border + second.len()),
        row,
        pair: Some(Pair { border: border as u32, desirable }),
    };
    for Sequence { prompt, answer, trained } in [first, second] {
        tokens.trained.resize(tokens.trained.len() + prompt.len(), false);
        tokens.trained.extend(trained);
        tokens.ids.extend(prompt);
        tokens.ids.extend(answer);
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(prompt: usize, answer: &[u32]) -> Sequence {
        let prompt = (0..prompt as u32).map(|i| 100 + i).collect();
        Sequence { prompt, answer: answer.to_vec(), trained: vec![true; answer.len()] }
    }

    fn cut(first: Sequence, second: Sequence, max_length: usize, bos: Option<u32>) -> CutPairs {
        let examples = vec![Compared { first, second, desirable: true, row: 7 }];
        PreparedPairs { examples, bos, is_pairs: true }.cut(max_length)
    }

    /// Both sequences of the only example.
    fn halves(cut: &CutPairs) -> [&[u32]; 2] {
        let example = &cut.examples[0];
        let border = example.pair.expect("a pair").border as usize;
        [&example.ids[..border], &example.ids[border..]]
    }

    #[test]
    fn what_fits_is_left_alone() {
        let cut = cut(sequence(3, &[1, 2]), sequence(3, &[4, 5, 6]), 6, None);
        assert_eq!((cut.truncated, cut.dropped), (0, 0));
        assert_eq!(halves(&cut), [&[100, 101, 102, 1, 2][..], &[100, 101, 102, 4, 5, 6]]);
        assert_eq!(cut.examples[0].trained, [false, false, false, true, true, false, false, false, true, true, true]);
        assert_eq!(cut.examples[0].row, 7);
    }

    #[test]
    fn a_long_prompt_loses_its_beginning_on_both_sides_alike_and_keeps_bos() {
        let plain = cut(sequence(9, &[1, 2]), sequence(9, &[3, 4, 5]), 7, None);
        assert_eq!(halves(&plain), [&[105, 106, 107, 108, 1, 2][..], &[105, 106, 107, 108, 3, 4, 5]]);
        assert_eq!(plain.truncated, 1);
        let with_bos = cut(sequence(9, &[1, 2]), sequence(9, &[3, 4, 5]), 7, Some(100));
        assert_eq!(halves(&with_bos), [&[100, 106, 107, 108, 1, 2][..], &[100, 106, 107, 108, 3, 4, 5]]);
    }

    #[test]
    fn an_answer_that_does_not_fit_keeps_its_stop_token() {
        let long: Vec<u32> = (1..=20).collect();
        let cut = cut(sequence(5, &long), sequence(5, &[50, 51]), 8, Some(100));
        assert_eq!(halves(&cut), [&[100, 1, 2, 3, 4, 5, 6, 20][..], &[100, 50, 51]]);
    }

    #[test]
    fn answers_that_become_equal_teach_nothing() {
        let (mut a, mut b): (Vec<u32>, Vec<u32>) = ((1..=20).collect(), (1..=20).collect());
        (a[12], b[12]) = (90, 91);
        let cut = cut(sequence(2, &a), sequence(2, &b), 8, None);
        assert_eq!((cut.examples.len(), cut.dropped), (0, 1));
        let nothing = Sequence { prompt: Vec::new(), answer: vec![5], trained: vec![true] };
        assert_eq!(super::tests::cut(nothing.clone(), nothing, 8, None).dropped, 1);
    }

    #[test]
    fn the_divergence_is_estimated_with_answers_to_other_prompts() {
        let rated = |prompt: u32, answer: u32| {
            let first = Sequence { prompt: vec![prompt], answer: vec![answer], trained: vec![true] };
            Compared { second: first.clone(), first, desirable: true, row: 0 }
        };
        let mut examples = vec![rated(1, 10), rated(1, 11), rated(2, 12), rated(2, 13), rated(3, 14)];
        mismatch(&mut examples);
        let answers: Vec<u32> = examples.iter().map(|e| e.second.answer[0]).collect();
        assert_eq!(answers, [14, 14, 11, 11, 13]);
        assert!(examples.iter().all(|e| e.second.prompt == e.first.prompt));
        let mut same = vec![rated(1, 10), rated(1, 11)];
        mismatch(&mut same);
        assert_eq!([same[0].second.answer[0], same[1].second.answer[0]], [11, 10]);
    }
}
