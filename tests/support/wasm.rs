//! WebAssembly modules run by wasmtime, as a host finds its way in them: by the description that they carry.

use serde_json::Value;
use wasmtime::{Config, Engine, Instance, Memory, Module, OptLevel, Store, TypedFunc};

/// An instance of a module.
pub struct Wasm {
    store: Store<()>,
    memory: Memory,
    run: TypedFunc<(), i32>,
    /// What the module says of itself.
    pub info: Value,
}

/// Why a run gives no outputs: a number in the data, and the range `[low, high)` that it is not in.
pub type OutOfRange = [i64; 3];

impl Wasm {
    /// An instance of a module of this name.
    ///
    /// # Panics
    /// Where it is no valid module, or does not export what every one does.
    pub fn new(module: &[u8], name: &str) -> Wasm {
        let mut config = Config::new();
        // Thousands of small modules, each run once or twice.
        config.cranelift_opt_level(OptLevel::None);
        let engine = Engine::new(&config).expect("an engine");
        let module = Module::new(&engine, module).expect("a valid module");
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).expect("a module that imports nothing");
        let memory = instance.get_memory(&mut store, "memory").expect("its memory");
        let run = instance.get_typed_func(&mut store, &format!("{name}_run")).expect("its function");
        let mut global = |what: &str| {
            let global = instance.get_global(&mut store, &format!("{name}_{what}")).expect("a global");
            global.get(&mut store).i32().expect("an i32") as u32 as usize
        };
        let (at, len) = (global("info"), global("info_bytes"));
        let info = serde_json::from_slice(&memory.data(&store)[at..at + len]).expect("JSON");
        Wasm { store, memory, run, info }
    }

    /// The bytes of the outputs for those of the inputs.
    ///
    /// # Errors
    /// A number in the data is out of range.
    ///
    /// # Panics
    /// Where inputs are not as long as the module says, or the code traps.
    pub fn run(&mut self, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>, OutOfRange> {
        let given = places(&self.info["inputs"]);
        assert_eq!(given.len(), inputs.len());
        for ((at, bytes), input) in given.into_iter().zip(inputs) {
            assert_eq!(bytes, input.len());
            self.memory.write(&mut self.store, at, input).expect("a place in memory");
        }
        let status = self.run.call(&mut self.store, ()).expect("code that does not trap");
        let data = self.memory.data(&self.store);
        if status == 0 {
            let outputs = places(&self.info["outputs"]);
            return Ok(outputs.into_iter().map(|(at, bytes)| data[at..at + bytes].to_vec()).collect());
        }
        let failure = self.info["failure"].as_u64().expect("a number") as usize;
        let word = |i: usize| {
            let bytes = data[failure + 8 * i..].first_chunk().expect("a word");
            i64::from_le_bytes(*bytes)
        };
        Err([word(0), word(1), word(2)])
    }
}

/// Address and length of ports.
fn places(ports: &Value) -> Vec<(usize, usize)> {
    let number = |port: &Value, key: &str| port[key].as_u64().expect("a number") as usize;
    let ports = ports.as_array().expect("a list").iter();
    ports.map(|p| (number(p, "at"), number(p, "bytes"))).collect()
}
