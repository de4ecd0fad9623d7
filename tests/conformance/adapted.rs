//! Weights with adapters beside them, several with the same input, and all gradients.

use crate::harness::{Case, Field, Outputs, noise, tensor, unset};
use crate::weights::{Held, Storage};
use half::bf16;
use peft_kernels::{
    Adapted, AdaptedGradient, Adapter, AdapterGradient, Backend, DType, FourBitKind, NormParams, Normed, Part, Result,
    Write,
};

/// Outputs of a module, and the rank of its adapter, where it has one.
type Sizes = (usize, Option<usize>);

/// Where the norm of the input is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum NormAt {
    /// There is none.
    Nowhere,
    /// Before the products, into memory.
    Before,
    /// In the products.
    Inside,
}

#[derive(Clone, Debug)]
pub(crate) struct Modules {
    rows: usize,
    inputs: usize,
    sizes: Vec<Sizes>,
    storage: Storage,
    /// Of the adapters' gradients, those of `a` and those of `b` are wanted.
    trained: (bool, bool),
    /// And that of the input.
    input: bool,
    /// Numbers that bf16 holds.
    held: bool,
    norm: NormAt,
}

impl Case for Modules {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { rows, inputs, sizes: ref modules, storage, trained, input, held, norm } = self;
        let numbers = |seed, n: usize| -> Vec<f32> {
            let of = noise(seed, n);
            if held { of.into_iter().map(|x| bf16::from_f32(x).to_f32()).collect() } else { of }
        };
        // Two columns before and between the modules belong to nobody.
        let mut columns = Vec::new();
        let mut end = 0;
        for (outputs, _) in modules {
            columns.push(end + 2..end + 2 + outputs);
            end += 2 + outputs;
        }
        let weights: Vec<Held<B>> = (modules.iter().enumerate())
            .map(|(i, (outputs, _))| Held::new(be, storage, 30 + i as u64, *outputs, inputs))
            .collect();
        let rank = |i: usize| modules[i].1.unwrap_or(1);
        let make = |seed: usize, rows: usize, cols: usize| be.tensor(rows, cols, &numbers(seed as u64, rows * cols));
        let mut a = Vec::new();
        let mut b = Vec::new();
        let (mut xa, mut da, mut db) = (Vec::new(), Vec::new(), Vec::new());
        for (i, (outputs, _)) in modules.iter().enumerate() {
            a.push(make(40 + i, rank(i), inputs)?);
            b.push(make(50 + i, *outputs, rank(i))?);
            xa.push(unset(be, 1, 1));
            da.push(tensor(be, 60, rank(i), inputs));
            db.push(tensor(be, 70, *outputs, rank(i)));
        }
        let bias = tensor(be, 4, 1, modules[0].0);
        let x = Field::holding(be, rows, inputs, &numbers(1, rows * inputs));
        let dy = Field::holding(be, rows, end, &numbers(2, rows * end));
        let mut y = Field::holding(be, rows, end, &vec![0.25; rows * end]);
        let mut parts = Vec::new();
        for (i, xa) in xa.iter_mut().enumerate() {
            let part = Part { columns: columns[i].clone(), w: weights[i].matrix(), bias: (i == 0).then_some(&bias) };
            let adapter = modules[i].1.map(|_| Adapter { a: &a[i], b: &b[i], scaling: 0.5, xa });
            parts.push(Adapted { part, adapter });
        }
        let (gain, params) = (tensor(be, 5, 1, inputs), NormParams { eps: 1e-6, offset: 1.0 });
        let of_norm = Normed { x: x.view(), gain: &gain, params };
        let (mut normed, mut rstd) = (unset(be, rows, inputs), unset(be, rows, 1));
        if norm == NormAt::Before {
            be.rms_norm(normed.view_mut(), &mut rstd, x.view(), &gain, &params)?;
        }
        let plain = if norm == NormAt::Before { normed.view() } else { x.view() };
        match norm {
            NormAt::Inside => be.adapted_of_norm(y.view_mut(), &mut rstd, &of_norm, &mut parts)?,
            _ => be.adapted(y.view_mut(), plain, &mut parts)?,
        }
        let mut dx = Field::output(be, rows, inputs, Write::Set);
        let mut parts = Vec::new();
        for (i, (da, db)) in da.iter_mut().zip(&mut db).enumerate() {
            let adapter = modules[i].1.map(|_| AdapterGradient {
                a: &a[i],
                b: &b[i],
                scaling: 0.5,
                xa: &xa[i],
                da: trained.0.then_some(da),
                db: trained.1.then_some(db),
            });
            parts.push(AdaptedGradient { columns: columns[i].clone(), w: weights[i].matrix(), adapter });
        }
        let mut dxa = unset(be, 1, 1);
        let out = input.then(|| dx.view_mut());
        match norm {
            NormAt::Inside => be.adapted_of_norm_bwd(out, dy.view(), &of_norm, &rstd, &mut parts, &mut dxa)?,
            _ => be.adapted_bwd(out, dy.view(), plain, &mut parts, &mut dxa)?,
        }
        let mut outputs = vec![("y", y.take(be))];
        if norm != NormAt::Nowhere {
            outputs.push(("rstd", be.download(&rstd)?));
        }
        if input {
            outputs.push(("dx", dx.take(be)));
        }
        for i in 0..modules.len() {
            if modules[i].1.is_some() {
                outputs.push(("xa", be.download(&xa[i])?));
            }
            outputs.extend([("da", be.download(&da[i])?), ("db", be.download(&db[i])?)]);
        }
        Ok(outputs)
    }
}

/// One module and several, with and without adapters; few rows and many.
pub(crate) fn modules(held: bool) -> Vec<Modules> {
    let nf4 = Storage::FourBit(FourBitKind::Nf4, true, DType::BF16);
    let bf16 = Storage::Dense(DType::BF16);
    let all: [(usize, usize, &[Sizes]); 8] = [
        (1, 5, &[(7, Some(2))]),
        (17, 33, &[(65, Some(1))]),
        (40, 65, &[(70, Some(16)), (33, Some(3)), (9, Some(20))]),
        (66, 130, &[(64, Some(8)), (64, None), (128, Some(40))]),
        (19, 70, &[(90, None), (31, None)]),
        (33, 64, &[(5, None), (200, Some(33))]),
        (4, 64, &[(30, Some(4)), (30, Some(4))]),
        (130, 96, &[(100, Some(16)), (100, Some(16))]),
    ];
    let case = |(i, (rows, inputs, modules)): (usize, (usize, usize, &[Sizes]))| Modules {
        rows,
        inputs,
        sizes: modules.to_vec(),
        storage: if i % 2 == 0 { bf16 } else { nf4 },
        trained: [(true, true), (true, true), (false, true), (true, false)][i % 4],
        input: i != 7,
        held,
        norm: NormAt::Nowhere,
    };
    all.into_iter().enumerate().map(case).collect()
}

/// More than one block in every direction.
pub(crate) fn large() -> Vec<Modules> {
    let case = |rows, inputs, modules: &[Sizes]| Modules {
        rows,
        inputs,
        sizes: modules.to_vec(),
        storage: Storage::Dense(DType::BF16),
        trained: (true, true),
        input: true,
        held: false,
        norm: NormAt::Nowhere,
    };
    vec![
        case(40, 1700, &[(2100, Some(16)), (300, Some(16))]),
        case(2100, 40, &[(64, Some(8)), (30, None), (40, Some(5))]),
    ]
}

/// The same with the norm of their input in the products.
pub(crate) fn of_norms() -> Vec<Modules> {
    modules(false).into_iter().map(|case| Modules { norm: NormAt::Inside, ..case }).collect()
}

/// A norm in the products gives the bits of a norm before them.
pub(crate) fn norm_inside_is_norm_before<B: Backend>(be: &B) {
    for case in modules(false).into_iter().chain(large()) {
        let before = Modules { norm: NormAt::Before, ..case.clone() }.run(be).expect("shapes fit");
        let inside = Modules { norm: NormAt::Inside, ..case.clone() }.run(be).expect("shapes fit");
        for ((name, before), (_, inside)) in before.iter().zip(&inside) {
            let same = before.iter().map(|x| x.to_bits()).eq(inside.iter().map(|x| x.to_bits()));
            assert!(same, "{case:?}: {name} on {}", be.fingerprint());
        }
    }
}
