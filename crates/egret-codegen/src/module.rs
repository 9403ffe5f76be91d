//! A whole program into any Cranelift module: kernels, leaves, data, and the functions of the C ABI.

use cranelift_module::{DataId, FuncId, Linkage, Module};
use egret_loop::{Program, Weights};

use crate::abi::entry::{self, Level};
use crate::abi::tables::{self, About, Tables};
use crate::abi::{cpu, levels};
use crate::error::{CodegenError, Result, broken};
use crate::functions;
use crate::isa::{Arch, Target, riscv64};
use crate::options::{Options, WeightsPlace};
use crate::output::{Output, level_prefix};

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
    fits(program, options, &weights)?;
    compile_hashed(module, program, options, weights, tables::hash(&program.weights))
}

/// As [`compile`], where the hash of the weights is known.
pub(crate) fn compile_hashed<M: Module>(
    module: &mut M,
    program: &Program,
    options: &Options,
    weights: WeightsData,
    hash: [u8; 32],
) -> Result<Exports> {
    let mut out = Output::new(module, program, options);
    let Written { tables, sizes, plan, run } = written(&mut out, hash)?;
    let weights = embedded_weights(&mut out, weights)?;
    let cpu = cpu(&mut out, "cpu", &options.target)?;
    let shape = entry::shape(&mut out, &tables, sizes)?;
    let bind = entry::bind(&mut out, &tables, &[Level { cpu, info: tables.info }], weights)?;
    Ok(Exports { plan, shape, bind, run, info: tables.info, weights, weights_hash: hash })
}

/// Write a program that is one level of an artifact of several: what its front calls. The module is for the lowest level. `hash` is that of the weights, which all levels share.
pub(crate) fn compile_level<M: Module>(
    module: &mut M,
    program: &Program,
    options: &Options,
    hash: [u8; 32],
) -> Result<()> {
    written(&mut Output::level(module, program, options), hash).map(drop)
}

/// Write the front of an artifact of several levels: the functions and the data that callers see. `front` is a program without calls that
/// has the ports, sizes, conditions and weights; `levels` are the options of the levels, lowest first.
pub(crate) fn compile_front<M: Module>(
    module: &mut M,
    front: &Program,
    levels: &[Options],
) -> Result<(Option<DataId>, [u8; 32])> {
    let lowest = levels.first().ok_or_else(|| broken("an artifact without levels"))?;
    fits(front, lowest, &WeightsData::Define)?;
    let mut out = Output::new(module, front, lowest);
    let hash = tables::hash(&front.weights);
    let weights = embedded_weights(&mut out, WeightsData::Define)?;
    let mut bound = vec![];
    for level in levels {
        let cpu = cpu(&mut out, &format!("cpu_{}", level.isa().name.replace('-', "_")), &level.target)?;
        let info = format!("{}_info", level_prefix(front, level));
        let info = out.module.declare_data(&info, Linkage::Import, false, false)?;
        bound.push(Level { cpu, info });
    }
    let infos: Vec<DataId> = bound.iter().map(|level| level.info).collect();
    let join = |words: Vec<String>, by: &str| words.join(by);
    let about = About {
        isa: join(levels.iter().map(|l| l.isa().name.to_owned()).collect(), ","),
        target: join(levels.iter().map(|l| l.target.to_string()).collect(), "; "),
        levels: &infos,
    };
    let tables = Tables::define(&mut out, &[], &about, hash)?;
    let sizes = tables.sizes.as_ref().map(|sizes| sizes.define(&mut out)).transpose()?;
    let prefixes: Vec<String> = levels.iter().map(|l| level_prefix(front, l)).collect();
    levels::plan(&mut out, &tables, &prefixes)?;
    entry::shape(&mut out, &tables, sizes)?;
    entry::bind(&mut out, &tables, &bound, weights)?;
    levels::run(&mut out, &prefixes, &infos)?;
    Ok((weights, hash))
}

/// What every program becomes.
struct Written {
    tables: Tables,
    sizes: Option<FuncId>,
    plan: FuncId,
    run: FuncId,
}

fn written<M: Module>(out: &mut Output<'_, M>, hash: [u8; 32]) -> Result<Written> {
    egret_loop::verify::program(out.program).map_err(|e| broken(e.to_string()))?;
    let kernels = functions::kernels(out)?;
    let tables = Tables::define(out, &kernels, &About::one(out.options), hash)?;
    let sizes = tables.sizes.as_ref().map(|sizes| sizes.define(out)).transpose()?;
    let plan = entry::plan(out, &tables, sizes)?;
    let run = entry::run(out, &tables, sizes)?;
    Ok(Written { tables, sizes, plan, run })
}

/// The function that asks the CPU for what code of a target needs, where there is a question.
fn cpu<M: Module>(out: &mut Output<'_, M>, name: &str, target: &Target) -> Result<Option<FuncId>> {
    match target.arch() {
        Arch::X86_64 => {
            let signature = out.signature(0, true);
            let code = cpu::check_function(target)?;
            out.function_bytes(&out.symbol(name), signature, &code).map(Some)
        }
        Arch::Riscv64 => {
            let signature = out.signature(0, true);
            out.function_bytes(&out.symbol(name), signature, &riscv64::check_function()).map(Some)
        }
        Arch::Aarch64 | Arch::Wasm32 => Ok(None),
    }
}

/// Whether a program's weights are among its code.
fn embeds(program: &Program, options: &Options) -> bool {
    options.weights != WeightsPlace::External && !program.weights.is_empty()
}

/// Whether weights that are defined with the code can be reached from it: asked before they are packed, which takes long for such as cannot.
fn fits(program: &Program, options: &Options, data: &WeightsData) -> Result<()> {
    // Code reaches its data by 32-bit distances.
    let far = embeds(program, options) && program.weights.len() > 1 << 30;
    if far && matches!(data, WeightsData::Define) {
        return Err(CodegenError::Unsupported(
            "the weights are larger than 1 GiB; compile a library (--emit lib) that keeps them in a file of their own (--weights file)"
                .into(),
        ));
    }
    Ok(())
}

fn embedded_weights<M: Module>(out: &mut Output<'_, M>, data: WeightsData) -> Result<Option<DataId>> {
    if !embeds(out.program, out.options) {
        return Ok(None);
    }
    let name = weights_symbol(out.program);
    if matches!(data, WeightsData::Import) {
        return Ok(Some(out.module.declare_data(&name, Linkage::Import, false, false)?));
    }
    let id = out.module.declare_data(&name, Linkage::Local, false, false)?;
    let mut description = cranelift_module::DataDescription::new();
    description.define(Box::default());
    out.module.define_data(id, &description)?;
    Ok(Some(id))
}
