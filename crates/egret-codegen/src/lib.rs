//! Loop IR to machine code for the Egret compiler.

pub mod wide;
