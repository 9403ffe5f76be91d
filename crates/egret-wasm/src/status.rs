//! What the functions of a module give.

use wasm_encoder::Instruction as I;

use crate::layout::CONDITION;
use crate::writer::{Address, Value, Writer};

/// What a function of a module gives that does not end well; 0 is that it does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// A number in the data is out of its range.
    OutOfRange = 1,
    /// Sizes do not meet a condition of the model.
    Sizes = 2,
    /// There is not so much memory.
    Memory = 3,
    /// Sizes are not planned.
    NotPlanned = 4,
}

impl Writer {
    /// Ends the function with a status.
    pub fn end_with(&mut self, status: Status) {
        [I::I32Const(status as i32), I::Return].iter().for_each(|i| self.put(i));
    }

    /// Ends the function where sizes do not meet the condition of a number, an i32; 0 where they are too large.
    pub fn end_with_condition(&mut self, number: Value) {
        self.store(I::I32Store, Address { base: None, offset: CONDITION }, number);
        self.end_with(Status::Sizes);
    }
}
