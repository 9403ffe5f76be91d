//! AVX-512: 31 sums beside one row, weights broadcast by the multiply-add, masks in their own registers.

use egret_loop::Nonzeros;

use super::super::asm::{Vr, WideIsa};
use super::{MASKS, ROWS, Reach, Sums, WEIGHTS};

/// Registers that hold no sums.
pub(super) const BESIDE_SUMS: usize = 1;
/// Where the right operand's row is: the last register.
const ROW: Vr = 31;
/// The mask register of columns that fill no vector, and the first of those that hold a step's mask: from it on they hold one each, and the last one is loaded anew
/// where a step has another one than the step before it.
const FIRST_MASK: u8 = 1;
const LAST_MASK: u8 = 7;

impl Sums {
    /// Loads the masks that have a register of their own.
    pub(super) fn keep_masks(&mut self, nonzeros: &Nonzeros) {
        if let Some(tail) = self.tail {
            // mov eax, mask; kmovw k1, eax
            self.code.push(0xb8);
            self.code.extend(((1u32 << tail) - 1).to_le_bytes());
            self.code.extend([0xc5, 0xf8, 0x92, 0xc8]);
        }
        let kept = FIRST_MASK..LAST_MASK;
        let used = |mask: u8| nonzeros.steps.iter().any(|s| s.mask == Some(mask));
        kept.zip(0..).filter(|(_, mask)| used(*mask)).for_each(|(k, mask)| self.load_mask(k, mask));
    }

    /// `kmovw k, [rax + mask]`.
    fn load_mask(&mut self, k: u8, mask: u8) {
        self.code.extend([0xc5, 0xf8, 0x90, 0b1000_0000 | k << 3 | MASKS]);
        self.code.extend((4 * i32::from(mask)).to_le_bytes());
    }

    /// The register that holds a step's mask.
    pub(super) fn mask_register(&mut self, mask: u8) -> u8 {
        let own = mask.saturating_add(FIRST_MASK);
        if own < LAST_MASK {
            return own;
        }
        if self.last_mask != Some(mask) {
            self.load_mask(LAST_MASK, mask);
            self.last_mask = Some(mask);
        }
        LAST_MASK
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
    pub(super) fn zero_evex(&mut self, sum: Vr) {
        self.evex(0b01, 0b01, sum, sum, 0b100_0000);
        // The same register stands a third time, its upper two bits where memory has those of an index and a base.
        if let [.., second, _, _] = self.code.as_mut_slice() {
            *second &= !(0b11 << 5);
            *second |= (!sum >> 4 & 1) << 6 | (!sum >> 3 & 1) << 5;
        }
        self.code.extend([0xef, 0b1100_0000 | (sum & 7) << 3 | sum & 7]);
    }

    /// `vmovups zmm31 {mask}{z}, [rsi + elements]`.
    pub(super) fn load_evex(&mut self, elements: i64, mask: Option<u8>) {
        let masked = mask.or(self.tail.map(|_| FIRST_MASK)).map_or(0, |k| 0b1000_0000 | k);
        // vvvv is not used: all ones, which is register 0.
        self.evex(0b01, 0b00, ROW, 0, 0b100_0000 | masked);
        self.code.push(0x10);
        self.memory(ROW, ROWS, elements, Reach::of_rows(WideIsa::Avx512), 1);
    }

    /// `vfmadd231ps sum, zmm31, [rdi + weights]{1to16}`, where weights are near; of quads `vpdpbusd`.
    pub(super) fn multiply_add_evex(&mut self, sum: Vr, weights: i64) {
        self.evex(0b10, 0b01, sum, ROW, 0b101_0000);
        let operation = if self.quads { 0x50 } else { 0xb8 };
        self.code.extend([operation, 0b0100_0000 | (sum & 7) << 3 | WEIGHTS, weights as i8 as u8]);
    }
}
