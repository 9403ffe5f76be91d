//! The state of a walk: which ids stand along the axes of each value, and how they are united and fixed.

use crate::channels::ids::{Id, Ids};
use crate::channels::shapes::{Shapes, integers};
use crate::constants::Constants;
use egret::ir::Dim;
use onnx_protobuf::{GraphProto, NodeProto, TensorProto};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The ids along an axis; `None` where it has none and keeps its size.
pub type Axis = Option<Rc<Vec<Id>>>;

/// The weight of a contraction, by ids.
pub struct Product {
    /// The node.
    pub node: usize,
    /// Its outputs.
    pub rows: Rc<Vec<Id>>,
    /// What it sums over.
    pub columns: Rc<Vec<Id>>,
    /// A convolution of each channel by itself: its columns are what its rows are.
    pub depthwise: bool,
    /// A recurrent layer: rows of all gates, and columns of the weight of its input.
    pub recurrent: bool,
}

/// A number in the file that is the size of an axis.
pub enum Size {
    /// The `group` of a depthwise convolution.
    Group(usize),
    /// The `hidden_size` of a recurrent layer.
    Hidden(usize),
    /// An element of a constant: its name, and the element.
    Element(String, usize),
}

/// What a walk finds.
pub struct Walk<'a> {
    /// The graph.
    pub graph: &'a GraphProto,
    /// The constants of the graph.
    pub constants: Constants<'a>,
    /// The tensors among them.
    pub tensors: BTreeMap<&'a str, &'a TensorProto>,
    /// Version of the operators.
    pub opset: i64,
    /// Shapes of all values.
    pub shapes: &'a Shapes,
    /// Classes.
    pub ids: Ids,
    /// The axes of each value.
    pub values: BTreeMap<String, Vec<Axis>>,
    /// Contractions with constants.
    pub products: Vec<Product>,
    /// Sizes that are written out, and the ids that they count.
    pub sizes: Vec<(Size, Rc<Vec<Id>>)>,
    /// Hidden units of recurrent layers.
    pub units: Vec<Id>,
    /// Values that are last states of recurrent layers, moved at most.
    pub states: BTreeSet<String>,
    /// Reshapes whose new sizes of channels are constants that others read too.
    pub shared: BTreeSet<usize>,
}

impl Walk<'_> {
    /// Fix all that stands along the axes of a value.
    pub fn fix_value(&mut self, name: &str, why: &str) {
        for ids in self.values.get(name).cloned().unwrap_or_default().into_iter().flatten() {
            self.ids.fix(&ids, why);
        }
    }

    /// Fix what stands along an axis.
    pub fn fix(&mut self, axis: &Axis, why: &str) {
        if let Some(ids) = axis {
            self.ids.fix(ids, why);
        }
    }

    /// Two axes are one; where one has no ids, the other keeps its own.
    pub fn join(&mut self, a: &Axis, b: &Axis, why: &str) -> Axis {
        match (a, b) {
            (Some(a), Some(b)) if a.len() == b.len() => {
                self.ids.unite_all(a, b);
                Some(a.clone())
            }
            (a, b) => {
                self.fix(a, why);
                self.fix(b, why);
                None
            }
        }
    }

    /// The axes of an operand.
    ///
    /// # Errors
    /// It is no tensor of a known rank.
    pub fn axes(&self, node: &NodeProto, slot: usize) -> Result<Vec<Axis>, String> {
        let name = node.input.get(slot).map_or("", String::as_str);
        let known = self.values.get(name).filter(|_| self.shapes.contains_key(name));
        known.cloned().ok_or_else(|| format!("the shape of its operand `{name}` is not known"))
    }

    /// The dims of an operand.
    pub fn dims(&self, node: &NodeProto, slot: usize) -> &[Dim] {
        node.input.get(slot).and_then(|n| self.shapes.get(n)).map_or(&[], Vec::as_slice)
    }

    /// The integers of an operand that is a constant.
    pub fn integers(&self, node: &NodeProto, slot: usize) -> Option<Vec<i64>> {
        integers(self.tensors.get(node.input.get(slot)?.as_str())?)
    }

    /// Whether an operand is there.
    pub fn has(&self, node: &NodeProto, slot: usize) -> bool {
        node.input.get(slot).is_some_and(|n| !n.is_empty())
    }
}
