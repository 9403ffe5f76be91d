//! Random ensembles of decision trees, compiled, against the interpreter: every test, aggregate and post transform, with special
//! values among the features, denormals kept and flushed.

use egret::ir::interp::Bounds;
use egret::ir::rng::Rng;
use egret::ir::{Builder, DType, Denormals, Graph, Op, Tensor, Type, Value, interp};
use egret::{Engine, Executable, Options, compare};
use egret_testkit::trees::{Ensemble, number};
use std::collections::BTreeMap;

fn case(seed: u64) -> (Graph, Tensor, bool) {
    let mut rng = Rng::new(seed);
    let dtype = [DType::F32, DType::F64, DType::F16][rng.below(3)];
    let (rows, features, targets) = (rng.below(6) + 1, rng.below(4) + 1, rng.below(3) + 1);
    let all: [&[u8]; 4] = [&[0], &[rng.below(7) as u8], &[0, 3, 5], &[0, 1, 2, 3, 4, 5, 6]];
    let modes = all[rng.below(4)];
    let mut e = Ensemble::default();
    let count = rng.below(5) + 1;
    while e.roots.len() < count {
        if let (root, false) = e.grow(&mut rng, 4, modes, features, targets) {
            e.roots.push(root as i64);
        }
    }
    question(&mut rng, &e, dtype, [rows, features, targets])
}

/// Trees of one kind of test, some of more than 64 leaves, asked about so many rows that all nodes are tested for vectors of them.
fn many_rows(seed: u64) -> (Graph, Tensor, bool) {
    let mut rng = Rng::new(seed);
    let dtype = [DType::F32, DType::F64, DType::F16][rng.below(3)];
    let (rows, features, targets) = (rng.below(90) + 1, rng.below(9) + 1, rng.below(3) + 1);
    let (mode, depth) = (rng.below(6) as u8, rng.below(5) + 3);
    let mut e = Ensemble::default();
    let count = rng.below(9) + 1;
    while e.roots.len() < count {
        if let (root, false) = e.grow(&mut rng, depth, &[mode], features, targets) {
            e.roots.push(root as i64);
        }
    }
    // Extremes decide whether NaN can be replaced by an infinity.
    for split in &mut e.split {
        if rng.below(200) == 0 {
            *split = rng.pick(&[f64::INFINITY, f64::NEG_INFINITY, f64::NAN]);
        }
    }
    question(&mut rng, &e, dtype, [rows, features, targets])
}

/// An ensemble, features to ask it about, and whether what it says is exact.
fn question(
    rng: &mut Rng,
    e: &Ensemble,
    dtype: DType,
    [rows, features, targets]: [usize; 3],
) -> (Graph, Tensor, bool) {
    let (aggregate, post) = (rng.below(4) as i64, rng.below(4) as i64);
    let attrs = e.attrs(dtype, targets, aggregate, post);
    let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5e-324, -0.0];
    let values: Vec<f64> = (0..rows * features)
        .map(|_| if rng.below(5) == 0 { special[rng.below(5)] } else { number(rng) })
        .collect();
    let x = Tensor::from_f64s(dtype, &[rows, features], values);
    let mut b = Builder::new("trees");
    let input = b.input("x", Type::Tensor(x.ty()));
    let y = b.emit(Op::TreeEnsemble, attrs, &[input]).expect("an ensemble");
    b.output("y", y);
    (b.graph, x, post == 0)
}

/// Runs a case on both engines, denormals kept and flushed.
fn agrees((graph, x, exact): (Graph, Tensor, bool), seed: u64, options: &Options) {
    let inputs = [Value::from(x)];
    for denormals in Denormals::ALL {
        let expected = interp::run_with(&graph, &inputs, denormals, &Bounds::default())
            .expect("the interpreter's results");
        let options = Options { denormals: Some(denormals), ..options.clone() };
        let what = || format!("{}, seed {seed}, denormals {denormals}\n{graph}", options.target);
        let program = Executable::new(graph.clone(), Engine::Jit, &options, &BTreeMap::new());
        let got = program.and_then(|p| p.run(&inputs)).unwrap_or_else(|e| panic!("{e}: {}", what()));
        let (a, b) = (expected[0].as_tensor().expect("y"), got[0].as_tensor().expect("y"));
        if exact {
            assert_eq!(a, b, "{}", what());
        } else {
            let tolerance = compare::Tolerance { rtol: 1e-6, atol: 1e-7 };
            compare::compare(&expected[0], &got[0], tolerance)
                .unwrap_or_else(|e| panic!("{e}: {}", what()));
        }
    }
}

#[test]
fn compiled_trees_say_what_the_interpreter_says() {
    (0..300).for_each(|seed| agrees(case(seed), seed, &Options::default()));
}

#[test]
fn so_do_those_that_are_asked_about_many_rows() {
    (0..200).for_each(|seed| agrees(many_rows(seed), seed, &Options::default()));
}

/// Lanes of every vector size: 2, 4 and what the machine has.
#[test]
fn vectors_of_rows_of_every_size_say_it_too() {
    let targets: &[&str] = match cfg!(target_arch = "x86_64") {
        true => &["x86-64-v2", "x86-64-v3"],
        false => &[],
    };
    for seed in 200..240 {
        for target in targets {
            let options = Options { target: (*target).into(), ..Options::default() };
            agrees(many_rows(seed), seed, &options);
        }
        let narrow = Options { wide: false, ..Options::default() };
        agrees(many_rows(seed), seed, &narrow);
    }
}

/// The cases here are of both ways: of walks, and of tests that clear bits.
#[test]
fn many_rows_are_asked_about_at_once() {
    let ways = |case: fn(u64) -> (Graph, Tensor, bool), seeds: std::ops::Range<u64>| -> Vec<bool> {
        let one = |seed| {
            let options = Options { target: "x86-64-v4".into(), ..Options::default() };
            let program = egret::pipeline::lower(case(seed).0, &options, &BTreeMap::new());
            let program = program.unwrap_or_else(|e| panic!("seed {seed}: {e}")).program;
            program.kernels.iter().any(|k| k.name == "tree_ensemble_bits")
        };
        seeds.map(one).collect()
    };
    let count = |ways: &[bool]| ways.iter().filter(|&&w| w).count();
    assert!(count(&ways(case, 0..100)) < 20);
    let many = count(&ways(many_rows, 0..100));
    assert!((30..90).contains(&many), "{many}");
}
