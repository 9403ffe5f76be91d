//! Fuzz tests: no operation panics, whatever tensors and attribute values it is given.

use super::eval_op;
use crate::rng::Rng;
use crate::{Attr, AttrInfo, AttrKind, Attrs, DType, Dim, Op, Tensor, Type, Value};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Draws operands and attributes, among them those that few think of.
struct Dice(Rng);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0.below(sides as usize) as u64
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        self.0.pick(of)
    }

    fn int(&mut self) -> i64 {
        match self.roll(40) {
            0 => i64::MAX,
            1 => i64::MIN,
            2 => 1 << 40,
            n => n as i64 % 6 - if n > 33 { 3 } else { 0 },
        }
    }

    fn float(&mut self) -> f64 {
        match self.roll(12) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => -1e30,
            n => n as f64 / 2.0 - 2.0,
        }
    }

    fn tensor(&mut self, dtype: DType, rank: u64) -> Tensor {
        let shape: Vec<usize> = (0..rank).map(|_| self.pick(&[0, 1, 1, 2, 2, 2, 3])).collect();
        let n = shape.iter().product::<usize>();
        if dtype == DType::String {
            return Tensor::from_strings(
                &shape,
                (0..n).map(|_| self.pick(&["", "a", "1", " x y", "nan"]).to_owned()).collect(),
            );
        }
        let bytes: Vec<f64> = (0..n).map(|_| self.float()).collect();
        super::convert::cast(&Tensor::new(&shape, bytes), dtype, true, "up").expect("a cast from f64")
    }

    fn attr(&mut self, info: AttrInfo, rank: u64) -> Attr {
        let many = if self.roll(8) == 0 { self.roll(5) } else { rank };
        let name = info.name;
        match info.kind {
            AttrKind::Int | AttrKind::Flag => {
                Attr::Int(if self.roll(3) == 0 { self.int() } else { self.roll(3) as i64 })
            }
            AttrKind::Float => Attr::Float(self.float()),
            AttrKind::String => Attr::String(self.pick(&["a", "", "("]).to_owned()),
            // One in thirty is a word that no operation knows.
            AttrKind::Word(words) => {
                Attr::String(if self.roll(30) == 0 { "?" } else { self.pick(words) }.to_owned())
            }
            AttrKind::DType => Attr::DType(self.pick(&DType::ALL)),
            AttrKind::Dim => Attr::Dim(self.dim()),
            AttrKind::Dims => Attr::Dims((0..many).map(|_| self.dim()).collect()),
            AttrKind::Ints if name == "pads" => {
                Attr::Ints((0..2 * many.saturating_sub(2)).map(|_| self.int()).collect())
            }
            AttrKind::Ints
                if ["strides", "dilations", "kernel", "high_extra", "output_padding"].contains(&name) =>
            {
                Attr::Ints(
                    (0..many.saturating_sub(2))
                        .map(|_| if self.roll(9) == 0 { self.int() } else { 1 })
                        .collect(),
                )
            }
            AttrKind::Ints => Attr::Ints((0..many).map(|_| self.int()).collect()),
            AttrKind::Floats => Attr::Floats((0..many).map(|_| self.float()).collect()),
            AttrKind::Strings => {
                Attr::Strings((0..many).map(|_| self.pick(&["Tanh", "a", "Sigmoid"]).to_owned()).collect())
            }
            AttrKind::Tensor => {
                let (dtype, rank) = (self.pick(&DType::ALL), self.roll(2));
                Attr::Tensor(self.tensor(dtype, rank))
            }
            AttrKind::Symbols => Attr::Symbols(vec![]),
            AttrKind::Type => Attr::Type(Type::tensor(DType::F32, vec![])),
        }
    }

    fn dim(&mut self) -> Dim {
        if self.roll(20) == 0 { Dim::symbol("s") } else { Dim::from(self.int()) }
    }
}

fn attempt(op: Op, dice: &mut Dice) -> Option<String> {
    let row = op.info();
    let rank = dice.roll(5);
    let attrs = Attrs(row.attrs.iter().map(|&a| (a.name, dice.attr(a, rank))).collect());
    let dtype = match row.types {
        "string" => DType::String,
        "bool" => DType::Bool,
        "float" => dice.pick(&[DType::F32, DType::F16]),
        _ => dice.pick(&[
            DType::F32,
            DType::F32,
            DType::I64,
            DType::I8,
            DType::U4,
            DType::Bool,
            DType::String,
            DType::F8E4M3FN,
        ]),
    };
    let operands: Vec<Option<Value>> = row
        .operands
        .iter()
        .map(|_| {
            let dtype = match dice.roll(5) {
                0 => dice.pick(&DType::ALL),
                1 => DType::I64,
                _ => dtype,
            };
            let rank = if dice.roll(4) == 0 { dice.roll(5) } else { rank };
            match dice.roll(12) {
                0 => None,
                1 => Some(Value::Sequence(vec![
                    dice.tensor(dtype, rank).into(),
                    dice.tensor(dtype, rank).into(),
                ])),
                2 => Some(Value::Optional(None)),
                _ => Some(dice.tensor(dtype, rank).into()),
            }
        })
        .collect();
    let outcome = catch_unwind(AssertUnwindSafe(|| drop(eval_op(op, &attrs, &operands, &[]))));
    outcome.is_err().then(|| format!("{op} {attrs:?} {operands:?}"))
}

#[test]
fn no_operation_panics() {
    let mut dice = Dice(Rng::new(1));
    let mut panicked = vec![];
    for op in Op::all() {
        panicked.extend((0..TRIES).find_map(|_| attempt(op, &mut dice)));
    }
    assert!(panicked.is_empty(), "{}", panicked.join("\n"));
}

/// For every operation.
const TRIES: usize = 3000;
