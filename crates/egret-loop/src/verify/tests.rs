//! What the verifier says of kernels and programs that break a rule.

use super::*;
use crate::KernelBuilder;

/// A kernel with a loop, a branch, a local, vectors and a mask: `y` is the sum of `x`, or 0.
fn sum() -> Kernel {
    let mut k = KernelBuilder::new("sum", 2);
    let x = k.param(Elem::F32, 8, Access::Read);
    let y = k.param(Elem::F32, 2, Access::Write);
    let lanes = Ty { elem: Elem::F32, lanes: 4 };
    let zero = k.number(lanes, 0.0);
    let total = k.local(zero);
    k.for_range(0, 8, 4, |k, i| {
        let v = k.load_lanes(x, i, 4);
        let before = k.get(total);
        let after = k.add(before, v);
        k.set(total, after);
    });
    let all = k.get(total);
    let all = k.fold(BinOp::Add, all);
    let none = k.number(Ty::scalar(Elem::F32), 0.0);
    let positive = k.compare(Cmp::Gt, all, none);
    let at = k.task();
    k.if_(positive, |k| k.store(y, at, all), |k| k.store(y, at, none));
    k.finish()
}

/// What is said of a kernel that was changed.
fn said(change: impl FnOnce(&mut Kernel)) -> String {
    let mut k = sum();
    change(&mut k);
    kernel(&k).expect_err("a rule is broken").0
}

#[test]
fn a_kernel_that_keeps_the_rules_passes() {
    assert_eq!(kernel(&sum()), Ok(()));
}

#[test]
fn types_are_held_to_what_instructions_make() {
    let zero = || said(|k| k.types[1] = Ty::scalar(Elem::F32));
    assert!(zero().contains("v1 is noted as f32, and is f32x4"), "{}", zero());
    let swap = |from: fn(&Inst) -> bool, to: fn(V) -> Inst| {
        said(|k| {
            let new = k.body.iter().position(|s| matches!(s, Stmt::Let(_, i) if from(i))).unwrap();
            let Stmt::Let(_, inst) = &mut k.body[new] else { unreachable!() };
            *inst = to(V(1));
        })
    };
    let fold = |i: &Inst| matches!(i, Inst::Fold(..));
    assert!(swap(fold, |v| Inst::Fold(BinOp::Sub, v)).contains("of f32x4"));
    assert!(swap(fold, |v| Inst::Fold(BinOp::And, v)).contains("of f32x4"));
    assert!(swap(fold, |v| Inst::Extract(v, 4)).contains("of f32x4"));
    assert!(swap(fold, Inst::Any).contains("of f32x4"));
    assert!(swap(fold, |v| Inst::Binary(BinOp::Add, V(0), v)).contains("i64 and f32x4"));
    assert!(swap(fold, |v| Inst::Unary(UnOp::Not, v)).contains("of f32x4"));
    assert!(swap(fold, |v| Inst::Bitcast(Elem::I64, v)).contains("of f32x4"));
    assert!(swap(fold, |v| Inst::Splat(v, 8)).contains("of f32x4"));
    assert!(
        swap(fold, |v| Inst::Shuffle(Shuffle::Blocks(Parity::Even), v, V(0))).contains("f32x4 and i64")
    );
    assert!(swap(fold, |v| Inst::Affine(vec![(v, 2)], 0)).contains("an index, is of f32x4"));
}

#[test]
fn what_is_used_is_defined_before_and_around() {
    let last = |k: &mut Kernel, stmt: Stmt| k.body.push(stmt);
    let store = |index, value| Stmt::Store { param: Param(1), index, value };
    let var = |k: &Kernel| {
        k.body.iter().find_map(|s| if let Stmt::For { var, .. } = s { Some(*var) } else { None }).unwrap()
    };
    assert!(said(|k| last(k, store(V(999), V(0)))).contains("v999 is used before it is defined"));
    assert!(said(|k| last(k, store(var(k), V(0)))).contains("outside the block that defines it"));
    assert!(said(|k| last(k, Stmt::Let(V(1), Inst::First(4, 2)))).contains("v1 is defined twice"));
    assert!(said(|k| last(k, Stmt::Let(V(999), Inst::First(4, 2)))).contains("v999 has no type"));
    assert!(said(|k| last(k, Stmt::Set(Local(3), V(0)))).contains("l3, which there is not"));
    assert!(said(|k| last(k, Stmt::Set(Local(0), V(0)))).contains("l0, of f32x4, is set to v0, of i64"));
    // The first setting of the local.
    let unset = said(|k| k.body.retain(|s| !matches!(s, Stmt::Set(..))));
    assert!(unset.contains("l0 is read where it may not have been set"), "{unset}");
}

#[test]
fn buffers_are_used_as_they_may_be() {
    let stored = |param, value| said(|k| k.body.push(Stmt::Store { param, index: V(0), value }));
    assert!(stored(Param(0), V(1)).contains("p0 is only read, and is written"));
    assert!(stored(Param(1), V(0)).contains("p1, of f32, is written as i64"));
    assert!(stored(Param(2), V(1)).contains("p2, which there is not"));
    assert!(said(|k| k.params[0].access = Access::Write).contains("p0 is only written, and is read"));
    assert!(said(|k| k.params[0].elem = Elem::I32).contains("p0, of i32, is read as f32"));
    assert!(said(|k| k.tasks = 0).contains("0 tasks"));
}

#[test]
fn calls_give_kernels_what_they_take() {
    let port = |name: &str, n: i64| Port {
        name: name.into(),
        onnx_dtype: 1,
        dims: vec![n.into()],
        elem_size: 4,
        found: None,
        bound: None,
    };
    let arg = |b| Arg { buffer: BufferId(b), offset: 0 };
    let whole = || Program {
        name: "sum".into(),
        inputs: vec![port("x", 8)],
        outputs: vec![port("y", 2)],
        buffers: vec![
            Buffer::new(Elem::F32, 8, Storage::Input(0)),
            Buffer::new(Elem::F32, 2, Storage::Output(0)),
        ],
        kernels: vec![sum()],
        calls: vec![Call::new(KernelId(0), vec![arg(0), arg(1)])],
        ..Program::default()
    };
    assert_eq!(program(&whole()), Ok(()));
    let said = |change: &dyn Fn(&mut Program)| {
        let mut p = whole();
        change(&mut p);
        program(&p).expect_err("a rule is broken").0
    };
    assert!(said(&|p| p.calls[0].kernel = KernelId(1)).contains("call 0: k1, which there is not"));
    assert!(said(&|p| p.calls[0].args.truncate(1)).contains("1 arguments for 2 parameters"));
    assert!(said(&|p| p.calls[0].args[1] = arg(9)).contains("p1 is b9, which there is not"));
    assert!(said(&|p| p.calls[0].args[1] = arg(0)).contains("p1 writes b0"));
    assert!(
        said(&|p| p.calls[0].args[0].offset = 1).contains("p0 is 8 elements from 1 on of b0, which has 8")
    );
    assert!(said(&|p| p.buffers[0].elem = Elem::I64).contains("p0, of f32, is b0, of i64"));
    assert!(said(&|p| p.buffers[1].storage = Storage::Output(1)).contains("b1: output 1"));
    assert!(
        said(&|p| p.buffers[1].storage = Storage::Arena(0))
            .contains("b1: 8 bytes at 0 of the 0 bytes of the arena")
    );
    assert!(said(&|p| p.kernels[0].tasks = -1).contains("k0, sum: -1 tasks"));
}
