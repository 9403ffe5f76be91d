//! Machine code as text that holds no addresses, so that a change shows where it is only.

use egret_codegen::Leaf;
use iced_x86::{
    Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter, SymbolResolver, SymbolResult,
};
use std::collections::BTreeMap;

/// Names of places in the code.
#[derive(Clone)]
struct Names(BTreeMap<u64, String>);

/// Is an operand a place in the code, and not only a number that happens to be one?
fn refers(i: &Instruction) -> bool {
    i.is_jcc_short_or_near() || i.is_jmp_short_or_near() || i.is_ip_rel_memory_operand()
}

impl SymbolResolver for Names {
    fn symbol(
        &mut self,
        instruction: &Instruction,
        _: u32,
        _: Option<u32>,
        address: u64,
        _: u32,
    ) -> Option<SymbolResult<'_>> {
        let name = self.0.get(&address).filter(|_| refers(instruction))?;
        Some(SymbolResult::with_str(address, name))
    }
}

/// The instructions, one a line, and the words of the constants behind them.
pub fn of(leaf: &Leaf) -> String {
    let decoder = Decoder::with_ip(64, &leaf.code, 0, DecoderOptions::NONE);
    let instructions: Vec<Instruction> = decoder.into_iter().collect();
    let targets = instructions.iter().filter(|i| refers(i) && !i.is_ip_rel_memory_operand());
    let mut names: BTreeMap<u64, String> =
        targets.map(|i| (i.near_branch_target(), String::new())).collect();
    names.iter_mut().enumerate().for_each(|(n, (_, name))| *name = format!("loop{n}"));
    // Between the instructions and the constants there may be bytes that nobody reads.
    let end = leaf.code.len() as u64;
    let read = instructions.iter().filter(|i| i.is_ip_rel_memory_operand());
    let read: Vec<u64> = read.map(Instruction::ip_rel_memory_address).filter(|at| *at >= end).collect();
    let first = read.iter().copied().min().unwrap_or(end);
    names
        .extend(read.iter().filter(|at| **at > first).map(|at| (*at, format!("constants+{}", at - first))));
    if !leaf.constants.is_empty() {
        names.insert(first, "constants".into());
    }
    let mut formatter = IntelFormatter::with_options(Some(Box::new(Names(names.clone()))), None);
    let options = formatter.options_mut();
    options.set_space_after_operand_separator(true);
    options.set_rip_relative_addresses(true);
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    let mut out = String::new();
    for i in &instructions {
        if let Some(name) = names.get(&i.ip()) {
            out.push_str(&format!("{name}:\n"));
        }
        out.push_str("  ");
        formatter.format(i, &mut out);
        out.push('\n');
    }
    if !leaf.constants.is_empty() {
        out.push_str("constants:\n");
    }
    for line in leaf.constants[(first - end) as usize..].chunks(32) {
        let words = line.chunks(4).map(|w| w.iter().rev().map(|b| format!("{b:02x}")).collect::<String>());
        out.push_str(&format!("  dd {}\n", words.collect::<Vec<_>>().join(" ")));
    }
    out
}
