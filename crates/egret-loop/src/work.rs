//! How much work a kernel is: operations and bytes.
//!
//! Loops whose bounds depend on outer ones are counted at their first and last values, which is exact where only the last
//! block is a smaller one. A few tasks are counted one by one: blocks of tiles differ from the middle on.

use crate::ir::{Access, BinOp, Elem, Inst, Kernel, Stmt, Tile, UnOp, V};
use crate::known;

/// Bytes of the buffers that a kernel reads and writes, each once; what is known only when a run begins counts as nothing.
pub fn bytes(kernel: &Kernel) -> u64 {
    let of = |p: &crate::ir::ParamInfo| {
        let ways = if p.access == Access::ReadWrite { 2 } else { 1 };
        let len = if p.len == crate::ir::ParamInfo::OPEN { 0 } else { p.len };
        (len as u64).saturating_mul(p.elem.size() as u64 * ways)
    };
    kernel.params.iter().map(of).fold(0, u64::saturating_add)
}

/// Up to so many tasks are counted one by one.
const FEW_TASKS: i64 = 64;

/// Operations on elements of all tasks of a kernel; a multiply-add is two. `None` where a loop depends on data.
pub fn operations(kernel: &Kernel) -> Option<u64> {
    Some(counted(kernel, Counted::All)? as u64)
}

/// Which operations.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    All,
    Tiles,
    Others,
    /// No operations: nanoseconds that they do not take.
    Time,
}

fn counted(kernel: &Kernel, counted: Counted) -> Option<f64> {
    let mut count = Count { kernel, counted, known: vec![None; kernel.types.len()] };
    if kernel.tasks <= FEW_TASKS {
        (0..kernel.tasks)
            .map(|task| count.repeated(kernel.task, task, 1, 1, &kernel.body))
            .sum::<Option<f64>>()
    } else {
        count.repeated(kernel.task, 0, 1, kernel.tasks, &kernel.body)
    }
}

struct Count<'a> {
    kernel: &'a Kernel,
    counted: Counted,
    /// Integers that are known on the way.
    known: Vec<Option<i64>>,
}

impl Count<'_> {
    fn get(&self, v: V) -> Option<i64> {
        self.known.get(v.0 as usize).copied().flatten()
    }

    fn set(&mut self, v: V, value: Option<i64>) {
        if let Some(slot) = self.known.get_mut(v.0 as usize) {
            *slot = value;
        }
    }

    /// A body `times` times, as at the first value of its variable but for the last time.
    fn repeated(&mut self, var: V, begin: i64, step: i64, times: i64, body: &[Stmt]) -> Option<f64> {
        if times <= 0 {
            return Some(0.0);
        }
        self.set(var, Some(begin));
        let first = self.block(body)?;
        self.set(var, step.checked_mul(times - 1).and_then(|d| begin.checked_add(d)));
        let last = self.block(body)?;
        Some(match self.counted {
            Counted::Time => first.max(last) * times as f64,
            _ => first * (times - 1) as f64 + last,
        })
    }

    fn block(&mut self, stmts: &[Stmt]) -> Option<f64> {
        let mut sum = 0.0;
        for stmt in stmts {
            sum += match stmt {
                Stmt::Let(v, inst) => {
                    let value = known::integer(inst, &|v| self.get(v));
                    self.set(*v, value);
                    match self.counted {
                        Counted::Tiles => 0.0,
                        Counted::Time => slow(inst),
                        Counted::All | Counted::Others => self.cost(*v, inst),
                    }
                }
                Stmt::Set(..) | Stmt::Store { .. } | Stmt::StoreFirst { .. } | Stmt::Check { .. }
                    if self.counted == Counted::Time =>
                {
                    1.5
                }
                Stmt::Set(..) | Stmt::Store { .. } | Stmt::StoreFirst { .. } | Stmt::Check { .. } => 0.0,
                Stmt::For { var, begin, end, step, body } => {
                    let (begin, end) = (self.get(*begin)?, self.get(*end)?);
                    let times = (end.checked_sub(begin)?.max(0) as u64).div_ceil((*step).max(1) as u64);
                    self.repeated(*var, begin, *step, i64::try_from(times).ok()?, body)?
                }
                Stmt::While { .. } => return None,
                Stmt::If { cond, then, otherwise } => match self.get(*cond) {
                    Some(0) => self.block(otherwise)?,
                    Some(_) => self.block(then)?,
                    // Whichever is more: the other one is the edge of something.
                    None => self.block(then)?.max(self.block(otherwise)?),
                },
                Stmt::Tile(_) if self.counted == Counted::Others => 0.0,
                // Operations of a nanosecond, on a processor with short vectors.
                Stmt::Tile(tile) if self.counted == Counted::Time => tile_operations(tile) / 32.0,
                Stmt::Tile(tile) => tile_operations(tile),
            };
        }
        Some(sum)
    }

    /// What an instruction costs: index arithmetic nothing.
    fn cost(&self, v: V, inst: &Inst) -> f64 {
        let Some(ty) = self.kernel.types.get(v.0 as usize) else { return 0.0 };
        let lanes = f64::from(ty.lanes);
        match inst {
            _ if matches!(ty.elem, Elem::I64 | Elem::Bool) => 0.0,
            Inst::Fma(..) => 2.0 * lanes,
            Inst::Binary(..) => lanes,
            Inst::Fold(_, x) => {
                self.kernel.types.get(x.0 as usize).map_or(0.0, |x| f64::from(x.lanes) - 1.0)
            }
            Inst::Unary(UnOp::Sqrt | UnOp::Floor | UnOp::Ceil | UnOp::Trunc | UnOp::Nearest, _) => lanes,
            _ => 0.0,
        }
    }
}

fn tile_operations(tile: &Tile) -> f64 {
    let one = |i: &Inst| match i {
        Inst::Fma(..) => 2.0,
        Inst::Binary(..) => 1.0,
        _ => 0.0,
    };
    let epilogue: f64 = tile.epilogue.insts.iter().map(one).sum();
    tile.cols as f64 * (2.0 * tile.products_of_column() + tile.out_rows.len() as f64 * epilogue)
}

/// Nanoseconds that all tasks of a kernel together do not take, even where a processor is slow and what they read is not in its
/// nearest cache. `None` where a loop depends on data.
pub fn at_most(kernel: &Kernel) -> Option<f64> {
    /// Bytes of a nanosecond.
    const BYTES: f64 = 16.0;
    Some(counted(kernel, Counted::Time)? + bytes(kernel) as f64 / BYTES)
}

/// Nanoseconds that all tasks of a kernel take, more or less: what is right of their order, on any processor. `None` where a loop depends on data.
pub fn typical(kernel: &Kernel) -> Option<f64> {
    /// Operations of a nanosecond in tiles and elsewhere, and bytes.
    const RATES: [f64; 3] = [64.0, 8.0, 32.0];
    let [tiles, others] = [counted(kernel, Counted::Tiles)?, counted(kernel, Counted::Others)?];
    Some(tiles / RATES[0] + others / RATES[1] + bytes(kernel) as f64 / RATES[2])
}

/// Nanoseconds that an instruction does not take, behind one that it waits for.
fn slow(inst: &Inst) -> f64 {
    match inst {
        Inst::Const(..) => 0.0,
        Inst::Affine(..) => 0.5,
        Inst::Binary(BinOp::Div | BinOp::Rem, ..) | Inst::Unary(UnOp::Sqrt, _) => 10.0,
        _ => 1.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KernelBuilder;

    /// Sums of integers, each of which waits for the one before; as many rounds as the number of the task.
    #[test]
    fn no_instruction_is_free() {
        let mut k = KernelBuilder::new("sums", 100);
        let (x, y) = (k.param(Elem::I64, 100, Access::Read), k.param(Elem::I64, 100, Access::ReadWrite));
        let (task, zero) = (k.task(), k.int(0));
        k.for_values(zero, task, 1, |k, i| {
            let (a, b) = (k.load(x, i), k.load(y, task));
            let sum = k.add(a, b);
            k.store(y, task, sum);
        });
        let kernel = k.finish();
        let rounds = 99.0 * 100.0 / 2.0;
        let most = at_most(&kernel).unwrap();
        assert!(most > rounds * 4.0, "{most} ns");
        assert_eq!(operations(&kernel), Some(0));
    }
}
