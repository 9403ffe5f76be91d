//! Tiles and their epilogues.

use super::super::names::{Name, parse_const};
use super::{Parse, Parser};
use crate::ir::*;

/// Rows of a tile, at most.
const ROWS: usize = 1 << 16;

impl Parser {
    fn rows(&mut self) -> Parse<Vec<i64>> {
        self.keyword("rows")?;
        self.mark("[")?;
        if self.takes("]") {
            return Ok(vec![]);
        }
        let mut out: Vec<i64> = vec![self.number("an offset")?];
        if self.takes(";") {
            let at = self.at;
            let n: usize = self.number("a number of rows")?;
            self.mark("]")?;
            return if n <= ROWS { Ok(vec![out[0]; n]) } else { self.error_at(at, "too many rows") };
        }
        while !self.takes("]") {
            self.mark(",")?;
            let at = self.at;
            if !self.takes("..") {
                out.push(self.number("an offset")?);
                continue;
            }
            self.mark(",")?;
            let last: i64 = self.number("an offset")?;
            self.mark("]")?;
            let &[first, second] = out.as_slice() else {
                return self.error_at(at, "`..` stands behind two offsets");
            };
            let step = i128::from(second) - i128::from(first);
            let rest = i128::from(last) - i128::from(second);
            if step == 0 || rest % step != 0 || !(1..=ROWS as i128).contains(&(rest / step)) {
                return self.error_at(at, "these offsets are not evenly apart");
            }
            out.extend((1..=rest / step).map(|i| (i128::from(second) + i * step) as i64));
            return Ok(out);
        }
        Ok(out)
    }

    pub(super) fn tile(&mut self) -> Parse<Tile> {
        self.mark("{")?;
        self.keyword("a")?;
        let (a, a_rows) = (self.place()?, self.rows()?);
        self.keyword("b")?;
        let b = self.place()?;
        self.keyword("cols")?;
        let cols = self.number("a number of columns")?;
        let mut axes = vec![];
        while self.takes_word("axis") {
            let extent = self.number("an extent")?;
            self.keyword("a")?;
            let a_stride = self.number("a stride")?;
            self.keyword("b")?;
            axes.push(Axis { extent, a_stride, b_stride: self.number("a stride")? });
        }
        self.keyword("block")?;
        let block = self.number("a number of products")?;
        self.keyword("sets")?;
        let sets = self.number("a number of sums")?;
        self.keyword("out")?;
        let (out, out_rows) = (self.place()?, self.rows()?);
        let mut epilogue = Epilogue { operands: vec![], insts: vec![] };
        while self.is_word(&format!("x{}", epilogue.operands.len())) {
            self.at += 1;
            self.mark("=")?;
            let (place, rows) = (self.place()?, self.rows()?);
            self.keyword("cols")?;
            epilogue.operands.push(EpilogueOperand { place, rows, col_stride: self.number("a stride")? });
        }
        while !self.takes("}") {
            self.next_id('e', epilogue.insts.len())?;
            self.mark("=")?;
            let inst = self.ep_inst(&epilogue)?;
            epilogue.insts.push(inst);
        }
        Ok(Tile { cols, axes, block, sets, a, a_rows, b, out, out_rows, epilogue })
    }

    fn ep_inst(&mut self, so_far: &Epilogue) -> Parse<EpInst> {
        let (operands, insts) = (so_far.operands.len(), so_far.insts.len());
        let e = |p: &mut Self| Ok(p.known('e', insts, "an earlier instruction's name")? as usize);
        let at = self.at;
        let op = self.word("an instruction")?;
        Ok(match op.as_str() {
            "acc" => EpInst::Acc,
            "const" => {
                let (word, word_at) = (self.word("a constant")?, self.at - 1);
                self.mark(":")?;
                let elem = self.elem()?;
                match parse_const(elem, &word).and_then(|bits| u32::try_from(bits).ok()) {
                    Some(bits) => EpInst::Const(elem, bits),
                    None => return self.error_at(word_at, format!("`{word}` is no {elem} of 4 bytes")),
                }
            }
            "load" => EpInst::Load(self.known('x', operands, "an operand")? as usize),
            "fma" => {
                let [a, b, c] = self.three(e)?;
                EpInst::Fma(a, b, c)
            }
            "select" => {
                let [a, b, c] = self.three(e)?;
                EpInst::Select(a, b, c)
            }
            "convert" | "bitcast" => {
                let a = e(self)?;
                self.mark(":")?;
                let to = self.elem()?;
                if op == "convert" { EpInst::Convert(to, a) } else { EpInst::Bitcast(to, a) }
            }
            _ => match (UnOp::of(&op), BinOp::of(&op), Cmp::of(&op)) {
                (Some(op), ..) => EpInst::Unary(op, e(self)?),
                (_, Some(op), _) => {
                    let [a, b] = self.two(e)?;
                    EpInst::Binary(op, a, b)
                }
                (_, _, Some(op)) => {
                    let [a, b] = self.two(e)?;
                    EpInst::Compare(op, a, b)
                }
                _ => return self.error_at(at, format!("there is no instruction `{op}`")),
            },
        })
    }
}
