//! A function while it is written: instructions that take their operands from locals and leave their result in a new one.
//!
//! Engines make registers of locals, as if there were no stack between.

use wasm_encoder::{Encode, Function, Instruction, MemArg, ValType};

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
    code: Vec<u8>,
}

impl Writer {
    /// A function of parameters of these types, with their values.
    pub fn new(params: &[ValType]) -> (Writer, Vec<Value>) {
        let count = params.len() as u32;
        let values = (0..count).zip(params).map(|(local, &ty)| Value { local, ty }).collect();
        (Writer { params: count, locals: vec![], code: vec![] }, values)
    }

    /// The function.
    pub fn finish(mut self) -> Function {
        self.put(&Instruction::End);
        let mut function = Function::new_with_locals_types(self.locals);
        function.raw(self.code);
        function
    }

    /// One instruction, as it is.
    pub fn put(&mut self, instruction: &Instruction<'_>) {
        instruction.encode(&mut self.code);
    }

    /// A local that has no value yet (0, in WebAssembly).
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

    /// A new local with what is on the stack.
    pub fn take(&mut self, ty: ValType) -> Value {
        let local = self.local(ty);
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
