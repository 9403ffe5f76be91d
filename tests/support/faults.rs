//! Faults and hangs of compiled code, reported with the name of the case that was running.
//!
//! A signal ends the test program: what has written outside its memory cannot go on.

use std::ffi::CString;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The running case, NUL-terminated. Leaked: a handler may read it at any time.
static CASE: AtomicPtr<libc::c_char> = AtomicPtr::new(ptr::null_mut());

/// Exit status of a program that a signal ended.
pub const STATUS: i32 = 86;

extern "C" fn report(signal: libc::c_int) {
    let what: &[u8] = match signal {
        libc::SIGALRM => b"\nhangs: ",
        libc::SIGABRT => b"\naborts: ",
        libc::SIGFPE => b"\ndivides by zero: ",
        _ => b"\naccesses memory that is not its own: ",
    };
    let name = CASE.load(Ordering::Relaxed);
    // SAFETY: write, strlen and _exit may be called in a signal handler; the name is never freed.
    unsafe {
        libc::write(2, what.as_ptr().cast(), what.len());
        if !name.is_null() {
            libc::write(2, name.cast(), libc::strlen(name));
        }
        libc::write(2, b"\n".as_ptr().cast(), 1);
        libc::_exit(STATUS);
    }
}

/// From now on faults and hangs end the program with [`STATUS`] and the name of the case.
pub fn watch() {
    for signal in [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGABRT,
        libc::SIGALRM,
    ] {
        // SAFETY: all zeros is a valid sigaction, the mask is set below, and the handler does only what one may.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = report as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(signal, &action, ptr::null_mut());
        }
    }
}

/// The case that runs from now on, for `seconds` at most. One at a time in a program.
pub fn begin(name: &str, seconds: u32) {
    let name = CString::new(name.replace('\0', " ")).unwrap_or_default();
    CASE.store(name.into_raw(), Ordering::Relaxed);
    // SAFETY: no pointers.
    unsafe { libc::alarm(seconds) };
}

/// No case runs any more.
pub fn end() {
    // SAFETY: no pointers.
    unsafe { libc::alarm(0) };
}

/// Lets allocations fail above so many bytes of address space, so that an absurd one ends the test.
pub fn limit_memory(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes as libc::rlim_t, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the struct is read only.
    unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
}
