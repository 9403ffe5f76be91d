//! What happens to the sums of a tile before they are stored: ordinary instructions, on values of their own.

use crate::arith::Arith;
use crate::ir::*;

/// How a value of an epilogue is made.
#[derive(Copy, Clone, Debug)]
pub enum Source<'e> {
    /// The sum.
    Sum,
    /// This operand.
    Operand(usize),
    /// An instruction.
    Inst(&'e Inst),
}

impl Epilogue {
    /// The sum, in every epilogue.
    pub const SUM: V = V(0);

    /// Store the sums as they are.
    pub fn identity() -> Epilogue {
        Epilogue { operands: vec![], insts: vec![], result: Epilogue::SUM }
    }

    /// How its values are made, in order.
    pub fn sources(&self) -> impl DoubleEndedIterator<Item = Source<'_>> {
        let operands = (0..self.operands.len()).map(Source::Operand);
        std::iter::once(Source::Sum).chain(operands).chain(self.insts.iter().map(Source::Inst))
    }

    /// The value that an operand is.
    pub fn operand(at: usize) -> V {
        V(at as u32 + 1)
    }

    /// Element types of its values in a tile of these products; `params` are those of its kernel.
    ///
    /// # Errors
    /// An instruction that is not elementwise, or that uses what is not computed before it; a parameter or result that is not there.
    pub fn elems(&self, products: Products, params: &[ParamInfo]) -> Result<Vec<Elem>, BrokenRule> {
        let mut elems: Vec<Elem> = vec![];
        for source in self.sources() {
            let elem = match source {
                Source::Sum => products.sum(),
                Source::Operand(o) => {
                    let param = self.operands[o].place.param;
                    let info = params.get(param.0 as usize);
                    info.ok_or_else(|| {
                        BrokenRule(format!("an epilogue that reads {param}, which is not there"))
                    })?
                    .elem
                }
                Source::Inst(inst) => elem_of(inst, &elems)?,
            };
            elems.push(elem);
        }
        match (self.result.0 as usize) < elems.len() {
            true => Ok(elems),
            false => Err(BrokenRule("an epilogue whose result is not computed".into())),
        }
    }
}

fn elem_of(inst: &Inst, before: &[Elem]) -> Result<Elem, BrokenRule> {
    if !inst.is_elementwise() {
        return Err(BrokenRule(format!("an epilogue with {inst:?}")));
    }
    let mut known = true;
    inst.for_operands(|v| known &= (v.0 as usize) < before.len());
    if !known {
        return Err(BrokenRule("an epilogue that uses what it has not computed".into()));
    }
    let of = |v: &V| before[v.0 as usize];
    Ok(match inst {
        Inst::Const(ty, _) => ty.elem,
        Inst::Convert(to, _) | Inst::Bitcast(to, _) => *to,
        Inst::Compare(..) => Elem::Bool,
        Inst::Unary(_, a) | Inst::Binary(_, a, _) | Inst::Fma(a, ..) | Inst::Select(_, a, _) => of(a),
        other => return Err(BrokenRule(format!("an epilogue with {other:?}"))),
    })
}

/// Builds an [`Epilogue`]. Equal values are one; what the result does not need is left out.
#[derive(Debug)]
pub struct EpilogueBuilder {
    /// Values in the order in which they were asked for, the sum first.
    values: Vec<(Elem, Built)>,
    rare: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Built {
    Sum,
    Operand(EpilogueOperand),
    Inst(Inst),
}

impl EpilogueBuilder {
    /// Of a tile of these products.
    pub fn new(products: Products) -> EpilogueBuilder {
        EpilogueBuilder { values: vec![(products.sum(), Built::Sum)], rare: false }
    }

    fn value(&mut self, elem: Elem, built: Built) -> V {
        let at = self.values.iter().position(|(e, b)| *e == elem && *b == built).unwrap_or_else(|| {
            self.values.push((elem, built));
            self.values.len() - 1
        });
        V(at as u32)
    }

    fn push(&mut self, elem: Elem, inst: Inst) -> V {
        self.value(elem, Built::Inst(inst))
    }

    /// The sum of the contraction.
    pub fn sum(&self) -> V {
        Epilogue::SUM
    }

    /// An element of a buffer of `elem`.
    pub fn operand(&mut self, elem: Elem, operand: EpilogueOperand) -> V {
        self.value(elem, Built::Operand(operand))
    }

    /// Whether some value needs a case that epilogues cannot tell apart ([`Arith::rarely`]): such a program must not be used.
    pub fn has_rare(&self) -> bool {
        self.rare
    }

    /// The program that stores `result`.
    pub fn finish(self, result: V) -> Epilogue {
        let mut needed = vec![false; self.values.len()];
        needed[0] = true;
        needed[result.0 as usize] = true;
        for i in (0..self.values.len()).rev() {
            if let (true, Built::Inst(inst)) = (needed[i], &self.values[i].1) {
                inst.for_operands(|o| needed[o.0 as usize] = true);
            }
        }
        // The sum, then operands, then instructions.
        let rank = |built: &Built| match built {
            Built::Sum => 0,
            Built::Operand(_) => 1,
            Built::Inst(_) => 2,
        };
        let mut order: Vec<usize> = (0..self.values.len()).filter(|&i| needed[i]).collect();
        order.sort_by_key(|&i| rank(&self.values[i].1));
        let mut place = vec![V(u32::MAX); self.values.len()];
        for (new, &old) in (0..).zip(&order) {
            place[old] = V(new);
        }
        let mut epilogue = Epilogue { operands: vec![], insts: vec![], result: place[result.0 as usize] };
        for old in order {
            match &self.values[old].1 {
                Built::Sum => {}
                Built::Operand(o) => epilogue.operands.push(o.clone()),
                Built::Inst(inst) => {
                    let mut inst = inst.clone();
                    inst.for_operands_mut(|v| *v = place[v.0 as usize]);
                    epilogue.insts.push(inst);
                }
            }
        }
        epilogue
    }
}

impl Arith for EpilogueBuilder {
    type V = V;
    fn elem(&self, v: V) -> Elem {
        self.values[v.0 as usize].0
    }
    fn bits(&mut self, _like: V, elem: Elem, bits: u64) -> V {
        self.push(elem, Inst::Const(Ty::scalar(elem), bits))
    }
    fn unary(&mut self, op: UnOp, x: V) -> V {
        self.push(self.elem(x), Inst::Unary(op, x))
    }
    fn binary(&mut self, op: BinOp, a: V, b: V) -> V {
        self.push(self.elem(a), Inst::Binary(op, a, b))
    }
    fn fma(&mut self, a: V, b: V, c: V) -> V {
        self.push(self.elem(a), Inst::Fma(a, b, c))
    }
    fn compare(&mut self, op: Cmp, a: V, b: V) -> V {
        self.push(Elem::Bool, Inst::Compare(op, a, b))
    }
    fn select(&mut self, a: V, b: V, c: V) -> V {
        self.push(self.elem(b), Inst::Select(a, b, c))
    }
    fn convert(&mut self, elem: Elem, x: V) -> V {
        if self.elem(x) == elem { x } else { self.push(elem, Inst::Convert(elem, x)) }
    }
    fn bitcast(&mut self, elem: Elem, x: V) -> V {
        if self.elem(x) == elem { x } else { self.push(elem, Inst::Bitcast(elem, x)) }
    }
    fn rarely(
        &mut self,
        _magnitude: V,
        _limit: f64,
        usual: [V; 2],
        _rare: impl FnOnce(&mut Self) -> [V; 2],
    ) -> [V; 2] {
        self.rare = true;
        usual
    }
}
