//! Recurrent cells.

use super::Spelling::{self, Nodes};
use super::cells::attributes;
use crate::call::{Call, Written};
use egret_ir::families::Recurrent as R;

pub(super) fn spelling(op: R) -> Spelling {
    match op {
        R::Lstm => Nodes("LSTM; with an 8-bit state a function of the model, of the domain `egret`", lstm),
        R::Gru => Nodes("GRU", |c| cell(c, "GRU", 6, &["linear_before_reset"])),
        R::Rnn => Nodes("RNN", |c| cell(c, "RNN", 6, &[])),
    }
}

fn lstm(c: &mut Call<'_, '_>) -> Written {
    if c.attrs().flag("rounded_state") || c.has(8) || !c.has(1) {
        return super::lstm::call(c);
    }
    cell(c, "LSTM", 8, &["input_forget"])
}

fn cell(c: &mut Call<'_, '_>, operator: &str, operands: usize, flags: &[&'static str]) -> Written {
    let inputs: Vec<String> = (0..operands).map(|i| c.opt(i)).collect();
    let (attributes, count) = (attributes(c.attrs(), flags), c.node.results.len());
    Ok(c.emit_many("", operator, &inputs, count, attributes))
}
