//! Weighted least squares over rows of zeros and ones: which segments are there, and the score that they gave.

use egret::linalg::{dot, inverse_factor, solve_rows};

/// A set of segments that are there, and what it counts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// The segments, in rising order.
    pub members: Vec<usize>,
    pub weight: f64,
    /// Whether chance drew it.
    pub drawn: bool,
}

/// Sums of weights, rows and responses: the normal equations.
#[derive(Clone)]
pub(crate) struct Sums {
    n: usize,
    weight: f64,
    response: f64,
    rows: Vec<f64>,
    products: Vec<f64>,
    responses: Vec<f64>,
}

impl Sums {
    fn new(n: usize) -> Sums {
        let zeros = vec![0.0; n];
        let products = vec![0.0; n * n];
        Sums { n, weight: 0.0, response: 0.0, rows: zeros.clone(), products, responses: zeros }
    }

    /// The sums of some rows with their responses.
    fn of<'a>(n: usize, rows: impl Iterator<Item = (&'a Row, &'a f64)>) -> Sums {
        let mut out = Sums::new(n);
        for (row, y) in rows {
            let w = row.weight;
            out.weight += w;
            out.response += w * y;
            for &i in &row.members {
                out.rows[i] += w;
                out.responses[i] += w * y;
                row.members.iter().for_each(|j| out.products[i * n + j] += w);
            }
        }
        out
    }

    /// Add `factor` times other sums.
    fn add(&mut self, factor: f64, other: &Sums) {
        let to = self.rows.iter_mut().chain(&mut self.products).chain(&mut self.responses);
        let from = other.rows.iter().chain(&other.products).chain(&other.responses);
        to.zip(from).for_each(|(to, from)| *to += factor * from);
        self.weight += factor * other.weight;
        self.response += factor * other.response;
    }

    /// The coefficients whose sum is `sum`, without an intercept: the constraint's multiplier is eliminated.
    /// `None` where the rows do not tell the segments apart.
    pub(crate) fn adding_up_to(&self, sum: f64) -> Option<Vec<f64>> {
        let u = factor(&self.products, self.n)?;
        let free = solve_rows(&self.responses, &u, self.n);
        let ones = solve_rows(&vec![1.0; self.n], &u, self.n);
        let excess = (free.iter().sum::<f64>() - sum) / ones.iter().sum::<f64>();
        Some(free.iter().zip(&ones).map(|(f, o)| f - excess * o).collect())
    }

    /// The coefficients of ridge regression, then its intercept, which has no penalty.
    /// `None` where the rows do not tell the segments apart.
    pub(crate) fn ridge(&self, penalty: f64) -> Option<Vec<f64>> {
        let n = self.n;
        let mut centred = self.products.clone();
        let mut responses = self.responses.clone();
        for i in 0..n {
            for j in 0..n {
                centred[i * n + j] -= self.rows[i] * self.rows[j] / self.weight;
            }
            centred[i * n + i] += penalty;
            responses[i] -= self.rows[i] * self.response / self.weight;
        }
        let mut out = solve_rows(&responses, &factor(&centred, n)?, n);
        out.push((self.response - dot(&out, &self.rows)) / self.weight);
        Some(out)
    }
}

/// A segment of which less than this part is left without what the others tell of it counts as told by them: rounding leaves less.
const APART: f64 = 1e-10;

/// As [`inverse_factor`]; `None` also where the matrix is singular but for rounding.
fn factor(h: &[f64], n: usize) -> Option<Vec<f64>> {
    let u = inverse_factor(h, n)?;
    // 1 / u^2 is what is left of a diagonal element without what the others tell of it.
    let apart = |i: usize| APART * h[i * n + i] * u[i * n + i].powi(2) < 1.0;
    (0..n).all(apart).then_some(u)
}

/// Coefficients, and how well they are known.
pub(crate) struct Fit {
    pub coefficients: Vec<f64>,
    /// Standard errors, by leaving out a tenth of the drawn rows at a time; `None` where nothing was drawn, or a tenth cannot be left out.
    pub errors: Option<Vec<f64>>,
}

/// Parts of the drawn rows, of which each is left out once.
const PARTS: usize = 10;

/// Solve for all rows, and for those without each tenth of the drawn ones (rows 2k and 2k + 1 of them, a pair, stay together).
pub(crate) fn fit(
    n: usize,
    rows: &[Row],
    responses: &[f64],
    solve: impl Fn(&Sums) -> Option<Vec<f64>>,
) -> Option<Fit> {
    let both = || rows.iter().zip(responses);
    let mut all = Sums::of(n, both().filter(|(r, _)| !r.drawn));
    let drawn: Vec<(&Row, &f64)> = both().filter(|(r, _)| r.drawn).collect();
    let of_part = |part: usize| {
        Sums::of(n, drawn.chunks(2).skip(part).step_by(PARTS).flat_map(|pair| pair.iter().copied()))
    };
    let fixed = all.clone();
    let parts: Vec<Sums> = (0..PARTS).map(of_part).collect();
    parts.iter().for_each(|p| all.add(1.0, p));
    let coefficients = solve(&all)?;
    if drawn.len() < 2 * PARTS {
        return Some(Fit { coefficients, errors: None });
    }
    // What is left of the drawn rows weighs as much as all of them did.
    let without = |part: usize| {
        let mut sums = fixed.clone();
        let rest = parts.iter().enumerate().filter(|(i, _)| *i != part).map(|(_, p)| p);
        let weight: f64 = rest.clone().map(|p| p.weight).sum();
        let factor = (all.weight - fixed.weight) / weight;
        rest.for_each(|p| sums.add(factor, p));
        solve(&sums)
    };
    let others: Option<Vec<Vec<f64>>> = (0..PARTS).map(without).collect();
    let spread = |others: Vec<Vec<f64>>| -> Vec<f64> {
        let one = |i: usize| {
            let mean = others.iter().map(|o| o[i]).sum::<f64>() / PARTS as f64;
            let squares: f64 = others.iter().map(|o| (o[i] - mean).powi(2)).sum();
            (squares * (PARTS - 1) as f64 / PARTS as f64).sqrt()
        };
        (0..coefficients.len()).map(one).collect()
    };
    let errors = others.map(spread);
    Some(Fit { coefficients, errors })
}

/// The part of the weighted variance of the responses that a sum of coefficients and a constant explains.
pub(crate) fn explained(rows: &[Row], responses: &[f64], coefficients: &[f64], constant: f64) -> f64 {
    let weight: f64 = rows.iter().map(|r| r.weight).sum();
    let mean = rows.iter().zip(responses).map(|(r, y)| r.weight * y).sum::<f64>() / weight;
    let (mut left, mut all) = (0.0, 0.0);
    for (row, y) in rows.iter().zip(responses) {
        let guess = constant + row.members.iter().map(|&i| coefficients[i]).sum::<f64>();
        left += row.weight * (y - guess).powi(2);
        all += row.weight * (y - mean).powi(2);
    }
    if all > 0.0 { 1.0 - left / all } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(members: &[usize], weight: f64) -> Row {
        Row { members: members.to_vec(), weight, drawn: false }
    }

    #[test]
    fn a_line_through_points_by_hand() {
        // y = 1 + 2 z at z = 0 (twice, of values 0 and 2) and z = 1: the mean of the first is the intercept.
        let rows = [row(&[], 1.0), row(&[], 1.0), row(&[0], 3.0)];
        let found = fit(1, &rows, &[0.0, 2.0, 3.0], |s| s.ridge(0.0)).expect("a fit");
        assert!((found.coefficients[0] - 2.0).abs() < 1e-12 && (found.coefficients[1] - 1.0).abs() < 1e-12);
        assert!(found.errors.is_none());
        // The residuals are 1 and 1, the deviations from the mean 2.2 are -2.2, -0.2 and 0.8.
        let part = explained(&rows, &[0.0, 2.0, 3.0], &found.coefficients, 1.0);
        assert!((part - (1.0 - 2.0 / (4.84 + 0.04 + 3.0 * 0.64))).abs() < 1e-12, "{part}");
        // With the penalty p the slope is c / (v + p), where v = 6/5 and c = 12/5.
        let found = fit(1, &rows, &[0.0, 2.0, 3.0], |s| s.ridge(0.8)).expect("a fit");
        assert!((found.coefficients[0] - 1.2).abs() < 1e-12, "{:?}", found.coefficients);
    }

    #[test]
    fn rows_that_do_not_tell_segments_apart_have_no_fit() {
        let rows = [row(&[0, 1], 1.0), row(&[], 1.0)];
        assert!(fit(2, &rows, &[1.0, 0.0], |s| s.ridge(0.0)).is_none());
        assert!(fit(2, &rows, &[1.0, 0.0], |s| s.ridge(0.1)).is_some());
        // Weights whose sums are rounded, and a segment that is always there.
        let rows = [row(&[0, 1, 2], 0.3), row(&[2], 0.7), row(&[0, 1], 0.1), row(&[2], 0.9)];
        assert!(fit(3, &rows, &[1.0, 0.0, 2.0, 3.0], |s| s.ridge(0.0)).is_none());
        assert!(fit(1, &[row(&[0], 0.3), row(&[0], 0.7)], &[1.0, 0.0], |s| s.ridge(0.0)).is_none());
    }
}
