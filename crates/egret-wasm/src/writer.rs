//! A function while it is written: instructions that take their operands from locals and leave their result in another.
//!
//! Engines make registers of locals, as if there were no stack between.

use wasm_encoder::{Encode, Function, Instruction, MemArg, ValType};

use crate::error::{Result, unsupported};

/// Parameters of a function that engines take.
const MOST_PARAMS: usize = 1000;

/// Locals of a function that engines take, parameters among them.
const MOST_LOCALS: usize = 50_000;

/// Bytes of a function that engines take.
const MOST_BYTES: usize = 7_654_321;

/// A value: the local that holds it, which nothing else is written to while the value is used.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Value {
    local: u32,
    /// The type of the local.
    pub ty: ValType,
}

/// An address in memory: that of a local, if there is one, and bytes behind it.
#[derive(Copy, Clone, Debug)]
pub struct Address {
    /// An i32.
    pub base: Option<Value>,
    /// Bytes from there on.
    pub offset: u32,
}

impl Address {
    /// Further behind.
    pub fn plus(self, bytes: u32) -> Address {
        Address { offset: self.offset + bytes, ..self }
    }
}

/// A function while it is written.
pub struct Writer {
    params: u32,
    locals: Vec<ValType>,
    /// Locals that are taken, in order, and those whose values are no longer used.
    taken: Vec<Value>,
    free: Vec<Value>,
    code: Vec<u8>,
}

impl Writer {
    /// A function of parameters of these types, with their values.
    pub fn new(params: &[ValType]) -> (Writer, Vec<Value>) {
        let count = params.len() as u32;
        let values = (0..count).zip(params).map(|(local, &ty)| Value { local, ty }).collect();
        (Writer { params: count, locals: vec![], taken: vec![], free: vec![], code: vec![] }, values)
    }

    /// The function.
    ///
    /// # Errors
    /// More parameters, locals or bytes than engines take.
    pub fn finish(mut self) -> Result<Function> {
        self.put(&Instruction::End);
        let locals = self.params as usize + self.locals.len();
        let mut function = Function::new_with_locals_types(self.locals);
        function.raw(self.code);
        let bytes = function.byte_len();
        let counts = [
            ("parameters", self.params as usize, MOST_PARAMS),
            ("locals", locals, MOST_LOCALS),
            ("bytes", bytes, MOST_BYTES),
        ];
        match counts.into_iter().find(|(_, have, most)| have > most) {
            Some((what, have, most)) => Err(unsupported(format!(
                "the WebAssembly module would have a function of {have} {what}; engines take at most {most}"
            ))),
            None => Ok(function),
        }
    }

    /// Writes code that uses none of the values that it makes when it ends: their locals are for others then.
    pub fn apart<T>(&mut self, write: impl FnOnce(&mut Writer) -> T) -> T {
        let before = self.taken.len();
        let written = write(self);
        self.free.extend(self.taken.drain(before..).rev());
        written
    }

    /// One instruction, as it is.
    pub fn put(&mut self, instruction: &Instruction<'_>) {
        instruction.encode(&mut self.code);
    }

    /// A local of its own that has no value yet (0, in WebAssembly).
    pub fn local(&mut self, ty: ValType) -> Value {
        self.locals.push(ty);
        Value { local: self.params + self.locals.len() as u32 - 1, ty }
    }

    /// Puts a value on the stack.
    pub fn get(&mut self, value: Value) {
        self.put(&Instruction::LocalGet(value.local));
    }

    /// Takes what a local is to hold from the stack.
    pub fn set(&mut self, local: Value) {
        self.put(&Instruction::LocalSet(local.local));
    }

    /// Writes a value to a local.
    pub fn assign(&mut self, local: Value, value: Value) {
        self.get(value);
        self.set(local);
    }

    /// A local with what is on the stack: a new one, or one whose value is no longer used.
    pub fn take(&mut self, ty: ValType) -> Value {
        let local = match self.free.iter().rposition(|local| local.ty == ty) {
            Some(i) => self.free.swap_remove(i),
            None => self.local(ty),
        };
        self.taken.push(local);
        self.set(local);
        local
    }

    /// A value of its own that is equal.
    pub fn copy(&mut self, value: Value) -> Value {
        self.get(value);
        self.take(value.ty)
    }

    /// An instruction of these operands.
    pub fn op(&mut self, ty: ValType, instruction: &Instruction<'_>, operands: &[Value]) -> Value {
        operands.iter().for_each(|v| self.get(*v));
        self.put(instruction);
        self.take(ty)
    }

    /// An i32.
    pub fn i32(&mut self, value: i32) -> Value {
        self.op(ValType::I32, &Instruction::I32Const(value), &[])
    }

    /// An i64.
    pub fn i64(&mut self, value: i64) -> Value {
        self.op(ValType::I64, &Instruction::I64Const(value), &[])
    }

    /// Puts the base of an address on the stack; the rest of it, for the instruction that accesses memory.
    pub fn base(&mut self, address: Address) -> MemArg {
        match address.base {
            Some(base) => self.get(base),
            None => self.put(&Instruction::I32Const(0)),
        }
        MemArg { offset: address.offset.into(), align: 0, memory_index: 0 }
    }

    /// What an instruction loads.
    pub fn load(
        &mut self,
        ty: ValType,
        load: impl FnOnce(MemArg) -> Instruction<'static>,
        at: Address,
    ) -> Value {
        let arg = self.base(at);
        self.put(&load(arg));
        self.take(ty)
    }

    /// Stores a value by an instruction.
    pub fn store(&mut self, store: impl FnOnce(MemArg) -> Instruction<'static>, at: Address, value: Value) {
        let arg = self.base(at);
        self.get(value);
        self.put(&store(arg));
    }

    /// The address so many bytes from a value on, before or behind it.
    pub fn near(&mut self, base: Value, bytes: i64) -> Address {
        match u32::try_from(bytes) {
            Ok(offset) => Address { base: Some(base), offset },
            Err(_) => Address { base: Some(self.plus(base, bytes)), offset: 0 },
        }
    }

    /// An i32 and a number, which wrap.
    pub fn plus(&mut self, value: Value, number: i64) -> Value {
        let number = self.i32(number as i32);
        self.op(ValType::I32, &Instruction::I32Add, &[value, number])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WasmError;

    #[test]
    fn locals_are_for_others_when_code_ends() {
        let (mut w, params) = Writer::new(&[ValType::I32]);
        let kept = w.i64(1);
        let first = w.apart(|w| [w.i64(2), w.i64(3)]);
        let second = w.apart(|w| {
            let outer = w.i64(4);
            let inner = w.apart(|w| w.i64(5));
            [outer, inner, w.i32(6)]
        });
        assert_eq!(second[..2], first);
        assert!(![first[0], first[1], params[0]].contains(&kept) && second[2].ty == ValType::I32);
        assert_eq!(w.locals.len(), 4);
    }

    #[test]
    fn what_no_engine_takes_is_refused() {
        let said = |params: usize, locals: usize| {
            let (mut w, _) = Writer::new(&vec![ValType::I32; params]);
            (0..locals).for_each(|_| _ = w.i32(1));
            w.finish().err()
        };
        let error = |what: &str| {
            let m = format!("the WebAssembly module would have a function of {what}");
            Some(WasmError::Unsupported(m))
        };
        assert_eq!((said(1, MOST_LOCALS - 1), said(MOST_PARAMS, 0)), (None, None));
        assert_eq!(said(1, MOST_LOCALS), error("50001 locals; engines take at most 50000"));
        assert_eq!(said(MOST_PARAMS + 1, 0), error("1001 parameters; engines take at most 1000"));
        let (mut w, _) = Writer::new(&[]);
        (0..MOST_BYTES).for_each(|_| w.put(&Instruction::Nop));
        assert!(w.finish().is_err_and(|e| e.to_string().contains("bytes; engines take at most 7654321")));
    }
}
