//! Stats: what samples told of the values inside a model, in a file that serves instead of them.
//!
//! All numbers are little-endian; a text is its length (u32) and its bytes.
//!
//! | part | what it holds |
//! |---|---|
//! | head | `EGRSTATS`, the version (u32), the BLAKE3 of the model's file, the number of samples (u64) |
//! | given | how many inputs with a default the samples gave (u32), their names |
//! | layers | how many contractions the model has (u32), each a text: name, operator, sizes |
//! | records | `1`, kind (u8), number (u32), name, groups, columns and rows (u32 each), length (u64), payload |
//! | end | `0`, and the BLAKE3 of all before it |
//!
//! Records stand in the order of kind, number and name. A payload is a histogram ([`Kind::Range`]) or the sums of each group of a layer.
//! Every length is held against what is left of the file before anything of that size is made.

use crate::layers::Contraction;
use crate::moments::Sums;
use egret::{Error, Result, near};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"EGRSTATS";
const VERSION: u32 = 1;
/// Bytes of a hash.
const HASH: usize = 32;

/// What a record is of.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The histogram of a value.
    Range = 1,
    /// The moments of a layer, in the model as it is.
    Moments = 2,
    /// The moments of a layer, in the model with batch normalisations folded.
    Folded = 3,
}

/// What a record is of: its kind, the number of the contraction (of a value 0), and its name.
pub type Key = (Kind, u32, String);

/// Groups, inputs and outputs of a layer; of a value zeros.
pub type Dims = [u32; 3];

/// What stands before the records.
#[derive(Clone, Debug)]
pub struct Head {
    /// The BLAKE3 of the model's file.
    pub model: [u8; HASH],
    /// Samples that were seen.
    pub samples: u64,
    /// Inputs with a default that the samples gave.
    pub given: BTreeSet<String>,
    /// The contractions.
    pub layers: Vec<String>,
}

impl Head {
    /// Of a model, without samples.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn of(path: &Path, found: &[Contraction]) -> Result<Head> {
        let model = model_hash(path)?;
        let layer = |c: &Contraction| match &c.layer {
            Ok(l) => {
                let [groups, columns, rows] = dims(&l.layout);
                format!("{} ({} of {groups} x {columns} inputs and {rows} outputs)", c.name, c.op)
            }
            Err(_) => format!("{} ({})", c.name, c.op),
        };
        Ok(Head { model, samples: 0, given: BTreeSet::new(), layers: found.iter().map(layer).collect() })
    }

    /// How another model differs from this one.
    fn difference(&self, theirs: &Head) -> String {
        let [here, there] = [&self.layers, &theirs.layers].map(Vec::len);
        let other = self.layers.iter().zip(&theirs.layers).find(|(own, other)| own != other);
        match other {
            Some((own, other)) => format!("`{other}` there is `{own}` here"),
            None if here != there => format!("it has {there} contractions, this one {here}"),
            None => "the layers are the same, but other bytes of the file are not".to_owned(),
        }
    }
}

/// The BLAKE3 of a model's file.
///
/// # Errors
/// It cannot be read.
pub fn model_hash(path: &Path) -> Result<[u8; HASH]> {
    let failed = |e| Error::io("read", path, &e);
    let file = File::open(path).map_err(failed)?;
    Ok(*blake3::Hasher::new().update_reader(file).map_err(failed)?.finalize().as_bytes())
}

/// Groups, inputs and outputs of a layer.
pub fn dims(layout: &crate::layout::Layout) -> Dims {
    let columns = layout.position_count() * layout.channel_count();
    [layout.group_count(), columns, layout.row_count()].map(|n| u32::try_from(n).unwrap_or(u32::MAX))
}

/// A file in the making.
pub struct Writer<'a> {
    path: &'a Path,
    out: &'a mut dyn Write,
    hasher: blake3::Hasher,
    /// Bytes so far.
    pub bytes: u64,
}

impl<'a> Writer<'a> {
    /// With its head.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(path: &'a Path, out: &'a mut dyn Write, head: &Head) -> Result<Writer<'a>> {
        let mut writer = Writer { path, out, hasher: blake3::Hasher::new(), bytes: 0 };
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(head.model);
        bytes.extend(head.samples.to_le_bytes());
        bytes.extend(length(head.given.len()));
        head.given.iter().for_each(|name| text(&mut bytes, name));
        bytes.extend(length(head.layers.len()));
        head.layers.iter().for_each(|layer| text(&mut bytes, layer));
        writer.put(&bytes)?;
        Ok(writer)
    }

    /// A record. They come in the order of their keys.
    ///
    /// # Errors
    /// As of [`Writer::new`].
    pub fn record(&mut self, (kind, number, name): &Key, dims: Dims, payload: &[u8]) -> Result<()> {
        let mut bytes = vec![1, *kind as u8];
        bytes.extend(number.to_le_bytes());
        text(&mut bytes, name);
        dims.iter().for_each(|d| bytes.extend(d.to_le_bytes()));
        bytes.extend((payload.len() as u64).to_le_bytes());
        self.put(&bytes)?;
        self.put(payload)
    }

    /// The end; how many bytes there are.
    ///
    /// # Errors
    /// As of [`Writer::new`].
    pub fn end(mut self) -> Result<u64> {
        self.put(&[0])?;
        let hash = *self.hasher.finalize().as_bytes();
        self.put(&hash)?;
        Ok(self.bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|e| Error::io("write", self.path, &e))
    }
}

fn length(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes()
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(length(text.len()));
    out.extend(text.as_bytes());
}

/// Where a payload stands.
struct Place {
    dims: Dims,
    at: u64,
    bytes: u64,
}

/// A file that was opened.
struct Opened {
    path: PathBuf,
    file: File,
    hash: [u8; HASH],
    head: Head,
    records: BTreeMap<Key, Place>,
}

/// The stats of one or more files, of one model.
pub struct Stats {
    files: Vec<Opened>,
}

impl Stats {
    /// Of these files, which are of a model that has this head. The order of the files does not matter.
    ///
    /// # Errors
    /// There is none; one cannot be read, is damaged, is there twice, or is of another model; they were made with other inputs given.
    pub fn open(paths: &[PathBuf], model: &Head) -> Result<Stats> {
        let mut files: Vec<Opened> = paths.iter().map(|p| Opened::new(p)).collect::<Result<_>>()?;
        for file in &files {
            if file.head.model != model.model {
                let text = model.difference(&file.head);
                let path = file.path.display();
                return Err(Error::user(format!(
                    "{path} is of another model: {text}; make it of this one"
                )));
            }
        }
        files.sort_by_key(|f| f.hash);
        for pair in files.windows(2) {
            let [one, two] = pair else { continue };
            let (first, second) = (one.path.display(), two.path.display());
            if one.hash == two.hash {
                return Err(Error::user(format!(
                    "{first} and {second} are the same stats; give them once, or their samples count twice"
                )));
            }
            if let Some(name) = one.head.given.symmetric_difference(&two.head.given).next() {
                return Err(Error::user(format!(
                    "{first} and {second} cannot be merged: only one has samples that give the input `{name}`"
                )));
            }
        }
        match files.is_empty() {
            true => Err(Error::user("no stats; write --stats FILE, as `egret stats` makes it")),
            false => Ok(Stats { files }),
        }
    }

    /// Samples that all of them have seen.
    pub fn samples(&self) -> u64 {
        self.files.iter().fold(0, |n, f| n.saturating_add(f.head.samples))
    }

    /// The BLAKE3 of each file.
    pub fn hashes(&self) -> Vec<[u8; HASH]> {
        self.files.iter().map(|f| f.hash).collect()
    }

    /// Inputs with a default that the samples gave.
    pub fn given(&self) -> BTreeSet<String> {
        self.files.first().map(|f| f.head.given.clone()).unwrap_or_default()
    }

    /// Give the payload of a record in each file to `work`, which tells those apart that [`Writer`] does not write.
    ///
    /// # Errors
    /// A file without it; what cannot be read.
    pub fn each(&self, key: &Key, dims: Dims, mut work: impl FnMut(&[u8]) -> Option<()>) -> Result<()> {
        self.files.iter().try_for_each(|f| work(&f.payload(key, dims)?).ok_or_else(|| damaged(&f.path)))
    }

    /// The sums of a layer's groups, of all files together.
    ///
    /// # Errors
    /// As of [`Stats::each`]; what is no sums.
    pub fn sums(&self, key: &Key, dims: Dims) -> Result<Vec<Sums>> {
        let [groups, columns, rows] = dims.map(|d| d as usize);
        let mut out: Vec<Sums> = vec![];
        self.each(key, dims, |mut bytes| {
            for at in 0..groups {
                let sums = Sums::read(columns, rows, &mut bytes)?;
                match out.get_mut(at) {
                    Some(all) => all.merge(sums),
                    None => out.push(sums),
                }
            }
            Some(())
        })?;
        Ok(out)
    }
}

/// What is said of a file that is not as it was written.
fn damaged(path: &Path) -> Error {
    Error::user(format!("{} is damaged or was cut short; make it again by `egret stats`", path.display()))
}

impl Opened {
    fn new(path: &Path) -> Result<Opened> {
        let failed = |e| Error::io("read", path, &e);
        let meta = std::fs::metadata(path).map_err(failed)?;
        let none = || Error::user(format!("{} is no file that `egret stats` made", path.display()));
        if !meta.is_file() {
            return Err(none());
        }
        let mut file = File::open(path).map_err(failed)?;
        let (mut magic, mut version) = (vec![], [0; 4]);
        (&mut file).take(MAGIC.len() as u64).read_to_end(&mut magic).map_err(failed)?;
        if magic != MAGIC {
            return Err(none());
        }
        file.read_exact(&mut version).map_err(|_| damaged(path))?;
        let version = u32::from_le_bytes(version);
        if version != VERSION {
            return Err(Error::user(format!(
                "{} has version {version} of stats, this Egret reads {VERSION}; make it again by `egret stats`",
                path.display()
            )));
        }
        let body = meta.len().checked_sub(HASH as u64).ok_or_else(|| damaged(path))?;
        file.rewind().map_err(failed)?;
        let made = blake3::Hasher::new().update_reader((&mut file).take(body)).map_err(failed)?.finalize();
        let mut hash = [0; HASH];
        file.read_exact(&mut hash).map_err(|_| damaged(path))?;
        if hash != *made.as_bytes() {
            return Err(damaged(path));
        }
        let start = (MAGIC.len() + size_of::<u32>()) as u64;
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        let parts = Parts { from: BufReader::new(&file), at: start, end: body };
        let (head, records) = parts.all().ok_or_else(|| damaged(path))?;
        Ok(Opened { path: path.to_owned(), file, hash, head, records })
    }

    /// The payload of a record.
    fn payload(&self, key: &Key, dims: Dims) -> Result<Vec<u8>> {
        let path = self.path.display();
        let Some(place) = self.records.get(key) else {
            let (kind, _, name) = key;
            let what = if *kind == Kind::Range { "range of" } else { "moments of" };
            if *kind != Kind::Range && !self.records.keys().any(|k| k.0 == *kind) {
                return Err(Error::user(format!(
                    "{path} has ranges alone; make it by `egret stats` without --ranges"
                )));
            }
            let names: Vec<&str> =
                self.records.keys().filter(|k| k.0 == *kind).map(|k| k.2.as_str()).collect();
            let near = near(name, names);
            let hint =
                if near.is_empty() { String::new() } else { format!("; near it: {}", near.join(", ")) };
            return Err(Error::user(format!("{path} has no {what} `{name}`{hint}")));
        };
        if place.dims != dims {
            return Err(damaged(&self.path));
        }
        let failed = |e| Error::io("read", &self.path, &e);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(place.at)).map_err(failed)?;
        // As long as what was found in the file.
        let mut out = vec![];
        file.take(place.bytes).read_to_end(&mut out).map_err(failed)?;
        if out.len() as u64 == place.bytes { Ok(out) } else { Err(damaged(&self.path)) }
    }
}

/// The parts of a file, one after the other, none beyond its end.
struct Parts<'a> {
    from: BufReader<&'a File>,
    at: u64,
    end: u64,
}

impl Parts<'_> {
    /// Everything; `None` of what [`Writer`] does not write.
    fn all(mut self) -> Option<(Head, BTreeMap<Key, Place>)> {
        let model = self.bytes(HASH as u64)?.try_into().ok()?;
        let samples = self.u64()?;
        let given: Vec<String> = self.texts()?;
        let layers = self.texts()?;
        let head = Head { model, samples, given: given.into_iter().collect(), layers };
        let mut records = BTreeMap::<Key, Place>::new();
        while self.u8()? == 1 {
            let kind = match self.u8()? {
                1 => Kind::Range,
                2 => Kind::Moments,
                3 => Kind::Folded,
                _ => return None,
            };
            let key = (kind, self.u32()?, self.text()?);
            let dims = [self.u32()?, self.u32()?, self.u32()?];
            let bytes = self.u64()?;
            let [groups, columns, rows] = dims;
            let fits = match kind {
                Kind::Range => dims == [0; 3],
                Kind::Moments | Kind::Folded => {
                    Sums::bytes(columns, rows)?.checked_mul(u64::from(groups))? == bytes
                }
            };
            let later = records.last_key_value().is_none_or(|(last, _)| *last < key);
            let at = self.at;
            if !fits || !later || bytes > self.end - at {
                return None;
            }
            self.from.seek_relative(i64::try_from(bytes).ok()?).ok()?;
            self.at += bytes;
            records.insert(key, Place { dims, at, bytes });
        }
        (self.at == self.end).then_some((head, records))
    }

    fn bytes(&mut self, count: u64) -> Option<Vec<u8>> {
        let left = self.end.checked_sub(self.at)?;
        let mut out = vec![];
        (&mut self.from).take(count.min(left)).read_to_end(&mut out).ok()?;
        self.at += out.len() as u64;
        (out.len() as u64 == count).then_some(out)
    }

    fn u8(&mut self) -> Option<u8> {
        self.bytes(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(8)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let count = self.u32()?;
        String::from_utf8(self.bytes(u64::from(count))?).ok()
    }

    fn texts(&mut self) -> Option<Vec<String>> {
        let count = self.u32()?;
        (0..count).map(|_| self.text()).collect()
    }
}
