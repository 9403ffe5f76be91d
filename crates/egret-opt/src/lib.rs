//! Graph passes of the Egret compiler.
