//! The constants of a program, packed for its kernels. Large ones are packed when their bytes are asked for: until then only
//! what they are made from exists, and whoever takes them piece by piece ([`Weights::each`]) never holds them whole.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Packs a constant into zeros; each time the same.
type Pack = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

#[derive(Clone)]
enum Part {
    Bytes(Vec<u8>),
    /// This many bytes that are not packed yet.
    Later(usize, Pack),
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Part::Bytes(bytes) => bytes.len(),
            Part::Later(len, _) => *len,
        }
    }
}

/// Bytes in parts. As a slice, they are packed whole, once.
#[derive(Clone, Default)]
pub struct Weights {
    parts: Vec<Part>,
    len: usize,
    whole: OnceLock<Vec<u8>>,
}

impl Weights {
    /// Number of bytes; packs none.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none; packs none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// So many bytes, of which nothing else is known: a stand-in for weights that are somewhere else.
    pub fn unknown(len: usize) -> Weights {
        let mut out = Weights::default();
        out.push_later(len, |_| ());
        out
    }

    /// Add bytes at the end; where they begin.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let at = self.grow(bytes.len());
        match self.parts.last_mut() {
            Some(Part::Bytes(last)) => last.extend_from_slice(bytes),
            _ => self.parts.push(Part::Bytes(bytes.to_vec())),
        }
        at
    }

    /// Add `len` bytes at the end, which `pack` writes over zeros when they are asked for; where they begin.
    pub fn push_later(&mut self, len: usize, pack: impl Fn(&mut [u8]) + Send + Sync + 'static) -> usize {
        let at = self.grow(len);
        self.parts.push(Part::Later(len, Arc::new(pack)));
        at
    }

    /// Add zeros up to a multiple of `align`.
    pub fn align(&mut self, align: usize) {
        self.push(&vec![0; self.len.next_multiple_of(align) - self.len]);
    }

    /// So many bytes of them; those that are not packed stay so where that is possible. Nothing where there are not so many.
    pub fn cut(&self, at: usize, len: usize) -> Option<Weights> {
        if len == 0 {
            return (at <= self.len).then(Weights::default);
        }
        let mut start = 0;
        for part in &self.parts {
            let from = at.checked_sub(start)?;
            start += part.len();
            let Some(to) = from.checked_add(len).filter(|to| *to <= part.len()) else { continue };
            let mut out = Weights::default();
            match part {
                Part::Bytes(bytes) => {
                    out.push(&bytes[from..to]);
                }
                Part::Later(all, pack) if (from, len) == (0, *all) => {
                    out.grow(len);
                    out.parts.push(Part::Later(len, pack.clone()));
                }
                Part::Later(all, pack) => {
                    let mut bytes = vec![0; *all];
                    pack(&mut bytes);
                    out.push(&bytes[from..to]);
                }
            }
            return Some(out);
        }
        None
    }

    /// Add others at the end; where they begin.
    pub fn append(&mut self, others: Weights) -> usize {
        let at = self.len;
        for part in others.parts {
            match part {
                Part::Bytes(bytes) => {
                    self.push(&bytes);
                }
                Part::Later(len, _) => {
                    self.grow(len);
                    self.parts.push(part);
                }
            }
        }
        at
    }

    fn grow(&mut self, by: usize) -> usize {
        self.whole = OnceLock::new();
        self.len += by;
        self.len - by
    }

    /// All bytes, piece by piece in order. What is not packed yet is packed for its piece only.
    pub fn each(&self, mut piece: impl FnMut(&[u8])) {
        if let Some(whole) = self.whole.get() {
            return piece(whole);
        }
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) => piece(bytes),
                Part::Later(len, pack) => {
                    let mut bytes = vec![0; *len];
                    pack(&mut bytes);
                    piece(&bytes);
                }
            }
        }
    }

    /// Pack all of them, on up to `threads` threads (0: one for each core).
    pub fn pack(&self, threads: usize) {
        if let [] | [Part::Bytes(_)] = self.parts[..] {
            return;
        }
        self.whole.get_or_init(|| {
            let mut whole = vec![0; self.len];
            let (mut rest, mut places) = (&mut whole[..], vec![]);
            for part in &self.parts {
                let (place, behind) = rest.split_at_mut(part.len());
                places.push((part, Mutex::new(place)));
                rest = behind;
            }
            egret_threads::map(&places, threads, |(part, place)| {
                // Each place is one thread's.
                let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
                match part {
                    Part::Bytes(bytes) => place.copy_from_slice(bytes),
                    Part::Later(_, pack) => pack(&mut place),
                }
            });
            whole
        });
    }
}

impl Deref for Weights {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.pack(1);
        match (self.whole.get(), &self.parts[..]) {
            (Some(whole), _) => whole,
            (None, [Part::Bytes(only)]) => only,
            (None, _) => &[],
        }
    }
}

impl From<Vec<u8>> for Weights {
    fn from(bytes: Vec<u8>) -> Weights {
        Weights { len: bytes.len(), parts: vec![Part::Bytes(bytes)], whole: OnceLock::new() }
    }
}

impl PartialEq for Weights {
    fn eq(&self, other: &Weights) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of weights", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::Weights;

    #[test]
    fn what_is_packed_later_is_what_is_there() {
        let weights = || {
            let mut weights = Weights::default();
            assert_eq!(weights.push(&[1, 2, 3]), 0);
            weights.align(4);
            assert_eq!(weights.push_later(3, |to| to.copy_from_slice(&[4, 0, 6])), 4);
            weights.align(4);
            assert_eq!(weights.push_later(1, |to| to[0] = 7), 8);
            weights
        };
        let want = [1, 2, 3, 0, 4, 0, 6, 0, 7];
        for threads in [0, 1, 2, 7] {
            let mut weights = weights();
            assert_eq!((weights.len(), pieces(&weights)), (9, want.to_vec()));
            weights.pack(threads);
            assert_eq!((&weights[..], pieces(&weights)), (&want[..], want.to_vec()));
            // More bytes are packed anew.
            weights.push(&[8]);
            assert_eq!(weights, Weights::from([&want[..], &[8]].concat()));
        }
        assert_eq!(weights()[..], want);
        assert!(Weights::default().is_empty() && Weights::default().to_vec().is_empty());
    }

    fn pieces(weights: &Weights) -> Vec<u8> {
        let mut pieces = vec![];
        weights.each(|piece| pieces.extend_from_slice(piece));
        pieces
    }
}
