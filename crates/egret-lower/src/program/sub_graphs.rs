//! Sub-graphs: what is added to a program for a graph within another one.

use super::context::{Ctx, Standing};
use super::sizes::Held;
use crate::error::Unsupported;
use crate::plan::units::Units;
use egret_ir::{Def, Dim, Graph, ValueId};
use egret_loop::{Access, Arg, Call, Elem, KernelBuilder};
use std::collections::BTreeMap;
use std::mem::take;

impl<'g> Ctx<'g> {
    /// What is added to the program for a sub-graph whose inputs stand at these places; its outputs are computed at `outputs` as far
    /// as they are whole results of nodes. `units`: those of its values, where the graph is that of one unit.
    pub fn within<'a>(
        &mut self,
        graph: &'a Graph,
        units: Option<Units>,
        inputs: &[Option<Arg>],
        outputs: &[Standing],
        add: impl FnOnce(&mut Ctx<'a>) -> Result<Vec<Standing>, Unsupported>,
    ) -> Result<Vec<Standing>, Unsupported>
    where
        'g: 'a,
    {
        self.note_sizes();
        let mut inner: Ctx<'a> = Ctx {
            graph,
            options: self.options,
            halos: BTreeMap::new(),
            lower_sub_graph: self.lower_sub_graph,
            places: vec![None; graph.value_count()],
            direct: BTreeMap::new(),
            program: take(&mut self.program),
            by_hash: take(&mut self.by_hash),
            constants: take(&mut self.constants),
            in_place: take(&mut self.in_place),
            once: take(&mut self.once),
            nodes: self.nodes.clone(),
            sources: self.sources.clone(),
            worked: take(&mut self.worked),
            within: true,
            units,
            panels: BTreeMap::new(),
            copies: BTreeMap::new(),
            sizes: take(&mut self.sizes),
            held_from: self.held_from,
            unnoted: self.unnoted,
            count: None,
            repeat: None,
            sizes_buffer: self.sizes_buffer,
        };
        for (v, at) in graph.inputs().iter().zip(inputs) {
            inner.places[v.0 as usize] = *at;
        }
        for (&v, to) in graph.outputs().iter().zip(outputs) {
            let (root, offset) = inner.root(v);
            let whole = offset == 0 && inner.len(root) == inner.len(v) && inner.dims_of(v) == to.dims;
            if whole && inner.is_stored_whole(root, v) && matches!(graph.value(root).def, Def::Node(..)) {
                inner.places[root.0 as usize].get_or_insert(to.at);
            }
        }
        let result = inner.add_lengths().and_then(|()| add(&mut inner));
        inner.note_sizes();
        self.program = inner.program;
        self.by_hash = inner.by_hash;
        self.constants = inner.constants;
        self.in_place = inner.in_place;
        self.once = inner.once;
        self.worked = inner.worked;
        self.sizes = inner.sizes;
        self.held_from = inner.held_from;
        self.unnoted = inner.unnoted;
        self.sizes_buffer = inner.sizes_buffer;
        result
    }

    /// The dims of a value.
    pub fn dims_of(&self, v: ValueId) -> Vec<Dim> {
        match &self.units {
            Some(units) => units.dims(v).to_vec(),
            None => self.graph.ty(v).as_tensor().map_or(vec![], |t| t.shape.to_vec()),
        }
    }

    /// Whether a value and the one whose memory it is in have all of their elements, in as many units.
    fn is_stored_whole(&mut self, root: ValueId, v: ValueId) -> bool {
        let Some(units) = &self.units else { return true };
        units.stored(v) == units.dims(v)
            && units.stored(root) == units.dims(root)
            && self.count_of(root) == self.count_of(v)
    }

    /// What was needed of the sizes of guarded calls so far is held to before them; nothing where no guard holds the calls.
    pub(super) fn hold_so_far(&mut self) {
        self.note_sizes();
        if let Some(held) = self.sizes.so_far() {
            self.hold_from(self.held_from, held);
            self.held_from = self.program.calls.len();
        }
    }

    /// Puts a call before the one that was to be `begin`, which fails unless sizes have what is needed of them.
    pub(super) fn hold_from(&mut self, begin: usize, held: Held) {
        let Held { needs, first, .. } = held;
        if needs.is_empty() {
            return;
        }
        let mut k = KernelBuilder::new("sizes_hold", 1);
        let param = k.param(Elem::I64, 1, Access::Read);
        let zero = k.int(0);
        let number = k.load(param, zero);
        k.check(number, needs.len() as i64, needs.len() as i64 + 1);
        let (arg, kernel) = (self.size(first), self.intern(k.finish()));
        let sources = self.sources.iter().cloned().collect();
        self.program.calls.insert(begin, Call { sources, needs, ..Call::new(kernel, vec![arg]) });
        self.worked.insert(begin, self.nodes.clone());
        for guard in self.program.guards.iter_mut().filter(|g| g.calls.start >= begin) {
            guard.calls = guard.calls.start + 1..guard.calls.end + 1;
        }
        let found = self.program.lengths.iter_mut().filter(|l| l.call >= begin && l.call != usize::MAX);
        found.for_each(|l| l.call += 1);
        self.in_place.iter_mut().filter(|i| i.call >= begin).for_each(|i| i.call += 1);
    }
}
