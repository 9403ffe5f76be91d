//! What the functions of a module give.

use wasm_encoder::Instruction as I;

use crate::writer::Writer;

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
}
