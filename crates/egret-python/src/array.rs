//! Views of bytes between Python and compiled code: [`Elements`] reads what an object exports by the buffer protocol, [`Room`]
//! exports what a model wrote, [`load_file`] takes code from a file. All `unsafe` of the crate is here.

use crate::port::name_of_element;
use egret::saved::About;
use egret::{AlignedBytes, Native};
use pyo3::buffer::{ElementType, PyUntypedBuffer};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;
use std::ffi::c_int;
use std::path::Path;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The elements of an array, where they are.
pub(crate) struct Elements {
    buffer: PyUntypedBuffer,
    /// Whether the array has no axis. PyO3 has no view of such ones: the buffer then has one, of length 1.
    scalar: bool,
}

impl Elements {
    /// What an object exports.
    ///
    /// # Errors
    /// It has no buffer protocol.
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Elements> {
        match PyUntypedBuffer::get(object) {
            Ok(buffer) => Ok(Elements { buffer, scalar: false }),
            Err(e) => Elements::of_scalar(object).map_err(|_| e),
        }
    }

    /// What an object without axes exports.
    #[cold]
    fn of_scalar(object: &Bound<'_, PyAny>) -> PyResult<Elements> {
        let numpy = object.py().import("numpy")?;
        let array = numpy.call_method1("asarray", (PyMemoryView::from(object)?,))?;
        // It fails where there is more than one element.
        let buffer = PyUntypedBuffer::get(&array.call_method1("reshape", (1,))?)?;
        Ok(Elements { buffer, scalar: true })
    }

    /// NumPy's name of their dtype, else the format as the buffer protocol spells it.
    pub fn dtype(&self) -> Result<&'static str, String> {
        let format = self.buffer.format();
        let spelt = || format.to_string_lossy().into_owned();
        let swapped: &[u8] = if cfg!(target_endian = "little") { b">!" } else { b"<" };
        if format.to_bytes().first().is_some_and(|c| swapped.contains(c)) {
            return Err(spelt());
        }
        name_of_element(ElementType::from_format(format)).ok_or_else(spelt)
    }

    /// Their shape.
    pub fn shape(&self) -> &[usize] {
        if self.scalar { &[] } else { self.buffer.shape() }
    }

    /// Whether compiled code can read them where they are: one after the other, each at a multiple of its size.
    pub fn is_plain(&self) -> bool {
        self.buffer.is_c_contiguous()
            && self.buffer.suboffsets().is_none()
            && (self.buffer.buf_ptr() as usize).is_multiple_of(self.buffer.item_size().max(1))
    }

    /// Their bytes; none unless they [are plain](Elements::is_plain).
    pub fn bytes(&self) -> &[u8] {
        let (start, len) = (self.buffer.buf_ptr().cast::<u8>(), self.buffer.len_bytes());
        if start.is_null() || !self.is_plain() {
            return &[];
        }
        // SAFETY: the exporter keeps these `len` contiguous bytes in place until the buffer is released, which `self` owns. Python
        // cannot say that nobody writes to them meanwhile: docs/PYTHON.md asks the caller not to, as with every array that
        // is read while the GIL is released; what a model computes of torn numbers is wrong, and no more.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// Give them back, by a thread that holds the GIL already.
    pub fn release(self, py: Python<'_>) {
        self.buffer.release(py);
    }
}

/// Memory that a model wrote an output to, and NumPy's array is a view of.
#[pyclass(frozen, module = "egret._native")]
pub(crate) struct Room {
    /// Where the bytes begin. Nothing but exported views touches them.
    start: AtomicPtr<u8>,
    bytes: AlignedBytes,
}

impl Room {
    pub fn new(mut bytes: AlignedBytes) -> Room {
        Room { start: AtomicPtr::new(bytes.as_mut_ptr()), bytes }
    }
}

#[pymethods]
impl Room {
    /// # Safety
    /// `view` is a `Py_buffer` to fill, as the interpreter gives it.
    unsafe fn __getbuffer__(
        slf: &Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let room = slf.get();
        let start = room.start.load(Ordering::Relaxed).cast();
        // An allocation has at most `isize::MAX` bytes.
        let len = room.bytes.len() as ffi::Py_ssize_t;
        // SAFETY: `view` is the interpreter's; the bytes live as long as `slf`, which the view keeps alive.
        match unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, len, 0, flags) } {
            0 => Ok(()),
            _ => Err(PyErr::fetch(slf.py())),
        }
    }
}

/// A module from a file, and what is told of it.
pub(crate) fn load_file(path: &Path, threads: usize) -> egret::Result<(Native, About)> {
    // SAFETY: `egret.load` asks its caller for files of those whose programs they would run, and that nobody writes to them meanwhile:
    // `save` replaces a file and never writes to the one that is there.
    unsafe { Native::load(path, threads) }
}
