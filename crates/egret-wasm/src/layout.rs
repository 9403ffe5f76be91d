//! Where a module keeps what. Where all dims are fixed, all addresses are; else those of inputs, outputs and arena are [sizes](egret_loop::Size) that
//! `<m>_plan` computes like the program's own.
//!
//! The first page of memory is nobody's but for the reason of a failure, so that no index that is off by a little reaches what another owns. Behind it are the weights, and the
//! values of bound inputs; where sizes are planned, what a host reads of ports, and the values of sizes; then the inputs, the outputs and the arena. The description is the
//! last that has a fixed address.

use egret_loop::conditions::Conditions;
use egret_loop::{Arg, Extent, Port, Program, Repeat, Size, SizeId, SizeList, SizeOp, Storage};
use serde_json::{Value, json};

use crate::describe::{bound, fixed, planned};
use crate::error::{Result, broken, unsupported};
use crate::place::Place;

/// Bytes of a page of WebAssembly's memory.
pub const PAGE: u64 = 1 << 16;

/// Where a kernel that fails writes why: the number, the least that is right, and the end of what is right, as i64.
pub const FAILURE: u32 = 64;

/// Where the number of the condition is that sizes do not meet, as i32: see [`Conditions`]; 0 where sizes are beyond 63 bits.
pub const CONDITION: u32 = FAILURE + 24;

/// Where an i32 is that is 1 from the end of a plan to the beginning of the next.
pub const PLANNED: u32 = CONDITION + 4;

/// All buffers begin at a multiple of so many bytes.
const ALIGN: u64 = 64;

/// Bytes of memory that a module may come to: what 32 bits address but for the last page.
pub const MOST: u64 = (1 << 32) - PAGE;

/// Bytes of weights that are taken: engines have limits on modules, V8's is this.
const MOST_WEIGHTS: u64 = 1 << 30;

/// Stands for a size whose number is known later.
const LATER: Size = Size::Const(i64::MAX);

/// An argument of a call.
#[derive(Copy, Clone, Debug)]
pub struct Spot {
    /// Its address, in the first run of the call.
    pub at: Extent,
    /// Bytes from one run of the call to the next.
    pub stride: i64,
}

/// What a module has whose sizes are planned.
#[derive(Debug)]
pub struct Planned {
    /// Address of the values of [`Layout::sizes`], in order, as i64.
    pub values: u32,
    /// For each port, inputs first, where a host reads its address, its bytes and its dims, as u32.
    pub ports: Vec<u32>,
    /// The size that is the end of these values, where inputs, outputs and the arena begin.
    begin: SizeId,
    /// For each output whose dims data decides, the bytes that it has come to.
    pub found: Vec<Option<Extent>>,
}

/// The memory of a module.
#[derive(Debug)]
pub struct Layout {
    /// What is in memory from the beginning, by address: weights, the values of bound inputs, the description.
    pub data: Vec<(u32, Vec<u8>)>,
    /// Address and bytes of the description, JSON.
    pub info: (u32, u32),
    /// The inputs.
    pub inputs: Vec<Place>,
    /// The outputs.
    pub outputs: Vec<Place>,
    /// Where sizes are planned.
    pub planned: Option<Planned>,
    /// The sizes of the program, and behind them those that memory needs.
    pub sizes: SizeList,
    /// Bytes of memory from its beginning.
    pub end: Extent,
    weights: Place,
    arena: Place,
}

/// Whether a run tells sizes of a program.
fn is_planned(program: &Program) -> bool {
    let told = |c: &egret_loop::Call| c.repeat.is_some() || c.tasks.is_some();
    !program.symbols.is_empty() || !program.sizes.is_empty() || program.calls.iter().any(told)
}

/// Hands out memory.
struct Rest {
    next: Extent,
    sizes: SizeList,
}

impl Rest {
    fn op(&mut self, op: SizeOp, a: Extent, b: Extent) -> Result<Extent> {
        self.sizes.op(op, a, b).ok_or_else(too_much)
    }

    fn place(&mut self, bytes: Extent) -> Result<Place> {
        let align = Extent::Const(ALIGN as i64);
        let blocks = self.op(SizeOp::CeilDiv, self.next, align)?;
        let at = self.op(SizeOp::Mul, blocks, align)?;
        self.next = self.op(SizeOp::Add, at, bytes)?;
        if self.next.as_const().is_some_and(|end| end as u64 > MOST) {
            return Err(too_much());
        }
        Ok(Place { at, bytes })
    }

    /// A place of so many bytes before all whose address is not fixed.
    fn fixed(&mut self, bytes: usize) -> Result<u32> {
        address(self.place(constant(bytes))?)
    }

    /// The place of a port that the caller gives, or reads.
    fn port(&mut self, port: &Port) -> Result<Place> {
        let bytes = self.bytes(port, &port.dims)?;
        self.place(bytes)
    }

    /// A text that is in memory from the beginning: where, and its bytes.
    fn text(&mut self, text: &Value, data: &mut Vec<(u32, Vec<u8>)>) -> Result<(u32, u32)> {
        let text = text.to_string().into_bytes();
        let place = (self.fixed(text.len())?, text.len() as u32);
        data.push((place.0, text));
        Ok(place)
    }

    fn bytes(&mut self, port: &Port, dims: &[Extent]) -> Result<Extent> {
        // Numbers first: one product for all of them.
        let (fixed, free): (Vec<Extent>, Vec<Extent>) = dims.iter().partition(|d| d.as_const().is_some());
        let all = fixed.into_iter().chain(free);
        all.into_iter().try_fold(constant(port.elem_size), |n, dim| self.op(SizeOp::Mul, n, dim))
    }
}

/// The address of what is fixed.
fn address(place: Place) -> Result<u32> {
    let at = place.at.as_const().and_then(|at| u32::try_from(at).ok());
    at.ok_or_else(|| broken("what has to be fixed has no address"))
}

fn constant(n: usize) -> Extent {
    Extent::Const(n as i64)
}

fn too_much() -> crate::WasmError {
    unsupported(
        "the model needs more than the 4 GiB of memory that a WebAssembly module for wasm32 can have",
    )
}

impl Layout {
    /// The memory of a program.
    pub fn of(program: &Program) -> Result<Layout> {
        let bytes = program.weights.len();
        if bytes as u64 > MOST_WEIGHTS {
            return Err(unsupported(format!(
                "the model has {bytes} bytes of weights; engines take modules of at most 1 GiB"
            )));
        }
        if program.sizes.contains(&LATER) {
            return Err(too_much());
        }
        let mut rest =
            Rest { next: Extent::Const(PAGE as i64), sizes: SizeList::from(program.sizes.clone()) };
        let weights = rest.place(constant(bytes))?;
        let mut data = vec![];
        if bytes > 0 {
            data.push((address(weights)?, program.weights.to_vec()));
        }
        let mut held = vec![];
        for port in &program.inputs {
            held.push(match &port.bound {
                Some(value) => {
                    let at = rest.fixed(value.len())?;
                    data.push((at, value.clone()));
                    Some(Place { at: Extent::Const(at.into()), bytes: constant(value.len()) })
                }
                None => None,
            });
        }
        let ports: Vec<&Port> = program.inputs.iter().chain(&program.outputs).collect();
        let mut info = (0, 0);
        let mut words = None;
        if is_planned(program) {
            let places =
                ports.iter().map(|p| rest.fixed(4 * (2 + p.dims.len()))).collect::<Result<Vec<_>>>()?;
            let (ins, outs) = places.split_at(program.inputs.len());
            let text = json!({
                "name": program.name,
                "free": program.symbols.iter().map(|s| &s.name).collect::<Vec<_>>(),
                "inputs": planned(program, &program.inputs, ins),
                "outputs": planned(program, &program.outputs, outs),
                "bound": bound(&program.inputs, &held),
                "failure": FAILURE,
                "condition": CONDITION,
                "conditions": Conditions::of(program).texts,
            });
            info = rest.text(&text, &mut data)?;
            words = Some(places);
        }
        let mut layout = Layout {
            data,
            info,
            inputs: vec![],
            outputs: vec![],
            planned: None,
            sizes: SizeList::default(),
            end: rest.next,
            weights,
            arena: weights,
        };
        let begin = match &words {
            Some(_) => {
                let values = rest.fixed(0)?;
                // What follows is behind the values of sizes; how many there are is known when all have been made.
                let begin = rest.sizes.size(LATER);
                rest.next = Extent::Size(begin);
                Some((values, begin))
            }
            None => None,
        };
        for (port, held) in program.inputs.iter().zip(&held) {
            layout.inputs.push(match held {
                Some(place) => *place,
                None => rest.port(port)?,
            });
        }
        layout.outputs = program.outputs.iter().map(|port| rest.port(port)).collect::<Result<_>>()?;
        layout.arena =
            rest.place(program.arena_size.map_or(constant(program.arena_bytes), Extent::Size))?;
        layout.end = rest.next;
        if let (Some(ports), Some((values, begin))) = (words, begin) {
            let found = program
                .outputs
                .iter()
                .map(|p| p.found.as_ref().map(|dims| rest.bytes(p, dims)).transpose());
            let found = found.collect::<Result<_>>()?;
            layout.planned = Some(Planned { values, begin, ports, found });
        } else {
            let text = json!({
                "name": program.name,
                "inputs": fixed(&program.inputs, &layout.inputs),
                "outputs": fixed(&program.outputs, &layout.outputs),
                "bound": bound(&program.inputs, &held),
                "failure": FAILURE,
            });
            layout.info = rest.text(&text, &mut layout.data)?;
            layout.end = rest.next;
        }
        layout.sizes = rest.sizes;
        Ok(layout)
    }

    /// All sizes, and the pages of what has a fixed address. No more can be made.
    pub fn finish(&mut self) -> Result<(Vec<Size>, u64)> {
        let mut list = self.sizes.list().to_vec();
        let end = match (&self.planned, self.end) {
            (Some(planned), _) => {
                let end = i64::from(planned.values) + 8 * list.len() as i64;
                list[planned.begin.0 as usize] = Size::Const(end);
                end
            }
            (None, Extent::Const(end)) => end,
            (None, Extent::Size(_)) => return Err(broken("memory of a size that nothing plans")),
        };
        let end = u64::try_from(end).ok().filter(|end| *end <= MOST).ok_or_else(too_much)?;
        Ok((list, end.div_ceil(PAGE)))
    }

    /// Where an argument is of a call that may repeat.
    pub fn spot(&mut self, program: &Program, arg: &Arg, repeat: Option<Repeat>) -> Result<Spot> {
        let buffer = program.buffers.get(arg.buffer.0 as usize);
        let buffer = buffer.ok_or_else(|| broken(format!("there is no {}", arg.buffer)))?;
        let port = |places: &[Place], i: usize| {
            places.get(i).copied().ok_or_else(|| broken(format!("there is no port {i}")))
        };
        let (memory, begin) = match buffer.storage {
            Storage::Input(i) => (port(&self.inputs, i)?.at, constant(0)),
            Storage::Output(i) => (port(&self.outputs, i)?.at, constant(0)),
            Storage::Arena(offset) => (self.arena.at, constant(offset)),
            Storage::ArenaAt(size) => (self.arena.at, Extent::Size(size)),
            Storage::Weights(offset) => (self.weights.at, constant(offset)),
            Storage::Sizes => {
                let planned = self.planned.as_ref().ok_or_else(|| broken("sizes that nothing plans"))?;
                (Extent::Const(planned.values.into()), constant(0))
            }
        };
        let mut at = self.add(memory, begin)?;
        at = self.add(at, constant(arg.offset * buffer.elem.size()))?;
        let mut stride = 0;
        if let (Some(repeat), Some(_)) = (repeat, buffer.times) {
            let unit = buffer.len * buffer.elem.size();
            let first = self.sizes.op(SizeOp::Mul, repeat.first, constant(unit)).ok_or_else(too_much)?;
            at = self.add(at, first)?;
            stride = (unit * repeat.step) as i64;
        }
        Ok(Spot { at, stride })
    }

    fn add(&mut self, a: Extent, b: Extent) -> Result<Extent> {
        self.sizes.op(SizeOp::Add, a, b).ok_or_else(too_much)
    }
}
