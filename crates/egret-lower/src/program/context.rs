//! The program under construction: where values live, which kernels exist, what is called.

use crate::error::{LowerError, Refusal, Unsupported};
use crate::geometry::access::StridedAccess;
use crate::geometry::aliases::root;
use crate::geometry::dtypes::buffer_elem;
use crate::geometry::dtypes::elem_of;
use crate::geometry::halo::Halo;
use crate::geometry::shape::{dims, len_of};
use crate::geometry::size;
use crate::plan::fusion::FusionGroup;
use crate::plan::units::Units;
use crate::program::buffers::{self, ALIGN};
use crate::program::destination::Destination;
use crate::program::signature;
use crate::program::sizes::Sizes;
use crate::{Held, LowerOptions};
use egret_ir::{ContentHash, DType, Def, Dim, Graph, NodeId, Tensor, ValueId};
use egret_loop::{
    Arg, Buffer, BufferId, Call, Elem, Extent, Guard, Kernel, KernelBuilder, KernelId, OutOfRange,
    ParamInfo, Port, Products, Program, Repeat, SizeId, Storage,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A tensor whose elements stand one after the other from a place on.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// The place.
    pub at: Arg,
    /// Its dims.
    pub dims: Vec<Dim>,
}

/// What an input of a sub-graph is.
#[derive(Clone, Debug)]
pub enum SubOperand {
    /// A value of the graph around it: a constant is one in the sub-graph too.
    Value(ValueId),
    /// A tensor that stands at a place.
    At(Standing),
}

/// Lowers a sub-graph, given what its inputs are, and where its outputs may be computed, if that is known; gives where they are.
pub type LowerSubGraph =
    fn(&mut Ctx, &Graph, &[SubOperand], &[Standing]) -> Result<Vec<Standing>, Unsupported>;

/// Constants from this many bytes on are packed when the weights are asked for. A smaller one is packed at once.
const LARGE: usize = 1 << 16;

/// What kernels are lowered into.
pub struct Ctx<'g> {
    /// The graph.
    pub graph: &'g Graph,
    /// The caller's choices.
    pub options: &'g LowerOptions,
    /// Values that stand between zeros.
    pub halos: BTreeMap<ValueId, Halo>,
    /// Adds what a sub-graph computes.
    pub lower_sub_graph: LowerSubGraph,
    pub(super) places: Vec<Option<Arg>>,
    /// Values that are computed straight into a caller's output.
    pub(super) direct: BTreeMap<ValueId, usize>,
    pub(super) program: Program,
    pub(super) by_hash: HashMap<u64, Vec<KernelId>>,
    pub(super) constants: HashMap<(ContentHash, String), BufferId>,
    pub(super) in_place: Vec<buffers::InPlace>,
    /// Buffers of which no two calls write the same element, or read what another of those that write there has written.
    pub(super) once: BTreeSet<BufferId>,
    /// The nodes whose work the calls from now on do, and their ONNX nodes.
    pub(super) nodes: Vec<NodeId>,
    pub(super) sources: BTreeSet<String>,
    /// The nodes of each call.
    pub(super) worked: Vec<Vec<NodeId>>,
    /// Whether the graph is a sub-graph: its calls are the work of the node that holds it.
    pub(super) within: bool,
    /// The units of values, where the graph is that of one unit.
    pub units: Option<Units>,
    /// Columns of the panels that a product's weights are packed in, where several kernels read them.
    pub panels: BTreeMap<ValueId, i64>,
    /// Copies of values, all of whose elements stand one after the other.
    pub copies: BTreeMap<ValueId, Arg>,
    /// What is known when a run begins.
    pub(super) sizes: Sizes,
    /// The first of them of which it is not noted who needs it.
    pub(super) unnoted: usize,
    /// The guarded call before which it is to be seen whether those sizes have a value of which that is not seen yet.
    pub(super) held_from: usize,
    /// How many units the calls and buffers from now on have.
    pub(super) count: Option<SizeId>,
    /// Which of them the calls from now on do.
    pub(super) repeat: Option<Repeat>,
    /// The values of all sizes.
    pub(super) sizes_buffer: Option<BufferId>,
}

impl<'g> Ctx<'g> {
    /// A program with the graph's inputs, and with outputs not yet written.
    /// `units`: those of its values, where the graph is that of one unit.
    pub fn new(
        graph: &'g Graph,
        options: &'g LowerOptions,
        units: Option<Units>,
    ) -> Result<Ctx<'g>, LowerError> {
        let mut ctx = Ctx {
            graph,
            options,
            halos: BTreeMap::new(),
            lower_sub_graph: |_, _, _, _| Err(Unsupported::bug("has a sub-graph that nobody lowers")),
            places: vec![None; graph.value_count()],
            direct: BTreeMap::new(),
            program: Program { name: options.name.clone(), ..Program::default() },
            by_hash: HashMap::new(),
            constants: HashMap::new(),
            in_place: vec![],
            once: BTreeSet::new(),
            nodes: vec![],
            sources: BTreeSet::new(),
            worked: vec![],
            within: false,
            units,
            panels: BTreeMap::new(),
            copies: BTreeMap::new(),
            sizes: Sizes::default(),
            held_from: 0,
            unnoted: 0,
            count: None,
            repeat: None,
            sizes_buffer: None,
        };
        ctx.program.symbols = ctx.units.as_ref().map_or(vec![], |u| u.symbols.clone());
        let refused = |e: Unsupported| LowerError { refusals: vec![Refusal::of_graph(e.reason)] };
        ctx.add_lengths().map_err(refused)?;
        for (i, &v) in graph.inputs().iter().enumerate() {
            let name = &graph.value(v).name;
            let ty = graph.tensor_ty(v);
            let (dims, _) = ctx.port_dims(v)?;
            ctx.program.inputs.push(signature::port(name, ty, dims, options.bound.get(name)));
            let elem = elem_of(ty.dtype).ok_or_else(|| LowerError {
                refusals: vec![Refusal::of_graph(format!(
                    "input `{name}`: {} is not held by compiled code",
                    ty.dtype
                ))],
            })?;
            let len = len_of(ty);
            ctx.count = ctx.count_of(v);
            let buffer = ctx.buffer(elem, len, Storage::Input(i));
            ctx.places[v.0 as usize] = Some(Arg { buffer, offset: 0 });
        }
        ctx.count = None;
        for (i, (&v, name)) in graph.outputs().iter().zip(graph.output_names()).enumerate() {
            let (dims, found) = ctx.port_dims(v)?;
            let free = dims.iter().any(|d| d.as_const().is_none());
            let port = signature::port(name, graph.tensor_ty(v), dims, None);
            ctx.program.outputs.push(Port { found, ..port });
            let (root, offset) = ctx.root(v);
            let whole = offset == 0 && ctx.len(root) == ctx.len(v) && ctx.count_of(root).is_some() == free;
            if whole && matches!(graph.value(root).def, Def::Node(..)) {
                ctx.direct.entry(root).or_insert(i);
            }
        }
        Ok(ctx)
    }

    /// A kernel under construction, in the machine's vectors.
    pub fn kernel(&self, name: &str, tasks: i64) -> KernelBuilder {
        KernelBuilder::new(name, tasks).with_vector_bytes(self.options.machine.kernel_bytes)
    }

    // ---- values ----

    /// Dims of a value.
    pub fn dims(&self, v: ValueId) -> Vec<i64> {
        dims(self.graph, v)
    }

    /// Number of elements of a value.
    pub fn len(&self, v: ValueId) -> usize {
        len_of(self.graph.tensor_ty(v))
    }

    /// Dtype of a value.
    pub fn dtype(&self, v: ValueId) -> DType {
        self.graph.tensor_ty(v).dtype
    }

    /// Element type of a value in its buffer.
    pub fn elem(&self, v: ValueId) -> Result<Elem, Unsupported> {
        buffer_elem(self.dtype(v))
    }

    /// The value whose memory a value is in, and the element there.
    pub(super) fn root(&self, v: ValueId) -> (ValueId, usize) {
        root(self.graph, v)
    }

    /// Where a value stands. Constants come into the weights when first asked for; results of nodes get
    /// their buffer.
    pub fn place(&mut self, v: ValueId) -> Result<Arg, Unsupported> {
        if self.has_halo(v) {
            return Err(Unsupported::new("stands between zeros that its user does not know of"));
        }
        self.origin(v)
    }

    /// Where the memory begins that the accesses of a value count from: as [`Ctx::place`], for kernels that
    /// know its halo.
    pub fn origin(&mut self, v: ValueId) -> Result<Arg, Unsupported> {
        if let Some(place) = self.places[v.0 as usize] {
            return Ok(place);
        }
        let (root, offset) = self.root(v);
        let place = if root != v {
            let at = self.origin(root)?;
            Arg { buffer: at.buffer, offset: at.offset + offset }
        } else if let Def::Const(t) = &self.graph.value(v).def {
            let elem = buffer_elem(t.dtype())?;
            self.later(t, "", elem, t.bytes().len(), |t, to| to.copy_from_slice(t.bytes()))
        } else {
            let elem = self.elem(v)?;
            let storage = self.direct.get(&v).map_or(Storage::Arena(0), |&i| Storage::Output(i));
            let len = match self.halos.get(&v) {
                Some(halo) => size::elements(&halo.outer(&self.dims(v)))?,
                None => self.len(v),
            };
            // What has no elements is touched by no call, and has no place.
            let room = len > 0 && elem.size() == 1 && self.count.is_none();
            let room = room && matches!(storage, Storage::Arena(_));
            let behind = if room { Products::Bytes.depth() as usize - 1 } else { 0 };
            Arg { buffer: self.buffer(elem, len + behind, storage), offset: 0 }
        };
        self.places[v.0 as usize] = Some(place);
        Ok(place)
    }

    /// Whether so many elements from a place on may be read: those behind a value, too, that steps of several bytes begin within.
    pub fn has_room(&self, at: Arg, len: usize) -> bool {
        let buffer = &self.program.buffers[at.buffer.0 as usize];
        buffer.times.is_none() && at.offset + len <= buffer.len
    }

    /// Whether a value stands between zeros.
    pub fn has_halo(&self, v: ValueId) -> bool {
        self.halos.contains_key(&self.root(v).0)
    }

    /// Where the elements of a value stand from its [`Ctx::origin`] on.
    pub fn access(&self, v: ValueId) -> StridedAccess {
        let dims = self.dims(v);
        self.halos.get(&v).map_or_else(|| StridedAccess::dense(&dims), |r| r.access(&dims))
    }

    /// Where a group's result goes.
    pub fn out(&mut self, v: ValueId) -> Result<Destination, Unsupported> {
        let halo = self.halos.get(&v).filter(|h| h.has_zeros()).map(|h| (h.clone(), self.dims(v)));
        Ok(Destination { at: self.origin(v)?, access: self.access(v), halo })
    }

    /// A constant rewritten for a kernel: `pack` makes its bytes from the tensor, once for each tensor and
    /// `key`.
    pub fn packed(
        &mut self,
        v: ValueId,
        key: &str,
        elem: Elem,
        pack: impl FnOnce(&Tensor) -> Vec<u8>,
    ) -> Result<Arg, Unsupported> {
        let t = self.graph.as_const(v).ok_or_else(|| Unsupported::new("needs a constant operand"))?;
        Ok(self.weights(t, key, elem, pack))
    }

    /// As [`Ctx::packed`], for constants of any size: a large one is packed only when the weights are asked for. `pack` fills
    /// `len` bytes, which are zeros before.
    pub fn packed_later(
        &mut self,
        v: ValueId,
        key: &str,
        elem: Elem,
        len: usize,
        pack: impl Fn(&Tensor, &mut [u8]) + Send + Sync + 'static,
    ) -> Result<Arg, Unsupported> {
        let t = self.graph.as_const(v).ok_or_else(|| Unsupported::new("needs a constant operand"))?;
        Ok(self.later(t, key, elem, len, pack))
    }

    /// Data of a kernel's own (an index table, say) as weights; `key` tells it from all other data.
    pub fn table(&mut self, key: &str, elem: Elem, bytes: Vec<u8>) -> Arg {
        let t = Tensor::from_bytes(DType::U8, &[bytes.len()], &bytes);
        self.weights(&t, key, elem, move |_| bytes)
    }

    fn weights(&mut self, t: &Tensor, key: &str, elem: Elem, pack: impl FnOnce(&Tensor) -> Vec<u8>) -> Arg {
        let id = (t.content_hash(), key.to_owned());
        if let Some(&buffer) = self.constants.get(&id) {
            return Arg { buffer, offset: 0 };
        }
        let bytes = pack(t);
        let offset = self.program.weights.push(&bytes);
        self.added(id, elem, bytes.len(), offset)
    }

    fn later(
        &mut self,
        t: &Tensor,
        key: &str,
        elem: Elem,
        len: usize,
        pack: impl Fn(&Tensor, &mut [u8]) + Send + Sync + 'static,
    ) -> Arg {
        if len < LARGE {
            return self.weights(t, key, elem, |t| {
                let mut bytes = vec![0; len];
                pack(t, &mut bytes);
                bytes
            });
        }
        let id = (t.content_hash(), key.to_owned());
        if let Some(&buffer) = self.constants.get(&id) {
            return Arg { buffer, offset: 0 };
        }
        let source = t.clone();
        let offset = self.program.weights.push_later(len, move |to| pack(&source, to));
        self.added(id, elem, len, offset)
    }

    /// The buffer of weights that were added.
    fn added(&mut self, id: (ContentHash, String), elem: Elem, len: usize, offset: usize) -> Arg {
        self.program.weights.align(ALIGN);
        let buffer = self.buffer(elem, len / elem.size(), Storage::Weights(offset));
        self.constants.insert(id, buffer);
        Arg { buffer, offset: 0 }
    }

    /// A buffer of these dims that lives from the first call that names it to the last.
    pub fn scratch(&mut self, elem: Elem, dims: &[i64]) -> Result<Arg, Unsupported> {
        size::bytes(dims, elem.size())
            .map_err(|e| Unsupported::new(format!("needs a buffer of {dims:?} {elem}, which {e}")))?;
        let elements = size::elements(dims)?;
        if elements % self.step() != 0 {
            return Err(Unsupported::new("needs a buffer that is no whole number for each unit"));
        }
        let buffer = self.buffer(elem, elements, Storage::Arena(0));
        Ok(Arg { buffer, offset: 0 })
    }

    /// A buffer, of as many units as the calls have unless it is of weights.
    fn buffer(&mut self, elem: Elem, len: usize, storage: Storage) -> BufferId {
        let times = self.count.filter(|_| !matches!(storage, Storage::Weights(_)));
        let len = if times.is_some() { len / self.step() } else { len };
        self.program.buffers.push(Buffer { times, ..Buffer::new(elem, len, storage) });
        BufferId(self.program.buffers.len() as u32 - 1)
    }

    // ---- kernels ----

    /// The calls from now on do the work of this group.
    pub fn begin(&mut self, group: &FusionGroup) {
        if !self.within {
            self.nodes = group.nodes.iter().copied().collect();
        }
        self.note_sizes();
        self.sources =
            group.nodes.iter().flat_map(|&n| self.graph.node(n).sources.iter().cloned()).collect();
        self.count = self.room_of(group.result);
        let runs = self.count_of(group.result);
        self.repeat = runs.map(|runs| Repeat { first: Extent::Const(0), runs, step: 1 });
    }

    /// The sizes that are new were made for the nodes whose work is being done.
    pub(super) fn note_sizes(&mut self) {
        self.sizes.note(&self.sources);
        let new = self.unnoted..self.sizes.list().list().len();
        self.unnoted = new.end;
        if !self.sources.is_empty() {
            for i in new {
                self.program.needed.insert(SizeId(i as u32), self.sources.iter().cloned().collect());
            }
        }
    }

    /// Makes runs fail for which dims are negative, in the name of the nodes that need them first.
    fn hold_for(&mut self, all: &[Held]) {
        let mut named = BTreeSet::new();
        for held in all {
            self.note_sizes();
            self.sources.clone_from(&held.nodes);
            if let Some(Extent::Size(id)) = self.hold(&held.dim)
                && !held.nodes.is_empty()
                && named.insert(id)
            {
                self.program.needed.insert(id, held.nodes.iter().cloned().collect());
            }
        }
        self.note_sizes();
        self.sources.clear();
    }

    /// Makes runs fail for which a condition of the graph does not hold.
    fn hold_conditions(&mut self) -> Result<(), LowerError> {
        let all = self.units.as_ref().map_or(self.graph.conditions(), |u| u.graph.conditions()).to_vec();
        for dim in all {
            if dim.as_const().is_some_and(|v| v < 0)
                || dim.as_const().is_none() && self.hold(&dim).is_none()
            {
                let reason =
                    format!("requires `{dim}` to be at least 0, which compiled code cannot hold runs to");
                return Err(LowerError { refusals: vec![Refusal::of_graph(reason)] });
            }
        }
        self.note_sizes();
        Ok(())
    }

    /// Run a kernel; an equal one that is there already is taken instead.
    ///
    /// # Errors
    /// A parameter that says that the kernel touches more than its argument has.
    pub fn call(&mut self, kernel: Kernel, args: &[Arg]) -> Result<(), Unsupported> {
        self.call_in_place(kernel, args, &[])
    }

    /// As [`Ctx::call`]. Each pair names an argument that is written and one that is read which may be the
    /// same memory: every task writes an element only after it, and only it, has read the element at the
    /// same byte.
    pub fn call_in_place(
        &mut self,
        kernel: Kernel,
        args: &[Arg],
        pairs: &[(usize, usize)],
    ) -> Result<(), Unsupported> {
        self.check_args(&kernel, args)?;
        let call = self.program.calls.len();
        self.in_place.extend(pairs.iter().map(|&(written, read)| buffers::InPlace {
            call,
            written: args[written].buffer,
            read: args[read].buffer,
        }));
        let kernel = self.intern(kernel);
        let sources = self.sources.iter().cloned().collect();
        self.program.calls.push(Call { repeat: self.repeat, sources, ..Call::new(kernel, args.to_vec()) });
        self.worked.push(self.nodes.clone());
        Ok(())
    }

    /// The calls that `calls` adds run only where a bool is what it must be, and again and again if they are a loop. What runs are held to for
    /// their sake they are held to when they run, and not when a run begins: a branch that is not taken refuses no sizes.
    pub fn guarded(
        &mut self,
        cond: Arg,
        holds: bool,
        repeats: bool,
        calls: impl FnOnce(&mut Self) -> Result<(), Unsupported>,
    ) -> Result<(), Unsupported> {
        self.note_sizes();
        let (begin, around) = (self.program.calls.len(), self.sizes.begin());
        let held_around = std::mem::replace(&mut self.held_from, begin);
        let added = calls(self);
        self.note_sizes();
        let held = self.sizes.end(around);
        let from = std::mem::replace(&mut self.held_from, held_around);
        added?;
        self.hold_from(from, held);
        let calls = begin..self.program.calls.len();
        if !calls.is_empty() {
            self.program.guards.push(Guard { cond, holds, calls, repeats });
        }
        Ok(())
    }

    /// Holds each argument's buffer to have all that its parameter says may be touched.
    fn check_args(&self, kernel: &Kernel, args: &[Arg]) -> Result<(), Unsupported> {
        if kernel.params.len() != args.len() {
            let (params, name) = (kernel.params.len(), &kernel.name);
            return Err(Unsupported::bug(format!(
                "calls `{name}` of {params} parameters with {}",
                args.len()
            )));
        }
        for (i, (param, arg)) in kernel.params.iter().zip(args).enumerate() {
            let buffer = &self.program.buffers[arg.buffer.0 as usize];
            let end = arg.offset.checked_add(param.len);
            let len = if buffer.times.is_some() { buffer.len * self.step() } else { buffer.len };
            // Of a size, and of a whole buffer, it is known when a run begins.
            let open = param.len == ParamInfo::OPEN || buffer.storage == Storage::Sizes;
            if param.elem.size() != buffer.elem.size() || !open && end.is_none_or(|end| end > len) {
                return Err(Unsupported::bug(format!(
                    "calls `{}`, which may touch {} elements of {} of its parameter {i}, with {} from element \
                     {} on, which has {} elements of {}",
                    kernel.name, param.len, param.elem, arg.buffer, arg.offset, buffer.len, buffer.elem
                )));
            }
        }
        Ok(())
    }

    pub(super) fn intern(&mut self, kernel: Kernel) -> KernelId {
        let mut hasher = DefaultHasher::new();
        meaning(&kernel).hash(&mut hasher);
        let bucket = self.by_hash.entry(hasher.finish()).or_default();
        let same = |k: &Kernel| meaning(k) == meaning(&kernel);
        if let Some(&id) = bucket.iter().find(|id| same(&self.program.kernels[id.0 as usize])) {
            return id;
        }
        let id = KernelId(self.program.kernels.len() as u32);
        bucket.push(id);
        self.program.kernels.push(kernel);
        id
    }

    // ---- outputs ----

    /// The outputs that no kernel writes into the caller's buffer: index and value.
    pub fn outputs_to_copy(&self) -> Vec<(usize, ValueId)> {
        let outputs = self.graph.outputs().iter().copied().enumerate();
        outputs.filter(|&(i, v)| self.direct.get(&self.root(v).0) != Some(&i)).collect()
    }

    /// The calls from now on copy an output: its buffer.
    pub fn begin_output(&mut self, i: usize, v: ValueId) -> Result<Arg, Unsupported> {
        self.note_sizes();
        let producer = self.graph.producer(v);
        self.nodes = producer.into_iter().collect();
        self.sources = producer.map(|n| self.graph.node(n).sources.clone()).unwrap_or_default();
        let (elem, len) = (self.elem(v)?, self.len(v));
        let count = self.count_of_output(v);
        self.count = count.map(|(_, room)| room);
        self.repeat = count.map(|(runs, _)| Repeat { first: Extent::Const(0), runs, step: 1 });
        Ok(Arg { buffer: self.buffer(elem, len, Storage::Output(i)), offset: 0 })
    }

    /// Places the buffers; the program, and the nodes of each of its calls.
    pub fn finish(mut self) -> Result<(Program, Vec<Vec<NodeId>>), LowerError> {
        // What the passes left out may have been the only one to need them.
        self.hold_for(&self.options.sizes);
        self.hold_conditions()?;
        self.find_branches();
        let can_fail = self.program.kernels.iter().any(Kernel::can_fail);
        let least = if can_fail { OutOfRange::BYTES.next_multiple_of(ALIGN) } else { 0 };
        buffers::plan(&mut self.program, self.sizes.list(), &self.in_place, least)
            .map_err(|e| LowerError { refusals: vec![Refusal::of_graph(e)] })?;
        self.program.sizes = self.sizes.list().list().to_vec();
        if let Some(b) = self.sizes_buffer {
            self.program.buffers[b.0 as usize].len = self.program.sizes.len();
        }
        Ok((self.program, self.worked))
    }
}

/// All of a kernel but its name, which is for people.
fn meaning(kernel: &Kernel) -> impl Hash + Eq {
    (kernel.tasks, kernel.task, &kernel.params, &kernel.types, &kernel.locals, &kernel.body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret_ir::{Builder, Dim, Type};
    use egret_loop::{Access, KernelBuilder};

    #[test]
    fn a_kernel_that_touches_more_than_its_argument_has_is_a_bug() {
        let mut b = Builder::new("g");
        b.input("x", Type::tensor(DType::F32, [8i64].map(Dim::from)));
        let options = LowerOptions::default();
        let mut ctx = Ctx::new(&b.graph, &options, None).expect("a program");
        let x = ctx.place(b.graph.inputs()[0]).expect("a place");
        let mut call = |elem, len, offset| {
            let mut k = KernelBuilder::new("reads", 1);
            k.param(elem, len, Access::Read);
            ctx.call(k.finish(), &[Arg { buffer: x.buffer, offset }])
        };
        assert!(call(Elem::F32, 8, 0).is_ok() && call(Elem::F32, 6, 2).is_ok());
        for (elem, len, offset) in
            [(Elem::F32, 9, 0), (Elem::F32, 7, 2), (Elem::F64, 4, 0), (Elem::F32, 1, usize::MAX)]
        {
            let e = call(elem, len, offset).unwrap_err();
            assert!(e.bug && e.reason.contains("calls `reads`"), "{e:?}");
        }
        assert!(ctx.call(KernelBuilder::new("none", 1).finish(), &[x]).unwrap_err().bug);
    }
}
