//! Double quantisation: block scales as 8-bit codes of a dynamic map (Dettmers et al. 2022, 2023).

use crate::weight::{Absmax, Bytes};
use std::sync::Arc;

/// Scales that share one scale of their own.
pub const GROUP: usize = 256;

/// Cells into which bitsandbytes' processor encoder cuts `[-1, 1]` before it looks for the nearest code.
const CELLS: u16 = u16::MAX;

/// The 256 values of the signed dynamic map, ascending: in each decade from 1e-6 to 1, twice as many points
/// as in the one below; then 0 and 1.
pub fn dynamic_map() -> Vec<f32> {
    let mut map = vec![0.0, 1.0];
    for i in 0..7 {
        let decade = 10.0_f64.powi(i - 6) as f32;
        let points = linspace(0.1, 1.0, (1 << i) + 1);
        for pair in points.windows(2) {
            let middle = decade * f32::midpoint(pair[0], pair[1]);
            map.extend([middle, -middle]);
        }
    }
    map.sort_by(f32::total_cmp);
    map
}

/// The 256 values of the unsigned dynamic map, ascending: as the signed one, with all points on one side.
pub(crate) fn unsigned_dynamic_map() -> Vec<f32> {
    let mut map = vec![0.0, 1.0];
    for i in 0..7 {
        let decade = 10.0_f64.powi(i - 6) as f32;
        let points = linspace(0.1, 1.0, (2 << i) + 1);
        map.extend(points.windows(2).map(|pair| decade * f32::midpoint(pair[0], pair[1])));
    }
    map.sort_by(f32::total_cmp);
    map
}

/// `torch.linspace` in f32: the first half counts up from the start, the second down from the end, products fused.
fn linspace(start: f32, end: f32, points: usize) -> Vec<f32> {
    let step = (end - start) / (points - 1) as f32;
    let point = |i: usize| {
        if i < points / 2 { step.mul_add(i as f32, start) } else { (-step).mul_add((points - 1 - i) as f32, end) }
    };
    (0..points).map(point).collect()
}

/// `absmax` as codes: subtract the mean, scale groups of 256 to `[-1, 1]`, take the nearest code.
pub fn encode(absmax: &[f32]) -> Absmax {
    let map = dynamic_map();
    let offset = mean(absmax);
    let nearest = nearest_codes(&map);
    let mut codes = Vec::with_capacity(absmax.len());
    let mut scales = Vec::with_capacity(absmax.len().div_ceil(GROUP));
    for group in absmax.chunks(GROUP) {
        let centred: Vec<f32> = group.iter().map(|a| a - offset).collect();
        let scale = centred.iter().fold(0.0_f32, |scale, x| scale.max(x.abs()));
        scales.push(scale);
        if scale == 0.0 {
            codes.resize(codes.len() + group.len(), 0);
            continue;
        }
        let inverse = 1.0 / scale;
        codes.extend(centred.iter().map(|x| {
            let unit = ((x * inverse).clamp(-1.0, 1.0) + 1.0) * 0.5;
            // The cast truncates, and is 0 for a NaN.
            nearest[usize::from(unit.mul_add(f32::from(CELLS), 0.5) as u16)]
        }));
    }
    Absmax::Nested { codes: Bytes::from_vec(codes), map: Arc::new(map), scales: Arc::new(scales), offset, group: GROUP }
}

/// The nearest code of the middle of every cell.
pub(crate) fn nearest_codes(map: &[f32]) -> Vec<u8> {
    let bounds: Vec<f32> = map.windows(2).map(|pair| (pair[0] + pair[1]) * 0.5).collect();
    let mut code = 0;
    (0..=CELLS)
        .map(|cell| {
            let cell = f32::from(cell);
            let value = (cell + cell) / f32::from(CELLS) - 1.0;
            while bounds.get(code).is_some_and(|&bound| value > bound) {
                code += 1;
            }
            code as u8
        })
        .collect()
}

/// The mean with the bits of `torch.mean` on one thread: its cascade of partial sums, eight lanes wide.
///
/// `PyTorch` cuts sums of more than 32768 numbers by its number of threads; those may differ in the last bit.
pub(crate) fn mean(x: &[f32]) -> f32 {
    const LANES: usize = 8;
    if x.is_empty() {
        return 0.0;
    }
    let sum = if x.len() < LANES {
        cascade(&x.iter().map(|&x| [x]).collect::<Vec<_>>())[0]
    } else {
        let (vectors, rest) = x.as_chunks::<LANES>();
        let rest = rest.iter().fold(0.0, |sum, x| sum + x);
        cascade(vectors).iter().fold(rest, |sum, x| sum + x)
    };
    sum / x.len() as f32
}

/// `at::native::row_sum`: four interleaved sums, each over levels whose steps are powers of two.
fn cascade<const N: usize>(x: &[[f32; N]]) -> [f32; N] {
    const LEVELS: usize = 4;
    let add = |to: &mut [f32; N], x: &[f32; N]| to.iter_mut().zip(x).for_each(|(to, x)| *to += x);
    let (rows, rest) = x.as_chunks::<4>();
    let power = (rows.len().next_power_of_two().trailing_zeros() as usize / LEVELS).max(4);
    let step = 1 << power;
    let mut levels = [[[0.0; N]; 4]; LEVELS];
    for (i, row) in (1..).zip(rows) {
        levels[0].iter_mut().zip(row).for_each(|(sum, x)| add(sum, x));
        if i % step != 0 {
            continue;
        }
        for level in 1..LEVELS {
            let below = std::mem::replace(&mut levels[level - 1], [[0.0; N]; 4]);
            levels[level].iter_mut().zip(&below).for_each(|(sum, x)| add(sum, x));
            if i & ((step - 1) << (level * power)) != 0 {
                break;
            }
        }
    }
    let [mut sums, upper @ ..] = levels;
    for level in &upper {
        sums.iter_mut().zip(level).for_each(|(sum, x)| add(sum, x));
    }
    let [mut total, others @ ..] = sums;
    rest.iter().chain(&others).for_each(|x| add(&mut total, x));
    total
}

#[cfg(test)]
mod tests {
    use super::{dynamic_map, encode, mean};

    #[test]
    fn the_map_is_sorted_and_ends_at_one() {
        let map = dynamic_map();
        assert_eq!((map.len(), map[127], map[255]), (256, 0.0, 1.0));
        assert!(map.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(map[252..], [0.964_843_75, 0.978_906_3, 0.992_968_74, 1.0]);
    }

    #[test]
    fn decoded_scales_are_close() {
        let absmax: Vec<f32> = (0..1000_u32).map(|i| 0.05 + (i * 7919 % 1000) as f32 * 1e-4).collect();
        let nested = encode(&absmax);
        for (i, &want) in absmax.iter().enumerate() {
            assert!((nested.get(i) - want).abs() < 1e-3, "block {i}: {} instead of {want}", nested.get(i));
        }
    }

    #[test]
    fn mean_of_equal_numbers_is_that_number() {
        for n in [1, 7, 8, 33, 5000] {
            assert_eq!(mean(&vec![0.5; n]), 0.5);
        }
    }
}
