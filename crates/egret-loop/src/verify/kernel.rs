//! The rules of a kernel.

use super::broken;
use super::inst::{first, index, made};
use crate::ir::*;

/// Holds a kernel to the rules of Loop IR.
///
/// # Errors
/// The first rule that is broken.
pub fn kernel(kernel: &Kernel) -> Result<(), BrokenRule> {
    let mut types = kernel.types.iter().chain(&kernel.locals);
    if let Some(ty) = types.find(|ty| Ty::new(ty.elem, ty.lanes).is_none()) {
        return broken(format!("a type of {} {}", ty.lanes, ty.elem));
    }
    if kernel.tasks < 1 {
        return broken(format!("{} tasks", kernel.tasks));
    }
    let mut walk = Walk {
        kernel,
        known: vec![Known::Never; kernel.types.len()],
        set: vec![false; kernel.locals.len()],
        scope: vec![],
    };
    walk.define(kernel.task, Ty::scalar(Elem::I64))?;
    walk.block(&kernel.body)
}

/// Where a value stands.
#[derive(Copy, Clone, PartialEq)]
enum Known {
    /// Not defined so far.
    Never,
    /// Defined here, or in a block around this one.
    Here,
    /// Defined in a block that has ended.
    Elsewhere,
}

struct Walk<'k> {
    kernel: &'k Kernel,
    /// Of each value.
    known: Vec<Known>,
    /// Whether each local has been set on every way here.
    set: Vec<bool>,
    /// The values of the open blocks.
    scope: Vec<V>,
}

impl Walk<'_> {
    fn block(&mut self, stmts: &[Stmt]) -> Result<(), BrokenRule> {
        for stmt in stmts {
            match stmt {
                Stmt::Let(v, inst) => {
                    self.inst(*v, inst).map_err(|e| BrokenRule(format!("{v} = {inst:?}: {e}")))?;
                }
                other => self.stmt(other)?,
            }
        }
        Ok(())
    }

    /// What is defined in some statements is known in them alone.
    fn inner(&mut self, f: impl FnOnce(&mut Self) -> Result<(), BrokenRule>) -> Result<(), BrokenRule> {
        let outer = self.scope.len();
        f(self)?;
        for v in self.scope.drain(outer..) {
            self.known[v.0 as usize] = Known::Elsewhere;
        }
        Ok(())
    }

    fn define(&mut self, v: V, ty: Ty) -> Result<(), BrokenRule> {
        match self.known.get_mut(v.0 as usize) {
            Some(known) if *known == Known::Never => *known = Known::Here,
            Some(_) => return broken(format!("{v} is defined twice")),
            None => return broken(format!("{v} has no type")),
        }
        self.scope.push(v);
        let noted = self.ty(v);
        if noted != ty { broken(format!("{v} is noted as {noted}, and is {ty}")) } else { Ok(()) }
    }

    fn ty(&self, v: V) -> Ty {
        self.kernel.types[v.0 as usize]
    }

    fn used(&self, v: V) -> Result<(), BrokenRule> {
        match self.known.get(v.0 as usize) {
            Some(Known::Here) => Ok(()),
            Some(Known::Elsewhere) => broken(format!("{v} is used outside the block that defines it")),
            _ => broken(format!("{v} is used before it is defined")),
        }
    }

    fn number(&self, v: V) -> Result<(), BrokenRule> {
        self.used(v)?;
        index(v, &|v| self.ty(v))
    }

    fn condition(&self, v: V) -> Result<(), BrokenRule> {
        self.used(v)?;
        match self.ty(v) == Ty::scalar(Elem::Bool) {
            true => Ok(()),
            false => broken(format!("{v}, a condition, is of {}", self.ty(v))),
        }
    }

    fn param(&self, p: Param) -> Result<&ParamInfo, BrokenRule> {
        match self.kernel.params.get(p.0 as usize) {
            Some(info) => Ok(info),
            None => broken(format!("{p}, which there is not")),
        }
    }

    fn read(&self, p: Param, elem: Elem) -> Result<(), BrokenRule> {
        match self.has_elem(p, elem, "read")?.access {
            Access::Write => broken(format!("{p} is only written, and is read")),
            Access::Read | Access::ReadWrite => Ok(()),
        }
    }

    fn written(&self, p: Param, elem: Elem) -> Result<(), BrokenRule> {
        match self.has_elem(p, elem, "written")?.access {
            Access::Read => broken(format!("{p} is only read, and is written")),
            Access::Write | Access::ReadWrite => Ok(()),
        }
    }

    /// The parameter, if its elements are of the type that is read or written.
    fn has_elem(&self, p: Param, elem: Elem, what: &str) -> Result<&ParamInfo, BrokenRule> {
        let info = self.param(p)?;
        match info.elem == elem {
            true => Ok(info),
            false => broken(format!("{p}, of {}, is {what} as {elem}", info.elem)),
        }
    }

    fn inst(&mut self, v: V, inst: &Inst) -> Result<(), BrokenRule> {
        let mut used = Ok(());
        inst.for_operands(|x| {
            if used.is_ok() {
                used = self.used(*x);
            }
        });
        used?;
        match inst {
            Inst::Load(p, _, ty) | Inst::LoadFirst(p, _, ty, _) => self.read(*p, ty.elem)?,
            Inst::Get(l) if !self.set.get(l.0 as usize).copied().unwrap_or(false) => {
                return broken(format!("{l} is read where it may not have been set"));
            }
            _ => {}
        }
        let ty = made(inst, |v| self.ty(v), |l| self.kernel.locals.get(l.0 as usize).copied())?;
        self.define(v, ty)
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<(), BrokenRule> {
        match stmt {
            Stmt::Let(..) => unreachable!("by `block`"),
            Stmt::Set(l, v) => {
                self.used(*v)?;
                match self.kernel.locals.get(l.0 as usize) {
                    Some(ty) if *ty == self.ty(*v) => self.set[l.0 as usize] = true,
                    Some(ty) => return broken(format!("{l}, of {ty}, is set to {v}, of {}", self.ty(*v))),
                    None => return broken(format!("{l}, which there is not")),
                }
                Ok(())
            }
            Stmt::Store { param, index, value } => {
                self.number(*index)?;
                self.used(*value)?;
                self.written(*param, self.ty(*value).elem)
            }
            Stmt::StoreFirst { param, index, value, count } => {
                self.number(*index)?;
                self.used(*value)?;
                first(self.ty(*value).lanes, *count)?;
                self.written(*param, self.ty(*value).elem)
            }
            Stmt::For { var, begin, end, step, body } => {
                self.number(*begin)?;
                self.number(*end)?;
                if *step < 1 {
                    return broken(format!("a loop in steps of {step}"));
                }
                // It may not run at all.
                let before = self.set.clone();
                self.inner(|w| {
                    w.define(*var, Ty::scalar(Elem::I64))?;
                    w.block(body)
                })?;
                self.set = before;
                Ok(())
            }
            Stmt::While { head, test, body } => self.inner(|w| {
                w.block(head)?;
                w.condition(*test)?;
                let before = w.set.clone();
                w.block(body)?;
                w.set = before;
                Ok(())
            }),
            Stmt::If { cond, then, otherwise } => {
                self.condition(*cond)?;
                let before = self.set.clone();
                self.inner(|w| w.block(then))?;
                let then = std::mem::replace(&mut self.set, before);
                self.inner(|w| w.block(otherwise))?;
                self.set.iter_mut().zip(then).for_each(|(set, then)| *set &= then);
                Ok(())
            }
            Stmt::Check { value, low, high } => {
                let bounds = [low, high].into_iter().filter_map(|b| b.value());
                bounds.chain([*value]).try_for_each(|v| self.number(v))
            }
            Stmt::Tile(tile) => self.tile(tile),
        }
    }

    fn tile(&self, t: &Tile) -> Result<(), BrokenRule> {
        for place in t.places() {
            self.param(place.param)?;
            self.number(place.base)?;
        }
        let Some(products) = t.products(&self.kernel.params) else {
            return broken("a tile of such elements");
        };
        let steps = t.axes.iter().try_fold(1i64, |n, axis| n.checked_mul(axis.extent));
        let has_axes = !t.axes.is_empty();
        if t.cols == 0
            || t.axes.iter().any(|a| a.extent < 1)
            || steps.is_none()
            || has_axes == t.nonzeros.is_some()
        {
            return broken(format!("a tile of {} columns over {:?}", t.cols, t.axes));
        }
        if let Some(nonzeros) = &t.nonzeros {
            if let Some(why) = nonzeros.refuses(t.a_rows.len()) {
                return broken(why);
            }
            if products == Products::Bytes || t.sets != 1 || t.a_rows.iter().any(|&r| r != 0) {
                return broken("a tile of nonzeros that are single bytes, or with rows or sets of its own");
            }
            if let Some(second) = &nonzeros.second {
                self.read(second.b.param, products.operands().1)?;
            }
            if let Some(masks) = &nonzeros.masks {
                self.read(masks.param, Elem::I32)?;
                if t.cols > u32::BITS as usize {
                    return broken(format!("masks of {} columns", t.cols));
                }
            }
        }
        if products == Products::Quads && t.nonzeros.is_none() {
            return broken("a tile of quads without nonzeros");
        }
        if t.a_rows.is_empty() || t.a_rows.len() != t.out_rows.len() {
            return broken(format!("a tile of {} rows that writes {}", t.a_rows.len(), t.out_rows.len()));
        }
        if t.block < 1 || !Tile::SETS.contains(&t.sets) {
            return broken(format!("a tile of {} sets in blocks of {}", t.sets, t.block));
        }
        let (a, b) = products.operands();
        self.read(t.a.param, a)?;
        self.read(t.b.param, b)?;
        for o in &t.epilogue.operands {
            self.read(o.place.param, self.param(o.place.param)?.elem)?;
            if o.rows.len() != t.a_rows.len() || !(0..=1).contains(&o.col_stride) {
                return broken(format!("an operand of {} rows, {} apart", o.rows.len(), o.col_stride));
            }
        }
        let elems = t.epilogue.elems(products, &self.kernel.params)?;
        let first = 1 + t.epilogue.operands.len();
        for (i, inst) in t.epilogue.insts.iter().enumerate() {
            let ty = made(inst, |v| Ty::scalar(elems[v.0 as usize]), |_| None)?;
            if ty != Ty::scalar(elems[first + i]) {
                return broken(format!("an epilogue with {inst:?} of {ty}"));
            }
        }
        self.written(t.out.param, elems[t.epilogue.result.0 as usize])
    }
}
