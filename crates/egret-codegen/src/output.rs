//! Functions and symbols of a program on their way into a Cranelift module.

use cranelift::codegen::Context;
use cranelift::codegen::ir::{ExtFuncData, ExternalName, FuncRef, Function, UserExternalName};
use cranelift::codegen::isa::CallConv;
use cranelift::prelude::*;
use cranelift_module::{FuncId, Linkage, Module};
use egret_loop::Program;

use crate::error::{Result, broken};
use crate::isa::system::foreign;
use crate::options::Options;

/// Of all functions that only generated code calls, whatever the target's own: encoded leaves know the registers of this one. Others have that of
/// [`Output::foreign`].
const CALL_CONV: CallConv = CallConv::SystemV;

/// A signature with i64 parameters (pointers too) and, if `returns`, an i32 result.
pub(crate) fn signature(params: usize, returns: bool) -> Signature {
    let mut signature = Signature::new(CALL_CONV);
    signature.params = vec![AbiParam::new(types::I64); params];
    if returns {
        signature.returns.push(AbiParam::new(types::I32));
    }
    signature
}

/// A local function of a module in the code of another one, without the module: as `Module::declare_func_in_func`.
pub(crate) fn import(id: FuncId, params: usize, func: &mut Function) -> FuncRef {
    let signature = func.import_signature(signature(params, false));
    let name = func.declare_imported_user_function(UserExternalName { namespace: 0, index: id.as_u32() });
    let name = ExternalName::user(name);
    func.import_function(ExtFuncData { name, signature, colocated: true, patchable: false })
}

/// What the symbols of a level begin with: no name of another model, which is an identifier of C.
pub(crate) fn level_prefix(program: &Program, options: &Options) -> String {
    format!("{}.{}", program.name, options.isa().name.replace('-', "_"))
}

/// What is shared by everything that is written into a module.
pub(crate) struct Output<'m, M: Module> {
    pub module: &'m mut M,
    pub program: &'m Program,
    pub options: &'m Options,
    /// What the names of its symbols begin with.
    prefix: String,
    /// Of the functions and the data that the program is called by.
    pub linkage: Linkage,
    context: Context,
    functions: FunctionBuilderContext,
}

impl<'m, M: Module> Output<'m, M> {
    /// An output into a module, for a program.
    pub fn new(module: &'m mut M, program: &'m Program, options: &'m Options) -> Output<'m, M> {
        let context = module.make_context();
        let (prefix, linkage) = (program.name.clone(), Linkage::Export);
        Output {
            module,
            program,
            options,
            prefix,
            linkage,
            context,
            functions: FunctionBuilderContext::new(),
        }
    }

    /// As [`Output::new`], for one level of an artifact of several, which other objects of that artifact alone can call.
    pub fn level(module: &'m mut M, program: &'m Program, options: &'m Options) -> Output<'m, M> {
        let prefix = level_prefix(program, options);
        Output { prefix, linkage: Linkage::Hidden, ..Output::new(module, program, options) }
    }

    /// As [`signature`].
    pub fn signature(&self, params: usize, returns: bool) -> Signature {
        signature(params, returns)
    }

    /// The signature of a function that others call, or that others give: in the target's own convention.
    pub fn foreign(&self, signature: Signature) -> Signature {
        Signature { call_conv: foreign(self.module.isa().triple()), ..signature }
    }

    /// A symbol of this program.
    pub fn symbol(&self, name: &str) -> String {
        format!("{}_{name}", self.prefix)
    }

    /// Declare and define a function.
    pub fn function(
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
        let defined = self.module.define_function(id, &mut self.context);
        defined.map_err(|e| match e {
            // Cranelift's own text is only "Compilation error"; the function's name says where.
            cranelift_module::ModuleError::Compilation(e) => broken(format!("{name}: {e:?}")),
            other => other.into(),
        })?;
        Ok(id)
    }

    /// Declare and define a function from its machine code.
    pub fn function_bytes(&mut self, name: &str, signature: Signature, bytes: &[u8]) -> Result<FuncId> {
        let id = self.module.declare_function(name, Linkage::Local, &signature)?;
        self.module.define_function_bytes(id, 64, bytes, &[])?;
        Ok(id)
    }
}
