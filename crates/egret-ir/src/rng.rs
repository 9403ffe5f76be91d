//! SplitMix64, the one generator of pseudo-random numbers: of `random(SEED)` in text, of `random_uniform`,
//! of `--random SEED` and of all tests. A seed means the same numbers on every host.

/// The step of the counter: 2^64 divided by the golden ratio.
pub const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a draw is multiplied by, one after the other.
pub const MIX: [u64; 2] = [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb];

/// Draw `index` of the sequence that starts at `seed`: what [`Rng::bits`] gives after `index` other calls.
pub fn nth(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(STEP));
    z = (z ^ (z >> 30)).wrapping_mul(MIX[0]);
    z = (z ^ (z >> 27)).wrapping_mul(MIX[1]);
    z ^ (z >> 31)
}

/// A number in [0, 1) from the upper 24 bits of a draw: a multiple of 2^-24.
pub fn unit(bits: u64) -> f32 {
    (bits >> 40) as f32 / (1u32 << 24) as f32
}

/// A generator: `Rng::new(7).below(10)`.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose numbers depend on the seed only.
    pub const fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let bits = nth(self.0, 0);
        self.0 = self.0.wrapping_add(STEP);
        bits
    }

    /// In `0..n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n.max(1) as u64) as usize
    }

    /// From `low` to `high`, both included.
    pub fn range(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as usize) as i64
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// True in so many of a hundred calls.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// In [0, 1), a multiple of 2^-24.
    pub fn unit(&mut self) -> f32 {
        unit(self.bits())
    }

    /// In [-1, 1), a multiple of 2^-23.
    pub fn signed(&mut self) -> f32 {
        2.0 * self.unit() - 1.0
    }

    /// In [-1, 1), a multiple of 2^-52.
    pub fn signed_f64(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_splitmix64() {
        // The first ones of the reference implementation for the seed 1234567.
        let mut rng = Rng::new(1_234_567);
        let known = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(known, [(); 5].map(|()| rng.bits()));
        assert_eq!(known, [0, 1, 2, 3, 4].map(|i| nth(1_234_567, i)));
    }
}
