//! Compiled models in one file each, which another process loads and runs without compiling ([`Native::save`], [`Native::load`]).
//!
//! ```text
//! file    = head, about, object, values, zeros up to a multiple of 64, weights
//! head    = magic (8 bytes), lengths of about, object and values (8 bytes each), BLAKE3 of all that is in front of the zeros but itself (32)
//! about   = JSON: who compiled it and for what, and what callers are told (`Stated`)
//! object  = an object file of this machine, without weights
//! values  = the tensors that inputs were bound to, one behind the other
//! weights = a weights file: its head, which has the length and the BLAKE3 of what follows, and the weights as kernels read them
//! ```
//!
//! Loading links the object into the process ([`egret_codegen::link`]) and maps the weights: their pages are shared by all processes that load the
//! file. The file is held against its lengths and hashes before anything of it is used: a damaged one is refused. Who made it is not
//! known by that: **a saved model is code**, to be loaded from those whose programs one would run.

use crate::error::{Error, Result};
use crate::native::{Kept, Native};
use crate::{files, pipeline};
use egret_codegen::Target;
use egret_ir::{DType, Tensor};
use egret_runtime::abi::{self, ABI_VERSION, WEIGHTS_HEADER};
use egret_runtime::{Mapped, Model, WeightsFile};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The first bytes of a file; the last of them is the version of the format.
const MAGIC: [u8; 8] = *b"EGRETM\0\x01";
/// Bytes of the head.
const HEAD: usize = 64;
/// Those of them that the hash in it covers.
const HASHED: usize = 32;

/// What a compiled model says of itself beside its code.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// For each input its dims: numbers, or the names of dims that are free.
    pub inputs: Vec<Vec<String>>,
    /// The same for outputs.
    pub outputs: Vec<Vec<String>>,
    /// The values that inputs were fixed to, by name.
    pub bound: BTreeMap<String, Tensor>,
}

/// What a file says of its code, as JSON.
#[derive(Serialize, Deserialize)]
struct Stated {
    producer: String,
    abi: u32,
    arch: String,
    os: String,
    features: Vec<String>,
    name: String,
    limits: String,
    inputs: Vec<Vec<String>>,
    outputs: Vec<Vec<String>>,
    bound: Vec<Bound>,
}

#[derive(Serialize, Deserialize)]
struct Bound {
    name: String,
    dtype: u32,
    shape: Vec<usize>,
}

impl Native {
    /// Write it to a file, from which [`Native::load`] reads it. The same model, options and compiler give the same bytes.
    ///
    /// # Errors
    /// It was itself loaded, or compiled to be run only; the file cannot be written; this machine is not x86-64 Linux.
    pub fn save(&self, path: &Path, about: &About) -> Result<()> {
        egret_codegen::linkable()?;
        let Kept { program, options } = self.kept().ok_or_else(|| {
            Error::user("a model that was loaded from a file is not saved again: copy the file")
        })?;
        files::writable(path)?;
        let model = self.model();
        let object = pipeline::code_object(program, options, model.weights_hash())?;
        let target = crate::targets::target(options)?;
        let stated = Stated {
            producer: concat!("egret ", env!("CARGO_PKG_VERSION")).into(),
            abi: ABI_VERSION,
            arch: std::env::consts::ARCH.into(),
            os: std::env::consts::OS.into(),
            features: target.features().iter().map(|f| f.name().to_owned()).collect(),
            name: program.name.clone(),
            limits: self.limits().to_owned(),
            inputs: about.inputs.clone(),
            outputs: about.outputs.clone(),
            bound: about.bound.iter().map(|(name, tensor)| Bound::of(name, tensor)).collect(),
        };
        let stated = serde_json::to_vec(&stated).map_err(|e| Error::internal(e.to_string()))?;
        let values: Vec<u8> = about.bound.values().flat_map(|t| t.bytes().iter().copied()).collect();
        let parts = [&stated[..], &object, &values];
        let mut head = MAGIC.to_vec();
        parts.iter().for_each(|part| head.extend((part.len() as u64).to_le_bytes()));
        head.extend(hash(&head, &parts).as_bytes());
        let filled: usize = head.len() + parts.iter().map(|part| part.len()).sum::<usize>();
        let zeros = vec![0; filled.next_multiple_of(abi::ALIGN) - filled];
        let weights = model.weights();
        let weights_head = abi::weights_header(weights.len() as u64, &model.weights_hash());
        let [stated, object, values] = parts;
        let pieces = [&head[..], stated, object, values, &zeros, &weights_head, weights];
        files::write_pieces(path, pieces.into_iter())
    }

    /// Load what [`Native::save`] wrote, to run on so many threads (the caller's included).
    ///
    /// # Safety
    /// The file's code is run: it must come from someone whose programs one would run. Nobody may write to it or shorten it while the model lives
    /// (to replace it by another file of its name is no harm).
    ///
    /// # Errors
    /// The file cannot be read, is none of these, is cut off or damaged; it is of another version or machine, or this CPU lacks what the code needs.
    pub unsafe fn load(path: &Path, threads: usize) -> Result<(Native, About)> {
        let refused = |why: &str| Error::user(format!("{}: {why}", path.display()));
        let mut file = open(path)?;
        let have = file.metadata().map_err(|e| Error::io("read", path, &e))?.len();
        let mut read = |len: u64| -> Result<Vec<u8>> {
            let mut bytes = vec![];
            Read::by_ref(&mut file)
                .take(len)
                .read_to_end(&mut bytes)
                .map_err(|e| Error::io("read", path, &e))?;
            match bytes.len() as u64 == len {
                true => Ok(bytes),
                false => Err(refused(&format!(
                    "the file is cut off: it has {have} bytes; save the module again"
                ))),
            }
        };
        let head = read(have.min(HEAD as u64))?;
        check_magic(&head).map_err(|why| refused(&why))?;
        let head: [u8; HEAD] =
            head.try_into().map_err(|_| refused("the file is cut off; save the module again"))?;
        let length = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| head[8 + 8 * i + k]));
        let lengths = [length(0), length(1), length(2)];
        let end = lengths.iter().try_fold(HEAD as u64, |sum, len| sum.checked_add(*len));
        let damaged = || {
            refused(
                "the file is damaged: it does not have the hashes that it states; save the module again",
            )
        };
        let end = end.filter(|end| *end < 1 << 62).ok_or_else(damaged)?;
        let parts = [read(lengths[0])?, read(lengths[1])?, read(lengths[2])?];
        let [stated, object, values] = parts.each_ref().map(|part| &part[..]);
        if *hash(&head[..HASHED], &[stated, object, values]).as_bytes() != head[HASHED..] {
            return Err(damaged());
        }
        let stated: Stated =
            serde_json::from_slice(stated).map_err(|e| refused(&format!("no such description: {e}")))?;
        stated.check().map_err(|why| refused(&why))?;
        let start = end.next_multiple_of(abi::ALIGN as u64);
        read(start - end)?;
        let weights_head = read(WEIGHTS_HEADER as u64)?;
        let payload = u64::from_le_bytes(std::array::from_fn(|k| weights_head[8 + k]));
        let len = payload.checked_add(WEIGHTS_HEADER as u64).and_then(|len| usize::try_from(len).ok());
        let len = len.ok_or_else(damaged)?;
        match start.checked_add(len as u64) {
            Some(whole) if have < whole => {
                let why =
                    format!("the file is cut off: it has {have} bytes of {whole}; save the module again");
                return Err(refused(&why));
            }
            Some(whole) if have == whole => {}
            _ => return Err(damaged()),
        }
        // SAFETY: the caller's word.
        let weights = unsafe { Mapped::of(&file, start, len) }.map_err(|e| Error::io("map", path, &e))?;
        let hashed = blake3::hash(&weights[WEIGHTS_HEADER..]);
        if weights[..WEIGHTS_HEADER] != abi::weights_header(payload, hashed.as_bytes()) {
            return Err(damaged());
        }
        let bound = stated.bound(values).ok_or_else(damaged)?;
        // SAFETY: the caller's word, and the hash says that it is whole.
        let code = unsafe { egret_codegen::link(object, &stated.name) }?;
        let symbols = code.symbols();
        // SAFETY: the symbols are those of `code`, which moves into the model and outlives them. That the weights stay is the caller's word.
        let model = unsafe { Model::new(symbols, Some(WeightsFile::Mapped(weights)), Box::new(code)) }?;
        let native = Native::of_saved(model, stated.limits, threads)?;
        Ok((native, About { inputs: stated.inputs, outputs: stated.outputs, bound }))
    }
}

/// A file to be loaded.
fn open(path: &Path) -> Result<File> {
    if path.is_dir() {
        return Err(Error::user(format!(
            "{} is a folder; name the file that a module was saved to",
            path.display()
        )));
    }
    File::open(path).map_err(|e| Error::io("read", path, &e))
}

/// That a file begins as one of this version does.
fn check_magic(head: &[u8]) -> std::result::Result<(), String> {
    let version = MAGIC.len() - 1;
    match head.get(..MAGIC.len()) {
        Some(magic) if magic == MAGIC => Ok(()),
        Some(magic) if magic[..version] == MAGIC[..version] => Err(format!(
            "the module was saved in version {} of the format, and this Egret reads version {}; save it again",
            magic[version], MAGIC[version]
        )),
        _ => Err("this is no module that Egret saved".into()),
    }
}

fn hash(head: &[u8], parts: &[&[u8]]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(head);
    parts.iter().for_each(|part| {
        hasher.update(part);
    });
    hasher.finalize()
}

impl Stated {
    /// That this process can run the code.
    fn check(&self) -> std::result::Result<(), String> {
        let Stated { producer, abi, arch, os, .. } = self;
        if *abi != ABI_VERSION {
            return Err(format!(
                "the module was saved by {producer}, whose code is called in version {abi} of the ABI; this Egret has version {ABI_VERSION}; save it again"
            ));
        }
        let here = (std::env::consts::ARCH, std::env::consts::OS);
        if (arch.as_str(), os.as_str()) != here {
            return Err(format!(
                "the module was saved for {arch} {os}, and this is {} {}; save it here",
                here.0, here.1
            ));
        }
        let native = Target::native().map_err(|e| e.to_string())?;
        let has = |name: &&String| native.features().iter().any(|f| f.name() == name.as_str());
        let missing: Vec<&str> =
            self.features.iter().filter(|name| !has(name)).map(String::as_str).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!(
            "this CPU lacks {}, which the module was compiled for; compile and save it here, or for a target that both CPUs have, such as {}",
            missing.join(", "),
            native.isa(true).name
        ))
    }

    /// The tensors that inputs were bound to; nothing if they are not these bytes.
    fn bound(&self, mut values: &[u8]) -> Option<BTreeMap<String, Tensor>> {
        let mut out = BTreeMap::new();
        for Bound { name, dtype, shape } in &self.bound {
            let dtype = DType::from_abi_code(*dtype).filter(|t| *t != DType::String)?;
            let len = shape.iter().try_fold(dtype.size(), |n, d| n.checked_mul(*d))?;
            let (bytes, rest) = values.split_at_checked(len)?;
            out.insert(name.clone(), Tensor::from_bytes(dtype, shape, bytes));
            values = rest;
        }
        values.is_empty().then_some(out)
    }
}

impl Bound {
    fn of(name: &str, tensor: &Tensor) -> Bound {
        Bound { name: name.into(), dtype: tensor.dtype().abi_code(), shape: tensor.shape().to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Engine, Executable, Options, source};
    use egret_ir::Value;

    /// A file of a small model that is saved for the lowest target.
    fn saved(dir: &Path) -> Result<(Executable, std::path::PathBuf)> {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/simple_cnn.onnx");
        let options = Options { target: "x86-64-v2".into(), threads: 1, ..Options::default() };
        let graph = source::graph(&model, &Default::default())?;
        let executable = Executable::new(graph, Engine::Jit, &options, &BTreeMap::new())?;
        let path = dir.join("net.egretm");
        executable.native().expect("machine code").save(&path, &About::default())?;
        Ok((executable, path))
    }

    fn load(path: &Path) -> Result<Native> {
        // SAFETY: the tests wrote it.
        unsafe { Native::load(path, 1) }.map(|(native, _)| native)
    }

    #[test]
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    fn what_was_saved_gives_the_same_bits() -> Result<()> {
        let dir = tempfile::tempdir().expect("a folder");
        let (made, path) = saved(dir.path())?;
        let image =
            Value::from(Tensor::new(&[1, 1, 28, 28], (0..28 * 28).map(|i| (i % 9) as f32).collect()));
        let want = made.run(std::slice::from_ref(&image))?;
        let back = load(&path)?;
        let got = back.run(&[image])?;
        let bytes = |all: &[Value]| {
            all.iter().map(|v| v.as_tensor().expect("a tensor").bytes().to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(bytes(&got), bytes(&want));
        assert_eq!(back.model().weights(), made.native().expect("machine code").model().weights());
        Ok(())
    }

    /// Files with right hashes, as another machine or a later compiler would write them.
    #[test]
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    fn a_file_for_another_machine_or_version_is_refused() -> Result<()> {
        let dir = tempfile::tempdir().expect("a folder");
        let (_, path) = saved(dir.path())?;
        let bytes = std::fs::read(&path).expect("a file");
        let length = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| bytes[8 + 8 * i + k])) as usize;
        let lengths = [length(0), length(1), length(2)];
        let text = std::str::from_utf8(&bytes[HEAD..HEAD + lengths[0]]).expect("text");
        let weights = (HEAD + lengths.iter().sum::<usize>()).next_multiple_of(abi::ALIGN);
        for (old, new, part) in [
            ("\"sse4.2\"", "\"avx99\"", "this CPU lacks avx99, which the module was compiled for"),
            ("\"x86_64\"", "\"z80\"", "the module was saved for z80 linux, and this is x86_64 linux"),
            ("\"abi\":", "\"abi\":9", "version 9"),
            ("\"abi\"", "\"abj\"", "no such description"),
        ] {
            assert!(text.contains(old), "{text}");
            let text = text.replacen(old, new, 1);
            let behind = &bytes[HEAD + lengths[0]..HEAD + lengths.iter().sum::<usize>()];
            let mut file = MAGIC.to_vec();
            for len in [text.len(), lengths[1], lengths[2]] {
                file.extend((len as u64).to_le_bytes());
            }
            file.extend(hash(&file, &[text.as_bytes(), behind]).as_bytes());
            file.extend(text.as_bytes());
            file.extend(behind);
            file.resize(file.len().next_multiple_of(abi::ALIGN), 0);
            file.extend(&bytes[weights..]);
            std::fs::write(&path, file).expect("a file");
            let e = load(&path).map(|_| ()).expect_err(new);
            assert!(e.message.contains(part), "{e}");
        }
        Ok(())
    }

    #[test]
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    fn other_machines_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let e = saved(dir.path()).map(|_| ()).expect_err("another machine");
        assert!(e.message.contains("x86-64 Linux"), "{e}");
    }
}
