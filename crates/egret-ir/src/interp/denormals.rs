//! Which operations flush subnormal numbers, and the state in which the one that runs reads and writes its floats.
//!
//! Like the floating-point state of a processor it is the thread's: [`super::evaluate`] sets it around each operation, and
//! [`super::convert`], by which all operations read and write numbers, asks for it.

use crate::families::Elementwise;
use crate::{Attrs, DType, Member, Op, Value};
use egret_float::Denormals;
use std::cell::Cell;

thread_local! {
    static STATE: Cell<Denormals> = const { Cell::new(Denormals::Keep) };
}

/// Puts the state back that was there before.
pub(super) struct Entered(Denormals);

impl Drop for Entered {
    fn drop(&mut self) {
        STATE.set(self.0);
    }
}

/// Set the state until the value is dropped.
pub(super) fn enter(denormals: Denormals) -> Entered {
    Entered(STATE.replace(denormals))
}

/// The state of the operation that runs.
pub(super) fn current() -> Denormals {
    STATE.get()
}

/// What an operation does with subnormal numbers, where `asked` is the choice for those that compute: what changes signs, or moves
/// bits about, keeps them.
pub(super) fn of(op: Op, attrs: &Attrs, operands: &[Option<Value>], asked: Denormals) -> Denormals {
    let keeps = match op.member() {
        Member::Elementwise(Elementwise::Neg | Elementwise::Abs | Elementwise::Where) => true,
        Member::Elementwise(Elementwise::Cast) => {
            let from =
                operands.first().and_then(Option::as_ref).and_then(Value::as_tensor).map(|t| t.dtype());
            // These are shifts and integer sums of the bits.
            matches!(
                (from, attrs.dtype("to")),
                (Some(DType::F32 | DType::BF16 | DType::F8E8M0), DType::F32 | DType::BF16 | DType::F8E8M0)
            )
        }
        Member::Movement(_) | Member::Random(_) | Member::Control(_) | Member::Sequence(_) => true,
        _ => false,
    };
    if keeps { Denormals::Keep } else { asked }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::{Bounds, eval_op_with, run_with};
    use crate::{Tensor, attrs, text};

    /// The bits of what an operation makes of f32s, flushed and kept.
    fn bits(op: Op, attrs: Attrs, operands: &[Tensor]) -> [Vec<u8>; 2] {
        let operands: Vec<_> = operands.iter().map(|t| Some(t.clone().into())).collect();
        Denormals::ALL.map(|d| {
            let out = eval_op_with(op, &attrs, &operands, &[], d).unwrap();
            out[0].as_tensor().unwrap().bytes().to_vec()
        })
    }

    fn f32s(v: &[f32]) -> Tensor {
        Tensor::new(&[v.len()], v.to_vec())
    }

    #[test]
    fn arithmetic_flushes_and_copies_do_not() {
        let (tiny, least) = (1e-40f32, f32::MIN_POSITIVE);
        let x = f32s(&[tiny, -tiny, least, 0.0]);
        let bytes = |v: &[f32]| f32s(v).bytes().to_vec();
        // Operands, then results.
        let sum = bits(Op::Add, attrs! {}, &[x.clone(), x.clone()]);
        assert_eq!(
            sum,
            [bytes(&[0.0, -0.0, 2.0 * least, 0.0]), bytes(&[2.0 * tiny, -2.0 * tiny, 2.0 * least, 0.0])]
        );
        let half = bits(Op::Mul, attrs! {}, &[x.clone(), f32s(&[-0.5])]);
        assert_eq!(half[0], bytes(&[-0.0, 0.0, -0.0, -0.0]));
        let large = bits(Op::Div, attrs! {}, &[x.clone(), f32s(&[tiny])]);
        assert!(f32::from_le_bytes(large[0][..4].try_into().unwrap()).is_nan());
        assert_eq!(
            bits(Op::Less, attrs! {}, &[f32s(&[0.0]), x.clone()]),
            [vec![0, 0, 1, 0], vec![1, 0, 1, 0]]
        );
        assert_eq!(
            bits(
                Op::Cast,
                attrs! { to: DType::Bool, saturate: 1i64, round: "nearest" },
                std::slice::from_ref(&x)
            )[0],
            [0, 0, 1, 0]
        );
        for op in [Op::Neg, Op::Abs] {
            let [flushed, kept] = bits(op, attrs! {}, std::slice::from_ref(&x));
            assert_eq!(flushed, kept, "{op}");
        }
        // A running sum is rounded step by step.
        let cumulative = attrs! { kind: "prod", axis: 0i64, exclusive: 0i64, reverse: 0i64 };
        let [flushed, kept] = bits(Op::Cumulative, cumulative, &[f32s(&[least, 0.5, 4.0])]);
        assert_eq!((flushed, kept), (bytes(&[least, 0.0, 0.0]), bytes(&[least, least / 2.0, 2.0 * least])));
    }

    #[test]
    fn element_types_flush_what_they_are_computed_in() {
        // The least normal bf16 is that of f32, which half of an ulp of bf16 below it is not.
        let near = f32::MIN_POSITIVE * (1.0 - 1.0 / 1024.0);
        let x = Tensor::new(&[1], vec![half::bf16::from_f32(1e-39)]);
        assert_eq!(bits(Op::Sqrt, attrs! {}, &[x])[0], [0, 0]);
        let to = |dtype: DType| attrs! { to: dtype, saturate: 1i64, round: "nearest" };
        let cast = bits(Op::Cast, to(DType::BF16), &[Tensor::new(&[1], vec![f64::from(near)])]);
        assert_eq!(cast, [vec![0, 0], vec![0x80, 0]]);
        // Casts between them are shifts.
        let [flushed, kept] = bits(Op::Cast, to(DType::BF16), &[f32s(&[1e-39])]);
        assert_eq!(flushed, kept);
        // f16 is computed in f32, where its subnormals are normal.
        let small = Tensor::new(&[1], vec![half::f16::from_bits(3)]);
        assert_eq!(bits(Op::Add, attrs! {}, &[small.clone(), small])[0], [6, 0]);
        let wide = Tensor::new(&[1], vec![1e-310f64]);
        assert_eq!(bits(Op::Sqrt, attrs! {}, std::slice::from_ref(&wide))[0], [0; 8]);
        assert_eq!(bits(Op::Cast, to(DType::F64), &[f32s(&[1e-40])])[0], [0; 8]);
    }

    /// The choice reaches the bodies of control flow, whose operands pass as they are.
    #[test]
    fn bodies_of_loops_flush() {
        let graph = text::parse(
            "graph @g(%0: f32[1]) -> (%5) { %1 = const i64[] [2] %2 = const bool[] [true] \
             %5 = loop(%1, %2, %0) {carried = 1, has_cond = 1, has_trip_count = 1} : f32[1] \
             body graph @body(%0: i64[], %1: bool[], %2: f32[1]) -> (%1, %3) { %3 = add(%2, %2) } }",
            &|_| None,
        )
        .unwrap();
        let run = |d| run_with(&graph, &[f32s(&[1e-39]).into()], d, &Bounds::default()).unwrap();
        let [flushed, kept] = Denormals::ALL.map(|d| run(d)[0].as_tensor().unwrap().data::<f32>()[0]);
        assert_eq!((flushed, kept), (0.0, 4.0 * 1e-39f32));
        assert_eq!(current(), Denormals::Keep, "the state is put back");
    }
}
