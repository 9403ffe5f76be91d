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
