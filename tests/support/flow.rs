//! Random graphs with branches, loops and scans within one another, along free dims: drawn node by node from genes, so
//! that a failing one can be shrunk.
//!
//! Each value has a bound, which `tanh` keeps small: what rounding differs by is not enlarged without end, and no comparison of floats
//! decides what is computed.

use crate::random::Gene;
use egret::ir::{
    Attr, Attrs, Builder, DType, Dim, DimEnv, DimOp, Graph, Op, Tensor, TensorType, Type, ValueId, attrs,
    text,
};
use std::collections::BTreeMap;

/// Elements that a value has at most, at the largest sizes.
const MOST: i64 = 4096;
/// The largest value of a free dim.
pub const LARGEST: i64 = 9;
/// No float is beyond it.
const BOUND: f64 = 16.0;
/// How deep graphs stand within one another.
const DEPTH: usize = 2;

type Genes<'a> = std::slice::Iter<'a, Gene>;

/// A graph in the making: the outermost, or one within a node.
struct Scope {
    b: Builder,
    depth: usize,
    /// f32, and what they are not beyond.
    values: Vec<(ValueId, f64)>,
    /// Bools of one element.
    flags: Vec<ValueId>,
    /// i64 of one element, 0 to 3.
    counts: Vec<ValueId>,
    /// What symbols are at most.
    sizes: DimEnv,
    /// A symbol whose value changes from round to round.
    changing: Option<String>,
}

fn one(dtype: DType) -> Type {
    Type::tensor(dtype, [])
}

fn dims(shape: &[Dim]) -> Attr {
    Attr::Dims(shape.to_vec())
}

impl Scope {
    fn shape(&self, v: ValueId) -> Vec<Dim> {
        self.b.tensor_ty(v).shape.to_vec()
    }

    /// How many elements a shape has at most.
    fn elements(&self, shape: &[Dim]) -> Option<i64> {
        shape.iter().try_fold(1i64, |n, d| n.checked_mul(d.eval(&self.sizes)?))
    }

    /// The latest values more often.
    fn pick(&self, by: u8) -> (ValueId, f64) {
        let n = self.values.len();
        self.values[n - 1 - (by as usize * by as usize * n) / (256 * 256)]
    }

    fn node(&mut self, op: Op, attrs: Attrs, operands: &[ValueId]) -> Option<ValueId> {
        self.b.emit(op, attrs, operands).ok()
    }

    fn scalar(&mut self, v: f32) -> ValueId {
        self.b.constant(Tensor::scalar(v))
    }

    fn weights(&mut self, shape: &[i64], seed: u8) -> Option<ValueId> {
        let ty = TensorType::new(DType::F32, shape.iter().map(|&d| Dim::constant(d)).collect::<Vec<_>>());
        let t = text::parse_tensor(&format!("{ty} random({seed})"), &|_| None).ok()?;
        Some(self.b.constant(t))
    }

    /// A value that is kept within a bound.
    fn within(&mut self, (v, bound): (ValueId, f64), most: f64) -> Option<(ValueId, f64)> {
        if bound <= most {
            return Some((v, bound));
        }
        Some((self.node(Op::Tanh, attrs! {}, &[v])?, 1.0))
    }

    /// A value that broadcasts to the shape of x.
    fn beside(&self, x: ValueId, by: u8) -> (ValueId, f64) {
        let shape = self.shape(x);
        let fits = |&(y, _): &(ValueId, f64)| {
            let y = self.shape(y);
            let pairs = y.iter().rev().zip(shape.iter().rev());
            y.len() <= shape.len() && pairs.into_iter().all(|(a, b)| a == b || a.as_const() == Some(1))
        };
        let all: Vec<_> = self.values.iter().copied().filter(fits).collect();
        all[by as usize % all.len()]
    }

    /// One node that is no control flow.
    fn plain(&mut self, (kind, p, q, r): Gene) -> Option<(ValueId, f64)> {
        let (x, bound) = self.pick(p);
        let shape = self.shape(x);
        let rank = shape.len();
        let axis = |by: u8| (rank > 0).then(|| by as usize % rank);
        match kind % 18 {
            0 => {
                let op = [Op::Neg, Op::Abs, Op::Tanh, Op::Sigmoid][q as usize % 4];
                Some((self.node(op, attrs! {}, &[x])?, if q % 4 < 2 { bound } else { 1.0 }))
            }
            1 | 2 => {
                let (y, other) = self.beside(x, q);
                let op = [Op::Add, Op::Sub, Op::Max, Op::Min][r as usize % 4];
                Some((self.node(op, attrs! {}, &[x, y])?, bound + other))
            }
            3 => {
                let (y, other) = self.beside(x, q);
                Some((self.node(Op::Mul, attrs! {}, &[x, y])?, bound * other))
            }
            4 => {
                let c = self.scalar([2.0, 0.5, 1.0, -1.0, 0.25, 0.0][q as usize % 6]);
                let op = [Op::Mul, Op::Add, Op::Sub][r as usize % 3];
                Some((self.node(op, attrs! {}, &[x, c])?, bound.max(1.0) * 2.0))
            }
            5 => {
                let (k, n) = (shape.last()?.as_const()?, [1, 2, 4, 8][q as usize % 4]);
                let w = self.weights(&[k, n], r)?;
                (rank >= 2).then_some(())?;
                Some((self.node(Op::Matmul, attrs! {}, &[x, w])?, bound * k as f64))
            }
            6 => {
                let (last, second) = (rank.checked_sub(1)?, rank.checked_sub(2)?);
                let mut perm: Vec<i64> = (0..rank as i64).collect();
                perm.swap(second, last);
                let t = self.node(Op::Transpose, attrs! { perm: perm }, &[x])?;
                let s = self.node(Op::Matmul, attrs! {}, &[x, t])?;
                let s = self.node(Op::Tanh, attrs! {}, &[s])?;
                let s = self.node(Op::Softmax, attrs! { axis: last as i64 }, &[s])?;
                Some((self.node(Op::Matmul, attrs! {}, &[s, x])?, bound))
            }
            7 => {
                let mut perm: Vec<i64> = (0..rank as i64).collect();
                perm.rotate_left(q as usize % rank.max(1));
                if rank > 1 && r % 2 == 0 {
                    perm.swap(0, 1);
                }
                Some((self.node(Op::Transpose, attrs! { perm: perm }, &[x])?, bound))
            }
            8 => {
                let mut to = shape.clone();
                match q % 3 {
                    0 => to = vec![shape.iter().fold(Dim::constant(1), |a, d| a * d.clone())],
                    1 => to.insert(r as usize % (rank + 1), Dim::constant(1)),
                    _ => {
                        let at = axis(r)?.min(rank.checked_sub(2)?);
                        let d = to.remove(at);
                        to[at] = d * to[at].clone();
                    }
                }
                Some((self.node(Op::Reshape, attrs! { shape: dims(&to) }, &[x])?, bound))
            }
            9 => Some((self.node(Op::Softmax, attrs! { axis: axis(q)? as i64 }, &[x])?, 1.0)),
            10 => {
                let at = axis(r)?;
                // The largest of none is no number.
                let kind =
                    ["sum", "max", "min"][if shape[at].as_const().is_some() { q as usize % 3 } else { 0 }];
                let attrs = attrs! { kind: kind, axes: vec![at as i64], keepdims: i64::from(p % 2) };
                let count = shape[at].eval(&self.sizes)?;
                Some((self.node(Op::Reduce, attrs, &[x])?, bound * count as f64))
            }
            11 => {
                let at = axis(r)?;
                let same = |y: &[Dim]| {
                    y.len() == rank && y.iter().zip(&shape).enumerate().all(|(i, (a, b))| i == at || a == b)
                };
                let all: Vec<_> = self.values.iter().copied().filter(|y| same(&self.shape(y.0))).collect();
                let (y, other) = all[q as usize % all.len()];
                Some((self.node(Op::Concat, attrs! { axis: at as i64 }, &[x, y])?, bound.max(other)))
            }
            12 => {
                let at = axis(r)?;
                let half = shape[at].op(DimOp::FloorDiv, &Dim::constant(2));
                let rest = shape[at].op(DimOp::CeilDiv, &Dim::constant(2));
                let (mut starts, mut sizes, mut steps) =
                    (vec![Dim::constant(0); rank], shape.clone(), vec![1i64; rank]);
                match q % 3 {
                    0 => sizes[at] = half,
                    1 => (starts[at], sizes[at]) = (half, rest),
                    _ => (sizes[at], steps[at]) = (rest, 2),
                }
                let attrs = attrs! { starts: dims(&starts), sizes: dims(&sizes), steps: steps };
                Some((self.node(Op::Slice, attrs, &[x])?, bound))
            }
            13 => {
                let at = axis(r)?;
                let mut around = [vec![Dim::constant(0); rank], vec![Dim::constant(0); rank]];
                around[q as usize % 2][at] = Dim::constant(1 + i64::from(q / 2 % 2));
                let c = self.scalar(0.5);
                let attrs = attrs! { low: dims(&around[0]), high: dims(&around[1]), mode: "constant" };
                Some((self.node(Op::Pad, attrs, &[x, c])?, bound.max(0.5)))
            }
            14 => {
                let (flag, (y, other)) = (self.flags[q as usize % self.flags.len()], self.beside(x, r));
                Some((self.node(Op::Where, attrs! {}, &[flag, x, y])?, bound.max(other)))
            }
            // The slices along an axis whose places data picks.
            15 => {
                let at = axis(r)?;
                let places = attrs! { axis: 0i64, shape: dims(&shape[at..=at]), to: DType::I64 };
                let places = self.node(Op::Iota, places, &[])?;
                let count = self.counts[q as usize % self.counts.len()];
                let pair = if p % 2 == 0 { [places, count] } else { [count, places] };
                let picked = self.node(Op::Less, attrs! {}, &pair)?;
                let v = self.node(Op::Compress, attrs! { axis: at as i64 }, &[x, picked])?;
                let most = shape[at].eval(&self.sizes)?;
                self.found(v, most);
                Some((v, bound))
            }
            // As many numbers as data says.
            16 => {
                let count = self.counts[q as usize % self.counts.len()];
                let v = self.node(Op::Range, attrs! {}, &[count])?;
                self.limit(v, 3);
                self.found(v, 3);
                let to = attrs! { round: "nearest", saturate: 1i64, to: DType::F32 };
                Some((self.node(Op::Cast, to, &[v])?, 3.0))
            }
            _ => {
                let at = axis(r)?;
                (shape[at].as_const()? >= 4).then_some(())?;
                let index = self.counts[q as usize % self.counts.len()];
                Some((self.node(Op::Gather, attrs! { axis: at as i64 }, &[x, index])?, bound))
            }
        }
    }

    /// Dims of a value that data decides are so many at most.
    fn found(&mut self, v: ValueId, most: i64) {
        let mut symbols = vec![];
        self.b.graph.ty(v).collect_symbols(&mut symbols);
        for s in symbols {
            self.sizes.entry(s).or_insert(most);
        }
    }

    /// There is room for so many of all that the node of a value declares.
    fn limit(&mut self, v: ValueId, most: i64) {
        let Some(node) = self.b.graph.producer(v) else { return };
        let attrs = &mut self.b.graph.node_mut(node).attrs;
        let all = vec![Dim::constant(most); attrs.declared().len()];
        if !all.is_empty() {
            attrs.0.insert("at_most", Attr::Dims(all));
        }
    }

    /// A graph within a node, with dims of its own names, drawn from the next genes; and its inputs, of these types and bounds.
    fn inner(&self, given: &[(Type, f64)], genes: &mut Genes<'_>, most: usize) -> (Scope, Vec<ValueId>) {
        self.inner_with(given, None, genes, most)
    }

    /// The same, where an input's axis has a dim that is no other's and changes, up to so much.
    fn inner_with(
        &self,
        given: &[(Type, f64)],
        own: Option<(usize, usize, i64)>,
        genes: &mut Genes<'_>,
        most: usize,
    ) -> (Scope, Vec<ValueId>) {
        let mut names = BTreeMap::<Dim, Dim>::new();
        let mut scope = Scope { depth: self.depth + 1, ..Scope::new("inner") };
        let mut inputs = vec![];
        for (i, (ty, bound)) in given.iter().enumerate() {
            let Type::Tensor(ty) = ty else { continue };
            let mut inside = |d: &Dim| {
                if d.as_const().is_some() {
                    return d.clone();
                }
                let name = format!("{}{}", ["r", "s"][self.depth], names.len());
                let symbol = names.entry(d.clone()).or_insert_with(|| Dim::symbol(&name)).clone();
                scope
                    .sizes
                    .entry(symbol.to_string())
                    .or_insert_with(|| d.eval(&self.sizes).unwrap_or(LARGEST));
                symbol
            };
            let mut shape: Vec<Dim> = ty.shape.iter().map(&mut inside).collect();
            if let Some((_, axis, largest)) = own.filter(|(input, ..)| *input == i) {
                let name = ["c", "d"][self.depth].to_owned();
                shape[axis] = Dim::symbol(&name);
                scope.sizes.insert(name.clone(), largest);
                scope.changing = Some(name);
            }
            let dtype = ty.dtype;
            let ty = Type::tensor(dtype, shape);
            let v = scope.b.input(&format!("i{i}"), ty);
            match dtype {
                DType::F32 => scope.values.push((v, *bound)),
                DType::Bool => scope.flags.push(v),
                _ => scope.counts.push(v),
            }
            inputs.push(v);
        }
        for _ in 0..most {
            let Some(&gene) = genes.next() else { break };
            scope.gene(gene, genes);
        }
        (scope, inputs)
    }

    /// A value that is an input of a round, of another size along an axis than in the round before: longer at an end, or half.
    fn changed(&mut self, v: ValueId, axis: usize, by: u8) -> Option<ValueId> {
        let shape = self.shape(v);
        let none = vec![Dim::constant(0); shape.len()];
        if by.is_multiple_of(3) {
            let (mut sizes, steps) = (shape.clone(), vec![1i64; shape.len()]);
            sizes[axis] = shape[axis].op(DimOp::FloorDiv, &Dim::constant(2));
            return self.node(
                Op::Slice,
                attrs! { starts: dims(&none), sizes: dims(&sizes), steps: steps },
                &[v],
            );
        }
        let mut around = [none.clone(), none];
        around[by as usize % 2][axis] = Dim::constant(1 + i64::from(by / 2 % 2));
        let c = self.scalar(0.5);
        let attrs = attrs! { low: dims(&around[0]), high: dims(&around[1]), mode: "constant" };
        self.node(Op::Pad, attrs, &[v, c])
    }

    /// The latest value that is of the same size in every round.
    fn even(&self) -> Option<(ValueId, f64)> {
        let decided = self.b.graph.declarations();
        let is_even = |v: &&(ValueId, f64)| {
            let mut symbols = vec![];
            self.b.graph.ty(v.0).collect_symbols(&mut symbols);
            symbols.iter().all(|s| !decided.contains_key(s.as_str()) && self.changing.as_ref() != Some(s))
        };
        self.values.iter().rev().find(is_even).copied()
    }

    /// The latest value that is of the type of another, and within a bound.
    fn like(&mut self, of: ValueId, most: f64) -> Option<(ValueId, f64)> {
        let all: Vec<_> = self.values.iter().rev().copied().collect();
        let same = all.into_iter().find(|v| self.b.tensor_ty(v.0) == self.b.tensor_ty(of));
        self.within(same?, most)
    }

    /// The latest value that has as many axes as another, and is within a bound.
    fn as_many_axes(&mut self, of: ValueId, most: f64) -> Option<(ValueId, f64)> {
        let all: Vec<_> = self.values.iter().rev().copied().collect();
        let same = all.into_iter().find(|v| self.shape(v.0).len() == self.shape(of).len());
        self.within(same?, most)
    }

    /// Up to three values, a flag and a count, which a graph within a node has too.
    fn captures(&self, (_, p, q, r): Gene) -> Vec<(ValueId, f64)> {
        let mut out: Vec<(ValueId, f64)> = vec![];
        for v in [p, q, r].map(|by| self.pick(by)).into_iter().take(1 + r as usize % 3) {
            if !out.contains(&v) {
                out.push(v);
            }
        }
        out.push((self.flags[q as usize % self.flags.len()], 0.0));
        out.push((self.counts[p as usize % self.counts.len()], 0.0));
        out
    }

    fn typed(&self, values: &[(ValueId, f64)]) -> Vec<(Type, f64)> {
        values.iter().map(|&(v, bound)| (self.b.graph.ty(v).clone(), bound)).collect()
    }

    /// A branch; its results are of the types of what it captures first, or of any sizes.
    fn branch(&mut self, gene: Gene, genes: &mut Genes<'_>) -> Option<Vec<(ValueId, f64)>> {
        let captures = self.captures(gene);
        let given = self.typed(&captures);
        let results = 1 + usize::from(gene.3 > 127).min(captures.len() - 3);
        let (mut bounds, mut most, mut regions) = (vec![0.0f64; results], 0, vec![]);
        for way in 0..2 {
            let (mut scope, inputs) = self.inner(&given, genes, 1 + (gene.1 as usize + way) % 4);
            for (i, bound) in bounds.iter_mut().enumerate() {
                let (v, of) = match gene.3 % 4 {
                    1 => scope.as_many_axes(inputs[i], BOUND)?,
                    _ => scope.like(inputs[i], BOUND)?,
                };
                for dim in scope.shape(v) {
                    most = dim.eval(&scope.sizes)?.max(most);
                }
                scope.b.output(&format!("o{i}"), v);
                *bound = bound.max(of);
            }
            regions.push(scope.finished());
        }
        let flag = self.flags[gene.2 as usize % self.flags.len()];
        let operands: Vec<_> = [flag].into_iter().chain(captures.iter().map(|c| c.0)).map(Some).collect();
        let made = self.b.emit_node(Op::If, attrs! {}, &operands, regions).ok()?;
        made.iter().for_each(|&v| self.found(v, most));
        Some(made.into_iter().zip(bounds).collect())
    }

    /// A loop of so many rounds as an input says, or a constant, and while a flag holds; one or two values are carried, and one may be stacked.
    fn repeat(&mut self, gene: Gene, genes: &mut Genes<'_>) -> Option<Vec<(ValueId, f64)>> {
        let (_, p, q, r) = gene;
        let captures = self.captures(gene);
        let carried = 1 + usize::from(r > 127).min(captures.len() - 3);
        let mut given = vec![(one(DType::I64), 0.0), (one(DType::Bool), 0.0)];
        given.extend(self.typed(&captures));
        given[2..2 + carried].iter_mut().for_each(|g| g.1 = g.1.max(2.0));
        // The first carried value may change its size along an axis, in each of three rounds by two at most.
        let shape = self.shape(captures[0].0);
        let changes = (r % 5 == 1 && !shape.is_empty()).then(|| q as usize % shape.len());
        let largest = changes.map(|axis| shape[axis].eval(&self.sizes).map(|n| n + 6));
        let own = changes.zip(largest.flatten()).map(|(axis, most)| (2, axis, most));
        let (mut scope, inputs) = self.inner_with(&given, own, genes, 1 + p as usize % 5);
        let conditional = q % 3 == 0;
        let go = match conditional {
            true => {
                let most = scope.b.constant(Tensor::scalar(i64::from(q / 3 % 3)));
                scope.node(Op::Less, attrs! {}, &[inputs[0], most])?
            }
            false => inputs[1],
        };
        scope.b.output("go", go);
        let mut bounds = vec![];
        for i in 0..carried {
            let (mut v, _) = scope.like(inputs[2 + i], given[2 + i].1)?;
            if let (0, Some((_, axis, _))) = (i, own) {
                v = scope.changed(v, axis, p)?;
            }
            scope.b.output(&format!("o{i}"), v);
            bounds.push(given[2 + i].1);
        }
        // Of rounds that an input counts, only the outermost graph stacks values: their number is a dim of its own.
        let counted = q % 2 == 0;
        if r % 3 == 0 && (!counted && !conditional || self.depth == 0 && r % 4 == 0) {
            let (v, bound) = scope.even()?;
            scope.b.output("all", v);
            bounds.push(bound);
        }
        let trips = match counted {
            true => self.counts[p as usize % self.counts.len()],
            false => self.b.constant(Tensor::scalar(i64::from(q / 2 % 4))),
        };
        let flag = self.flags[q as usize % self.flags.len()];
        let mut operands = vec![Some(trips), conditional.then_some(flag)];
        operands.extend(captures.iter().map(|c| Some(c.0)));
        let attrs =
            attrs! { carried: carried as i64, has_trip_count: 1i64, has_cond: i64::from(conditional) };
        let made = self.b.emit_node(Op::Loop, attrs, &operands, vec![scope.finished()]).ok()?;
        if let Some((_, axis, most)) = own {
            self.found(made[0], most);
            let node = self.b.graph.producer(made[0])?;
            let attrs = &mut self.b.graph.node_mut(node).attrs;
            let mut all = vec![Dim::constant(-1); attrs.declared().len()];
            all[axis] = Dim::constant(most);
            attrs.0.insert("at_most", Attr::Dims(all));
        }
        made.iter().for_each(|&v| self.found(v, 3));
        Some(made.into_iter().zip(bounds).collect())
    }

    /// A scan along an axis of a value, with another one carried, and a value of each element stacked along an axis of its own.
    fn scan(&mut self, gene: Gene, genes: &mut Genes<'_>) -> Option<Vec<(ValueId, f64)>> {
        let (_, p, q, r) = gene;
        let captures = self.captures(gene);
        let (state, (x, bound)) = (captures[0], self.pick(q));
        let mut shape = self.shape(x);
        let at = (!shape.is_empty()).then(|| r as usize % shape.len())?;
        shape.remove(at);
        let mut given = self.typed(&captures);
        given[0].1 = given[0].1.max(2.0);
        given.insert(1, (Type::tensor(DType::F32, shape), bound));
        let (mut scope, inputs) = self.inner(&given, genes, 1 + p as usize % 5);
        let (v, _) = scope.like(inputs[0], given[0].1)?;
        scope.b.output("o", v);
        let (all, stacked) = scope.even()?;
        let rank = scope.shape(all).len();
        scope.b.output("all", all);
        let mut operands = vec![Some(state.0), Some(x)];
        operands.extend(captures[1..].iter().map(|c| Some(c.0)));
        let attrs = attrs! {
            carried: 1i64, scans: 1i64, input_axes: vec![at as i64], input_reverse: vec![i64::from(p % 2)],
            output_axes: vec![(q as usize % (rank + 1)) as i64], output_reverse: vec![i64::from(q % 2)]
        };
        let made = self.b.emit_node(Op::Scan, attrs, &operands, vec![scope.finished()]).ok()?;
        Some(made.into_iter().zip([given[0].1, stacked]).collect())
    }

    /// What a gene makes becomes one of the values, unless it does not fit or is too large.
    fn gene(&mut self, gene: Gene, genes: &mut Genes<'_>) {
        let flow = self.depth < DEPTH && gene.0 >= 176;
        let made = match gene.0 % 3 {
            0 if flow => self.branch(gene, genes),
            1 if flow => self.repeat(gene, genes),
            2 if flow => self.scan(gene, genes),
            _ => self.plain(gene).map(|v| vec![v]),
        };
        for made in made.into_iter().flatten() {
            if self.elements(&self.shape(made.0)).is_some_and(|n| n <= MOST)
                && let Some(kept) = self.within(made, BOUND)
            {
                self.values.push(kept);
            }
        }
    }

    fn finished(self) -> Graph {
        let mut graph = self.b.graph;
        graph.remove_dead();
        graph
    }

    fn new(name: &str) -> Scope {
        let (values, flags, counts) = (vec![], vec![], vec![]);
        Scope {
            b: Builder::new(name),
            depth: 0,
            values,
            flags,
            counts,
            sizes: DimEnv::new(),
            changing: None,
        }
    }
}

/// A graph from genes, whose inputs have the free dims N and M; genes that do not fit are left out.
pub fn graph(genes: &[Gene]) -> Graph {
    let mut scope = Scope::new("drawn");
    scope.sizes.extend(["N", "M"].map(|s| (s.to_owned(), LARGEST)));
    let ([n, m], [three, four]) = (["N", "M"].map(Dim::symbol), [3, 4].map(Dim::constant));
    for (name, shape) in [
        ("a", vec![&n, &four]),
        ("b", vec![&m, &n]),
        ("c", vec![&three, &n, &four]),
        ("d", vec![&four]),
        ("e", vec![]),
        ("f", vec![&m, &four]),
    ] {
        let shape: Vec<Dim> = shape.into_iter().cloned().collect();
        let v = scope.b.input(name, Type::tensor(DType::F32, shape));
        scope.values.push((v, 1.0));
    }
    scope.flags = ["p", "q"].map(|name| scope.b.input(name, one(DType::Bool))).to_vec();
    scope.counts = ["i", "k"].map(|name| scope.b.input(name, one(DType::I64))).to_vec();
    let mut all = genes.iter();
    while let Some(&gene) = all.next() {
        scope.gene(gene, &mut all);
    }
    // Every value that nothing uses is an output, and the last one.
    let uses = scope.b.graph.use_lists();
    let unused = scope.values.iter().map(|v| v.0).filter(|v| uses.users(*v).is_empty());
    let mut outputs: Vec<ValueId> = unused.chain(scope.values.last().map(|v| v.0)).collect();
    outputs.dedup();
    for (i, v) in outputs.into_iter().enumerate() {
        scope.b.output(&format!("y{i}"), v);
    }
    scope.finished()
}
