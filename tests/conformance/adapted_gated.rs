//! Gate and up with their adapters, and the activation of both, in one call and one after the other.

use crate::harness::{Case, Field, Outputs, empty, tensor, unset};
use crate::weights::{Held, Storage};
use peft_kernels::{
    Activation, Adapted, AdaptedGradient, Adapter, AdapterGradient, Backend, DType, FourBitKind, Input, NormParams,
    Normed, Part, Result, Write,
};

#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a property of its own, and all of their combinations are tried"
)]
pub(crate) struct GateUp {
    rows: usize,
    inputs: usize,
    d_ff: usize,
    /// Ranks of the adapters of gate and up.
    ranks: [Option<usize>; 2],
    /// Gate and up are one matrix, with the first of the adapters.
    is_one: bool,
    storage: Storage,
    act: Activation,
    /// Of the input, in the products.
    has_norm: bool,
    is_kept: bool,
    /// By the operations that it is made of.
    is_apart: bool,
}

impl Case for GateUp {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { rows, inputs, d_ff, ranks, is_one, storage, act, has_norm, is_kept, is_apart } = self;
        let sizes = if is_one { vec![(2 * d_ff, ranks[0])] } else { vec![(d_ff, ranks[0]), (d_ff, ranks[1])] };
        let mut modules = Vec::new();
        for (i, (outputs, rank)) in sizes.iter().copied().enumerate() {
            let (seed, rank) = (10 * i as u64, rank.unwrap_or(1));
            let w = Held::new(be, storage, 30 + seed, outputs, inputs);
            let (a, b) = (tensor(be, 31 + seed, rank, inputs), tensor(be, 32 + seed, outputs, rank));
            modules.push((w, a, b, tensor(be, 33 + seed, 1, outputs), unset(be, 1, 1)));
        }
        let x = Field::noise(be, 1, rows, inputs);
        let (gain, params) = (tensor(be, 5, 1, inputs), NormParams { eps: 1e-6, offset: 1.0 });
        let mut rstd = unset(be, rows, 1);
        // As wide as numbers of fields are.
        let mut gate_up = empty(be);
        let mut h = Field::output(be, rows, d_ff, Write::Set);
        let mut parts = Vec::new();
        for (i, (w, a, b, bias, xa)) in modules.iter_mut().enumerate() {
            let columns = if is_one { 0..2 * d_ff } else { i * d_ff..(i + 1) * d_ff };
            let part = Part { columns, w: w.matrix(), bias: (i == 0).then_some(&*bias) };
            let adapter = sizes[i].1.map(|_| Adapter { a, b, scaling: 0.5, xa });
            parts.push(Adapted { part, adapter });
        }
        let normed = Normed { x: x.view(), gain: &gain, params };
        if is_apart {
            be.reshape(&mut gate_up, rows, 2 * d_ff)?;
            if has_norm {
                be.adapted_of_norm(gate_up.view_mut(), &mut rstd, &normed, &mut parts)?;
            } else {
                be.adapted(gate_up.view_mut(), x.view(), &mut parts)?;
            }
            be.gated(h.view_mut(), gate_up.view(), act)?;
        } else {
            let input = if has_norm { Input::Norm(normed, &mut rstd) } else { Input::Rows(x.view()) };
            be.adapted_gated(h.view_mut(), &mut gate_up, is_kept, input, &mut parts, act)?;
        }
        let mut outputs = vec![("h", h.take(be))];
        if is_kept {
            outputs.push(("gate_up", be.download(&gate_up)?));
        }
        if has_norm {
            outputs.push(("rstd", be.download(&rstd)?));
        }
        for (i, (.., xa)) in modules.iter().enumerate() {
            if sizes[i].1.is_some() {
                outputs.push(("xa", be.download(xa)?));
            }
        }
        Ok(outputs)
    }
}

/// Rows, inputs, width of gate, ranks of the adapters, and whether gate and up are one matrix.
type Sizes = (usize, usize, usize, [Option<usize>; 2], bool);

/// Few rows and many, widths beside those of panels and tiles, with and without adapters and norm, kept or not.
pub(crate) fn cases() -> Vec<GateUp> {
    let nf4 = Storage::FourBit(FourBitKind::Nf4, true, DType::BF16);
    let sizes: [Sizes; 8] = [
        (1, 5, 7, [Some(2), None], false),
        (16, 64, 30, [Some(4), Some(4)], false),
        (17, 33, 65, [Some(1), Some(3)], false),
        (40, 130, 70, [None, Some(16)], false),
        (33, 64, 100, [Some(8), None], true),
        (66, 96, 33, [None, None], true),
        (19, 70, 300, [None, None], false),
        (130, 64, 128, [Some(40), Some(20)], false),
    ];
    let case = |(i, (rows, inputs, d_ff, ranks, is_one))| GateUp {
        rows,
        inputs,
        d_ff,
        ranks,
        is_one,
        storage: [Storage::Dense(DType::BF16), nf4, Storage::Trainable][i % 3],
        act: [Activation::Silu, Activation::GeluTanh][i % 2],
        has_norm: i % 4 < 2,
        is_kept: i % 3 != 1,
        is_apart: false,
    };
    sizes.into_iter().enumerate().map(case).collect()
}

/// More than one block in every direction.
pub(crate) fn large() -> Vec<GateUp> {
    let case = |rows, inputs, d_ff, is_one, is_kept| GateUp {
        rows,
        inputs,
        d_ff,
        ranks: [Some(16), Some(8)],
        is_one,
        storage: Storage::Dense(DType::BF16),
        act: Activation::Silu,
        has_norm: is_kept,
        is_kept,
        is_apart: false,
    };
    vec![case(40, 1700, 1100, false, true), case(2100, 40, 70, true, true), case(33, 2200, 96, false, false)]
}

/// In one call and one after the other, kept and not: the same bits.
pub(crate) fn together_has_the_bits_of_one_after_the_other<B: Backend>(be: &B, cases: &[GateUp]) {
    for case in cases {
        let apart = GateUp { is_apart: true, is_kept: true, ..case.clone() }.run(be).expect("shapes fit");
        for is_kept in [true, false] {
            let together = GateUp { is_kept, ..case.clone() }.run(be).expect("shapes fit");
            let apart = apart.iter().filter(|(name, _)| is_kept || *name != "gate_up");
            for ((name, apart), (same_name, together)) in apart.zip(&together) {
                assert_eq!(name, same_name);
                let same = apart.iter().map(|x| x.to_bits()).eq(together.iter().map(|x| x.to_bits()));
                assert!(same, "{case:?}: {name} on {}, kept: {is_kept}", be.fingerprint());
            }
        }
    }
}

/// The way back through the product behind the gate, and the gate.
#[derive(Clone, Debug)]
pub(crate) struct Back {
    rows: usize,
    d_ff: usize,
    outputs: usize,
    rank: Option<usize>,
    storage: Storage,
    act: Activation,
    /// Of the adapter's matrices.
    is_trained: bool,
    /// By the operations that it is made of.
    is_apart: bool,
}

impl Case for Back {
    fn run<B: Backend>(&self, be: &B) -> Result<Outputs> {
        let &Self { rows, d_ff, outputs, rank, storage, act, is_trained, is_apart } = self;
        let w = Held::new(be, storage, 3, outputs, d_ff);
        let ranks = rank.unwrap_or(1);
        let (a, b, xa) = (tensor(be, 4, ranks, d_ff), tensor(be, 5, outputs, ranks), tensor(be, 6, rows, ranks));
        let (mut da, mut db) = (tensor(be, 7, ranks, d_ff), tensor(be, 8, outputs, ranks));
        let (dy, gate_up) = (Field::noise(be, 1, rows, outputs), Field::noise(be, 2, rows, 2 * d_ff));
        let mut dgate_up = Field::output(be, rows, 2 * d_ff, Write::Set);
        let [mut h, mut dh, mut dxa] = [(); 3].map(|()| unset(be, 1, 1));
        let trained = is_trained.then_some((&mut da, &mut db));
        let (of_a, of_b) = trained.map_or((None, None), |(da, db)| (Some(da), Some(db)));
        let adapter = rank.map(|_| AdapterGradient { a: &a, b: &b, scaling: 0.5, xa: &xa, da: of_a, db: of_b });
        let part = AdaptedGradient { columns: 0..outputs, w: w.matrix(), adapter };
        if is_apart {
            be.reshape(&mut h, rows, d_ff)?;
            be.gated(h.view_mut(), gate_up.view(), act)?;
            be.reshape(&mut dh, rows, d_ff)?;
            be.adapted_bwd(Some(dh.view_mut()), dy.view(), h.view(), &mut [part], &mut dxa)?;
            be.gated_bwd(dgate_up.view_mut(), dh.view(), gate_up.view(), act)?;
        } else {
            let buffers = (&mut h, &mut dh, &mut dxa);
            be.adapted_gated_bwd(dgate_up.view_mut(), buffers, (dy.view(), gate_up.view()), part, act)?;
        }
        let mut outputs = vec![("dgate_up", dgate_up.take(be)), ("da", be.download(&da)?), ("db", be.download(&db)?)];
        if rank.is_some() {
            outputs.push(("h", be.download(&h)?));
        }
        Ok(outputs)
    }
}

/// Few rows and many, widths beside those of panels and tiles, with an adapter and without.
pub(crate) fn back() -> Vec<Back> {
    let nf4 = Storage::FourBit(FourBitKind::Nf4, true, DType::BF16);
    let sizes: [(usize, usize, usize, Option<usize>); 7] = [
        (3, 7, 5, Some(2)),
        (16, 30, 64, Some(4)),
        (17, 65, 33, Some(1)),
        (40, 70, 130, None),
        (33, 300, 64, Some(20)),
        (66, 33, 96, Some(8)),
        (130, 128, 70, Some(40)),
    ];
    let case = |(i, (rows, d_ff, outputs, rank))| Back {
        rows,
        d_ff,
        outputs,
        rank,
        storage: [Storage::Dense(DType::BF16), nf4][i % 2],
        act: [Activation::Silu, Activation::GeluTanh][i % 2],
        is_trained: i != 4,
        is_apart: false,
    };
    sizes.into_iter().enumerate().map(case).collect()
}

/// More than one block in every direction.
pub(crate) fn back_large() -> Vec<Back> {
    let case = |(rows, d_ff, outputs)| Back {
        rows,
        d_ff,
        outputs,
        rank: Some(16),
        storage: Storage::Dense(DType::BF16),
        act: Activation::Silu,
        is_trained: true,
        is_apart: false,
    };
    [(40, 2100, 1700), (2100, 70, 40), (33, 96, 2200)].map(case).into()
}

/// The way back in one call and one after the other: the same bits.
pub(crate) fn back_together_has_the_bits_of_one_after_the_other<B: Backend>(be: &B, cases: &[Back]) {
    for case in cases {
        let apart = Back { is_apart: true, ..case.clone() }.run(be).expect("shapes fit");
        let together = case.run(be).expect("shapes fit");
        for ((name, apart), (_, together)) in apart.iter().zip(&together) {
            let same = apart.iter().map(|x| x.to_bits()).eq(together.iter().map(|x| x.to_bits()));
            assert!(same, "{case:?}: {name} on {}", be.fingerprint());
        }
    }
}
