//! What the search owes: recall, harmless nonsense, and an index in a file that is the index in memory.

use super::*;
use std::io::Write as _;
use std::time::Instant;

/// Nearly normal numbers from a counter.
fn vector(seed: u64, length: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    let mut next = || -> f32 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Four uniform numbers add up to something like a bell.
        (0..4).map(|part| (state >> (16 * part) & 0xFFFF) as f32 / 65_536.0 - 0.5).sum()
    };
    (0..length).map(|_| next()).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

/// Of the true ten nearest, the share that is found, over some questions.
fn recall(count: u64, length: usize, questions: u64) -> f64 {
    let all: Vec<Vec<f32>> = (0..count).map(|seed| vector(seed, length)).collect();
    let mut index = VectorIndex::new(&all[..100]).expect("vectors");
    for (id, vector) in (0..).zip(&all) {
        index.add(id, vector).expect("of one length");
    }
    let mut found = 0;
    for seed in 0..questions {
        let question = vector(1_000_000_000 + seed, length);
        let mut truth: Vec<(f32, i64)> = (0..).zip(&all).map(|(id, v)| (cosine(v, &question), id)).collect();
        truth.sort_by(|a, b| b.0.total_cmp(&a.0));
        let hits = index.search(&question, 10, &mut |id| Ok(Some(all[id as usize].clone()))).expect("found");
        assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
        found += truth[..10].iter().filter(|(_, id)| hits.iter().any(|hit| hit.id == *id)).count();
    }
    found as f64 / (10 * questions) as f64
}

#[test]
fn nearly_all_of_the_nearest_are_found_among_independent_vectors() {
    // Enough that the signs decide: three times as many as are looked at more closely.
    let recall = recall(3 * FEWEST as u64, 256, 10);
    assert!(recall >= 0.98, "recall {recall}");
}

#[test]
fn a_vector_is_the_nearest_to_itself_whatever_its_length() {
    let all: Vec<Vec<f32>> = (0..300).map(|seed| vector(seed, 100)).collect();
    let mut index = VectorIndex::new(&all).expect("vectors");
    for (id, vector) in (0..).zip(&all) {
        let long: Vec<f32> = vector.iter().map(|number| number * 1e6).collect();
        index.add(id, &long).expect("of one length");
    }
    for id in [0, 150, 299] {
        let hits = index.search(&all[id], 3, &mut |id| Ok(Some(all[id as usize].clone()))).expect("found");
        assert_eq!(hits[0].id, id as i64);
        assert!((hits[0].score - 1.0).abs() < 1e-5);
    }
    let hits = index.search(&all[0], 5, &mut |id| Ok((id > 0).then(|| all[id as usize].clone()))).expect("found");
    assert!(hits.len() == 5 && hits.iter().all(|hit| hit.id > 0), "what is gone is left out");
}

#[test]
fn vectors_that_make_no_sense_are_refused_or_harmless() {
    let mut index = VectorIndex::new(&[vec![1.0, 0.0]]).expect("a vector");
    for wrong in [vec![1.0], vec![f32::NAN, 0.0], vec![f32::INFINITY, 1.0]] {
        assert_eq!(index.add(1, &wrong).expect_err("refused").code, "PS-CFG-001");
    }
    index.add(7, &[0.0, 0.0]).expect("no direction");
    let hits = index.search(&[0.0, 0.0], 1, &mut |_| Ok(Some(vec![0.0, 0.0]))).expect("found");
    assert_eq!(hits, [Hit { id: 7, score: 0.0 }]);
    assert!(VectorIndex::new(&[]).is_err());
}

/// The file of an index of `all`.
fn kept(all: &[Vec<f32>], stamp: &str) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = VectorWriter::new(all, &mut file).expect("vectors");
    for (id, vector) in (0..).zip(all) {
        writer.add(id, vector).expect("of one length");
    }
    writer.finish(stamp).expect("written");
    file
}

fn opened(bytes: &[u8]) -> Option<(VectorIndex, String)> {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("written");
    VectorIndex::open(file).expect("readable")
}

#[test]
fn s0_7_an_index_in_a_file_finds_what_one_in_memory_finds() {
    // More than are looked at more closely, so that the signs decide, and a length that fills no word.
    let all: Vec<Vec<f32>> = (0..FEWEST as u64 + 900).map(|seed| vector(seed, 72)).collect();
    let mut index = VectorIndex::new(&all).expect("vectors");
    for (id, vector) in (0..).zip(&all) {
        index.add(id, vector).expect("of one length");
    }
    let file = kept(&all, "made from this");
    let (found, stamp) = opened(&file).expect("an index");
    assert_eq!((found.len(), found.ids(), stamp.as_str()), (index.len(), index.ids(), "made from this"));
    assert!(found.memory() < index.memory() / 3, "rows stay in the file");
    let mut exact = |id: i64| Ok(Some(all[id as usize].clone()));
    for seed in 0..5 {
        let question = vector(77_000_000 + seed, 72);
        let hits = index.search(&question, 10, &mut exact).expect("found");
        assert_eq!(found.search(&question, 10, &mut exact).expect("found"), hits);
    }
    // One that goes on from another one is as good as one that is made in one go.
    let mut longer = Vec::new();
    let mut writer = VectorWriter::from(&found, &|id| id % 2 == 0, &mut longer).expect("kept");
    writer.add(90_000, &all[1]).expect("of one length");
    writer.finish("next").expect("written");
    let (longer, _) = opened(&longer).expect("an index");
    assert_eq!(longer.len(), all.len().div_ceil(2) + 1);
    let mut exact = |id: i64| Ok(Some(all[if id == 90_000 { 1 } else { id as usize }].clone()));
    let hits = longer.search(&all[1], 1, &mut exact).expect("found");
    assert_eq!(hits[0].id, 90_000);
    let mut refuses = found;
    assert_eq!(refuses.add(1, &all[0]).expect_err("only read").code, "PS-DISK-004");
}

#[test]
fn a_file_that_does_not_add_up_is_no_index() {
    let file = kept(&[vec![1.0, 2.0, 3.0], vec![0.5, -2.0, 3.0]], "s");
    assert!(opened(&file).is_some());
    assert!(opened(&file[1..]).is_none() && opened(&file[..file.len() - 1]).is_none());
    assert!(opened(&[]).is_none() && opened(b"PEFTVEC1").is_none());
    // Rows come first: what they are only decides what is compared. All else is covered.
    for at in 2 * 3..file.len() {
        let mut other = file.clone();
        other[at] ^= 0x10;
        assert!(opened(&other).is_none(), "byte {at}");
    }
    let mut huge = file.clone();
    let trailer = huge.len() - 36;
    for (at, number) in [(8, u64::MAX), (16, u64::MAX / 3), (24, 1 << 40)] {
        huge[trailer + at..][..8].copy_from_slice(&number.to_le_bytes());
        assert!(opened(&huge).is_none());
    }
}

/// Run by hand: `cargo test --release -p peft_documents a_million -- --ignored --nocapture`. `PEFT_VECTORS` is how many.
#[test]
#[ignore = "takes minutes and 0.9 GB of disk"]
#[expect(clippy::print_stderr, reason = "a measurement says what it measured")]
fn a_million_vectors_are_searched_within_the_limits() {
    const LENGTH: usize = 768;
    let count = std::env::var("PEFT_VECTORS").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000_000_u64);
    let sample: Vec<Vec<f32>> = (0..100).map(|seed| vector(seed, LENGTH)).collect();
    let questions: Vec<Vec<f32>> = (0..10).map(|seed| vector(9_000_000_000 + seed, LENGTH)).collect();
    let mut truth: Vec<Vec<(f32, i64)>> = vec![Vec::new(); questions.len()];
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let mut out = std::io::BufWriter::new(&mut file);
    let mut writer = VectorWriter::new(&sample, &mut out).expect("vectors");
    for seed in 0..count {
        let one = vector(seed, LENGTH);
        writer.add(seed as i64, &one).expect("of one length");
        for (truth, question) in truth.iter_mut().zip(&questions) {
            truth.push((cosine(&one, question), seed as i64));
            if truth.len() >= 1_000 {
                truth.sort_by(|a, b| b.0.total_cmp(&a.0));
                truth.truncate(10);
            }
        }
    }
    writer.finish("all of them").expect("written");
    out.flush().expect("written");
    drop(out);
    let start = Instant::now();
    let (index, _) = VectorIndex::open(file.reopen().expect("there")).expect("readable").expect("an index");
    eprintln!("opened in {:?}, {} MiB of memory", start.elapsed(), index.memory() >> 20);
    assert!(index.memory() < 1_200_000_000, "{} bytes", index.memory());
    let (mut found, mut slowest) = (0, 0.0_f64);
    for (truth, question) in truth.iter_mut().zip(&questions) {
        truth.sort_by(|a, b| b.0.total_cmp(&a.0));
        let start = Instant::now();
        let hits = index.search(question, 10, &mut |id| Ok(Some(vector(id as u64, LENGTH)))).expect("found");
        let took = start.elapsed().as_secs_f64();
        eprintln!("{:.1} ms", took * 1e3);
        slowest = slowest.max(took);
        found += truth[..10].iter().filter(|(_, id)| hits.iter().any(|hit| hit.id == *id)).count();
    }
    let recall = f64::from(found as u32) / (10 * questions.len()) as f64;
    eprintln!("recall {recall}, slowest {:.1} ms", slowest * 1e3);
    assert!(recall >= 0.98 && slowest < 0.080, "recall {recall}, slowest {slowest} s");
}
