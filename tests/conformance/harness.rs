//! Hostile buffers, and the comparison of two backends.

use peft_kernels::reference::Reference;
use peft_kernels::{Backend, Error, In, Out, Result, Tensor, Window, Write};
use std::cell::Cell;

/// Largest normalised mean square error between two f32 backends.
pub(crate) const TOLERANCE: f64 = 1e-10;

/// What no operation may overwrite.
const SENTINEL: f32 = -7.75e11;

/// Rows and columns of sentinels around a window: above, left, below, right.
const FRAME: [usize; 4] = [1, 2, 2, 3];

thread_local! {
    static NARROW: Cell<bool> = const { Cell::new(false) };
}

/// While `test` runs, every [`Field`] is an activation, and holds numbers that bfloat16 has.
pub(crate) fn in_activations<T>(test: impl FnOnce() -> T) -> T {
    NARROW.set(true);
    let result = test();
    NARROW.set(false);
    result
}

/// A case on activations.
#[derive(Debug)]
pub(crate) struct Narrow<C>(C);

impl<C: Case> Case for Narrow<C> {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        in_activations(|| self.0.run(be))
    }

    fn tolerance(&self) -> f64 {
        6e-5
    }
}

/// These cases on activations.
pub(crate) fn narrow<C>(cases: Vec<C>) -> Vec<Narrow<C>> {
    cases.into_iter().map(Narrow).collect()
}

/// What fields hold of a number.
fn held(x: f32) -> f32 {
    if NARROW.get() { half::bf16::from_f32(x).to_f32() } else { x }
}

/// The frame of a window of so many columns: activations are tried at multiples of 16 bytes, also where the last eight
/// columns are seven, and elsewhere.
fn frame(cols: usize) -> [usize; 4] {
    match (NARROW.get(), cols % 8) {
        (false, _) => FRAME,
        (true, 0) => [1, 8, 2, 16],
        (true, 7) => [1, 8, 2, 9],
        (true, _) => [1, 1, 2, 3],
    }
}

/// Reproducible numbers, roughly normal with variance one.
pub(crate) fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D;
    let mut uniform = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 24) as f32 - 0.5
    };
    (0..n).map(|_| 2.0 * (uniform() + uniform() + uniform())).collect()
}

/// `Σ(a - b)² / Σb²`; infinite where either has a number that is not finite and the other has not the same.
pub(crate) fn nmse(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let (mut error, mut power) = (0.0, 0.0);
    for (&a, &b) in a.iter().zip(b) {
        if !a.is_finite() || !b.is_finite() {
            if a.to_bits() != b.to_bits() {
                return f64::INFINITY;
            }
            continue;
        }
        error += (f64::from(a) - f64::from(b)).powi(2);
        power += f64::from(b).powi(2);
    }
    if error == 0.0 { 0.0 } else { error / power }
}

/// A window in the middle of a matrix of sentinels.
pub(crate) struct Field<B: Backend> {
    tensor: Tensor<B>,
    at: Window,
}

impl<B: Backend> Field<B> {
    /// These numbers in the window.
    pub(crate) fn holding(be: &B, rows: usize, cols: usize, data: &[f32]) -> Self {
        let [above, left, below, right] = frame(cols);
        let at = Window { row: above, rows, col: left, cols };
        let (all_rows, all_cols) = (rows + above + below, cols + left + right);
        let mut all = vec![held(SENTINEL); all_rows * all_cols];
        for (i, row) in data.chunks_exact(cols.max(1)).enumerate() {
            let to = &mut all[(i + above) * all_cols + left..][..cols];
            to.iter_mut().zip(row).for_each(|(to, x)| *to = held(*x));
        }
        if !NARROW.get() {
            return Self { tensor: be.tensor(all_rows, all_cols, &all).expect("memory for a test"), at };
        }
        let mut tensor = be.activation().expect("memory for a test");
        be.reshape(&mut tensor, all_rows, all_cols).expect("memory for a test");
        be.upload(&mut tensor, &all).expect("memory for a test");
        Self { tensor, at }
    }

    /// Noise in the window.
    pub(crate) fn noise(be: &B, seed: u64, rows: usize, cols: usize) -> Self {
        Self::holding(be, rows, cols, &noise(seed, rows * cols))
    }

    /// A place for an output: NaN where it is set, noise where it is added to.
    pub(crate) fn output(be: &B, rows: usize, cols: usize, write: Write) -> Self {
        match write {
            Write::Set => Self::holding(be, rows, cols, &vec![f32::NAN; rows * cols]),
            Write::Add => Self::noise(be, 99, rows, cols),
        }
    }

    pub(crate) fn view(&self) -> In<'_, B> {
        In { tensor: &self.tensor, at: self.at }
    }

    pub(crate) fn view_mut(&mut self) -> Out<'_, B> {
        Out { tensor: &mut self.tensor, at: self.at }
    }

    /// The numbers of the window; everything around it must be as it was.
    pub(crate) fn take(&self, be: &B) -> Vec<f32> {
        let all = be.download(&self.tensor).expect("download");
        let (cols, at) = (self.tensor.cols(), self.at);
        let mut inside = Vec::with_capacity(at.rows * at.cols);
        for (i, &x) in all.iter().enumerate() {
            let (row, col) = (i / cols, i % cols);
            if (at.row..at.row + at.rows).contains(&row) && (at.col..at.col + at.cols).contains(&col) {
                inside.push(x);
            } else {
                assert_eq!(
                    x.to_bits(),
                    held(SENTINEL).to_bits(),
                    "({row}, {col}) lies outside of {at:?} and was written"
                );
            }
        }
        inside
    }
}

/// Nothing yet, of what fields are made of.
pub(crate) fn empty<B: Backend>(be: &B) -> Tensor<B> {
    if NARROW.get() { be.activation() } else { be.zeros(0, 0) }.expect("nothing yet")
}

/// A tensor of noise.
pub(crate) fn tensor<B: Backend>(be: &B, seed: u64, rows: usize, cols: usize) -> Tensor<B> {
    be.tensor(rows, cols, &noise(seed, rows * cols)).expect("memory for a test")
}

/// A tensor of NaN: every element must be set.
pub(crate) fn unset<B: Backend>(be: &B, rows: usize, cols: usize) -> Tensor<B> {
    be.tensor(rows, cols, &vec![f32::NAN; rows * cols]).expect("memory for a test")
}

/// Named results of one call.
pub(crate) type Outputs = Vec<(&'static str, Vec<f32>)>;

/// One call of one operation; its `Debug` form is its name.
pub(crate) trait Case: std::fmt::Debug {
    /// Make the inputs, call the operation, take the outputs.
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs>;

    /// Largest error allowed.
    fn tolerance(&self) -> f64 {
        TOLERANCE
    }
}

/// `be` gives what the reference gives, and twice the same bits.
pub(crate) fn conforms<B: Backend, C: Case>(be: &B, cases: &[C]) {
    conforms_within(be, cases, 0.0);
}

/// The same for a backend that may be this far off, or as far as the case allows.
pub(crate) fn conforms_within<B: Backend, C: Case>(be: &B, cases: &[C], allowed: f64) {
    let mut failures = Vec::new();
    for case in cases {
        let expected = case.run(&Reference).unwrap_or_else(|e| panic!("reference, {case:?}: {e}"));
        let got = case.run(be).unwrap_or_else(|e| panic!("{}, {case:?}: {e}", B::NAME));
        let again = case.run(be).unwrap_or_else(|e| panic!("{}, {case:?}: {e}", B::NAME));
        for (((name, expected), (_, got)), (_, again)) in expected.iter().zip(&got).zip(&again) {
            let error = nmse(got, expected);
            if error.is_nan() || error > case.tolerance().max(allowed) {
                failures.push(format!("{case:?}: {name} has an error of {error:e}"));
            }
            if got.iter().map(|x| x.to_bits()).ne(again.iter().map(|x| x.to_bits())) {
                failures.push(format!("{case:?}: {name} differs between two runs"));
            }
            if expected.iter().any(|x| !x.is_finite()) {
                failures.push(format!("{case:?}: {name} of the reference is not finite"));
            }
        }
    }
    assert!(failures.is_empty(), "{} on {}:\n{}", failures.len(), be.fingerprint(), failures.join("\n"));
}

/// Two backends give the same bits.
pub(crate) fn same_bits<B: Backend, C: Case>(a: &B, b: &B, cases: &[C]) {
    for case in cases {
        let (left, right) = (case.run(a).expect("shapes fit"), case.run(b).expect("shapes fit"));
        for ((name, left), (_, right)) in left.iter().zip(&right) {
            let equal = left.iter().map(|x| x.to_bits()).eq(right.iter().map(|x| x.to_bits()));
            assert!(equal, "{case:?}: {name} of {} and {} differ", a.fingerprint(), b.fingerprint());
        }
    }
}

/// `gradient` is the gradient of `f` at `x`: central differences, within what f32 outputs allow.
pub(crate) fn is_gradient(name: &str, x: &[f32], gradient: &[f32], f: impl Fn(&[f32]) -> f64) {
    const STEP: f32 = 1.0 / 256.0;
    let mut moved = x.to_vec();
    let numeric: Vec<f32> = (0..x.len())
        .map(|i| {
            moved[i] = x[i] + STEP;
            let (above, up) = (f(&moved), f64::from(moved[i]));
            moved[i] = x[i] - STEP;
            let (below, down) = (f(&moved), f64::from(moved[i]));
            moved[i] = x[i];
            ((above - below) / (up - down)) as f32
        })
        .collect();
    let error = nmse(gradient, &numeric);
    assert!(error < 1e-7, "{name}: error {error:e}\nanalytic {gradient:?}\nnumeric {numeric:?}");
}

/// `Σ a·b`: turns an output into a loss whose gradient by the output is `b`.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// The call was refused because of its shapes.
pub(crate) fn refused<T>(what: &str, result: &Result<T>) {
    assert!(matches!(result, Err(Error::Shape { .. })), "{what} was not refused");
}
