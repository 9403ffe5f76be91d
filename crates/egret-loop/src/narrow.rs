//! Wide vectors as several narrower ones: for targets that have no wider ones, and as the check of those that have.

use crate::ir::*;
use crate::masks::LaneBytes;

/// The same kernel in vectors of at most `bytes` (16 or more). A wider one becomes several, of neighbouring lanes each; masks and
/// vectors of smaller elements are split as what they meet ([`LaneBytes`]). For example, in 16 bytes `v2 = load p0[v1] : f32x8` is
/// `v2 = load p0[v1] : f32x4` and `v4 = load p0[v3] : f32x4` with `v3 = affine v1 + 4`, and so is a `u8x8` two `u8x4` if it is
/// converted to `f32x8`. Vectors of two lanes have 8-byte elements: what would be two smaller ones becomes scalars. A kernel
/// without such vectors is as it was.
///
/// # Errors
/// The kernel breaks a rule: operands have unlike lanes.
pub fn narrow(kernel: &Kernel, bytes: usize) -> Result<Kernel, BrokenRule> {
    let lane_bytes = LaneBytes::of(kernel);
    let values = (0..).map(V).zip(&kernel.types).map(|(v, ty)| split_value(*ty, v, &lane_bytes, bytes));
    let kept = (0..).map(Local).zip(&kernel.locals).map(|(l, ty)| split_local(*ty, l, &lane_bytes, bytes));
    if values.chain(kept).all(|(_, n)| n == 1) {
        return Ok(kernel.clone());
    }
    let mut locals = vec![];
    let mut places = vec![];
    for (l, &ty) in (0..).map(Local).zip(&kernel.locals) {
        let (part, n) = split_local(ty, l, &lane_bytes, bytes);
        let first = locals.len();
        locals.resize(first + n, part);
        places.push((first..locals.len()).map(|at| Local(at as u32)).collect());
    }
    let n = kernel.types.len();
    let mut narrower = Narrower {
        kernel,
        bytes,
        lane_bytes,
        types: vec![],
        values: vec![vec![]; n],
        locals: places,
        defs: vec![None; n],
    };
    let task = narrower.define(kernel.task)[0];
    let body = narrower.block(&kernel.body)?;
    let (name, params, tasks) = (kernel.name.clone(), kernel.params.clone(), kernel.tasks);
    Ok(Kernel { name, params, types: narrower.types, locals, tasks, task, body })
}

/// The type of the parts of a value that meets elements of these sizes, and how many there are.
fn split(ty: Ty, (widest, least): (usize, usize), bytes: usize) -> (Ty, usize) {
    let lanes = usize::from(ty.lanes).min(bytes / widest).max(1);
    let lanes = if lanes == 2 && least < BASE_VECTOR_BYTES / 2 { 1 } else { lanes };
    (Ty { elem: ty.elem, lanes: lanes as u8 }, usize::from(ty.lanes) / lanes)
}

fn split_value(ty: Ty, v: V, lane_bytes: &LaneBytes, bytes: usize) -> (Ty, usize) {
    split(ty, (lane_bytes.value(v), lane_bytes.least_of_value(v)), bytes)
}

fn split_local(ty: Ty, l: Local, lane_bytes: &LaneBytes, bytes: usize) -> (Ty, usize) {
    split(ty, (lane_bytes.local(l), lane_bytes.least_of_local(l)), bytes)
}

/// The lanes of a part that are among the first of the whole.
#[derive(Copy, Clone)]
enum First {
    None,
    Some(u8),
    All,
}

struct Narrower<'k> {
    kernel: &'k Kernel,
    /// The most bytes of a vector.
    bytes: usize,
    lane_bytes: LaneBytes,
    /// Types of the new values.
    types: Vec<Ty>,
    /// The parts of each value met so far, low lanes first.
    values: Vec<Vec<V>>,
    locals: Vec<Vec<Local>>,
    /// How the values met so far are made: indices look through them.
    defs: Vec<Option<&'k Inst>>,
}

type Narrow<T> = Result<T, BrokenRule>;

impl<'k> Narrower<'k> {
    fn ty(&self, v: V) -> Ty {
        self.types[v.0 as usize]
    }

    fn value(&mut self, ty: Ty) -> V {
        self.types.push(ty);
        V(self.types.len() as u32 - 1)
    }

    fn split(&self, v: V) -> (Ty, usize) {
        split_value(self.kernel.types[v.0 as usize], v, &self.lane_bytes, self.bytes)
    }

    /// New values for the parts of a value.
    fn define(&mut self, v: V) -> Vec<V> {
        let (ty, n) = self.split(v);
        let parts: Vec<V> = (0..n).map(|_| self.value(ty)).collect();
        self.values[v.0 as usize].clone_from(&parts);
        parts
    }

    fn parts(&self, v: V) -> Narrow<&[V]> {
        match self.values[v.0 as usize].as_slice() {
            [] => Err(BrokenRule(format!("{v} is used before it is defined"))),
            parts => Ok(parts),
        }
    }

    fn scalar(&self, v: V) -> Narrow<V> {
        match self.parts(v)? {
            [one] => Ok(*one),
            _ => Err(BrokenRule(format!("{v}, which is a vector, is used as a scalar"))),
        }
    }

    fn bound(&self, bound: Bound) -> Narrow<Bound> {
        match bound {
            Bound::Number(number) => Ok(Bound::Number(number)),
            Bound::Value(v) => self.scalar(v).map(Bound::Value),
        }
    }

    /// Part `i` of an operand of something in `n` parts.
    fn part(&self, v: V, i: usize, n: usize) -> Narrow<V> {
        let parts = self.parts(v)?;
        if parts.len() != n {
            return Err(BrokenRule(format!("{v} has not the lanes of what it is used with")));
        }
        Ok(parts[i])
    }

    fn block(&mut self, stmts: &'k [Stmt]) -> Narrow<Vec<Stmt>> {
        let mut out = vec![];
        for stmt in stmts {
            self.stmt(stmt, &mut out)?;
        }
        Ok(out)
    }

    fn stmt(&mut self, stmt: &'k Stmt, out: &mut Vec<Stmt>) -> Narrow<()> {
        match stmt {
            Stmt::Let(v, inst) => {
                self.inst(*v, inst, out)?;
                self.defs[v.0 as usize] = Some(inst);
            }
            Stmt::Set(l, v) => {
                let places = self.locals[l.0 as usize].clone();
                for (i, &place) in places.iter().enumerate() {
                    out.push(Stmt::Set(place, self.part(*v, i, places.len())?));
                }
            }
            Stmt::Store { param, index, value } => {
                let parts = self.parts(*value)?.to_vec();
                let indices = self.indices(*index, &parts, out)?;
                let stores = indices.into_iter().zip(parts);
                out.extend(stores.map(|(index, value)| Stmt::Store { param: *param, index, value }));
            }
            Stmt::StoreFirst { param, index, value, count } => {
                let parts = self.parts(*value)?.to_vec();
                let indices = self.indices(*index, &parts, out)?;
                let counts = self.first_of(&parts, *count);
                let (param, stores) = (*param, indices.into_iter().zip(parts).zip(counts));
                out.extend(stores.filter_map(|((index, value), first)| match first {
                    First::None => None,
                    First::All => Some(Stmt::Store { param, index, value }),
                    First::Some(count) => Some(Stmt::StoreFirst { param, index, value, count }),
                }));
            }
            Stmt::For { var, begin, end, step, body } => {
                let (begin, end) = (self.scalar(*begin)?, self.scalar(*end)?);
                let var = self.define(*var)[0];
                out.push(Stmt::For { var, begin, end, step: *step, body: self.block(body)? });
            }
            Stmt::While { head, test, body } => {
                let head = self.block(head)?;
                out.push(Stmt::While { head, test: self.scalar(*test)?, body: self.block(body)? });
            }
            Stmt::If { cond, then, otherwise } => out.push(Stmt::If {
                cond: self.scalar(*cond)?,
                then: self.block(then)?,
                otherwise: self.block(otherwise)?,
            }),
            Stmt::Check { value, low, high } => {
                let (low, high) = (self.bound(*low)?, self.bound(*high)?);
                out.push(Stmt::Check { value: self.scalar(*value)?, low, high });
            }
            Stmt::Tile(tile) => {
                let mut tile = tile.clone();
                for place in tile.places_mut() {
                    place.base = self.scalar(place.base)?;
                }
                out.push(Stmt::Tile(tile));
            }
        }
        Ok(())
    }

    /// Which lanes of the parts of a vector are among its first.
    fn first_of(&self, parts: &[V], count: u8) -> Vec<First> {
        let mut left = count;
        let mut of = |part: &V| {
            let lanes = self.ty(*part).lanes;
            let here = left.min(lanes);
            left -= here;
            match here {
                0 => First::None,
                n if n == lanes => First::All,
                n => First::Some(n),
            }
        };
        parts.iter().map(&mut of).collect()
    }

    /// Where the parts of a vector are that begins at an index. Constant distances stay apart from what varies, so that code for the
    /// parts shares its addresses.
    fn indices(&mut self, index: V, parts: &[V], out: &mut Vec<Stmt>) -> Narrow<Vec<V>> {
        let first = self.scalar(index)?;
        let mut indices = vec![first];
        let mut past = 0;
        for pair in parts.windows(2) {
            past += i64::from(self.ty(pair[0]).lanes);
            let inst = match self.defs[index.0 as usize] {
                Some(Inst::Const(ty, bits)) => Inst::Const(*ty, bits.wrapping_add(past as u64)),
                Some(Inst::Affine(terms, offset)) => {
                    let terms = terms.iter().map(|(v, c)| Ok((self.scalar(*v)?, *c)));
                    Inst::Affine(terms.collect::<Narrow<_>>()?, offset.wrapping_add(past))
                }
                _ => Inst::Affine(vec![(first, 1)], past),
            };
            let v = self.value(Ty::scalar(Elem::I64));
            out.push(Stmt::Let(v, inst));
            indices.push(v);
        }
        Ok(indices)
    }

    fn inst(&mut self, v: V, inst: &'k Inst, out: &mut Vec<Stmt>) -> Narrow<()> {
        let (ty, n) = self.split(v);
        // What is one value from many lanes, or the same in all parts; a lane that is a part of its own is what it is.
        let one = match inst {
            Inst::Const(_, bits) => Some(Inst::Const(ty, *bits)),
            Inst::Splat(x, _) if ty.lanes == 1 => return self.same(v, self.scalar(*x)?, n),
            Inst::Splat(x, _) => Some(Inst::Splat(self.scalar(*x)?, ty.lanes)),
            Inst::Extract(x, lane) => {
                let of = self.parts(*x)?;
                let lanes = self.ty(of[0]).lanes;
                let part = of.get(usize::from(lane / lanes));
                let part = *part.ok_or_else(|| BrokenRule(format!("{x} has no lane {lane}")))?;
                if lanes == 1 {
                    return self.same(v, part, n);
                }
                Some(Inst::Extract(part, lane % lanes))
            }
            Inst::Fold(..) | Inst::Any(_) => {
                let (op, x) = match *inst {
                    Inst::Fold(op, x) => (op, x),
                    Inst::Any(x) => (BinOp::Or, x),
                    _ => unreachable!("matched above"),
                };
                let all = self.joined(op, x, out)?;
                match (self.ty(all).lanes, inst) {
                    (1, _) => return self.same(v, all, n),
                    (_, Inst::Any(_)) => Some(Inst::Any(all)),
                    _ => Some(Inst::Fold(op, all)),
                }
            }
            Inst::Affine(terms, offset) => {
                let terms = terms.iter().map(|(v, c)| Ok((self.scalar(*v)?, *c)));
                Some(Inst::Affine(terms.collect::<Narrow<_>>()?, *offset))
            }
            _ => None,
        };
        if let Some(inst) = one {
            let one = self.value(ty);
            out.push(Stmt::Let(one, inst));
            return self.same(v, one, n);
        }
        if let Inst::Load(p, index, _) = inst {
            let parts = self.define(v);
            let indices = self.indices(*index, &parts, out)?;
            for (part, index) in parts.iter().zip(indices) {
                out.push(Stmt::Let(*part, Inst::Load(*p, index, self.ty(*part))));
            }
            return Ok(());
        }
        if let Inst::Shuffle(op, a, b) = *inst {
            return self.shuffle(v, op, (a, b), out);
        }
        if let Inst::LoadFirst(p, index, _, count) = inst {
            let parts = self.define(v);
            let indices = self.indices(*index, &parts, out)?;
            let counts = self.first_of(&parts, *count);
            for ((part, index), first) in parts.iter().zip(indices).zip(counts) {
                let ty = self.ty(*part);
                out.push(Stmt::Let(
                    *part,
                    match first {
                        First::None => Inst::Const(ty, 0),
                        First::All => Inst::Load(*p, index, ty),
                        First::Some(count) => Inst::LoadFirst(*p, index, ty, count),
                    },
                ));
            }
            return Ok(());
        }
        if let Inst::First(_, count) = inst {
            let parts = self.define(v);
            let counts = self.first_of(&parts, *count);
            for (part, first) in parts.iter().zip(counts) {
                let ty = self.ty(*part);
                out.push(Stmt::Let(
                    *part,
                    match first {
                        First::None => Inst::Const(ty, 0),
                        First::All => Inst::Const(ty, 1),
                        First::Some(count) => Inst::First(ty.lanes, count),
                    },
                ));
            }
            return Ok(());
        }
        for (i, part) in self.define(v).into_iter().enumerate() {
            let of = |x: V| self.part(x, i, n);
            let inst = match *inst {
                Inst::Unary(op, x) => Inst::Unary(op, of(x)?),
                Inst::Binary(op, a, b) => Inst::Binary(op, of(a)?, of(b)?),
                Inst::Fma(a, b, c) => Inst::Fma(of(a)?, of(b)?, of(c)?),
                Inst::Compare(op, a, b) => Inst::Compare(op, of(a)?, of(b)?),
                Inst::Select(c, a, b) => Inst::Select(of(c)?, of(a)?, of(b)?),
                Inst::Convert(to, x) => Inst::Convert(to, of(x)?),
                Inst::Bitcast(to, x) => Inst::Bitcast(to, of(x)?),
                Inst::Get(l) => match self.locals[l.0 as usize].get(i) {
                    Some(place) if self.locals[l.0 as usize].len() == n => Inst::Get(*place),
                    _ => return Err(BrokenRule(format!("{v} has not the lanes of {l}"))),
                },
                _ => unreachable!("made above"),
            };
            out.push(Stmt::Let(part, inst));
        }
        Ok(())
    }

    /// A value of which every part is this one.
    fn same(&mut self, v: V, part: V, n: usize) -> Narrow<()> {
        self.values[v.0 as usize] = vec![part; n];
        Ok(())
    }

    /// Lanes of two vectors: each part of the result is a part of one of them, or lanes of two parts by a shuffle.
    fn shuffle(&mut self, v: V, op: Shuffle, (a, b): (V, V), out: &mut Vec<Stmt>) -> Narrow<()> {
        let whole = self.kernel.types[v.0 as usize];
        let (ty, n) = self.split(v);
        let lanes = usize::from(ty.lanes);
        let of = [a, b].into_iter().flat_map(|x| (0..n).map(move |i| (x, i)));
        let of = of.map(|(x, i)| self.part(x, i, n)).collect::<Narrow<Vec<V>>>()?;
        let mut parts = vec![];
        for part in 0..n {
            let from: Vec<usize> = (0..lanes).map(|l| op.source(whole, part * lanes + l)).collect();
            if from[0].is_multiple_of(lanes) && from.iter().zip(from[0]..).all(|(f, at)| *f == at) {
                parts.push(of[from[0] / lanes]);
                continue;
            }
            // The two parts in the order in which they are first read.
            let first = from[0] / lanes;
            let second = from.iter().map(|f| f / lanes).find(|p| *p != first).unwrap_or(first);
            let seen = |at: usize| [first, second][at / lanes] * lanes + at % lanes;
            let same = |op: &Shuffle| op.takes(ty) && (0..lanes).all(|l| seen(op.source(ty, l)) == from[l]);
            let Some(op) = Shuffle::ALL.into_iter().find(same) else {
                return Err(BrokenRule(format!(
                    "{v}: no shuffle of {ty} is a part of {} of {whole}",
                    op.name()
                )));
            };
            let value = self.value(ty);
            out.push(Stmt::Let(value, Inst::Shuffle(op, of[first], of[second])));
            parts.push(value);
        }
        self.values[v.0 as usize] = parts;
        Ok(())
    }

    /// The parts of a vector joined lane by lane: halves, and halves of them, as [`Inst::Fold`] says.
    fn joined(&mut self, op: BinOp, x: V, out: &mut Vec<Stmt>) -> Narrow<V> {
        let mut parts = self.parts(x)?.to_vec();
        while parts.len() > 1 {
            let upper = parts.split_off(parts.len() / 2);
            for (low, high) in parts.iter_mut().zip(upper) {
                let both = self.value(self.ty(*low));
                out.push(Stmt::Let(both, Inst::Binary(op, *low, high)));
                *low = both;
            }
        }
        Ok(parts[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{parse_kernel, print};

    fn kernel(body: &str) -> Kernel {
        let params = "p0: f32[64] read, p1: bool[64] read, p2: f32[64] write, p3: u16[64] read";
        parse_kernel(&format!("kernel k({params}) tasks v0 in 1 {{\n{body}\n}}\n")).unwrap()
    }

    #[test]
    fn vectors_masks_and_folds_are_split_alike() {
        let wide = kernel(
            "local l0 : f32x8 v1 = affine 8*v0 : i64 v2 = load p0[v1] : f32x8 v3 = const 1.0 : f32x8
             v4 = load p1[v0] : boolx8 v5 = select v4, v2, v3 : f32x8 set l0, v5 v6 = extract v5, 6 : f32
             v7 = fold add v5 : f32 v8 = any v4 : bool store p2[v1], v5",
        );
        let narrow16 = narrow(&wide, 16).unwrap();
        let want = kernel(
            "local l0 : f32x4 local l1 : f32x4
             v1 = affine 8*v0 : i64 v4 = affine 8*v0 + 4 : i64 v2 = load p0[v1] : f32x4 v3 = load p0[v4] : f32x4
             v5 = const 1.0 : f32x4
             v8 = affine v0 + 4 : i64 v6 = load p1[v0] : boolx4 v7 = load p1[v8] : boolx4
             v9 = select v6, v2, v5 : f32x4 v10 = select v7, v3, v5 : f32x4 set l0, v9 set l1, v10
             v11 = extract v10, 2 : f32
             v12 = add v9, v10 : f32x4 v13 = fold add v12 : f32
             v14 = or v6, v7 : boolx4 v15 = any v14 : bool
             v16 = affine 8*v0 + 4 : i64 store p2[v1], v9 store p2[v16], v10",
        );
        assert_eq!(print(&narrow16), print(&want));
        assert_eq!(narrow(&wide, 32).unwrap(), wide);
    }

    #[test]
    fn smaller_elements_are_split_as_what_they_meet() {
        let wide = kernel(
            "v1 = load p3[v0] : u16x8 v2 = convert v1 : f32x8 v3 = load p3[v0] : u16x8 v4 = fold add v3 : u16
             store p2[v0], v2",
        );
        let want = kernel(
            "v3 = affine v0 + 4 : i64 v1 = load p3[v0] : u16x4 v2 = load p3[v3] : u16x4
             v4 = convert v1 : f32x4 v5 = convert v2 : f32x4
             v6 = load p3[v0] : u16x8 v7 = fold add v6 : u16
             v8 = affine v0 + 4 : i64 store p2[v0], v4 store p2[v8], v5",
        );
        assert_eq!(print(&narrow(&wide, 16).unwrap()), print(&want));
        let two = kernel("v1 = load p0[v0] : f32x2 v2 = convert v1 : f64x2 v3 = fold add v2 : f64");
        let want = kernel(
            "v3 = affine v0 + 1 : i64 v1 = load p0[v0] : f32 v2 = load p0[v3] : f32
             v4 = convert v1 : f64 v5 = convert v2 : f64 v6 = add v4, v5 : f64",
        );
        assert_eq!(print(&narrow(&two, 16).unwrap()), print(&want));
    }

    #[test]
    fn interleaved_vectors_are_split() {
        let wide = kernel(
            "v1 = load p0[v0] : f32x8 v2 = neg v1 : f32x8 v3 = interleave_high v1, v2 : f32x8 store p2[v0], v3",
        );
        let want = kernel(
            "v3 = affine v0 + 4 : i64 v1 = load p0[v0] : f32x4 v2 = load p0[v3] : f32x4
             v4 = neg v1 : f32x4 v5 = neg v2 : f32x4
             v6 = interleave_low v2, v5 : f32x4 v7 = interleave_high v2, v5 : f32x4
             v8 = affine v0 + 4 : i64 store p2[v0], v6 store p2[v8], v7",
        );
        assert_eq!(print(&narrow(&wide, 16).unwrap()), print(&want));
    }

    #[test]
    fn deinterleaved_vectors_are_split() {
        let wide = kernel(
            "v1 = load p0[v0] : f32x8 v2 = neg v1 : f32x8 v3 = deinterleave_odd v1, v2 : f32x8 store p2[v0], v3",
        );
        let want = kernel(
            "v3 = affine v0 + 4 : i64 v1 = load p0[v0] : f32x4 v2 = load p0[v3] : f32x4
             v4 = neg v1 : f32x4 v5 = neg v2 : f32x4
             v6 = deinterleave_odd v1, v2 : f32x4 v7 = deinterleave_odd v4, v5 : f32x4
             v8 = affine v0 + 4 : i64 store p2[v0], v6 store p2[v8], v7",
        );
        assert_eq!(print(&narrow(&wide, 16).unwrap()), print(&want));
    }

    #[test]
    fn kernels_without_wide_vectors_are_as_they_were() {
        let base = kernel("v1 = load p3[v0] : u16x8 v2 = eq v1, v1 : boolx8 v3 = load p1[v0] : boolx16");
        assert_eq!(narrow(&base, 16).unwrap(), base);
    }

    #[test]
    fn broken_rules_are_errors() {
        for (body, message) in [
            (
                "v1 = load p0[v0] : f32x8 v2 = add v1, v0 : f32x8",
                "v0 has not the lanes of what it is used with",
            ),
            ("v2 = neg v1 : f32x8 v1 = load p0[v0] : f32x8", "v1 is used before it is defined"),
            ("v1 = load p0[v0] : f32x8 store p2[v1], v0", "v1, which is a vector, is used as a scalar"),
            ("v1 = load p0[v0] : f32x8 v2 = extract v1, 9 : f32", "v1 has no lane 9"),
        ] {
            assert_eq!(narrow(&kernel(body), 16).unwrap_err().to_string(), message, "{body}");
        }
    }
}
