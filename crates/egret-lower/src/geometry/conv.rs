//! Convolutions: the figures of their windows.

use crate::geometry::halo::Halo;
use crate::geometry::shape::dims;
use crate::geometry::size;
use egret_ir::geometry::Axis;
use egret_ir::{DType, Graph, NodeId, Op};

/// Rows of a result of which windows may leave out taps, at most: with more, few are beyond the input.
const MOST_ROWS: i64 = 64;

/// One tap of so many must be beyond the input for windows to look.
const LEFT_OUT: i64 = 8;

/// A convolution's figures.
#[derive(Clone, Debug)]
pub struct ConvShape {
    /// Batch.
    pub n: i64,
    /// Input channels, and output channels.
    pub channels: (i64, i64),
    /// Groups.
    pub groups: i64,
    /// Input's spatial dims.
    pub input: Vec<i64>,
    /// Output's spatial dims.
    pub output: Vec<i64>,
    /// Kernel's spatial dims.
    pub kernel: Vec<i64>,
    /// Steps of the window.
    pub strides: Vec<i64>,
    /// Steps within the window.
    pub dilations: Vec<i64>,
    /// Pads at the low end of each spatial axis.
    pub low: Vec<i64>,
    /// Whether channels are the last axis.
    pub channels_last: bool,
    /// Whether the kernel for channels last with a window each computes it.
    pub depthwise: bool,
}

/// The longest row of a depthwise window of several rows: all of it is straight code.
const MOST_COLUMNS: i64 = 256;

impl ConvShape {
    /// The figures of a `conv` or `conv_transpose`.
    pub fn new(graph: &Graph, anchor: NodeId) -> ConvShape {
        let node = graph.node(anchor);
        let (x, w, out) =
            (dims(graph, node.operand(0)), dims(graph, node.operand(1)), dims(graph, node.results[0]));
        let rank = x.len() - 2;
        let channels_last = node.attrs.str("layout") == "channels_last";
        let spatial = |d: &[i64]| if channels_last { d[1..=rank].to_vec() } else { d[2..].to_vec() };
        let channels = |d: &[i64]| if channels_last { d[rank + 1] } else { d[1] };
        let (input, output, kernel) = (spatial(&x), spatial(&out), w[2..].to_vec());
        // A step that is never taken could be larger than what it steps over.
        let steps = |name: &str, extents: &[i64]| -> Vec<i64> {
            let own = node.attrs.ints(name).iter().zip(extents);
            own.map(|(&step, &n)| if n <= 1 { 1 } else { step }).collect()
        };
        let stepped = if node.op == Op::ConvTranspose { &input } else { &output };
        ConvShape {
            n: x[0],
            channels: (channels(&x), channels(&out)),
            groups: node.attrs.int("groups"),
            strides: steps("strides", stepped),
            dilations: steps("dilations", &kernel),
            input,
            output,
            kernel,
            low: node.attrs.ints("pads")[..rank].to_vec(),
            channels_last,
            depthwise: false,
        }
        .with_kernel(graph, anchor)
    }

    fn with_kernel(mut self, graph: &Graph, anchor: NodeId) -> ConvShape {
        let floats = (0..2).all(|i| graph.tensor_ty(graph.node(anchor).operand(i)).dtype == DType::F32);
        let long = self.rank() > 1 && self.kernel[self.rank() - 1] > MOST_COLUMNS;
        let each = self.groups > 1 && self.channels == (self.groups, self.groups);
        self.depthwise = graph.node(anchor).op == Op::Conv && floats && each && !long;
        self
    }

    /// Whether windows look which of their taps along a spatial axis are beyond the input and leave them out, so that no zeros need
    /// be there. It pays where many are, as with a window of 5 rows over an image of 2.
    pub fn leaves_out(&self, i: usize) -> bool {
        let rows = self.depthwise && self.channels_last && i + 1 < self.rank();
        if !rows || self.dilations[i] != 1 || self.low[i] < 0 {
            return false;
        }
        let all = self.kernel[i].saturating_mul(self.output[i]);
        // Taps that read an element of the input: most have as many as windows reach over it.
        let within = |o: i64| {
            let first = o.saturating_mul(self.strides[i]).saturating_sub(self.low[i]);
            first.saturating_add(self.kernel[i]).min(self.input[i]) - first.max(0)
        };
        let few = self.output[i] <= MOST_ROWS;
        few && (0..self.output[i]).fold(0i64, |n, o| n.saturating_add(within(o).max(0)))
            < all - all / LEFT_OUT
    }

    /// Spatial axes.
    pub fn rank(&self) -> usize {
        self.kernel.len()
    }

    /// Taps of the window.
    pub fn taps(&self) -> i64 {
        self.kernel.iter().product()
    }

    /// Whether each output pixel reads the input's pixel of its own place and no other.
    pub fn is_pointwise(&self) -> bool {
        let one = |v: &[i64]| v.iter().all(|n| *n == 1);
        one(&self.kernel)
            && one(&self.strides)
            && self.input == self.output
            && self.low.iter().all(|l| *l == 0)
    }

    /// Whether windows move by one pixel and there is an output for each pixel of the input.
    pub fn keeps_pixels(&self) -> bool {
        self.strides.iter().all(|s| *s == 1) && self.input == self.output
    }

    /// The input's extents that windows read, with the halo at the low end.
    pub fn read(&self) -> Vec<i64> {
        let read = |i: usize| match self.leaves_out(i) {
            true => self.input[i],
            // What is above 2^63 does not pay as a buffer, as i64::MAX does not.
            false => self.axis(i).reach(&self.output[i]).unwrap_or(i64::MAX),
        };
        (0..self.rank()).map(read).collect()
    }

    /// How windows walk along a spatial axis, with no pads at the high end: the halo has them.
    pub fn axis(&self, i: usize) -> Axis {
        let (stride, dilation) = (self.strides[i], self.dilations[i]);
        Axis { kernel: self.kernel[i], stride, dilation, low: self.low[i], high: 0 }
    }

    /// The halo, over the axes of an input with channels last, that windows read around it.
    pub fn wants(&self) -> Halo {
        let mut halo = Halo::none(self.rank() + 2);
        for (i, read) in self.read().into_iter().enumerate() {
            let low = if self.leaves_out(i) { 0 } else { self.low[i] };
            halo.low[i + 1] = low;
            halo.high[i + 1] = (read - low - self.input[i]).max(0);
        }
        halo
    }

    /// Whether the `conv` is one for tiles: of f32 or of bytes, no pad takes anything away, and zeros around the input are
    /// affordable.
    pub fn has_tiles(&self, graph: &Graph, anchor: NodeId) -> bool {
        let dtype = |i: usize| graph.tensor_ty(graph.node(anchor).operand(i)).dtype;
        let bytes = (dtype(0), dtype(1)) == (DType::U8, DType::I8);
        let floats = (dtype(0), dtype(1)) == (DType::F32, DType::F32);
        let some = self.taps() > 0 && self.channels.0 > 0;
        (floats || bytes) && self.low.iter().all(|l| *l >= 0) && some && self.pads_well()
    }

    /// Whether the input with all zeros that windows read around it is not much larger than the input.
    pub fn pads_well(&self) -> bool {
        let around = |spatial: &[i64]| [&[self.n], spatial, &[self.channels.0]].concat();
        size::pays(&around(&self.input), &around(&self.read()))
    }

    /// Dims of the result with channels last.
    pub fn result_dims(&self) -> Vec<i64> {
        [&[self.n], self.output.as_slice(), &[self.channels.1]].concat()
    }
}
