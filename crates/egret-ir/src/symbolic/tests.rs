//! Shape arithmetic as exporters write it.

use crate::{Builder, DType, Dim, Op, Tensor, Type, ValueId, attrs};

fn start() -> (Builder, ValueId) {
    let mut b = Builder::new("g");
    let dims = vec![Dim::symbol("batch"), Dim::symbol("seq"), Dim::constant(64)];
    let x = b.input("x", Type::tensor(DType::F32, dims));
    let shape = b.emit(Op::Shape, attrs! {}, &[x]).unwrap();
    (b, shape)
}

fn ints(b: &mut Builder, v: &[i64]) -> ValueId {
    b.constant(Tensor::new(&[v.len()], v.to_vec()))
}

fn shown(b: &Builder, v: ValueId) -> Vec<String> {
    b.known_dims(v).unwrap().iter().map(Dim::to_string).collect()
}

#[test]
fn reshape_target_of_attention_heads() {
    let (mut b, shape) = start();
    let first = ints(&mut b, &[0, 1]);
    let lead = b.emit(Op::Gather, attrs! { axis: 0i64 }, &[shape, first]).unwrap();
    let tail = ints(&mut b, &[8, -1]);
    let target = b.emit(Op::Concat, attrs! { axis: 0i64 }, &[lead, tail]).unwrap();
    assert_eq!(shown(&b, target), ["batch", "seq", "8", "-1"]);
    let last = b
        .emit(
            Op::Slice,
            attrs! { starts: vec![Dim::from(2i64)], sizes: vec![Dim::from(1i64)], steps: vec![1i64] },
            &[shape],
        )
        .unwrap();
    assert_eq!(b.graph.as_const(last).unwrap().to_i64s().unwrap(), [64]);
    let total =
        b.emit(Op::Reduce, attrs! { kind: "prod", axes: vec![0i64], keepdims: 0i64 }, &[lead]).unwrap();
    assert_eq!(shown(&b, total), ["batch*seq"]);
    let two = ints(&mut b, &[2]);
    let halves = b.emit(Op::Div, attrs! {}, &[lead, two]).unwrap();
    assert_eq!(shown(&b, halves), ["floordiv(batch, 2)", "floordiv(seq, 2)"]);
}

/// Pads as exported: pairs of them, the last axis first, become all begins and then all ends.
#[test]
fn pads_are_turned_round_as_a_matrix() {
    let (mut b, shape) = start();
    let seven = ints(&mut b, &[7]);
    let more = b.emit(Op::Mul, attrs! {}, &[shape, seven]).unwrap();
    let line = b.emit(Op::Concat, attrs! { axis: 0i64 }, &[shape, more]).unwrap();
    let shaped = |d: &[i64]| attrs! { shape: d.iter().map(|&d| Dim::constant(d)).collect::<Vec<_>>() };
    let plane = b.emit(Op::Reshape, shaped(&[3, 2]), &[line]).unwrap();
    // What holds more than a line is no vector of dims.
    assert_eq!((b.known_dims(plane), b.known_elements(plane).map(|e| e.len())), (None, Some(6)));
    let of = |v: &[i64]| v.iter().map(|&d| Dim::constant(d)).collect::<Vec<_>>();
    let turned = attrs! { starts: of(&[2, 0]), sizes: of(&[3, 2]), steps: vec![-1i64, 1] };
    let turned = b.emit(Op::Slice, turned, &[plane]).unwrap();
    let columns = b.emit(Op::Transpose, attrs! { perm: vec![1i64, 0] }, &[turned]).unwrap();
    let sums =
        b.emit(Op::Reduce, attrs! { kind: "sum", axes: vec![0i64], keepdims: 1i64 }, &[turned]).unwrap();
    let pads = b.emit(Op::Reshape, shaped(&[6]), &[columns]).unwrap();
    assert_eq!(shown(&b, pads), ["7*seq", "64", "batch", "448", "7*batch", "seq"]);
    let sums = b.emit(Op::Reshape, shaped(&[2]), &[sums]).unwrap();
    assert_eq!(shown(&b, sums), ["batch + 7*seq + 64", "7*batch + seq + 448"]);
}

/// Narrow integers wrap, which dims do not.
#[test]
fn what_would_wrap_is_not_followed() {
    let (mut b, shape) = start();
    let to = |to| attrs! { to: to, saturate: 1i64, round: "nearest" };
    let three = ints(&mut b, &[3]);
    let less = b.emit(Op::Less, attrs! {}, &[shape, three]).unwrap();
    let truths = b.emit(Op::Cast, to(DType::U8), &[less]).unwrap();
    assert_eq!(shown(&b, truths)[2], "0");
    let one = b.constant(Tensor::new(&[1], vec![1u8]));
    let below = b.emit(Op::Sub, attrs! {}, &[truths, one]).unwrap();
    assert_eq!(b.known_elements(below), None);
}

/// Expand as exported: where(equal(shape, -1), ones, shape).
#[test]
fn expand_pattern_is_decided() {
    let (mut b, shape) = start();
    let minus = ints(&mut b, &[-1]);
    let ones = ints(&mut b, &[1, 1, 1]);
    let free = b.emit(Op::Equal, attrs! {}, &[shape, minus]).unwrap();
    let target = b.emit(Op::Where, attrs! {}, &[free, ones, shape]).unwrap();
    assert_eq!(shown(&b, target), ["batch", "seq", "64"]);
}

/// A condition that sizes decide is 0 or 1, and `where` on it one of the two.
#[test]
fn conditions_are_followed() {
    let (mut b, shape) = start();
    let (seven, two) = (ints(&mut b, &[7]), ints(&mut b, &[2]));
    let less = b.emit(Op::Less, attrs! {}, &[shape, seven]).unwrap();
    let no_more = b.emit(Op::LessEqual, attrs! {}, &[shape, seven]).unwrap();
    let equal = b.emit(Op::Equal, attrs! {}, &[shape, seven]).unwrap();
    let odd = b.emit(Op::Mod, attrs! { fmod: 0i64 }, &[shape, two]).unwrap();
    let odd =
        b.emit(Op::Cast, attrs! { to: DType::Bool, saturate: 1i64, round: "nearest" }, &[odd]).unwrap();
    let not = b.emit(Op::Not, attrs! {}, &[odd]).unwrap();
    let both = b.emit(Op::And, attrs! {}, &[less, not]).unwrap();
    let either = b.emit(Op::Or, attrs! {}, &[equal, odd]).unwrap();
    let other = b.emit(Op::Xor, attrs! {}, &[less, odd]).unwrap();
    let chosen = b.emit(Op::Where, attrs! {}, &[both, shape, seven]).unwrap();
    for n in 0..20 {
        let env = [("batch".to_owned(), n), ("seq".to_owned(), 1)].into_iter().collect();
        let at = |v: ValueId| b.known_dims(v).unwrap()[0].eval(&env).unwrap();
        let odd = n % 2 == 1;
        assert_eq!(at(less), i64::from(n < 7));
        assert_eq!(at(no_more), i64::from(n <= 7));
        assert_eq!(at(equal), i64::from(n == 7));
        assert_eq!(at(both), i64::from(n < 7 && !odd));
        assert_eq!(at(either), i64::from(n == 7 || odd));
        assert_eq!(at(other), i64::from((n < 7) != odd));
        assert_eq!(at(chosen), if n < 7 && !odd { n } else { 7 });
    }
    assert!(b.known_dims(chosen).unwrap()[0].at_least() >= Some(0));
}

#[test]
fn what_cannot_be_known_is_not() {
    let (mut b, shape) = start();
    let seven = ints(&mut b, &[7]);
    let lower = b.emit(Op::Sub, attrs! {}, &[shape, seven]).unwrap();
    let quotient = b.emit(Op::Div, attrs! {}, &[lower, seven]).unwrap();
    assert_eq!(b.known_dims(quotient), None);
}
