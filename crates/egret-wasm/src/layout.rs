//! Where a module keeps what: fixed addresses, as all sizes are known when it is made.
//!
//! The first page of memory is nobody's but for the reason of a failure, so that no index that is off by a little reaches what another owns. Behind it are the weights, the
//! inputs, the outputs, the arena, and the description of the module.

use egret_loop::{Port, Program, Storage};
use serde_json::{Value, json};

use crate::error::{Result, broken, unsupported};

/// Bytes of a page of WebAssembly's memory.
pub const PAGE: u64 = 1 << 16;

/// Where a kernel that fails writes why: the number, the least that is right, and the end of what is right, as i64.
pub const FAILURE: u32 = 64;

/// All buffers begin at a multiple of so many bytes.
const ALIGN: u64 = 64;

/// Bytes of memory that 32 bits address.
const MOST: u64 = 1 << 32;

/// Bytes of weights that are taken: engines have limits on modules, V8's is this.
const MOST_WEIGHTS: u64 = 1 << 30;

/// A piece of memory.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Address of its first byte.
    pub at: u32,
    /// Bytes.
    pub bytes: u64,
}

/// The memory of a module.
#[derive(Debug)]
pub struct Layout {
    /// The weights.
    pub weights: Place,
    inputs: Vec<Place>,
    outputs: Vec<Place>,
    arena: Place,
    /// The description, JSON, and its address.
    pub info: (u32, String),
    /// Pages of all.
    pub pages: u64,
}

/// Hands out memory.
struct Rest {
    next: u64,
}

impl Rest {
    fn place(&mut self, bytes: u64) -> Result<Place> {
        let at = self.next.next_multiple_of(ALIGN);
        self.next = at.checked_add(bytes).filter(|end| *end <= MOST - PAGE).ok_or_else(|| {
            unsupported(
                "the model needs more than the 4 GiB of memory that a WebAssembly module for wasm32 can have",
            )
        })?;
        Ok(Place { at: at as u32, bytes })
    }
}

impl Layout {
    /// The memory of a program whose dims are fixed.
    pub fn of(program: &Program) -> Result<Layout> {
        let weights = program.weights.len() as u64;
        if weights > MOST_WEIGHTS {
            return Err(unsupported(format!(
                "the model has {weights} bytes of weights; engines take modules of at most 1 GiB"
            )));
        }
        let mut rest = Rest { next: PAGE };
        let weights = rest.place(weights)?;
        let inputs = program.inputs.iter().map(|p| rest.place(bytes(p)?)).collect::<Result<Vec<_>>>()?;
        let outputs = program.outputs.iter().map(|p| rest.place(bytes(p)?)).collect::<Result<Vec<_>>>()?;
        let arena = rest.place(program.arena_bytes as u64)?;
        let info = json!({
            "name": program.name,
            "inputs": ports(&program.inputs, &inputs),
            "outputs": ports(&program.outputs, &outputs),
            "failure": FAILURE,
        });
        let info = info.to_string();
        let at = rest.place(info.len() as u64)?.at;
        Ok(Layout { weights, inputs, outputs, arena, info: (at, info), pages: rest.next.div_ceil(PAGE) })
    }

    /// Address of the first byte of a buffer.
    pub fn address(&self, storage: Storage) -> Result<u32> {
        let port = |places: &[Place], i: usize| {
            places.get(i).map(|p| p.at).ok_or_else(|| broken(format!("there is no port {i}")))
        };
        let within = |place: Place, offset: usize| {
            let offset = u32::try_from(offset).ok().filter(|o| u64::from(*o) <= place.bytes);
            offset.map(|o| place.at + o).ok_or_else(|| broken("a buffer outside of its memory"))
        };
        match storage {
            Storage::Input(i) => port(&self.inputs, i),
            Storage::Output(i) => port(&self.outputs, i),
            Storage::Arena(offset) => within(self.arena, offset),
            Storage::Weights(offset) => within(self.weights, offset),
            Storage::ArenaAt(_) | Storage::Sizes => Err(broken("a size that a run tells")),
        }
    }
}

/// Bytes of a port.
fn bytes(port: &Port) -> Result<u64> {
    let dims = port.const_dims().ok_or_else(|| broken(format!("the dims of `{}`", port.name)))?;
    let elements = dims.into_iter().try_fold(1u64, |n, d| n.checked_mul(u64::try_from(d).ok()?));
    let bytes = elements.and_then(|n| n.checked_mul(port.elem_size as u64));
    bytes.ok_or_else(|| broken(format!("the size of `{}`", port.name)))
}

/// What a host has to know of ports.
fn ports(ports: &[Port], places: &[Place]) -> Vec<Value> {
    let described = ports.iter().zip(places).map(|(port, place)| {
        json!({
            "name": port.name,
            "dtype": port.onnx_dtype,
            "dims": port.const_dims(),
            "at": place.at,
            "bytes": place.bytes,
        })
    });
    described.collect()
}
