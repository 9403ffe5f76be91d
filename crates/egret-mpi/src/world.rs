//! All ranks of a run.

use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::null_mut;

unsafe extern "C" {
    fn egret_mpi_start(rank: *mut c_int, count: *mut c_int, local: *mut c_int) -> c_int;
    fn egret_mpi_send(
        bytes: *const c_void,
        count: c_int,
        to: c_int,
        tag: c_int,
        request: *mut *mut c_void,
    ) -> c_int;
    fn egret_mpi_next(
        come: *mut c_int,
        from: *mut c_int,
        tag: *mut c_int,
        count: *mut c_int,
        message: *mut *mut c_void,
    ) -> c_int;
    fn egret_mpi_receive(
        message: *mut c_void,
        bytes: *mut c_void,
        count: c_int,
        request: *mut *mut c_void,
    ) -> c_int;
    fn egret_mpi_done(request: *mut c_void, done: *mut c_int) -> c_int;
    fn egret_mpi_meaning(code: c_int, text: *mut c_char, count: c_int) -> c_int;
    fn egret_mpi_end() -> c_int;
    fn egret_mpi_abort(code: c_int);
}

/// The most bytes of one message of MPI, which counts in 32 bits; longer ones are sent in parts.
const MOST: usize = 1 << 30;
/// The tag of the last part of a message.
const LAST: c_int = 0;
/// The tag of the others.
const MORE: c_int = 1;

/// An error of MPI, in its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed(String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for Failed {}

/// All ranks, seen from one of them. It stays on the thread that started it.
pub struct World {
    rank: usize,
    count: usize,
    local: usize,
    sending: Vec<Sending>,
    /// What begins to come, by sender, in the order in which it was sent.
    receiving: Vec<VecDeque<Receiving>>,
    /// Parts of messages that have come, by sender.
    parts: Vec<Vec<u8>>,
    /// MPI is told that one thread calls it.
    here: PhantomData<*mut ()>,
}

/// A part of a message on its way out; MPI reads `bytes` until the request is done.
struct Sending {
    request: *mut c_void,
    /// The last part has the bytes of all.
    _bytes: Option<Vec<u8>>,
}

/// A part of a message on its way in; MPI writes `bytes` until the request is done.
struct Receiving {
    request: *mut c_void,
    bytes: Vec<u8>,
    is_last: bool,
}

fn check(code: c_int) -> Result<(), Failed> {
    if code == 0 {
        return Ok(());
    }
    let mut text = [0; 512];
    // SAFETY: the text has the length that is said.
    let known = unsafe { egret_mpi_meaning(code, text.as_mut_ptr(), text.len() as c_int) } == 0;
    // SAFETY: it begins as zeros, and whatever is written ends with one.
    let meaning = unsafe { CStr::from_ptr(text.as_ptr()) };
    Err(Failed(match known {
        true => format!("MPI: {}", meaning.to_string_lossy()),
        false => format!("MPI: error {code}"),
    }))
}

impl World {
    /// Join the other ranks. Waits until all have started. Once for each process.
    ///
    /// # Errors
    /// MPI has one. Where it finds that it cannot start at all, it may end the process with a message of its own.
    pub fn start() -> Result<World, Failed> {
        let (mut rank, mut count, mut local) = (0, 0, 0);
        // SAFETY: all are written by the call alone.
        check(unsafe { egret_mpi_start(&mut rank, &mut count, &mut local) })?;
        let (rank, count, local) = (rank as usize, count as usize, local as usize);
        Ok(World {
            rank,
            count,
            local,
            sending: vec![],
            receiving: (0..count).map(|_| VecDeque::new()).collect(),
            parts: vec![vec![]; count],
            here: PhantomData,
        })
    }

    /// Which rank this process is, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many ranks there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many of them are on this machine.
    pub fn local(&self) -> usize {
        self.local
    }

    /// Begin to send bytes to another rank. They are received in the order in which they were sent.
    ///
    /// # Errors
    /// There is no such rank, or MPI has an error.
    pub fn send(&mut self, to: usize, bytes: Vec<u8>) -> Result<(), Failed> {
        if to >= self.count {
            return Err(Failed(format!("MPI: there is no rank {to}")));
        }
        let mut parts = bytes.chunks(MOST).peekable();
        let mut requests = vec![];
        loop {
            let part = parts.next().unwrap_or_default();
            let tag = if parts.peek().is_some() { MORE } else { LAST };
            let mut request = null_mut();
            // SAFETY: the bytes are kept, where they are, until the last request is done, or for good.
            let code = unsafe {
                egret_mpi_send(part.as_ptr().cast(), part.len() as c_int, to as c_int, tag, &mut request)
            };
            if let Err(e) = check(code) {
                // Parts before this one may still be read.
                std::mem::forget(bytes);
                return Err(e);
            }
            requests.push(request);
            if tag == LAST {
                break;
            }
        }
        // The bytes go with the last part, which is given up after those before it.
        let last = requests.len() - 1;
        let mut bytes = Some(bytes);
        for (k, request) in requests.into_iter().enumerate() {
            let _bytes = if k == last { bytes.take() } else { None };
            self.sending.push(Sending { request, _bytes });
        }
        Ok(())
    }

    /// The next message that has come whole, and from whom.
    ///
    /// # Errors
    /// MPI has one.
    pub fn receive(&mut self) -> Result<Option<(usize, Vec<u8>)>, Failed> {
        self.sent()?;
        let (mut come, mut from, mut tag, mut count, mut message) = (0, 0, 0, 0, null_mut());
        loop {
            // SAFETY: all are written by the call alone.
            check(unsafe { egret_mpi_next(&mut come, &mut from, &mut tag, &mut count, &mut message) })?;
            if come == 0 {
                break;
            }
            let mut receiving =
                Receiving { request: null_mut(), bytes: vec![0; count as usize], is_last: tag == LAST };
            let bytes = receiving.bytes.as_mut_ptr().cast();
            // SAFETY: the message is that of the call before, and used here only; the bytes are as many as it has, and stay where they are until it is done.
            check(unsafe { egret_mpi_receive(message, bytes, count, &mut receiving.request) })?;
            self.receiving[from as usize].push_back(receiving);
        }
        for from in 0..self.count {
            while let Some(first) = self.receiving[from].front() {
                if !done(first.request)? {
                    break;
                }
                let Some(Receiving { bytes, is_last, .. }) = self.receiving[from].pop_front() else {
                    break;
                };
                let parts = &mut self.parts[from];
                let whole = if parts.is_empty() {
                    bytes
                } else {
                    parts.extend_from_slice(&bytes);
                    std::mem::take(parts)
                };
                if is_last {
                    return Ok(Some((from, whole)));
                }
                *parts = whole;
            }
        }
        Ok(None)
    }

    /// Whether all that was sent has left this process.
    ///
    /// # Errors
    /// MPI has one.
    pub fn sent(&mut self) -> Result<bool, Failed> {
        // In order: a part that is done may be given up only when those before it are.
        let mut done_until = 0;
        while let Some(sending) = self.sending.get(done_until) {
            match done(sending.request) {
                Ok(true) => done_until += 1,
                Ok(false) => break,
                Err(e) => {
                    self.sending.drain(..done_until);
                    return Err(e);
                }
            }
        }
        self.sending.drain(..done_until);
        Ok(self.sending.is_empty())
    }

    /// End. Waits until all ranks have come to it, and so is for those that have nothing left to say.
    ///
    /// # Errors
    /// MPI has one.
    pub fn end(mut self) -> Result<(), Failed> {
        while !self.sent()? {
            std::thread::yield_now();
        }
        // SAFETY: the world has started, and has not ended.
        check(unsafe { egret_mpi_end() })
    }

    /// End all ranks, whatever they do.
    pub fn abort(&mut self, code: u8) -> ! {
        // SAFETY: the world has started, and has not ended.
        unsafe { egret_mpi_abort(code.into()) };
        std::process::abort()
    }
}

/// Whether a request is done, after which it is none any more.
fn done(request: *mut c_void) -> Result<bool, Failed> {
    let mut done = 0;
    // SAFETY: it is a request that was not done before: whoever asks forgets those that are.
    check(unsafe { egret_mpi_done(request, &mut done) })?;
    Ok(done != 0)
}

impl Drop for World {
    /// What MPI still reads or writes stays where it is.
    fn drop(&mut self) {
        self.sending.drain(..).for_each(std::mem::forget);
        self.receiving.iter_mut().flat_map(|queue| queue.drain(..)).for_each(std::mem::forget);
    }
}
