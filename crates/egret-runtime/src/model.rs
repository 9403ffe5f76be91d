//! A compiled model in memory: its five symbols, safe to call.

use crate::abi::{self, BadIndex, Code};
use crate::arena::AlignedBytes;
use crate::beyond;
use crate::env::BorrowedEnv;
use crate::mapped::WeightsFile;
use crate::trial::Trial;
use std::any::Any;
use std::ffi::{CStr, c_void};
use std::fmt;
use std::path::Path;

/// Why a model cannot be loaded or run.
#[derive(Clone, Debug, PartialEq)]
pub enum CallError {
    /// The model returned an error; the message names the tensor.
    Model(Code, String),
    /// Not loadable.
    Load(String),
    /// The system has no memory.
    Memory(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Model(_, message) | CallError::Load(message) | CallError::Memory(message) => {
                f.write_str(message)
            }
        }
    }
}
impl std::error::Error for CallError {}

/// An input or output of a compiled model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// ONNX name.
    pub name: String,
    /// The number of the dtype in ONNX.
    pub dtype: u32,
    /// Dims; a negative one is free.
    pub dims: Vec<i64>,
}

/// A free dim of a compiled model, told by an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Its name in the ONNX model.
    pub name: String,
    /// The input.
    pub input: usize,
    /// The axis there.
    pub axis: usize,
}

/// What a run on inputs of certain dims needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of its arena.
    pub arena_bytes: usize,
    /// Dims of its outputs.
    pub outputs: Vec<Vec<i64>>,
}

/// A tensor to read.
#[derive(Copy, Clone, Debug)]
pub struct Input<'a> {
    /// The elements, aligned to their dtype.
    pub bytes: &'a [u8],
    /// The number of the dtype in ONNX.
    pub dtype: u32,
    /// Dims.
    pub dims: &'a [i64],
}

/// The functions and the description of a model.
#[derive(Copy, Clone, Debug)]
pub struct Symbols {
    /// `m_plan`.
    pub plan: abi::PlanFn,
    /// `m_shape`.
    pub shape: abi::ShapeFn,
    /// `m_bind`.
    pub bind: abi::BindFn,
    /// `m_run`.
    pub run: abi::RunFn,
    /// `m_info`.
    pub info: *const abi::Info,
}

/// A compiled model with its weights bound. Any number of threads may run it at once.
pub struct Model {
    symbols: Symbols,
    weights: abi::Weights,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    symbols_of: Vec<Symbol>,
    /// Whether data decides dims.
    decided: bool,
    kernels: Vec<String>,
    /// The ONNX nodes of the kernels that may fail; empty for others.
    nodes: Vec<String>,
    /// Whether runs are faster with other threads.
    trial: Trial,
    // What the pointers above point into.
    _file: Option<WeightsFile>,
    _code: Box<dyn Any + Send + Sync>,
}

// SAFETY: the symbols point to code and constant data that `_code` keeps; weights are only read.
unsafe impl Send for Model {}
// SAFETY: as above; `m_run` is re-entrant.
unsafe impl Sync for Model {}

impl Model {
    /// Bind a model. `weights` is the content of its weights file; `None` where they are embedded.
    ///
    /// # Safety
    /// The symbols must be those of one model compiled by Egret, alive as long as `code` is. The weights must not change.
    pub unsafe fn new(
        symbols: Symbols,
        weights: Option<WeightsFile>,
        code: Box<dyn Any + Send + Sync>,
    ) -> Result<Model, CallError> {
        // SAFETY: the caller's word.
        let info = unsafe { &*symbols.info };
        if info.abi_version != abi::ABI_VERSION {
            return Err(CallError::Load(format!(
                "the model was compiled for ABI version {}, this is {}; compile it again",
                info.abi_version,
                abi::ABI_VERSION
            )));
        }
        let mut bound = abi::Weights { data: std::ptr::null(), len: 0, check: 0, info: symbols.info };
        let (data, len) =
            weights.as_ref().map_or((std::ptr::null(), 0), |w| (w.as_ptr().cast::<c_void>(), w.len()));
        // SAFETY: `data` is `len` readable bytes that live in the model as long as it does.
        let code_value = unsafe { (symbols.bind)(&mut bound, data, len) };
        // SAFETY: counts and pointers of one info belong together.
        let (inputs, outputs, free) = unsafe {
            let symbol = |s: &abi::Symbol| Symbol {
                name: text(s.name),
                input: s.input as usize,
                axis: s.axis as usize,
            };
            let free = slice(info.symbols, info.n_symbols).iter().map(symbol).collect();
            (ports(info.inputs, info.n_inputs), ports(info.outputs, info.n_outputs), free)
        };
        let mut model = Model {
            symbols,
            weights: bound,
            inputs,
            outputs,
            symbols_of: free,
            decided: info.n_lengths > 0,
            kernels: vec![],
            nodes: vec![],
            trial: Trial::default(),
            _file: weights,
            _code: code,
        };
        model.check(code_value, &[])?;
        model.read_level();
        Ok(model)
    }

    /// What runs.
    fn level(&self) -> &abi::Info {
        // SAFETY: what `bind` wrote there, or one of the levels: kept alive by `_code`.
        unsafe { &*self.weights.info }
    }

    /// Read the kernels of what runs.
    fn read_level(&mut self) {
        let info = self.level();
        // SAFETY: counts and pointers of one info belong together.
        let [kernels, nodes] = [info.kernels, info.nodes]
            .map(|start| unsafe { slice(start, info.n_kernels).iter().map(|&p| text(p)).collect() });
        (self.kernels, self.nodes) = (kernels, nodes);
    }

    /// The instruction set that runs, by the name that `--target` takes: of several levels the highest that this CPU has.
    pub fn isa(&self) -> String {
        // SAFETY: constant data of the model.
        unsafe { text(self.level().isa) }
    }

    /// The descriptions of the levels that the model holds, lowest first.
    fn levels(&self) -> &[*const abi::Info] {
        // SAFETY: kept alive by `_code`.
        unsafe {
            let info = &*self.symbols.info;
            slice(info.levels, info.n_levels)
        }
    }

    /// Run at a lower level than the highest that this CPU has, for tests and comparisons.
    ///
    /// # Errors
    /// There is no such level, or it is higher than the one that runs.
    pub fn lower_to(&mut self, isa: &str) -> Result<(), CallError> {
        let levels = self.levels();
        let now = levels.iter().position(|&level| level == self.weights.info);
        let below = &levels[..now.map_or(0, |now| now + 1)];
        // SAFETY: constant data of the model.
        let name = |level: &&*const abi::Info| unsafe { text((*(**level)).isa) };
        let Some(level) = below.iter().find(|level| name(level) == isa) else {
            let names: Vec<String> = below.iter().map(|level| name(&level)).collect();
            return Err(CallError::Load(match names.join(", ") {
                names if names.is_empty() => format!("the model holds one level, {}", self.isa()),
                names => format!("there is no level {isa} to go down to; there are {names}"),
            }));
        };
        self.weights.info = *level;
        self.read_level();
        Ok(())
    }

    /// Inputs, in order.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// Outputs, in order.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Its free dims: runs read their values off the inputs.
    pub fn symbols(&self) -> &[Symbol] {
        &self.symbols_of
    }

    /// Whether all that runs need is known before their inputs are: no dim is free, and data decides none.
    pub fn is_fixed(&self) -> bool {
        self.symbols_of.is_empty() && !self.decided
    }

    /// The values of the free dims, read off the dims of inputs.
    fn values(&self, dims: &[&[i64]]) -> Result<Vec<i64>, CallError> {
        let of = |s: &Symbol| {
            let dim = dims.get(s.input).and_then(|d| d.get(s.axis)).copied();
            dim.ok_or_else(|| {
                let port = self.inputs.get(s.input).map_or("", |p| &p.name);
                CallError::Load(format!(
                    "the input `{port}` has no axis {}, which tells `{}`",
                    s.axis, s.name
                ))
            })
        };
        self.symbols_of.iter().map(of).collect()
    }

    /// What a run on inputs of these dims needs; where data decides dims of outputs, the most that they can be.
    ///
    /// # Errors
    /// Dims that the model cannot be run with.
    pub fn needs(&self, dims: &[&[i64]]) -> Result<Needs, CallError> {
        let values = self.values(dims)?;
        let mut plan = abi::Plan { arena_bytes: 0, outputs: std::ptr::null(), n_outputs: 0, reserved: 0 };
        // SAFETY: as many values as the model has symbols.
        let code = unsafe { (self.symbols.plan)(values.as_ptr(), values.len(), &mut plan) };
        self.check_sizes(code, &values)?;
        self.check(code, &[])?;
        let mut outputs = vec![];
        for (i, port) in self.outputs.iter().enumerate() {
            let mut dims = vec![0; port.dims.len()];
            // SAFETY: as above, and there is room for all dims of this output. An output without any has nothing written.
            let code = unsafe {
                // Of an empty list it is dangling, and nothing is written there.
                let to = dims.as_mut_ptr();
                (self.symbols.shape)(values.as_ptr(), values.len(), i as u64, to)
            };
            self.check(code, &[])?;
            outputs.push(dims);
        }
        Ok(Needs { arena_bytes: usize::try_from(plan.arena_bytes).unwrap_or(usize::MAX), outputs })
    }

    /// Names of the kernels, in the order they run.
    pub fn kernels(&self) -> &[String] {
        &self.kernels
    }

    /// Bytes of arena that any run needs; where dims are free, [`Model::needs`] tells the rest.
    pub fn arena_bytes(&self) -> usize {
        // SAFETY: kept alive by `_code`.
        usize::try_from(unsafe { (*self.symbols.info).arena_bytes }).unwrap_or(usize::MAX)
    }

    /// Bytes of the weights.
    pub fn weights_bytes(&self) -> u64 {
        // SAFETY: kept alive by `_code`.
        unsafe { (*self.symbols.info).weights_bytes }
    }

    /// The weights, as the code reads them.
    pub fn weights(&self) -> &[u8] {
        let (data, len) = (self.weights.data.cast::<u8>(), self.weights.len as usize);
        if data.is_null() || len == 0 {
            return &[];
        }
        // SAFETY: what `bind` found to be there: bytes of the file or of the code, both of which the model keeps.
        unsafe { std::slice::from_raw_parts(data, len) }
    }

    /// The BLAKE3 of the weights, as it was compiled for.
    pub fn weights_hash(&self) -> [u8; 32] {
        // SAFETY: kept alive by `_code`.
        unsafe { (*self.symbols.info).weights_hash }
    }

    /// An arena for one run at a time, where no dim is free.
    pub fn new_arena(&self) -> Result<AlignedBytes, CallError> {
        self.arena_of(self.arena_bytes())
    }

    /// An arena of so many bytes.
    pub fn arena_of(&self, len: usize) -> Result<AlignedBytes, CallError> {
        AlignedBytes::zeroed(len).ok_or_else(|| {
            CallError::Memory(format!(
                "not enough memory: the values between inputs and outputs need {len} bytes; give smaller inputs or dims"
            ))
        })
    }

    /// Run the model. `outputs[i]` takes the bytes of output `i` and must have its exact size. Gives the dims of all outputs where data
    /// decides some, and nothing for other models: an output whose dims have come to less than there was room for is the first of its bytes.
    ///
    /// What the model writes (outputs, arena) must overlap nothing else that it is given. Here the borrows see to that:
    /// `outputs` and `arena` own their bytes and are borrowed mutably, and inputs borrow other bytes.
    /// ```compile_fail,E0502
    /// use egret_runtime::{AlignedBytes, BorrowedEnv, Input, Model};
    /// fn in_place(model: &Model, tensors: &mut [AlignedBytes], arena: &mut AlignedBytes) {
    ///     let x = Input { bytes: &tensors[0], dtype: 1, dims: &[4] };
    ///     let _ = model.run(&[x], tensors, arena, BorrowedEnv::default());
    /// }
    /// ```
    /// ```
    /// use egret_runtime::{AlignedBytes, BorrowedEnv, Input, Model};
    /// fn apart(model: &Model, x: &AlignedBytes, outputs: &mut [AlignedBytes], arena: &mut AlignedBytes) {
    ///     let x = Input { bytes: x, dtype: 1, dims: &[4] };
    ///     let _ = model.run(&[x], outputs, arena, BorrowedEnv::default());
    /// }
    /// ```
    pub fn run(
        &self,
        inputs: &[Input<'_>],
        outputs: &mut [AlignedBytes],
        arena: &mut AlignedBytes,
        env: BorrowedEnv<'_>,
    ) -> Result<Vec<Vec<i64>>, CallError> {
        let count = |what: &str, have: usize, need: usize| match have == need {
            true => Ok(()),
            false => Err(CallError::Load(format!("{have} {what} given, the model has {need}"))),
        };
        count("inputs", inputs.len(), self.inputs.len())?;
        count("outputs", outputs.len(), self.outputs.len())?;
        for (input, port) in inputs.iter().zip(&self.inputs) {
            let elements =
                input.dims.iter().try_fold(1usize, |a, &d| a.checked_mul(usize::try_from(d).ok()?));
            let size = dtype_size(input.dtype).unwrap_or(0);
            // A rank that does not fit the struct would be cut off, and the dims no longer those of the bytes.
            let elements = elements.filter(|_| u32::try_from(input.dims.len()).is_ok());
            if elements.and_then(|e| e.checked_mul(size)) != Some(input.bytes.len()) {
                return Err(CallError::Load(format!(
                    "the bytes of the input `{}` do not fit its dims {:?}",
                    port.name, input.dims
                )));
            }
        }
        let raw = |t: &Input<'_>| abi::Tensor {
            data: t.bytes.as_ptr().cast_mut().cast(),
            dims: t.dims.as_ptr(),
            rank: t.dims.len() as u32,
            dtype: t.dtype,
        };
        let ins: Vec<abi::Tensor> = inputs.iter().map(raw).collect();
        let mut needs = None;
        if !self.is_fixed() {
            let dims: Vec<&[i64]> = inputs.iter().map(|i| i.dims).collect();
            needs = Some(self.needs(&dims)?);
        }
        let mut outs = vec![];
        for (i, (bytes, port)) in outputs.iter_mut().zip(&self.outputs).enumerate() {
            // Where data decides them they are written.
            let (at, dims): (*const i64, &[i64]) = match &mut needs {
                Some(needs) => (needs.outputs[i].as_mut_ptr(), &needs.outputs[i]),
                None => (port.dims.as_ptr(), &port.dims),
            };
            let needed = bytes_of(dims, port.dtype);
            if needed != Some(bytes.len()) {
                return Err(CallError::Load(format!(
                    "room of {} bytes for the output `{}` of {needed:?}",
                    bytes.len(),
                    port.name,
                )));
            }
            outs.push(abi::Tensor {
                data: bytes.as_mut_ptr().cast(),
                dims: at,
                rank: dims.len() as u32,
                dtype: port.dtype,
            });
        }
        // Runs of other sizes say nothing of this one.
        let (env, turn) = self.trial.turn(env, self.is_fixed());
        // SAFETY: sizes were checked above; the model checks dtypes, ranks, dims and the arena's size itself.
        let value = unsafe {
            (self.symbols.run)(
                &self.weights,
                ins.as_ptr(),
                outs.as_mut_ptr(),
                arena.as_mut_ptr().cast(),
                arena.len(),
                env.as_raw(),
            )
        };
        turn.end();
        if value != 0 && !self.is_fixed() {
            let dims: Vec<&[i64]> = inputs.iter().map(|i| i.dims).collect();
            self.check_sizes(value, &self.values(&dims)?)?;
        }
        self.check(value, arena)?;
        Ok(needs.filter(|_| self.decided).map_or(vec![], |n| n.outputs))
    }

    /// What the number in a return value says of the dims; nothing for 0.
    fn condition(&self, number: u32) -> Option<String> {
        let number = number.checked_sub(1)?;
        // SAFETY: kept alive by `_code`; the model has a text for each condition that it names, behind those of its kernels.
        Some(unsafe {
            let info = &*self.symbols.info;
            text(*info.nodes.add(info.n_kernels as usize + number as usize))
        })
    }

    /// The message of a return value that names a condition on the free dims, which have these values.
    fn check_sizes(&self, value: i32, values: &[i64]) -> Result<(), CallError> {
        let Some((Code::Sizes, number, _)) = Code::split(value) else { return Ok(()) };
        let Some(mut condition) = self.condition(number) else { return Ok(()) };
        let mut others = vec![];
        for (symbol, value) in self.symbols_of.iter().zip(values) {
            let name = format!("`{}`", symbol.name);
            if condition.contains(&name) {
                condition = condition.replacen(&name, &format!("{name} ({value})"), 1);
            } else {
                others.push(format!("{name} is {value}"));
            }
        }
        if others.len() == self.symbols_of.len() && !others.is_empty() {
            condition = format!("{condition}; {}", others.join(", "));
        }
        Err(CallError::Model(Code::Sizes, condition))
    }

    /// The message of a return value, and of what the run left in its arena.
    fn check(&self, value: i32, arena: &[u8]) -> Result<(), CallError> {
        if value == 0 {
            return Ok(());
        }
        let Some((code, index, axis)) = Code::split(value) else {
            return Err(CallError::Load(format!("the model returned an unknown value {value}")));
        };
        let i = index as usize;
        let port = |i: usize| {
            self.inputs.get(i).map(|p| format!("input `{}`", p.name)).or_else(|| {
                self.outputs.get(i.wrapping_sub(self.inputs.len())).map(|p| format!("output `{}`", p.name))
            })
        };
        let tensor = port(i).unwrap_or_else(|| format!("tensor {i}"));
        let message = match code {
            Code::Null => format!("a null pointer was given for the {tensor}"),
            Code::Dtype => format!("the {tensor} has the wrong dtype"),
            Code::Rank => format!("the {tensor} has the wrong number of dims"),
            Code::Dim => format!("the {tensor} has the wrong size at axis {axis}"),
            Code::Arena => "the arena is smaller than the run needs".into(),
            Code::Align => "arena, weights or a tensor is misaligned".into(),
            Code::Weights => "the weights are cut off, or belong to another model; use the .weights file of the same compilation".into(),
            Code::Cpu => "this CPU lacks an instruction set that the code needs; compile with another --target".into(),
            Code::Unbound => "the weights are not bound".into(),
            Code::BoundValue => format!("the {tensor} has another value than it was bound to at compile time"),
            Code::Dims => "a wrong number of dims".into(),
            Code::Sizes => self.condition(index).unwrap_or_else(|| {
                "the free dims have values that the model cannot be run with: a size of them is larger than any memory".into()
            }),
            Code::Overlap => {
                let tensor = port(i).unwrap_or_else(|| "arena".into());
                format!("the {tensor} shares memory with an input, an output, the arena or the weights")
            }
            Code::Index => {
                let kernel = self.kernels.get(i).map_or("", |k| k);
                let node = self.nodes.get(i).filter(|n| !n.is_empty());
                let nodes = node.map_or_else(String::new, |n| format!(" ({n})"));
                let why = match bad_index(arena) {
                    Some(bad) => beyond::why(&bad, kernel, node.map(String::as_str)),
                    None => "an index in the data is out of range".into(),
                };
                format!("kernel {i} {kernel}{nodes}: {why}")
            }
        };
        Err(CallError::Model(code, message))
    }
}

/// What a run that failed with [`Code::Index`] says at the begin of its arena.
fn bad_index(arena: &[u8]) -> Option<BadIndex> {
    let words = arena.as_chunks::<8>().0.iter().map(|w| i64::from_ne_bytes(*w));
    match words.take(3).collect::<Vec<_>>()[..] {
        [value, low, high] => Some(BadIndex { value, low, high }),
        _ => None,
    }
}

impl Port {
    /// Bytes of a dense tensor of this type; none where a dim is free.
    pub fn bytes(&self) -> Option<usize> {
        bytes_of(&self.dims, self.dtype)
    }

    /// The same of such a type with other dims.
    pub fn bytes_with(&self, dims: &[i64]) -> Option<usize> {
        bytes_of(dims, self.dtype)
    }
}

fn bytes_of(dims: &[i64], dtype: u32) -> Option<usize> {
    dims.iter().try_fold(dtype_size(dtype)?, |a, &d| a.checked_mul(usize::try_from(d).ok()?))
}

/// Bytes of an element by the number of its dtype; strings have no place in compiled code.
fn dtype_size(dtype: u32) -> Option<usize> {
    match dtype {
        4 | 5 | 10 | 16 => Some(2),
        1 | 6 | 12 => Some(4),
        7 | 11 | 13 => Some(8),
        2 | 3 | 9 | 17..=26 => Some(1),
        _ => None,
    }
}

unsafe fn slice<'a, T>(start: *const T, len: u32) -> &'a [T] {
    if len == 0 || start.is_null() {
        &[]
    } else {
        // SAFETY: the caller says that `start` points to `len` elements that live as long as `'a`.
        unsafe { std::slice::from_raw_parts(start, len as usize) }
    }
}

unsafe fn text(p: *const std::ffi::c_char) -> String {
    // SAFETY: the caller's word.
    if p.is_null() { String::new() } else { unsafe { CStr::from_ptr(p) }.to_string_lossy().into_owned() }
}

unsafe fn ports(start: *const abi::Port, len: u32) -> Vec<Port> {
    // SAFETY: the caller's word.
    unsafe {
        let port = |p: &abi::Port| Port {
            name: text(p.name),
            dtype: p.dtype,
            dims: slice(p.dims, p.rank).to_vec(),
        };
        slice(start, len).iter().map(port).collect()
    }
}

/// Load the model `name` from a shared library, its weights from a file unless they are embedded.
///
/// # Safety
/// Loading runs the library's code: it must be one that Egret wrote.
pub unsafe fn load(library: &Path, name: &str, weights: Option<&Path>) -> Result<Model, CallError> {
    let failed = |e: libloading::Error| CallError::Load(format!("cannot load {}: {e}", library.display()));
    let weights = match weights {
        None => None,
        Some(path) => {
            let bytes = std::fs::read(path)
                .map_err(|e| CallError::Load(format!("cannot read {}: {e}", path.display())))?;
            let bytes = AlignedBytes::copy_of(&bytes).ok_or_else(|| {
                CallError::Memory(format!("not enough memory: the weights need {} bytes", bytes.len()))
            })?;
            Some(WeightsFile::Read(bytes))
        }
    };
    // SAFETY: the caller's word; the library moves into the model and outlives the symbols.
    unsafe {
        let lib = libloading::Library::new(library).map_err(failed)?;
        let symbols = Symbols {
            plan: *lib.get(format!("{name}_plan\0").as_bytes()).map_err(failed)?,
            shape: *lib.get(format!("{name}_shape\0").as_bytes()).map_err(failed)?,
            bind: *lib.get(format!("{name}_bind\0").as_bytes()).map_err(failed)?,
            run: *lib.get(format!("{name}_run\0").as_bytes()).map_err(failed)?,
            info: *lib.get(format!("{name}_info\0").as_bytes()).map_err(failed)?,
        };
        Model::new(symbols, weights, Box::new(lib))
    }
}
