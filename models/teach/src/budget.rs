//! What may be spent, and what was: no question is asked that could cost more than is left.

use peft_plan::helper::{HelperModel, Said};

/// Characters of a token where text is dense: an estimate must not be too low.
const CHARACTERS: f64 = 2.5;

/// What a token costs, USD.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Price {
    /// Of a question.
    pub prompt: f64,
    /// Of an answer.
    pub answer: f64,
}

impl Price {
    /// Of a model; `None` where the service names none.
    pub fn of(model: &HelperModel) -> Option<Self> {
        Some(Self { prompt: model.prompt_price?, answer: model.answer_price? })
    }

    /// The most that a question of so many characters can cost.
    pub fn most(&self, characters: usize, max_new_tokens: usize) -> f64 {
        characters as f64 / CHARACTERS * self.prompt + max_new_tokens as f64 * self.answer
    }

    /// What an answer cost: what the service says, or its tokens.
    pub fn cost(&self, said: &Said) -> f64 {
        said.cost.unwrap_or(said.prompt_tokens as f64 * self.prompt + said.generated_tokens as f64 * self.answer)
    }
}

/// A limit, what was spent, and what questions under way may still cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budget {
    cap: Option<f64>,
    spent: f64,
    reserved: f64,
    /// Questions whose cost is not known yet.
    under_way: u32,
}

impl Budget {
    /// A limit in USD, if there is one, of which `spent` is gone.
    pub fn new(cap: Option<f64>, spent: f64) -> Self {
        Self { cap, spent, reserved: 0.0, under_way: 0 }
    }

    /// Put `most` aside; false where it is more than is left.
    pub fn reserve(&mut self, most: f64) -> bool {
        let fits = self.cap.is_none_or(|cap| self.spent + self.reserved + most <= cap);
        if fits {
            self.reserved += most;
            self.under_way += 1;
        }
        fits
    }

    /// What was put aside turned out to be `cost`.
    pub fn settle(&mut self, most: f64, cost: f64) {
        self.reserved = (self.reserved - most).max(0.0);
        self.spent += cost;
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Nothing is put aside: what does not fit will not fit later.
    pub fn is_settled(&self) -> bool {
        self.under_way == 0
    }

    /// USD spent so far.
    pub fn spent(&self) -> f64 {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_also_while_questions_are_under_way() {
        let mut budget = Budget::new(Some(1.0), 0.2);
        assert!(budget.reserve(0.4) && budget.reserve(0.4));
        assert!(!budget.reserve(0.1));
        budget.settle(0.4, 0.1);
        assert!(budget.reserve(0.25) && !budget.reserve(0.25));
        assert!((budget.spent() - 0.3).abs() < 1e-9);
        assert!(Budget::new(None, 5.0).reserve(1e9));
    }
}
