//! Contraction tiles whose left operand is mostly zeros, as AVX-512 code for these very zeros: no instruction is spent on a weight that is not
//! there, and none on finding the next one.
//!
//! For each step of the reduction one vector of the right operand is loaded, and each row that has a weight there multiplies it, with the
//! weight broadcast from memory by the multiply-add itself: 7 bytes of code and 4 of weights for each weight. These instructions are of two
//! forms, which are written as bytes with their fields filled in, and not by the assembler: a model has millions of them.
//!
//! All code of a model comes from memory once in a run, as it is larger than the caches near the core; processors fetch it in time only while it
//! stands in these. So each run of a tile fetches lines of the function that is next.

use egret_loop::{NonzeroStep, Nonzeros, ParamInfo, Tile};

use super::super::{Encoded, Encoding, broken, refused};
use super::asm::{Vr, WideIsa};
use super::tile::{self, Encoder, Layout, Pass, WholeTile};

/// What code begins at a multiple of.
const ALIGNED: usize = 64;

/// Encode a tile as [`tile::encode`] does.
pub(super) fn encode(tile: &Tile, nonzeros: &Nonzeros, params: &[ParamInfo], isa: WideIsa) -> Encoding {
    if isa != WideIsa::Avx512 {
        return Err(refused("its nonzeros have code for AVX-512 only"));
    }
    let rows = tile.a_rows.len();
    if let Some(why) = nonzeros.refuses(rows) {
        return Err(broken(why));
    }
    let lanes = isa.lanes();
    if tile.cols > lanes || rows + 1 > isa.registers() {
        return Err(refused(format!(
            "its {rows} rows of {} columns are more than the registers",
            tile.cols
        )));
    }
    let tail = (tile.cols < lanes).then_some(tile.cols);
    if tail.is_some() && nonzeros.masks.is_some() {
        return Err(refused("its masks are of columns that fill no vector"));
    }
    let mut sums = Sums { tail, ..Sums::default() };
    let next = sums.emit(rows, nonzeros, tile.epilogue.operands.len())?;
    // What follows knows of no code before it: it is as good anywhere at such a multiple.
    let at = sums.code.len().next_multiple_of(ALIGNED);
    sums.code.resize(at, NOP);
    let (asm, data) = tile::assemble_as(tile, params, isa, true, Some(&Rest { rows }))?;
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
        e.epilogue(&self.pass(), &layout)
    }
}

const NOP: u8 = 0x90;
/// Bytes of a cache line, and of a vector of columns.
const LINE: u32 = 64;
/// The next function is fetched in two to the power of so many shares at most, in as many runs.
const SHARES: u32 = 3;
/// Where the right operand's row is: the last register.
const ROW: Vr = 31;
/// The registers of both operands, as instructions number them: `rdi` and `rsi`.
const WEIGHTS: u8 = 7;
const ROWS: u8 = 6;
/// Elements of a vector.
const VECTOR: i64 = 16;
/// Bytes of an instruction that moves a register on.
const ADVANCE: usize = 7;
/// The array of addresses of what else is read, `rcx`; behind what the epilogue reads are the second right operand and the masks.
const OTHERS: u8 = 1;
/// Where the masks are: `rax`.
const MASKS: u8 = 0;
/// The mask register of columns that fill no vector, and the first of those that hold a step's mask: from it on they hold one each, and the last one is loaded anew
/// where a step has another one than the step before it.
const FIRST_MASK: u8 = 1;
const LAST_MASK: u8 = 7;
/// An 8-bit displacement counts weights, or vectors: these are the least and the greatest.
const NEAR: std::ops::RangeInclusive<i64> = -128..=127;

/// The code of the sums. The left operand is at `rdi`, the right one at `rsi`; both move on.
#[derive(Default)]
struct Sums {
    code: Vec<u8>,
    /// Columns, where they are less than a vector.
    tail: Option<usize>,
    /// After how many bytes of code a line of what is next is fetched, and how many were.
    ahead: usize,
    fetched: usize,
    /// The element of the right operand that `rsi` is at.
    row: i64,
    /// The mask that is in the last register.
    last_mask: Option<u8>,
}

impl Sums {
    /// All of it; gives where the distance to the function that is next stands. `others`: what the epilogue reads.
    fn emit(&mut self, rows: usize, nonzeros: &Nonzeros, others: usize) -> Encoding<usize> {
        let next = self.begin_to_fetch(nonzeros.runs);
        if let Some(tail) = self.tail {
            // mov eax, mask; kmovw k1, eax
            self.code.push(0xb8);
            self.code.extend(((1u32 << tail) - 1).to_le_bytes());
            self.code.extend([0xc5, 0xf8, 0x92, 0xc8]);
        }
        if nonzeros.masks.is_some() {
            self.begin_masks(nonzeros, others + usize::from(nonzeros.second.is_some()))?;
        }
        (0..rows).for_each(|r| self.zero(r as Vr));
        let first = nonzeros.second.as_ref().map_or(nonzeros.steps.len(), |s| s.from);
        let (of_first, of_second) =
            nonzeros.steps.split_at_checked(first).unwrap_or((&nonzeros.steps, &[]));
        let mut moves = moves_pay(of_first);
        // The weight that `rdi` is at, and the next one.
        let (mut base, mut weight) = (0, 0);
        for (i, step) in nonzeros.steps.iter().enumerate() {
            if i == first {
                self.address(ROWS, others)?;
                (self.row, moves) = (0, moves_pay(of_second));
            }
            let mask = self.mask(step.mask)?;
            self.load(step.b, moves, mask)?;
            for row in step.rows() {
                if !NEAR.contains(&(weight - base)) {
                    let next = weight - NEAR.start();
                    self.advance(WEIGHTS, 4 * (next - base))?;
                    base = next;
                }
                self.multiply_add(row as Vr, (weight - base) as i8);
                weight += 1;
                self.fetch()?;
            }
        }
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
        self.code.extend([0x89, 0xf0, 0x25]);
        self.code.extend((shares - LINE).to_le_bytes());
        self.code.extend([0x49, 0x01, 0xc0]);
        next
    }

    /// Finds the masks and loads those that have a register of their own.
    fn begin_masks(&mut self, nonzeros: &Nonzeros, others: usize) -> Encoding<()> {
        self.address(MASKS, others)?;
        let kept = FIRST_MASK..LAST_MASK;
        let used = |mask: u8| nonzeros.steps.iter().any(|s| s.mask == Some(mask));
        kept.zip(0..).filter(|(_, mask)| used(*mask)).try_for_each(|(k, mask)| self.load_mask(k, mask))
    }

    /// `mov register, [rcx + others]`: an address that the function was given in memory.
    fn address(&mut self, register: u8, others: usize) -> Encoding<()> {
        self.code.extend([0x48, 0x8b, 0b1000_0000 | register << 3 | OTHERS]);
        let at = i32::try_from(8 * others).map_err(|_| refused("its epilogue reads too much"))?;
        self.code.extend(at.to_le_bytes());
        Ok(())
    }

    /// `kmovw k, [rax + mask]`.
    fn load_mask(&mut self, k: u8, mask: u8) -> Encoding<()> {
        self.code.extend([0xc5, 0xf8, 0x90, 0b1000_0000 | k << 3]);
        self.code.extend((4 * i32::from(mask)).to_le_bytes());
        Ok(())
    }

    /// The register that holds a step's mask.
    fn mask(&mut self, mask: Option<u8>) -> Encoding<Option<u8>> {
        let Some(mask) = mask else { return Ok(None) };
        let own = mask.saturating_add(FIRST_MASK);
        if own < LAST_MASK {
            return Ok(Some(own));
        }
        if self.last_mask != Some(mask) {
            self.load_mask(LAST_MASK, mask)?;
            self.last_mask = Some(mask);
        }
        Ok(Some(LAST_MASK))
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

    /// The prefix EVEX of an instruction on `reg`, `vvvv` and memory at a register below 8; bits of registers are inverted there. `map` and `pp`
    /// belong to the operation, `last` is the last byte without `vvvv`'s upper bit.
    fn evex(&mut self, map: u8, pp: u8, reg: Vr, vvvv: Vr, last: u8) {
        let (r, r2) = (!reg >> 3 & 1, !reg >> 4 & 1);
        self.code.extend([
            0x62,
            r << 7 | 0b11 << 5 | r2 << 4 | map,
            (!vvvv & 0xf) << 3 | 0b100 | pp,
            last | (!vvvv >> 4 & 1) << 3,
        ]);
    }

    /// `vpxord sum, sum, sum`.
    fn zero(&mut self, sum: Vr) {
        self.evex(0b01, 0b01, sum, sum, 0b100_0000);
        // The same register stands a third time, its upper two bits where memory has those of an index and a base.
        if let [.., second, _, _] = self.code.as_mut_slice() {
            *second &= !(0b11 << 5);
            *second |= (!sum >> 4 & 1) << 6 | (!sum >> 3 & 1) << 5;
        }
        self.code.extend([0xef, 0b1100_0000 | (sum & 7) << 3 | sum & 7]);
    }

    /// `vmovups zmm31 {mask}{z}, [rsi + elements]`, where `elements` counts from where `rsi` was at first. `moves`: `rsi` moves on to what is too far for an 8-bit
    /// displacement.
    fn load(&mut self, elements: i64, moves: bool, mask: Option<u8>) -> Encoding<()> {
        if let (true, Some(at)) = (moves, moved(self.row, elements)) {
            self.advance(ROWS, 4 * (at - self.row))?;
            self.row = at;
        }
        let bytes = tile::displacement(elements - self.row, 0)?;
        let masked = mask.or(self.tail.map(|_| FIRST_MASK)).map_or(0, |k| 0b1000_0000 | k);
        // vvvv is not used: all ones, which is register 0.
        self.evex(0b01, 0b00, ROW, 0, 0b100_0000 | masked);
        let modrm = (ROW & 7) << 3 | ROWS;
        match near(elements - self.row) {
            Some(0) => self.code.extend([0x10, modrm]),
            Some(near) => self.code.extend([0x10, 0b0100_0000 | modrm, near as u8]),
            None => {
                self.code.extend([0x10, 0b1000_0000 | modrm]);
                self.code.extend((bytes as i32).to_le_bytes());
            }
        }
        Ok(())
    }

    /// `vfmadd231ps sum, zmm31, [rdi + weights]{1to16}`.
    fn multiply_add(&mut self, sum: Vr, weights: i8) {
        self.evex(0b10, 0b01, sum, ROW, 0b101_0000);
        self.code.extend([0xb8, 0b0100_0000 | (sum & 7) << 3 | WEIGHTS, weights as u8]);
    }

    /// `add register, bytes`.
    fn advance(&mut self, register: u8, bytes: i64) -> Encoding<()> {
        let bytes = i32::try_from(bytes).map_err(|_| refused("it has too many weights"))?;
        self.code.extend([0x48, 0x81, 0b1100_0000 | register]);
        self.code.extend(bytes.to_le_bytes());
        Ok(())
    }
}

/// A place so many elements from a register as an 8-bit displacement, which counts vectors.
fn near(elements: i64) -> Option<i8> {
    let vectors = elements / VECTOR;
    (elements % VECTOR == 0 && NEAR.contains(&vectors)).then_some(vectors as i8)
}

/// Where a register that is at `from` moves so that the place, a whole number of vectors away, and what is behind it are near.
fn moved(from: i64, elements: i64) -> Option<i64> {
    let far = (elements - from) % VECTOR == 0 && near(elements - from).is_none();
    far.then(|| elements - NEAR.start() * VECTOR)
}

/// Whether the code is shorter by a register that moves on to far rows: each move is an instruction, and a load of what is near has 3 bytes less.
fn moves_pay(steps: &[NonzeroStep]) -> bool {
    let (mut at, mut moves, mut near) = (0, 0, 0);
    for step in steps {
        if let Some(next) = moved(at, step.b) {
            (at, moves) = (next, moves + 1);
        }
        near += usize::from((step.b - at) % VECTOR == 0);
    }
    ADVANCE * moves < 3 * near
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret_loop::{Param, Place, Second, V};
    use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};

    fn text(code: &[u8]) -> Vec<String> {
        let mut formatter = IntelFormatter::new();
        let one = |i: iced_x86::Instruction| {
            let mut out = String::new();
            formatter.format(&i, &mut out);
            out
        };
        Decoder::new(64, code, DecoderOptions::NONE).iter().map(one).collect()
    }

    fn nonzeros(steps: impl IntoIterator<Item = (i64, u32)>, runs: u32) -> Nonzeros {
        let steps = steps.into_iter().map(|(b, rows)| NonzeroStep { b, rows, mask: None }).collect();
        Nonzeros { steps, runs, second: None, masks: None }
    }

    /// A disassembler reads the bytes as what they are meant to be.
    #[test]
    fn bytes_are_these_instructions() {
        let mut sums = Sums::default();
        let steps = [(0, 0b1), (16, 0b1 << 30), (49, 0b1 << 15), (-16, 0b1 << 16)];
        assert_eq!(sums.emit(3, &nonzeros(steps, 1), 0).unwrap(), 3);
        assert_eq!(
            text(&sums.code),
            [
                "lea r8,[7]",
                "mov eax,esi",
                "and eax,0",
                "add r8,rax",
                "vpxord zmm0,zmm0,zmm0",
                "vpxord zmm1,zmm1,zmm1",
                "vpxord zmm2,zmm2,zmm2",
                "vmovups zmm31,[rsi]",
                "vfmadd231ps zmm0,zmm31,[rdi]{1to16}",
                "vmovups zmm31,[rsi+40h]",
                "vfmadd231ps zmm30,zmm31,[rdi+4]{1to16}",
                "vmovups zmm31,[rsi+0C4h]",
                "vfmadd231ps zmm15,zmm31,[rdi+8]{1to16}",
                "prefetcht0 [r8]",
                "vmovups zmm31,[rsi-40h]",
                "vfmadd231ps zmm16,zmm31,[rdi+0Ch]{1to16}",
            ]
        );
        let mut masked = Sums { tail: Some(5), ..Sums::default() };
        masked.emit(0, &nonzeros([], 1), 0).unwrap();
        masked.load(3, false, None).unwrap();
        (0..31).for_each(|r| masked.zero(r));
        let read = text(&masked.code);
        assert_eq!(read[4..7], ["mov eax,1Fh", "kmovw k1,eax", "vmovups zmm31{k1}{z},[rsi+0Ch]"]);
        for (r, line) in read[7..].iter().enumerate() {
            assert_eq!(*line, format!("vpxord zmm{r},zmm{r},zmm{r}"));
        }
    }

    /// Masks that have no register of their own are loaded where the step before has another one.
    #[test]
    fn masks_have_registers() {
        let masks = [Some(0), None, Some(5), Some(6), Some(6), Some(9)];
        let step = |mask| NonzeroStep { b: 0, rows: 1, mask };
        let masks_at = Some(Place { param: Param(3), base: V(0) });
        let n = Nonzeros { steps: masks.map(step).to_vec(), runs: 1, second: None, masks: masks_at };
        let mut sums = Sums::default();
        sums.emit(1, &n, 2).unwrap();
        let read: Vec<String> = text(&sums.code)[4..]
            .iter()
            .filter(|l| !l.contains("fma") && !l.contains("prefetch"))
            .cloned()
            .collect();
        assert_eq!(
            read,
            [
                "mov rax,[rcx+10h]",
                "kmovw k1,[rax]",
                "kmovw k6,[rax+14h]",
                "vpxord zmm0,zmm0,zmm0",
                "vmovups zmm31{k1}{z},[rsi]",
                "vmovups zmm31,[rsi]",
                "vmovups zmm31{k6}{z},[rsi]",
                "kmovw k7,[rax+18h]",
                "vmovups zmm31{k7}{z},[rsi]",
                "vmovups zmm31{k7}{z},[rsi]",
                "kmovw k7,[rax+24h]",
                "vmovups zmm31{k7}{z},[rsi]",
            ]
        );
    }

    /// The last steps read another operand, from its own first row on.
    #[test]
    fn a_second_operand_has_an_address_of_its_own() {
        let place = |i| Place { param: Param(i), base: V(0) };
        let steps = [0, 16, 8 * 4096, 32].map(|b| NonzeroStep { b, rows: 1, mask: None });
        let mut n = Nonzeros { steps: steps.to_vec(), runs: 1, second: None, masks: None };
        n.second = Some(Second { b: place(3), from: 2 });
        let mut sums = Sums::default();
        sums.emit(1, &n, 2).unwrap();
        let read: Vec<String> = text(&sums.code)[5..]
            .iter()
            .filter(|l| !l.contains("fma") && !l.contains("prefetch"))
            .cloned()
            .collect();
        let wanted = [
            "vmovups zmm31,[rsi]",
            "vmovups zmm31,[rsi+40h]",
            "mov rsi,[rcx+10h]",
            "vmovups zmm31,[rsi+20000h]",
            "vmovups zmm31,[rsi+80h]",
        ];
        assert_eq!(read, wanted);
    }

    /// Each run fetches as many lines of the next function as this one has, shared out among the runs, and each line is of one share.
    #[test]
    fn what_is_next_is_fetched_in_shares() {
        for (runs, shares) in [(1, 1), (2, 1), (3, 2), (5, 4), (13, 8), (1000, 8)] {
            let mut sums = Sums::default();
            sums.emit(28, &nonzeros((0..100).map(|b| (16 * b, 0xff)), runs), 0).unwrap();
            let read = text(&sums.code);
            let mask = read[2].strip_prefix("and eax,").map(number);
            assert_eq!(mask, Some(64 * (shares - 1)), "{runs} runs");
            let at = |line: &String| {
                let place = line.strip_prefix("prefetcht0 [r8")?.strip_suffix(']')?;
                Some(place.strip_prefix('+').map_or(0, number))
            };
            let lines: Vec<i64> = read.iter().filter_map(at).collect();
            let wanted: Vec<i64> = (0..lines.len() as i64).map(|i| i * 64 * shares).collect();
            assert_eq!(lines, wanted);
            let fetched = lines.len() as i64 * shares * 64;
            assert!((fetched - sums.code.len() as i64).abs() <= 64 * shares, "{runs} runs: {fetched}");
        }
    }

    fn number(text: &str) -> i64 {
        match text.strip_suffix('h') {
            Some(digits) => i64::from_str_radix(digits, 16).unwrap(),
            None => text.parse().unwrap(),
        }
    }

    /// Rows further away than an 8-bit displacement reaches, whole vectors away or not.
    #[test]
    fn the_rows_pointer_moves_on() {
        for (apart, odd, moves) in [(64, 0, true), (208, 5, true), (3136, 0, false)] {
            let rows: Vec<i64> = (0..300).map(|i| i * apart + if i % 7 == 3 { odd } else { 0 }).collect();
            let mut sums = Sums::default();
            sums.emit(1, &nonzeros(rows.iter().map(|&b| (b, 1)), 1), 0).unwrap();
            let (mut at, mut found, mut moved) = (0, vec![], 0);
            for line in text(&sums.code) {
                if let Some(bytes) = line.strip_prefix("add rsi,") {
                    (at, moved) = (at + number(bytes), moved + 1);
                }
                let Some(place) = line.strip_prefix("vmovups zmm31,[rsi") else { continue };
                let place = place.trim_end_matches(']');
                let value = match place.split_at_checked(1) {
                    None => 0,
                    Some(("-", digits)) => -number(digits),
                    Some((_, digits)) => number(digits),
                };
                found.push((at + value) / 4);
            }
            assert_eq!((found, moved > 0), (rows, moves), "{apart} apart");
        }
    }

    /// Weights further away than a displacement reaches.
    #[test]
    fn the_pointer_moves_on() {
        let mut sums = Sums::default();
        sums.emit(1, &nonzeros((0..400).map(|b| (b, 1)), 1), 0).unwrap();
        let read = text(&sums.code);
        let (mut at, mut next) = (0i64, 0);
        for line in read {
            if let Some(bytes) = line.strip_prefix("add rdi,") {
                at += number(bytes);
            }
            let Some(place) = line.split("[rdi").nth(1) else { continue };
            let place = place.split(']').next().unwrap();
            let digits = place.trim_start_matches(['+', '-']);
            let value = if digits.is_empty() { 0 } else { number(digits) };
            let value = if place.starts_with('-') { -value } else { value };
            assert_eq!(at + value, 4 * next, "weight {next}");
            next += 1;
        }
        assert_eq!(next, 400);
    }
}
