//! Time as a process sees it that may be stopped: what passed while it did not look is not held against others.

use std::time::{Duration, Instant};

/// Looks that a limit is made of at least.
const LOOKS: u32 = 8;

/// A clock that goes on when somebody looks at it, by what has passed since the last look, and by an eighth of a limit at the most. A process that was stopped, or a machine that slept, looks
/// again and finds that little time has passed: others could not be heard for as long, and get the time to be.
pub(super) struct Awake {
    now: Duration,
    looked: Instant,
    most: Duration,
}

impl Awake {
    /// A clock to hold against this limit.
    pub(super) fn new(limit: Duration) -> Awake {
        Awake { now: Duration::ZERO, looked: Instant::now(), most: limit / LOOKS }
    }

    /// Look at it: the time since it began.
    pub(super) fn look(&mut self) -> Duration {
        self.look_at(Instant::now())
    }

    /// The time at the last look.
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    fn look_at(&mut self, at: Instant) -> Duration {
        self.now += at.saturating_duration_since(self.looked).min(self.most);
        self.looked = at;
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_are_near_each_other_see_all_time_and_a_stop_counts_little() {
        let limit = Duration::from_secs(8);
        let mut clock = Awake::new(limit);
        let mut at = clock.looked;
        let mut after = |clock: &mut Awake, ms| {
            at += Duration::from_millis(ms);
            clock.look_at(at)
        };
        for k in 1..=20 {
            assert_eq!(after(&mut clock, 500), Duration::from_millis(500 * k));
        }
        // Stopped for an hour: one eighth of the limit, at once and not again.
        let before = clock.now();
        assert_eq!(after(&mut clock, 3_600_000), before + Duration::from_secs(1));
        assert_eq!(after(&mut clock, 10), before + Duration::from_millis(1010));
        // Whoever is waited for gets most of the limit from there on, and not more.
        let since = before;
        let looks = (0..).find(|_| after(&mut clock, 10) - since > limit).unwrap();
        assert_eq!(looks, 699);
    }
}
