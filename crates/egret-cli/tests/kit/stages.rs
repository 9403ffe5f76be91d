//! Plans of stages, and samples for them.

use super::{path, works};
use egret::ir::Tensor;
use egret::npz;
use egret::stages::Plan;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// `early` is used by every stage behind the first, `x` by the last too; outputs come from everywhere; one is an input, and one is crossing.
pub const FAR: &str = "graph @far(%0 \"x\": f32[n, 16], %9 \"idle\": f32[2]) -> (%10 \"early\", %16 \"y\", %0 \"again\", %12 \"middle\") {
  %3 = const f32[16, 16] random(1)
  %20 = const f32[16, 16] random(2)
  %10 = matmul(%0, %3)
  %11 = matmul(%10, %20)
  %12 = matmul(%11, %3)
  %13 = matmul(%12, %20)
  %14 = add(%13, %10)
  %15 = matmul(%14, %3)
  %16 = add(%15, %0)
}";

/// Two towers, each of its own inputs, and a head that takes an input again; outputs come from a tower and from the head. A row of `at` that there is none of is found in the second tower.
pub const TOWERS: &str = "graph @towers(%0 \"x\": f32[n, 64], %1 \"z\": f32[64, 64], %2 \"at\": i64[2]) -> (%13 \"side\", %31 \"y\") {
  %3 = const f32[64, 64] random(1)
  %4 = const f32[64, 64] random(2)
  %10 = matmul(%0, %3)
  %11 = tanh(%10)
  %12 = matmul(%11, %4)
  %13 = tanh(%12)
  %20 = matmul(%1, %4)
  %21 = tanh(%20)
  %22 = matmul(%21, %3)
  %23 = gather(%22, %2) {axis = 1}
  %24 = const f32[2, 64] random(3)
  %25 = matmul(%23, %24)
  %30 = matmul(%13, %25)
  %31 = add(%30, %0)
}";

/// A row that there is none of is found by the stage that picks.
pub const PICK: &str = "graph @pick(%0 \"x\": f32[64, 64], %1 \"at\": i64[2]) -> (%6 \"y\") {
  %2 = const f32[64, 64] random(1)
  %3 = matmul(%0, %2)
  %4 = gather(%3, %1) {axis = 0}
  %5 = const f32[64, 4096] random(2)
  %6 = matmul(%4, %5)
}";

/// A file of text.
pub fn write(dir: &TempDir, name: &str, body: &str) -> String {
    let file = path(dir, name);
    fs::write(&file, body).unwrap();
    file
}

/// Cut a model, and read the plan.
pub fn partition(dir: &TempDir, model: &str, stages: usize) -> (String, Plan) {
    let (out, stages) = (path(dir, "parts"), stages.to_string());
    works(&["partition", model, "--stages", &stages, "-o", &out]);
    let plan = path(dir, "parts/plan.toml");
    (plan.clone(), Plan::read(Path::new(&plan)).unwrap())
}

/// The plan with other numbers of copies, of stages in order.
pub fn with_copies(file: &str, copies: &[usize]) {
    let mut plan = Plan::read(Path::new(file)).unwrap();
    plan.set_copies(copies).unwrap();
    fs::write(file, plan.text().unwrap()).unwrap();
}

/// Samples for [`TOWERS`]: where `wrong` says so, a sample has no result.
pub fn for_towers(dir: &TempDir, count: usize, wrong: impl Fn(usize) -> bool) -> String {
    let at = (0..2 * count).map(|k| if wrong(k / 2) { 64 } else { k as i64 % 64 }).collect();
    let at = Tensor::new::<i64>(&[count, 2], at);
    let (x, z) = (numbers(&[count, 5, 64], 0), numbers(&[count, 64, 64], 1));
    save(dir, "towers.npz", &[("x", &x), ("z", &z), ("at", &at)])
}

/// Numbers that differ from sample to sample.
pub fn numbers(shape: &[usize], from: usize) -> Tensor {
    let count = shape.iter().product::<usize>();
    Tensor::new(shape, (from..from + count).map(|i| (i * 7 % 23) as f32 / 23.0).collect())
}

/// A file of arrays.
pub fn save(dir: &TempDir, name: &str, arrays: &[(&str, &Tensor)]) -> String {
    let arrays: Vec<_> = arrays.iter().map(|(n, t)| ((*n).to_owned(), (*t).clone())).collect();
    let file = path(dir, name);
    npz::write(Path::new(&file), &arrays).unwrap();
    file
}
