//! Resizes of drawn axes on every target, bit for bit as the interpreter: of small whole numbers by weights of few bits, which no
//! rounding changes, and to the nearest of any values.

use egret::ir::rng::Rng;
use egret::ir::{Attrs, Builder, DType, Dim, Op, Tensor, Type, Value, attrs, interp};
use egret::{Engine, Executable, Options};
use egret_workspace::special::bits;
use std::collections::BTreeMap;

/// What is drawn: how the axes of a tensor are resized.
struct Drawn {
    dtype: DType,
    shape: Vec<usize>,
    attrs: Attrs,
}

fn draw(rng: &mut Rng) -> Drawn {
    let mut below = |n: u64| (rng.bits() % n) as usize;
    let linear = below(2) == 0;
    let dtype = match linear {
        true => [DType::F32, DType::F64][below(2)],
        false => [DType::F32, DType::F64, DType::F16, DType::I32, DType::I64, DType::U8][below(6)],
    };
    let longest = if below(3) == 0 { 6 } else { 90 };
    let last = 1 + below(longest);
    let shape = vec![1 + below(3), 1 + below(4), last];
    let factors = [1, 1 + below(2), [1, 2, 2, 3, 4, 4, 8][below(7)]];
    let sizes: Vec<Dim> = shape.iter().zip(factors).map(|(n, f)| Dim::from((n * f) as i64)).collect();
    let places = ["half_pixel", "asymmetric", "pytorch_half_pixel"];
    let attrs = attrs! {
        antialias: 0, coordinate: places[below(3)], cubic_a: -0.75, exclude_outside: 0, extrapolation: 7.0,
        mode: if linear { "linear" } else { "nearest" },
        nearest: ["floor", "ceil", "round_prefer_floor"][below(3)],
        scales: factors.iter().map(|&f| f as f64).collect::<Vec<f64>>(), sizes: sizes,
    };
    Drawn { dtype, shape, attrs }
}

fn numbers(rng: &mut Rng, drawn: &Drawn) -> Tensor {
    let special = [f64::NAN, -0.0, f64::INFINITY, f64::NEG_INFINITY];
    let specials = drawn.dtype.is_float() && drawn.attrs.str("mode") == "nearest";
    let number = |_| match rng.bits() % 64 {
        i if i < 4 && specials => special[i as usize],
        i => (i % 16) as f64,
    };
    let len: usize = drawn.shape.iter().product();
    Tensor::from_f64s(drawn.dtype, &drawn.shape, (0..len).map(number).collect())
}

#[test]
fn every_target_resizes_as_the_interpreter() {
    let mut rng = Rng::new(7);
    let mut vectors = 0;
    for _ in 0..150 {
        let drawn = draw(&mut rng);
        let factor = drawn.attrs.floats("scales")[2];
        // Thirds are rounded.
        if factor == 3.0 && drawn.attrs.str("mode") == "linear" {
            continue;
        }
        let x = numbers(&mut rng, &drawn);
        let mut b = Builder::new("resizes");
        let input = b.input("x", Type::Tensor(x.ty()));
        let y =
            b.emit_node(Op::Resize, drawn.attrs.clone(), &[Some(input), None], vec![]).expect("a resize");
        b.output("y", y[0]);
        let inputs = [Value::Tensor(x)];
        let want = interp::run(&b.graph, &inputs).expect("the interpreter");
        let want = bits(want[0].as_tensor().expect("a tensor"));
        vectors += usize::from(factor != 1.0 && factor != 3.0 && drawn.shape[2] > 20);
        for target in ["native", "x86-64-v2", "x86-64-v3"] {
            if target != "native" && !cfg!(target_arch = "x86_64") {
                continue;
            }
            let options = Options { threads: 1, target: target.into(), ..Options::default() };
            let got = Executable::new(b.graph.clone(), Engine::Jit, &options, &BTreeMap::new())
                .and_then(|e| e.run(&inputs))
                .unwrap_or_else(|e| panic!("{:?} of {:?}: {e}", drawn.attrs, drawn.shape));
            let got = bits(got[0].as_tensor().expect("a tensor"));
            if let Some(i) = (0..want.len()).find(|&i| want[i] != got[i]) {
                let what = format!("{:?} {:?} on {target}: {:?}", drawn.dtype, drawn.shape, drawn.attrs);
                panic!("{what}\nelement {i}: {:x}, not {:x}", got[i], want[i]);
            }
        }
    }
    assert!(vectors > 40, "{vectors} long axes that become 2, 4 or 8 times as long");
}
