//! Wanda (arXiv 2306.11695): the weights go whose size, times the norm of the input that they read, is smallest.

use crate::methods::Problem;

/// Size times norm.
pub fn scores(problem: &Problem<'_>) -> Option<Vec<f64>> {
    let (columns, rows) = (problem.columns(), problem.layout.row_count());
    let mut out = vec![];
    for (weights, moments) in problem.weights.chunks_exact((columns * rows).max(1)).zip(problem.moments) {
        let norms = moments.x_norms();
        for row in weights.chunks_exact(columns) {
            out.extend(row.iter().zip(&norms).map(|(w, n)| w.abs() * n));
        }
    }
    Some(out)
}

/// The square of what a weight gives, relative to all.
pub fn cost(score: f64, whole: f64) -> f64 {
    score * score / whole
}

/// What stays is as it was.
pub fn solve(problem: &Problem<'_>) -> Option<Vec<f64>> {
    Some(problem.masked(&scores(problem)?))
}
