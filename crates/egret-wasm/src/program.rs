//! A program as a module: a function for each kernel and each distinct tile, and the one that runs the calls.

use egret_loop::conditions::Conditions;
use egret_loop::leaves::{self, LeafKey, leaf_key};
use egret_loop::{BASE_VECTOR_BYTES, Kernel, Program, flow, narrow, verify};
use std::collections::HashMap;
use wasm_encoder::{
    CodeSection, ConstExpr, DataSection, ExportKind, ExportSection, Function, FunctionSection,
    GlobalSection, GlobalType, MemorySection, MemoryType, Module, NameMap, NameSection, TypeSection,
    ValType,
};

use crate::error::{Result, WasmError, broken};
use crate::layout::{FAILURE, Layout};
use crate::plan::Planning;
use crate::run::{Run, Spots};
use crate::sizes::Sizes;
use crate::{kernel, tile};

/// A program as a module: see the [crate]. Equal programs give equal bytes.
///
/// # Errors
/// More memory than 32 bits address; a program that breaks a rule of Loop IR.
pub fn module(program: &Program) -> Result<Vec<u8>> {
    verify::program(program).and_then(|()| flow::steps(program)).map_err(|e| broken(e.to_string()))?;
    let mut layout = Layout::of(program)?;
    let spots = Spots::of(program, &mut layout)?;
    let (sizes, pages) = layout.finish()?;
    let conditions = Conditions::of(program);
    let planning = match &layout.planned {
        Some(planned) => {
            let sizes = Sizes::new(program, &sizes, planned.values, &conditions)?;
            Some(Planning { program, layout: &layout, planned, sizes })
        }
        None => None,
    };
    let mut functions = Functions::default();
    let kernels = functions.kernels(program)?;
    let run = Run {
        program,
        spots: &spots,
        planning: planning.as_ref(),
        kernels: &kernels,
        conditions: &conditions,
    };
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    let mut export = |what: &str, params: &[ValType], function: Function| {
        let name = format!("{}_{what}", program.name);
        let number = functions.add(name.clone(), params, true, function);
        exports.export(&name, ExportKind::Func, number);
    };
    export("run", &[], run.function()?);
    if let Some(planning) = &planning {
        export("plan", &vec![ValType::I32; program.symbols.len()], planning.function()?);
    }
    exports.export(&format!("{}_info", program.name), ExportKind::Global, 0);
    exports.export(&format!("{}_info_bytes", program.name), ExportKind::Global, 1);
    let mut memory = MemorySection::new();
    memory.memory(MemoryType {
        minimum: pages,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut globals = GlobalSection::new();
    for value in [layout.info.0, layout.info.1] {
        let ty = GlobalType { val_type: ValType::I32, mutable: false, shared: false };
        globals.global(ty, &ConstExpr::i32_const(value as i32));
    }
    let mut data = DataSection::new();
    for (at, bytes) in &layout.data {
        data.active(0, &ConstExpr::i32_const(*at as i32), bytes.iter().copied());
    }
    let mut module = Module::new();
    module.section(&functions.types).section(&functions.functions).section(&memory).section(&globals);
    module.section(&exports).section(&functions.code).section(&data);
    let mut names = NameSection::new();
    names.module(&program.name);
    names.functions(&functions.names);
    module.section(&names);
    Ok(module.finish())
}

/// The functions of a module while they are written.
#[derive(Default)]
struct Functions {
    types: TypeSection,
    /// Their numbers, by parameters and whether there is a result.
    signatures: HashMap<(Vec<ValType>, bool), u32>,
    functions: FunctionSection,
    code: CodeSection,
    names: NameMap,
}

impl Functions {
    /// Add a function of such parameters, which may give an i32; its number.
    fn add(&mut self, name: String, params: &[ValType], returns: bool, function: Function) -> u32 {
        let ty = *self.signatures.entry((params.to_vec(), returns)).or_insert_with(|| {
            let results = if returns { &[ValType::I32][..] } else { &[] };
            self.types.ty().function(params.iter().copied(), results.iter().copied());
            self.types.len() - 1
        });
        self.functions.function(ty);
        self.code.function(&function);
        let number = self.functions.len() - 1;
        self.names.append(number, &name);
        number
    }

    /// Add those of all kernels and of their tiles, of which those share one that differ only in where their operands are; the numbers of the
    /// kernels', and whether each takes the number of its tasks, as an i64 behind the addresses.
    fn kernels(&mut self, program: &Program) -> Result<Vec<(u32, bool)>> {
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
                        let number =
                            self.add(name, &vec![ValType::I32; tile.places().count()], false, function);
                        leaves.insert(key, number);
                        number
                    }
                });
            }
            let counted = program.calls.iter().any(|c| c.kernel.0 as usize == i && c.tasks.is_some());
            let mut params = vec![ValType::I32; kernel.params.len()];
            params.extend(counted.then_some(ValType::I64));
            let function =
                kernel::function(&narrowed, &params, &called, FAILURE).map_err(|e| within(kernel, e))?;
            let name = format!("k{i}_{}", kernel.name);
            numbers.push((self.add(name, &params, kernel.can_fail(), function), counted));
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
