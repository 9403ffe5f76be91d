//! The files of machines: one list of keys, by which they are read, checked and refused.

use crate::{CostModel, Machine};
use std::fmt;
use std::ops::{Range, RangeInclusive};
use toml::de::{DeTable, DeValue};

/// What is wrong with a file of a machine, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineError {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, with the key.
    pub message: String,
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

impl std::error::Error for MachineError {}

/// A number of a file.
struct Key {
    table: &'static str,
    name: &'static str,
    range: RangeInclusive<u64>,
    set: fn(&mut Machine, u64),
    get: fn(&Machine) -> u64,
}

/// The only tables of a machine's file.
const OF_MACHINES: [&str; 2] = ["contractions", "caches"];

/// What a file says of whom. Either is read from a file that changes one of these targets.
#[derive(Copy, Clone)]
pub(crate) enum Kind<'a> {
    /// A target: all keys, or with `base = "TARGET"` those that differ from that one.
    Target(&'a [Machine]),
    /// A machine of `isa = "TARGET"`: keys of [`OF_MACHINES`] that differ from it.
    Machine(&'a [Machine]),
}

impl Kind<'_> {
    /// The key by which a file names a target.
    fn key(self) -> &'static str {
        match self {
            Kind::Target(_) => "base",
            Kind::Machine(_) => "isa",
        }
    }
}

/// The target that a target's file says it changes, if it can be read and says so.
pub(crate) fn base_of(text: &str) -> Option<String> {
    let tables = DeTable::parse(text).ok()?.into_inner();
    Some(tables.get("base")?.get_ref().as_str()?.to_owned())
}

macro_rules! keys {
    ($($table:literal $name:literal $range:expr, $($field:ident).+: $ty:ty;)*) => {
        /// Every number of a file.
        const KEYS: &[Key] = &[$(Key {
            table: $table, name: $name, range: $range, set: |m, n| m.$($field).+ = n as $ty, get: |m| m.$($field).+ as u64,
        }),*];
    };
}

keys! {
    "vectors" "bytes" 16..=64, vector_bytes: usize;
    "vectors" "registers" 8..=64, registers: usize;
    "vectors" "mask_registers" 0..=1, mask_registers: usize;
    "vectors" "kernel_bytes" 16..=64, kernel_bytes: usize;
    "vectors" "tile_registers" 0..=16, tile_registers: usize;
    "contractions" "sums" 1..=64, sums: usize;
    "contractions" "block_rows" 1..=65_536, block_rows: i64;
    "contractions" "vector_load" 1..=64, vector_load: i64;
    "contractions" "loads_per_fma" 1..=64, loads_per_fma: i64;
    "contractions" "half_vectors" 0..=1, half_vectors: usize;
    "nonzeros" "rows" 0..=31, costs.sparse_rows: u64;
    "nonzeros" "bytes" 0..=1_000, costs.sparse_bytes: u64;
    "nonzeros" "price" 0..=1_000, costs.sparse_price: u64;
    "nonzeros" "quad_price" 0..=1_000, costs.sparse_quad_price: u64;
    "caches" "l1_bytes" 1_024..=1_073_741_824, l1_bytes: usize;
    "caches" "l2_bytes" 1_024..=1_073_741_824, l2_bytes: usize;
    "caches" "line_bytes" 16..=1_024, line_bytes: usize;
    "nanoseconds" "kernel" 1..=1_000_000, costs.kernel: u64;
    "nanoseconds" "view" 1..=1_000_000, costs.view: u64;
    "nanoseconds" "elementwise" 1..=1_000_000, costs.elementwise: u64;
    "nanoseconds" "scalar_step" 1..=1_000_000, costs.scalar_step: u64;
    "per_nanosecond" "macs" 1..=1_000_000, costs.macs: u64;
    "per_nanosecond" "integer_macs" 1..=1_000_000, costs.integer_macs: u64;
    "per_nanosecond" "byte_macs" 1..=1_000_000, costs.byte_macs: u64;
    "per_nanosecond" "bytes" 1..=1_000_000, costs.bytes: u64;
    "per_nanosecond" "cached_bytes" 1..=1_000_000, costs.cached_bytes: u64;
    "per_nanosecond" "fused_bytes" 1..=1_000_000, costs.fused_bytes: u64;
    "per_nanosecond" "window_bytes" 1..=1_000_000, costs.window_bytes: u64;
    "times" "channels_first" 1..=1_000_000, costs.channels_first: u64;
}

/// A file on its way to a machine.
struct Reader<'a> {
    file: &'a str,
    text: &'a str,
}

impl Reader<'_> {
    fn fault(&self, at: Range<usize>, message: impl Into<String>) -> MachineError {
        let before = self.text.get(..at.start.min(self.text.len())).unwrap_or_default();
        let line = 1 + before.bytes().filter(|b| *b == b'\n').count();
        MachineError { file: self.file.to_owned(), line, message: message.into() }
    }

    /// The end of the file, where something is missing.
    fn end(&self) -> Range<usize> {
        let end = self.text.trim_end().len();
        end..end
    }
}

/// Read a target or a machine.
pub(crate) fn read(name: &str, file: &str, text: &str, kind: Kind<'_>) -> Result<Machine, MachineError> {
    let r = Reader { file, text };
    let tables =
        DeTable::parse(text).map_err(|e| r.fault(e.span().unwrap_or(0..0), one_line(e.message())))?;
    let tables = tables.into_inner();
    let changed = changed(&r, &tables, kind)?;
    let all = changed.is_none();
    let mut machine = changed.unwrap_or_else(empty);
    machine.name = name.to_owned();
    if let Kind::Target(_) = kind {
        machine.isa = name.to_owned();
    }
    let allowed = |table: &str| match kind {
        Kind::Machine(_) => OF_MACHINES.contains(&table),
        Kind::Target(_) => KEYS.iter().any(|k| k.table == table),
    };
    for (key, value) in &tables {
        let table = key.get_ref().as_ref();
        if table == kind.key() {
            continue;
        }
        if !allowed(table) {
            let why = match KEYS.iter().any(|k| k.table == table) {
                true => format!("[{table}] is the target's; a machine's file has {}", list(OF_MACHINES)),
                false => format!("unknown table or key `{table}`"),
            };
            return Err(r.fault(key.span(), why));
        }
        let Some(rows) = value.get_ref().as_table() else {
            return Err(r.fault(key.span(), format!("`{table}` is a table: write [{table}]")));
        };
        for (key, value) in rows {
            let (at, key) = (key.span(), key.get_ref().as_ref());
            if (table, key) == ("contractions", "tiles") {
                machine.tiles = tiles(&r, at, key, value.get_ref())?;
                continue;
            }
            if (table, key) == ("contractions", "byte_tiles") {
                machine.byte_tiles = tiles(&r, at, key, value.get_ref())?;
                continue;
            }
            let Some(k) = KEYS.iter().find(|k| k.table == table && k.name == key) else {
                let known = KEYS.iter().filter(|k| k.table == table).map(|k| k.name);
                let tiles: &[_] = if table == "contractions" { &["tiles", "byte_tiles"] } else { &[] };
                let known = list(tiles.iter().copied().chain(known));
                return Err(r.fault(at, format!("[{table}] has no `{key}`; it has {known}")));
            };
            (k.set)(&mut machine, number(&r, at, k, value.get_ref())?);
        }
    }
    if all {
        let given = |k: &&Key| tables.get(k.table).and_then(|t| t.get_ref().get(k.name)).is_some();
        if let Some(k) = KEYS.iter().find(|k| !given(k)) {
            return Err(r.fault(r.end(), format!("[{}] needs `{}`", k.table, k.name)));
        }
    }
    machine.costs.lanes = machine.lanes() as u64;
    check(&r, &tables, &machine)?;
    Ok(machine)
}

/// The target that a file changes; none of a target's file that says all.
fn changed(r: &Reader, tables: &DeTable, kind: Kind<'_>) -> Result<Option<Machine>, MachineError> {
    let (key, Kind::Target(targets) | Kind::Machine(targets)) = (kind.key(), kind);
    let known = || list(targets.iter().map(|t| t.name.as_str()));
    match (tables.get(key), kind) {
        (None, Kind::Target(_)) => Ok(None),
        (None, Kind::Machine(_)) => {
            Err(r.fault(r.end(), format!("no `{key}`; write {key} = \"TARGET\", one of {}", known())))
        }
        (Some(named), _) => {
            let target = named.get_ref().as_str().and_then(|name| targets.iter().find(|t| t.name == name));
            let wrong = || r.fault(named.span(), format!("`{key}` is one of {}", known()));
            target.cloned().map(Some).ok_or_else(wrong)
        }
    }
}

/// A target before its file is read: nothing of it remains.
fn empty() -> Machine {
    Machine {
        name: String::new(),
        isa: String::new(),
        vector_bytes: 0,
        registers: 0,
        mask_registers: 0,
        kernel_bytes: 0,
        tile_registers: 0,
        tiles: vec![],
        byte_tiles: vec![],
        sums: 0,
        block_rows: 0,
        vector_load: 0,
        loads_per_fma: 0,
        half_vectors: 0,
        l1_bytes: 0,
        l2_bytes: 0,
        line_bytes: 0,
        costs: CostModel::default(),
    }
}

fn number(r: &Reader, at: Range<usize>, k: &Key, value: &DeValue) -> Result<u64, MachineError> {
    let n = integer(value).filter(|n| k.range.contains(n));
    n.ok_or_else(|| {
        let (from, to) = (k.range.start(), k.range.end());
        r.fault(at, format!("[{}] needs `{}` as a whole number from {from} to {to}", k.table, k.name))
    })
}

fn integer(value: &DeValue) -> Option<u64> {
    value.as_integer().and_then(|i| u64::from_str_radix(i.as_str(), i.radix()).ok())
}

/// Pairs of rows and columns.
fn tiles(
    r: &Reader,
    at: Range<usize>,
    key: &str,
    value: &DeValue,
) -> Result<Vec<(usize, usize)>, MachineError> {
    const MOST: u64 = 1024;
    let pair = |value: &DeValue| {
        let pair: Vec<u64> =
            value.as_array()?.iter().map(|n| integer(n.get_ref())).collect::<Option<_>>()?;
        match pair[..] {
            [rows, cols] if (1..=MOST).contains(&rows) && (1..=MOST).contains(&cols) => {
                Some((rows as usize, cols as usize))
            }
            _ => None,
        }
    };
    let all: Option<Vec<_>> =
        value.as_array().and_then(|a| a.iter().map(|t| pair(t.get_ref())).collect::<Option<_>>());
    all.filter(|t| !t.is_empty() && t.len() <= 16).ok_or_else(|| {
        r.fault(
            at,
            format!("[contractions] needs `{key}` as pairs [rows, columns] from 1 to {MOST}, 16 at most"),
        )
    })
}

/// What no single number tells.
fn check(r: &Reader, tables: &DeTable, m: &Machine) -> Result<(), MachineError> {
    let at = |table: &str, key: &str| {
        let rows = tables.get(table).and_then(|t| t.get_ref().as_table());
        rows.and_then(|rows| rows.get_key_value(key)).map_or(r.end(), |(key, _)| key.span())
    };
    for (key, bytes) in [("bytes", m.vector_bytes), ("kernel_bytes", m.kernel_bytes)] {
        if !bytes.is_power_of_two() || bytes > m.vector_bytes {
            return Err(r.fault(at("vectors", key), format!("[vectors] has no vectors of {bytes} bytes")));
        }
    }
    type Refuses = fn(&Machine, (usize, usize)) -> Option<String>;
    let lists: [(_, _, Refuses); 2] =
        [("tiles", &m.tiles, Machine::refuses), ("byte_tiles", &m.byte_tiles, Machine::refuses_bytes)];
    for (key, tiles, refuses) in lists {
        for &(rows, cols) in tiles {
            if let Some(why) = refuses(m, (rows, cols)) {
                let message = format!("[contractions] `{key}`: [{rows}, {cols}] cannot be one: {why}");
                return Err(r.fault(at("contractions", key), message));
            }
        }
    }
    // Lowering counts vectors by it.
    if !m.tiles.iter().any(|t| t.1 == m.lanes()) {
        let lanes = m.lanes();
        let message =
            format!("[contractions] needs a tile in `tiles` that is one vector wide, [rows, {lanes}]");
        return Err(r.fault(at("contractions", "tiles"), message));
    }
    if !m.line_bytes.is_power_of_two() {
        let message = format!("[caches] needs `line_bytes` as a power of two, not {}", m.line_bytes);
        return Err(r.fault(at("caches", "line_bytes"), message));
    }
    if m.l1_bytes > m.l2_bytes {
        return Err(r.fault(at("caches", "l1_bytes"), "[caches] has a `l1_bytes` larger than `l2_bytes`"));
    }
    Ok(())
}

/// What a file says of a machine beside its target.
pub(crate) fn write(m: &Machine) -> String {
    let mut out = format!("isa = \"{}\"\n", m.isa);
    for table in OF_MACHINES {
        out += &format!("\n[{table}]\n");
        if table == "contractions" {
            let lists = [("tiles", &m.tiles), ("byte_tiles", &m.byte_tiles)];
            for (key, tiles) in lists.into_iter().filter(|l| !l.1.is_empty()) {
                let tiles: Vec<String> = tiles.iter().map(|t| format!("[{}, {}]", t.0, t.1)).collect();
                out += &format!("{key} = [{}]\n", tiles.join(", "));
            }
        }
        for k in KEYS.iter().filter(|k| k.table == table) {
            out += &format!("{} = {}\n", k.name, (k.get)(m));
        }
    }
    out
}

fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn one_line(message: &str) -> String {
    message.lines().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_says_all_or_names_its_base() {
        let targets = Machine::targets();
        let of = |text: &str| read("mine", "mine.toml", text, Kind::Target(targets));
        let v3 = Machine::of("x86-64-v3").unwrap();
        let mine = Machine { name: "mine".into(), isa: "mine".into(), ..v3.clone() };
        assert_eq!(of("base = 'x86-64-v3'"), Ok(mine.clone()));
        let mut cheap = mine;
        (cheap.mask_registers, cheap.costs.macs) = (0, 60);
        assert_eq!(
            of("base = 'x86-64-v3'\n[vectors]\nmask_registers = 0\n[per_nanosecond]\nmacs = 60"),
            Ok(cheap)
        );
        for (text, line, words) in [
            ("[vectors]\nbytes = 16", 2, "[vectors] needs `registers`"),
            // In a circle none is read before the others.
            ("\nbase = 'mine'", 2, "`base` is one of aarch64"),
            ("base = 3", 1, "`base` is one of"),
            ("base = 'x86-64-v3'\nisa = 'x86-64-v3'", 2, "`isa`"),
            ("base = 'x86-64-v3'\n[vectors]\nbytes = 64", 3, "`tiles`: [4, 24]"),
        ] {
            let e = of(text).expect_err(text);
            assert!(e.line == line && e.message.contains(words), "{text}: {e}");
        }
    }
}
