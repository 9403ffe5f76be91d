//! A thin assembler: the vector instructions that tiles need, the same call for AVX2 and AVX-512.

use iced_x86::code_asm::CodeAssembler;
use iced_x86::{Code, IcedError, Instruction, MemoryOperand, Register};

use super::super::{Encoding, Isa, broken};

/// Which instructions a tile may use.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum WideIsa {
    /// AVX2 and FMA: 16 registers of 8 lanes.
    Avx2,
    /// AVX-512 F: 32 registers of 16 lanes.
    Avx512,
}

impl WideIsa {
    /// The instruction set that it stands for.
    pub fn row(self) -> &'static Isa {
        match self {
            WideIsa::Avx2 => &super::V3,
            WideIsa::Avx512 => &super::V4,
        }
    }

    /// f32 lanes of a vector.
    pub fn lanes(self) -> usize {
        self.row().vector_bytes / 4
    }

    /// Vector registers.
    pub fn registers(self) -> usize {
        self.row().registers
    }

    /// Bytes of a vector.
    pub fn bytes(self) -> i64 {
        self.row().vector_bytes as i64
    }

    /// Bytes of a constant behind the code: AVX2 has no embedded broadcast, so its constants are whole vectors.
    pub fn constant_bytes(self) -> i64 {
        match self {
            WideIsa::Avx2 => 32,
            WideIsa::Avx512 => 4,
        }
    }
}

/// A vector register by number.
pub(super) type Vr = u8;

/// A memory operand: base register and displacement in bytes.
#[derive(Copy, Clone, Debug)]
pub(super) struct Mem {
    pub base: Register,
    pub disp: i64,
    /// One 4-byte element in every lane (AVX-512 only).
    pub broadcast: bool,
}

impl Mem {
    pub fn at(base: Register, disp: i64) -> Mem {
        Mem { base, disp, broadcast: false }
    }

    pub fn broadcast(base: Register, disp: i64) -> Mem {
        Mem { base, disp, broadcast: true }
    }

    pub fn operand(self) -> MemoryOperand {
        MemoryOperand::new(
            self.base,
            Register::None,
            1,
            self.disp,
            if self.disp == 0 { 0 } else { 1 },
            self.broadcast,
            Register::None,
        )
    }
}

/// A source: a register or memory.
#[derive(Copy, Clone, Debug)]
pub(super) enum Rm {
    Reg(Vr),
    Mem(Mem),
}

macro_rules! vector_ops {
    ($(#[$doc:meta])* $name:ident { $($op:ident => $avx2:ident, $avx512:ident;)* }) => {
        $(#[$doc])*
        #[derive(Copy, Clone, Debug, PartialEq, Eq)]
        pub(super) enum $name { $($op),* }
        impl $name {
            fn code(self, isa: WideIsa) -> Code {
                match (self, isa) {
                    $(($name::$op, WideIsa::Avx2) => Code::$avx2, ($name::$op, WideIsa::Avx512) => Code::$avx512,)*
                }
            }
        }
    };
}

vector_ops! {
    /// dst = a op b; for the `Fma` ones and `Dot` dst is read too. `Dot`: a of u8, b of i8. `MulPairs`: products of i16 as i32, the two of each
    /// lane added.
    Op2 {
        Add => VEX_Vaddps_ymm_ymm_ymmm256, EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er;
        Sub => VEX_Vsubps_ymm_ymm_ymmm256, EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er;
        Mul => VEX_Vmulps_ymm_ymm_ymmm256, EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er;
        Div => VEX_Vdivps_ymm_ymm_ymmm256, EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er;
        Scale => INVALID, EVEX_Vscalefps_zmm_k1z_zmm_zmmm512b32_er;
        Min => VEX_Vminps_ymm_ymm_ymmm256, EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae;
        Max => VEX_Vmaxps_ymm_ymm_ymmm256, EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae;
        Fma213 => VEX_Vfmadd213ps_ymm_ymm_ymmm256, EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er;
        Fma231 => VEX_Vfmadd231ps_ymm_ymm_ymmm256, EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er;
        And => VEX_Vpand_ymm_ymm_ymmm256, EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32;
        Or => VEX_Vpor_ymm_ymm_ymmm256, EVEX_Vpord_zmm_k1z_zmm_zmmm512b32;
        Xor => VEX_Vpxor_ymm_ymm_ymmm256, EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32;
        IAdd => VEX_Vpaddd_ymm_ymm_ymmm256, EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32;
        ISub => VEX_Vpsubd_ymm_ymm_ymmm256, EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32;
        IMul => VEX_Vpmulld_ymm_ymm_ymmm256, EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32;
        IMin => VEX_Vpminsd_ymm_ymm_ymmm256, EVEX_Vpminsd_zmm_k1z_zmm_zmmm512b32;
        IMax => VEX_Vpmaxsd_ymm_ymm_ymmm256, EVEX_Vpmaxsd_zmm_k1z_zmm_zmmm512b32;
        Shl => VEX_Vpsllvd_ymm_ymm_ymmm256, EVEX_Vpsllvd_zmm_k1z_zmm_zmmm512b32;
        Sar => VEX_Vpsravd_ymm_ymm_ymmm256, EVEX_Vpsravd_zmm_k1z_zmm_zmmm512b32;
        MulPairs => VEX_Vpmaddwd_ymm_ymm_ymmm256, EVEX_Vpmaddwd_zmm_k1z_zmm_zmmm512;
        Dot => VEX_Vpdpbusd_ymm_ymm_ymmm256, EVEX_Vpdpbusd_zmm_k1z_zmm_zmmm512b32;
    }
}

vector_ops! {
    /// dst = op src.
    Op1 {
        Sqrt => VEX_Vsqrtps_ymm_ymmm256, EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er;
        IAbs => VEX_Vpabsd_ymm_ymmm256, EVEX_Vpabsd_zmm_k1z_zmmm512b32;
        ToF32 => VEX_Vcvtdq2ps_ymm_ymmm256, EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er;
        ToI32 => VEX_Vcvttps2dq_ymm_ymmm256, EVEX_Vcvttps2dq_zmm_k1z_zmmm512b32_sae;
        NearestI32 => VEX_Vcvtps2dq_ymm_ymmm256, EVEX_Vcvtps2dq_zmm_k1z_zmmm512b32_er;
    }
}

vector_ops! {
    /// Shifts of words of 2 bytes: to the left, to the right by zeros, to the right by their sign.
    ShiftWords {
        Left => VEX_Vpsllw_ymm_ymm_imm8, EVEX_Vpsllw_zmm_k1z_zmmm512_imm8;
        Right => VEX_Vpsrlw_ymm_ymm_imm8, EVEX_Vpsrlw_zmm_k1z_zmmm512_imm8;
        SignedRight => VEX_Vpsraw_ymm_ymm_imm8, EVEX_Vpsraw_zmm_k1z_zmmm512_imm8;
    }
}

/// Operations on mask registers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum MaskOp {
    And,
    Or,
    Xor,
    Xnor,
}

/// Instructions being assembled. Errors of single instructions are kept and reported by [`Asm::finish`].
pub(super) struct Asm {
    pub code: CodeAssembler,
    pub isa: WideIsa,
    error: Option<IcedError>,
}

impl Asm {
    pub fn new(isa: WideIsa) -> Encoding<Asm> {
        let code = CodeAssembler::new(64).map_err(|e| broken(format!("no assembler: {e}")))?;
        Ok(Asm { code, isa, error: None })
    }

    /// The machine code.
    ///
    /// # Errors
    /// An instruction that could not be encoded.
    pub fn finish(mut self) -> Encoding<Vec<u8>> {
        let bytes = match self.error {
            Some(e) => Err(e),
            None => self.code.assemble(0),
        };
        bytes.map_err(|e| broken(format!("an instruction could not be encoded: {e}")))
    }

    /// Keep the error of an instruction.
    pub fn ok(&mut self, result: Result<(), IcedError>) {
        if let Err(e) = result {
            self.error.get_or_insert(e);
        }
    }

    pub fn add(&mut self, inst: Result<Instruction, IcedError>) {
        let result = inst.and_then(|i| self.code.add_instruction(i));
        self.ok(result);
    }

    fn vr(&self, r: Vr) -> Register {
        (match self.isa {
            WideIsa::Avx2 => Register::YMM0,
            WideIsa::Avx512 => Register::ZMM0,
        }) + u32::from(r)
    }

    /// The lower half of a register.
    fn half(&self, r: Vr) -> Register {
        (match self.isa {
            WideIsa::Avx2 => Register::XMM0,
            WideIsa::Avx512 => Register::YMM0,
        }) + u32::from(r)
    }

    /// Two sources.
    pub fn op2(&mut self, op: Op2, dst: Vr, a: Vr, b: Rm) {
        self.three(op.code(self.isa), dst, a, b);
    }

    fn three(&mut self, code: Code, dst: Vr, a: Vr, b: Rm) {
        let (dst, a) = (self.vr(dst), self.vr(a));
        let inst = match b {
            Rm::Reg(b) => Instruction::with3(code, dst, a, self.vr(b)),
            Rm::Mem(m) => Instruction::with3(code, dst, a, m.operand()),
        };
        self.add(inst);
    }

    /// One source.
    pub fn op1(&mut self, op: Op1, dst: Vr, src: Rm) {
        let code = op.code(self.isa);
        let dst = self.vr(dst);
        let inst = match src {
            Rm::Reg(s) => Instruction::with2(code, dst, self.vr(s)),
            Rm::Mem(m) => Instruction::with2(code, dst, m.operand()),
        };
        self.add(inst);
    }

    /// Words of 2 bytes of src by 8 bits.
    pub fn shift_words(&mut self, shift: ShiftWords, dst: Vr, src: Vr) {
        let inst = Instruction::with3(shift.code(self.isa), self.vr(dst), self.vr(src), 8);
        self.add(inst);
    }

    /// Rounding: 0 nearest even, 1 down, 2 up, 3 towards zero.
    pub fn round(&mut self, mode: u32, dst: Vr, src: Rm) {
        let code = match self.isa {
            WideIsa::Avx2 => Code::VEX_Vroundps_ymm_ymmm256_imm8,
            WideIsa::Avx512 => Code::EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae,
        };
        let dst = self.vr(dst);
        let inst = match src {
            Rm::Reg(s) => Instruction::with3(code, dst, self.vr(s), mode | 8),
            Rm::Mem(m) => Instruction::with3(code, dst, m.operand(), mode | 8),
        };
        self.add(inst);
    }

    /// The lower half of dst = f32 rounded to f16.
    pub fn round_half(&mut self, dst: Vr, src: Vr) {
        let code = match self.isa {
            WideIsa::Avx2 => Code::VEX_Vcvtps2ph_xmmm128_ymm_imm8,
            WideIsa::Avx512 => Code::EVEX_Vcvtps2ph_ymmm256_k1z_zmm_imm8_sae,
        };
        self.add(Instruction::with3(code, self.half(dst), self.vr(src), 0u32));
    }

    /// dst = the f32 of the f16 in the lower half of src.
    pub fn widen_half(&mut self, dst: Vr, src: Vr) {
        let code = match self.isa {
            WideIsa::Avx2 => Code::VEX_Vcvtph2ps_ymm_xmmm128,
            WideIsa::Avx512 => Code::EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae,
        };
        self.add(Instruction::with2(code, self.vr(dst), self.half(src)));
    }

    /// dst = 0.
    pub fn zero(&mut self, dst: Vr) {
        self.op2(Op2::Xor, dst, dst, Rm::Reg(dst));
    }

    /// AVX2: dst = -0, as which every float is what it was when added.
    pub fn minus_zero(&mut self, dst: Vr) {
        self.compare_ints(false, dst, dst, Rm::Reg(dst));
        let r = self.vr(dst);
        self.add(Instruction::with3(Code::VEX_Vpslld_ymm_ymm_imm8, r, r, 31));
    }

    /// Register copy.
    pub fn copy(&mut self, dst: Vr, src: Vr) {
        if dst != src {
            let code = match self.isa {
                WideIsa::Avx2 => Code::VEX_Vmovups_ymm_ymmm256,
                WideIsa::Avx512 => Code::EVEX_Vmovups_zmm_k1z_zmmm512,
            };
            let inst = Instruction::with2(code, self.vr(dst), self.vr(src));
            self.add(inst);
        }
    }

    /// A full vector from memory; with `mask`, the tail's lanes only (AVX-512: mask register; AVX2: vector).
    pub fn load(&mut self, dst: Vr, mem: Mem, mask: Option<Vr>) {
        let dst = self.vr(dst);
        let inst = match (self.isa, mask) {
            (WideIsa::Avx2, None) => Instruction::with2(Code::VEX_Vmovups_ymm_ymmm256, dst, mem.operand()),
            (WideIsa::Avx2, Some(m)) => {
                Instruction::with3(Code::VEX_Vmaskmovps_ymm_ymm_m256, dst, self.vr(m), mem.operand())
            }
            (WideIsa::Avx512, m) => {
                Instruction::with2(Code::EVEX_Vmovups_zmm_k1z_zmmm512, dst, mem.operand()).map(|mut i| {
                    if let Some(m) = m {
                        i.set_op_mask(Register::K0 + u32::from(m));
                        i.set_zeroing_masking(true);
                    }
                    i
                })
            }
        };
        self.add(inst);
    }

    /// The counterpart of [`Asm::load`].
    pub fn store(&mut self, mem: Mem, src: Vr, mask: Option<Vr>) {
        let src = self.vr(src);
        let inst = match (self.isa, mask) {
            (WideIsa::Avx2, None) => Instruction::with2(Code::VEX_Vmovups_ymmm256_ymm, mem.operand(), src),
            (WideIsa::Avx2, Some(m)) => {
                Instruction::with3(Code::VEX_Vmaskmovps_m256_ymm_ymm, mem.operand(), self.vr(m), src)
            }
            (WideIsa::Avx512, m) => {
                Instruction::with2(Code::EVEX_Vmovups_zmmm512_k1z_zmm, mem.operand(), src).map(|mut i| {
                    if let Some(m) = m {
                        i.set_op_mask(Register::K0 + u32::from(m));
                    }
                    i
                })
            }
        };
        self.add(inst);
    }

    /// Bytes of memory in lanes of 4 bytes, extended by their sign or by zeros; all the same byte if `splat`. A mask with AVX-512 only.
    pub fn load_bytes(&mut self, dst: Vr, mem: Mem, mask: Option<Vr>, signed: bool, splat: bool) {
        let (low, dst) = (Register::XMM0 + u32::from(dst), self.vr(dst));
        let (code, one) = match (self.isa, signed) {
            (WideIsa::Avx2, true) => (Code::VEX_Vpmovsxbd_ymm_xmmm64, Code::VEX_Vpbroadcastb_xmm_xmmm8),
            (WideIsa::Avx2, false) => (Code::VEX_Vpmovzxbd_ymm_xmmm64, Code::VEX_Vpbroadcastb_xmm_xmmm8),
            (_, true) => (Code::EVEX_Vpmovsxbd_zmm_k1z_xmmm128, Code::EVEX_Vpbroadcastb_xmm_k1z_xmmm8),
            (_, false) => (Code::EVEX_Vpmovzxbd_zmm_k1z_xmmm128, Code::EVEX_Vpbroadcastb_xmm_k1z_xmmm8),
        };
        if splat {
            self.add(Instruction::with2(one, low, mem.operand()));
            return self.add(Instruction::with2(code, dst, low));
        }
        let inst = Instruction::with2(code, dst, mem.operand());
        self.add(inst.map(|mut i| {
            if let Some(m) = mask {
                i.set_op_mask(Register::K0 + u32::from(m));
                i.set_zeroing_masking(true);
            }
            i
        }));
    }

    /// Lanes of 4 bytes to memory as bytes, whose numbers they hold. A mask with AVX-512 only; with AVX2, src is lost.
    pub fn store_bytes(&mut self, mem: Mem, src: Vr, mask: Option<Vr>, signed: bool) {
        if self.isa == WideIsa::Avx2 {
            // Each half by itself: its words, its bytes, of which it has four.
            let (low, all) = (self.half(src), self.vr(src));
            let bytes = match signed {
                true => Code::VEX_Vpacksswb_ymm_ymm_ymmm256,
                false => Code::VEX_Vpackuswb_ymm_ymm_ymmm256,
            };
            let high = Mem { disp: mem.disp + 4, ..mem };
            self.add(Instruction::with3(Code::VEX_Vpackssdw_ymm_ymm_ymmm256, all, all, all));
            self.add(Instruction::with3(bytes, all, all, all));
            self.add(Instruction::with2(Code::VEX_Vmovd_rm32_xmm, mem.operand(), low));
            self.add(Instruction::with3(Code::VEX_Vextracti128_xmmm128_ymm_imm8, low, all, 1));
            return self.add(Instruction::with2(Code::VEX_Vmovd_rm32_xmm, high.operand(), low));
        }
        let src = self.vr(src);
        let inst =
            Instruction::with2(Code::EVEX_Vpmovdb_xmmm128_k1z_zmm, mem.operand(), src).map(|mut i| {
                if let Some(m) = mask {
                    i.set_op_mask(Register::K0 + u32::from(m));
                }
                i
            });
        self.add(inst);
    }

    /// One element of memory in every lane.
    pub fn splat(&mut self, dst: Vr, base: Register, disp: i64) {
        let code = match self.isa {
            WideIsa::Avx2 => Code::VEX_Vbroadcastss_ymm_m32,
            WideIsa::Avx512 => Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32,
        };
        let inst = Instruction::with2(code, self.vr(dst), Mem::at(base, disp).operand());
        self.add(inst);
    }

    /// AVX2: dst = all ones where the float comparison holds, else 0.
    pub fn compare_vector(&mut self, dst: Vr, a: Vr, b: Rm, predicate: u32) {
        let (dst, a) = (self.vr(dst), self.vr(a));
        let code = Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8;
        let inst = match b {
            Rm::Reg(b) => Instruction::with4(code, dst, a, self.vr(b), predicate),
            Rm::Mem(m) => Instruction::with4(code, dst, a, m.operand(), predicate),
        };
        self.add(inst);
    }

    /// AVX2: dst = all ones where a = b (or a > b), signed integers.
    pub fn compare_ints(&mut self, greater: bool, dst: Vr, a: Vr, b: Rm) {
        let code =
            if greater { Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256 } else { Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256 };
        self.three(code, dst, a, b);
    }

    /// AVX-512: mask = comparison.
    pub fn compare_mask(&mut self, int: bool, mask: u8, a: Vr, b: Rm, predicate: u32) {
        let code = match int {
            true => Code::EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8,
            false => Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae,
        };
        let (k, a) = (Register::K0 + u32::from(mask), self.vr(a));
        let inst = match b {
            Rm::Reg(b) => Instruction::with4(code, k, a, self.vr(b), predicate),
            Rm::Mem(m) => Instruction::with4(code, k, a, m.operand(), predicate),
        };
        self.add(inst);
    }

    /// AVX-512: operation on masks.
    pub fn mask_op(&mut self, op: MaskOp, dst: u8, a: u8, b: u8) {
        let code = match op {
            MaskOp::And => Code::VEX_Kandw_kr_kr_kr,
            MaskOp::Or => Code::VEX_Korw_kr_kr_kr,
            MaskOp::Xor => Code::VEX_Kxorw_kr_kr_kr,
            MaskOp::Xnor => Code::VEX_Kxnorw_kr_kr_kr,
        };
        let k = |n: u8| Register::K0 + u32::from(n);
        self.add(Instruction::with3(code, k(dst), k(a), k(b)));
    }

    /// dst += src in the lanes of a mask register (AVX-512).
    pub fn add_where(&mut self, mask: u8, dst: Vr, src: Mem) {
        let dst = self.vr(dst);
        let inst = Instruction::with3(Op2::Add.code(self.isa), dst, dst, src.operand()).map(|mut i| {
            i.set_op_mask(Register::K0 + u32::from(mask));
            i
        });
        self.add(inst);
    }

    /// dst = mask ? b : a, where the mask is a mask register (AVX-512) or a full-width vector (AVX2).
    pub fn blend(&mut self, dst: Vr, mask: u8, a: Vr, b: Rm) {
        let (d, x) = (self.vr(dst), self.vr(a));
        let inst = match (self.isa, b) {
            (WideIsa::Avx512, b) => {
                let code = Code::EVEX_Vpblendmd_zmm_k1z_zmm_zmmm512b32;
                match b {
                    Rm::Reg(b) => Instruction::with3(code, d, x, self.vr(b)),
                    Rm::Mem(m) => Instruction::with3(code, d, x, m.operand()),
                }
                .map(|mut i| {
                    i.set_op_mask(Register::K0 + u32::from(mask));
                    i
                })
            }
            (WideIsa::Avx2, Rm::Reg(b)) => {
                Instruction::with4(Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm, d, x, self.vr(b), self.vr(mask))
            }
            (WideIsa::Avx2, Rm::Mem(m)) => Instruction::with4(
                Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm,
                d,
                x,
                m.operand(),
                self.vr(mask),
            ),
        };
        self.add(inst);
    }
}
