//! Which cores a pool's threads are pinned to: a core each, those of the caller's memory node first. For Linux.

use std::io;

/// What the system tells of a CPU, by which CPUs are put in order.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cpu {
    /// How many of the CPUs before it share its core: they come first, since two threads of one core get in each other's way.
    nth_of_core: usize,
    /// Whether its memory node is another than the caller's.
    afar: bool,
    node: usize,
    /// Whether it is before the caller's.
    before: bool,
    number: usize,
}

/// CPUs that the calling thread may use, in the order in which threads of a pool take them.
///
/// # Errors
/// The system does not say, or cannot pin threads.
pub(super) fn cpus() -> io::Result<Vec<usize>> {
    // SAFETY: all bits zero is a set without members.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is as large as is said; 0 is the calling thread.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the numbers are below the set's size.
    let allowed: Vec<usize> =
        (0..libc::CPU_SETSIZE as usize).filter(|&n| unsafe { libc::CPU_ISSET(n, &set) }).collect();
    // SAFETY: it takes nothing.
    let here = usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0);
    Ok(ordered(&allowed, here, node, siblings))
}

/// CPUs in the order in which threads take them: `here` is the caller's, and for each CPU its memory node and the list of those on its core are known.
fn ordered(
    allowed: &[usize],
    here: usize,
    node: impl Fn(usize) -> usize,
    siblings: impl Fn(usize) -> String,
) -> Vec<usize> {
    let own = node(here);
    let cpu = |&number: &usize| {
        let before = number < here;
        let siblings = siblings(number);
        // Those of the core that come first: from the caller's on, and then from the beginning.
        let first =
            |&&other: &&usize| (other < here, other) < (before, number) && is_listed(&siblings, other);
        let nth_of_core = allowed.iter().filter(first).count();
        let node = node(number);
        Cpu { nth_of_core, afar: node != own, node, before, number }
    };
    let mut cpus: Vec<Cpu> = allowed.iter().map(cpu).collect();
    cpus.sort_unstable();
    cpus.into_iter().map(|cpu| cpu.number).collect()
}

/// Let a thread run on one CPU alone.
///
/// # Errors
/// Those of the system.
pub(super) fn pin(thread: libc::pthread_t, cpu: usize) -> io::Result<()> {
    // SAFETY: all bits zero is a set without members.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `cpus` gives numbers below the set's size.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is as large as is said, and the caller's thread is alive.
    match unsafe { libc::pthread_setaffinity_np(thread, size_of_val(&set), &raw const set) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// The memory node of a CPU; 0 where the system names none.
fn node(cpu: usize) -> usize {
    let entries = std::fs::read_dir(format!("/sys/devices/system/cpu/cpu{cpu}")).into_iter().flatten();
    let names = entries.flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.strip_prefix("node")?.parse().ok()).min().unwrap_or(0)
}

/// The list of CPUs on the core of one; empty where the system does not say.
fn siblings(cpu: usize) -> String {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Whether a number is in a list such as `0-3,8`.
fn is_listed(list: &str, number: usize) -> bool {
    let holds = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let ends = (first.parse::<usize>(), last.parse::<usize>());
        matches!(ends, (Ok(first), Ok(last)) if (first..=last).contains(&number))
    };
    list.trim().split(',').any(holds)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert!([0, 2, 3, 8].iter().all(|n| is_listed("0-3,8\n", *n)));
        assert!([4, 7, 9].iter().all(|n| !is_listed("0-3,8\n", *n)));
        assert!(is_listed("5,37", 37) && !is_listed("", 0));
    }

    #[test]
    fn a_core_each_and_the_own_node_first() {
        let pairs = |cpu: usize| format!("{}-{}\n", cpu / 2 * 2, cpu / 2 * 2 + 1);
        let nodes = |cpu: usize| cpu / 4;
        let all: Vec<usize> = (0..8).collect();
        assert_eq!(ordered(&all, 0, nodes, pairs), [0, 2, 4, 6, 1, 3, 5, 7]);
        // From the caller's on, its node first.
        assert_eq!(ordered(&all, 6, nodes, pairs), [6, 4, 0, 2, 7, 5, 1, 3]);
        assert_eq!(ordered(&all, 1, nodes, pairs), [1, 2, 4, 6, 3, 0, 5, 7]);
        // Second threads of a core are those whose first this process may use.
        assert_eq!(ordered(&[2, 3, 5], 2, nodes, pairs), [2, 5, 3]);
        // Nothing is known.
        assert_eq!(ordered(&[3, 1, 2], 1, |_| 0, |_| String::new()), [1, 2, 3]);
    }

    #[test]
    fn a_pinned_thread_stays() {
        let pinned = std::thread::spawn(|| {
            let all = cpus().unwrap();
            let last = *all.last().unwrap();
            // SAFETY: it takes nothing.
            pin(unsafe { libc::pthread_self() }, last).unwrap();
            // SAFETY: as above.
            (cpus().unwrap(), unsafe { libc::sched_getcpu() } as usize, last)
        });
        let (cpus, now, last) = pinned.join().unwrap();
        assert_eq!((cpus, now), (vec![last], last));
    }
}
