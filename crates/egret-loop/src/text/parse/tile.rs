//! Tiles and their epilogues.

use super::super::lex::Token;
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
        let nonzeros = if self.takes_word("nonzeros") { Some(self.nonzeros()?) } else { None };
        self.keyword("block")?;
        let block = self.number("a number of products")?;
        self.keyword("sets")?;
        let sets = self.number("a number of sums")?;
        self.keyword("out")?;
        let (out, out_rows) = (self.place()?, self.rows()?);
        let epilogue = self.epilogue()?;
        let tile = Tile { cols, axes, nonzeros, block, sets, a, a_rows, b, out, out_rows, epilogue };
        let at = self.at;
        self.mark("}")?;
        let Some(products) = tile.products(&self.scope.params) else {
            return self.error_at(at, "no tile multiplies such elements");
        };
        match tile.epilogue.elems(products, &self.scope.params) {
            Ok(_) => Ok(tile),
            Err(e) => self.error_at(at, e.to_string()),
        }
    }

    /// `runs N second PLACE from STEP masks PLACE [OFFSET: ROWS mask M, ..]`: where a row of the right operand begins, the rows that multiply it as bits, and which
    /// mask has the columns that are read; `second`, `masks` and `mask` may be missing.
    fn nonzeros(&mut self) -> Parse<Nonzeros> {
        self.keyword("runs")?;
        let runs = self.number("a number of runs")?;
        let second = match self.takes_word("second") {
            true => {
                let b = self.place()?;
                self.keyword("from")?;
                Some(Second { b, from: self.number("a step")? })
            }
            false => None,
        };
        let masks = if self.takes_word("masks") { Some(self.place()?) } else { None };
        self.mark("[")?;
        let mut steps = vec![];
        while !self.takes("]") {
            if !steps.is_empty() {
                self.mark(",")?;
            }
            let b = self.number("an offset")?;
            self.mark(":")?;
            let rows = self.number("a mask of rows")?;
            let mask = if self.takes_word("mask") { Some(self.number("a mask of columns")?) } else { None };
            steps.push(NonzeroStep { b, rows, mask });
        }
        Ok(Nonzeros { steps, runs, second, masks })
    }

    fn epilogue(&mut self) -> Parse<Epilogue> {
        self.keyword("sum")?;
        self.next_id('e', 0)?;
        let (mut operands, mut insts) = (vec![], vec![]);
        while !self.takes_word("store") {
            let (at, next) = (self.at, 1 + operands.len() + insts.len());
            self.next_id('e', next)?;
            self.mark("=")?;
            let is_place =
                |w: &str| w.strip_prefix('p').is_some_and(|n| n.chars().all(|c| c.is_ascii_digit()));
            if insts.is_empty() && matches!(self.peek(), Token::Word(w) if is_place(w)) {
                let (place, rows) = (self.place()?, self.rows()?);
                self.keyword("cols")?;
                operands.push(EpilogueOperand { place, rows, col_stride: self.number("a stride")? });
                continue;
            }
            self.scope.epilogue = Some(next);
            let (inst, ty) = self.inst()?;
            self.scope.epilogue = None;
            if !inst.is_elementwise() || ty.lanes != 1 {
                return self.error_at(at, "an epilogue computes elements by themselves");
            }
            insts.push(inst);
        }
        let values = 1 + operands.len() + insts.len();
        let result = V(self.known('e', values, "a value of the epilogue")?);
        Ok(Epilogue { operands, insts, result })
    }
}
