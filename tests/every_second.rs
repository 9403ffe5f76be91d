//! Elementwise kernels that read every second element along the innermost axis, which takes two vectors for one: of rows of any length, alone and with
//! operands of other strides, bit for bit as the interpreter; and nothing is read beyond a buffer's ends.

use egret::ir::rng::Rng;
use egret::ir::{Builder, DType, Dim, Op, Type, Value, attrs, interp};
use egret::{Engine, Executable, Options};
use egret_workspace::guarded::Compiled;
use egret_workspace::random::whole_numbers;
use std::collections::BTreeMap;

#[test]
fn every_second_element_of_rows_of_any_length() {
    let mut rng = Rng::new(17);
    for length in (1..40).chain([63, 64, 65, 100, 129]) {
        for (start, rows) in [(0, 1), (1, 3)] {
            let mut b = Builder::new("second");
            // The last element of the last row is the last one of the buffer.
            let dims = [rows, start + 2 * length - 1];
            let mut inputs = vec![whole_numbers(&mut rng, &dims)];
            let x = b.input("x", Type::Tensor(inputs[0].ty()));
            let ints = |v: [usize; 2]| v.map(|n| Dim::constant(n as i64)).to_vec();
            let cut =
                attrs! { starts: ints([0, start]), sizes: ints([rows, length]), steps: vec![1i64, 2] };
            let cut = b.emit(Op::Slice, cut, &[x]).expect("a slice");
            b.output("cut", cut);
            let mut y = b.emit(Op::Neg, attrs! {}, &[cut]).expect("a node");
            for shape in [vec![rows, length], vec![rows, 1]] {
                let other = whole_numbers(&mut rng, &shape);
                let added = b.input(&format!("x{}", inputs.len()), Type::Tensor(other.ty()));
                inputs.push(other);
                y = b.emit(Op::Mul, attrs! {}, &[y, added]).expect("a product");
            }
            b.output("y", y);
            let whole = b.emit(Op::Cast, attrs! { to: DType::I32, round: "nearest", saturate: 1i64 }, &[y]);
            b.output("whole", whole.expect("a cast"));
            let inputs: Vec<Value> = inputs.into_iter().map(Value::Tensor).collect();
            let want = interp::run(&b.graph, &inputs).expect("the interpreter");
            for target in ["native", "x86-64-v2", "x86-64-v3"] {
                if target != "native" && !cfg!(target_arch = "x86_64") {
                    continue;
                }
                let options = Options { threads: 1, target: target.into(), ..Options::default() };
                let compiled = Executable::new(b.graph.clone(), Engine::Jit, &options, &BTreeMap::new());
                let got = compiled.and_then(|e| e.run(&inputs)).expect("results");
                assert_eq!(got, want, "{length} in {rows} rows from {start} on, {target}");
            }
            let options = Options { threads: 1, ..Options::default() };
            let beside_pages = Compiled::new(b.graph, &options, &BTreeMap::new()).expect("code");
            assert_eq!(
                beside_pages.run_both(&inputs).expect("equal results").0,
                0,
                "{length} in {rows} rows"
            );
        }
    }
}
