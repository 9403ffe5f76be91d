//! One compilation by way of the cache: its files are copied from there if they are there, and left there if they are made.

use super::Request;
use super::cache::{Cache, Functions, key, key::Key, key::Known};
use super::write::{Compiled, Made, check, compile, make, place};
use crate::error::{Error, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// As [`compile`], but files that were compiled before from the same content by the same build of Egret are copied from a cache. Where these are
/// not there, the machine code of each function is that of an earlier compilation, of whatever model, if it is there.
///
/// Of processes that want the same at once one compiles, and the others wait for it. A report or a trace with times is not the
/// same twice: the cache is not asked. A cache that cannot be used is a note, not an error.
///
/// # Errors
/// As [`compile`].
pub fn compile_cached(request: &Request, cache: &Cache) -> Result<Compiled> {
    check(request)?;
    if request.report.is_some() || request.options.clock {
        return compile(request);
    }
    let Known { key, files, build } = match key::of(request) {
        Ok(found) => found,
        // A model that cannot be read is refused here; else it is the compiler that has no key.
        Err(e) => return without(request, &e),
    };
    if let Some(done) = taken(request, cache, &key, &files)? {
        return Ok(done);
    }
    // A cache that is only read has no locks: what is in it is of use all the same.
    let lock = cache.lock(&key);
    if lock.is_ok()
        && let Some(done) = taken(request, cache, &key, &files)?
    {
        return Ok(done);
    }
    let functions = Arc::new(Functions::of(cache, build));
    let made = make(request, &Ok, Some(functions.clone()));
    let kept = lock.and_then(|lock| {
        let stored = match (&made, key::of(request)) {
            // What was made from a file that changed meanwhile has no key.
            (Ok(made), Ok(now)) if now.key == key => cache.store(&key, &made.staged, &made.compiled),
            _ => Ok(()),
        };
        drop(lock);
        // Functions are kept as they are compiled, whatever becomes of the rest.
        stored.and(cache.keep_to_limit())
    });
    let mut made = made?;
    made.compiled.notes.extend(kept.err().map(|e| format!("not kept in the cache: {}", e.message)));
    made.compiled.reused = functions.found();
    place(request, made)
}

/// The files of the cache, if it has them.
fn taken(request: &Request, cache: &Cache, key: &Key, sources: &[PathBuf]) -> Result<Option<Compiled>> {
    match cache.take(key, &request.out_dir)? {
        Some((staged, compiled)) => {
            let made = Made { staged, compiled, sources: sources.to_vec(), page: None };
            place(request, made).map(Some)
        }
        None => Ok(None),
    }
}

/// Compile without the cache, and say why.
fn without(request: &Request, why: &Error) -> Result<Compiled> {
    let mut done = compile(request)?;
    done.notes.push(format!("compiled without the cache: {}", why.message));
    Ok(done)
}
