//! Models in which data decides dims, run on data that decides differently.

use crate::free::every_size;
use egret::ir::rng::Rng;
use egret::ir::{DType, Graph, Tensor, Value};
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
    let sizes = [5, 1, 0, 2, 7, 40].into_iter().zip([3, 0, 9, 6, 2, 17]);
    every_size(source, &sizes.collect::<Vec<_>>(), &[0, 1, 3, 4], input);
}
