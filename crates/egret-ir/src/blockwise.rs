//! Weights quantised in blocks: the right operand of a matrix product as codes of few bits, which share a scale and a zero point in
//! blocks along the reduction.
//!
//! What importers write for `MatMulNBits` of 576 rows, 192 columns and blocks of 32:
//!
//! ```text
//! %1 = const u4[192, 18, 32]
//! %2 = cast(%1) {to = f32} : f32[192, 18, 32]
//! %3 = sub(%2, %zeros)     : f32[192, 18, 32]     (zeros: [192, 18, 1], or one for all)
//! %4 = mul(%3, %scales)    : f32[192, 18, 32]     (scales: the same)
//! %5 = reshape(%4)         : f32[192, 576]        (and a slice where the last block is not full)
//! %6 = transpose(%5)       : f32[576, 192]
//! %7 = matmul(%x, %6)
//! ```
//!
//! And what they write for a matrix of codes of 8 bits with a scale for each column (`DequantizeLinear`), as `[K, N]` or, with a
//! transpose after it, as `[N, K]`:
//!
//! ```text
//! %1 = const i8[576, 192]
//! %2 = cast(%1) {to = f32}
//! %3 = mul(%2, %scales)    : f32[576, 192]        (scales: [1, 192], or one for all; zero points as above)
//! %4 = matmul(%x, %3)
//! ```
//!
//! Passes leave such a chain as it is, and lowering reads the codes themselves: no matrix of floats is ever made.

use crate::{DType, Def, Graph, Node, NodeId, Op, Tensor, UseLists, ValueId};

/// A matrix of K rows and N columns as the codes that it is dequantised from: `(code - zero) * scale`, in f32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blockwise {
    /// The codes: a constant.
    pub codes: ValueId,
    /// How the codes stand, and what scales and zero points broadcast to.
    pub layout: CodeLayout,
    /// The zero points: whole numbers that the codes' bits can hold.
    pub zeros: Option<ValueId>,
    /// The scales.
    pub scales: ValueId,
    /// Rows (K).
    pub rows: usize,
    /// Columns (N).
    pub columns: usize,
    /// Rows of a block.
    pub block: usize,
    /// The nodes from the codes to the matrix.
    pub nodes: Vec<NodeId>,
}

/// How the codes of a matrix of K rows and N columns stand.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CodeLayout {
    /// `[N, blocks, block]`, of which the last ones may be behind the end of K; scales `[N, blocks, 1]`.
    Blocks,
    /// `[K, N]`; scales `[1, N]`. A block is a part of a column, for the sake of one form.
    Rows,
    /// `[N, K]`; scales `[N, 1]`.
    Columns,
}

/// Elements of the smallest block that is kept.
const LEAST_BLOCK: usize = 16;

/// Rows of the blocks into which columns of one scale are cut.
const PART_OF_COLUMN: usize = 128;

/// Codes of the smallest matrix with a scale for each column that is kept: the floats of smaller ones stay in the second-level cache.
const LEAST_MATRIX: usize = 1 << 17;

impl Blockwise {
    /// The right operand of a product of f32, if it is such weights and nothing but products reads them.
    pub fn of(graph: &Graph, uses: &UseLists, product: NodeId) -> Option<Blockwise> {
        let node = graph.node(product);
        if node.op != Op::Matmul || !node.operands.iter().flatten().all(|&v| is_f32(graph, v)) {
            return None;
        }
        let mut walk = Walk { graph, uses, nodes: vec![], at: node.operand(1) };
        let read = |&n: &NodeId| graph.node(n).op == Op::Matmul && graph.node(n).operand(0) != walk.at;
        if uses.output_uses(walk.at) > 0 || !uses.users(walk.at).iter().all(read) {
            return None;
        }
        let [rows, columns] = dims(graph, walk.at)?.try_into().ok()?;
        let turn = walk.up(Op::Transpose);
        if turn.is_some_and(|t| t.attrs.ints("perm") != [1, 0]) {
            return None;
        }
        let (layout, block) = match turn {
            None => (CodeLayout::Rows, PART_OF_COLUMN),
            Some(_) => match walk.blocks([rows, columns])? {
                None => (CodeLayout::Columns, PART_OF_COLUMN),
                Some(block) => (CodeLayout::Blocks, block),
            },
        };
        let whole = layout != CodeLayout::Blocks;
        if whole && rows * columns < LEAST_MATRIX {
            return None;
        }
        let blocks = rows.div_ceil(block);
        let each = match layout {
            CodeLayout::Blocks => vec![columns, blocks, 1],
            CodeLayout::Rows => vec![1, columns],
            CodeLayout::Columns => vec![columns, 1],
        };
        let scales = walk.side(Op::Mul)?;
        let zeros = walk.side(Op::Sub);
        walk.up(Op::Cast)?;
        let codes = graph.as_const(walk.at)?;
        if whole && !matches!(codes.dtype(), DType::I8 | DType::U8) {
            return None;
        }
        let (low, high) = range(codes.dtype())?;
        let small = |v: ValueId| {
            let shape = dims(graph, v)?;
            let skip = each.len().checked_sub(shape.len())?;
            let one = shape.iter().zip(&each[skip..]).all(|(d, of)| *d == 1 || d == of);
            if one { behind(graph, v) } else { None }
        };
        small(scales)?;
        if let Some(zeros) = zeros {
            let whole = |x: f64| x.fract() == 0.0 && (low..=high).contains(&x);
            numbers(small(zeros)?)?.all(whole).then_some(())?;
        }
        Some(Blockwise { codes: walk.at, layout, zeros, scales, rows, columns, block, nodes: walk.nodes })
    }

    /// Blocks of a column.
    pub fn blocks(&self) -> usize {
        self.rows.div_ceil(self.block)
    }

    /// Which of the codes is that of a column and a row; rows of the last block may be behind the end.
    pub fn code(&self, column: usize, row: usize) -> Option<usize> {
        match self.layout {
            CodeLayout::Blocks => Some(column * self.blocks() * self.block + row),
            CodeLayout::Rows => (row < self.rows).then_some(row * self.columns + column),
            CodeLayout::Columns => (row < self.rows).then_some(column * self.rows + row),
        }
    }

    /// Which element of scales or zero points is that of a column and a block.
    pub fn of_block(&self, all: &Tensor, column: usize, block: usize) -> usize {
        let extent = |back: usize| all.rank().checked_sub(back).map_or(1, |axis| all.shape()[axis]);
        let (of_columns, of_blocks) = match self.layout {
            CodeLayout::Blocks => (extent(3), extent(2)),
            CodeLayout::Rows => (extent(1), 1),
            CodeLayout::Columns => (extent(2), 1),
        };
        let column = if of_columns > 1 { column * of_blocks } else { 0 };
        column + if of_blocks > 1 { block } else { 0 }
    }

    /// Whether zero points and scales are constants themselves, not made of constants.
    pub fn is_folded(&self, graph: &Graph) -> bool {
        [Some(self.scales), self.zeros].into_iter().flatten().all(|v| graph.as_const(v).is_some())
    }

    /// The least code of a type of codes.
    pub fn least(dtype: DType) -> Option<i32> {
        range(dtype).map(|r| r.0 as i32)
    }
}

/// The least and the greatest code.
fn range(codes: DType) -> Option<(f64, f64)> {
    Some(match codes {
        DType::U2 => (0.0, 3.0),
        DType::U4 => (0.0, 15.0),
        DType::U8 => (0.0, 255.0),
        DType::I2 => (-2.0, 1.0),
        DType::I4 => (-8.0, 7.0),
        DType::I8 => (-128.0, 127.0),
        _ => return None,
    })
}

fn is_f32(graph: &Graph, v: ValueId) -> bool {
    graph.ty(v).as_tensor().is_some_and(|t| t.dtype == DType::F32)
}

fn dims(graph: &Graph, v: ValueId) -> Option<Vec<usize>> {
    graph.ty(v).as_tensor()?.const_dims()
}

/// The constant that a value has its elements from, in order.
fn behind(graph: &Graph, mut v: ValueId) -> Option<&Tensor> {
    loop {
        match &graph.value(v).def {
            Def::Const(t) => return Some(t),
            Def::Node(n, _) if matches!(graph.node(*n).op, Op::Reshape | Op::Cast) => {
                v = graph.node(*n).operand(0);
            }
            _ => return None,
        }
    }
}

/// The elements of a tensor of numbers.
fn numbers(t: &Tensor) -> Option<Box<dyn Iterator<Item = f64> + '_>> {
    Some(match t.dtype() {
        DType::F32 => Box::new(t.data::<f32>().iter().map(|&x| f64::from(x))),
        DType::U2 | DType::U4 => Box::new(t.bytes().iter().map(|&x| f64::from(x))),
        DType::I2 | DType::I4 => Box::new(t.bytes().iter().map(|&x| f64::from(x as i8))),
        _ => Box::new(t.to_i64s()?.into_iter().map(|x| x as f64)),
    })
}

/// A way from a value towards what it is made of.
struct Walk<'a> {
    graph: &'a Graph,
    uses: &'a UseLists,
    nodes: Vec<NodeId>,
    at: ValueId,
}

impl<'a> Walk<'a> {
    /// The node that makes the value, if it is of this operation and the value but for the last has no other user.
    fn node(&self, op: Op) -> Option<(NodeId, &'a Node)> {
        let id = self.graph.producer(self.at)?;
        let node = self.graph.node(id);
        let alone = self.nodes.is_empty() || self.uses.sole_user(self.at).is_some();
        (node.op == op && alone && node.results.iter().all(|&v| is_f32(self.graph, v)))
            .then_some((id, node))
    }

    /// Goes on to the operand of such a node.
    fn up(&mut self, op: Op) -> Option<&'a Node> {
        let (id, node) = self.node(op)?;
        self.nodes.push(id);
        self.at = node.operand(0);
        Some(node)
    }

    /// Goes on from `[columns, rows]` to `[columns, blocks, block]`, if that is what it is made of; the rows of a block.
    /// Nothing where it is made of it in another way.
    fn blocks(&mut self, [rows, columns]: [usize; 2]) -> Option<Option<usize>> {
        let mut joined = self.up(Op::Reshape);
        if joined.is_none() {
            let Some(cut) = self.up(Op::Slice) else { return Some(None) };
            let starts = cut.attrs.const_dims("starts")?;
            if starts != [0, 0] || cut.attrs.ints("steps") != [1, 1] {
                return None;
            }
            joined = self.up(Op::Reshape);
        }
        let joined = dims(self.graph, joined?.results[0])?;
        let [n, blocks, block] = dims(self.graph, self.at)?.try_into().ok()?;
        let fits = joined == [n, blocks * block] && n == columns && rows.div_ceil(block) == blocks;
        (fits && block >= LEAST_BLOCK && block.is_power_of_two()).then_some(Some(block))
    }

    /// Goes on to the first operand of such a node of two; the second.
    fn side(&mut self, op: Op) -> Option<ValueId> {
        let shape = dims(self.graph, self.at);
        let (id, node) = self.node(op)?;
        let (mut main, mut side) = (node.operand(0), node.operand(1));
        if op == Op::Mul && behind(self.graph, side).is_none() {
            (main, side) = (side, main);
        }
        if dims(self.graph, main) != shape {
            return None;
        }
        self.nodes.push(id);
        self.at = main;
        Some(side)
    }
}
