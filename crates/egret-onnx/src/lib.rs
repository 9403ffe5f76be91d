//! ONNX import for the Egret compiler.
