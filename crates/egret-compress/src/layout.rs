//! The layout of a weight: what its dims mean to the contraction that reads it.

use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, NodeProto};

/// A dim with its stride, in elements.
#[derive(Copy, Clone, Debug)]
pub struct Dim {
    /// Its size.
    pub size: usize,
    /// From one element to the next.
    pub stride: usize,
}

/// The dims of a weight by what they are: a weight is groups of rows (outputs), each with `channels` of the reduction at every position
/// of a convolution's window.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Groups of a convolution, batches of a matrix product.
    pub groups: Vec<Dim>,
    /// Outputs.
    pub rows: Vec<Dim>,
    /// The window.
    pub positions: Vec<Dim>,
    /// The reduction axis: input channels, features.
    pub channels: Vec<Dim>,
}

/// Which operand of a contraction is the weight.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first: `W x`.
    Left,
    /// The second.
    Right,
}

fn size(dims: &[Dim]) -> usize {
    dims.iter().map(|d| d.size).product()
}

fn dims_of(list: &[Dim], at: usize) -> Vec<Dim> {
    list.get(at).copied().into_iter().collect()
}

/// An integer attribute of a node.
pub fn integer(node: &NodeProto, name: &str, default: i64) -> i64 {
    node.attribute.iter().find(|a| a.name == name).map_or(default, |a| a.i)
}

/// A new integer attribute.
pub fn int(name: &str, i: usize) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        i: i as i64,
        type_: AttributeType::INT.into(),
        ..AttributeProto::default()
    }
}

impl Layout {
    /// How a node reads a weight of these dims; `None` where they do not fit the node.
    pub fn of(node: &NodeProto, side: Side, dims: &[Dim]) -> Option<Layout> {
        match (node.op_type.as_str(), dims.len()) {
            ("Conv", 3..) => {
                let (rows, groups) = split(dims[0], node)?;
                let [positions, channels] = [dims[2..].to_vec(), vec![dims[1]]];
                Some(Layout { groups: vec![groups], rows: vec![rows], positions, channels })
            }
            ("ConvTranspose", 3..) => {
                let (channels, groups) = split(dims[0], node)?;
                let [positions, rows] = [dims[2..].to_vec(), vec![dims[1]]];
                Some(Layout { groups: vec![groups], rows, positions, channels: vec![channels] })
            }
            ("Gemm", 2) => {
                let transposed = match side {
                    Side::Left => integer(node, "transA", 0) == 0,
                    Side::Right => integer(node, "transB", 0) != 0,
                };
                let (row, channel) = if transposed { (0, 1) } else { (1, 0) };
                let [rows, channels] = [dims_of(dims, row), dims_of(dims, channel)];
                Some(Layout { rows, channels, ..Layout::default() })
            }
            ("MatMul", 1) => Some(Layout { channels: dims.to_vec(), ..Layout::default() }),
            ("MatMul", rank @ 2..) => {
                let (row, channel) =
                    if side == Side::Left { (rank - 2, rank - 1) } else { (rank - 1, rank - 2) };
                let groups = dims[..rank - 2].to_vec();
                let [rows, channels] = [dims_of(dims, row), dims_of(dims, channel)];
                Some(Layout { groups, rows, channels, ..Layout::default() })
            }
            _ => None,
        }
    }

    /// Number of groups.
    pub fn group_count(&self) -> usize {
        size(&self.groups)
    }

    /// Rows of a group.
    pub fn row_count(&self) -> usize {
        size(&self.rows)
    }

    /// Positions of the window.
    pub fn position_count(&self) -> usize {
        size(&self.positions)
    }

    /// Length of the reduction axis.
    pub fn channel_count(&self) -> usize {
        size(&self.channels)
    }

    /// Weights in all.
    pub fn len(&self) -> usize {
        self.group_count() * self.row_count() * self.position_count() * self.channel_count()
    }

    /// Where each weight stands in its tensor: by group, row, position, and channel as the fastest.
    pub fn offsets(&self) -> Vec<usize> {
        let mut out = vec![0];
        for dim in [&self.groups, &self.rows, &self.positions, &self.channels].into_iter().flatten() {
            out = out.iter().flat_map(|&at| (0..dim.size).map(move |i| at + i * dim.stride)).collect();
        }
        out
    }
}

/// A dim as (inside a group, the groups).
fn split(dim: Dim, node: &NodeProto) -> Option<(Dim, Dim)> {
    let groups = usize::try_from(integer(node, "group", 1))
        .ok()
        .filter(|g| *g > 0 && dim.size.is_multiple_of(*g))?;
    let size = dim.size / groups;
    Some((Dim { size, stride: dim.stride }, Dim { size: groups, stride: size * dim.stride }))
}
