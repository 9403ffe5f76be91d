//! What a value depends on.

use crate::{Def, Graph, Op, ValueId};
use std::collections::BTreeSet;

impl Graph {
    /// Names of the inputs whose contents (not only their shapes) a value depends on.
    pub fn inputs_read_for(&self, value: ValueId) -> BTreeSet<String> {
        let free = self.free_dims();
        let (mut inputs, mut seen, mut work) = (BTreeSet::new(), BTreeSet::new(), vec![value]);
        while let Some(v) = work.pop() {
            if !seen.insert(v) {
                continue;
            }
            match &self.value(v).def {
                Def::Input(_) => {
                    inputs.insert(self.value(v).name.clone());
                }
                Def::Const(_) => {}
                Def::Node(n, _) => {
                    let node = self.node(*n);
                    // A shape depends on dims only, which are bound by themselves; unless a dim depends on data.
                    let by_dims = node.op == Op::Shape
                        && self.ty(node.operand(0)).as_tensor().is_some_and(|t| {
                            let mut symbols = vec![];
                            t.shape.iter().for_each(|d| d.collect_symbols(&mut symbols));
                            symbols.iter().all(|s| free.contains(s))
                        });
                    if !by_dims {
                        work.extend(node.operands.iter().flatten());
                    }
                }
            }
        }
        inputs
    }
}
