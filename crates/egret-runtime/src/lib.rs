//! Calls compiled Egret models: C ABI types, arena, thread pool.
