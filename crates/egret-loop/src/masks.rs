//! How wide the lanes of vectors are where they meet.
//!
//! Vectors of unlike elements meet lane by lane: `v3 = convert v2 : f32x8` of `u8x8`, or `v4 = select v3, v1, v2` by a `boolx8`,
//! which has lanes and no bytes of its own. Targets that keep them in vector registers of one size need lanes of one size: those
//! of the widest element among all that meet. For example, in `v3 = lt v1, v2 : boolx8` of `f32x8` all have lanes of 4 bytes, and
//! so has a `u8x8` that `v3` selects from.

use crate::ir::*;

/// Bytes of the lanes of all values and locals of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneBytes {
    values: Vec<Lane>,
    locals: Vec<Lane>,
}

/// What the vectors have that meet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Lane {
    /// Bytes of the widest element.
    widest: usize,
    /// Bytes of the least wide element that is no mask.
    least: usize,
}

impl LaneBytes {
    /// Those of a kernel. A mask that meets nothing else is as wide as the base vector.
    pub fn of(kernel: &Kernel) -> LaneBytes {
        let n = kernel.types.len();
        let mut classes = Classes { kernel, parents: (0..n + kernel.locals.len()).collect() };
        classes.block(&kernel.body);
        let types: Vec<Ty> = kernel.types.iter().chain(&kernel.locals).copied().collect();
        let mut met: Vec<Option<Lane>> = vec![None; types.len()];
        for (node, ty) in types.iter().enumerate().filter(|(_, ty)| ty.lanes > 1 && ty.elem != Elem::Bool) {
            let (class, size) = (classes.find(node), ty.elem.size());
            let old = met[class].unwrap_or(Lane { widest: size, least: size });
            met[class] = Some(Lane { widest: old.widest.max(size), least: old.least.min(size) });
        }
        let lanes = types.iter().enumerate().map(|(node, ty)| {
            let alone = match (ty.elem, ty.lanes) {
                (Elem::Bool, 2..) => BASE_VECTOR_BYTES / usize::from(ty.lanes),
                (elem, _) => elem.size(),
            };
            met[classes.find(node)].unwrap_or(Lane { widest: alone, least: alone })
        });
        let mut values: Vec<Lane> = lanes.collect();
        let locals = values.split_off(n);
        LaneBytes { values, locals }
    }

    /// Bytes of a lane of a value.
    pub fn value(&self, v: V) -> usize {
        self.values[v.0 as usize].widest
    }

    /// The same of a local.
    pub fn local(&self, l: Local) -> usize {
        self.locals[l.0 as usize].widest
    }

    /// Bytes of the least wide elements that a value meets.
    pub(crate) fn least_of_value(&self, v: V) -> usize {
        self.values[v.0 as usize].least
    }

    /// The same of a local.
    pub(crate) fn least_of_local(&self, l: Local) -> usize {
        self.locals[l.0 as usize].least
    }
}

/// Values, and behind them locals, in classes of vectors that meet.
struct Classes<'k> {
    kernel: &'k Kernel,
    /// The way to a node that stands for the class.
    parents: Vec<usize>,
}

impl Classes<'_> {
    fn find(&mut self, mut node: usize) -> usize {
        while self.parents[node] != node {
            self.parents[node] = self.parents[self.parents[node]];
            node = self.parents[node];
        }
        node
    }

    fn node(v: V) -> usize {
        v.0 as usize
    }

    fn local(&self, l: Local) -> usize {
        self.kernel.types.len() + l.0 as usize
    }

    fn lanes(&self, node: usize) -> u8 {
        let n = self.kernel.types.len();
        let ty = if node < n { self.kernel.types.get(node) } else { self.kernel.locals.get(node - n) };
        ty.map_or(1, |ty| ty.lanes)
    }

    /// Two values of which the lanes meet; what is no vector meets nothing.
    fn meet(&mut self, a: usize, b: usize) {
        if self.lanes(a) > 1 && self.lanes(b) > 1 {
            let (a, b) = (self.find(a), self.find(b));
            self.parents[a.max(b)] = a.min(b);
        }
    }

    fn block(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            match stmt {
                Stmt::Let(v, inst) => self.inst(Self::node(*v), inst),
                Stmt::Set(l, v) => self.meet(self.local(*l), Self::node(*v)),
                Stmt::For { body, .. } => self.block(body),
                Stmt::While { head, body, .. } => [head, body].into_iter().for_each(|b| self.block(b)),
                Stmt::If { then, otherwise, .. } => {
                    [then, otherwise].into_iter().for_each(|b| self.block(b));
                }
                Stmt::Store { .. } | Stmt::StoreFirst { .. } | Stmt::Check { .. } | Stmt::Tile(_) => {}
            }
        }
    }

    fn inst(&mut self, v: usize, inst: &Inst) {
        match *inst {
            Inst::Unary(_, x) | Inst::Convert(_, x) | Inst::Bitcast(_, x) => self.meet(v, Self::node(x)),
            Inst::Binary(_, a, b) | Inst::Compare(_, a, b) | Inst::Shuffle(_, a, b) => {
                self.meet(v, Self::node(a));
                self.meet(v, Self::node(b));
            }
            Inst::Fma(a, b, c) | Inst::Select(a, b, c) => {
                [a, b, c].into_iter().for_each(|x| self.meet(v, Self::node(x)));
            }
            Inst::Get(l) => self.meet(v, self.local(l)),
            // One scalar comes in or goes out.
            Inst::Load(..)
            | Inst::LoadFirst(..)
            | Inst::First(..)
            | Inst::Const(..)
            | Inst::Affine(..)
            | Inst::Splat(..)
            | Inst::Extract(..)
            | Inst::Fold(..)
            | Inst::Any(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::parse_kernel;

    fn of(body: &str) -> LaneBytes {
        let text = format!(
            "kernel k(p0: f32[8] read, p1: bool[8] read, p2: u16[8] read) tasks v0 in 1 {{\n
             local l0 : boolx8\n v1 = load p0[v0] : f32x8\n v2 = load p1[v0] : boolx8\n {body}\n}}"
        );
        LaneBytes::of(&parse_kernel(&text).unwrap())
    }

    #[test]
    fn masks_are_as_wide_as_what_they_mask() {
        assert_eq!(of("").value(V(2)), 2, "nothing says it: 16 bytes");
        let compared = of("v3 = eq v1, v1 : boolx8 v4 = xor v3, v2 : boolx8");
        assert_eq!([2, 3, 4].map(|v| compared.value(V(v))), [4; 3]);
        let through_local = of("set l0, v2 v3 = get l0 : boolx8 v4 = select v3, v1, v1 : f32x8");
        assert_eq!((through_local.local(Local(0)), through_local.value(V(2))), (4, 4));
        let chosen = of(
            "v3 = const true : boolx8 v4 = select v3, v2, v2 : boolx8 v5 = not v4 : boolx8 v6 = convert v5 : f64x8",
        );
        assert_eq!([2, 3, 4, 5].map(|v| chosen.value(V(v))), [8; 4]);
        let scalar = of("v3 = extract v2, 1 : bool v4 = any v2 : bool v5 = select v3, v1, v1 : f32x8");
        assert_eq!([2, 3, 4].map(|v| scalar.value(V(v))), [2, 1, 1]);
    }

    #[test]
    fn vectors_that_meet_are_as_wide_as_the_widest() {
        let used = of("v3 = eq v1, v1 : boolx8 v4 = load p2[v0] : u16x8 v5 = select v3, v4, v4 : u16x8");
        assert_eq!([1, 3, 4, 5].map(|v| used.value(V(v))), [4; 4]);
        assert_eq!([1, 3, 4, 5].map(|v| used.least_of_value(V(v))), [2; 4]);
        let apart = of("v3 = load p2[v0] : u16x8 v4 = add v3, v3 : u16x8");
        assert_eq!([1, 3, 4].map(|v| apart.value(V(v))), [4, 2, 2]);
    }
}
