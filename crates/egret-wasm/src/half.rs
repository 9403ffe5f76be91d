//! f16 from and to f32, by integer arithmetic: WebAssembly has no such conversion.

use egret_loop::small_floats::{self, SmallFloat};
use egret_loop::{Arith, BinOp, Cmp, Elem, Ty, UnOp};

use crate::error::{Result, WasmError, broken};
use crate::writer::{Value, Writer};

/// A value with its type.
#[derive(Copy, Clone)]
struct Typed {
    value: Value,
    ty: Ty,
}

/// Arithmetic on values. The first error is kept; what comes after it is of no use.
struct Half<'w> {
    e: &'w mut Writer,
    error: Option<WasmError>,
}

impl Half<'_> {
    fn keep(&mut self, value: Result<Value>, ty: Ty, otherwise: Typed) -> Typed {
        match value {
            Ok(value) => Typed { value, ty },
            Err(e) => {
                self.error.get_or_insert(e);
                otherwise
            }
        }
    }
}

impl Arith for Half<'_> {
    type V = Typed;
    fn elem(&self, v: Typed) -> Elem {
        v.ty.elem
    }
    fn bits(&mut self, like: Typed, elem: Elem, bits: u64) -> Typed {
        let ty = like.ty.with(elem);
        let value = self.e.constant(ty, bits);
        self.keep(value, ty, like)
    }
    fn unary(&mut self, op: UnOp, x: Typed) -> Typed {
        let value = self.e.unary(op, x.ty, x.value);
        self.keep(value, x.ty, x)
    }
    fn binary(&mut self, op: BinOp, a: Typed, b: Typed) -> Typed {
        let value = self.e.binary(op, a.ty, a.value, b.value);
        self.keep(value, a.ty, a)
    }
    fn fma(&mut self, a: Typed, b: Typed, c: Typed) -> Typed {
        let product = self.binary(BinOp::Mul, a, b);
        self.binary(BinOp::Add, product, c)
    }
    fn compare(&mut self, op: Cmp, a: Typed, b: Typed) -> Typed {
        let value = self.e.compare(op, a.ty, a.value, b.value);
        self.keep(value, a.ty.with(Elem::Bool), a)
    }
    fn select(&mut self, a: Typed, b: Typed, c: Typed) -> Typed {
        let value = self.e.select(b.ty, a.value, b.value, c.value);
        self.keep(value, b.ty, b)
    }
    fn convert(&mut self, elem: Elem, x: Typed) -> Typed {
        let value = self.e.convert(x.ty, elem, x.value);
        self.keep(value, x.ty.with(elem), x)
    }
    fn bitcast(&mut self, elem: Elem, x: Typed) -> Typed {
        let ty = x.ty.with(elem);
        let value = self.e.bitcast(ty, x.value);
        self.keep(value, ty, x)
    }
    fn rarely(
        &mut self,
        _: Typed,
        _: f64,
        usual: [Typed; 2],
        _: impl FnOnce(&mut Self) -> [Typed; 2],
    ) -> [Typed; 2] {
        usual
    }
}

impl Writer {
    /// A conversion from or to f16, which stands in registers as its code, a u16 ([`egret_loop::Inst::Convert`]).
    pub(super) fn convert_half(&mut self, from: Ty, to: Elem, value: Value) -> Result<Value> {
        let mut w = Half { e: self, error: None };
        let result = match (from.elem, to) {
            (Elem::F16, Elem::F32) => {
                let code = w.convert(Elem::I32, Typed { value, ty: from.with(Elem::U16) });
                small_floats::unpack(&mut w, SmallFloat::F16, code)
            }
            (Elem::F32, Elem::F16) => {
                let code = small_floats::pack(&mut w, SmallFloat::F16, Typed { value, ty: from }, false);
                w.convert(Elem::U16, code)
            }
            _ => return Err(broken(format!("{} converted to {to}", from.elem))),
        };
        w.error.map_or(Ok(result.value), Err)
    }
}
