//! A program as a module: a function for each kernel and each distinct tile, and the one that runs the calls.

use egret_loop::leaves::{self, LeafKey, leaf_key};
use egret_loop::{Arg, BASE_VECTOR_BYTES, Guard, Kernel, Program, flow, narrow, verify};
use std::collections::HashMap;
use std::iter::Peekable;
use std::ops::Range;
use wasm_encoder::Instruction as I;
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, DataSection, ExportKind, ExportSection, Function, FunctionSection,
    GlobalSection, GlobalType, MemorySection, MemoryType, Module, NameMap, NameSection, TypeSection,
    ValType,
};

use crate::error::{Result, WasmError, broken, unsupported};
use crate::layout::{FAILURE, Layout};
use crate::writer::{Address, Writer};
use crate::{kernel, tile};

/// A program as a module: see the [crate]. Equal programs give equal bytes.
///
/// # Errors
/// Dims that are free or that data decides, bound inputs, more memory than 32 bits address; a program that breaks a rule of Loop IR.
pub fn module(program: &Program) -> Result<Vec<u8>> {
    takes(program)?;
    verify::program(program).and_then(|()| flow::steps(program)).map_err(|e| broken(e.to_string()))?;
    let layout = Layout::of(program)?;
    let mut functions = Functions::default();
    let kernels = functions.kernels(program)?;
    let run = functions.add(format!("{}_run", program.name), 0, true, run(program, &layout, &kernels)?);
    let mut memory = MemorySection::new();
    memory.memory(MemoryType {
        minimum: layout.pages,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut globals = GlobalSection::new();
    let (info_at, info) = &layout.info;
    for value in [*info_at, info.len() as u32] {
        let ty = GlobalType { val_type: ValType::I32, mutable: false, shared: false };
        globals.global(ty, &ConstExpr::i32_const(value as i32));
    }
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    exports.export(&format!("{}_run", program.name), ExportKind::Func, run);
    exports.export(&format!("{}_info", program.name), ExportKind::Global, 0);
    exports.export(&format!("{}_info_bytes", program.name), ExportKind::Global, 1);
    let mut data = DataSection::new();
    let weights: &[u8] = &program.weights;
    if !weights.is_empty() {
        data.active(0, &ConstExpr::i32_const(layout.weights.at as i32), weights.iter().copied());
    }
    data.active(0, &ConstExpr::i32_const(*info_at as i32), info.bytes());
    let mut module = Module::new();
    module.section(&functions.types).section(&functions.functions).section(&memory).section(&globals);
    module.section(&exports).section(&functions.code).section(&data);
    let mut names = NameSection::new();
    names.module(&program.name);
    names.functions(&functions.names);
    module.section(&names);
    Ok(module.finish())
}

/// Refuses what modules do not do.
fn takes(program: &Program) -> Result<()> {
    if let Some(symbol) = program.symbols.first() {
        return Err(unsupported(format!(
            "a WebAssembly module has fixed dims, and `{0}` is free; give it a number (--dim {0}=N, or --shape)",
            symbol.name
        )));
    }
    if let Some(length) = program.lengths.first() {
        return Err(unsupported(format!(
            "a WebAssembly module has fixed dims, and data decides `{}` of this model",
            length.name
        )));
    }
    if let Some(port) = program.inputs.iter().find(|p| p.bound.is_some()) {
        return Err(unsupported(format!(
            "a WebAssembly module takes no bound inputs yet, and `{}` is one",
            port.name
        )));
    }
    let told = program.calls.iter().any(|c| c.repeat.is_some() || c.tasks.is_some() || !c.needs.is_empty());
    if told || !program.sizes.is_empty() {
        return Err(unsupported(
            "a WebAssembly module has fixed dims, and a run tells a size of this model",
        ));
    }
    Ok(())
}

/// The functions of a module while they are written.
#[derive(Default)]
struct Functions {
    types: TypeSection,
    /// Their numbers, by parameters and whether there is a result.
    signatures: HashMap<(usize, bool), u32>,
    functions: FunctionSection,
    code: CodeSection,
    names: NameMap,
}

impl Functions {
    /// Add a function of so many i32, which may give one; its number.
    fn add(&mut self, name: String, params: usize, returns: bool, function: Function) -> u32 {
        let ty = *self.signatures.entry((params, returns)).or_insert_with(|| {
            let results = if returns { &[ValType::I32][..] } else { &[] };
            self.types.ty().function(vec![ValType::I32; params], results.iter().copied());
            self.types.len() - 1
        });
        self.functions.function(ty);
        self.code.function(&function);
        let number = self.functions.len() - 1;
        self.names.append(number, &name);
        number
    }

    /// Add those of all kernels and of their tiles, of which those share one that differ only in where their operands are; the numbers of the kernels'.
    fn kernels(&mut self, program: &Program) -> Result<Vec<u32>> {
        let mut numbers = vec![];
        // Asked, never gone through: its order does not matter.
        let mut leaves: HashMap<LeafKey, u32> = HashMap::new();
        for (i, kernel) in program.kernels.iter().enumerate() {
            let narrowed = narrow::narrow(kernel, BASE_VECTOR_BYTES).map_err(|e| broken(e.to_string()));
            let narrowed = narrowed.map_err(|e| within(kernel, e))?;
            let mut called = vec![];
            for tile in leaves::tiles(&narrowed) {
                let key = leaf_key(tile, &kernel.params);
                let known = leaves.get(&key).copied();
                called.push(match known {
                    Some(number) => number,
                    None => {
                        let function =
                            tile::function(tile, &kernel.params).map_err(|e| within(kernel, e))?;
                        let name = format!("leaf{}", leaves.len());
                        let number = self.add(name, tile.places().count(), false, function);
                        leaves.insert(key, number);
                        number
                    }
                });
            }
            let function = kernel::function(&narrowed, &called, FAILURE).map_err(|e| within(kernel, e))?;
            let name = format!("k{i}_{}", kernel.name);
            numbers.push(self.add(name, kernel.params.len(), kernel.can_fail(), function));
        }
        Ok(numbers)
    }
}

/// An error with the kernel that it is of.
fn within(kernel: &Kernel, e: WasmError) -> WasmError {
    let told = |m: String| format!("kernel {}: {m}", kernel.name);
    match e {
        WasmError::Unsupported(m) => WasmError::Unsupported(told(m)),
        WasmError::Internal(m) => WasmError::Internal(told(m)),
    }
}

/// The function that runs all calls in order: 0, or 1 where a kernel has failed.
fn run(program: &Program, layout: &Layout, kernels: &[u32]) -> Result<Function> {
    let (w, _) = Writer::new(&[]);
    let mut run = Run { w, program, layout, kernels };
    // An outer guard begins before an inner one, or ends behind it; they are nested or disjoint: `flow` has looked.
    let mut guards: Vec<&Guard> = program.guards.iter().collect();
    guards.sort_by_key(|g| (g.calls.start, std::cmp::Reverse(g.calls.end)));
    run.calls(&mut guards.into_iter().peekable(), 0..program.calls.len())?;
    run.w.put(&I::I32Const(0));
    Ok(run.w.finish())
}

struct Run<'p> {
    w: Writer,
    program: &'p Program,
    layout: &'p Layout,
    kernels: &'p [u32],
}

impl Run<'_> {
    fn calls<'g>(
        &mut self,
        guards: &mut Peekable<impl Iterator<Item = &'g Guard>>,
        calls: Range<usize>,
    ) -> Result<()> {
        let mut at = calls.start;
        while at < calls.end {
            let Some(guard) = guards.next_if(|g| g.calls.start == at) else {
                self.call(at)?;
                at += 1;
                continue;
            };
            // A block to be left where the condition does not hold, and, to be run again, a loop in it.
            self.w.put(&I::Block(BlockType::Empty));
            self.w.put(&I::Loop(BlockType::Empty));
            let cond = self.address(&guard.cond)?;
            let cond = self.w.load(ValType::I32, I::I32Load8U, Address { base: None, offset: cond });
            self.w.get(cond);
            if guard.holds {
                self.w.put(&I::I32Eqz);
            }
            self.w.put(&I::BrIf(1));
            self.calls(guards, guard.calls.clone())?;
            if guard.repeats {
                self.w.put(&I::Br(0));
            }
            [I::End, I::End].iter().for_each(|i| self.w.put(i));
            at = guard.calls.end;
        }
        Ok(())
    }

    fn address(&self, arg: &Arg) -> Result<u32> {
        let buffer = self.program.buffers.get(arg.buffer.0 as usize);
        let buffer = buffer.ok_or_else(|| broken(format!("there is no {}", arg.buffer)))?;
        let offset = u32::try_from(arg.offset * buffer.elem.size()).ok();
        let at = self.layout.address(buffer.storage)?;
        offset.and_then(|o| at.checked_add(o)).ok_or_else(|| broken("an argument outside of memory"))
    }

    fn call(&mut self, at: usize) -> Result<()> {
        let call = &self.program.calls[at];
        for arg in &call.args {
            let address = self.address(arg)?;
            self.w.put(&I::I32Const(address as i32));
        }
        let number = call.kernel.0 as usize;
        let (Some(kernel), Some(function)) = (self.program.kernels.get(number), self.kernels.get(number))
        else {
            return Err(broken(format!("there is no {}", call.kernel)));
        };
        self.w.put(&I::Call(*function));
        if kernel.can_fail() {
            self.w.put(&I::If(BlockType::Empty));
            [I::I32Const(1), I::Return, I::End].iter().for_each(|i| self.w.put(i));
        }
        Ok(())
    }
}
