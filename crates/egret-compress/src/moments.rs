//! Second moments of a layer's inputs and outputs, added up as the samples come: memory depends on the layer alone.
//!
//! Products of a block of rows are summed in f32, blocks in f64. Everything is measured from the mean of the first rows, so that large
//! means do not eat the digits of small deviations.

/// Rows of a block.
const BLOCK: usize = 256;
/// Columns of a panel: a block is packed panel by panel, so that the kernel reads it in order.
const PANEL: usize = 8;

/// Means and covariances of the inputs `x` and the wanted outputs `y` of a layer (or one group of it).
#[derive(Clone, Debug, Default)]
pub struct Moments {
    /// Rows that were seen.
    pub count: usize,
    /// Means of the inputs.
    pub x_mean: Vec<f64>,
    /// Means of the outputs.
    pub y_mean: Vec<f64>,
    /// Covariance of the inputs, columns x columns.
    pub xx: Vec<f64>,
    /// Covariance of outputs and inputs, rows x columns.
    pub yx: Vec<f64>,
    /// Variances of the outputs.
    pub yy: Vec<f64>,
}

/// Moments in the making.
pub struct Sums {
    columns: usize,
    rows: usize,
    x: Vec<f32>,
    y: Vec<f32>,
    shift: Option<(Vec<f32>, Vec<f32>)>,
    raw: Moments,
}

impl Sums {
    /// None yet, for so many inputs and outputs.
    pub fn new(columns: usize, rows: usize) -> Sums {
        let raw = Moments {
            count: 0,
            x_mean: vec![0.0; columns],
            y_mean: vec![0.0; rows],
            xx: vec![0.0; columns * columns],
            yx: vec![0.0; rows * columns],
            yy: vec![0.0; rows],
        };
        Sums { columns, rows, x: vec![], y: vec![], shift: None, raw }
    }

    /// Room for the next row: its inputs and its outputs, to be filled.
    pub fn row(&mut self) -> (&mut [f32], &mut [f32]) {
        if self.x.len() >= BLOCK * self.columns {
            self.flush();
        }
        let (x, y) = (self.x.len(), self.y.len());
        self.x.resize(x + self.columns, 0.0);
        self.y.resize(y + self.rows, 0.0);
        (&mut self.x[x..], &mut self.y[y..])
    }

    fn flush(&mut self) {
        let count = self.x.len() / self.columns.max(1);
        if count == 0 {
            return;
        }
        let (x_shift, y_shift) =
            self.shift.get_or_insert_with(|| (means(&self.x, self.columns), means(&self.y, self.rows)));
        let x = Panels::new(&self.x, x_shift);
        let y = Panels::new(&self.y, y_shift);
        add_sums(&mut self.raw.x_mean, &self.x, x_shift, |v| v);
        add_sums(&mut self.raw.y_mean, &self.y, y_shift, |v| v);
        add_sums(&mut self.raw.yy, &self.y, y_shift, |v| v * v);
        products(&x, &x, &mut self.raw.xx, true);
        products(&y, &x, &mut self.raw.yx, false);
        self.raw.count += count;
        self.x.clear();
        self.y.clear();
    }

    /// The moments; `None` without any row, or where a value is no finite number.
    pub fn finish(mut self) -> Option<Moments> {
        self.flush();
        let (x_shift, y_shift) = self.shift?;
        let (n, k) = (self.raw.count as f64, self.columns);
        let mut m = self.raw;
        m.x_mean.iter_mut().chain(&mut m.y_mean).for_each(|v| *v /= n);
        for i in 0..k {
            for j in 0..=i {
                m.xx[i * k + j] = m.xx[i * k + j] / n - m.x_mean[i] * m.x_mean[j];
                m.xx[j * k + i] = m.xx[i * k + j];
            }
        }
        for (r, row) in m.yx.chunks_exact_mut(k.max(1)).enumerate() {
            row.iter_mut().zip(&m.x_mean).for_each(|(v, mean)| *v = *v / n - m.y_mean[r] * mean);
        }
        m.yy.iter_mut().zip(&m.y_mean).for_each(|(v, mean)| *v = (*v / n - mean * mean).max(0.0));
        m.x_mean.iter_mut().zip(&x_shift).for_each(|(v, s)| *v += f64::from(*s));
        m.y_mean.iter_mut().zip(&y_shift).for_each(|(v, s)| *v += f64::from(*s));
        let all = [&m.x_mean, &m.y_mean, &m.xx, &m.yx, &m.yy];
        all.iter().all(|list| list.iter().all(|v| v.is_finite())).then_some(m)
    }
}

impl Moments {
    /// Root of the mean square of each input.
    pub fn x_norms(&self) -> Vec<f64> {
        let k = self.x_mean.len();
        (0..k).map(|j| (self.xx[j * k + j].max(0.0) + self.x_mean[j] * self.x_mean[j]).sqrt()).collect()
    }
}

fn means(block: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0; width];
    add_sums(&mut sums, block, &vec![0.0; width], |v| v);
    let count = (block.len() / width.max(1)).max(1) as f64;
    sums.into_iter().map(|s| (s / count) as f32).collect()
}

fn add_sums(sums: &mut [f64], block: &[f32], shift: &[f32], of: impl Fn(f64) -> f64) {
    for row in block.chunks_exact(shift.len().max(1)) {
        for ((sum, v), s) in sums.iter_mut().zip(row).zip(shift) {
            *sum += of(f64::from(v - s));
        }
    }
}

/// A block as panels of columns: for each panel, its part of every row.
struct Panels {
    data: Vec<[f32; PANEL]>,
    count: usize,
    width: usize,
}

impl Panels {
    fn new(block: &[f32], shift: &[f32]) -> Panels {
        let width = shift.len();
        let count = block.len() / width.max(1);
        let mut data = vec![[0.0; PANEL]; count * width.div_ceil(PANEL)];
        for (r, row) in block.chunks_exact(width.max(1)).enumerate() {
            for (p, (part, shift)) in row.chunks(PANEL).zip(shift.chunks(PANEL)).enumerate() {
                let slot = &mut data[p * count + r];
                slot.iter_mut().zip(part.iter().zip(shift)).for_each(|(d, (v, s))| *d = v - s);
            }
        }
        Panels { data, count, width }
    }

    fn panel(&self, p: usize) -> &[[f32; PANEL]] {
        &self.data[p * self.count..(p + 1) * self.count]
    }
}

/// Add `a^T b`; `lower` = only what is on and below the diagonal.
fn products(a: &Panels, b: &Panels, out: &mut [f64], lower: bool) {
    const HALF: usize = PANEL / 2;
    for pb in 0..b.width.div_ceil(PANEL) {
        let bs = b.panel(pb);
        let from = if lower { pb } else { 0 };
        for pa in from..a.width.div_ceil(PANEL) {
            let aa = a.panel(pa);
            for half in 0..2 {
                let top = pa * PANEL + half * HALF;
                if top >= a.width {
                    break;
                }
                let mut tile = [[0f32; PANEL]; HALF];
                for (a, b) in aa.iter().zip(bs) {
                    for i in 0..HALF {
                        for j in 0..PANEL {
                            tile[i][j] += a[half * HALF + i] * b[j];
                        }
                    }
                }
                for (i, line) in tile.iter().enumerate().take(a.width - top) {
                    let left = (top + i) * b.width + pb * PANEL;
                    let width = (b.width - pb * PANEL).min(PANEL);
                    let slot = &mut out[left..left + width];
                    slot.iter_mut().zip(line).for_each(|(o, v)| *o += f64::from(*v));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret::ir::rng::Rng;

    #[test]
    fn moments_are_those_of_all_rows() {
        let (k, r, n) = (13, 5, 700);
        let mut rng = Rng::new(5);
        let mut sums = Sums::new(k, r);
        let (mut xs, mut ys): (Vec<Vec<f32>>, Vec<Vec<f32>>) = (vec![], vec![]);
        for _ in 0..n {
            let (x, y) = sums.row();
            x.iter_mut().enumerate().for_each(|(i, v)| *v = 100.0 * i as f32 + rng.signed_f64() as f32);
            for (i, v) in y.iter_mut().enumerate() {
                *v = x[i] - x[i + 1] + rng.signed_f64() as f32;
            }
            let rows = (x.to_vec(), y.to_vec());
            xs.push(rows.0);
            ys.push(rows.1);
        }
        let m = sums.finish().expect("rows");
        let mean =
            |rows: &[Vec<f32>], j: usize| rows.iter().map(|r| f64::from(r[j])).sum::<f64>() / n as f64;
        let cov = |a: &[Vec<f32>], i: usize, b: &[Vec<f32>], j: usize| {
            let (ma, mb) = (mean(a, i), mean(b, j));
            a.iter().zip(b).map(|(a, b)| (f64::from(a[i]) - ma) * (f64::from(b[j]) - mb)).sum::<f64>()
                / n as f64
        };
        let near = |got: f64, want: f64, what: &str| {
            assert!((got - want).abs() < 1e-4, "{what}: {got}, not {want}")
        };
        assert_eq!(m.count, n);
        for i in 0..k {
            near(m.x_mean[i], mean(&xs, i), "mean");
            (0..k).for_each(|j| near(m.xx[i * k + j], cov(&xs, i, &xs, j), "xx"));
            (0..r).for_each(|j| near(m.yx[j * k + i], cov(&ys, j, &xs, i), "yx"));
        }
        for i in 0..r {
            near(m.y_mean[i], mean(&ys, i), "mean of y");
            near(m.yy[i], cov(&ys, i, &ys, i), "yy");
        }
        let norms = m.x_norms();
        near(norms[3], (xs.iter().map(|x| f64::from(x[3]).powi(2)).sum::<f64>() / n as f64).sqrt(), "norm");
    }

    #[test]
    fn no_rows_and_no_numbers_give_none() {
        assert!(Sums::new(2, 2).finish().is_none());
        let mut sums = Sums::new(1, 1);
        sums.row().0[0] = f32::NAN;
        assert!(sums.finish().is_none());
    }
}
