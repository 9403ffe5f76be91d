//! Caches that grow where they are: what a model has kept of the tokens before, in buffers that `generate` owns.
//!
//! An exporter writes `present = concat(past, new)`: taken at its word, all of the cache is written anew for each token, and handed back.
//! [`append`] makes a graph of it that takes `past` with its tokens along the first axis, so that those of a longer text stand behind those
//! of a shorter one, and that gives `new` alone: a step then writes the rows of its own tokens behind the others ([`Rows`]), and the graph
//! reads them where they are. Models that make their cache in another way give all of it, which the next step takes without a copy.

use super::instead;
use super::step::{Given, Made};
use crate::error::{Error, Result};
use egret_ir::{DType, Dim, Graph, Op, Type, attrs};
use egret_runtime::AlignedBytes;

/// The axis of the tokens of a cache, if the graph is one in which the input `input` is followed by some rows and both together are the
/// output `output`. The input then has this axis first, and the output is of the rows alone.
///
/// # Errors
/// A rule of types that is broken, which an unverified graph may cause.
pub fn append(graph: &mut Graph, input: usize, output: usize) -> Result<Option<usize>> {
    let (past, present) = (graph.inputs()[input], graph.outputs()[output]);
    let Some(join) = graph.producer(present).filter(|&n| graph.node(n).op == Op::Concat) else {
        return Ok(None);
    };
    let axis = graph.node(join).attrs.index("axis");
    let &[Some(first), Some(new)] = &graph.node(join).operands[..] else { return Ok(None) };
    let ty = graph.tensor_ty(past).clone();
    let free: Vec<usize> = (0..ty.shape.len()).filter(|&a| ty.shape[a].as_const().is_none()).collect();
    let again = graph.outputs().iter().filter(|&&v| v == past || v == present).count();
    if first != past || free != [axis] || ty.shape[axis].as_symbol().is_none() || again != 1 {
        return Ok(None);
    }
    if ty.shape[..axis].iter().any(|d| d.as_const() != Some(1)) {
        let mut first = ty.clone();
        first.shape.remove(axis);
        first.shape.insert(0, ty.shape[axis].clone());
        graph.set_type(past, Type::Tensor(first));
        let place = |a: usize| match a.cmp(&axis) {
            std::cmp::Ordering::Less => a as i64 + 1,
            std::cmp::Ordering::Equal => 0,
            std::cmp::Ordering::Greater => a as i64,
        };
        let perm: Vec<i64> = (0..ty.shape.len()).map(place).collect();
        instead(graph, past, |b| b.emit(Op::Transpose, attrs! { perm: perm }, &[past]))?;
    }
    graph.set_output(output, new);
    Ok(Some(axis))
}

/// What is kept for an input.
pub enum Cache {
    /// Rows of tokens, one behind the other.
    Rows(Rows),
    /// All of what the model gave.
    Whole(Made),
}

impl Cache {
    /// As an input.
    pub fn given(&self) -> Given<'_> {
        match self {
            Cache::Rows(rows) => {
                Given { bytes: &rows.bytes[..rows.count * rows.row], dtype: rows.dtype, dims: &rows.dims }
            }
            Cache::Whole(made) => made.given(),
        }
    }
}

/// Rows of tokens, and room for more.
pub struct Rows {
    bytes: AlignedBytes,
    /// How many there are.
    count: usize,
    /// Bytes of a row.
    row: usize,
    dtype: DType,
    /// Dims of the input, and which of them is `count`.
    dims: Vec<i64>,
    tokens: usize,
    /// Where the tokens are in what the model gives.
    axis: usize,
}

impl Rows {
    /// None yet and room for so many, of an input with these dims, one of them free; the model gives their tokens along `axis`.
    ///
    /// # Errors
    /// More bytes than there are.
    pub fn new(dtype: DType, shape: &[Dim], axis: usize, room: usize) -> Result<Rows> {
        let tokens = shape.iter().position(|d| d.as_const().is_none());
        let tokens = tokens.ok_or_else(|| Error::internal("a cache has no free dim"))?;
        let mut sizes = shape.iter().filter_map(Dim::as_const).map(|n| usize::try_from(n).ok());
        let row = sizes.try_fold(dtype.size(), |all, n| all.checked_mul(n?));
        let bytes = row.and_then(|row| AlignedBytes::zeroed(row.checked_mul(room)?));
        let (Some(row), Some(bytes)) = (row, bytes) else { return Err(no_room(room)) };
        let dims = shape.iter().map(|d| d.as_const().unwrap_or(0)).collect();
        Ok(Rows { bytes, count: 0, row, dtype, dims, tokens, axis })
    }

    /// Puts what the model has given behind the others; gives how many rows that are.
    ///
    /// # Errors
    /// More bytes than there are; other rows than the cache's.
    pub fn extend(&mut self, made: &Made) -> Result<usize> {
        let size = |dims: &[i64]| dims.iter().map(|&d| d as usize).product::<usize>();
        let (outer, inner) = (size(&made.dims[..self.axis]), size(&made.dims[self.axis + 1..]));
        let (new, inner) = (made.dims[self.axis] as usize, inner * self.dtype.size());
        let elements = made.given().bytes;
        if outer * inner != self.row || elements.len() != new * self.row {
            return Err(Error::internal("the rows of a cache are of other sizes than the cache's"));
        }
        let count = self.count + new;
        if count * self.row > self.bytes.len() {
            // Twice as many: each row is moved a few times at most, however long the text becomes.
            let room = count.max(2 * self.count);
            let larger = room.checked_mul(self.row).and_then(AlignedBytes::zeroed);
            let mut larger = larger.ok_or_else(|| no_room(room))?;
            let kept = self.count * self.row;
            larger[..kept].copy_from_slice(&self.bytes[..kept]);
            self.bytes = larger;
        }
        for i in 0..new {
            for o in 0..outer {
                let (from, to) = ((o * new + i) * inner, (self.count + i) * self.row + o * inner);
                self.bytes[to..to + inner].copy_from_slice(&elements[from..from + inner]);
            }
        }
        self.count = count;
        self.dims[self.tokens] = count as i64;
        Ok(new)
    }
}

fn no_room(rows: usize) -> Error {
    Error::memory(format!(
        "there is no memory for a cache of {rows} tokens; give fewer tokens or a smaller --count"
    ))
}
