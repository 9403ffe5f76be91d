//! [`BorrowedEnv`]: the services that a run may use, with the lifetime of whoever offers them.

use crate::abi::{Env, ProfileFn};
use std::ffi::c_void;
use std::marker::PhantomData;

/// Where a kernel is when a profile is told of it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is about to run.
    Begin,
    /// It has run.
    End,
}

/// Services for a run: threads ([`crate::Pool::env`]), a profile ([`BorrowedEnv::with_profile`]), or none (`default()`).
/// It borrows what offers them, and stays on the thread that made it.
///
/// A raw [`Env`] is only to be had through `unsafe`:
/// ```compile_fail,E0308
/// fn run(model: &egret_runtime::Model, arena: &mut egret_runtime::AlignedBytes, env: egret_runtime::abi::Env) {
///     let _ = model.run(&[], &mut [], arena, env);
/// }
/// ```
/// ```
/// use egret_runtime::BorrowedEnv;
/// fn run(model: &egret_runtime::Model, arena: &mut egret_runtime::AlignedBytes, env: egret_runtime::abi::Env) {
///     // SAFETY: (why the functions of `env` keep their contracts)
///     let env = unsafe { BorrowedEnv::from_raw(env) };
///     let _ = model.run(&[], &mut [], arena, env);
/// }
/// ```
#[derive(Copy, Clone, Debug)]
pub struct BorrowedEnv<'a> {
    raw: Env,
    borrows: PhantomData<&'a ()>,
}

impl Default for BorrowedEnv<'_> {
    /// One thread and no profile.
    fn default() -> Self {
        let raw = Env {
            ctx: std::ptr::null_mut(),
            parallel: None,
            profile_ctx: std::ptr::null_mut(),
            profile: None,
            threads: 1,
            reserved: 0,
        };
        BorrowedEnv { raw, borrows: PhantomData }
    }
}

impl<'a> BorrowedEnv<'a> {
    /// # Safety
    /// For all of `'a`, the functions of `env` may be called with its pointers, from the thread that this is called on,
    /// and do what [`Env`] says.
    pub unsafe fn from_raw(env: Env) -> BorrowedEnv<'a> {
        BorrowedEnv { raw: env, borrows: PhantomData }
    }

    /// Have `tell` called at the begin and end of each kernel, with its number, on the thread that runs the model. A panic
    /// in it ends the process: it cannot pass through generated code.
    ///
    /// `tell` outlives the environment:
    /// ```compile_fail,E0716
    /// use egret_runtime::{BorrowedEnv, Phase};
    /// let limit = 3;
    /// let env = BorrowedEnv::default().with_profile(&|kernel: u32, _: Phase| assert!(kernel < limit));
    /// let _ = (&env, env);
    /// ```
    /// ```
    /// use egret_runtime::{BorrowedEnv, Phase};
    /// let limit = 3;
    /// let tell = |kernel: u32, _: Phase| assert!(kernel < limit);
    /// let env = BorrowedEnv::default().with_profile(&tell);
    /// let _ = (&env, env);
    /// ```
    pub fn with_profile<F: Fn(u32, Phase)>(mut self, tell: &'a F) -> BorrowedEnv<'a> {
        unsafe extern "C" fn call<F: Fn(u32, Phase)>(ctx: *mut c_void, kernel: u32, phase: u32) {
            // SAFETY: `ctx` is the `tell` below, which the environment borrows; shared, so a call within a call is fine.
            let tell = unsafe { &*ctx.cast::<F>() };
            tell(kernel, if phase == 0 { Phase::Begin } else { Phase::End });
        }
        self.raw.profile = Some(call::<F> as ProfileFn);
        self.raw.profile_ctx = std::ptr::from_ref(tell).cast_mut().cast();
        self
    }

    /// Whether it has threads beside the caller's.
    pub(crate) fn lends_threads(&self) -> bool {
        self.raw.parallel.is_some() && self.raw.threads > 1
    }

    /// Whether somebody is told of kernels.
    pub(crate) fn has_profile(&self) -> bool {
        self.raw.profile.is_some()
    }

    /// The same with the caller's thread alone.
    pub(crate) fn without_threads(mut self) -> BorrowedEnv<'a> {
        self.raw.parallel = None;
        self.raw.threads = 1;
        self
    }

    /// What a model is given.
    pub fn as_raw(&self) -> &Env {
        &self.raw
    }
}
