//! Loop IR of the Egret compiler: loop nests over buffers as pure data, and their interpreter.
