//! Payloads of records: numbers, texts and lists, little-endian, lists with their length before them.

/// A payload in the making.
#[derive(Default)]
pub struct Pack {
    out: Vec<u8>,
}

impl Pack {
    /// A whole number.
    pub fn whole(&mut self, n: u64) {
        self.out.extend(n.to_le_bytes());
    }

    /// A number, to the last bit.
    pub fn number(&mut self, v: f64) {
        self.out.extend(v.to_le_bytes());
    }

    /// Bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.whole(bytes.len() as u64);
        self.out.extend(bytes);
    }

    /// A text.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Numbers.
    pub fn numbers(&mut self, all: &[f64]) {
        self.whole(all.len() as u64);
        all.iter().for_each(|&v| self.number(v));
    }

    /// Numbers most of which may be zero: a bit for each, then those that are not.
    pub fn sparse(&mut self, all: &[f64]) {
        self.whole(all.len() as u64);
        // A zero with a sign is told like any number.
        let told = |v: &f64| v.to_bits() != 0;
        let bits = |eight: &[f64]| eight.iter().rev().fold(0u8, |byte, v| byte << 1 | u8::from(told(v)));
        self.out.extend(all.chunks(8).map(bits));
        all.iter().filter(|v| told(v)).for_each(|&v| self.number(v));
    }

    /// The payload.
    pub fn done(self) -> Vec<u8> {
        self.out
    }
}

/// A payload that is read, from its front; everything is `None` where it ends too early.
pub struct Unpack<'a> {
    left: &'a [u8],
}

impl<'a> Unpack<'a> {
    /// Of these bytes.
    pub fn new(bytes: &'a [u8]) -> Unpack<'a> {
        Unpack { left: bytes }
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, left) = self.left.split_at_checked(count)?;
        self.left = left;
        Some(front)
    }

    /// A whole number.
    pub fn whole(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    /// The length of a list.
    pub fn length(&mut self) -> Option<usize> {
        usize::try_from(self.whole()?).ok()
    }

    /// A number.
    pub fn number(&mut self) -> Option<f64> {
        Some(f64::from_bits(self.whole()?))
    }

    /// Bytes.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.length()?;
        self.take(count)
    }

    /// A text.
    pub fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    /// Numbers.
    pub fn numbers(&mut self) -> Option<Vec<f64>> {
        let count = self.length()?;
        let all = self.take(count.checked_mul(8)?)?;
        all.chunks_exact(8).map(|b| Some(f64::from_le_bytes(b.try_into().ok()?))).collect()
    }

    /// Numbers as of [`Pack::sparse`].
    pub fn sparse(&mut self) -> Option<Vec<f64>> {
        let count = self.length()?;
        let bits = self.take(count.div_ceil(8))?;
        let mut of = |i: usize| if bits[i / 8] >> (i % 8) & 1 == 1 { self.number() } else { Some(0.0) };
        (0..count).map(&mut of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_and_what_is_cut_does_not() {
        let numbers = [0.0, -0.0, 1.5, f64::MIN_POSITIVE / 8.0, 0.0, f64::INFINITY, 0.0, 0.0, -7.25, 0.0];
        let mut pack = Pack::default();
        pack.whole(7);
        pack.text("/a b");
        pack.numbers(&numbers);
        pack.sparse(&numbers);
        let bytes = pack.done();
        let read = |bytes: &[u8]| {
            let mut parts = Unpack::new(bytes);
            let out = (parts.whole()?, parts.text()?, parts.numbers()?, parts.sparse()?);
            parts.is_empty().then_some(out)
        };
        let (seven, text, dense, sparse) = read(&bytes).expect("all of it");
        assert_eq!((seven, text.as_str()), (7, "/a b"));
        let bits = |list: &[f64]| list.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!((bits(&dense), bits(&sparse)), (bits(&numbers), bits(&numbers)));
        assert!((0..bytes.len()).all(|n| read(&bytes[..n]).is_none()));
        // A length that nothing stands behind.
        assert!(Unpack::new(&u64::MAX.to_le_bytes()).numbers().is_none());
        assert!(Unpack::new(&u64::MAX.to_le_bytes()).sparse().is_none());
    }
}
