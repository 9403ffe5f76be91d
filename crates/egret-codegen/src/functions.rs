//! The functions of kernels and of their tiles. Each is compiled on its own, on all threads; then they are defined in order, so
//! that an artifact's bytes do not depend on the threads.

use cranelift::codegen::Context;
use cranelift::codegen::binemit::Reloc;
use cranelift::codegen::ir::Function;
use cranelift::codegen::isa::TargetIsa;
use cranelift::prelude::*;
use cranelift_module::{FuncId, Linkage, Module, ModuleReloc};
use egret_loop::leaves::{self, LeafKey, leaf_key};
use egret_loop::{BASE_VECTOR_BYTES, Kernel, Tile, narrow};
use std::collections::HashMap;

use crate::clif::{kernel, tile};
use crate::code::{Code, CodeCache};
use crate::encode::{encode, encode_kernel, in_kernel};
use crate::error::{Result, broken};
use crate::isa::Encoded;
use crate::keys::Keys;
use crate::options::Options;
use crate::output::{Output, import, signature};

/// Parameters of a kernel's function, and of a leaf's.
const KERNEL_PARAMS: usize = 3;
const LEAF_PARAMS: usize = 4;

/// Encoded functions, and those that keep the order of their instructions, begin at a cache line.
const LINE: u64 = 64;

/// Compile and define the functions of all kernels.
pub(crate) fn kernels<M: Module>(out: &mut Output<'_, M>) -> Result<Vec<FuncId>> {
    let (jobs, ids) = declare(out)?;
    // The module may be for a lower level than the kernels are.
    let clif = |optimize| out.options.target.clif(out.module.isa().flags().is_pic(), optimize);
    let (optimized, unoptimized) = (clif(true)?, clif(false)?);
    let keys = || Keys::new(out.options, [&*optimized, &*unoptimized]);
    let cache = out.options.cache.as_deref().map(|cache| (cache, keys()));
    let compiler =
        Compiler { options: out.options, cache, optimized: &*optimized, unoptimized: &*unoptimized };
    let codes = egret_threads::map(&jobs, out.options.threads, |job| compiler.code(job));
    for (i, (job, code)) in jobs.iter().zip(codes).enumerate() {
        let mut code = code?;
        // Behind the last the first one: that of the next run.
        let next = jobs.get(i + 1).or(jobs.first());
        code.relocs.extend(code.next.zip(next).map(|(offset, next)| ModuleReloc {
            offset: offset as u32,
            kind: Reloc::X86PCRel4,
            name: next.id.into(),
            addend: -4,
        }));
        out.module.define_function_bytes(job.id, code.align, &code.bytes, &code.relocs)?;
    }
    Ok(ids)
}

/// A function to compile.
struct Job<'p> {
    id: FuncId,
    name: String,
    /// The kernel that it is of.
    kernel: &'p Kernel,
    what: What<'p>,
}

enum What<'p> {
    /// The kernel itself, which calls these functions for its tiles.
    Kernel(Vec<FuncId>),
    /// A tile of it; tiles that differ only in where their operands are share the function of the first.
    Leaf(&'p Tile),
}

/// Declare all functions, in the order in which they are defined; and those of the kernels.
fn declare<'p, M: Module>(out: &mut Output<'p, M>) -> Result<(Vec<Job<'p>>, Vec<FuncId>)> {
    let (mut jobs, mut ids) = (vec![], vec![]);
    // Asked, never gone through: its order does not matter.
    let mut leaves: HashMap<LeafKey, FuncId> = HashMap::new();
    let program = out.program;
    for (i, kernel) in program.kernels.iter().enumerate() {
        let mut called = vec![];
        for tile in leaves::tiles(kernel) {
            let key = leaf_key(tile, &kernel.params);
            let known = leaves.get(&key).copied();
            called.push(match known {
                Some(id) => id,
                None => {
                    let name = out.symbol(&format!("leaf{}", leaves.len()));
                    let id = out.module.declare_function(
                        &name,
                        Linkage::Local,
                        &signature(LEAF_PARAMS, false),
                    )?;
                    jobs.push(Job { id, name, kernel, what: What::Leaf(tile) });
                    leaves.insert(key, id);
                    id
                }
            });
        }
        let name = out.symbol(&format!("k{i}_{}", kernel.name));
        let id = out.module.declare_function(&name, Linkage::Local, &signature(KERNEL_PARAMS, false))?;
        jobs.push(Job { id, name, kernel, what: What::Kernel(called) });
        ids.push(id);
    }
    Ok((jobs, ids))
}

/// What compiles functions, on any thread.
struct Compiler<'a> {
    options: &'a Options,
    /// What has machine code of earlier compilations, and its keys.
    cache: Option<(&'a dyn CodeCache, Keys)>,
    /// The target of the kernels.
    optimized: &'a dyn TargetIsa,
    /// It without the optimiser.
    unoptimized: &'a dyn TargetIsa,
}

impl Compiler<'_> {
    /// The code of a function: that of an earlier compilation where there is a cache that has it.
    fn code(&self, job: &Job<'_>) -> Result<Code> {
        let Some((cache, keys)) = &self.cache else { return self.compiled(job) };
        let (key, leaves) = match &job.what {
            What::Kernel(leaves) => (keys.kernel(job.kernel), &leaves[..]),
            What::Leaf(tile) => (keys.leaf(job.kernel, tile), &[][..]),
        };
        if let Some(code) = cache.get(&key).and_then(|bytes| Code::from_bytes(&bytes, job.id, leaves)) {
            return Ok(code);
        }
        let code = self.compiled(job)?;
        if let Some(bytes) = code.to_bytes(leaves) {
            cache.insert(&key, &bytes);
        }
        Ok(code)
    }

    fn compiled(&self, job: &Job<'_>) -> Result<Code> {
        match &job.what {
            What::Kernel(leaves) => self.kernel(job, leaves),
            What::Leaf(tile) => self.leaf(job, tile),
        }
    }

    fn leaf(&self, job: &Job<'_>, tile: &Tile) -> Result<Code> {
        let (params, target) = (&job.kernel.params, &self.options.target);
        let encoder = target.isa(self.options.wide).encode_tile;
        if let Ok(encoded) = encode(encoder, tile, params).map_err(|e| in_kernel(job.kernel, e))? {
            return encoded_code(job, encoded, &[]);
        }
        // The tile's own order of instructions is the best there is.
        let code = self.compile(self.unoptimized, job, LEAF_PARAMS, |builder| {
            tile::emit(tile, params, target, builder)
        })?;
        Ok(Code { align: code.align.max(LINE), ..code })
    }

    fn kernel(&self, job: &Job<'_>, leaves: &[FuncId]) -> Result<Code> {
        if let Some(Ok(encoded)) =
            encode_kernel(self.options, job.kernel).map_err(|e| in_kernel(job.kernel, e))?
        {
            return encoded_code(job, encoded, leaves);
        }
        // Cranelift has vectors of 16 bytes.
        let narrowed = narrow::narrow(job.kernel, BASE_VECTOR_BYTES).map_err(|e| broken(e.to_string()));
        let narrowed = narrowed.map_err(|e| in_kernel(job.kernel, e))?;
        self.compile(self.optimized, job, KERNEL_PARAMS, |builder| {
            let leaves = leaves.iter().map(|id| import(*id, LEAF_PARAMS, builder.func)).collect();
            kernel::emit(&narrowed, &self.options.target, builder, leaves)
        })
    }

    /// A function through Cranelift.
    fn compile(
        &self,
        isa: &dyn TargetIsa,
        job: &Job<'_>,
        params: usize,
        write: impl FnOnce(&mut FunctionBuilder<'_>) -> Result<()>,
    ) -> Result<Code> {
        let name = cranelift::codegen::ir::UserFuncName::user(0, job.id.as_u32());
        let mut context =
            Context::for_function(Function::with_name_signature(name, signature(params, false)));
        let mut functions = FunctionBuilderContext::new();
        let mut builder = FunctionBuilder::new(&mut context.func, &mut functions);
        write(&mut builder).map_err(|e| in_kernel(job.kernel, e))?;
        builder.finalize(isa.frontend_config());
        let compiled = context.compile(isa, &mut Default::default());
        // Cranelift's own text is only "Compilation error"; the function's name says where.
        let buffer = compiled.map_err(|e| broken(format!("{}: {:?}", job.name, e.inner)))?.buffer.clone();
        let (bytes, align) = (buffer.data().to_vec(), u64::from(buffer.alignment));
        let relocs = buffer.relocs().iter();
        let relocs = relocs.map(|r| ModuleReloc::from_mach_reloc(r, &context.func, job.id)).collect();
        Ok(Code { bytes, align, relocs, next: None })
    }
}

/// A function from its machine code, which calls leaves.
fn encoded_code(job: &Job<'_>, encoded: Encoded, leaves: &[FuncId]) -> Result<Code> {
    let relocs = encoded.calls.iter().map(|&(offset, leaf)| {
        let leaf = leaves.get(leaf).ok_or_else(|| broken(format!("{} calls what is no leaf", job.name)))?;
        let (kind, addend) = (Reloc::X86CallPCRel4, -4);
        Ok(ModuleReloc { offset: offset as u32, kind, name: (*leaf).into(), addend })
    });
    Ok(Code {
        relocs: relocs.collect::<Result<_>>()?,
        bytes: encoded.bytes,
        align: LINE,
        next: encoded.next,
    })
}
