//! Contraction tiles whose left operand is mostly zeros, as AVX-512 or AVX2 code for these very zeros: no instruction is spent on a weight that is not
//! there, and none on finding the next one. Weights are floats, or four bytes each ([`Products::Quads`]), for which AVX-512 has an instruction of the same form.
//!
//! For each step of the reduction one vector of the right operand is loaded, and each row that has a weight there multiplies it. With AVX-512 the
//! multiply-add broadcasts the weight from memory itself: 7 bytes of code and 4 of weights for each weight ([`evex`]). With AVX2 an instruction of its own
//! broadcasts it: 11 bytes ([`vex`]). These instructions are of few forms, which are written as bytes with their fields filled in, and not by the
//! assembler: a model has millions of them.
//!
//! All code of a model comes from memory once in a run, as it is larger than the caches near the core; processors fetch it in time only while it
//! stands in these. So each run of a tile fetches lines of the function that is next.

mod evex;
#[cfg(test)]
mod tests;
mod vex;

use std::ops::RangeInclusive;

use egret_loop::{NonzeroStep, Nonzeros, ParamInfo, Products, Tile};

use super::super::{Encoded, Encoding, broken, refused};
use super::asm::{Vr, WideIsa};
use super::tile::{self, Encoder, Layout, Pass, WholeTile};

/// What code begins at a multiple of.
const ALIGNED: usize = 64;

/// Encode a tile as [`tile::encode`] does.
/// `dots`: as there.
pub(super) fn encode(
    tile: &Tile,
    nonzeros: &Nonzeros,
    params: &[ParamInfo],
    isa: WideIsa,
    dots: bool,
) -> Encoding {
    let rows = tile.a_rows.len();
    if let Some(why) = nonzeros.refuses(rows) {
        return Err(broken(why));
    }
    let quads = tile.products(params) == Some(Products::Quads);
    if quads && (isa != WideIsa::Avx512 || !dots) {
        return Err(refused("it has no dot products of bytes"));
    }
    let lanes = isa.lanes();
    let beside = match isa {
        WideIsa::Avx2 => vex::BESIDE_SUMS,
        WideIsa::Avx512 => evex::BESIDE_SUMS,
    };
    if tile.cols > lanes || rows + beside > isa.registers() {
        return Err(refused(format!(
            "its {rows} rows of {} columns are more than the registers",
            tile.cols
        )));
    }
    let tail = (tile.cols < lanes).then_some(tile.cols);
    if tail.is_some() && nonzeros.masks.is_some() {
        return Err(refused("its masks are of columns that fill no vector"));
    }
    let mut sums = Sums::new(isa, quads, tail);
    let next = sums.emit(rows, nonzeros, tile.epilogue.operands.len())?;
    // What follows knows of no code before it: it is as good anywhere at such a multiple.
    let at = sums.code.len().next_multiple_of(ALIGNED);
    sums.code.resize(at, NOP);
    let (asm, data) = tile::assemble_as(tile, params, isa, dots, Some(&Rest { rows }))?;
    let mut bytes = sums.code;
    bytes.extend(asm.finish()?);
    Ok(Encoded { code: bytes.len() - data, bytes, calls: vec![], next: Some(next) })
}

/// What is done with the sums, which are in the first registers: the epilogue.
struct Rest {
    rows: usize,
}

impl Rest {
    fn pass(&self) -> Pass {
        Pass { rows: 0..self.rows, vectors: 0..1 }
    }
}

impl WholeTile for Rest {
    fn on_stack(&self, e: &Encoder<'_>) -> Encoding<usize> {
        Ok(e.spills(&self.pass())?.1)
    }

    fn words(&self, _: &Encoder<'_>) -> Vec<u32> {
        vec![]
    }

    fn emit(&self, e: &mut Encoder<'_>, _: i64) -> Encoding<()> {
        let layout = Layout { rows: self.rows, vectors: 1, sets: 1, b: self.rows, a: None };
        e.load_tail();
        e.epilogue(&self.pass(), &layout)
    }
}

const NOP: u8 = 0x90;
/// Bytes of a cache line.
const LINE: u32 = 64;
/// The next function is fetched in two to the power of so many shares at most, in as many runs.
const SHARES: u32 = 3;
/// The registers of both operands, as instructions number them: `rdi` and `rsi`.
const WEIGHTS: u8 = 7;
const ROWS: u8 = 6;
/// Bytes of an instruction that moves a register on.
const ADVANCE: usize = 7;
/// The array of addresses of what else is read, `rcx`; behind what the epilogue reads are the second right operand and the masks.
const OTHERS: u8 = 1;
/// Where the masks are: `rax`.
const MASKS: u8 = 0;

/// What an 8-bit displacement of a row counts.
#[derive(Copy, Clone, Debug)]
struct Reach {
    /// Elements of one.
    unit: i64,
    /// The least and the greatest.
    near: (i64, i64),
}

impl Reach {
    /// Of rows.
    fn of_rows(isa: WideIsa) -> Reach {
        match isa {
            WideIsa::Avx2 => Reach::of_weights(isa),
            WideIsa::Avx512 => Reach { unit: 16, near: (-128, 127) },
        }
    }

    /// Of weights, which are elements. AVX2's displacements are bytes.
    fn of_weights(isa: WideIsa) -> Reach {
        let near = match isa {
            WideIsa::Avx2 => (-32, 31),
            WideIsa::Avx512 => (-128, 127),
        };
        Reach { unit: 1, near }
    }

    fn near(self) -> RangeInclusive<i64> {
        self.near.0..=self.near.1
    }

    /// A place so many elements from a register, if it is near.
    fn units(self, elements: i64) -> Option<i64> {
        let units = elements / self.unit;
        (elements % self.unit == 0 && self.near().contains(&units)).then_some(units)
    }

    /// Where a register that is at `from` moves so that the place, a whole number of units away, and what is behind it are near.
    fn moved(self, from: i64, elements: i64) -> Option<i64> {
        let far = (elements - from) % self.unit == 0 && self.units(elements - from).is_none();
        far.then(|| elements - self.near.0 * self.unit)
    }

    /// Whether the code is shorter by a register that moves on to far rows: each move is an instruction, and a load of what is near has 3 bytes less.
    fn moves_pay(self, steps: &[NonzeroStep]) -> bool {
        let (mut at, mut moves, mut near) = (0, 0, 0);
        for step in steps {
            if let Some(next) = self.moved(at, step.b) {
                (at, moves) = (next, moves + 1);
            }
            near += usize::from((step.b - at) % self.unit == 0);
        }
        ADVANCE * moves < 3 * near
    }
}

/// The code of the sums. The left operand is at `rdi`, the right one at `rsi`; both move on.
struct Sums {
    isa: WideIsa,
    /// Products of four bytes each.
    quads: bool,
    code: Vec<u8>,
    /// Columns, where they are less than a vector.
    tail: Option<usize>,
    /// After how many bytes of code a line of what is next is fetched, and how many were.
    ahead: usize,
    fetched: usize,
    /// The element of the right operand that `rsi` is at.
    row: i64,
    /// AVX-512: the mask that is in the last register.
    last_mask: Option<u8>,
    /// AVX2: the masks on the stack, in order.
    stacked: Vec<Option<u8>>,
}

impl Sums {
    fn new(isa: WideIsa, quads: bool, tail: Option<usize>) -> Sums {
        let code = vec![];
        Sums { isa, quads, code, tail, ahead: 0, fetched: 0, row: 0, last_mask: None, stacked: vec![] }
    }

    /// All of it; gives where the distance to the function that is next stands. `others`: what the epilogue reads.
    fn emit(&mut self, rows: usize, nonzeros: &Nonzeros, others: usize) -> Encoding<usize> {
        let next = self.begin_to_fetch(nonzeros.runs);
        if nonzeros.masks.is_some() {
            self.address(MASKS, others + usize::from(nonzeros.second.is_some()))?;
        }
        match self.isa {
            WideIsa::Avx2 => self.stack_masks(nonzeros)?,
            WideIsa::Avx512 => self.keep_masks(nonzeros),
        }
        (0..rows).for_each(|r| self.zero(r as Vr));
        let (of_rows, of_weights) = (Reach::of_rows(self.isa), Reach::of_weights(self.isa));
        let first = nonzeros.second.as_ref().map_or(nonzeros.steps.len(), |s| s.from);
        let (of_first, of_second) =
            nonzeros.steps.split_at_checked(first).unwrap_or((&nonzeros.steps, &[]));
        let mut moves = of_rows.moves_pay(of_first);
        // The weight that `rdi` is at, and the next one.
        let (mut base, mut weight) = (0, 0);
        for (i, step) in nonzeros.steps.iter().enumerate() {
            if i == first {
                self.address(ROWS, others)?;
                (self.row, moves) = (0, of_rows.moves_pay(of_second));
            }
            let mask = self.mask(step.mask)?;
            if let (true, Some(at)) = (moves, of_rows.moved(self.row, step.b)) {
                self.advance(ROWS, 4 * (at - self.row))?;
                self.row = at;
            }
            let row = self.row(step, mask)?;
            for sum in step.rows() {
                if of_weights.units(weight - base).is_none() {
                    let next = weight - of_weights.near.0;
                    self.advance(WEIGHTS, 4 * (next - base))?;
                    base = next;
                }
                match self.isa {
                    WideIsa::Avx2 => self.multiply_add_vex(sum as Vr, weight - base, row),
                    WideIsa::Avx512 => self.multiply_add_evex(sum as Vr, weight - base),
                }
                weight += 1;
                self.fetch()?;
            }
        }
        self.drop_masks();
        Ok(next)
    }

    /// Chooses the lines of the next function that this run fetches: each of `runs` runs, of which the right operand is a vector further, takes others.
    /// Gives where the distance to that function stands.
    fn begin_to_fetch(&mut self, runs: u32) -> usize {
        let shares = LINE << SHARES.min(runs.saturating_sub(1).max(1).ilog2());
        self.ahead = shares as usize;
        // lea r8, [rip + next]
        self.code.extend([0x4c, 0x8d, 0x05]);
        let next = self.code.len();
        self.code.extend([0; 4]);
        // mov eax, esi; and eax, lines; add r8, rax
        self.code.extend([0x89, 0xf0]);
        if self.isa == WideIsa::Avx2 {
            // A vector is half a line: add eax, eax
            self.code.extend([0x01, 0xc0]);
        }
        self.code.push(0x25);
        self.code.extend((shares - LINE).to_le_bytes());
        self.code.extend([0x49, 0x01, 0xc0]);
        next
    }

    /// `mov register, [rcx + others]`: an address that the function was given in memory.
    fn address(&mut self, register: u8, others: usize) -> Encoding<()> {
        self.code.extend([0x48, 0x8b, 0b1000_0000 | register << 3 | OTHERS]);
        let at = i32::try_from(8 * others).map_err(|_| refused("its epilogue reads too much"))?;
        self.code.extend(at.to_le_bytes());
        Ok(())
    }

    /// Where it is time to, `prefetcht0 [r8 + line]`: code that is read for the first time is waited for otherwise, line by line.
    fn fetch(&mut self) -> Encoding<()> {
        let line = self.fetched * self.ahead;
        if self.code.len() < line + self.ahead {
            return Ok(());
        }
        self.fetched += 1;
        self.code.extend([0x41, 0x0f, 0x18, 0x88]);
        let line = i32::try_from(line).map_err(|_| refused("it has too many weights"))?;
        self.code.extend(line.to_le_bytes());
        Ok(())
    }

    /// `sum` is zeros.
    fn zero(&mut self, sum: Vr) {
        match self.isa {
            WideIsa::Avx2 => self.zero_vex(sum),
            WideIsa::Avx512 => self.zero_evex(sum),
        }
    }

    /// What a step's mask is called: by its register, or by itself.
    fn mask(&mut self, mask: Option<u8>) -> Encoding<Option<u8>> {
        match self.isa {
            WideIsa::Avx2 => Ok(mask),
            WideIsa::Avx512 => Ok(mask.map(|mask| self.mask_register(mask))),
        }
    }

    /// Loads a step's row; AVX2 leaves one in memory that is used once and has no mask, and gives its place: elements from `rsi` on.
    fn row(&mut self, step: &NonzeroStep, mask: Option<u8>) -> Encoding<Option<i64>> {
        let at = step.b - self.row;
        tile::displacement(at, 0)?;
        match self.isa {
            WideIsa::Avx2 if mask.is_none() && self.tail.is_none() && step.rows.count_ones() == 1 => {
                return Ok(Some(at));
            }
            WideIsa::Avx2 => self.load_vex(at, mask)?,
            WideIsa::Avx512 => self.load_evex(at, mask),
        }
        Ok(None)
    }

    /// The operand of `reg` and memory at so many elements from `base`, which is a register below 8.
    fn memory(&mut self, reg: u8, base: u8, elements: i64, reach: Reach, bytes: i64) {
        let modrm = (reg & 7) << 3 | base;
        match reach.units(elements) {
            Some(0) => self.code.push(modrm),
            Some(units) => self.code.extend([0b0100_0000 | modrm, (units * bytes) as i8 as u8]),
            None => {
                self.code.push(0b1000_0000 | modrm);
                self.code.extend(((4 * elements) as i32).to_le_bytes());
            }
        }
    }

    /// `add register, bytes`.
    fn advance(&mut self, register: u8, bytes: i64) -> Encoding<()> {
        let bytes = i32::try_from(bytes).map_err(|_| refused("it has too many weights"))?;
        self.code.extend([0x48, 0x81, 0b1100_0000 | register]);
        self.code.extend(bytes.to_le_bytes());
        Ok(())
    }
}
