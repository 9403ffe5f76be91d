//! What the command does where memory runs out: one message, no file left half written, and an exit code of its own.

use egret::ir::interp::size_text;
use egret::{Error, ErrorKind, files, memory};
use std::cell::Cell;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

/// Given back before the message is written, as that needs some memory.
static RESERVE: Mutex<Vec<u8>> = Mutex::new(vec![]);
const RESERVE_BYTES: usize = 1 << 20;

/// What the command is doing, e.g. `compiling`.
static DOING: Mutex<&str> = Mutex::new("starting");

/// End with a message where memory runs out, from here on.
pub fn watch() {
    memory::on_failure(failed);
    if let Some(bytes) = memory::available() {
        memory::set_limit(bytes);
    }
    *RESERVE.lock().unwrap_or_else(PoisonError::into_inner) = vec![0; RESERVE_BYTES];
}

/// Say in the message what the command was doing.
pub fn doing(what: &'static str) {
    *DOING.lock().unwrap_or_else(PoisonError::into_inner) = what;
}

fn failed(bytes: usize) {
    thread_local! { static ENDING: Cell<bool> = const { Cell::new(false) }; }
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let code = i32::from(ErrorKind::Memory.exit_code());
    if ENDING.replace(true) {
        // Not even memory for the message.
        std::process::exit(code);
    }
    if TAKEN.swap(true, Ordering::Relaxed) {
        // Another thread is ending the process.
        loop {
            std::thread::park();
        }
    }
    drop(RESERVE.try_lock().map(|mut r| std::mem::take(&mut *r)));
    files::discard_unfinished();
    let doing = DOING.try_lock().map_or("working", |d| *d);
    let _ = writeln!(std::io::stderr(), "egret: {}", message(doing, bytes, memory::available()).message);
    std::process::exit(code);
}

fn message(doing: &str, bytes: usize, available: Option<u64>) -> Error {
    let asked = size_text(bytes as u64);
    let most =
        available.map_or_else(String::new, |b| format!("; this process can have {} in all", size_text(b)));
    Error::memory(format!(
        "{asked} more were needed while {doing}{most}. Give smaller inputs or dims, or more memory (`ulimit -v`, the limit of \
         the container)"
    ))
}
