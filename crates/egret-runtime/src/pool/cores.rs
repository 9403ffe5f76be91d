//! Which cores a pool's threads are pinned to: a core each, those of the caller's memory node first. For Linux.

use std::io;

/// What the system tells of a CPU, by which CPUs are put in order.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cpu {
    /// How many CPUs of smaller numbers share its core: they come first, since two threads of one core get in each other's way.
    nth_of_core: usize,
    /// Whether its memory node is another than the caller's.
    afar: bool,
    node: usize,
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
    let numbers = (0..libc::CPU_SETSIZE as usize).filter(|&n| unsafe { libc::CPU_ISSET(n, &set) });
    // SAFETY: it takes nothing.
    let own = usize::try_from(unsafe { libc::sched_getcpu() }).map_or(0, node);
    let mut cpus: Vec<Cpu> = numbers
        .map(|number| {
            let node = node(number);
            Cpu { nth_of_core: nth_of_core(number), afar: node != own, node, number }
        })
        .collect();
    cpus.sort_unstable();
    Ok(cpus.into_iter().map(|cpu| cpu.number).collect())
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

/// How many CPUs of smaller numbers share a core with this one; 0 where the system does not say.
fn nth_of_core(cpu: usize) -> usize {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    std::fs::read_to_string(path).map_or(0, |list| listed_before(&list, cpu))
}

/// How many numbers below this one are in a list such as `0-3,8`.
fn listed_before(list: &str, number: usize) -> usize {
    let before = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        Some((last + 1).min(number).saturating_sub(first))
    };
    list.trim().split(',').filter_map(before).sum()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(listed_before("0-3,8\n", 0), 0);
        assert_eq!(listed_before("0-3,8\n", 2), 2);
        assert_eq!(listed_before("0-3,8\n", 8), 4);
        assert_eq!(listed_before("5,37", 37), 1);
        assert_eq!(listed_before("", 3), 0);
    }

    #[test]
    fn a_core_each_and_the_own_node_first() {
        let cpu = |nth_of_core, afar, node, number| Cpu { nth_of_core, afar, node, number };
        let mut cpus = [cpu(1, false, 1, 6), cpu(0, true, 0, 0), cpu(0, false, 1, 2), cpu(0, false, 1, 3)];
        cpus.sort_unstable();
        assert_eq!(cpus.map(|c| c.number), [2, 3, 0, 6]);
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
