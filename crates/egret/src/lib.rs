//! The Egret ONNX compiler as a library.
