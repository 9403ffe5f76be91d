//! Programs compiled into this process.

use cranelift_jit::{JITBuilder, JITModule};
use egret_loop::{Program, Weights};
use egret_runtime::abi::{ALIGN, BindFn, Info, PlanFn, RunFn, ShapeFn};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use crate::error::{CodegenError, Result};
use crate::isa::{Arch, Target, no_machine_code};
use crate::module::{self, WeightsData};
use crate::options::{Options, WeightsPlace};

/// A program in this process's memory, with the functions of the C ABI. Dropping it frees the code: no function of it may run
/// or be called later.
pub struct Jit {
    module: ManuallyDrop<JITModule>,
    /// The weights that `bind(NULL)` gives out.
    _weights: AlignedBytes,
    plan: PlanFn,
    shape: ShapeFn,
    bind: BindFn,
    run: RunFn,
    info: NonNull<Info>,
}

// SAFETY: the code and the data are never written after compilation, and the functions keep no state.
unsafe impl Send for Jit {}
// SAFETY: as above.
unsafe impl Sync for Jit {}

impl std::fmt::Debug for Jit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jit").finish_non_exhaustive()
    }
}

impl Jit {
    /// `<m>_plan`.
    pub fn plan(&self) -> PlanFn {
        self.plan
    }
    /// `<m>_shape`.
    pub fn shape(&self) -> ShapeFn {
        self.shape
    }
    /// `<m>_bind`.
    pub fn bind(&self) -> BindFn {
        self.bind
    }
    /// `<m>_run`.
    pub fn run(&self) -> RunFn {
        self.run
    }
    /// `<m>_info`.
    pub fn info(&self) -> &Info {
        // SAFETY: the module defined it as an `Info` and lives as long as self.
        unsafe { self.info.as_ref() }
    }
}

impl Drop for Jit {
    fn drop(&mut self) {
        // SAFETY: the module is not used again. That nobody calls its functions any more is the promise of `Jit`'s users, who
        // need `unsafe` to call one.
        unsafe { ManuallyDrop::take(&mut self.module).free_memory() }
    }
}

/// Bytes aligned as a weights payload.
struct AlignedBytes {
    data: NonNull<u8>,
    layout: Option<Layout>,
}

impl AlignedBytes {
    fn copy(weights: &Weights) -> AlignedBytes {
        let layout = Layout::from_size_align(weights.len(), ALIGN).ok().filter(|l| l.size() > 0);
        let Some(layout) = layout else {
            return AlignedBytes { data: NonNull::dangling(), layout: None };
        };
        // SAFETY: the size is not 0.
        let data = unsafe { alloc(layout) };
        let Some(data) = NonNull::new(data) else { handle_alloc_error(layout) };
        let mut done = 0;
        weights.each(|piece| {
            assert!(done + piece.len() <= layout.size(), "the weights are longer than their length");
            // SAFETY: both are valid for this many bytes, as was checked of the new one, which is nobody else's.
            unsafe { std::ptr::copy_nonoverlapping(piece.as_ptr(), data.as_ptr().add(done), piece.len()) };
            done += piece.len();
        });
        AlignedBytes { data, layout: Some(layout) }
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        if let Some(layout) = self.layout {
            // SAFETY: allocated by `copy` with this layout.
            unsafe { dealloc(self.data.as_ptr(), layout) }
        }
    }
}

/// Compile a program into this process.
///
/// # Errors
/// A target that is not this machine; what the code generator cannot do.
pub fn jit(program: &Program, options: &Options) -> Result<Jit> {
    if options.target.arch() == Arch::Wasm32 {
        return Err(no_machine_code());
    }
    let native = Target::native()?;
    let missing = options.target.features().iter().find(|f| !native.has(**f));
    let here = options.target.arch() == native.arch() && options.target.is_of_this_system();
    if !here || missing.is_some() {
        return Err(CodegenError::Target(format!(
            "code for `{}` cannot run on this machine",
            options.target
        )));
    }
    let mut builder =
        JITBuilder::with_isa(options.target.clif(false, true)?, cranelift_module::default_libcall_names());
    module::pack_small(&program.weights, options);
    let none = Weights::default();
    let embedded = if options.weights == WeightsPlace::Embedded { &program.weights } else { &none };
    let weights = AlignedBytes::copy(embedded);
    builder.symbol(module::weights_symbol(program), weights.data.as_ptr());
    let mut module = JITModule::new(builder);
    let compiled =
        module::compile(&mut module, program, options, WeightsData::Import).and_then(|exports| {
            module.finalize_definitions()?;
            Ok(exports)
        });
    let exports = match compiled {
        Ok(exports) => exports,
        Err(e) => {
            // SAFETY: nobody has seen a function of it.
            unsafe { module.free_memory() };
            return Err(e);
        }
    };
    let code = |id| module.get_finalized_function(id);
    // SAFETY: these functions were defined with the C ABI's signatures.
    let (plan, shape, bind, run) = unsafe {
        (
            std::mem::transmute::<*const u8, PlanFn>(code(exports.plan)),
            std::mem::transmute::<*const u8, ShapeFn>(code(exports.shape)),
            std::mem::transmute::<*const u8, BindFn>(code(exports.bind)),
            std::mem::transmute::<*const u8, RunFn>(code(exports.run)),
        )
    };
    let info = module.get_finalized_data(exports.info).0.cast_mut().cast::<Info>();
    let info = NonNull::new(info)
        .ok_or_else(|| CodegenError::Internal("the description has no address".into()))?;
    Ok(Jit { module: ManuallyDrop::new(module), _weights: weights, plan, shape, bind, run, info })
}
