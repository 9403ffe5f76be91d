//! A kernel under construction together with the arguments of its call, and pieces that such kernels share.

use crate::error::Unsupported;
use crate::lanes;
use crate::program::context::Ctx;
use egret_ir::Node;
use egret_loop::{Access, Arg, Cmp, Elem, Kernel, KernelBuilder, Param, V};

/// The kernel under construction and its arguments, side by side.
pub struct Writer<'c, 'g> {
    ctx: &'c mut Ctx<'g>,
    /// The kernel.
    pub k: KernelBuilder,
    args: Vec<Arg>,
}

impl<'c, 'g> Writer<'c, 'g> {
    /// A kernel of a name and a number of tasks, without arguments yet.
    pub fn new(ctx: &'c mut Ctx<'g>, name: &str, tasks: i64) -> Writer<'c, 'g> {
        let k = ctx.kernel(name, tasks);
        Writer { ctx, k, args: vec![] }
    }

    /// The operand at an index, read.
    pub fn operand(&mut self, node: &Node, i: usize) -> Result<Param, Unsupported> {
        let v = node.operand(i);
        let (elem, len, arg) = (self.ctx.elem(v)?, self.ctx.len(v), self.ctx.place(v)?);
        self.args.push(arg);
        Ok(self.k.param(elem, len, Access::Read))
    }

    /// The result at an index.
    pub fn result(&mut self, node: &Node, i: usize, access: Access) -> Result<Param, Unsupported> {
        let v = node.results[i];
        let (elem, len, arg) = (self.ctx.elem(v)?, self.ctx.len(v), self.ctx.place(v)?);
        self.args.push(arg);
        Ok(self.k.param(elem, len, access))
    }

    /// Any buffer.
    pub fn buffer(&mut self, arg: Arg, elem: Elem, len: usize, access: Access) -> Param {
        self.args.push(arg);
        self.k.param(elem, len, access)
    }

    /// Add the call to the program.
    pub fn finish(self) -> Result<(), Unsupported> {
        let kernel: Kernel = self.k.finish();
        self.ctx.call(kernel, &self.args)
    }
}

/// An index from data, as i64: negative ones count from the end, and where it is out of range the kernel fails.
pub fn data_index(k: &mut KernelBuilder, p: Param, at: V, extent: i64) -> V {
    let raw = k.load(p, at);
    let i = k.convert(Elem::I64, raw);
    k.check(i, -extent, extent);
    let zero = k.int(0);
    let negative = k.compare(Cmp::Lt, i, zero);
    let wrapped = k.affine(&[(i, 1)], extent);
    k.select(negative, wrapped, i)
}

/// A length from data, as i64; where it is not one of `0..=extent` the kernel fails.
pub fn data_length(k: &mut KernelBuilder, p: Param, at: V, extent: i64) -> V {
    let raw = k.load(p, at);
    let len = k.convert(Elem::I64, raw);
    k.check(len, 0, extent.saturating_add(1));
    len
}

/// Copies `len` contiguous elements.
pub fn copy_run(k: &mut KernelBuilder, from: Param, at: V, to: Param, to_at: V, len: i64) {
    let elem = k.param_elem(from);
    lanes::each(k, len, elem, |k, i, ty| {
        let (a, b) = (k.affine(&[(at, 1), (i, 1)], 0), k.affine(&[(to_at, 1), (i, 1)], 0));
        let v = lanes::load(k, from, a, ty);
        k.store(to, b, v);
    });
}
