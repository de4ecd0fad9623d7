//! Whether this machine computes correctly: every operation of a backend against [`Reference`], at run time.
//!
//! Part of the program, not of its tests: a driver, a compiler or a processor that its authors never saw is
//! judged where it is. The inputs are new numbers each time, drawn from a seed, so that many machines together
//! see more than any list of cases. What decides is the normalised mean square error, and that nothing but the
//! output was written, and that the same call twice gives the same bits.
//!
//! Shapes are chosen so that no output is a single sum that could cancel to nearly nothing: there a correct
//! f32 backend may be as far from the reference as it likes.

mod answers;
mod attention;
mod columns;
mod dropout;
mod embed;
mod gated;
mod gated_clamped;
mod largest;
mod linear;
mod loss;
mod memory;
mod norm;
mod optim;
mod rig;
mod rope;
mod rows;
mod weights;

use crate::backend::Backend;
use crate::error::Result;
use crate::reference::Reference;
use rig::{Record, Rig};

/// Largest normalised mean square error of a backend that computes in f32.
const ALLOWED: f64 = 1e-9;

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The operation, the shapes, the output.
    pub name: String,
    /// How far off: a normalised mean square error, or a number of elements. Infinite where there is no answer.
    pub error: f64,
    /// The largest error that passes.
    pub allowed: f64,
}

impl Check {
    /// Whether the error is one that is allowed. Not a number is not.
    pub fn passed(&self) -> bool {
        self.error <= self.allowed
    }
}

/// One call of one operation.
trait Case {
    /// The operation's own name, then what distinguishes the call.
    fn name(&self) -> String;
    /// The largest error that passes.
    fn allowed(&self) -> f64 {
        ALLOWED
    }
    /// Draw the inputs, call the operation, hand over the outputs.
    fn run<B: Backend>(&self, rig: &mut Rig<B>) -> Result<()>;
}

/// Largest normalised mean square error of a backend that rounds the factors of its products to bfloat16: each is off
/// by at most 2⁻⁹, and a softmax between two products adds the errors of both.
const ALLOWED_ROUNDED: f64 = 2e-4;

/// Inputs that are drawn where the first ones give too large an error; all outputs are judged together then. Now and then
/// a sum of each of a few outputs nearly cancels, and what rounding leaves is large beside it, but not beside many.
const DRAWS: u64 = 16;

/// Compare the operations that `be` computes from rounded factors with the reference, on inputs drawn from `seed`.
pub fn rounded<B: Backend>(be: &B, seed: u64) -> Vec<Check> {
    let mut suite = Suite { be, seed, asked: 0, at_least: ALLOWED_ROUNDED, is_narrow: false, checks: Vec::new() };
    suite.ask_products();
    suite.ask(attention::attention());
    suite.ask(attention::backward());
    suite.ask(attention::cached());
    // The same of activations, and what else a pass does with them.
    suite.is_narrow = true;
    suite.ask_products();
    suite.ask_block();
    suite.ask(columns::columns());
    suite.ask(rows::rows());
    suite.checks
}

/// Compare every operation of `be` with the reference, on inputs drawn from `seed`.
pub fn run<B: Backend>(be: &B, seed: u64) -> Vec<Check> {
    let mut suite = Suite { be, seed, asked: 0, at_least: 0.0, is_narrow: false, checks: answers::checks(seed) };
    suite.ask(memory::memory());
    suite.ask(memory::copies());
    suite.ask_products();
    suite.ask(embed::embed());
    suite.ask(embed::backward());
    suite.ask_block();
    suite.ask(dropout::noise());
    suite.ask(columns::columns());
    suite.ask(columns::row_squares());
    suite.ask(rows::rows());
    suite.ask(columns::dora_norm());
    suite.ask(loss::head());
    suite.ask(loss::softcap());
    suite.ask(largest::cases());
    suite.ask(optim::sum_squares());
    suite.ask(optim::adamw());
    suite.ask(optim::adamw_8bit());
    suite.ask(optim::codes());
    suite.checks
}

struct Suite<'a, B: Backend> {
    be: &'a B,
    seed: u64,
    /// Cases so far: each has inputs of its own.
    asked: u64,
    /// An error as large as this passes, whatever the case says.
    at_least: f64,
    /// On activations.
    is_narrow: bool,
    checks: Vec<Check>,
}

impl<B: Backend> Suite<'_, B> {
    fn ask_products(&mut self) {
        self.ask(linear::linear());
        self.ask(linear::backward());
        self.ask(linear::gemm());
    }

    /// What a block does between its products.
    fn ask_block(&mut self) {
        self.ask(norm::norm());
        self.ask(norm::backward());
        self.ask(rope::rope());
        self.ask(attention::attention());
        self.ask(attention::backward());
        self.ask(attention::cached());
        self.ask(gated::gated());
        self.ask(gated::backward());
        self.ask(gated_clamped::gated());
        self.ask(gated_clamped::backward());
        self.ask(dropout::dropout());
    }

    fn ask(&mut self, cases: Vec<impl Case>) {
        for case in cases {
            self.asked += 1;
            let seed = self.seed ^ self.asked.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            self.checks.extend(self.ask_about(&case, seed));
        }
    }

    fn ask_about(&self, case: &impl Case, seed: u64) -> Vec<Check> {
        let name = case.name();
        let name = if self.is_narrow { format!("{name}, of activations") } else { name };
        let allowed = case.allowed().max(self.at_least);
        let drawn = self.draw(case, seed).and_then(|mut records| {
            let checks = judge(&name, allowed, &records);
            if !is_inexact(&checks) {
                return Ok(checks);
            }
            for more in 1..DRAWS {
                let others = self.draw(case, seed.wrapping_add(more << 32))?;
                records.iter_mut().zip(others).for_each(|(all, more)| all.append(more));
            }
            Ok(judge(&name, allowed, &records))
        });
        drawn.unwrap_or_else(|e| vec![Check { name: format!("{name}: {e}"), error: f64::INFINITY, allowed: 0.0 }])
    }

    /// What the reference gives for these inputs, and twice what is examined.
    fn draw(&self, case: &impl Case, seed: u64) -> Result<[Record; 3]> {
        let ours = || call(self.be, seed, case, self.is_narrow);
        Ok([call(&Reference, seed, case, self.is_narrow)?, ours()?, ours()?])
    }
}

/// Whether nothing is wrong but that numbers are less exact than they may be.
fn is_inexact(checks: &[Check]) -> bool {
    let mut failed = checks.iter().filter(|check| !check.passed()).peekable();
    failed.peek().is_some() && failed.all(|check| check.allowed > 0.0 && check.error.is_finite())
}

fn call<B: Backend>(be: &B, seed: u64, case: &impl Case, is_narrow: bool) -> Result<Record> {
    let mut rig = Rig::new(be, seed);
    rig.is_narrow = is_narrow;
    case.run(&mut rig)?;
    Ok(rig.into_record())
}

fn judge(name: &str, allowed: f64, [want, got, again]: &[Record; 3]) -> Vec<Check> {
    let outputs = want.outputs.iter().zip(&got.outputs).map(|((output, want), (_, got))| Check {
        name: format!("{name}: {output}"),
        error: rig::nmse(got, want),
        allowed,
    });
    let mut checks: Vec<Check> = outputs.collect();
    let count = |what: &str, count: usize| Check { name: format!("{name}: {what}"), error: count as f64, allowed: 0.0 };
    checks.push(count("elements written beside the output", got.strayed + again.strayed));
    let pairs = got.outputs.iter().zip(&again.outputs);
    checks.push(count("bits that differ when repeated", pairs.map(|(a, b)| rig::different(&a.1, &b.1)).sum()));
    checks
}

#[cfg(test)]
mod tests;
