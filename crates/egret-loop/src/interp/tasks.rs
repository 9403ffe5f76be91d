//! The tasks of a call are independent: what one of them writes, no other reads or writes.
//!
//! Threads take the tasks of all runs of a call in any order and at the same time, which an interpreter that runs them one after the
//! other does not show. So it keeps, for every byte of the memories, which task of the call has touched it. The rule has no
//! exception for equal bytes: an element that is computed twice is computed by one task.

use super::InterpError;

/// What the tasks of a call have done with a byte. Tasks are counted from 1, through all runs of the call.
#[derive(Copy, Clone, Default)]
struct Byte {
    /// Which call that is, the latest to touch the byte. Calls are counted from 1.
    call: u32,
    /// The task that has written it; 0 where none has.
    writer: u32,
    /// The task that has read it; 0 where none has, [`SEVERAL`] where more than one has.
    reader: u32,
}

/// No task has this number.
const SEVERAL: u32 = u32::MAX;

/// Which task of the current call has touched each byte.
pub struct Touched {
    call: u32,
    /// The task that runs.
    task: u32,
    /// Whether the call has no other.
    alone: bool,
    /// By memory; as long as it has been touched.
    bytes: Vec<Vec<Byte>>,
}

impl Touched {
    /// By no task, in so many memories.
    pub fn new(memories: usize) -> Touched {
        Touched { call: 0, task: 0, alone: true, bytes: vec![vec![]; memories] }
    }

    /// A call of so many tasks in all of its runs begins. Calls follow one another: what an earlier one has touched counts no more.
    ///
    /// # Errors
    /// More tasks than are told apart.
    pub fn begin_call(&mut self, tasks: i64) -> Result<(), InterpError> {
        if tasks >= i64::from(SEVERAL) {
            return Err(InterpError::Broken(format!("{tasks} tasks are too many to be told apart")));
        }
        (self.call, self.task, self.alone) = (self.call + 1, 0, tasks == 1);
        Ok(())
    }

    /// The next task of the call begins.
    pub fn begin_task(&mut self) {
        self.task += 1;
    }

    fn bytes(&mut self, memory: usize, at: usize, size: usize) -> &mut [Byte] {
        let bytes = &mut self.bytes[memory];
        if bytes.len() < at + size {
            bytes.resize(at + size, Byte::default());
        }
        let bytes = &mut bytes[at..at + size];
        bytes
            .iter_mut()
            .filter(|b| b.call != self.call)
            .for_each(|b| *b = Byte { call: self.call, ..Byte::default() });
        bytes
    }

    /// The task reads bytes.
    ///
    /// # Errors
    /// Another task has written one of them.
    pub fn read(&mut self, memory: usize, at: usize, size: usize) -> Result<(), InterpError> {
        let task = self.task;
        if self.alone {
            return Ok(());
        }
        for b in self.bytes(memory, at, size) {
            if b.writer != 0 && b.writer != task {
                return Err(shared(task, "reads", b.writer, "has written"));
            }
            b.reader = if b.reader == 0 || b.reader == task { task } else { SEVERAL };
        }
        Ok(())
    }

    /// The task writes bytes.
    ///
    /// # Errors
    /// Another task has read or written one of them.
    pub fn write(&mut self, memory: usize, at: usize, size: usize) -> Result<(), InterpError> {
        let task = self.task;
        if self.alone {
            return Ok(());
        }
        for b in self.bytes(memory, at, size) {
            if b.writer != 0 && b.writer != task {
                return Err(shared(task, "writes", b.writer, "has written"));
            }
            if b.reader != 0 && b.reader != task {
                return Err(shared(task, "writes", b.reader, "has read"));
            }
            b.writer = task;
        }
        Ok(())
    }
}

/// Tasks that share a byte.
fn shared(task: u32, does: &str, other: u32, has_done: &str) -> InterpError {
    let other = match other {
        SEVERAL => "several tasks have read".into(),
        one => format!("task {} {has_done}", one - 1),
    };
    InterpError::Broken(format!("task {} {does} what {other}: tasks are independent", task - 1))
}
