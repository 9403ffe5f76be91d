//! AVX2 and FMA: 14 sums beside one row and one weight. A row that is used once is read by its multiply-add; masks are vectors on the stack.

use egret_loop::Nonzeros;
use iced_x86::IcedError;
use iced_x86::code_asm::{
    CodeAssembler, dword_ptr, eax, ptr, r9, r10, rax, rsp, xmm15, ymm14, ymm15, ymmword_ptr,
};

use super::super::super::{Encoding, broken};
use super::super::asm::{Vr, WideIsa};
use super::{MASKS, ROWS, Reach, Sums, WEIGHTS};

/// Registers that hold no sums.
pub(super) const BESIDE_SUMS: usize = 2;
/// Where a broadcast weight is, and the right operand's row.
const WEIGHT: Vr = 14;
const ROW: Vr = 15;
/// Bytes of a mask on the stack, and of the first ones, which an 8-bit displacement from `rax` reaches.
const MASK: i64 = 32;
const BELOW: i64 = 128;
/// By how much to shift bits for the one of a lane to be its sign: 31 in the first lane, a byte each.
const SHIFTS: u64 = 0x1819_1a1b_1c1d_1e1f;

/// Opcodes behind the escape bytes 0F and 0F38.
const MOVE: u8 = 0x10;
const XOR: u8 = 0x57;
const BROADCAST: u8 = 0x18;
const MASKED_MOVE: u8 = 0x2c;
const MULTIPLY_ADD: u8 = 0xb8;

impl Sums {
    /// Makes a vector on the stack of each mask, which `rax` is the place of then; of columns that fill no vector as well. `r9` keeps the stack pointer.
    pub(super) fn stack_masks(&mut self, nonzeros: &Nonzeros) -> Encoding<()> {
        let mut used: Vec<Option<u8>> =
            nonzeros.steps.iter().map(|s| s.mask).filter(Option::is_some).collect();
        used.sort_unstable();
        used.dedup();
        if self.tail.is_some() {
            used = vec![None];
        }
        self.stacked = used;
        if self.stacked.is_empty() {
            return Ok(());
        }
        let code = self.masks_to_stack().map_err(|e| broken(format!("masks could not be encoded: {e}")))?;
        self.code.extend(code);
        Ok(())
    }

    fn masks_to_stack(&self) -> Result<Vec<u8>, IcedError> {
        let mut a = CodeAssembler::new(64)?;
        a.mov(r9, rsp)?;
        a.sub(rsp, (MASK * self.stacked.len() as i64) as i32)?;
        a.and(rsp, -MASK as i32)?;
        if let Some(tail) = self.tail {
            a.mov(eax, (1u32 << tail) - 1)?;
            a.vmovd(xmm15, eax)?;
            a.vpbroadcastd(ymm14, xmm15)?;
        }
        a.mov(r10, SHIFTS)?;
        a.vmovq(xmm15, r10)?;
        a.vpmovzxbd(ymm15, xmm15)?;
        for (mask, at) in self.stacked.iter().zip((0..).step_by(MASK as usize)) {
            if let Some(mask) = mask {
                a.vpbroadcastd(ymm14, dword_ptr(rax + 4 * i32::from(*mask)))?;
            }
            a.vpsllvd(ymm14, ymm14, ymm15)?;
            a.vmovups(ymmword_ptr(rsp + at), ymm14)?;
        }
        a.lea(rax, ptr(rsp + BELOW as i32))?;
        a.assemble(0)
    }

    /// Gives the stack back: `mov rsp, r9`.
    pub(super) fn drop_masks(&mut self) {
        if !self.stacked.is_empty() {
            self.code.extend([0x4c, 0x89, 0xcc]);
        }
    }

    /// The prefix VEX of an instruction of 8 lanes behind 0F38, with 66, on `reg`, `vvvv` and a register `rm` or memory at one; bits of registers are inverted there.
    fn vex(&mut self, reg: Vr, vvvv: Vr, rm: Vr) {
        self.code.extend([
            0xc4,
            (!reg >> 3 & 1) << 7 | 1 << 6 | (!rm >> 3 & 1) << 5 | 0b10,
            (!vvvv & 0xf) << 3 | 0b101,
        ]);
    }

    /// `vxorps sum, sum, sum`.
    pub(super) fn zero_vex(&mut self, sum: Vr) {
        let high = !sum >> 3 & 1;
        self.code.extend([0xc4, high << 7 | 1 << 6 | high << 5 | 0b01, (!sum & 0xf) << 3 | 0b100]);
        self.code.extend([XOR, 0b1100_0000 | (sum & 7) << 3 | sum & 7]);
    }

    /// `vmovups ymm15, [base + elements]`.
    fn load_whole(&mut self, base: u8, elements: i64) {
        // The prefix of two bytes; vvvv is not used: all ones.
        self.code.extend([0xc5, 0b1111 << 3 | 0b100, MOVE]);
        self.memory(ROW, base, elements, Reach::of_rows(WideIsa::Avx2), 4);
    }

    /// The row at `[rsi + elements]`, where a mask has its columns; zeros elsewhere.
    pub(super) fn load_vex(&mut self, elements: i64, mask: Option<u8>) -> Encoding<()> {
        if mask.is_none() && self.tail.is_none() {
            self.load_whole(ROWS, elements);
            return Ok(());
        }
        let at = self.stacked.iter().position(|m| *m == mask);
        let at = at.ok_or_else(|| broken("a mask that is not among those of the steps"))?;
        self.load_whole(MASKS, (MASK * at as i64 - BELOW) / 4);
        // vmaskmovps ymm15, ymm15, [rsi + elements]
        self.vex(ROW, ROW, ROWS);
        self.code.push(MASKED_MOVE);
        self.memory(ROW, ROWS, elements, Reach::of_rows(WideIsa::Avx2), 4);
        Ok(())
    }

    /// `vbroadcastss ymm14, [rdi + weights]`, where weights are near, and `vfmadd231ps sum, ymm14, row`, which is a register or at `rsi`.
    pub(super) fn multiply_add_vex(&mut self, sum: Vr, weights: i64, row: Option<i64>) {
        let reach = Reach::of_rows(WideIsa::Avx2);
        self.vex(WEIGHT, 0, WEIGHTS);
        self.code.push(BROADCAST);
        self.memory(WEIGHT, WEIGHTS, weights, reach, 4);
        self.vex(sum, WEIGHT, if row.is_some() { ROWS } else { ROW });
        self.code.push(MULTIPLY_ADD);
        match row {
            Some(elements) => self.memory(sum, ROWS, elements, reach, 4),
            None => self.code.push(0b1100_0000 | (sum & 7) << 3 | ROW & 7),
        }
    }
}
