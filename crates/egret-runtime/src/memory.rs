//! Memory that runs out: how much there is, and a global allocator that says so instead of aborting.
//!
//! A failed allocation of Rust's collections aborts the process (exit code 134) without naming a remedy. A program that installs
//! [`Allocator`] is called first ([`on_failure`]), and can end with a message of its own. What can go on without the memory
//! asks for it inside [`fallible`].
//!
//! Linux grants more memory than there is and kills the process when it is used. So the allocator also counts the large
//! allocations that live, and fails one with which they would be more than [`set_limit`] says.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Allocations from this size on are counted.
const LARGE: usize = 1 << 20;

/// Bytes of the large allocations that live.
static LIVE: AtomicUsize = AtomicUsize::new(0);
/// What they may be.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
static ON_FAILURE: OnceLock<fn(usize)> = OnceLock::new();

thread_local! {
    static FALLIBLE: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, which calls back where there is no memory.
#[derive(Debug)]
pub struct Allocator;

/// What is called, with the number of bytes asked for, when an allocation fails outside [`fallible`]. The first call counts.
/// It may allocate what it has freed before, and must not unwind.
pub fn on_failure(f: fn(usize)) {
    let _ = ON_FAILURE.set(f);
}

/// How many bytes all large allocations together may have.
pub fn set_limit(bytes: u64) {
    LIMIT.store(usize::try_from(bytes).unwrap_or(usize::MAX), Ordering::Relaxed);
}

/// Allocate something whose failure is dealt with: it is not reported to [`on_failure`].
pub fn fallible<T>(f: impl FnOnce() -> T) -> T {
    let before = FALLIBLE.replace(true);
    let out = f();
    FALLIBLE.set(before);
    out
}

/// Count a change of size; whether there is room for it.
fn account(old: usize, new: usize) -> bool {
    let large = |n: usize| if n >= LARGE { n } else { 0 };
    let (old, new) = (large(old), large(new));
    if new > old {
        let more = new - old;
        let before = LIVE.fetch_add(more, Ordering::Relaxed);
        if before.saturating_add(more) > LIMIT.load(Ordering::Relaxed) {
            LIVE.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
    } else if new < old {
        LIVE.fetch_sub(old - new, Ordering::Relaxed);
    }
    true
}

/// An allocation of `new` bytes in the place of `old` ones.
fn counted(old: usize, new: usize, allocate: impl FnOnce() -> *mut u8) -> *mut u8 {
    if account(old, new) {
        let start = allocate();
        if !start.is_null() {
            return start;
        }
        // Back to what it was; that always fits, or fitted before.
        account(new, old);
    }
    if !FALLIBLE.get()
        && let Some(f) = ON_FAILURE.get()
    {
        f(new);
    }
    std::ptr::null_mut()
}

// SAFETY: every call is passed on to the system's allocator as it is; where it is not, the result is null, as the contract
// has it for no memory.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's word.
        counted(0, layout.size(), || unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's word.
        counted(0, layout.size(), || unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        // SAFETY: the caller's word.
        counted(layout.size(), new, || unsafe { System.realloc(start, layout, new) })
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        account(layout.size(), 0);
        // SAFETY: the caller's word.
        unsafe { System.dealloc(start, layout) }
    }
}

/// The most memory that this process can have, in bytes: that of the machine with its swap, less where a limit of the process
/// (`ulimit -v`) or of its control group says so. `None` where the system does not tell.
pub fn available() -> Option<u64> {
    static KNOWN: OnceLock<Option<u64>> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let machine = read("/proc/meminfo").and_then(|t| machine(&t));
        let process = read("/proc/self/limits").and_then(|t| address_space(&t));
        let groups = read("/proc/self/cgroup").map(|t| group_files(&t)).unwrap_or_default();
        let groups = groups.iter().filter_map(|f| read(f)?.trim().parse().ok());
        machine.into_iter().chain(process).chain(groups).min()
    })
}

/// Memory and swap, of `/proc/meminfo`.
fn machine(text: &str) -> Option<u64> {
    let field = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(field("MemTotal:")? + field("SwapTotal:").unwrap_or(0))
}

/// The soft limit of the address space, of `/proc/self/limits`; `None` if there is none.
fn address_space(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Files that may hold a limit of the control groups in `/proc/self/cgroup`, both versions, and of the groups around them.
fn group_files(text: &str) -> Vec<String> {
    let mut out = vec![];
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            c if c.split(',').any(|c| c == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        loop {
            out.push(format!("{root}{path}/{file}"));
            let Some(end) = path.rfind('/') else { break };
            path = &path[..end];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_system_are_read() {
        assert_eq!(machine("MemTotal:  1000 kB\nMemFree: 1 kB\nSwapTotal:     24 kB\n"), Some(1024 << 10));
        assert_eq!(machine("MemFree: 1 kB\n"), None);
        let limits =
            |v: &str| address_space(&format!("Limit  Soft\nMax address space   {v}   unlimited  bytes\n"));
        assert_eq!((limits("4096"), limits("unlimited")), (Some(4096), None));
        assert_eq!(
            group_files("4:cpu,memory:/a/b\n3:cpuset:/\n0::/\n"),
            [
                "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory.max",
            ]
        );
    }

    #[test]
    fn what_lives_is_counted() {
        let layout = Layout::from_size_align(LARGE, 8).unwrap();
        // Only this test of the crate counts: the allocator is not installed in it.
        let live = || LIVE.load(Ordering::Relaxed);
        // SAFETY: allocated, grown and freed with the layouts that were asked for.
        unsafe {
            let p = Allocator.alloc(layout);
            assert_eq!(live(), LARGE);
            let p = Allocator.realloc(p, layout, 2 * LARGE);
            assert_eq!(live(), 2 * LARGE);
            set_limit(2 * LARGE as u64);
            assert!(fallible(|| Allocator.alloc(layout)).is_null());
            set_limit(u64::MAX);
            assert_eq!(live(), 2 * LARGE);
            let p = Allocator.realloc(p, Layout::from_size_align(2 * LARGE, 8).unwrap(), 8);
            assert_eq!(live(), 0);
            Allocator.dealloc(p, Layout::from_size_align(8, 8).unwrap());
        }
        assert_eq!(live(), 0);
    }
}
