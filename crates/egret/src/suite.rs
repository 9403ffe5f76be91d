//! Running many test cases against a list of what an engine does not do yet.

use crate::cases::{Case, Outcome};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::options::Options;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Stack of a thread that runs cases: graphs nest, and import and interpretation follow them.
const STACK_BYTES: usize = 256 << 20;

/// Cases that an engine is known not to pass, with the reason. A file has one `case-name<TAB>reason` a line.
pub type KnownFailures = BTreeMap<String, String>;

/// Read a list of known failures.
pub fn read_list(path: &Path) -> Result<KnownFailures> {
    let text = files::read_text(path, "a list of `case-name<TAB>reason` lines")?;
    let mut out = KnownFailures::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#')) {
        let place = || format!("{}:{}", path.display(), i + 1);
        let (name, reason) = line
            .split_once('\t')
            .filter(|(_, reason)| !reason.trim().is_empty())
            .ok_or_else(|| Error::user(format!("{}: a line is `case-name<TAB>reason`", place())))?;
        if out.insert(name.to_owned(), reason.to_owned()).is_some() {
            return Err(Error::user(format!("{}: `{name}` is listed twice", place())));
        }
    }
    Ok(out)
}

/// What to report of a case, after its list has been looked at.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// As expected.
    Passed,
    /// Not, and the reason is known.
    Skipped(String),
    /// Counts against the run.
    Failed(String),
}

/// Hold an outcome against the list. Without a list what is unsupported is skipped, unless `strict`.
pub fn judge(name: &str, outcome: &Outcome, list: Option<&KnownFailures>, strict: bool) -> Verdict {
    let listed = list.and_then(|l| l.get(name));
    match (outcome, listed) {
        (Outcome::Passed, None) => Verdict::Passed,
        (Outcome::Passed, Some(_)) => {
            Verdict::Failed("passes, but the list names it: remove its line".into())
        }
        // A bug of ours is never a known limitation.
        (Outcome::Failed(ErrorKind::Internal, message), _) => Verdict::Failed(message.clone()),
        (Outcome::Failed(..), Some(reason)) => Verdict::Skipped(reason.clone()),
        (Outcome::Failed(ErrorKind::Unsupported, message), None) => {
            let message = format!("unsupported: {message}");
            if list.is_none() && !strict { Verdict::Skipped(message) } else { Verdict::Failed(message) }
        }
        (Outcome::Failed(_, message), None) => Verdict::Failed(message.clone()),
    }
}

thread_local! {
    /// Message and place of the last panic of this thread.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Run a function; a panic in it becomes an internal error that says where it was.
pub fn guarded<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result,
        Err(_) => {
            let message = PANIC.with(|p| p.borrow_mut().take()).unwrap_or_else(|| "unknown place".into());
            Err(Error::internal(format!("panic, a bug of Egret: {message}")))
        }
    }
}

/// Keep the messages of panics for [`guarded`] instead of printing them. For the whole process.
pub fn capture_panics() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let place = info.location().map(|l| format!("{}:{}: ", l.file(), l.line())).unwrap_or_default();
        PANIC.with(|p| *p.borrow_mut() = Some(format!("{place}{}", text.unwrap_or("no message"))));
    }));
}

/// Run cases on `jobs` threads; `report` is called for each in the order of `cases`, as soon as all before it are done.
pub fn run_cases(
    cases: &[Case],
    engine: Engine,
    options: &Options,
    jobs: usize,
    report: &mut (dyn FnMut(&Case, &Outcome) + Send),
) {
    struct Pending<'a> {
        done: BTreeMap<usize, Outcome>,
        next: usize,
        report: &'a mut (dyn FnMut(&Case, &Outcome) + Send),
    }
    let pending = Mutex::new(Pending { done: BTreeMap::new(), next: 0, report });
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(i) else { return };
            let outcome = match guarded(|| case.run(engine, options)) {
                Ok(()) => Outcome::Passed,
                Err(e) => Outcome::Failed(e.kind, e.message),
            };
            let mut p = pending.lock().unwrap_or_else(|e| e.into_inner());
            p.done.insert(i, outcome);
            loop {
                let at = p.next;
                let Some(outcome) = p.done.remove(&at) else { break };
                (p.report)(&cases[at], &outcome);
                p.next += 1;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, cases.len().max(1)) {
            let started = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
            if started.is_err() {
                // No more threads to be had: this one does the work.
                work();
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_only_shrink() {
        let list = KnownFailures::from([("a".to_owned(), "no sparse tensors".to_owned())]);
        let fails = |k| Outcome::Failed(k, "m".into());
        assert_eq!(judge("b", &Outcome::Passed, Some(&list), false), Verdict::Passed);
        assert!(matches!(judge("a", &Outcome::Passed, Some(&list), false), Verdict::Failed(_)));
        assert_eq!(
            judge("a", &fails(ErrorKind::Unsupported), Some(&list), true),
            Verdict::Skipped("no sparse tensors".into())
        );
        assert!(matches!(
            judge("b", &fails(ErrorKind::Unsupported), Some(&list), false),
            Verdict::Failed(_)
        ));
        assert!(matches!(judge("b", &fails(ErrorKind::Unsupported), None, false), Verdict::Skipped(_)));
        assert!(matches!(judge("b", &fails(ErrorKind::Unsupported), None, true), Verdict::Failed(_)));
        assert!(matches!(judge("b", &fails(ErrorKind::Differs), None, false), Verdict::Failed(_)));
        assert!(matches!(judge("a", &fails(ErrorKind::Internal), Some(&list), false), Verdict::Failed(_)));
    }
}
