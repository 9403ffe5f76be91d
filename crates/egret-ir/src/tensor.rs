//! Host tensors: shared, immutable bytes with a dtype and a shape. Constants of a graph are these.

use crate::{DType, TensorType};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Where the bytes of a tensor live.
enum Storage {
    /// Owned, 8-byte aligned.
    Owned(Vec<u64>, usize),
    /// Part of a memory-mapped file: offset and length in bytes.
    Mapped(Arc<memmap2::Mmap>, usize, usize),
    Strings(Vec<String>),
}

/// A dense row-major tensor; cloning shares the bytes.
#[derive(Clone)]
pub struct Tensor(Arc<Inner>);

struct Inner {
    dtype: DType,
    shape: Vec<usize>,
    storage: Storage,
    hash: OnceLock<ContentHash>,
    magnitudes: OnceLock<Option<Magnitudes>>,
}

/// The sizes of the elements of a float tensor.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Magnitudes {
    /// The largest one; infinite or NaN if an element is.
    pub largest: f64,
    /// The smallest one but zero; 0 if all are zero.
    pub least: f64,
    /// Whether an element is zero.
    pub zero: bool,
}

/// Hash of dtype, shape and bytes; its first 16 hex digits are a constant's spelling in text IR.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash(pub [u8; 32]);

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A Rust type that is the in-memory form of one dtype.
pub trait Element: Copy + Default + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The dtype.
    const DTYPE: DType;
}
macro_rules! element {
    ($($t:ty => $d:ident),*) => { $(impl Element for $t { const DTYPE: DType = DType::$d; })* };
}
element!(i8 => I8, i16 => I16, i32 => I32, i64 => I64, u8 => U8, u16 => U16, u32 => U32, u64 => U64, f32 => F32, f64 => F64, half::f16 => F16, half::bf16 => BF16);

/// How many elements a shape has that was read from a file, which may say anything. `None` where 8 bytes an element could not be addressed, or their bits not be
/// counted; an axis of no elements does not excuse the others, whose sizes are multiplied without it too.
pub fn checked_len(shape: &[usize]) -> Option<usize> {
    let bits = shape.iter().filter(|&&d| d != 0).try_fold(64usize, |bits, &d| bits.checked_mul(d))?;
    (bits <= isize::MAX as usize).then(|| shape.iter().product())
}

impl Tensor {
    fn build(dtype: DType, shape: Vec<usize>, storage: Storage) -> Tensor {
        Tensor(Arc::new(Inner {
            dtype,
            shape,
            storage,
            hash: OnceLock::new(),
            magnitudes: OnceLock::new(),
        }))
    }

    /// From little-endian bytes, one element after another. Panics if the length does not fit the shape.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Tensor {
        assert_eq!(
            bytes.len(),
            shape.iter().product::<usize>() * dtype.size(),
            "bytes of a {dtype} tensor {shape:?}"
        );
        Tensor::filled(dtype, shape, |to| to.copy_from_slice(bytes))
    }

    /// Of bytes that are zero until `fill` writes them, in their place: large results are made without a copy.
    pub fn filled(dtype: DType, shape: &[usize], fill: impl FnOnce(&mut [u8])) -> Tensor {
        let len = shape.iter().product::<usize>() * dtype.size();
        let mut words = vec![0u64; len.div_ceil(8)];
        // SAFETY: u64 has no padding; the byte view stays inside the allocation.
        let view =
            unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<u8>(), words.len() * 8) };
        fill(&mut view[..len]);
        Tensor::build(dtype, shape.to_vec(), Storage::Owned(words, len))
    }

    /// As [`Tensor::filled`], by elements.
    pub fn filled_with<T: Element>(shape: &[usize], fill: impl FnOnce(&mut [T])) -> Tensor {
        Tensor::filled(T::DTYPE, shape, |bytes| {
            // SAFETY: the words that `filled` allocates are 8-byte aligned, and every bit pattern is a value of an element type.
            let elements = unsafe {
                std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast::<T>(), bytes.len() / size_of::<T>())
            };
            fill(elements);
        })
    }

    /// A part of a memory-mapped file; shares the mapping. Panics if the range is outside it.
    pub fn from_mapped(dtype: DType, shape: &[usize], map: Arc<memmap2::Mmap>, offset: usize) -> Tensor {
        let len = shape.iter().product::<usize>() * dtype.size();
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= map.len()),
            "mapped tensor outside its file"
        );
        if !(map.as_ptr() as usize + offset).is_multiple_of(8) {
            return Tensor::from_bytes(dtype, shape, &map[offset..offset + len]);
        }
        Tensor::build(dtype, shape.to_vec(), Storage::Mapped(map, offset, len))
    }

    /// From elements. Panics if their number does not fit the shape.
    pub fn new<T: Element>(shape: &[usize], data: Vec<T>) -> Tensor {
        // SAFETY: Element types are plain data without padding.
        let bytes = unsafe {
            std::slice::from_raw_parts(data.as_ptr().cast::<u8>(), std::mem::size_of_val(data.as_slice()))
        };
        Tensor::from_bytes(T::DTYPE, shape, bytes)
    }

    /// A rank-0 tensor.
    pub fn scalar<T: Element>(value: T) -> Tensor {
        Tensor::new(&[], vec![value])
    }

    /// A bool tensor.
    pub fn from_bools(shape: &[usize], data: &[bool]) -> Tensor {
        let bytes: Vec<u8> = data.iter().map(|&b| b as u8).collect();
        Tensor::from_bytes(DType::Bool, shape, &bytes)
    }

    /// A string tensor.
    pub fn from_strings(shape: &[usize], data: Vec<String>) -> Tensor {
        assert_eq!(data.len(), shape.iter().product::<usize>(), "strings of a tensor {shape:?}");
        Tensor::build(DType::String, shape.to_vec(), Storage::Strings(data))
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// Dims, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.shape.len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.0.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type, with constant dims.
    pub fn ty(&self) -> TensorType {
        TensorType::fixed(self.0.dtype, &self.0.shape)
    }

    /// The raw little-endian bytes; empty for strings.
    pub fn bytes(&self) -> &[u8] {
        match &self.0.storage {
            // SAFETY: the view covers `len` bytes of the owned words.
            Storage::Owned(words, len) => unsafe {
                std::slice::from_raw_parts(words.as_ptr().cast::<u8>(), *len)
            },
            Storage::Mapped(map, offset, len) => &map[*offset..*offset + *len],
            Storage::Strings(_) => &[],
        }
    }

    /// The elements. Panics if `T` is not this tensor's dtype.
    pub fn data<T: Element>(&self) -> &[T] {
        assert_eq!(self.0.dtype, T::DTYPE, "read as another dtype");
        let bytes = self.bytes();
        // SAFETY: storage is 8-byte aligned (owned words, or checked in `from_mapped`) and holds `len` elements of T.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast::<T>(), bytes.len() / size_of::<T>()) }
    }

    /// The strings; empty unless the dtype is `string`.
    pub fn strings(&self) -> &[String] {
        match &self.0.storage {
            Storage::Strings(s) => s,
            _ => &[],
        }
    }

    /// The elements as i64 if the dtype is an integer (of 8 bits or more) or bool.
    pub fn to_i64s(&self) -> Option<Vec<i64>> {
        Some(match self.0.dtype {
            DType::I64 => self.data::<i64>().to_vec(),
            DType::I32 => self.data::<i32>().iter().map(|&v| v.into()).collect(),
            DType::I16 => self.data::<i16>().iter().map(|&v| v.into()).collect(),
            DType::I8 => self.data::<i8>().iter().map(|&v| v.into()).collect(),
            DType::U64 => self.data::<u64>().iter().map(|&v| v as i64).collect(),
            DType::U32 => self.data::<u32>().iter().map(|&v| v.into()).collect(),
            DType::U16 => self.data::<u16>().iter().map(|&v| v.into()).collect(),
            DType::U8 => self.data::<u8>().iter().map(|&v| v.into()).collect(),
            DType::Bool => self.bytes().iter().map(|&v| v.into()).collect(),
            _ => return None,
        })
    }

    /// The same elements under another shape of equal size. Shares nothing but is cheap for small tensors.
    pub fn reshaped(&self, shape: &[usize]) -> Tensor {
        match &self.0.storage {
            Storage::Strings(s) => Tensor::from_strings(shape, s.clone()),
            Storage::Mapped(map, offset, len) => {
                assert_eq!(
                    shape.iter().product::<usize>() * self.0.dtype.size(),
                    *len,
                    "reshape changes the size"
                );
                Tensor::build(self.0.dtype, shape.to_vec(), Storage::Mapped(map.clone(), *offset, *len))
            }
            Storage::Owned(..) => Tensor::from_bytes(self.0.dtype, shape, self.bytes()),
        }
    }

    /// How large the elements are, computed once; `None` of no elements and of types that are no f16, bf16, f32 or f64.
    pub fn magnitudes(&self) -> Option<Magnitudes> {
        *self.0.magnitudes.get_or_init(|| {
            // Without their sign, the bits of floats are in the order of their sizes; zero less one is the largest of all.
            macro_rules! of_bits {
                ($float:ty, $bits:ty, $signed:ty) => {{
                    let sizes = || self.data::<$float>().iter().map(|v| v.to_bits() & (<$bits>::MAX >> 1));
                    let first = sizes().next()? as $signed;
                    let bounds = |(low, high): ($signed, $signed), b| (low.min(b), high.max(b));
                    let (low, high) = sizes().map(|b| b as $signed).fold((first, first), bounds);
                    let least = match low {
                        0 => sizes().map(|b| b.wrapping_sub(1)).min()?.wrapping_add(1),
                        low => low as $bits,
                    };
                    let number = |bits| f64::from(<$float>::from_bits(bits));
                    Magnitudes { largest: number(high as $bits), least: number(least), zero: low == 0 }
                }};
            }
            if self.0.dtype == DType::F32
                && let Some(found) = ordinary(self.data::<f32>())
            {
                return Some(found);
            }
            Some(match self.0.dtype {
                DType::F16 => of_bits!(half::f16, u16, i16),
                DType::BF16 => of_bits!(half::bf16, u16, i16),
                DType::F32 => of_bits!(f32, u32, i32),
                DType::F64 => of_bits!(f64, u64, i64),
                _ => return None,
            })
        })
    }

    /// Hash of dtype, shape and content; computed once.
    pub fn content_hash(&self) -> ContentHash {
        *self.0.hash.get_or_init(|| {
            let mut h = blake3::Hasher::new();
            h.update(self.0.dtype.name().as_bytes());
            h.update(&(self.0.shape.len() as u64).to_le_bytes());
            for d in &self.0.shape {
                h.update(&(*d as u64).to_le_bytes());
            }
            h.update(self.bytes());
            for s in self.strings() {
                h.update(&(s.len() as u64).to_le_bytes());
                h.update(s.as_bytes());
            }
            ContentHash(*h.finalize().as_bytes())
        })
    }
}

/// The magnitudes of floats that are all finite and not zero, as weights are; eight of them at a time, for the compiler to make vectors
/// of. `None` of others.
fn ordinary(all: &[f32]) -> Option<Magnitudes> {
    let (mut most, mut least, mut over) = ([0f32; 8], [f32::MAX; 8], [0u32; 8]);
    let mut add = |eight: [f32; 8]| {
        for i in 0..8 {
            let size = eight[i].abs();
            most[i] = if size > most[i] { size } else { most[i] };
            least[i] = if size < least[i] { size } else { least[i] };
            // The exponent of what is not finite overflows into the sign.
            over[i] |= size.to_bits().wrapping_add(1 << 23);
        }
    };
    let mut last = [*all.first()?; 8];
    let (chunks, rest) = all.as_chunks::<8>();
    chunks.iter().for_each(|&eight| add(eight));
    last[..rest.len()].copy_from_slice(rest);
    add(last);
    let (most, least) = (most.into_iter().fold(0.0, f32::max), least.into_iter().fold(f32::MAX, f32::min));
    let ordinary = least != 0.0 && over.iter().all(|&bits| bits >> 31 == 0);
    ordinary.then(|| Magnitudes { largest: most.into(), least: least.into(), zero: false })
}

impl PartialEq for Tensor {
    /// Same dtype, shape and bytes (so NaN equals NaN of the same bits).
    fn eq(&self, other: &Tensor) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.dtype == other.0.dtype
                && self.0.shape == other.0.shape
                && self.bytes() == other.bytes()
                && self.strings() == other.strings())
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.ty(), self.content_hash())
    }
}

/// A run-time value of any type.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A tensor.
    Tensor(Tensor),
    /// A list.
    Sequence(Vec<Value>),
    /// A value or nothing.
    Optional(Option<Box<Value>>),
}

impl Value {
    /// The tensor, if it is one.
    pub fn as_tensor(&self) -> Option<&Tensor> {
        match self {
            Value::Tensor(t) => Some(t),
            _ => None,
        }
    }
}

impl From<Tensor> for Value {
    fn from(t: Tensor) -> Value {
        Value::Tensor(t)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes_are_those_of_each_element() {
        let odd = [0.0, -0.0, 1e-40, -7e4, f32::MAX, f32::INFINITY, f32::NAN, -f32::NAN, 3.0];
        for len in 1..20 {
            for (at, value) in (0..len).flat_map(|at| odd.map(|v| (at, v))) {
                let mut all: Vec<f32> = (0..len).map(|i| 1.0 - i as f32 * 0.125).collect();
                all[at] = value;
                let bits = || all.iter().map(|v| v.abs().to_bits());
                let size = |b: u32| f64::from(f32::from_bits(b));
                let found = Tensor::new(&[len], all.clone()).magnitudes().unwrap();
                let largest = size(bits().max().unwrap());
                assert_eq!(found.largest.to_bits(), largest.to_bits(), "{all:?}");
                let least = bits().filter(|b| *b != 0).min().map_or(0.0, size);
                assert_eq!(found.least.to_bits(), least.to_bits(), "{all:?}");
                assert_eq!(found.zero, all.contains(&0.0), "{all:?}");
            }
        }
        assert_eq!(Tensor::new::<f32>(&[0], vec![]).magnitudes(), None);
        let all_zero = Magnitudes { largest: 0.0, least: 0.0, zero: true };
        assert_eq!(Tensor::new(&[3], vec![0.0f64; 3]).magnitudes(), Some(all_zero));
        let wide = Magnitudes { largest: 8.0, least: 0.5, zero: true };
        assert_eq!(Tensor::new(&[3], vec![-8.0f64, 0.0, 0.5]).magnitudes(), Some(wide));
    }
}
