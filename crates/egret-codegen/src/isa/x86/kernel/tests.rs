//! Every form that the encoder has, encoded once and read back.

use egret_loop::*;
use iced_x86::{Code, InstructionInfoFactory, OpAccess, OpKind, Register};

#[path = "../../../../tests/common/crowded.rs"]
mod crowded;

use super::super::asm::WideIsa;
use super::super::decode::{assert_same, decode, only_features};
use super::written;
use crate::isa::NotEncoded;
use crowded::crowded;

const WORDS: [Elem; 6] = [Elem::F32, Elem::F64, Elem::I32, Elem::I64, Elem::U32, Elem::U64];
const SMALL: [Elem; 5] = [Elem::Bool, Elem::I8, Elem::U8, Elem::I16, Elem::U16];
const UNARY: [UnOp; 8] =
    [UnOp::Neg, UnOp::Abs, UnOp::Sqrt, UnOp::Floor, UnOp::Ceil, UnOp::Trunc, UnOp::Nearest, UnOp::Not];
const BINARY: [BinOp; 15] = [
    BinOp::Add,
    BinOp::Sub,
    BinOp::Mul,
    BinOp::Div,
    BinOp::Rem,
    BinOp::Scale,
    BinOp::Min,
    BinOp::Max,
    BinOp::SelMin,
    BinOp::SelMax,
    BinOp::And,
    BinOp::Or,
    BinOp::Xor,
    BinOp::Shl,
    BinOp::Shr,
];
const COMPARE: [Cmp; 6] = [Cmp::Eq, Cmp::Ne, Cmp::Lt, Cmp::Le, Cmp::Gt, Cmp::Ge];

/// A kernel that loads vectors of a type, does something in a loop, and stores what has it and its bools.
fn kernel(elem: Elem, lanes: u8, body: impl Fn(&mut KernelBuilder, [V; 3]) -> V) -> Kernel {
    let mut k = KernelBuilder::new("form", 4);
    let x = k.param(elem, 4096, Access::Read);
    let outs: Vec<Param> =
        WORDS.into_iter().chain(SMALL).map(|e| k.param(e, 4096, Access::Write)).collect();
    let task = k.task();
    k.for_range(0, 1024, lanes.into(), |k, i| {
        let operands = [0, 1024, 2048].map(|more| {
            let at = k.affine(&[(task, 3), (i, 1)], more);
            if lanes == 1 { k.load(x, at) } else { k.load_lanes(x, at, lanes) }
        });
        let value = body(k, operands);
        let to = WORDS.into_iter().chain(SMALL).position(|e| e == k.ty(value).elem).expect("a known type");
        k.store(outs[to], i, value);
    });
    k.finish()
}

/// Whether operations on a type are defined.
fn is_float_op(op: UnOp) -> bool {
    matches!(op, UnOp::Sqrt | UnOp::Floor | UnOp::Ceil | UnOp::Trunc | UnOp::Nearest)
}

fn forms() -> Vec<Kernel> {
    let mut all = vec![];
    for elem in WORDS.into_iter().chain(SMALL) {
        let widest = Ty::vector_of(elem, 64).lanes;
        for lanes in [1, 2, 4, 8, 16]
            .into_iter()
            .filter(|l| *l == 1 || (*l <= widest && (elem.size() == 8 || *l > 2)))
        {
            let (float, bool) = (elem.is_float(), elem == Elem::Bool);
            for op in
                UNARY.into_iter().filter(|op| if float { *op != UnOp::Not } else { !is_float_op(*op) })
            {
                if !bool || op == UnOp::Not {
                    all.push(kernel(elem, lanes, |k, [x, ..]| k.unary(op, x)));
                }
            }
            let bits = |op: BinOp| matches!(op, BinOp::And | BinOp::Or | BinOp::Xor);
            let ints = |op: BinOp| bits(op) || matches!(op, BinOp::Rem | BinOp::Shl | BinOp::Shr);
            let defined = |op: &BinOp| match () {
                () if bool => bits(*op),
                () if float => !ints(*op),
                () => *op != BinOp::Scale,
            };
            for op in BINARY.into_iter().filter(defined) {
                all.push(kernel(elem, lanes, |k, [x, y, _]| k.binary(op, x, y)));
                let seven = |k: &mut KernelBuilder, x: V| k.const_bits(k.ty(x), number_bits(elem, 7.0));
                all.push(kernel(elem, lanes, |k, [x, ..]| {
                    let c = seven(k, x);
                    k.binary(op, x, c)
                }));
                if lanes > 1 && op.folds() && !bool {
                    all.push(kernel(elem, lanes, |k, [x, ..]| {
                        let v = k.fold(op, x);
                        k.splat(v, lanes)
                    }));
                }
            }
            if !float {
                // The sign of one on another, as constants and in registers.
                all.push(kernel(elem, lanes, |k, [x, y, z]| {
                    let v = k.binary(BinOp::And, x, y);
                    k.binary(BinOp::Or, v, z)
                }));
                all.push(kernel(elem, lanes, |k, [x, y, _]| {
                    let mask = k.const_bits(k.ty(x), number_bits(elem, 1.0));
                    let v = k.binary(BinOp::And, x, mask);
                    k.binary(BinOp::Or, y, v)
                }));
            }
            if float {
                all.push(kernel(elem, lanes, |k, [x, y, z]| k.fma(x, y, z)));
                all.push(kernel(elem, lanes, |k, [x, y, z]| {
                    let v = k.fma(x, y, z);
                    let w = k.fma(x, z, v);
                    k.fma(v, w, x)
                }));
            }
            for op in COMPARE.into_iter().filter(|_| !bool) {
                all.push(kernel(elem, lanes, |k, [x, y, z]| {
                    let less = k.compare(op, x, y);
                    k.select(less, z, x)
                }));
                all.push(kernel(elem, lanes, |k, [x, y, _]| k.compare(op, x, y)));
            }
            for to in WORDS.into_iter().chain(SMALL) {
                if usize::from(lanes) * to.size() <= 64
                    && (lanes != 2 || matches!(to.size(), 8) || to == Elem::Bool)
                {
                    all.push(kernel(elem, lanes, |k, [x, ..]| k.convert(to, x)));
                    if float {
                        all.push(kernel(elem, lanes, |k, [x, ..]| {
                            let whole = k.unary(UnOp::Nearest, x);
                            k.convert(to, whole)
                        }));
                    }
                }
                if to.size() == elem.size() && !bool && to != Elem::Bool {
                    all.push(kernel(elem, lanes, |k, [x, ..]| k.bitcast(to, x)));
                }
            }
            if lanes > 1 && !bool {
                for op in Shuffle::ALL.into_iter().filter(|op| op.takes(Ty { elem, lanes })) {
                    all.push(kernel(elem, lanes, |k, [x, y, _]| k.shuffle(op, x, y)));
                }
            }
            for lane in 0..lanes.min(16) {
                if lanes > 1 {
                    all.push(kernel(elem, lanes, |k, [x, ..]| k.extract(x, lane)));
                }
            }
        }
    }
    all
}

fn check(kernel: &Kernel, isa: WideIsa) -> bool {
    let (encoded, written) = match written(kernel, isa) {
        Ok(both) => both,
        Err(NotEncoded::Refused(_)) => return false,
        Err(NotEncoded::Broken(m)) => panic!("{m}: {}", crate::isa::x86::kernel::tests::text_of(kernel)),
    };
    let code = decode(&encoded.bytes[..encoded.code]);
    assert_eq!(written.len(), code.len());
    written.iter().zip(&code).for_each(|(w, r)| assert_same(w, r));
    only_features(&code, isa.row().features);

    // What is written is registers that the function may write, memory of parameters, and the frame.
    let saved = code.iter().filter(|i| i.code() == Code::Push_r64).map(|i| i.op0_register());
    let saved: Vec<Register> = saved.collect();
    let restored: Vec<Register> =
        code.iter().filter(|i| i.code() == Code::Pop_r64).map(|i| i.op0_register()).collect();
    assert!(saved.iter().all(|r| restored.contains(r)));
    let free = [
        Register::RAX,
        Register::RCX,
        Register::RDX,
        Register::RSI,
        Register::RDI,
        Register::R8,
        Register::R9,
        Register::R10,
        Register::R11,
        Register::RSP,
    ];
    let starts: Vec<u64> = code.iter().map(|i| i.ip()).collect();
    let mut info = InstructionInfoFactory::new();
    for i in &code {
        if matches!(i.op0_kind(), OpKind::NearBranch64) {
            assert!(
                starts.binary_search(&i.near_branch_target()).is_ok(),
                "{i:?} goes between instructions"
            );
        }
        let info = info.info(i);
        for m in info.used_memory() {
            let writes = !matches!(m.access(), OpAccess::Read | OpAccess::CondRead);
            match m.base() {
                Register::RIP => unreachable!("iced gives addresses"),
                Register::None => {
                    let (begin, size) = (m.displacement() as usize, m.memory_size().size());
                    assert!(
                        !writes && begin >= encoded.code && begin + size <= encoded.bytes.len(),
                        "{i:?}"
                    );
                }
                Register::RSP if !i.is_stack_instruction() => {
                    assert!((m.displacement() as i64) >= 0, "{i:?}")
                }
                _ => {}
            }
        }
        for r in info.used_registers() {
            let full = r.register().full_register();
            if matches!(r.access(), OpAccess::Read | OpAccess::CondRead) || !full.is_gpr64() {
                continue;
            }
            assert!(free.contains(&full) || saved.contains(&full), "{i:?} writes the caller's {full:?}");
        }
    }
    true
}

fn text_of(kernel: &Kernel) -> String {
    format!("{kernel:?}")
}

#[test]
fn every_form_is_what_was_written_and_within_the_targets_features() {
    let forms = forms();
    let refused = |isa| forms.iter().filter(|k| !check(k, isa)).count();
    // Division of vectors, and rounding of integers.
    assert_eq!((refused(WideIsa::Avx512), forms.len()), (96, 3119), "forms that are refused, of all");
    assert!(check(&crowded(16), WideIsa::Avx512));
    // And vectors of 64 bytes, of which small integers in 16 lanes are some, and what AVX2 lacks of u32 and 64 bits.
    assert_eq!(refused(WideIsa::Avx2), 1121);
    assert!(check(&crowded(8), WideIsa::Avx2));
}
