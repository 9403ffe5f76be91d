//! The function that plans: it computes sizes from free dims, grows memory to what they need, and writes where ports are and what dims they have.

use egret_loop::{Extent, Program, Size};
use wasm_encoder::Instruction as I;
use wasm_encoder::{BlockType, Function, ValType};

use crate::error::{Result, broken};
use crate::layout::{Layout, MOST, PAGE, PLANNED, Planned};
use crate::place::Place;
use crate::sizes::Sizes;
use crate::status::Status;
use crate::writer::{Address, Value, Writer};

/// How sizes are planned.
pub struct Planning<'p> {
    /// The program.
    pub program: &'p Program,
    /// Its memory.
    pub layout: &'p Layout,
    /// What of that is planned.
    pub planned: &'p Planned,
    /// The sizes.
    pub sizes: Sizes<'p>,
}

/// Bits of an address in a page.
const PAGE_BITS: i64 = PAGE.trailing_zeros() as i64;

fn word(offset: u32) -> Address {
    Address { base: None, offset }
}

impl Planning<'_> {
    /// The function of as many i32 as there are free dims: 0, or the [`Status`] that it ended with.
    pub fn function(&self) -> Result<Function> {
        let (mut w, dims) = Writer::new(&vec![ValType::I32; self.program.symbols.len()]);
        let no = w.i32(0);
        w.store(I::I32Store, word(PLANNED), no);
        self.sizes.compute(&mut w, None, &|w, size| match size {
            Size::Symbol(i) => {
                let dim = dims.get(i).ok_or_else(|| broken(format!("there is no symbol {i}")))?;
                Ok(w.op(ValType::I64, &I::I64ExtendI32S, &[*dim]))
            }
            _ => Err(broken("a length that a plan finds")),
        })?;
        let ports = || self.program.inputs.iter().chain(&self.program.outputs);
        ports().for_each(|port| self.countable(&mut w, &port.dims));
        self.grow(&mut w);
        let places = self.layout.inputs.iter().chain(&self.layout.outputs);
        for ((port, place), at) in ports().zip(places).zip(&self.planned.ports) {
            let Place { at: address, bytes } = *place;
            for (e, to) in [address, bytes].into_iter().zip([*at, at + 4]) {
                self.tell(&mut w, e, to);
            }
            self.dims(&mut w, &port.dims, *at);
        }
        let yes = w.i32(1);
        w.store(I::I32Store, word(PLANNED), yes);
        w.put(&I::I32Const(0));
        w.finish()
    }

    fn value(&self, w: &mut Writer, e: Extent) -> Value {
        match e {
            Extent::Const(c) => w.i64(c),
            Extent::Size(s) => self.sizes.load(w, s),
        }
    }

    fn fail_if(w: &mut Writer, wrong: Value) {
        w.get(wrong);
        w.put(&I::If(BlockType::Empty));
        w.end_with(Status::Memory);
        w.put(&I::End);
    }

    /// Has memory to the end of what is planned.
    fn grow(&self, w: &mut Writer) {
        let (end, most) = (self.value(w, self.layout.end), w.i64(MOST as i64));
        let beyond = w.op(ValType::I32, &I::I64GtU, &[end, most]);
        Self::fail_if(w, beyond);
        let (round, bits) = (w.i64(PAGE as i64 - 1), w.i64(PAGE_BITS));
        let up = w.op(ValType::I64, &I::I64Add, &[end, round]);
        let pages = w.op(ValType::I64, &I::I64ShrU, &[up, bits]);
        let pages = w.op(ValType::I32, &I::I32WrapI64, &[pages]);
        let have = w.op(ValType::I32, &I::MemorySize(0), &[]);
        let fewer = w.op(ValType::I32, &I::I32LtU, &[have, pages]);
        w.get(fewer);
        w.put(&I::If(BlockType::Empty));
        let more = w.op(ValType::I32, &I::I32Sub, &[pages, have]);
        let before = w.op(ValType::I32, &I::MemoryGrow(0), &[more]);
        let refused = w.i32(-1);
        let wrong = w.op(ValType::I32, &I::I32Eq, &[before, refused]);
        Self::fail_if(w, wrong);
        w.put(&I::End);
    }

    /// Writes a number for a host, as u32.
    fn tell(&self, w: &mut Writer, e: Extent, to: u32) {
        w.apart(|w| {
            let value = self.value(w, e);
            w.store(I::I64Store32, word(to), value);
        });
    }

    /// Refuses dims beyond what an i32 holds, which those of a port without elements may be.
    fn countable(&self, w: &mut Writer, dims: &[Extent]) {
        for dim in dims.iter().filter(|dim| dim.as_const().is_none_or(|n| n > i32::MAX.into())) {
            w.apart(|w| {
                let (dim, most) = (self.value(w, *dim), w.i64(i32::MAX.into()));
                let beyond = w.op(ValType::I32, &I::I64GtU, &[dim, most]);
                w.get(beyond);
                w.put(&I::If(BlockType::Empty));
                let none = w.i32(0);
                w.end_with_condition(none);
                w.put(&I::End);
            });
        }
    }

    /// Writes dims behind the address and the bytes of a port.
    fn dims(&self, w: &mut Writer, dims: &[Extent], port: u32) {
        for (dim, to) in dims.iter().zip((port + 8..).step_by(4)) {
            self.tell(w, *dim, to);
        }
    }

    /// At the end of a run: writes what the dims and bytes of outputs have come to that data decides.
    pub fn tell_found(&self, w: &mut Writer) {
        let ports = self.planned.ports.iter().skip(self.program.inputs.len());
        let outputs = self.program.outputs.iter().zip(ports).zip(&self.planned.found);
        let found = outputs.filter_map(|((port, at), bytes)| Some((port.found.as_ref()?, *at, (*bytes)?)));
        let found: Vec<_> = found.collect();
        found.iter().for_each(|(dims, ..)| self.countable(w, dims));
        for (dims, at, bytes) in found {
            self.tell(w, bytes, at + 4);
            self.dims(w, dims, at);
        }
    }
}
