//! Models in which data decides dims, run on data that decides differently.

use crate::free::{close, parse};
use crate::guarded::Compiled;
use egret::Options;
use egret::ir::rng::Rng;
use egret::ir::{DType, Graph, Tensor, Value, interp};
use std::collections::BTreeMap;

/// Numbers of which many are 0, equal, or none; `some` is the share of those that are not 0, in quarters.
fn number(rng: &mut Rng, float: bool, some: u64) -> f64 {
    match rng.bits() % 4 {
        n if n >= some => 0.0,
        _ if !float => (rng.bits() % 7) as f64 - 3.0,
        _ => match rng.bits() % 12 {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => -0.0,
            n => n as f64 / 4.0 - 1.0,
        },
    }
}

/// Data for an input at these sizes, of which `some` quarters are not 0.
pub fn input(rng: &mut Rng, graph: &Graph, i: usize, sizes: &BTreeMap<String, i64>, some: u64) -> Value {
    let ty = graph.tensor_ty(graph.inputs()[i]);
    let shape: Vec<usize> = ty.shape.iter().map(|d| d.eval(sizes).expect("a size") as usize).collect();
    let len = shape.iter().product::<usize>();
    let signed = !ty.dtype.name().starts_with('u') && ty.dtype != DType::Bool;
    let numbers = (0..len).map(|_| number(rng, ty.dtype.is_float(), some));
    let numbers = numbers.map(|v| if signed { v } else { (v.abs() != 0.0) as u8 as f64 });
    Tensor::from_f64s(ty.dtype, &shape, numbers.collect()).into()
}

/// Compiles a graph once, and runs it on data of which nothing, some, or all is found, at several sizes of its free dims.
pub fn holds(source: &str) {
    let graph = parse(source);
    for target in ["native", "x86-64-v2"] {
        if target != "native" && !cfg!(target_arch = "x86_64") {
            continue;
        }
        for passes in [None, Some(vec![])] {
            let options = Options { threads: 1, target: target.into(), passes, ..Options::default() };
            let compiled = Compiled::new(graph.clone(), &options, &BTreeMap::new());
            let compiled = compiled.unwrap_or_else(|e| panic!("{e}\n{source}"));
            let mut rng = Rng::new(5);
            for (round, n) in [5i64, 1, 0, 2, 7, 40].into_iter().enumerate() {
                for some in [0, 1, 3, 4] {
                    let free = graph.free_dims().into_iter().enumerate();
                    let sizes: BTreeMap<String, i64> = free
                        .map(|(i, name)| (name, if i == 0 { n } else { [3, 0, 9, 6, 2, 17][round] }))
                        .collect();
                    let inputs: Vec<Value> = (0..graph.inputs().len())
                        .map(|i| input(&mut rng, &graph, i, &sizes, some))
                        .collect();
                    let want = interp::run(&graph, &inputs).unwrap_or_else(|e| panic!("{e}\n{source}"));
                    let outcome = compiled.run_both(&inputs);
                    let outcome = outcome.and_then(|o| compiled.law(&inputs, &o).map(|_| o));
                    let (code, have) = outcome.unwrap_or_else(|e| panic!("{n}, {some}: {e}\n{source}"));
                    assert_eq!(code, 0, "{n}, {some} on {target}:\n{source}");
                    for (want, bytes) in want.iter().zip(&have) {
                        let want = want.as_tensor().expect("a tensor");
                        assert_eq!(
                            want.bytes().len(),
                            bytes.len(),
                            "{n}, {some} on {target}: {want:?}\n{source}"
                        );
                        let have = Tensor::from_bytes(want.dtype(), want.shape(), bytes);
                        assert!(
                            close(want, &have),
                            "{n}, {some} on {target}: {want:?}, compiled {have:?}\n{source}"
                        );
                    }
                }
            }
        }
    }
}
