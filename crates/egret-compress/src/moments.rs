//! Second moments of a layer's inputs and outputs, added up as the samples come: memory depends on the layer alone.
//!
//! Products of a block of rows are summed in f32, blocks in f64. Everything is measured from the mean of the first rows, so that large
//! means do not eat the digits of small deviations.

/// Rows of a block.
const BLOCK: usize = 256;
/// More rows than this in a file have not been seen by anyone.
const MOST: u64 = 1 << 48;
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
#[derive(Clone)]
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

    /// See what another, of as many inputs and outputs, has seen. It is exact but for the rounding of sums in f64; where both begin
    /// with the same means, these are sums of the sums.
    pub fn merge(&mut self, mut other: Sums) {
        self.flush();
        other.flush();
        let Some((x_other, y_other)) = &other.shift else { return };
        let Some((x_own, y_own)) = &self.shift else {
            *self = other;
            return;
        };
        // Deviations from the other's means, as deviations from these.
        let apart = |from: &[f32], to: &[f32]| -> Vec<f64> {
            from.iter().zip(to).map(|(f, t)| f64::from(*f) - f64::from(*t)).collect()
        };
        let (dx, dy) = (apart(x_other, x_own), apart(y_other, y_own));
        let (k, n) = (self.columns, other.raw.count as f64);
        let (to, from) = (&mut self.raw, &other.raw);
        for i in 0..k {
            for j in 0..=i {
                let moved = dx[i] * from.x_mean[j] + from.x_mean[i] * dx[j] + n * dx[i] * dx[j];
                to.xx[i * k + j] += from.xx[i * k + j] + moved;
            }
        }
        for (r, d) in dy.iter().enumerate() {
            for (j, dx) in dx.iter().enumerate() {
                let moved = d * from.x_mean[j] + from.y_mean[r] * dx + n * d * dx;
                to.yx[r * k + j] += from.yx[r * k + j] + moved;
            }
            to.yy[r] += from.yy[r] + 2.0 * d * from.y_mean[r] + n * d * d;
            to.y_mean[r] += from.y_mean[r] + n * d;
        }
        to.x_mean.iter_mut().zip(&from.x_mean).zip(&dx).for_each(|((t, f), d)| *t += f + n * d);
        to.count += from.count;
    }

    /// Bytes in a file, of so many inputs and outputs; `None` of more than can be.
    pub fn bytes(columns: u32, rows: u32) -> Option<u64> {
        let (k, r) = (u64::from(columns), u64::from(rows));
        let wide = (k.checked_mul(k + 1)? / 2).checked_add(k.checked_mul(r)?)?;
        wide.checked_add(k + 2 * r)?.checked_mul(8)?.checked_add(8 + 4 * (k + r))
    }

    /// Its bytes, little-endian: rows seen, the means that deviations are measured from (f32), and sums (f64) of the deviations of inputs
    /// and outputs, of their squares, of products of outputs and inputs, and of products of inputs up to the diagonal.
    pub fn write(&mut self, out: &mut Vec<u8>) {
        self.flush();
        let (x, y) = self.shift.clone().unwrap_or((vec![0.0; self.columns], vec![0.0; self.rows]));
        out.extend((self.raw.count as u64).to_le_bytes());
        x.iter().chain(&y).for_each(|v| out.extend(v.to_le_bytes()));
        let m = &self.raw;
        let lower = (0..self.columns).flat_map(|i| &m.xx[i * self.columns..=i * self.columns + i]);
        let sums = m.x_mean.iter().chain(&m.y_mean).chain(&m.yy).chain(&m.yx).chain(lower);
        sums.for_each(|v| out.extend(v.to_le_bytes()));
    }

    /// Of the front of what [`Sums::write`] gave; `None` of other bytes.
    pub fn read(columns: usize, rows: usize, bytes: &mut &[u8]) -> Option<Sums> {
        let need = Sums::bytes(u32::try_from(columns).ok()?, u32::try_from(rows).ok()?)?;
        let (own, rest) = bytes.split_at_checked(usize::try_from(need).ok()?)?;
        *bytes = rest;
        let (count, own) = own.split_at(8);
        let count = u64::from_le_bytes(count.try_into().ok()?);
        let (shift, own) = own.split_at(4 * (columns + rows));
        let shift: Vec<f32> = shift.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let mut sums = own.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b));
        let mut out = Sums::new(columns, rows);
        let m = &mut out.raw;
        let flat = [&mut m.x_mean, &mut m.y_mean, &mut m.yy, &mut m.yx].into_iter().flatten();
        flat.for_each(|v| *v = sums.next().unwrap_or(0.0));
        for i in 0..columns {
            let line = &mut m.xx[i * columns..=i * columns + i];
            line.iter_mut().for_each(|v| *v = sums.next().unwrap_or(0.0));
        }
        m.count = usize::try_from(count).ok().filter(|_| count <= MOST)?;
        out.shift = (count > 0).then(|| (shift[..columns].to_vec(), shift[columns..].to_vec()));
        Some(out)
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
    fn sums_of_two_halves_are_those_of_all_and_files_hold_them() {
        let (k, r, n) = (11, 3, 900);
        let mut rng = Rng::new(6);
        let rows: Vec<Vec<f32>> = (0..n)
            .map(|at| (0..k + r).map(|i| (at / 300 * i) as f32 + rng.signed_f64() as f32).collect())
            .collect();
        let of = |rows: &[Vec<f32>]| {
            let mut sums = Sums::new(k, r);
            for row in rows {
                let (x, y) = sums.row();
                x.copy_from_slice(&row[..k]);
                y.copy_from_slice(&row[k..]);
            }
            sums
        };
        let whole = of(&rows).finish().expect("rows");
        for cut in [0, 1, 450, n] {
            let mut bytes = vec![];
            of(&rows[..cut]).write(&mut bytes);
            assert_eq!(Some(bytes.len() as u64), Sums::bytes(k as u32, r as u32));
            let mut front = &bytes[..];
            let mut first = Sums::read(k, r, &mut front).expect("what was written");
            assert!(front.is_empty() && Sums::read(k, r, &mut &bytes[1..]).is_none());
            first.merge(of(&rows[cut..]));
            let m = first.finish().expect("rows");
            assert_eq!(m.count, n);
            let (one, two) = (
                [&m.x_mean, &m.y_mean, &m.xx, &m.yx, &m.yy],
                [&whole.x_mean, &whole.y_mean, &whole.xx, &whole.yx, &whole.yy],
            );
            for (a, b) in one.into_iter().flatten().zip(two.into_iter().flatten()) {
                assert!((a - b).abs() < 1e-4, "cut at {cut}: {a}, not {b}");
            }
        }
        // What a file holds is what was there, to the last bit.
        let mut bytes = vec![];
        of(&rows).write(&mut bytes);
        let back = Sums::read(k, r, &mut &bytes[..]).and_then(Sums::finish).expect("rows");
        assert_eq!((back.xx, back.yx, back.yy), (whole.xx, whole.yx, whole.yy));
        assert_eq!((back.x_mean, back.y_mean), (whole.x_mean, whole.y_mean));
        bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Sums::read(k, r, &mut &bytes[..]).is_none());
        assert!(Sums::bytes(u32::MAX, u32::MAX).is_none());
    }

    #[test]
    fn no_rows_and_no_numbers_give_none() {
        assert!(Sums::new(2, 2).finish().is_none());
        let mut sums = Sums::new(1, 1);
        sums.row().0[0] = f32::NAN;
        assert!(sums.finish().is_none());
    }
}
