//! What a padded convolution reads between zeros, read beside it under another name: as a slice, reshaped, transposed. Small images, of which such names
//! are often the very memory, on every target and bit for bit as the interpreter: of small whole numbers, whose sums no order changes.

use egret::ir::rng::Rng;
use egret::ir::{Builder, Dim, Op, Type, Value, ValueId, attrs, interp};
use egret::{Engine, Executable, Options};
use egret_workspace::guarded::Compiled;
use egret_workspace::random::whole_numbers;
use egret_workspace::special::bits;
use std::collections::BTreeMap;

fn dims(sizes: &[usize]) -> Vec<Dim> {
    sizes.iter().map(|&d| Dim::constant(d as i64)).collect()
}

/// A graph under construction.
struct Drawn {
    rng: Rng,
    builder: Builder,
}

impl Drawn {
    fn below(&mut self, n: u64) -> usize {
        (self.rng.bits() % n) as usize
    }

    fn shape(&self, v: ValueId) -> Vec<usize> {
        self.builder.graph.tensor_ty(v).const_dims().expect("a shape")
    }

    fn emit(&mut self, op: Op, attrs: egret::ir::Attrs, operands: &[ValueId]) -> ValueId {
        self.builder.emit(op, attrs, operands).expect("a value")
    }

    /// A convolution that keeps the size of an image.
    fn conv(&mut self, x: ValueId, channels: usize) -> ValueId {
        let size = [1, 3, 3, 5][self.below(4)];
        let pad = (size / 2) as i64;
        let shape = [channels, self.shape(x)[1], size, size];
        let weights = self.builder.constant(whole_numbers(&mut self.rng, &shape));
        let attrs = attrs! {
            strides: vec![1i64, 1], dilations: vec![1i64, 1], pads: vec![pad; 4], groups: 1i64, layout: "channels_first",
        };
        self.emit(Op::Conv, attrs, &[x, weights])
    }

    fn slice(&mut self, x: ValueId, axis: usize, start: usize, size: usize) -> ValueId {
        let mut sizes = dims(&self.shape(x));
        let (mut starts, steps) = (dims(&vec![0; sizes.len()]), vec![1i64; sizes.len()]);
        (starts[axis], sizes[axis]) = (Dim::constant(start as i64), Dim::constant(size as i64));
        self.emit(Op::Slice, attrs! { starts: starts, sizes: sizes, steps: steps }, &[x])
    }

    fn reshape(&mut self, x: ValueId, shape: &[usize]) -> ValueId {
        self.emit(Op::Reshape, attrs! { shape: dims(shape) }, &[x])
    }

    /// The same elements, or some of them, under another name.
    fn renamed(&mut self, x: ValueId) -> ValueId {
        let shape = self.shape(x);
        match self.below(5) {
            0 => {
                let axis = self.below(shape.len() as u64);
                let size = 1 + self.below(shape[axis] as u64);
                let start = self.below((shape[axis] - size + 1) as u64);
                self.slice(x, axis, start, size)
            }
            1 => self.reshape(x, &[shape.iter().product()]),
            2 => {
                let flat = [shape[0], shape[1..].iter().product()];
                self.reshape(x, &flat)
            }
            3 if shape.len() == 4 => self.emit(Op::Transpose, attrs! { perm: vec![0i64, 2, 3, 1] }, &[x]),
            _ => {
                // Its first half beside its second one.
                let half = shape[1 % shape.len()] / 2;
                let axis = 1 % shape.len();
                let parts = [self.slice(x, axis, 0, half.max(1)), self.slice(x, axis, half, half.max(1))];
                self.emit(Op::Add, attrs! {}, &parts)
            }
        }
    }

    fn activation(&mut self, x: ValueId) -> ValueId {
        let op = [Op::Neg, Op::Abs][self.below(2)];
        self.emit(op, attrs! {}, &[x])
    }
}

fn all_bits(values: &[Value]) -> Vec<Vec<u64>> {
    values.iter().map(|v| bits(v.as_tensor().expect("a tensor"))).collect()
}

#[test]
fn every_target_reads_other_names_of_what_stands_between_zeros() {
    let mut rng = Rng::new(23);
    for round in 0..150 {
        let mut d = Drawn { rng: Rng::new(rng.bits()), builder: Builder::new("halos") };
        let image = [1 + d.below(3) / 2, 8 + d.below(2) * 8, 1 + d.below(3), 1 + d.below(3)];
        let x = whole_numbers(&mut d.rng, &image);
        let input = d.builder.input("x", Type::Tensor(x.ty()));
        let channels = [4, 16, 32][d.below(3)];
        let mut read = d.conv(input, channels);
        if d.below(2) == 0 {
            read = d.activation(read);
        }
        let beside = d.conv(read, channels);
        let names = 1 + d.below(2);
        for i in 0..names {
            let mut other = d.renamed(read);
            if d.below(2) == 0 {
                other = d.renamed(other);
            }
            other = d.activation(other);
            d.builder.output(&format!("other{i}"), other);
        }
        let last = d.activation(beside);
        d.builder.output("y", last);
        let (graph, inputs) = (d.builder.graph, vec![Value::Tensor(x)]);
        let want = all_bits(&interp::run(&graph, &inputs).expect("the interpreter"));
        for target in ["native", "x86-64-v2", "x86-64-v3"] {
            if target != "native" && !cfg!(target_arch = "x86_64") {
                continue;
            }
            let options = Options { threads: 1, target: target.into(), ..Options::default() };
            let run = Executable::new(graph.clone(), Engine::Jit, &options, &BTreeMap::new());
            let got = run.and_then(|e| e.run(&inputs)).expect("a result");
            assert_eq!(
                all_bits(&got),
                want,
                "graph {round} on {target}:\n{}",
                egret::ir::text::print(&graph)
            );
        }
        let options = Options { threads: 1, ..Options::default() };
        let beside_pages = Compiled::new(graph, &options, &BTreeMap::new()).expect("code");
        assert_eq!(beside_pages.run_both(&inputs).expect("equal results").0, 0, "graph {round}");
    }
}
