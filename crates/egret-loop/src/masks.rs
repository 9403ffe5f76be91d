//! How wide the lanes of masks are.
//!
//! A vector of `Bool` has lanes and no bytes of its own: `boolx8` masks eight lanes of one, two, four or eight bytes. Targets that
//! keep a mask in a vector register need to know which. The vectors that a mask comes from or is used with say it, and masks that
//! are joined, or go through one local, are alike. For example, `v3 = lt v1, v2 : boolx8` of `f32x8` has lanes of 4 bytes, and so
//! has `v4 = load p0[v0] : boolx8` in `v5 = and v3, v4`.

use crate::ir::*;

/// Bytes of the lanes of all values and locals of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneBytes {
    values: Vec<usize>,
    locals: Vec<usize>,
}

impl LaneBytes {
    /// Those of a kernel. Where nothing says how wide a mask is, it is as wide as the base vector.
    ///
    /// # Errors
    /// A mask is used with lanes of two sizes.
    pub fn of(kernel: &Kernel) -> Result<LaneBytes, BrokenRule> {
        let n = kernel.types.len();
        let mut classes = Classes { kernel, parents: (0..n + kernel.locals.len()).collect(), said: vec![] };
        classes.block(&kernel.body);
        let mut said: Vec<Option<usize>> = vec![None; classes.parents.len()];
        for (node, bytes) in std::mem::take(&mut classes.said) {
            let class = classes.find(node);
            match said[class] {
                Some(other) if other != bytes => {
                    let name = if node < n {
                        V(node as u32).to_string()
                    } else {
                        Local((node - n) as u32).to_string()
                    };
                    return Err(BrokenRule(format!(
                        "the mask {name} is used with lanes of {other} and of {bytes} bytes"
                    )));
                }
                _ => said[class] = Some(bytes),
            }
        }
        let types = kernel.types.iter().chain(&kernel.locals).enumerate();
        let bytes = types.map(|(node, ty)| match (ty.elem, ty.lanes) {
            (Elem::Bool, 2..) => {
                said[classes.find(node)].unwrap_or(BASE_VECTOR_BYTES / usize::from(ty.lanes))
            }
            (elem, _) => elem.size(),
        });
        let mut values: Vec<usize> = bytes.collect();
        let locals = values.split_off(n);
        Ok(LaneBytes { values, locals })
    }

    /// Bytes of a lane of a value; of a mask, those of the lanes that it masks.
    pub fn value(&self, v: V) -> usize {
        self.values[v.0 as usize]
    }

    /// The same of a local.
    pub fn local(&self, l: Local) -> usize {
        self.locals[l.0 as usize]
    }
}

/// Values, and behind them locals, in classes of which all masks are alike.
struct Classes<'k> {
    kernel: &'k Kernel,
    /// The way to a node that stands for the class.
    parents: Vec<usize>,
    /// What an instruction says of a mask.
    said: Vec<(usize, usize)>,
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

    fn is_mask(&self, node: usize) -> bool {
        let n = self.kernel.types.len();
        let ty = if node < n { self.kernel.types[node] } else { self.kernel.locals[node - n] };
        ty.elem == Elem::Bool && ty.lanes > 1
    }

    /// Two values of which the lanes are as wide: masks are joined, a vector says it of a mask.
    fn alike(&mut self, a: usize, b: usize) {
        match (self.is_mask(a), self.is_mask(b)) {
            (true, true) => {
                let (a, b) = (self.find(a), self.find(b));
                self.parents[a.max(b)] = a.min(b);
            }
            (true, false) => self.says(b, a),
            (false, true) => self.says(a, b),
            (false, false) => {}
        }
    }

    fn says(&mut self, vector: usize, mask: usize) {
        // Only values meet what is no mask; a local has its own type.
        if let Some(ty) = self.kernel.types.get(vector).filter(|ty| ty.lanes > 1) {
            self.said.push((mask, ty.elem.size()));
        }
    }

    fn block(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            match stmt {
                Stmt::Let(v, inst) => self.inst(Self::node(*v), inst),
                Stmt::Set(l, v) => self.alike(self.kernel.types.len() + l.0 as usize, Self::node(*v)),
                Stmt::For { body, .. } => self.block(body),
                Stmt::While { head, body, .. } => [head, body].into_iter().for_each(|b| self.block(b)),
                Stmt::If { then, otherwise, .. } => {
                    [then, otherwise].into_iter().for_each(|b| self.block(b));
                }
                Stmt::Store { .. } | Stmt::Check { .. } | Stmt::Tile(_) => {}
            }
        }
    }

    fn inst(&mut self, v: usize, inst: &Inst) {
        match *inst {
            Inst::Unary(_, x) | Inst::Convert(_, x) => self.alike(v, Self::node(x)),
            Inst::Binary(_, a, b) | Inst::Compare(_, a, b) => {
                self.alike(v, Self::node(a));
                self.alike(v, Self::node(b));
            }
            Inst::Select(c, a, b) => {
                self.alike(Self::node(c), Self::node(a));
                self.alike(v, Self::node(a));
                self.alike(v, Self::node(b));
            }
            Inst::Get(l) => self.alike(v, self.kernel.types.len() + l.0 as usize),
            // A mask in memory is bytes of 0 and 1; a scalar has no lanes.
            Inst::Load(..)
            | Inst::Const(..)
            | Inst::Affine(..)
            | Inst::Fma(..)
            | Inst::Bitcast(..)
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

    fn of(body: &str) -> Result<LaneBytes, String> {
        let text = format!(
            "kernel k(p0: f32[8] read, p1: bool[8] read, p2: u16[8] read) tasks v0 in 1 {{\n
             local l0 : boolx8\n v1 = load p0[v0] : f32x8\n v2 = load p1[v0] : boolx8\n {body}\n}}"
        );
        LaneBytes::of(&parse_kernel(&text).unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn masks_are_as_wide_as_what_they_mask() {
        assert_eq!(of("").unwrap().value(V(2)), 2, "nothing says it: 16 bytes");
        let compared = of("v3 = eq v1, v1 : boolx8 v4 = xor v3, v2 : boolx8").unwrap();
        assert_eq!([2, 3, 4].map(|v| compared.value(V(v))), [4; 3]);
        let through_local = of("set l0, v2 v3 = get l0 : boolx8 v4 = select v3, v1, v1 : f32x8").unwrap();
        assert_eq!((through_local.local(Local(0)), through_local.value(V(2))), (4, 4));
        let chosen = of(
            "v3 = const true : boolx8 v4 = select v3, v2, v2 : boolx8 v5 = not v4 : boolx8 v6 = convert v5 : f64x8",
        );
        assert_eq!([2, 3, 4, 5].map(|v| chosen.as_ref().unwrap().value(V(v))), [8; 4]);
        let scalar =
            of("v3 = extract v2, 1 : bool v4 = any v2 : bool v5 = select v3, v1, v1 : f32x8").unwrap();
        assert_eq!([2, 3, 4].map(|v| scalar.value(V(v))), [2, 1, 1]);
    }

    #[test]
    fn a_mask_of_two_widths_is_refused() {
        let used = of("v3 = eq v1, v1 : boolx8 v4 = load p2[v0] : u16x8 v5 = select v3, v4, v4 : u16x8");
        assert_eq!(used.unwrap_err(), "the mask v3 is used with lanes of 4 and of 2 bytes");
    }
}
