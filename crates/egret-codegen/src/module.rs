//! A whole program into any Cranelift module: kernels, leaves, data, and the functions of the C ABI.

use cranelift_module::{DataId, FuncId, Linkage, Module};
use egret_loop::{Program, Weights};

use crate::abi::tables::Tables;
use crate::abi::{cpu, entry};
use crate::error::{CodegenError, Result, broken};
use crate::functions;
use crate::isa::Arch;
use crate::options::{Options, WeightsPlace};
use crate::output::Output;

/// Where embedded weights come from in a module.
pub(crate) enum WeightsData {
    /// Define the symbol without bytes: whoever finishes the module gives it a section.
    Define,
    /// Import them: whoever finishes the module resolves the symbol.
    Import,
}

/// The exported functions and data of a program.
pub(crate) struct Exports {
    pub plan: FuncId,
    pub shape: FuncId,
    pub bind: FuncId,
    pub run: FuncId,
    pub info: DataId,
    /// The embedded weights, if there are any.
    pub weights: Option<DataId>,
    /// BLAKE3 of the weights, wherever they are.
    pub weights_hash: [u8; 32],
}

/// Weights of fewer bytes are packed whole. Larger ones are packed piece by piece for their hash, and again to be written:
/// that takes longer and less memory.
const WHOLE: usize = 256 << 20;

/// Pack weights that are not large; whether they were.
pub(crate) fn pack_small(weights: &Weights, options: &Options) -> bool {
    let small = weights.len() < WHOLE;
    if small {
        weights.pack(options.threads);
    }
    small
}

/// The symbol of embedded weights.
pub(crate) fn weights_symbol(program: &Program) -> String {
    format!("{}_weights_data", program.name)
}

/// Write a program.
pub(crate) fn compile<M: Module>(
    module: &mut M,
    program: &Program,
    options: &Options,
    weights: WeightsData,
) -> Result<Exports> {
    egret_loop::verify::program(program).map_err(|e| broken(e.to_string()))?;
    let mut out = Output::new(module, program, options)?;
    let kernels = functions::kernels(&mut out)?;
    let weights = embedded_weights(&mut out, weights)?;
    let cpu = match options.target.arch() {
        Arch::X86_64 => {
            let signature = out.signature(0, true);
            Some(out.function_bytes(
                &out.symbol("cpu"),
                signature,
                &cpu::check_function(&options.target)?,
            )?)
        }
        Arch::Aarch64 => None,
    };
    let tables = Tables::define(&mut out, &kernels)?;
    let sizes = match &tables.sizes {
        Some(sizes) => Some(sizes.define(&mut out)?),
        None => None,
    };
    let plan = entry::plan(&mut out, &tables, sizes)?;
    let shape = entry::shape(&mut out, &tables, sizes)?;
    let bind = entry::bind(&mut out, &tables, cpu, weights)?;
    let run = entry::run(&mut out, &tables, sizes)?;
    Ok(Exports { plan, shape, bind, run, info: tables.info, weights, weights_hash: tables.weights_hash })
}

fn embedded_weights<M: Module>(out: &mut Output<'_, M>, data: WeightsData) -> Result<Option<DataId>> {
    if out.options.weights == WeightsPlace::External || out.program.weights.is_empty() {
        return Ok(None);
    }
    let name = weights_symbol(out.program);
    if matches!(data, WeightsData::Import) {
        return Ok(Some(out.module.declare_data(&name, Linkage::Import, false, false)?));
    }
    // Code reaches its data by 32-bit distances.
    if out.program.weights.len() > 1 << 30 {
        return Err(CodegenError::Unsupported(
            "the weights are larger than 1 GiB; keep them in a file of their own (--weights file)".into(),
        ));
    }
    let id = out.module.declare_data(&name, Linkage::Local, false, false)?;
    let mut description = cranelift_module::DataDescription::new();
    description.define(Box::default());
    out.module.define_data(id, &description)?;
    Ok(Some(id))
}
