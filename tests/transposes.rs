//! Random permutations of random extents, alone and among elementwise operations, on every engine: bit for bit what the interpreter gives.

use egret::ir::rng::Rng;
use egret::ir::{interp, text};
use egret::source::made_up;
use egret::{Engine, Executable, Options};
use std::collections::BTreeMap;

/// Elements that a tensor has at most.
const MOST: i64 = 60_000;

/// Extents of 2 to 4 axes, often such as leave something of a block.
fn extents(rng: &mut Rng) -> Vec<i64> {
    loop {
        let rank = rng.pick(&[2, 2, 3, 3, 4]);
        let extent = |rng: &mut Rng| match rng.below(4) {
            0 => rng.range(1, 8),
            1 => rng.pick(&[16, 32, 64]),
            2 => rng.range(250, 600),
            _ => rng.range(3, 80),
        };
        let dims: Vec<i64> = (0..rank).map(|_| extent(rng)).collect();
        if dims.iter().product::<i64>() <= MOST {
            return dims;
        }
    }
}

fn permutation(rng: &mut Rng, rank: usize) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank).collect();
    for i in (1..rank).rev() {
        perm.swap(i, rng.below(i + 1));
    }
    perm
}

/// A graph that transposes, and what it is about.
fn graph(rng: &mut Rng) -> String {
    let mut dims = extents(rng);
    let mut perm = permutation(rng, dims.len());
    if rng.chance(15) {
        // The channels of pixels, often three, become the last axis.
        let rank = dims.len();
        dims[rank - 2] = rng.range(1, 5);
        perm = (0..rank).collect();
        perm.swap(rank - 2, rank - 1);
    }
    let out: Vec<i64> = perm.iter().map(|&p| dims[p]).collect();
    let dtype = rng.pick(&["u8", "i16", "f16", "f32", "i32", "f64", "i64", "bool"]);
    // One number for all, for each element of the last axis, or for each index of another axis.
    let mut bias: Vec<i64> = vec![1; dims.len()];
    if rng.chance(70) {
        let axis = rng.below(dims.len());
        bias[axis] = out[axis];
    }
    let head = format!("graph @g(%0 \"x\": {dtype}{dims:?}");
    let turned = format!("%1 = transpose(%0) {{perm = {perm:?}}}");
    match (rng.below(4), dtype) {
        (0, "f32" | "i32" | "f64") => format!(
            "{head}, %2 \"b\": {dtype}{bias:?}, %3 \"z\": {dtype}{out:?}) -> (%6 \"y\") {{
               {turned}\n %4 = abs(%1)\n %5 = add(%4, %2)\n %6 = max(%5, %3)\n}}"
        ),
        (1, "u8" | "i16" | "i32" | "bool") => format!(
            "{head}, %2 \"b\": f32{bias:?}) -> (%4 \"y\") {{
               {turned}\n %3 = cast(%1) {{to = f32, saturate = 0, round = \"nearest\"}}\n %4 = add(%3, %2)\n}}"
        ),
        (2, "f32" | "i32") => format!(
            "{head}, %2 \"z\": {dtype}{dims:?}) -> (%4 \"y\") {{
               %3 = add(%0, %2)\n %4 = transpose(%3) {{perm = {perm:?}}}\n}}"
        ),
        _ => format!("{head}) -> (%1 \"y\") {{\n {turned}\n}}"),
    }
}

#[test]
fn transposes_of_all_kinds() {
    let narrow = Options { wide: false, ..Options::default() };
    let [v2, v3] = ["x86-64-v2", "x86-64-v3"].map(|t| Options { target: t.into(), ..Options::default() });
    let cases = std::env::var("EGRET_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    let mut rng = Rng::new(14);
    for case in 0..cases {
        let text = graph(&mut rng);
        let graph = text::parse(&text, &|_| None).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let inputs = made_up(&graph, case).unwrap();
        let want = interp::run(&graph, &inputs).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let want = want[0].as_tensor().unwrap();
        for options in [&Options::default(), &narrow, &v2, &v3] {
            for (engine, threads) in [(Engine::Jit, 1), (Engine::JitNoOpt, 2)] {
                let options = Options { threads, tier: "exact".parse().unwrap(), ..options.clone() };
                let run = Executable::new(graph.clone(), engine, &options, &BTreeMap::new());
                let got = run.and_then(|e| e.run(&inputs)).unwrap_or_else(|e| panic!("{e}\n{text}"));
                let same = got[0].as_tensor().is_some_and(|got| got.bytes() == want.bytes());
                assert!(same, "case {case}, {}, {}: another result\n{text}", engine.name(), options.target);
            }
        }
    }
}
