//! Functions and symbols of a program on their way into a Cranelift module.

use cranelift::codegen::Context;
use cranelift::codegen::binemit::Reloc;
use cranelift::codegen::ir::Function;
use cranelift::codegen::isa::{CallConv, OwnedTargetIsa};
use cranelift::prelude::*;
use cranelift_module::{FuncId, Linkage, Module, ModuleReloc};
use egret_loop::Program;

use crate::error::{Result, broken};
use crate::isa::Encoded;
use crate::options::Options;

/// Of all functions, whatever the target's own: encoded leaves know the registers of this one. [`Target::parse`] refuses
/// targets on which the exported functions could not be called.
///
/// [`Target::parse`]: crate::Target::parse
const CALL_CONV: CallConv = CallConv::SystemV;

/// What is shared by everything that is written into a module.
pub(crate) struct Output<'m, M: Module> {
    pub module: &'m mut M,
    pub program: &'m Program,
    pub options: &'m Options,
    /// The target without the optimiser.
    unoptimized: OwnedTargetIsa,
    context: Context,
    functions: FunctionBuilderContext,
}

impl<'m, M: Module> Output<'m, M> {
    /// An output into a module, for a program.
    pub fn new(module: &'m mut M, program: &'m Program, options: &'m Options) -> Result<Output<'m, M>> {
        let context = module.make_context();
        let unoptimized = options.target.clif(module.isa().flags().is_pic(), false)?;
        Ok(Output {
            module,
            program,
            options,
            unoptimized,
            context,
            functions: FunctionBuilderContext::new(),
        })
    }

    /// A signature with i64 parameters (pointers too) and, if `returns`, an i32 result.
    pub fn signature(&self, params: usize, returns: bool) -> Signature {
        let mut signature = Signature::new(CALL_CONV);
        signature.params = vec![AbiParam::new(types::I64); params];
        if returns {
            signature.returns.push(AbiParam::new(types::I32));
        }
        signature
    }

    /// A symbol of this program.
    pub fn symbol(&self, name: &str) -> String {
        format!("{}_{name}", self.program.name)
    }

    /// Declare and define a function.
    pub fn function(
        &mut self,
        name: &str,
        linkage: Linkage,
        signature: Signature,
        write: impl FnOnce(&mut FunctionBuilder<'_>, &mut M) -> Result<()>,
    ) -> Result<FuncId> {
        let id = self.write_function(name, linkage, signature, write)?;
        let defined = self.module.define_function(id, &mut self.context);
        defined.map_err(|e| match e {
            // Cranelift's own text is only "Compilation error"; the function's name says where.
            cranelift_module::ModuleError::Compilation(e) => broken(format!("{name}: {e:?}")),
            other => other.into(),
        })?;
        Ok(id)
    }

    /// As [`Output::function`], local, with the instructions in the order in which they are written.
    pub fn function_as_written(
        &mut self,
        name: &str,
        signature: Signature,
        write: impl FnOnce(&mut FunctionBuilder<'_>, &mut M) -> Result<()>,
    ) -> Result<FuncId> {
        let id = self.write_function(name, Linkage::Local, signature, write)?;
        let compiled = self.context.compile(&*self.unoptimized, &mut Default::default());
        let buffer = &compiled.map_err(|e| broken(format!("{name}: {:?}", e.inner)))?.buffer;
        let (bytes, align) = (buffer.data().to_vec(), u64::from(buffer.alignment).max(64));
        let relocs: Vec<_> = buffer.relocs().to_vec();
        let relocs: Vec<_> =
            relocs.iter().map(|r| ModuleReloc::from_mach_reloc(r, &self.context.func, id)).collect();
        self.module.define_function_bytes(id, align, &bytes, &relocs)?;
        Ok(id)
    }

    /// Declare a function and write it into the context.
    fn write_function(
        &mut self,
        name: &str,
        linkage: Linkage,
        signature: Signature,
        write: impl FnOnce(&mut FunctionBuilder<'_>, &mut M) -> Result<()>,
    ) -> Result<FuncId> {
        let id = self.module.declare_function(name, linkage, &signature)?;
        self.module.clear_context(&mut self.context);
        self.context.func = Function::with_name_signature(
            cranelift::codegen::ir::UserFuncName::user(0, id.as_u32()),
            signature,
        );
        let mut builder = FunctionBuilder::new(&mut self.context.func, &mut self.functions);
        write(&mut builder, self.module)?;
        builder.finalize(self.module.target_config());
        Ok(id)
    }

    /// Declare and define a function from its machine code, which calls leaves.
    pub fn function_encoded(
        &mut self,
        name: &str,
        signature: Signature,
        encoded: &Encoded,
        leaves: &[FuncId],
    ) -> Result<FuncId> {
        let id = self.module.declare_function(name, Linkage::Local, &signature)?;
        let relocs = encoded.calls.iter().map(|&(offset, leaf)| {
            let leaf = *leaves.get(leaf).ok_or_else(|| broken(format!("{name} calls what is no leaf")))?;
            let (kind, addend) = (Reloc::X86CallPCRel4, -4);
            Ok(ModuleReloc { offset: offset as u32, kind, name: leaf.into(), addend })
        });
        let relocs: Vec<ModuleReloc> = relocs.collect::<Result<_>>()?;
        self.module.define_function_bytes(id, 64, &encoded.bytes, &relocs)?;
        Ok(id)
    }

    /// Declare and define a function from its machine code.
    pub fn function_bytes(&mut self, name: &str, signature: Signature, bytes: &[u8]) -> Result<FuncId> {
        let id = self.module.declare_function(name, Linkage::Local, &signature)?;
        self.module.define_function_bytes(id, 64, bytes, &[])?;
        Ok(id)
    }
}
