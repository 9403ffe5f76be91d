//! Random types, attributes and tensors, biased towards what rules ask for.

use crate::analysis::scalar;
use crate::rules::{Expr, Guard, OpPattern, Pattern, Rule, Tier};
use egret_ir::{Attr, AttrKind, DType, Dim, DimEnv, DimOp, Op, Tensor, TensorType, Type, interp};
use std::collections::BTreeSet;

/// Element types by how often they are drawn.
const DTYPES: [DType; 12] = [
    DType::F32,
    DType::F32,
    DType::F32,
    DType::F16,
    DType::F64,
    DType::BF16,
    DType::I64,
    DType::I32,
    DType::U8,
    DType::I8,
    DType::Bool,
    DType::F32,
];

/// The generator of one case.
pub(super) struct Draw {
    seed: f64,
    drawn: u64,
    /// The element type that most values have.
    dtype: DType,
    /// Extents that dims are drawn from.
    dims: Vec<i64>,
    /// Leading dims of most values.
    batch: Vec<i64>,
    /// Groups and heads in a group, if most values are queries, keys and masks of grouped attention.
    heads: Option<[i64; 2]>,
    /// The dims that most values have, if most are parts of values that are parted alike.
    parts: Option<Vec<i64>>,
    /// The numbers in the rule.
    numbers: Vec<f64>,
    /// Whether values hold infinities, denormals and the like.
    special: bool,
    /// Whether the rule's tier is exact.
    exact: bool,
    /// Whether values hold some NaN.
    nan: bool,
    /// The magnitude of most values.
    size: f64,
    /// The symbols that dims are made of, and the sizes that what is drawn fits; none where all dims are numbers.
    sizes: DimEnv,
    /// Shapes of values that were drawn, if dims have symbols.
    shapes: Vec<Vec<Dim>>,
}

impl Draw {
    pub fn new(seed: u64, rule: &Rule) -> Draw {
        let numbers = numbers(rule);
        let (dtype, dims, batch) = (DType::F32, vec![], vec![]);
        let mut d = Draw {
            seed: seed as f64,
            drawn: 0,
            dtype,
            dims,
            batch,
            heads: None,
            parts: None,
            numbers,
            special: false,
            exact: rule.tier == Tier::Exact,
            nan: false,
            size: 2.0,
            sizes: DimEnv::new(),
            shapes: vec![],
        };
        d.dtype = DTYPES[d.below(DTYPES.len())];
        // What stands beside a cast is mostly of the type that it gives.
        if let Some(dtype) = cast_to(&rule.lhs).filter(|d| d.is_int()).filter(|_| d.below(2) == 0) {
            d.dtype = dtype;
        }
        // Few different extents, so that shapes often fit.
        let different = [1, 1, 2, 3][d.below(4)];
        d.dims = (0..different).map(|_| [2, 3, 1, 4, 5, 2, 3, 0][d.below(8)]).collect();
        let rank = d.below(3);
        d.batch = (0..rank).map(|_| d.dim()).collect();
        if times(&rule.rhs, Op::Attention) > 0 && times(&rule.lhs, Op::Concat) == 0 && d.below(4) != 0 {
            d.heads = Some([d.dim(), d.dim()]);
        }
        if times(&rule.lhs, Op::Concat) > 1 && d.below(2) == 0 {
            let (lead, side) = (d.below(2), d.dim());
            d.parts = Some((0..=lead).map(|_| d.dim()).chain([side, side]).collect());
        }
        // Infinities only for exact rules: elsewhere the order of operations may decide.
        d.special = rule.tier == Tier::Exact && d.below(2) == 0;
        // A NaN propagates on both sides, whatever the order.
        d.nan = !d.special && d.below(8) == 0;
        d.size = [2.0, 2.0, 2.0, 2.0, 0.01, 20.0, 100.0, 1000.0][d.below(8)];
        d
    }

    /// The same, of a case whose dims are free: two symbols at least, two of them of one size.
    pub fn free(seed: u64, rule: &Rule) -> Draw {
        let mut d = Draw::new(seed, rule);
        let twice = d.dims[0];
        let sizes = d.dims.iter().copied().chain([twice]);
        d.sizes = ('a'..='z').map(String::from).zip(sizes).collect();
        d
    }

    /// The sizes of its symbols that what was drawn fits.
    pub fn sizes(&self) -> &DimEnv {
        &self.sizes
    }

    /// Other sizes, which it may not fit.
    pub fn other_sizes(&mut self) -> DimEnv {
        let own = self.sizes.clone();
        own.into_iter().map(|(name, own)| (name, [own, self.below(7) as i64][self.below(2)])).collect()
    }

    /// An expression whose value is this, of dims that are given and the symbols; a number where there are none.
    fn dim_of(&mut self, value: i64, given: &[Dim]) -> Dim {
        if self.sizes.is_empty() || self.below(3) == 0 {
            return Dim::constant(value);
        }
        let symbols: Vec<Dim> = self.sizes.keys().map(|s| Dim::symbol(s)).collect();
        let mut all: Vec<Dim> = symbols.iter().chain(given).cloned().collect();
        all.extend(given.windows(2).map(|two| two[0].clone() * two[1].clone()));
        all.push(given.iter().fold(Dim::constant(1), |n, d| n * d.clone()));
        let (one, other) = (self.below(all.len()), self.below(all.len()));
        let op = [DimOp::Min, DimOp::Max, DimOp::Broadcast, DimOp::FloorDiv][self.below(4)];
        all.push(all[one].op(op, &all[other]));
        let any = all[self.below(all.len())].clone();
        let equal: Vec<&Dim> = all.iter().filter(|d| d.eval(&self.sizes) == Some(value)).collect();
        match (self.below(6), any.eval(&self.sizes)) {
            (0, Some(is)) => any + Dim::constant(value - is),
            (1, Some(is)) => (any - Dim::constant(is)) * Dim::constant(2) + Dim::constant(value),
            _ if equal.is_empty() => Dim::constant(value),
            _ => equal[self.below(equal.len())].clone(),
        }
    }

    /// Expressions whose values these are: mostly a shape that was drawn, if one has them.
    fn dims_of(&mut self, values: &[i64], given: &[Dim]) -> Vec<Dim> {
        let is = |shape: &&Vec<Dim>| {
            shape.len() == values.len()
                && shape.iter().zip(values).all(|(d, v)| d.eval(&self.sizes) == Some(*v))
        };
        let known: Vec<Vec<Dim>> = self.shapes.iter().filter(is).cloned().collect();
        if !known.is_empty() && self.below(2) == 0 {
            return known[self.below(known.len())].clone();
        }
        values.iter().map(|&v| self.dim_of(v, given)).collect()
    }

    /// In 0..n.
    pub fn below(&mut self, n: usize) -> usize {
        self.drawn += 1;
        ((interp::draw(self.seed, self.drawn) * n as f64) as usize).min(n.saturating_sub(1))
    }

    /// An extent.
    pub fn dim(&mut self) -> i64 {
        let i = self.below(self.dims.len());
        if self.below(6) == 0 { 1 } else { self.dims[i] }
    }

    /// A type for a value.
    pub fn ty(&mut self) -> TensorType {
        let dtype = match self.below(12) {
            0 => DTYPES[self.below(DTYPES.len())],
            _ => self.dtype,
        };
        let mut shape = match self.below(10) {
            n if let Some(parts) = self.parts.clone().filter(|_| n != 0) => parts,
            n if let Some([groups, each]) = self.heads.filter(|_| n != 0) => {
                let (rows, columns) = (self.dims[0], self.dims[self.dims.len() - 1]);
                let mut shape = match self.below(5) {
                    0 => vec![groups * each],
                    1 => vec![groups, 1],
                    2 => vec![groups, each],
                    3 => vec![1],
                    _ => vec![],
                };
                shape.extend([rows, columns]);
                shape
            }
            0 => vec![],
            1 => vec![self.dim()],
            _ => {
                let mut s = self.batch.clone();
                (0..self.below(3)).for_each(|_| s.push(self.dim()));
                s
            }
        };
        if self.below(8) == 0 && !shape.is_empty() {
            let i = self.below(shape.len());
            shape[i] = 1;
        }
        let shape = self.dims_of(&shape, &[]);
        if !self.sizes.is_empty() {
            self.shapes.push(shape.clone());
        }
        TensorType { dtype, shape: shape.into_iter().collect() }
    }

    /// A constant for a value that a guard asks about. `near`: the numbers that it may be compared with.
    pub fn constant(&mut self, near: &[f64]) -> Option<Tensor> {
        let dtype = if self.below(10) == 0 { DTYPES[self.below(DTYPES.len())] } else { self.dtype };
        let all: Vec<f64> =
            if near.is_empty() || self.below(10) == 0 { self.numbers.clone() } else { near.to_vec() };
        let mut v = match self.below(12) {
            // Large values would cancel in sums, and the order decides what is left.
            0 => [0.0, -0.0, 1.0, 2.0, -1.0, 0.5, 1e30, 1e-30]
                [self.below(if near.is_empty() && !self.exact { 6 } else { 8 })],
            1 => (self.below(9) as f64 - 4.0) * 0.75,
            _ if !all.is_empty() => all[self.below(all.len())],
            _ => [2.0, 0.5, 3.0, 1.0, 0.25][self.below(5)],
        };
        if self.below(12) == 0 {
            // A little off the number.
            v *= 1.0 + [1e-7, -1e-7, 2e-7, 1e-6, 1e-16, 1e-3][self.below(6)];
        }
        if self.below(3) == 0 {
            // A number of elements.
            let dims: Vec<i64> = self.dims.clone();
            v = dims.iter().take(1 + self.below(dims.len())).product::<i64>() as f64;
        }
        let shape: Vec<usize> = match self.below(8) {
            0 => vec![1],
            1 => self.batch.iter().map(|_| 1).collect(),
            2 => vec![usize::try_from(self.dim()).ok()?],
            3 => self.ty().substitute(&self.sizes).const_dims()?,
            _ => vec![],
        };
        let one = match dtype {
            DType::U8 | DType::I8 | DType::Bool => {
                return Some(self.tensor(&TensorType { dtype, shape: vec![] }));
            }
            _ => scalar(v, dtype).ok()?,
        };
        let len: usize = shape.iter().product();
        Some(Tensor::from_bytes(dtype, &shape, &one.bytes().repeat(len)))
    }

    /// A tensor of a type.
    pub fn tensor(&mut self, ty: &TensorType) -> Tensor {
        let shape = ty.substitute(&self.sizes).const_dims().unwrap_or_default();
        let len: usize = shape.iter().product();
        let numbers: Vec<f64> = (0..len).map(|_| self.number()).collect();
        macro_rules! of {
            ($convert:expr) => {
                Tensor::new(&shape, numbers.iter().copied().map($convert).collect())
            };
        }
        match ty.dtype {
            DType::F64 => of!(|v: f64| v),
            DType::F16 => of!(egret_ir::f16_of),
            DType::BF16 => of!(egret_ir::bf16_of),
            DType::I64 => of!(|v: f64| v as i64),
            DType::I32 => of!(|v: f64| v as i32),
            DType::I16 => of!(|v: f64| v as i16),
            DType::I8 => of!(|v: f64| v as i8),
            DType::U8 => of!(|v: f64| v.abs() as u8),
            DType::Bool => {
                Tensor::from_bools(&shape, &numbers.iter().map(|v| *v > 0.0).collect::<Vec<_>>())
            }
            _ => of!(|v: f64| v as f32),
        }
    }

    fn number(&mut self) -> f64 {
        if self.special && self.below(4) == 0 {
            let all = [
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                0.0,
                -0.0,
                1e-40,
                -1e-310,
                3.4e38,
                1.0,
                -1.0,
                65504.0,
                1e-8,
            ];
            return all[self.below(all.len())];
        }
        if self.nan && self.below(6) == 0 {
            return f64::NAN;
        }
        match self.below(8) {
            0 | 1 => [0.0, -0.0, -0.0, 1.0, -1.0, 2.0, 0.5][self.below(7)],
            _ => {
                self.drawn += 1;
                (interp::draw(self.seed, self.drawn) * 2.0 - 1.0) * self.size
            }
        }
    }

    /// An operation of a group.
    pub fn op(&mut self, of: &[Op]) -> Option<Op> {
        (!of.is_empty()).then(|| of[self.below(of.len())])
    }

    /// An attribute for a node on these operands.
    pub fn attr(&mut self, name: &str, kind: AttrKind, operands: &[Option<&Type>]) -> Option<Attr> {
        let first = operands.first().and_then(|t| t.and_then(Type::as_tensor));
        let dims = first.map_or(&[][..], |t| &t.shape);
        let shape: Vec<i64> =
            dims.iter().map(|d| d.eval(&self.sizes)).collect::<Option<_>>().unwrap_or_default();
        Some(match self.attr_of(name, kind, &shape)? {
            Attr::Dims(drawn) if !self.sizes.is_empty() => {
                let values: Vec<i64> = drawn.iter().map(Dim::as_const).collect::<Option<_>>()?;
                Attr::Dims(self.dims_of(&values, dims))
            }
            other => other,
        })
    }

    /// An attribute for a node whose first operand has this shape; all dims are numbers.
    fn attr_of(&mut self, name: &str, kind: AttrKind, shape: &[i64]) -> Option<Attr> {
        let rank = shape.len();
        Some(match kind {
            AttrKind::Int if name.contains("axis") => {
                Attr::Int(if self.below(2) == 0 { rank as i64 - 1 } else { self.below(rank.max(1)) as i64 })
            }
            AttrKind::Int if name == "groups" => {
                Attr::Int(if self.below(2) == 0 { 1 } else { shape.get(1).copied().unwrap_or(1) })
            }
            AttrKind::Int | AttrKind::Flag => Attr::Int(self.below(2) as i64),
            AttrKind::Float => {
                let list: Vec<f64> =
                    self.numbers.iter().copied().chain([1.0, 0.5, 1e-5, 1e-12, 0.0]).collect();
                Attr::Float(list[self.below(list.len())])
            }
            AttrKind::Word(words) => Attr::String(words[self.below(words.len())].to_owned()),
            AttrKind::DType => Attr::DType(DTYPES[self.below(DTYPES.len())]),
            AttrKind::Ints if name == "perm" => Attr::Ints(self.permutation(rank)),
            AttrKind::Ints if name == "axes" => {
                let from = self.below(rank.max(1));
                let suffix = self.below(2) == 0;
                let axes: BTreeSet<i64> = (0..rank as i64)
                    .filter(|&a| if suffix { a >= from as i64 } else { self.below(2) == 0 })
                    .collect();
                Attr::Ints(axes.into_iter().collect())
            }
            AttrKind::Ints if name == "pads" => {
                Attr::Ints((0..2 * rank.saturating_sub(2)).map(|_| self.below(2) as i64).collect())
            }
            AttrKind::Ints if name == "kernel" => {
                Attr::Ints((0..rank.saturating_sub(2)).map(|_| 1 + self.below(2) as i64).collect())
            }
            AttrKind::Ints if matches!(name, "strides" | "dilations") => {
                Attr::Ints((0..rank.saturating_sub(2)).map(|_| 1 + self.below(2) as i64).collect())
            }
            AttrKind::Ints if matches!(name, "high_extra" | "output_padding") => {
                Attr::Ints(vec![0; rank.saturating_sub(2)])
            }
            // Of a resize: the quotients of the sizes.
            AttrKind::Floats if name == "scales" => Attr::Floats(vec![0.0; rank]),
            // Of slices: mostly all of it, or half of the last axis (contiguous, or every other element).
            AttrKind::Ints if name == "steps" && self.below(4) != 0 => {
                let mut steps = vec![1; rank];
                let last = 1 + i64::from(self.below(3) == 0);
                steps.iter_mut().rev().take(1).for_each(|s| *s = last);
                Attr::Ints(steps)
            }
            AttrKind::Dims if name == "starts" && self.below(3) != 0 => {
                let last = shape.last().map_or(0, |d| d / 2);
                let half = [0, last, last.min(1)][self.below(3)];
                let zeros = shape.iter().skip(1).map(|_| 0);
                Attr::Dims(if rank == 0 {
                    vec![]
                } else {
                    zeros.chain([half]).map(Dim::constant).collect()
                })
            }
            AttrKind::Dims if name == "sizes" && self.below(3) != 0 => {
                let mut sizes = shape.to_vec();
                sizes.iter_mut().rev().take(1).for_each(|d| *d /= 2);
                Attr::Dims(sizes.into_iter().map(Dim::constant).collect())
            }
            AttrKind::Ints => Attr::Ints((0..rank).map(|_| [1, 1, 2, -1][self.below(4)]).collect()),
            AttrKind::Dims if name == "shape" => {
                Attr::Dims(self.reshaped(shape).into_iter().map(Dim::constant).collect())
            }
            AttrKind::Dims => Attr::Dims(
                shape.iter().map(|&d| Dim::constant(self.below(d.max(1) as usize + 1) as i64)).collect(),
            ),
            AttrKind::Dim => Attr::Dim(Dim::constant(self.dim())),
            AttrKind::String
            | AttrKind::Floats
            | AttrKind::Strings
            | AttrKind::Tensor
            | AttrKind::Type
            | AttrKind::Symbols => return None,
        })
    }

    fn permutation(&mut self, rank: usize) -> Vec<i64> {
        let mut p: Vec<i64> = (0..rank as i64).collect();
        // Often exchange the last two axes.
        if rank >= 2 && self.below(3) == 0 {
            p.swap(rank - 2, rank - 1);
            return p;
        }
        // Or move the channels last.
        if rank >= 3 && self.below(3) == 0 {
            return crate::analysis::permutation::to_last(rank);
        }
        (1..rank).rev().for_each(|i| {
            let j = self.below(i + 1);
            p.swap(i, j);
        });
        p
    }

    /// Another shape with as many elements, or one that it broadcasts to.
    fn reshaped(&mut self, shape: &[i64]) -> Vec<i64> {
        let count: i64 = shape.iter().product();
        if let (Some([_, each]), [lead @ .., a, b, rows, columns]) = (self.heads, shape)
            && self.below(2) == 0
        {
            // Repeat heads within groups, or merge groups and heads.
            let repeated = [lead, &[*a, each, *rows, *columns]].concat();
            return if *b == 1 && self.below(2) == 0 {
                repeated
            } else {
                [lead, &[a * b, *rows, *columns]].concat()
            };
        }
        match self.below(8) {
            0 => vec![count],
            1 => shape.to_vec(),
            2 => [&[1], shape].concat(),
            3 => shape.iter().rev().copied().collect(),
            4 => self.batch.iter().copied().chain(shape.iter().copied()).collect(),
            5 => [shape, &[1]].concat(),
            6 => match shape {
                [lead @ .., a, b] => [lead, &[a * b]].concat(),
                _ => vec![count],
            },
            _ => {
                let mut s = shape.to_vec();
                let at = self.below(s.len() + 1);
                s.insert(at, 1);
                s
            }
        }
    }
}

/// The numbers that stand in a rule, with their neighbours as f32.
fn numbers(rule: &Rule) -> Vec<f64> {
    let mut out = vec![];
    rule.guards.iter().for_each(|g| guard_numbers(g, &mut out));
    for p in [&rule.lhs, &rule.rhs] {
        pattern_numbers(p, &mut out);
    }
    out
}

/// How often an operation occurs in a pattern.
fn times(p: &Pattern, op: Op) -> usize {
    p.nodes().into_iter().filter(|n| n.op == OpPattern::One(op)).count()
}

/// The element type that a cast in a pattern gives.
fn cast_to(p: &Pattern) -> Option<DType> {
    let Pattern::Node(n) = p else { return None };
    let own = n.attrs.iter().find_map(|(name, e)| match e {
        Expr::Literal(Attr::DType(dtype)) if *name == "to" => Some(*dtype),
        _ => None,
    });
    own.or_else(|| n.args.iter().find_map(cast_to))
}

fn pattern_numbers(p: &Pattern, out: &mut Vec<f64>) {
    match p {
        Pattern::Splat(v) => out.push(*v),
        Pattern::Number(e) => expr_numbers(e, out),
        Pattern::Node(n) => {
            n.attrs.iter().for_each(|(_, e)| expr_numbers(e, out));
            n.args.iter().for_each(|a| pattern_numbers(a, out));
        }
        Pattern::Each(p) => pattern_numbers(p, out),
        _ => {}
    }
}

/// The numbers of a guard.
pub(super) fn guard_numbers(g: &Guard, out: &mut Vec<f64>) {
    expr_numbers(&g.left, out);
    if let Some((_, right)) = &g.right {
        expr_numbers(right, out);
    }
}

fn expr_numbers(e: &Expr, out: &mut Vec<f64>) {
    match e {
        Expr::Literal(Attr::Float(v)) => out.push(*v),
        Expr::Literal(Attr::Int(v)) => out.push(*v as f64),
        Expr::Call(_, args) => args.iter().for_each(|a| expr_numbers(a, out)),
        _ => {}
    }
}
