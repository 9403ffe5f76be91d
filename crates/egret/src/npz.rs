//! Tensors in NumPy's files: `.npy`, and `.npz` with stored or deflated entries.

use crate::error::{Error, Result};
use egret_ir::{DType, Op, Tensor, Value, attrs, checked_len, interp};
use py_literal::Value as Literal;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Read a `.npy` file.
pub fn read_npy(path: &Path) -> Result<Tensor> {
    let file = File::open(path).map_err(|e| Error::io("read", path, &e))?;
    read_array(std::io::BufReader::new(file)).map_err(|e| Error::user(format!("{}: {e}", path.display())))
}

/// Read every array of a `.npz` file.
pub fn read_npz(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let bad = |e: String| Error::user(format!("{}: {e}", path.display()));
    let mut archive = archive(path)?;
    let names: Vec<String> = archive.zip_archive().file_names().map(str::to_owned).collect();
    let mut out = BTreeMap::new();
    for file in names {
        let Some(name) = file.strip_suffix(".npy") else { continue };
        let bad = |e: String| bad(format!("`{name}`: {e}"));
        let mut entry = archive.zip_archive().by_name(&file).map_err(|e| bad(e.to_string()))?;
        let array = read_array(&mut entry).map_err(&bad)?;
        whole(&mut entry).map_err(&bad)?;
        out.insert(name.to_owned(), array);
    }
    Ok(out)
}

/// The most brackets within one another of a header: a dictionary, its list of fields, a field and its shape. The reader's time doubles with
/// each.
const NESTED: usize = 8;

/// The longest header, in bytes.
const HEADER: usize = 1 << 20;

/// The most texts without a character of an array: they take no bytes of the file, which could say that there are any number of them.
const EMPTY_TEXTS: usize = 1 << 20;

/// What an array's elements are, as a Python literal: what the file has before them, behind its length.
fn header(mut from: impl Read) -> std::result::Result<String, String> {
    let mut bytes = vec![];
    let mut more = |bytes: &mut Vec<u8>, count: usize| {
        let end = bytes.len();
        bytes.resize(end + count, 0);
        from.read_exact(&mut bytes[end..]).map_err(|e| e.to_string())
    };
    more(&mut bytes, 8)?;
    if !bytes.starts_with(b"\x93NUMPY") {
        return Err("it does not begin as one".into());
    }
    // Version 1 has a length of two bytes, later ones of four.
    let size = if bytes[6] == 1 { 2 } else { 4 };
    more(&mut bytes, size)?;
    let length = bytes[8..].iter().rev().fold(0, |n, &b| n << 8 | usize::from(b));
    if length > HEADER {
        return Err(format!("a header of {length} bytes"));
    }
    more(&mut bytes, length)?;
    let text = String::from_utf8(bytes.split_off(8 + size)).map_err(|e| e.to_string())?;
    let (mut open, mut most) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    if most > NESTED {
        return Err(format!("a header with {most} brackets within one another"));
    }
    Ok(text)
}

/// What the elements of an array are.
#[derive(Copy, Clone, Debug)]
enum Kind {
    Plain(DType),
    /// Texts of at most so many characters.
    Text(usize),
}

/// What the header of an array says.
struct Head {
    shape: Vec<usize>,
    kind: Kind,
    fortran: bool,
}

impl Head {
    fn read(from: impl Read) -> std::result::Result<Head, String> {
        let bad = |e: String| format!("no .npy file: {e}");
        let text = header(from).map_err(bad)?;
        let literal = text.trim().parse::<Literal>().map_err(|e| bad(e.to_string()))?;
        let fields = literal.as_dict().ok_or_else(|| bad("its header is no dictionary".into()))?;
        let field = |name: &str| {
            let found = fields.iter().find(|(key, _)| key.as_string().is_some_and(|k| k == name));
            found.map(|(_, value)| value).ok_or_else(|| bad(format!("its header has no `{name}`")))
        };
        let (descr, order, shape) = (field("descr")?, field("fortran_order")?, field("shape")?);
        let spelling = descr.as_string().ok_or("an array of records")?;
        let spelling = spelling.parse::<npyz::TypeStr>().map_err(|e| bad(e.to_string()))?.to_string();
        let kind = match spelling.strip_prefix("<U").and_then(|n| n.parse::<usize>().ok()) {
            Some(chars) => Kind::Text(chars),
            None => Kind::Plain(npy_dtype(&spelling).ok_or_else(|| {
                format!("its dtype {spelling} is not one of bool, int8..64, uint8..64, float16..64 in little-endian order, or str")
            })?),
        };
        let fortran = order.as_boolean().ok_or_else(|| bad("its `fortran_order` is no bool".into()))?;
        Ok(Head { shape: shape_of(shape)?, kind, fortran })
    }
}

/// The shape that a header states.
fn shape_of(stated: &Literal) -> std::result::Result<Vec<usize>, String> {
    let (Literal::Tuple(dims) | Literal::List(dims)) = stated else {
        return Err(format!("its shape {stated} is no tuple"));
    };
    let size = |d: &Literal| usize::try_from(d.as_integer()?).ok();
    let shape: Option<Vec<usize>> = dims.iter().map(size).collect();
    let shape =
        shape.ok_or_else(|| format!("its shape {stated} is not of whole numbers from 0 to 2^64 - 1"))?;
    match checked_len(&shape) {
        Some(_) => Ok(shape),
        None => Err(format!("its shape {stated} overflows the address space")),
    }
}

/// The next elements of an array, as many as a shape has.
fn elements(from: impl Read, shape: &[usize], kind: Kind) -> std::result::Result<Tensor, String> {
    let overflows = || format!("its shape {shape:?} overflows the address space");
    let count = checked_len(shape).ok_or_else(overflows)?;
    Ok(match kind {
        Kind::Text(0) if count > EMPTY_TEXTS => {
            return Err(format!("its shape {shape:?} is of {count} texts without a character"));
        }
        Kind::Text(chars) => {
            let width = chars.checked_mul(4).ok_or_else(|| format!("texts of {chars} characters"))?;
            let bytes = read_exactly(from, count.checked_mul(width).ok_or_else(overflows)?)?;
            Tensor::from_strings(shape, strings(&bytes, count, width)?)
        }
        Kind::Plain(dtype) => Tensor::from_bytes(dtype, shape, &read_exactly(from, count * dtype.size())?),
    })
}

fn read_array(mut from: impl Read) -> std::result::Result<Tensor, String> {
    let Head { shape, kind, fortran } = Head::read(&mut from)?;
    // Fortran order is row-major order of the reversed axes.
    let stored: Vec<usize> = if fortran { shape.iter().rev().copied().collect() } else { shape.clone() };
    let tensor = elements(from, &stored, kind)?;
    if !fortran || shape.len() < 2 {
        return Ok(tensor);
    }
    let perm: Vec<i64> = (0..shape.len() as i64).rev().collect();
    let out = interp::eval_op(Op::Transpose, &attrs! { perm: perm }, &[Some(tensor.into())], &[])
        .map_err(|e| e.to_string())?;
    out.into_iter()
        .next()
        .and_then(|v| v.as_tensor().cloned())
        .ok_or_else(|| "it cannot be transposed".into())
}

/// That an entry of a `.npz` file is what was stored: its checksum is compared at its end, behind the last byte of the array.
fn whole(entry: &mut impl Read) -> std::result::Result<(), String> {
    std::io::copy(entry, &mut std::io::sink()).map(drop).map_err(|e| format!("it is damaged: {e}"))
}

/// An array that is read one element of its first axis at a time, so that no more than one is in memory.
pub(crate) struct Rows<R> {
    from: R,
    head: Head,
    /// Elements that are not taken yet, of an entry that is held against its checksum when there are none.
    to_check: Option<usize>,
}

impl<R: Read> Rows<R> {
    /// The array of a `.npy` file or of an entry of a `.npz` file.
    pub(crate) fn new(mut from: R) -> std::result::Result<Rows<R>, String> {
        let head = Head::read(&mut from)?;
        if head.fortran && head.shape.len() > 1 {
            return Err("it is stored in Fortran order, sample behind sample is not together; save np.ascontiguousarray(x)".into());
        }
        Ok(Rows { from, head, to_check: None })
    }

    /// It, as an entry of a `.npz` file: whoever takes the last elements learns of a wrong checksum.
    fn checked(mut self) -> std::result::Result<Rows<R>, String> {
        let mut left = checked_len(&self.head.shape).unwrap_or(usize::MAX);
        if left == 0 {
            whole(&mut self.from)?;
            left = usize::MAX;
        }
        Ok(Rows { to_check: Some(left), ..self })
    }

    /// The shape of the whole array.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.head.shape
    }

    /// The next elements, of this shape.
    pub(crate) fn take(&mut self, shape: &[usize]) -> std::result::Result<Tensor, String> {
        let taken = elements(&mut self.from, shape, self.head.kind)?;
        if let Some(left) = &mut self.to_check {
            *left = left.saturating_sub(shape.iter().product());
            if *left == 0 {
                whole(&mut self.from)?;
            }
        }
        Ok(taken)
    }
}

/// The names of the arrays of a `.npz` file, sorted.
pub(crate) fn names(archive: &mut Archive) -> Vec<String> {
    let mut out: Vec<String> = archive
        .zip_archive()
        .file_names()
        .filter_map(|f| f.strip_suffix(".npy").map(str::to_owned))
        .collect();
    out.sort();
    out
}

/// An open `.npz` file.
pub(crate) type Archive = npyz::npz::NpzArchive<std::io::BufReader<File>>;

/// Open a `.npz` file.
pub(crate) fn archive(path: &Path) -> Result<Archive> {
    let file = File::open(path).map_err(|e| Error::io("read", path, &e))?;
    npyz::npz::NpzArchive::new(std::io::BufReader::new(file))
        .map_err(|e| Error::user(format!("{}: no .npz file: {e}", path.display())))
}

/// An array of an open `.npz` file, to be read row by row.
pub(crate) fn rows<'a>(
    archive: &'a mut Archive,
    path: &Path,
    name: &str,
) -> Result<Rows<Box<dyn Read + 'a>>> {
    let bad = |e: String| Error::user(format!("{}: `{name}`: {e}", path.display()));
    let entry = archive.zip_archive().by_name(&format!("{name}.npy")).map_err(|e| bad(e.to_string()))?;
    Rows::new(Box::new(entry) as Box<dyn Read>).and_then(Rows::checked).map_err(bad)
}

/// Exactly the bytes that the header announces. Grows as it reads: a header may announce anything.
fn read_exactly(from: impl Read, len: usize) -> std::result::Result<Vec<u8>, String> {
    let mut bytes = vec![];
    from.take(len as u64).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() == len {
        Ok(bytes)
    } else {
        Err(format!("cut off: {} of {len} bytes are there", bytes.len()))
    }
}

/// NumPy's fixed-width UTF-32 strings.
fn strings(bytes: &[u8], count: usize, width: usize) -> std::result::Result<Vec<String>, String> {
    if width == 0 {
        return Ok(vec![String::new(); count]);
    }
    let one = |b: &[u8]| {
        let units = b.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]));
        let text: Option<String> = units.map(char::from_u32).collect();
        text.map(|t| t.trim_end_matches('\0').to_owned())
            .ok_or_else(|| "a string holds no Unicode".to_owned())
    };
    bytes.chunks_exact(width).map(one).collect()
}

const PLAIN: [(&str, DType); 12] = [
    ("|b1", DType::Bool),
    ("|i1", DType::I8),
    ("<i2", DType::I16),
    ("<i4", DType::I32),
    ("<i8", DType::I64),
    ("|u1", DType::U8),
    ("<u2", DType::U16),
    ("<u4", DType::U32),
    ("<u8", DType::U64),
    ("<f2", DType::F16),
    ("<f4", DType::F32),
    ("<f8", DType::F64),
];

fn npy_dtype(spelling: &str) -> Option<DType> {
    PLAIN.iter().find(|(s, _)| *s == spelling).map(|(_, d)| *d)
}

/// Whether NumPy's files hold this element type as it is.
pub fn has_type(dtype: DType) -> bool {
    PLAIN.iter().any(|(_, d)| *d == dtype)
}

/// The bytes of a `.npy` file. Types that NumPy lacks are written as unsigned integers of their size.
pub fn npy_bytes(tensor: &Tensor) -> Vec<u8> {
    let dtype = tensor.dtype();
    let (descr, data) = if dtype == DType::String {
        let chars = tensor.strings().iter().map(|s| s.chars().count()).max().unwrap_or(0).max(1);
        let mut data = vec![];
        for s in tensor.strings() {
            let padded = s.chars().map(u32::from).chain(std::iter::repeat(0)).take(chars);
            data.extend(padded.flat_map(u32::to_le_bytes));
        }
        (format!("<U{chars}"), data)
    } else {
        let like = if dtype == DType::BF16 { DType::U16 } else { dtype };
        let descr = PLAIN.iter().find(|(_, d)| *d == like).map_or("|u1", |(s, _)| s);
        (descr.to_owned(), tensor.bytes().to_vec())
    };
    let dims: String = tensor.shape().iter().map(|d| format!("{d}, ")).collect();
    let dims = if tensor.rank() == 1 { dims.trim_end() } else { dims.trim_end_matches(", ") };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}");
    // Magic (8), length (2), header and newline are a multiple of 64.
    header += &" ".repeat((64 - (8 + 2 + header.len() + 1) % 64) % 64);
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(data);
    out
}

/// The bytes of a `.npz` file with stored entries and no dates: equal arrays give equal bytes.
pub fn npz_bytes(arrays: &[(String, Tensor)]) -> Result<Vec<u8>> {
    let (mut out, mut directory) = (vec![], vec![]);
    for (name, tensor) in arrays {
        let data = npy_bytes(tensor);
        let file = format!("{name}.npy");
        let too_big = |_| Error::user("the outputs do not fit a .npz file of 4 GB; write fewer of them");
        let size = u32::try_from(data.len()).map_err(too_big)?;
        let offset = u32::try_from(out.len()).map_err(too_big)?;
        // Version 2.0, UTF-8 names, stored, 1980-01-01.
        let mut common = vec![];
        common.extend([20, 0, 0, 8, 0, 0, 0, 0, 33, 0]);
        common.extend(crc32(&data).to_le_bytes());
        common.extend(size.to_le_bytes());
        common.extend(size.to_le_bytes());
        common.extend((file.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(file.as_bytes());
        out.extend(data);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(file.as_bytes());
    }
    let count = (arrays.len() as u16).to_le_bytes();
    let offset = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend(count);
    out.extend(count);
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(offset.to_le_bytes());
    out.extend([0, 0]);
    Ok(out)
}

fn crc32(bytes: &[u8]) -> u32 {
    let table: [u32; 256] = std::array::from_fn(|i| {
        (0..8).fold(i as u32, |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 })
    });
    !bytes.iter().fold(!0, |c, &b| table[(c as u8 ^ b) as usize] ^ c >> 8)
}

/// A tensor as a model's input wants it: the same dtype, or one that only NumPy spells otherwise (bf16 as uint16, ...).
pub fn as_dtype(tensor: &Tensor, want: DType) -> Tensor {
    let plain = |d: DType| PLAIN.iter().any(|(_, p)| *p == d);
    let spelt = matches!(tensor.dtype(), DType::U8 | DType::U16)
        && !plain(want)
        && want.size() == tensor.dtype().size();
    if spelt { Tensor::from_bytes(want, tensor.shape(), tensor.bytes()) } else { tensor.clone() }
}

/// The tensors among values, with their names; what is no tensor cannot be written.
pub fn tensors(names: &[String], values: &[Value]) -> Result<Vec<(String, Tensor)>> {
    let one = |(n, v): (&String, &Value)| match v {
        Value::Tensor(t) => Ok((n.clone(), t.clone())),
        _ => Err(Error::unsupported(format!("the output `{n}` is no tensor: a .npz file cannot hold it"))),
    };
    names.iter().zip(values).map(one).collect()
}

/// Hold the name of a file for outputs against what can be written: `.npz` or `.npy`.
///
/// # Errors
/// It ends otherwise.
pub fn check_name(path: &Path) -> Result<()> {
    if path.extension().is_some_and(|e| e == "npz" || e == "npy") {
        return Ok(());
    }
    Err(Error::user(format!(
        "outputs are written to .npz files, or a single one to a .npy file, not to {}",
        path.display()
    )))
}

/// Write arrays to a `.npz` file, or the only one to a `.npy` file.
///
/// # Errors
/// The file cannot be written; several arrays for a `.npy` file.
pub fn write(path: &Path, arrays: &[(String, Tensor)]) -> Result<()> {
    check_name(path)?;
    if path.extension().is_some_and(|e| e == "npz") {
        return crate::files::write(path, &npz_bytes(arrays)?);
    }
    match arrays {
        [(_, only)] => crate::files::write(path, &npy_bytes(only)),
        _ => Err(Error::user(format!(
            "{}: a .npy file holds one output, and there are {}: {}; write a .npz file",
            path.display(),
            arrays.len(),
            arrays.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: a reader of Python literals that goes back takes a time that doubles with every bracket.
    #[test]
    fn brackets_in_a_header_are_no_hang() {
        let text =
            format!("{{'descr': '|b1', {}'fortran_order': False, 'shape': (2, 2), }}\n", "[".repeat(42));
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.bytes().chain([1; 4]));
        let said = read_array(bytes.as_slice()).map(drop).unwrap_err();
        assert!(said.contains("44 brackets within one another"), "{said}");
        assert!(
            read_array(&bytes[..20]).is_err()
                && read_array(&b"\x93NUMPY\x02\x00\xff\xff\xff\xff"[..]).is_err()
        );
    }

    /// An array is read to its last byte, and the checksum comes behind that.
    #[test]
    fn damaged_entries_are_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let arrays = [("x".to_owned(), Tensor::new(&[4, 2], vec![1f32; 8]))];
        let good = npz_bytes(&arrays).expect("bytes");
        let one = 1f32.to_le_bytes();
        let first = good.windows(4).position(|w| w == one).expect("a number");
        for (at, right) in [(None, true), (Some(first), false), (Some(first + 31), false)] {
            let mut bytes = good.clone();
            if let Some(at) = at {
                bytes[at] ^= 0x40;
            }
            std::fs::write(file.path(), &bytes).expect("written");
            let all = read_npz(file.path()).map(drop).map_err(|e| e.to_string());
            let by_rows = archive(file.path()).and_then(|mut archive| {
                let mut rows = rows(&mut archive, file.path(), "x")?;
                (0..4).try_for_each(|_| rows.take(&[1, 2]).map(drop)).map_err(Error::user)
            });
            for read in [all, by_rows.map_err(|e| e.to_string())] {
                match read {
                    Ok(()) => assert!(right, "{at:?}"),
                    Err(said) => assert!(!right && said.contains("it is damaged"), "{at:?}: {said}"),
                }
            }
        }
    }

    #[test]
    fn shapes_of_any_numbers_are_refused_by_name() {
        let said = |descr: &str, shape: &str| {
            let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
            let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
            bytes.extend((text.len() as u16).to_le_bytes());
            bytes.extend(text.bytes().chain([0; 64]));
            read_array(bytes.as_slice()).map(|t| t.shape().to_vec())
        };
        for shape in [
            "(4611686018427387904, 2, 2, 1)",
            "[4611686018427387904, 2, 2, 1]",
            "(4611686018427387904, 4, 4)",
            "(4294967296, 4294967296, 0)",
            "(0, 4294967296, 4294967296)",
            "(9223372036854775807,)",
        ] {
            for descr in ["<f4", "|b1", "<U4", "<U0"] {
                let said = said(descr, shape).unwrap_err();
                assert!(said.contains(shape) && said.contains("overflows the address space"), "{said}");
            }
        }
        for shape in ["(-1,)", "(18446744073709551616,)", "(None,)"] {
            let said = said("<f4", shape).unwrap_err();
            assert!(said.contains(shape) && said.contains("whole numbers"), "{said}");
        }
        assert!(said("<f4", "7").unwrap_err().contains("no tuple"));
        assert!(said("<U0", "(1099511627776,)").unwrap_err().contains("without a character"));
        assert!(
            said("<U4611686018427387904", "(0,)").is_err()
                && said("<U4611686018427387904", "(2,)").is_err()
        );
        assert!(said("<f4", "(1000000000000,)").unwrap_err().contains("cut off"));
        assert_eq!(said("<f4", "(4, 2)").unwrap(), [4, 2]);
        assert_eq!(said("<f4", "(4294967296, 0)").unwrap(), [4294967296, 0]);
    }

    #[test]
    fn npz_round_trips() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npz");
        let arrays = vec![
            ("a".to_owned(), Tensor::new(&[2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, f32::NAN])),
            ("b/c".to_owned(), Tensor::scalar(7i64)),
            ("empty".to_owned(), Tensor::new::<f64>(&[0, 4], vec![])),
            ("flag".to_owned(), Tensor::from_bools(&[1], &[true])),
            ("half".to_owned(), Tensor::new(&[1], vec![half::f16::from_f32(0.5)])),
            ("s".to_owned(), Tensor::from_strings(&[2], vec!["x".into(), "größer".into()])),
        ];
        std::fs::write(&path, npz_bytes(&arrays).unwrap()).unwrap();
        assert_eq!(read_npz(&path).unwrap(), arrays.into_iter().collect());
    }

    #[test]
    fn crc_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn damaged_arrays_are_errors() {
        let whole = npy_bytes(&Tensor::new(&[4], vec![1i32, 2, 3, 4]));
        for len in 0..whole.len() {
            assert!(read_array(&whole[..len]).is_err(), "{len}");
        }
        assert!(read_array(&whole[..]).is_ok());
    }
}
