//! The contraction leaf.

use super::arithmetic::{f32_of, int_of};
use super::values::{Val, Values};
use super::{InterpError, Machine};
use crate::epilogue::Source;
use crate::ir::*;

impl Machine<'_> {
    pub(super) fn tile(&mut self, t: &Tile) -> Result<(), InterpError> {
        let base = |m: &Self, p: &Place| m.int(p.base);
        let (a0, b0, out0) = (base(self, &t.a), base(self, &t.b), base(self, &t.out));
        let axes = Axis::joined(&t.axes);
        let products = t.products(&self.kernel.params);
        let products = products.ok_or_else(|| InterpError::Broken("a tile of such elements".into()))?;
        let cut = t.cut(&axes, products);
        let elems = t.epilogue.elems(products, &self.kernel.params);
        let elems = elems.map_err(|e| InterpError::Broken(e.to_string()))?;
        let types: Vec<Ty> = elems.into_iter().map(Ty::scalar).collect();
        let steps: i64 = match t.nonzeros {
            Some(_) => 0,
            None => axes.iter().map(|x| x.extent).product(),
        };
        if !Tile::SETS.contains(&t.sets) {
            return Err(InterpError::Broken(format!("a tile of {} sets", t.sets)));
        }
        // Where the innermost axis begins anew: with it, or with a block of it.
        let innermost = axes.last().map_or(1, |x| x.extent);
        let turns = cut.filter(|c| c.depth + 1 == axes.len()).map_or(innermost, |c| c.turns);
        for r in 0..t.a_rows.len() {
            for c in 0..t.cols {
                // -0 + x is x: the first block's sum is the total.
                let (mut sums, mut total, mut whole) = ([0f32; Tile::SETS[2]], -0.0f32, 0i32);
                for (n, (at, step)) in t.nonzeros.iter().flat_map(|n| n.of_row(r).map(move |p| (n, p))) {
                    let second = n.second.as_ref().filter(|_| n.is_second(step));
                    let (place, step) = (second.map_or(&t.b, |s| &s.b), n.steps[step]);
                    let b = match self.leaves_out(n, step.mask, c)? {
                        true => 0,
                        false => self.read(place.param, self.int(place.base) + c as i64 + step.b)?,
                    };
                    let a = self.read(t.a.param, a0 + at)?;
                    if products == Products::Quads {
                        whole = whole.wrapping_add(Products::of_quads(a as u32, b as u32));
                        continue;
                    }
                    let sum = self.arithmetic.fma(Elem::F32, a, b, sums[0].to_bits().into())?;
                    sums[0] = f32_of(sum);
                }
                // A sum of two normal numbers is never rounded to a subnormal.
                let denormals = self.arithmetic.denormals;
                let add = |a: f32, b: f32| denormals.result(a + b, || f32::INFINITY);
                let all = |sums: &[f32]| sums[1..t.sets].iter().fold(sums[0], |all, s| add(all, *s));
                for step in 0..steps {
                    let (mut rest, mut ia, mut ib) =
                        (step, a0 + t.a_rows[r], b0 + c as i64 * products.depth());
                    for axis in axes.iter().rev() {
                        let i = rest % axis.extent;
                        rest /= axis.extent;
                        ia += i * axis.a_stride;
                        ib += i * axis.b_stride;
                    }
                    if products == Products::Bytes {
                        for i in 0..products.depth() {
                            let a = int_of(Elem::U8, self.read(t.a.param, ia + i)?);
                            let b = int_of(Elem::I8, self.read(t.b.param, ib + i)?);
                            whole = whole.wrapping_add((a * b) as i32);
                        }
                        continue;
                    }
                    let (a, b) = (self.read(t.a.param, ia)?, self.read(t.b.param, ib)?);
                    let acc = &mut sums[(step % innermost % turns) as usize % t.sets];
                    *acc = f32_of(self.arithmetic.fma(Elem::F32, a, b, acc.to_bits().into())?);
                    if cut.is_some_and(|c| c.ends(step)) {
                        total = add(total, all(&sums));
                        sums.fill(0.0);
                    }
                }
                let sum = match products {
                    Products::Bytes | Products::Quads => (whole as u32).into(),
                    Products::Floats if cut.is_some() => total.to_bits().into(),
                    Products::Floats => all(&sums).to_bits().into(),
                };
                let value = self.epilogue(&t.epilogue, &types, sum, r, c)?;
                self.write(t.out.param, out0 + t.out_rows[r] + c as i64, value)?;
            }
        }
        Ok(())
    }

    /// Whether a column has a zero in a step with this mask.
    fn leaves_out(&mut self, n: &Nonzeros, mask: Option<u8>, column: usize) -> Result<bool, InterpError> {
        let (Some(mask), Some(masks)) = (mask, &n.masks) else { return Ok(false) };
        let bits = self.read(masks.param, self.int(masks.base) + i64::from(mask))?;
        Ok(bits >> column & 1 == 0)
    }

    /// What is stored for a sum.
    fn epilogue(
        &mut self,
        e: &Epilogue,
        types: &[Ty],
        sum: u64,
        r: usize,
        c: usize,
    ) -> Result<u64, InterpError> {
        let mut values = Vec::with_capacity(types.len());
        for source in e.sources() {
            let value = match source {
                Source::Sum => Val::scalar(sum),
                Source::Operand(o) => {
                    let o = &e.operands[o];
                    let row = o.rows.get(r);
                    let row =
                        row.ok_or_else(|| InterpError::Broken("an operand without such a row".into()))?;
                    let at = self.int(o.place.base) + row + c as i64 * o.col_stride;
                    Val::scalar(self.read(o.place.param, at)?)
                }
                Source::Inst(inst) => {
                    Values { arithmetic: self.arithmetic, types, values: &values }.inst(inst)?
                }
            };
            values.push(value);
        }
        Ok(values[e.result.0 as usize].0[0])
    }
}
