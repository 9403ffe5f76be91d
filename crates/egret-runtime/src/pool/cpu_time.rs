//! How long a thread has had a core, as the system counts it.

use std::time::Duration;

/// The clock of one thread, which goes while the thread has a core.
#[derive(Copy, Clone, Debug)]
pub(super) struct CpuClock {
    #[cfg(target_os = "linux")]
    id: libc::clockid_t,
}

impl CpuClock {
    /// That of the calling thread; none where the system has no such clocks that other threads may read.
    pub fn of_this_thread() -> Option<CpuClock> {
        #[cfg(target_os = "linux")]
        {
            let mut id = 0;
            // SAFETY: the calling thread is alive, and the result is written to `id`.
            let failed = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut id) };
            (failed == 0).then_some(CpuClock { id })
        }
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// What it shows, from any thread; none once its own has ended. It takes a microsecond or less.
    pub fn read(self) -> Option<Duration> {
        #[cfg(target_os = "linux")]
        {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: the system refuses clocks that are not there; the result is written to `time`.
            let failed = unsafe { libc::clock_gettime(self.id, &raw mut time) };
            let time = Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?);
            (failed == 0).then_some(time)
        }
        #[cfg(not(target_os = "linux"))]
        None
    }
}

#[cfg(all(test, target_os = "linux", not(loom)))]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn it_goes_while_the_thread_works() {
        let clock = CpuClock::of_this_thread().unwrap();
        let began = clock.read().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let slept = clock.read().unwrap() - began;
        assert!(slept < Duration::from_millis(10), "{slept:?}");
        let limit = Instant::now() + Duration::from_secs(60);
        while clock.read().unwrap() - began < Duration::from_millis(20) {
            assert!(Instant::now() < limit, "it stands still");
        }
        // Another thread reads it, and one whose thread has ended has no more to say.
        std::thread::scope(|s| {
            s.spawn(move || assert!(clock.read().unwrap() >= began));
        });
        let ended = std::thread::spawn(CpuClock::of_this_thread).join().unwrap().unwrap();
        assert!(ended.read().is_none());
    }
}
