//! WebAssembly modules run by wasmtime, as a host finds its way in them: by the description that they carry.

use serde_json::Value as Json;
use wasmtime::{
    Config, Engine, Instance, Memory, Module, OptLevel, Store, StoreLimits, StoreLimitsBuilder, TypedFunc,
    Val,
};

/// Bytes of memory that an instance can have.
pub const MOST: usize = 1 << 30;

/// An instance of a module.
pub struct Wasm {
    store: Store<StoreLimits>,
    instance: Instance,
    memory: Memory,
    name: String,
    run: TypedFunc<(), i32>,
    /// What the module says of itself.
    pub info: Json,
}

/// Why there are no outputs.
#[derive(Debug, PartialEq)]
pub enum Refused {
    /// A number in the data, and the range `[low, high)` that it is not in.
    OutOfRange([i64; 3]),
    /// What sizes do not meet; nothing where they are too large to be counted.
    Sizes(Option<String>),
    /// There is not so much memory.
    Memory,
    /// Sizes are not planned.
    NotPlanned,
}

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
        let limits = StoreLimitsBuilder::new().memory_size(MOST).build();
        let mut store = Store::new(&engine, limits);
        store.limiter(|limits| limits);
        let instance = Instance::new(&mut store, &module, &[]).expect("a module that imports nothing");
        let memory = instance.get_memory(&mut store, "memory").expect("its memory");
        let run = instance.get_typed_func(&mut store, &format!("{name}_run")).expect("its function");
        let mut global = |what: &str| {
            let global = instance.get_global(&mut store, &format!("{name}_{what}")).expect("a global");
            global.get(&mut store).i32().expect("an i32") as u32 as usize
        };
        let (at, len) = (global("info"), global("info_bytes"));
        let info = serde_json::from_slice(&memory.data(&store)[at..at + len]).expect("JSON");
        Wasm { store, instance, memory, name: name.to_owned(), run, info }
    }

    /// Plans for sizes of its free dims.
    ///
    /// # Errors
    /// The module refuses them.
    ///
    /// # Panics
    /// Where it has no function that plans, or that traps.
    pub fn plan(&mut self, sizes: &[i32]) -> Result<(), Refused> {
        let plan = self.instance.get_func(&mut self.store, &format!("{}_plan", self.name));
        let args: Vec<Val> = sizes.iter().map(|size| Val::I32(*size)).collect();
        let mut status = [Val::I32(0)];
        let plan = plan.expect("a module that is planned");
        plan.call(&mut self.store, &args, &mut status).expect("code that does not trap");
        self.ended(status[0].unwrap_i32())
    }

    /// The bytes of the outputs for those of the inputs, without bound ones.
    ///
    /// # Errors
    /// The module refuses them.
    ///
    /// # Panics
    /// Where inputs are not as long as the module says, or the code traps.
    pub fn run(&mut self, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>, Refused> {
        let given = self.places("inputs");
        assert_eq!(given.len(), inputs.len());
        for ((at, bytes), input) in given.into_iter().zip(inputs) {
            assert_eq!(bytes, input.len());
            self.memory.write(&mut self.store, at, input).expect("a place in memory");
        }
        self.start()?;
        let outputs = self.places("outputs");
        let data = self.memory.data(&self.store);
        Ok(outputs.into_iter().map(|(at, bytes)| data[at..at + bytes].to_vec()).collect())
    }

    /// Runs on what is in memory.
    ///
    /// # Errors
    /// The module refuses to.
    ///
    /// # Panics
    /// Where the code traps.
    pub fn start(&mut self) -> Result<(), Refused> {
        let status = self.run.call(&mut self.store, ()).expect("code that does not trap");
        self.ended(status)
    }

    /// The dims of each output after a run, where the module is planned.
    ///
    /// # Panics
    /// Where it is not.
    pub fn output_dims(&self) -> Vec<Vec<u32>> {
        let outputs = self.info["outputs"].as_array().expect("a list").iter();
        let dims = outputs.map(|port| {
            let at = number(&port["place"]);
            let rank = port["dims"].as_array().expect("a list").len();
            (0..rank).map(|axis| self.word(at + 8 + 4 * axis)).collect()
        });
        dims.collect()
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(*self.memory.data(&self.store)[at..].first_chunk().expect("a word"))
    }

    fn ended(&self, status: i32) -> Result<(), Refused> {
        let at = |key: &str| number(&self.info[key]);
        Err(match status {
            0 => return Ok(()),
            1 => {
                let word = |i: usize| {
                    let bytes = self.memory.data(&self.store)[at("failure") + 8 * i..].first_chunk();
                    i64::from_le_bytes(*bytes.expect("a word"))
                };
                Refused::OutOfRange([word(0), word(1), word(2)])
            }
            2 => {
                let condition = self.word(at("condition")) as usize;
                let texts = self.info["conditions"].as_array().expect("a list");
                Refused::Sizes(
                    condition.checked_sub(1).map(|i| texts[i].as_str().expect("a text").to_owned()),
                )
            }
            3 => Refused::Memory,
            4 => Refused::NotPlanned,
            other => panic!("there is no status {other}"),
        })
    }

    /// Address and length of ports.
    fn places(&self, ports: &str) -> Vec<(usize, usize)> {
        let ports = self.info[ports].as_array().expect("a list").iter();
        let place = |port: &Json| match port.get("place") {
            Some(words) => {
                let words = number(words);
                (self.word(words) as usize, self.word(words + 4) as usize)
            }
            None => (number(&port["at"]), number(&port["bytes"])),
        };
        ports.map(place).collect()
    }
}

fn number(json: &Json) -> usize {
    json.as_u64().expect("a number") as usize
}
