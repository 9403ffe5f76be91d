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
    let lock = match cache.lock(&key) {
        Ok(lock) => lock,
        Err(e) => return without(request, &e),
    };
    if let Some(done) = taken(request, cache, &key, &files)? {
        return Ok(done);
    }
    let functions = Arc::new(Functions::of(cache, build));
    let mut made = make(request, &Ok, Some(functions.clone()))?;
    // What was made from a file that changed meanwhile has no key.
    let stored = match key::of(request) {
        Ok(now) if now.key == key => cache.store(&key, &made.staged, &made.compiled),
        _ => Ok(()),
    };
    // A compilation that has no place leaves its functions, for which there may have to be made room too.
    if let Err(e) = stored.and(cache.prune(cache.limit())) {
        made.compiled.notes.push(unused(&e));
    }
    made.compiled.reused = functions.found();
    drop(lock);
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
    done.notes.push(unused(why));
    Ok(done)
}

fn unused(why: &Error) -> String {
    format!("compiled without the cache: {}", why.message)
}
