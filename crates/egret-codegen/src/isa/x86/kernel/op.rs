//! Vector instructions by what they do, one row each: their codes at every width, with and without AVX-512.

use iced_x86::Code;

use super::mir::View;

macro_rules! vector_ops {
    ($($op:ident => $x:ident, $y:ident, $ex:ident, $ey:ident, $ez:ident;)*) => {
        /// A vector instruction; the name is the mnemonic's, and the type of its lanes (`Ps`: f32, `Pd`: f64, `D` and `Q`: integers of 32
        /// and 64 bits).
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
        pub(super) enum VectorOp { $($op),* }

        impl VectorOp {
            /// Its codes for 16 and 32 bytes without AVX-512, and for 16, 32 and 64 bytes with it.
            fn codes(self) -> [Code; 5] {
                match self { $(VectorOp::$op => [Code::$x, Code::$y, Code::$ex, Code::$ey, Code::$ez]),* }
            }
        }
    };
}

impl VectorOp {
    /// The instruction for registers of this size; none where the instruction set lacks it.
    pub fn code(self, view: View, avx512: bool) -> Option<Code> {
        let [x, y, ex, ey, ez] = self.codes();
        let code = match (view, avx512) {
            (View::X, false) => x,
            (View::Y, false) => y,
            (View::X, true) => ex,
            (View::Y, true) => ey,
            (View::Z, true) => ez,
            _ => Code::INVALID,
        };
        (code != Code::INVALID).then_some(code)
    }
}

vector_ops! {
    AddPs =>
        VEX_Vaddps_xmm_xmm_xmmm128, VEX_Vaddps_ymm_ymm_ymmm256,
        EVEX_Vaddps_xmm_k1z_xmm_xmmm128b32, EVEX_Vaddps_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er;
    SubPs =>
        VEX_Vsubps_xmm_xmm_xmmm128, VEX_Vsubps_ymm_ymm_ymmm256,
        EVEX_Vsubps_xmm_k1z_xmm_xmmm128b32, EVEX_Vsubps_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er;
    MulPs =>
        VEX_Vmulps_xmm_xmm_xmmm128, VEX_Vmulps_ymm_ymm_ymmm256,
        EVEX_Vmulps_xmm_k1z_xmm_xmmm128b32, EVEX_Vmulps_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er;
    DivPs =>
        VEX_Vdivps_xmm_xmm_xmmm128, VEX_Vdivps_ymm_ymm_ymmm256,
        EVEX_Vdivps_xmm_k1z_xmm_xmmm128b32, EVEX_Vdivps_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er;
    MinPs =>
        VEX_Vminps_xmm_xmm_xmmm128, VEX_Vminps_ymm_ymm_ymmm256,
        EVEX_Vminps_xmm_k1z_xmm_xmmm128b32, EVEX_Vminps_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae;
    MaxPs =>
        VEX_Vmaxps_xmm_xmm_xmmm128, VEX_Vmaxps_ymm_ymm_ymmm256,
        EVEX_Vmaxps_xmm_k1z_xmm_xmmm128b32, EVEX_Vmaxps_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae;
    Fmadd213Ps =>
        VEX_Vfmadd213ps_xmm_xmm_xmmm128, VEX_Vfmadd213ps_ymm_ymm_ymmm256,
        EVEX_Vfmadd213ps_xmm_k1z_xmm_xmmm128b32, EVEX_Vfmadd213ps_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er;
    Fmadd231Ps =>
        VEX_Vfmadd231ps_xmm_xmm_xmmm128, VEX_Vfmadd231ps_ymm_ymm_ymmm256,
        EVEX_Vfmadd231ps_xmm_k1z_xmm_xmmm128b32, EVEX_Vfmadd231ps_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er;
    ScalefPs =>
        INVALID, INVALID,
        EVEX_Vscalefps_xmm_k1z_xmm_xmmm128b32, EVEX_Vscalefps_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vscalefps_zmm_k1z_zmm_zmmm512b32_er;
    SqrtPs =>
        VEX_Vsqrtps_xmm_xmmm128, VEX_Vsqrtps_ymm_ymmm256,
        EVEX_Vsqrtps_xmm_k1z_xmmm128b32, EVEX_Vsqrtps_ymm_k1z_ymmm256b32,
        EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er;
    RoundPs =>
        VEX_Vroundps_xmm_xmmm128_imm8, VEX_Vroundps_ymm_ymmm256_imm8,
        EVEX_Vrndscaleps_xmm_k1z_xmmm128b32_imm8, EVEX_Vrndscaleps_ymm_k1z_ymmm256b32_imm8,
        EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae;
    CmpPs =>
        VEX_Vcmpps_xmm_xmm_xmmm128_imm8, VEX_Vcmpps_ymm_ymm_ymmm256_imm8,
        EVEX_Vcmpps_kr_k1_xmm_xmmm128b32_imm8, EVEX_Vcmpps_kr_k1_ymm_ymmm256b32_imm8,
        EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae;
    PermilPs =>
        VEX_Vpermilps_xmm_xmmm128_imm8, VEX_Vpermilps_ymm_ymmm256_imm8,
        EVEX_Vpermilps_xmm_k1z_xmmm128b32_imm8, EVEX_Vpermilps_ymm_k1z_ymmm256b32_imm8,
        EVEX_Vpermilps_zmm_k1z_zmmm512b32_imm8;
    AddPd =>
        VEX_Vaddpd_xmm_xmm_xmmm128, VEX_Vaddpd_ymm_ymm_ymmm256,
        EVEX_Vaddpd_xmm_k1z_xmm_xmmm128b64, EVEX_Vaddpd_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vaddpd_zmm_k1z_zmm_zmmm512b64_er;
    SubPd =>
        VEX_Vsubpd_xmm_xmm_xmmm128, VEX_Vsubpd_ymm_ymm_ymmm256,
        EVEX_Vsubpd_xmm_k1z_xmm_xmmm128b64, EVEX_Vsubpd_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vsubpd_zmm_k1z_zmm_zmmm512b64_er;
    MulPd =>
        VEX_Vmulpd_xmm_xmm_xmmm128, VEX_Vmulpd_ymm_ymm_ymmm256,
        EVEX_Vmulpd_xmm_k1z_xmm_xmmm128b64, EVEX_Vmulpd_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vmulpd_zmm_k1z_zmm_zmmm512b64_er;
    DivPd =>
        VEX_Vdivpd_xmm_xmm_xmmm128, VEX_Vdivpd_ymm_ymm_ymmm256,
        EVEX_Vdivpd_xmm_k1z_xmm_xmmm128b64, EVEX_Vdivpd_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vdivpd_zmm_k1z_zmm_zmmm512b64_er;
    MinPd =>
        VEX_Vminpd_xmm_xmm_xmmm128, VEX_Vminpd_ymm_ymm_ymmm256,
        EVEX_Vminpd_xmm_k1z_xmm_xmmm128b64, EVEX_Vminpd_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vminpd_zmm_k1z_zmm_zmmm512b64_sae;
    MaxPd =>
        VEX_Vmaxpd_xmm_xmm_xmmm128, VEX_Vmaxpd_ymm_ymm_ymmm256,
        EVEX_Vmaxpd_xmm_k1z_xmm_xmmm128b64, EVEX_Vmaxpd_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vmaxpd_zmm_k1z_zmm_zmmm512b64_sae;
    Fmadd213Pd =>
        VEX_Vfmadd213pd_xmm_xmm_xmmm128, VEX_Vfmadd213pd_ymm_ymm_ymmm256,
        EVEX_Vfmadd213pd_xmm_k1z_xmm_xmmm128b64, EVEX_Vfmadd213pd_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vfmadd213pd_zmm_k1z_zmm_zmmm512b64_er;
    Fmadd231Pd =>
        VEX_Vfmadd231pd_xmm_xmm_xmmm128, VEX_Vfmadd231pd_ymm_ymm_ymmm256,
        EVEX_Vfmadd231pd_xmm_k1z_xmm_xmmm128b64, EVEX_Vfmadd231pd_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vfmadd231pd_zmm_k1z_zmm_zmmm512b64_er;
    ScalefPd =>
        INVALID, INVALID,
        EVEX_Vscalefpd_xmm_k1z_xmm_xmmm128b64, EVEX_Vscalefpd_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vscalefpd_zmm_k1z_zmm_zmmm512b64_er;
    SqrtPd =>
        VEX_Vsqrtpd_xmm_xmmm128, VEX_Vsqrtpd_ymm_ymmm256,
        EVEX_Vsqrtpd_xmm_k1z_xmmm128b64, EVEX_Vsqrtpd_ymm_k1z_ymmm256b64,
        EVEX_Vsqrtpd_zmm_k1z_zmmm512b64_er;
    RoundPd =>
        VEX_Vroundpd_xmm_xmmm128_imm8, VEX_Vroundpd_ymm_ymmm256_imm8,
        EVEX_Vrndscalepd_xmm_k1z_xmmm128b64_imm8, EVEX_Vrndscalepd_ymm_k1z_ymmm256b64_imm8,
        EVEX_Vrndscalepd_zmm_k1z_zmmm512b64_imm8_sae;
    CmpPd =>
        VEX_Vcmppd_xmm_xmm_xmmm128_imm8, VEX_Vcmppd_ymm_ymm_ymmm256_imm8,
        EVEX_Vcmppd_kr_k1_xmm_xmmm128b64_imm8, EVEX_Vcmppd_kr_k1_ymm_ymmm256b64_imm8,
        EVEX_Vcmppd_kr_k1_zmm_zmmm512b64_imm8_sae;
    PermilPd =>
        VEX_Vpermilpd_xmm_xmmm128_imm8, VEX_Vpermilpd_ymm_ymmm256_imm8,
        EVEX_Vpermilpd_xmm_k1z_xmmm128b64_imm8, EVEX_Vpermilpd_ymm_k1z_ymmm256b64_imm8,
        EVEX_Vpermilpd_zmm_k1z_zmmm512b64_imm8;
    PandD =>
        VEX_Vpand_xmm_xmm_xmmm128, VEX_Vpand_ymm_ymm_ymmm256,
        EVEX_Vpandd_xmm_k1z_xmm_xmmm128b32, EVEX_Vpandd_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32;
    PorD =>
        VEX_Vpor_xmm_xmm_xmmm128, VEX_Vpor_ymm_ymm_ymmm256,
        EVEX_Vpord_xmm_k1z_xmm_xmmm128b32, EVEX_Vpord_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpord_zmm_k1z_zmm_zmmm512b32;
    TernlogD =>
        INVALID, INVALID,
        EVEX_Vpternlogd_xmm_k1z_xmm_xmmm128b32_imm8, EVEX_Vpternlogd_ymm_k1z_ymm_ymmm256b32_imm8,
        EVEX_Vpternlogd_zmm_k1z_zmm_zmmm512b32_imm8;
    PxorD =>
        VEX_Vpxor_xmm_xmm_xmmm128, VEX_Vpxor_ymm_ymm_ymmm256,
        EVEX_Vpxord_xmm_k1z_xmm_xmmm128b32, EVEX_Vpxord_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32;
    PaddD =>
        VEX_Vpaddd_xmm_xmm_xmmm128, VEX_Vpaddd_ymm_ymm_ymmm256,
        EVEX_Vpaddd_xmm_k1z_xmm_xmmm128b32, EVEX_Vpaddd_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32;
    PsubD =>
        VEX_Vpsubd_xmm_xmm_xmmm128, VEX_Vpsubd_ymm_ymm_ymmm256,
        EVEX_Vpsubd_xmm_k1z_xmm_xmmm128b32, EVEX_Vpsubd_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32;
    PmullD =>
        VEX_Vpmulld_xmm_xmm_xmmm128, VEX_Vpmulld_ymm_ymm_ymmm256,
        EVEX_Vpmulld_xmm_k1z_xmm_xmmm128b32, EVEX_Vpmulld_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32;
    PminsD =>
        VEX_Vpminsd_xmm_xmm_xmmm128, VEX_Vpminsd_ymm_ymm_ymmm256,
        EVEX_Vpminsd_xmm_k1z_xmm_xmmm128b32, EVEX_Vpminsd_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpminsd_zmm_k1z_zmm_zmmm512b32;
    PmaxsD =>
        VEX_Vpmaxsd_xmm_xmm_xmmm128, VEX_Vpmaxsd_ymm_ymm_ymmm256,
        EVEX_Vpmaxsd_xmm_k1z_xmm_xmmm128b32, EVEX_Vpmaxsd_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpmaxsd_zmm_k1z_zmm_zmmm512b32;
    PminuD =>
        VEX_Vpminud_xmm_xmm_xmmm128, VEX_Vpminud_ymm_ymm_ymmm256,
        EVEX_Vpminud_xmm_k1z_xmm_xmmm128b32, EVEX_Vpminud_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpminud_zmm_k1z_zmm_zmmm512b32;
    PmaxuD =>
        VEX_Vpmaxud_xmm_xmm_xmmm128, VEX_Vpmaxud_ymm_ymm_ymmm256,
        EVEX_Vpmaxud_xmm_k1z_xmm_xmmm128b32, EVEX_Vpmaxud_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpmaxud_zmm_k1z_zmm_zmmm512b32;
    PsllvD =>
        VEX_Vpsllvd_xmm_xmm_xmmm128, VEX_Vpsllvd_ymm_ymm_ymmm256,
        EVEX_Vpsllvd_xmm_k1z_xmm_xmmm128b32, EVEX_Vpsllvd_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpsllvd_zmm_k1z_zmm_zmmm512b32;
    PsrlvD =>
        VEX_Vpsrlvd_xmm_xmm_xmmm128, VEX_Vpsrlvd_ymm_ymm_ymmm256,
        EVEX_Vpsrlvd_xmm_k1z_xmm_xmmm128b32, EVEX_Vpsrlvd_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpsrlvd_zmm_k1z_zmm_zmmm512b32;
    PsravD =>
        VEX_Vpsravd_xmm_xmm_xmmm128, VEX_Vpsravd_ymm_ymm_ymmm256,
        EVEX_Vpsravd_xmm_k1z_xmm_xmmm128b32, EVEX_Vpsravd_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpsravd_zmm_k1z_zmm_zmmm512b32;
    PabsD =>
        VEX_Vpabsd_xmm_xmmm128, VEX_Vpabsd_ymm_ymmm256,
        EVEX_Vpabsd_xmm_k1z_xmmm128b32, EVEX_Vpabsd_ymm_k1z_ymmm256b32,
        EVEX_Vpabsd_zmm_k1z_zmmm512b32;
    PcmpD =>
        INVALID, INVALID,
        EVEX_Vpcmpd_kr_k1_xmm_xmmm128b32_imm8, EVEX_Vpcmpd_kr_k1_ymm_ymmm256b32_imm8,
        EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8;
    PcmpuD =>
        INVALID, INVALID,
        EVEX_Vpcmpud_kr_k1_xmm_xmmm128b32_imm8, EVEX_Vpcmpud_kr_k1_ymm_ymmm256b32_imm8,
        EVEX_Vpcmpud_kr_k1_zmm_zmmm512b32_imm8;
    PblendmD =>
        INVALID, INVALID,
        EVEX_Vpblendmd_xmm_k1z_xmm_xmmm128b32, EVEX_Vpblendmd_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpblendmd_zmm_k1z_zmm_zmmm512b32;
    PandQ =>
        VEX_Vpand_xmm_xmm_xmmm128, VEX_Vpand_ymm_ymm_ymmm256,
        EVEX_Vpandq_xmm_k1z_xmm_xmmm128b64, EVEX_Vpandq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpandq_zmm_k1z_zmm_zmmm512b64;
    PorQ =>
        VEX_Vpor_xmm_xmm_xmmm128, VEX_Vpor_ymm_ymm_ymmm256,
        EVEX_Vporq_xmm_k1z_xmm_xmmm128b64, EVEX_Vporq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vporq_zmm_k1z_zmm_zmmm512b64;
    TernlogQ =>
        INVALID, INVALID,
        EVEX_Vpternlogq_xmm_k1z_xmm_xmmm128b64_imm8, EVEX_Vpternlogq_ymm_k1z_ymm_ymmm256b64_imm8,
        EVEX_Vpternlogq_zmm_k1z_zmm_zmmm512b64_imm8;
    PxorQ =>
        VEX_Vpxor_xmm_xmm_xmmm128, VEX_Vpxor_ymm_ymm_ymmm256,
        EVEX_Vpxorq_xmm_k1z_xmm_xmmm128b64, EVEX_Vpxorq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpxorq_zmm_k1z_zmm_zmmm512b64;
    PaddQ =>
        VEX_Vpaddq_xmm_xmm_xmmm128, VEX_Vpaddq_ymm_ymm_ymmm256,
        EVEX_Vpaddq_xmm_k1z_xmm_xmmm128b64, EVEX_Vpaddq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpaddq_zmm_k1z_zmm_zmmm512b64;
    PsubQ =>
        VEX_Vpsubq_xmm_xmm_xmmm128, VEX_Vpsubq_ymm_ymm_ymmm256,
        EVEX_Vpsubq_xmm_k1z_xmm_xmmm128b64, EVEX_Vpsubq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpsubq_zmm_k1z_zmm_zmmm512b64;
    PmullQ =>
        INVALID, INVALID,
        EVEX_Vpmullq_xmm_k1z_xmm_xmmm128b64, EVEX_Vpmullq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpmullq_zmm_k1z_zmm_zmmm512b64;
    PminsQ =>
        INVALID, INVALID,
        EVEX_Vpminsq_xmm_k1z_xmm_xmmm128b64, EVEX_Vpminsq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpminsq_zmm_k1z_zmm_zmmm512b64;
    PmaxsQ =>
        INVALID, INVALID,
        EVEX_Vpmaxsq_xmm_k1z_xmm_xmmm128b64, EVEX_Vpmaxsq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpmaxsq_zmm_k1z_zmm_zmmm512b64;
    PminuQ =>
        INVALID, INVALID,
        EVEX_Vpminuq_xmm_k1z_xmm_xmmm128b64, EVEX_Vpminuq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpminuq_zmm_k1z_zmm_zmmm512b64;
    PmaxuQ =>
        INVALID, INVALID,
        EVEX_Vpmaxuq_xmm_k1z_xmm_xmmm128b64, EVEX_Vpmaxuq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpmaxuq_zmm_k1z_zmm_zmmm512b64;
    PsllvQ =>
        VEX_Vpsllvq_xmm_xmm_xmmm128, VEX_Vpsllvq_ymm_ymm_ymmm256,
        EVEX_Vpsllvq_xmm_k1z_xmm_xmmm128b64, EVEX_Vpsllvq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpsllvq_zmm_k1z_zmm_zmmm512b64;
    PsrlvQ =>
        VEX_Vpsrlvq_xmm_xmm_xmmm128, VEX_Vpsrlvq_ymm_ymm_ymmm256,
        EVEX_Vpsrlvq_xmm_k1z_xmm_xmmm128b64, EVEX_Vpsrlvq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpsrlvq_zmm_k1z_zmm_zmmm512b64;
    PsravQ =>
        INVALID, INVALID,
        EVEX_Vpsravq_xmm_k1z_xmm_xmmm128b64, EVEX_Vpsravq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpsravq_zmm_k1z_zmm_zmmm512b64;
    PabsQ =>
        INVALID, INVALID,
        EVEX_Vpabsq_xmm_k1z_xmmm128b64, EVEX_Vpabsq_ymm_k1z_ymmm256b64,
        EVEX_Vpabsq_zmm_k1z_zmmm512b64;
    PcmpQ =>
        INVALID, INVALID,
        EVEX_Vpcmpq_kr_k1_xmm_xmmm128b64_imm8, EVEX_Vpcmpq_kr_k1_ymm_ymmm256b64_imm8,
        EVEX_Vpcmpq_kr_k1_zmm_zmmm512b64_imm8;
    PcmpuQ =>
        INVALID, INVALID,
        EVEX_Vpcmpuq_kr_k1_xmm_xmmm128b64_imm8, EVEX_Vpcmpuq_kr_k1_ymm_ymmm256b64_imm8,
        EVEX_Vpcmpuq_kr_k1_zmm_zmmm512b64_imm8;
    PblendmQ =>
        INVALID, INVALID,
        EVEX_Vpblendmq_xmm_k1z_xmm_xmmm128b64, EVEX_Vpblendmq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpblendmq_zmm_k1z_zmm_zmmm512b64;
    Cvtdq2Ps =>
        VEX_Vcvtdq2ps_xmm_xmmm128, VEX_Vcvtdq2ps_ymm_ymmm256,
        EVEX_Vcvtdq2ps_xmm_k1z_xmmm128b32, EVEX_Vcvtdq2ps_ymm_k1z_ymmm256b32,
        EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er;
    Cvtps2Dq =>
        VEX_Vcvtps2dq_xmm_xmmm128, VEX_Vcvtps2dq_ymm_ymmm256,
        EVEX_Vcvtps2dq_xmm_k1z_xmmm128b32, EVEX_Vcvtps2dq_ymm_k1z_ymmm256b32,
        EVEX_Vcvtps2dq_zmm_k1z_zmmm512b32_er;
    Cvttps2Dq =>
        VEX_Vcvttps2dq_xmm_xmmm128, VEX_Vcvttps2dq_ymm_ymmm256,
        EVEX_Vcvttps2dq_xmm_k1z_xmmm128b32, EVEX_Vcvttps2dq_ymm_k1z_ymmm256b32,
        EVEX_Vcvttps2dq_zmm_k1z_zmmm512b32_sae;
    Cvtudq2Ps =>
        INVALID, INVALID,
        EVEX_Vcvtudq2ps_xmm_k1z_xmmm128b32, EVEX_Vcvtudq2ps_ymm_k1z_ymmm256b32,
        EVEX_Vcvtudq2ps_zmm_k1z_zmmm512b32_er;
    Cvttps2Udq =>
        INVALID, INVALID,
        EVEX_Vcvttps2udq_xmm_k1z_xmmm128b32, EVEX_Vcvttps2udq_ymm_k1z_ymmm256b32,
        EVEX_Vcvttps2udq_zmm_k1z_zmmm512b32_sae;
    Cvtqq2Pd =>
        INVALID, INVALID,
        EVEX_Vcvtqq2pd_xmm_k1z_xmmm128b64, EVEX_Vcvtqq2pd_ymm_k1z_ymmm256b64,
        EVEX_Vcvtqq2pd_zmm_k1z_zmmm512b64_er;
    Cvtuqq2Pd =>
        INVALID, INVALID,
        EVEX_Vcvtuqq2pd_xmm_k1z_xmmm128b64, EVEX_Vcvtuqq2pd_ymm_k1z_ymmm256b64,
        EVEX_Vcvtuqq2pd_zmm_k1z_zmmm512b64_er;
    Cvttpd2Qq =>
        INVALID, INVALID,
        EVEX_Vcvttpd2qq_xmm_k1z_xmmm128b64, EVEX_Vcvttpd2qq_ymm_k1z_ymmm256b64,
        EVEX_Vcvttpd2qq_zmm_k1z_zmmm512b64_sae;
    Cvttpd2Uqq =>
        INVALID, INVALID,
        EVEX_Vcvttpd2uqq_xmm_k1z_xmmm128b64, EVEX_Vcvttpd2uqq_ymm_k1z_ymmm256b64,
        EVEX_Vcvttpd2uqq_zmm_k1z_zmmm512b64_sae;
    // Between elements of unlike sizes: the row is that of the wider vector.
    Cvtps2Pd =>
        INVALID, VEX_Vcvtps2pd_ymm_xmmm128,
        INVALID, EVEX_Vcvtps2pd_ymm_k1z_xmmm128b32, EVEX_Vcvtps2pd_zmm_k1z_ymmm256b32_sae;
    Cvtpd2Ps =>
        INVALID, VEX_Vcvtpd2ps_xmm_ymmm256,
        INVALID, EVEX_Vcvtpd2ps_xmm_k1z_ymmm256b64, EVEX_Vcvtpd2ps_ymm_k1z_zmmm512b64_er;
    Cvtdq2Pd =>
        INVALID, VEX_Vcvtdq2pd_ymm_xmmm128,
        INVALID, EVEX_Vcvtdq2pd_ymm_k1z_xmmm128b32, EVEX_Vcvtdq2pd_zmm_k1z_ymmm256b32_er;
    Cvtudq2Pd =>
        INVALID, INVALID, INVALID,
        EVEX_Vcvtudq2pd_ymm_k1z_xmmm128b32, EVEX_Vcvtudq2pd_zmm_k1z_ymmm256b32_er;
    Cvttpd2Dq =>
        INVALID, VEX_Vcvttpd2dq_xmm_ymmm256,
        INVALID, EVEX_Vcvttpd2dq_xmm_k1z_ymmm256b64, EVEX_Vcvttpd2dq_ymm_k1z_zmmm512b64_sae;
    Cvttpd2Udq =>
        INVALID, INVALID, INVALID,
        EVEX_Vcvttpd2udq_xmm_k1z_ymmm256b64, EVEX_Vcvttpd2udq_ymm_k1z_zmmm512b64_sae;
    Cvtqq2Ps =>
        INVALID, INVALID, INVALID,
        EVEX_Vcvtqq2ps_xmm_k1z_ymmm256b64, EVEX_Vcvtqq2ps_ymm_k1z_zmmm512b64_er;
    Cvtuqq2Ps =>
        INVALID, INVALID, INVALID,
        EVEX_Vcvtuqq2ps_xmm_k1z_ymmm256b64, EVEX_Vcvtuqq2ps_ymm_k1z_zmmm512b64_er;
    // The half of a vector of f32 that is f16: the row is that of the f32.
    Cvtph2Ps =>
        VEX_Vcvtph2ps_xmm_xmmm64, VEX_Vcvtph2ps_ymm_xmmm128,
        EVEX_Vcvtph2ps_xmm_k1z_xmmm64, EVEX_Vcvtph2ps_ymm_k1z_xmmm128,
        EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae;
    Cvtps2Ph =>
        VEX_Vcvtps2ph_xmmm64_xmm_imm8, VEX_Vcvtps2ph_xmmm128_ymm_imm8,
        EVEX_Vcvtps2ph_xmmm64_k1z_xmm_imm8, EVEX_Vcvtps2ph_xmmm128_k1z_ymm_imm8,
        EVEX_Vcvtps2ph_ymmm256_k1z_zmm_imm8_sae;
    PmovsxDq =>
        VEX_Vpmovsxdq_xmm_xmmm64, VEX_Vpmovsxdq_ymm_xmmm128,
        INVALID, EVEX_Vpmovsxdq_ymm_k1z_xmmm128, EVEX_Vpmovsxdq_zmm_k1z_ymmm256;
    PmovzxDq =>
        INVALID, VEX_Vpmovzxdq_ymm_xmmm128,
        INVALID, EVEX_Vpmovzxdq_ymm_k1z_xmmm128, EVEX_Vpmovzxdq_zmm_k1z_ymmm256;
    PmovQd =>
        INVALID, INVALID, INVALID, EVEX_Vpmovqd_xmmm128_k1z_ymm, EVEX_Vpmovqd_ymmm256_k1z_zmm;
    // Small integers in memory as lanes of 32 bits: the row is that of the lanes.
    PmovsxBd =>
        VEX_Vpmovsxbd_xmm_xmmm32, VEX_Vpmovsxbd_ymm_xmmm64,
        EVEX_Vpmovsxbd_xmm_k1z_xmmm32, EVEX_Vpmovsxbd_ymm_k1z_xmmm64, EVEX_Vpmovsxbd_zmm_k1z_xmmm128;
    PmovzxBd =>
        VEX_Vpmovzxbd_xmm_xmmm32, VEX_Vpmovzxbd_ymm_xmmm64,
        EVEX_Vpmovzxbd_xmm_k1z_xmmm32, EVEX_Vpmovzxbd_ymm_k1z_xmmm64, EVEX_Vpmovzxbd_zmm_k1z_xmmm128;
    PmovsxWd =>
        VEX_Vpmovsxwd_xmm_xmmm64, VEX_Vpmovsxwd_ymm_xmmm128,
        EVEX_Vpmovsxwd_xmm_k1z_xmmm64, EVEX_Vpmovsxwd_ymm_k1z_xmmm128, EVEX_Vpmovsxwd_zmm_k1z_ymmm256;
    PmovzxWd =>
        VEX_Vpmovzxwd_xmm_xmmm64, VEX_Vpmovzxwd_ymm_xmmm128,
        EVEX_Vpmovzxwd_xmm_k1z_xmmm64, EVEX_Vpmovzxwd_ymm_k1z_xmmm128, EVEX_Vpmovzxwd_zmm_k1z_ymmm256;
    PmovDb =>
        INVALID, INVALID,
        EVEX_Vpmovdb_xmmm32_k1z_xmm, EVEX_Vpmovdb_xmmm64_k1z_ymm, EVEX_Vpmovdb_xmmm128_k1z_zmm;
    PmovDw =>
        INVALID, INVALID,
        EVEX_Vpmovdw_xmmm64_k1z_xmm, EVEX_Vpmovdw_xmmm128_k1z_ymm, EVEX_Vpmovdw_ymmm256_k1z_zmm;
    // Moves: the row of a load or a store is that of the register.
    LoadUps =>
        VEX_Vmovups_xmm_xmmm128, VEX_Vmovups_ymm_ymmm256,
        EVEX_Vmovups_xmm_k1z_xmmm128, EVEX_Vmovups_ymm_k1z_ymmm256, EVEX_Vmovups_zmm_k1z_zmmm512;
    StoreUps =>
        VEX_Vmovups_xmmm128_xmm, VEX_Vmovups_ymmm256_ymm,
        EVEX_Vmovups_xmmm128_k1z_xmm, EVEX_Vmovups_ymmm256_k1z_ymm, EVEX_Vmovups_zmmm512_k1z_zmm;
    // Under a mask, which is the second source without AVX-512.
    LoadFirstPs =>
        VEX_Vmaskmovps_xmm_xmm_m128, VEX_Vmaskmovps_ymm_ymm_m256,
        EVEX_Vmovups_xmm_k1z_xmmm128, EVEX_Vmovups_ymm_k1z_ymmm256, EVEX_Vmovups_zmm_k1z_zmmm512;
    StoreFirstPs =>
        VEX_Vmaskmovps_m128_xmm_xmm, VEX_Vmaskmovps_m256_ymm_ymm,
        EVEX_Vmovups_xmmm128_k1z_xmm, EVEX_Vmovups_ymmm256_k1z_ymm, EVEX_Vmovups_zmmm512_k1z_zmm;
    LoadFirstPd =>
        VEX_Vmaskmovpd_xmm_xmm_m128, VEX_Vmaskmovpd_ymm_ymm_m256,
        EVEX_Vmovupd_xmm_k1z_xmmm128, EVEX_Vmovupd_ymm_k1z_ymmm256, EVEX_Vmovupd_zmm_k1z_zmmm512;
    StoreFirstPd =>
        VEX_Vmaskmovpd_m128_xmm_xmm, VEX_Vmaskmovpd_m256_ymm_ymm,
        EVEX_Vmovupd_xmmm128_k1z_xmm, EVEX_Vmovupd_ymmm256_k1z_ymm, EVEX_Vmovupd_zmmm512_k1z_zmm;
    LoadSs => VEX_Vmovss_xmm_m32, INVALID, EVEX_Vmovss_xmm_k1z_m32, INVALID, INVALID;
    StoreSs => VEX_Vmovss_m32_xmm, INVALID, EVEX_Vmovss_m32_k1_xmm, INVALID, INVALID;
    LoadSd => VEX_Vmovsd_xmm_m64, INVALID, EVEX_Vmovsd_xmm_k1z_m64, INVALID, INVALID;
    StoreSd => VEX_Vmovsd_m64_xmm, INVALID, EVEX_Vmovsd_m64_k1_xmm, INVALID, INVALID;
    LoadQ => VEX_Vmovq_xmm_xmmm64, INVALID, EVEX_Vmovq_xmm_xmmm64, INVALID, INVALID;
    StoreQ => VEX_Vmovq_xmmm64_xmm, INVALID, EVEX_Vmovq_xmmm64_xmm, INVALID, INVALID;
    // Between lane 0 and general registers or memory.
    IntoD => VEX_Vmovd_xmm_rm32, INVALID, EVEX_Vmovd_xmm_rm32, INVALID, INVALID;
    OutOfD => VEX_Vmovd_rm32_xmm, INVALID, EVEX_Vmovd_rm32_xmm, INVALID, INVALID;
    IntoQ => VEX_Vmovq_xmm_rm64, INVALID, EVEX_Vmovq_xmm_rm64, INVALID, INVALID;
    OutOfQ => VEX_Vmovq_rm64_xmm, INVALID, EVEX_Vmovq_rm64_xmm, INVALID, INVALID;
    // One element in every lane: from lane 0 or memory, and from a general register.
    BroadcastD =>
        VEX_Vpbroadcastd_xmm_xmmm32, VEX_Vpbroadcastd_ymm_xmmm32,
        EVEX_Vpbroadcastd_xmm_k1z_xmmm32, EVEX_Vpbroadcastd_ymm_k1z_xmmm32, EVEX_Vpbroadcastd_zmm_k1z_xmmm32;
    BroadcastQ =>
        VEX_Vpbroadcastq_xmm_xmmm64, VEX_Vpbroadcastq_ymm_xmmm64,
        EVEX_Vpbroadcastq_xmm_k1z_xmmm64, EVEX_Vpbroadcastq_ymm_k1z_xmmm64, EVEX_Vpbroadcastq_zmm_k1z_xmmm64;
    BroadcastIntD =>
        INVALID, INVALID,
        EVEX_Vpbroadcastd_xmm_k1z_r32, EVEX_Vpbroadcastd_ymm_k1z_r32, EVEX_Vpbroadcastd_zmm_k1z_r32;
    BroadcastIntQ =>
        INVALID, INVALID,
        EVEX_Vpbroadcastq_xmm_k1z_r64, EVEX_Vpbroadcastq_ymm_k1z_r64, EVEX_Vpbroadcastq_zmm_k1z_r64;
    // 16 or 32 bytes of a vector: the row is that of the vector.
    Extract16 =>
        INVALID, VEX_Vextractf128_xmmm128_ymm_imm8,
        INVALID, EVEX_Vextractf32x4_xmmm128_k1z_ymm_imm8, EVEX_Vextractf32x4_xmmm128_k1z_zmm_imm8;
    Extract32 =>
        INVALID, INVALID, INVALID, INVALID, EVEX_Vextractf64x4_ymmm256_k1z_zmm_imm8;
    // Scalars converted in lane 0.
    Cvtss2Sd => VEX_Vcvtss2sd_xmm_xmm_xmmm32, INVALID, EVEX_Vcvtss2sd_xmm_k1z_xmm_xmmm32_sae, INVALID, INVALID;
    Cvtsd2Ss => VEX_Vcvtsd2ss_xmm_xmm_xmmm64, INVALID, EVEX_Vcvtsd2ss_xmm_k1z_xmm_xmmm64_er, INVALID, INVALID;
    CvtInt32Ss => VEX_Vcvtsi2ss_xmm_xmm_rm32, INVALID, EVEX_Vcvtsi2ss_xmm_xmm_rm32_er, INVALID, INVALID;
    CvtInt32Sd => VEX_Vcvtsi2sd_xmm_xmm_rm32, INVALID, EVEX_Vcvtsi2sd_xmm_xmm_rm32_er, INVALID, INVALID;
    CvtInt64Ss => VEX_Vcvtsi2ss_xmm_xmm_rm64, INVALID, EVEX_Vcvtsi2ss_xmm_xmm_rm64_er, INVALID, INVALID;
    CvtInt64Sd => VEX_Vcvtsi2sd_xmm_xmm_rm64, INVALID, EVEX_Vcvtsi2sd_xmm_xmm_rm64_er, INVALID, INVALID;
    Cvttsd2Int64 => VEX_Vcvttsd2si_r64_xmmm64, INVALID, INVALID, INVALID, INVALID;
    CvtUint64Ss => INVALID, INVALID, EVEX_Vcvtusi2ss_xmm_xmm_rm64_er, INVALID, INVALID;
    CvtUint64Sd => INVALID, INVALID, EVEX_Vcvtusi2sd_xmm_xmm_rm64_er, INVALID, INVALID;
    // Conditions as lanes of which all bits are set, or none.
    PcmpeqD => VEX_Vpcmpeqd_xmm_xmm_xmmm128, VEX_Vpcmpeqd_ymm_ymm_ymmm256, INVALID, INVALID, INVALID;
    PcmpgtD => VEX_Vpcmpgtd_xmm_xmm_xmmm128, VEX_Vpcmpgtd_ymm_ymm_ymmm256, INVALID, INVALID, INVALID;
    PcmpeqQ => VEX_Vpcmpeqq_xmm_xmm_xmmm128, VEX_Vpcmpeqq_ymm_ymm_ymmm256, INVALID, INVALID, INVALID;
    PcmpgtQ => VEX_Vpcmpgtq_xmm_xmm_xmmm128, VEX_Vpcmpgtq_ymm_ymm_ymmm256, INVALID, INVALID, INVALID;
    BlendvPs =>
        VEX_Vblendvps_xmm_xmm_xmmm128_xmm, VEX_Vblendvps_ymm_ymm_ymmm256_ymm, INVALID, INVALID, INVALID;
    MovmskPs => VEX_Vmovmskps_r32_xmm, VEX_Vmovmskps_r32_ymm, INVALID, INVALID, INVALID;
    // Lanes of two vectors, within 16 bytes each.
    ShufPs =>
        VEX_Vshufps_xmm_xmm_xmmm128_imm8, VEX_Vshufps_ymm_ymm_ymmm256_imm8,
        EVEX_Vshufps_xmm_k1z_xmm_xmmm128b32_imm8, INVALID, INVALID;
    PunpcklDq =>
        VEX_Vpunpckldq_xmm_xmm_xmmm128, VEX_Vpunpckldq_ymm_ymm_ymmm256,
        EVEX_Vpunpckldq_xmm_k1z_xmm_xmmm128b32, EVEX_Vpunpckldq_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpunpckldq_zmm_k1z_zmm_zmmm512b32;
    PunpckhDq =>
        VEX_Vpunpckhdq_xmm_xmm_xmmm128, VEX_Vpunpckhdq_ymm_ymm_ymmm256,
        EVEX_Vpunpckhdq_xmm_k1z_xmm_xmmm128b32, EVEX_Vpunpckhdq_ymm_k1z_ymm_ymmm256b32,
        EVEX_Vpunpckhdq_zmm_k1z_zmm_zmmm512b32;
    PunpcklQdq =>
        VEX_Vpunpcklqdq_xmm_xmm_xmmm128, VEX_Vpunpcklqdq_ymm_ymm_ymmm256,
        EVEX_Vpunpcklqdq_xmm_k1z_xmm_xmmm128b64, EVEX_Vpunpcklqdq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpunpcklqdq_zmm_k1z_zmm_zmmm512b64;
    PunpckhQdq =>
        VEX_Vpunpckhqdq_xmm_xmm_xmmm128, VEX_Vpunpckhqdq_ymm_ymm_ymmm256,
        EVEX_Vpunpckhqdq_xmm_k1z_xmm_xmmm128b64, EVEX_Vpunpckhqdq_ymm_k1z_ymm_ymmm256b64,
        EVEX_Vpunpckhqdq_zmm_k1z_zmm_zmmm512b64;
    // Lanes of two vectors in any order, the first of which is overwritten.
    Permt2D =>
        INVALID, INVALID,
        INVALID, EVEX_Vpermt2d_ymm_k1z_ymm_ymmm256b32, EVEX_Vpermt2d_zmm_k1z_zmm_zmmm512b32;
    Permt2Q =>
        INVALID, INVALID,
        INVALID, EVEX_Vpermt2q_ymm_k1z_ymm_ymmm256b64, EVEX_Vpermt2q_zmm_k1z_zmm_zmmm512b64;
    // Lanes of two vectors as elements half as wide, with saturation.
    PackssDw => VEX_Vpackssdw_xmm_xmm_xmmm128, INVALID, INVALID, INVALID, INVALID;
    PackusDw => VEX_Vpackusdw_xmm_xmm_xmmm128, INVALID, INVALID, INVALID, INVALID;
    PackssWb => VEX_Vpacksswb_xmm_xmm_xmmm128, INVALID, INVALID, INVALID, INVALID;
    PackusWb => VEX_Vpackuswb_xmm_xmm_xmmm128, INVALID, INVALID, INVALID, INVALID;
    PabsB => VEX_Vpabsb_xmm_xmmm128, INVALID, EVEX_Vpabsb_xmm_k1z_xmmm128, INVALID, INVALID;
}
