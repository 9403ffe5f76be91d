//! Sums and means of windows of f32 with channels first, in planes ([`planes`](crate::kernels::planes)).
//!
//! What the taps of a row of the operand come to is added up once, and belongs to all rows of the result whose windows have it: of 3 by 3
//! taps, 7 rows of the result are 18 additions along rows and 21 across them where windows by themselves are 63.

use super::Pool;
use crate::error::Unsupported;
use crate::kernels::planes::{Along, Edges, Plan, Planes, Reduce, Spot, Values};
use crate::kernels::taps::Windows;
use crate::loops::indices::flat;
use crate::program::context::Ctx;
use egret_ir::DType;
use egret_loop::{Access, Arg, Elem, KernelBuilder, Local, Param, Ty, V};

/// Rows of the result that are summed at once at most, where there are so many registers: all but a few hold their sums.
fn most_rows(registers: usize) -> i64 {
    registers as i64 / 4
}

/// The plan of a pool, if it runs in planes.
pub fn plan(ctx: &Ctx, w: &Windows, kind: &str, dtype: DType, strides: &[i64]) -> Option<Plan> {
    if kind == "max" || dtype != DType::F32 || strides.last() != Some(&1) {
        return None;
    }
    let machine = &ctx.options.machine;
    Plan::of(w.clone(), machine.kernel_bytes, most_rows(machine.registers))
}

/// What the kernel of a plan takes beside the pool's arguments.
pub struct Tables {
    edges: Edges,
    counts: Option<Param>,
}

impl Tables {
    /// Those of a pool; what they are in is the next of its arguments.
    pub fn of(ctx: &mut Ctx, k: &mut KernelBuilder, p: &Pool, plan: &Plan, args: &mut Vec<Arg>) -> Tables {
        let edges = Edges::of(ctx, k, args);
        let counts = (p.kind == "mean").then(|| {
            let counts = counts(plan);
            let len = counts.len();
            args.push(ctx.table(
                "taps of windows",
                Elem::F32,
                counts.into_iter().flat_map(f32::to_le_bytes).collect(),
            ));
            k.param(Elem::F32, len, Access::Read)
        });
        Tables { edges, counts }
    }
}

/// How many elements a window has inside, by taps along the first axis and column.
fn counts(plan: &Plan) -> Vec<f32> {
    let (w, down) = (&plan.w, plan.w.axes[0].kernel);
    let taps = |o| {
        let (first, end) = w.last_taps(o);
        (end - first).max(0)
    };
    (0..=down).flat_map(|rows| (0..w.output[1]).map(move |o| (rows * taps(o)) as f32)).collect()
}

/// The kernel of a plan: a task is a plane.
pub fn compute(
    k: &mut KernelBuilder,
    pool: &Pool,
    plan: &Plan,
    tables: &Tables,
    strides: &[i64],
) -> Result<(), Unsupported> {
    let (task, channels) = (k.task(), k.int(plan.w.c));
    let (n, c) =
        if plan.w.c == 1 { (task, k.int(0)) } else { (k.div(task, channels), k.rem(task, channels)) };
    let sums = Sums { pool, plan, counts: tables.counts, at: [n, c], strides };
    let plane = (task, plan.w.n * plan.w.c);
    Planes { plan, reduce: &sums, edges: tables.edges, plane }.compute(k)
}

/// The sums of a plane.
struct Sums<'a> {
    pool: &'a Pool<'a>,
    plan: &'a Plan,
    /// [`counts`], where a mean is wanted.
    counts: Option<Param>,
    /// Index along batch and channels.
    at: [V; 2],
    /// Of the result.
    strides: &'a [i64],
}

impl Sums<'_> {
    /// How many elements the windows of a spot have inside.
    fn count(&self, k: &mut KernelBuilder, counts: Param, spot: &Spot, ty: Ty) -> V {
        let w = &self.plan.w;
        let rows = (spot.down.1 - spot.down.0).max(0);
        let along = match spot.along {
            Along::Inside => w.axes[1].kernel,
            Along::Taps((first, end)) => (end - first).max(0),
            Along::Vector(first) => {
                let at = k.int(rows * w.output[1] + first);
                return k.load_lanes(counts, at, ty.lanes);
            }
        };
        k.number(ty, (rows * along) as f64)
    }
}

impl Reduce for Sums<'_> {
    fn load(&self, k: &mut KernelBuilder, at: V, ty: Ty) -> Result<V, Unsupported> {
        self.pool.read(k, at, ty)
    }

    fn take(&self, k: &mut KernelBuilder, values: Values, readers: &[(usize, i64)], sums: &[Local], _: Ty) {
        let values = values.into_iter().map(|(_, value)| value);
        let Some(along) = values.reduce(|sum, value| k.add(sum, value)) else { return };
        for &(reader, _) in readers {
            let old = k.get(sums[reader]);
            let new = k.add(old, along);
            k.set(sums[reader], new);
        }
    }

    fn store(&self, k: &mut KernelBuilder, mut value: V, spot: &Spot) -> Result<(), Unsupported> {
        if let Some(counts) = self.counts {
            let count = self.count(k, counts, spot, k.ty(value));
            value = k.div(value, count);
        }
        let axes = self.strides.len() - 2;
        let index = [&self.at[..], &[spot.row, spot.column][2 - axes..]].concat();
        let to = flat(k, &index, self.strides, 0);
        let stored = self.pool.finished(k, value, &index)?;
        k.store(self.pool.y, to, stored);
        Ok(())
    }
}
