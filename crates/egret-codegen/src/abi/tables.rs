//! The constant data of a model: its description ([`egret_runtime::abi::Info`]) and the tables that `run` walks.

use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module};
use egret_loop::conditions::Conditions;
use egret_loop::{Arg, Call, Extent, Kernel, Port, Repeat, SizeId, Storage, Weights, work};
use egret_runtime::abi;
use std::mem::{offset_of, size_of};

use crate::abi::flow;
use crate::abi::sizes::Sizes;
use crate::error::{CodegenError, Result, broken};
use crate::options::Options;
use crate::output::Output;

/// What `run` checks of a memory, beside its [`abi::Port`] if it is a tensor's.
pub(crate) mod limit {
    /// Its data's address has none of these bits.
    pub const ALIGN_MASK: i32 = 0;
    /// Bytes of its data; a [word](crate::abi::sizes).
    pub const BYTES: i32 = 8;
    /// The bytes that it must have, or NULL.
    pub const BOUND: i32 = 16;
    /// Bytes of an entry.
    pub const SIZE: i64 = 24;
}

/// A kernel run.
pub(crate) mod call {
    /// The kernel function.
    pub const KERNEL: i32 = 0;
    /// Its number of tasks; a [word](crate::abi::sizes).
    pub const TASKS: i32 = 8;
    /// Number of arguments.
    pub const ARGS: i32 = 16;
    /// The arguments.
    pub const ARG_LIST: i32 = 24;
    /// So many tasks are not worth sharing between threads.
    pub const ALONE: i32 = 32;
    /// Bytes of an entry.
    pub const SIZE: i64 = 40;
    /// How many times it runs, a [word](crate::abi::sizes): in programs that have sizes.
    pub const RUNS: i32 = 40;
    /// Bytes of an entry there.
    pub const SIZED: i64 = 48;
}

/// An argument of a kernel run.
pub(crate) mod arg {
    /// Which memory: inputs, then outputs, then the arena, the weights, the values of sizes.
    pub const MEMORY: i32 = 0;
    /// Byte offset, a number.
    pub const OFFSET: i32 = 8;
    /// Bytes of an entry.
    pub const SIZE: i64 = 16;
    /// Which size's value is added to the offset, or [`arg::NONE`]: in programs that have sizes.
    pub const MORE: i32 = 16;
    /// Bytes from one run of a call that repeats to the next: there.
    pub const STRIDE: i32 = 24;
    /// Bytes of an entry there.
    pub const SIZED: i64 = 32;
    /// No size: a 0 stands before the values.
    pub const NONE: i64 = -1;
}

/// Where something is that a run reads or writes.
#[derive(Clone, Copy)]
pub(crate) struct Spot {
    /// See [`arg::MEMORY`].
    pub memory: i64,
    /// Byte offset.
    pub offset: i64,
    /// The size whose value is added to the offset.
    pub more: Option<SizeId>,
}

/// The data of a model and where in it things are.
pub(crate) struct Tables {
    /// [`abi::Info`].
    pub info: DataId,
    /// Ports, limits and calls.
    pub tables: DataId,
    /// Offset of the limits in `tables`, one for each memory (see [`arg::MEMORY`]). Ports are at 0, inputs, then outputs.
    pub limits: i64,
    /// Offset of the calls.
    pub calls: i64,
    /// Offset of the steps, and words there: none where the calls run in order.
    pub steps: (i64, usize),
    /// Offset of the bounds of branches.
    pub branches: i64,
    /// Most arguments of a call.
    pub max_args: usize,
    /// What a run knows when it begins, if there are any.
    pub sizes: Option<Sizes>,
    /// Where each length is written to, and the most that it can be, as a word.
    pub lengths: Vec<(Spot, i64)>,
    /// Bytes of the arena, as a word.
    pub arena: i64,
    /// BLAKE3 of the weights.
    pub weights_hash: [u8; 32],
    /// See [`abi::weights_check`].
    pub weights_check: u64,
}

/// A data object under construction.
#[derive(Default)]
struct Blob {
    bytes: Vec<u8>,
    /// Places of addresses in the plain blob.
    plain: Vec<(usize, usize)>,
    /// Places of function addresses.
    functions: Vec<(usize, FuncId)>,
    /// Places of addresses of other data.
    data: Vec<(usize, DataId)>,
}

impl Blob {
    fn align(&mut self) -> usize {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.bytes.len()
    }
    fn word(&mut self, value: u64) {
        self.bytes.extend(value.to_le_bytes());
    }
    fn half(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }
    /// The address of a place in the plain blob.
    fn pointer(&mut self, at: usize) {
        self.plain.push((self.bytes.len(), at));
        self.word(0);
    }
    fn function(&mut self, id: FuncId) {
        self.functions.push((self.bytes.len(), id));
        self.word(0);
    }
    fn data(&mut self, id: DataId) {
        self.data.push((self.bytes.len(), id));
        self.word(0);
    }
    fn string(&mut self, text: &str) -> usize {
        let at = self.bytes.len();
        // A C string ends at its first zero byte, so a name cannot contain one.
        self.bytes.extend(text.bytes().map(|b| if b == 0 { b'?' } else { b }));
        self.bytes.push(0);
        at
    }
    fn words(&mut self, values: impl IntoIterator<Item = i64>) -> usize {
        let at = self.align();
        values.into_iter().for_each(|v| self.word(v as u64));
        at
    }
}

fn bytes_of(port: &Port, sizes: &mut Sizes) -> Result<Extent> {
    let too_large =
        || CodegenError::Unsupported(format!("`{}` has a shape too large for memory", port.name));
    let elems = port.dims.iter().filter_map(|d| d.as_const());
    let elems = elems.into_iter().try_fold(1u64, |n, d| n.checked_mul(u64::try_from(d).ok()?));
    let bytes = elems.and_then(|n| n.checked_mul(port.elem_size as u64)).filter(|n| *n < 1 << 62);
    let free = port.dims.iter().filter(|d| d.as_const().is_none());
    free.copied().try_fold(Extent::Const(bytes.ok_or_else(too_large)? as i64), |n, d| sizes.mul(n, d))
}

/// Nanoseconds of work from which on it is worth sharing: what it takes another thread to see that there is some.
const SHARED: f64 = 4_000.0;

/// How many tasks of a call are not worth sharing between threads: all where they certainly take less time than sharing them does.
fn alone(call: &Call, kernel: &Kernel) -> i64 {
    let counted = call.tasks.is_some() || call.repeat.is_some();
    match work::at_most(kernel) {
        Some(time) if !counted && time < SHARED => i64::MAX,
        _ => 1,
    }
}

/// What a model says of what its code is for.
pub(crate) struct About<'a> {
    /// The instruction set, or several.
    pub isa: String,
    /// Triples and CPU features.
    pub target: String,
    /// The descriptions of its levels, if it has several.
    pub levels: &'a [DataId],
}

impl About<'_> {
    /// Of one instruction set.
    pub fn one(options: &Options) -> About<'static> {
        About { isa: options.isa().name.to_owned(), target: options.target.to_string(), levels: &[] }
    }
}

/// BLAKE3 of the weights.
pub(crate) fn hash(weights: &Weights) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    weights.each(|piece| {
        hasher.update(piece);
    });
    *hasher.finalize().as_bytes()
}

impl Tables {
    pub fn define<M: Module>(
        out: &mut Output<'_, M>,
        kernels: &[FuncId],
        about: &About<'_>,
        weights_hash: [u8; 32],
    ) -> Result<Tables> {
        let program = out.program;
        let ports: Vec<&Port> = program.inputs.iter().chain(&program.outputs).collect();
        // Error codes have 12 bits for the tensor, or the arena after all tensors, and 8 for the axis.
        if ports.len() > 4095 {
            return Err(CodegenError::Unsupported(format!(
                "the model has {} inputs and outputs; at most 4095 are supported",
                ports.len()
            )));
        }
        if let Some(port) = ports.iter().find(|p| p.dims.len() > 256) {
            return Err(CodegenError::Unsupported(format!(
                "`{}` has {} axes; at most 256 are supported",
                port.name,
                port.dims.len()
            )));
        }
        let mut sizes = Sizes::of(program);
        let sized = !program.sizes.is_empty();
        let mut plain = Blob::default();
        let mut tables = Blob::default();
        for port in &ports {
            let name = plain.string(&port.name);
            let dims = plain.words(port.dims.iter().map(|d| sizes.word(*d)));
            tables.pointer(name);
            tables.pointer(dims);
            tables.half(port.dims.len() as u32);
            tables.half(port.onnx_dtype as u32);
        }
        debug_assert_eq!(tables.bytes.len(), ports.len() * size_of::<abi::Port>());
        let limits = tables.align();
        for port in &ports {
            let bytes = bytes_of(port, &mut sizes)?;
            let align = 1u64 << port.elem_size.trailing_zeros().min(3);
            tables.word(align - 1);
            tables.word(sizes.word(bytes) as u64);
            match &port.bound {
                Some(bound) if bytes != Extent::Const(bound.len() as i64) => {
                    return Err(broken(format!(
                        "`{}` is bound to {} bytes and has {bytes}",
                        port.name,
                        bound.len()
                    )));
                }
                Some(bound) if !bound.is_empty() => {
                    let at = plain.align();
                    plain.bytes.extend(bound);
                    tables.pointer(at);
                }
                _ => tables.word(0),
            }
        }
        let constant = |n: usize| Extent::Const(n as i64);
        let arena_bytes = program.arena_size.map_or(constant(program.arena_bytes), Extent::Size);
        for bytes in [arena_bytes, constant(program.weights.len())] {
            tables.word(abi::ALIGN as u64 - 1);
            tables.word(sizes.word(bytes) as u64);
            tables.word(0);
        }
        let calls = tables.align();
        let arena = ports.len() as i64;
        // An argument of a call: where it is, and the bytes from one run to the next.
        let place = |a: &Arg, repeat: Option<Repeat>, sizes: &mut Sizes| -> Result<(Spot, i64)> {
            let buffer = program
                .buffers
                .get(a.buffer.0 as usize)
                .ok_or_else(|| broken(format!("there is no {}", a.buffer)))?;
            let (memory, begin, mut more) = match buffer.storage {
                Storage::Input(i) => (i as i64, 0, constant(0)),
                Storage::Output(i) => ((program.inputs.len() + i) as i64, 0, constant(0)),
                Storage::Arena(o) => (arena, o, constant(0)),
                Storage::ArenaAt(o) => (arena, 0, Extent::Size(o)),
                Storage::Weights(o) => (arena + 1, o, constant(0)),
                Storage::Sizes => (arena + 2, 0, constant(0)),
            };
            let mut offset = (begin + a.offset * buffer.elem.size()) as i64;
            let mut stride = 0;
            if let (Some(repeat), Some(_)) = (repeat, buffer.times) {
                let unit = buffer.len * buffer.elem.size();
                let first = sizes.mul(repeat.first, constant(unit))?;
                more = sizes.add(more, first)?;
                stride = (unit * repeat.step) as i64;
            }
            let more = match more {
                Extent::Const(c) => {
                    offset += c;
                    None
                }
                Extent::Size(size) => {
                    sizes.keep(size);
                    Some(size)
                }
            };
            Ok((Spot { memory, offset, more }, stride))
        };
        for call in &program.calls {
            let index = call.kernel.0 as usize;
            let (Some(kernel), Some(id)) = (program.kernels.get(index), kernels.get(index)) else {
                return Err(broken(format!("there is no {}", call.kernel)));
            };
            if kernel.params.len() != call.args.len() {
                return Err(broken(format!("{} arguments for kernel {}", call.args.len(), kernel.name)));
            }
            let mut list = vec![];
            for (arg, param) in call.args.iter().zip(&kernel.params) {
                let (spot, stride) = place(arg, call.repeat, &mut sizes)?;
                if spot.memory == arena + 2 {
                    let read = arg.offset..arg.offset.saturating_add(param.len).min(program.sizes.len());
                    read.for_each(|i| sizes.keep(SizeId(i as u32)));
                }
                list.extend([spot.memory, spot.offset]);
                if sized {
                    list.extend([spot.more.map_or(arg::NONE, |size| i64::from(size.0)), stride]);
                }
            }
            let list = plain.words(list);
            tables.function(*id);
            let tasks = call.tasks.map_or(Extent::Const(kernel.tasks.max(1)), Extent::Size);
            tables.word(sizes.word(tasks) as u64);
            tables.word(call.args.len() as u64);
            tables.pointer(list);
            tables.word(alone(call, kernel) as u64);
            match call.repeat {
                Some(_) if !sized => return Err(broken("a call that repeats in a program without sizes")),
                Some(repeat) => tables.word(sizes.word(Extent::Size(repeat.runs)) as u64),
                None if sized => tables.word(1),
                None => {}
            }
        }
        for found in program.outputs.iter().filter_map(|port| port.found.as_ref()).flatten() {
            sizes.word(*found);
        }
        let lengths =
            program.lengths.iter().map(|l| Ok((place(&l.at, None, &mut sizes)?.0, sizes.word(l.most))));
        let lengths = lengths.collect::<Result<Vec<_>>>()?;
        let (bounds, words) = flow::bounds(program);
        let branches = tables.words(words) as i64;
        let words = flow::table(program, &bounds, |a| match place(a, None, &mut sizes)?.0 {
            Spot { more: Some(_), .. } => Err(broken("a condition whose place is not known")),
            Spot { memory, offset, .. } => Ok([memory, offset]),
        })?;
        let steps = (tables.words(words.iter().copied()) as i64, words.len());
        let symbols = tables.align();
        for symbol in &program.symbols {
            let name = plain.string(&symbol.name);
            tables.pointer(name);
            tables.half(symbol.input as u32);
            tables.half(symbol.axis as u32);
        }
        let names = tables.align();
        for call in &program.calls {
            let name = plain.string(&program.kernels[call.kernel.0 as usize].name);
            tables.pointer(name);
        }
        let nodes = tables.align();
        for call in &program.calls {
            if program.kernels[call.kernel.0 as usize].can_fail() && !call.sources.is_empty() {
                let sources = plain.string(&call.sources.join(", "));
                tables.pointer(sources);
            } else {
                tables.word(0);
            }
        }
        // Behind the nodes of the kernels, by number.
        for text in &Conditions::of(program).texts {
            let text = plain.string(text);
            tables.pointer(text);
        }
        let levels = tables.align();
        about.levels.iter().for_each(|info| tables.data(*info));
        let weights_check = abi::weights_check(&weights_hash);
        let (model, target) = (plain.string(&program.name), plain.string(&about.target));
        let isa = plain.string(&about.isa);
        let producer = plain.string(&out.options.producer);

        let plain = out.data("strings", Linkage::Local, plain, None, None)?;
        let outputs = program.inputs.len() * size_of::<abi::Port>();
        let tables = out.data("tables", Linkage::Local, tables, Some(plain), None)?;

        let mut info = Blob::default();
        info.half(abi::ABI_VERSION);
        info.half(program.inputs.len() as u32);
        info.half(program.outputs.len() as u32);
        info.half(program.calls.len() as u32);
        info.pointer(model);
        let mut in_tables: Vec<_> = [0, outputs, names]
            .into_iter()
            .map(|at| {
                let place = info.bytes.len();
                info.word(0);
                (place, at)
            })
            .collect();
        info.pointer(target);
        info.pointer(producer);
        info.word(program.arena_bytes as u64);
        info.word(program.weights.len() as u64);
        info.word(weights_check);
        info.bytes.extend(weights_hash);
        info.bytes.extend(out.options.model_hash);
        for at in [nodes, symbols] {
            in_tables.push((info.bytes.len(), at));
            info.word(0);
        }
        info.half(program.symbols.len() as u32);
        info.half(program.lengths.len() as u32);
        info.pointer(isa);
        if !about.levels.is_empty() {
            in_tables.push((info.bytes.len(), levels));
        }
        info.word(0);
        info.half(about.levels.len() as u32);
        info.half(0);
        debug_assert_eq!(info.bytes.len(), size_of::<abi::Info>());
        debug_assert_eq!(in_tables[0].0, offset_of!(abi::Info, inputs));
        let info = out.data("info", out.linkage, info, Some(plain), Some((tables, in_tables)))?;

        let max_args = program.calls.iter().map(|c| c.args.len()).max().unwrap_or(0);
        Ok(Tables {
            info,
            tables,
            limits: limits as i64,
            calls: calls as i64,
            steps,
            branches,
            max_args,
            lengths,
            arena: sizes.word(arena_bytes),
            sizes: sized.then_some(sizes),
            weights_hash,
            weights_check,
        })
    }
}

/// Places of addresses in another data object.
type Addresses = (DataId, Vec<(usize, usize)>);

impl<M: Module> Output<'_, M> {
    fn data(
        &mut self,
        name: &str,
        linkage: Linkage,
        blob: Blob,
        plain: Option<DataId>,
        other: Option<Addresses>,
    ) -> Result<DataId> {
        let id = self.module.declare_data(&self.symbol(name), linkage, false, false)?;
        let mut data = DataDescription::new();
        data.set_align(8);
        // An object of no bytes would share its address with the next.
        data.define(if blob.bytes.is_empty() { [0; 8].into() } else { blob.bytes.into_boxed_slice() });
        for (target, places) in plain.map(|p| (p, blob.plain)).into_iter().chain(other) {
            let global = self.module.declare_data_in_data(target, &mut data);
            for (place, at) in places {
                data.write_data_addr(place as u32, global, at as i64);
            }
        }
        for (place, function) in blob.functions {
            let function = self.module.declare_func_in_data(function, &mut data);
            data.write_function_addr(place as u32, function);
        }
        for (place, other) in blob.data {
            let other = self.module.declare_data_in_data(other, &mut data);
            data.write_data_addr(place as u32, other, 0);
        }
        self.module.define_data(id, &data)?;
        Ok(id)
    }
}
