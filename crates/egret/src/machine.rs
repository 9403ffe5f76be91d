//! Measuring this machine: the table of `egret doctor --measure`, and a machine's file of it.

use crate::error::{Error, Result};
use egret_codegen::{Options, measure};
use egret_machine::Machine;
use std::fmt::Write as _;
use std::path::Path;

/// What was measured on this machine, on one core.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Rows and columns of each tile, and its GFLOP/s at [`measure::LENGTHS`].
    tiles: Vec<((usize, usize), [f64; 3])>,
    /// Where the bytes are, how many, and GB/s of reading and of copying them.
    memory: Vec<(&'static str, usize, (f64, f64))>,
    /// The target, with this machine's tiles and caches.
    machine: Machine,
    /// Whether the system told the caches; else they are the target's.
    caches_told: bool,
}

/// Run the leaf of contractions tile by tile, and read and copy memory.
///
/// # Errors
/// No code can be generated for this machine.
pub fn measure() -> Result<Measured> {
    let options = Options::native()?;
    let name = options.target.isa(true).name;
    let target = Machine::of(name)
        .ok_or_else(|| Error::internal(format!("ir-spec/targets has no file for {name}")))?;
    let mut tiles = vec![];
    for tile in measure::candidates(target) {
        tiles.push((tile, measure::tile_rates(tile, target, &options)?));
    }
    let told = [1, 2].map(cache);
    let mut machine = Machine { tiles: chosen(target, &tiles), ..target.clone() };
    if let [Some(l1), Some(l2)] = told {
        (machine.l1_bytes, machine.l2_bytes) = (l1, l2);
    }
    let mut memory = vec![];
    /// More than most last-level caches hold.
    const FAR: usize = 256 << 20;
    for (what, bytes) in
        [("half of L1", machine.l1_bytes / 2), ("half of L2", machine.l2_bytes / 2), ("beyond", FAR)]
    {
        memory.push((what, bytes, measure::bandwidth(bytes, target, &options)?));
    }
    Ok(Measured { tiles, memory, machine, caches_told: told.iter().all(Option::is_some) })
}

/// The rate of a tile over all lengths: their geometric mean.
fn rate(rates: &[f64; 3]) -> f64 {
    (rates.iter().map(|r| r.ln()).sum::<f64>() / 3.0).exp()
}

/// For each number of columns the best tile, the fastest first; of those within a fiftieth of the best the one with most rows, which loads
/// the right operand least often.
fn chosen(target: &Machine, tiles: &[((usize, usize), [f64; 3])]) -> Vec<(usize, usize)> {
    const ALIKE: f64 = 0.98;
    let mut widths: Vec<usize> = tiles.iter().map(|(tile, _)| tile.1).collect();
    widths.dedup();
    let mut best = vec![];
    for width in widths {
        let of: Vec<_> = tiles.iter().filter(|(t, _)| t.1 == width).map(|(t, r)| (*t, rate(r))).collect();
        let most = of.iter().map(|t| t.1).fold(0.0, f64::max);
        best.extend(of.into_iter().filter(|t| t.1 >= ALIKE * most).max_by_key(|t| t.0.0));
    }
    best.sort_by(|a, b| b.1.total_cmp(&a.1));
    debug_assert!(best.iter().any(|(t, _)| t.1 == target.lanes()));
    best.into_iter().map(|(tile, _)| tile).collect()
}

/// Bytes of a level of this core's data caches, if the system tells them.
fn cache(level: usize) -> Option<usize> {
    let dir = Path::new("/sys/devices/system/cpu/cpu0/cache");
    let read = |index: usize, what: &str| {
        let text = std::fs::read_to_string(dir.join(format!("index{index}/{what}"))).ok()?;
        Some(text.trim().to_owned())
    };
    let is_data = |i: usize| read(i, "type").is_some_and(|t| t != "Instruction");
    let index = (0..8).find(|i| is_data(*i) && read(*i, "level") == Some(level.to_string()))?;
    let size = read(index, "size")?;
    let (number, unit) = size.split_at(size.find(|c: char| !c.is_ascii_digit()).unwrap_or(size.len()));
    let unit = match unit {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(unit)
}

/// A size in its largest whole unit.
fn size(bytes: usize) -> String {
    if bytes.is_multiple_of(1 << 20) {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{} KiB", bytes >> 10)
    }
}

impl Measured {
    /// The tables.
    pub fn lines(&self) -> Vec<String> {
        let best = self.tiles.iter().map(|(_, r)| rate(r)).fold(0.0, f64::max);
        let header = measure::LENGTHS.map(|k| format!("{:>8}", format!("K {k}"))).concat();
        let mut out = vec![format!("{:<8}{header}  GFLOP/s of one core, {}", "tile", self.machine.isa)];
        for (tile, rates) in &self.tiles {
            let mark = if self.machine.tiles.contains(tile) { "  chosen" } else { "" };
            let share = 100.0 * rate(rates) / best;
            let rates = rates.map(|r| format!("{r:>8.1}")).concat();
            out.push(format!("{:<8}{rates}{share:>5.0} %{mark}", format!("{}x{}", tile.0, tile.1)));
        }
        out.push(
            format!("{:<12}{:>10}{:>9}{:>9}", "memory", "", "read", "copy")
                + "  GB/s; a copy reads and writes",
        );
        for (what, bytes, (read, copy)) in &self.memory {
            out.push(format!("{what:<12}{:>10}{read:>9.1}{copy:>9.1}", size(*bytes)));
        }
        if !self.caches_told {
            out.push(format!("the system does not tell its caches; those are of {}", self.machine.isa));
        }
        out
    }

    /// The text of a machine's file: what is this machine's, with the rates as comments.
    pub fn file(&self) -> String {
        let mut out = String::from("# A machine, as `egret doctor --measure` found it.\n#\n");
        for line in self.lines() {
            writeln!(out, "# {line}").expect("writes to a string");
        }
        out + "\n" + &self.machine.to_toml()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_tile_of_each_width_is_chosen_and_written() {
        let target = Machine::of("x86-64-v4").unwrap();
        let rates = |r: f64| [r, r, r];
        let tiles = vec![
            ((28, 16), rates(155.0)),
            ((24, 16), rates(156.0)),
            ((14, 32), rates(160.0)),
            ((12, 32), rates(181.0)),
            ((9, 48), rates(170.0)),
        ];
        let machine = Machine { tiles: chosen(target, &tiles), l2_bytes: 2 << 20, ..target.clone() };
        assert_eq!(machine.tiles, [(12, 32), (9, 48), (28, 16)]);
        let memory = vec![("half of L1", 24 << 10, (200.0, 100.0)), ("beyond", 256 << 20, (9.5, 7.0))];
        let measured = Measured { tiles, memory, machine: machine.clone(), caches_told: true };
        let text = measured.file();
        let read = Machine::parse(&machine.name, "mine.toml", &text).unwrap();
        assert_eq!(read, machine, "{text}");
        let lines = measured.lines();
        assert!(
            lines.iter().any(|l| l.starts_with("12x32 ") && l.ends_with("100 %  chosen")),
            "{lines:#?}"
        );
        assert!(lines.iter().all(|l| l.len() <= 80) && lines.len() <= 24, "{lines:#?}");
        assert!(lines.iter().any(|l| l.contains("24 KiB")) && lines.iter().any(|l| l.contains("256 MiB")));
    }
}
