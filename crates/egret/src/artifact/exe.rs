//! The C program around a model: a committed template behind a few definitions.

use crate::error::ErrorKind;
use egret_loop::Program;

/// The program, the same for every model.
const MAIN: &str = include_str!("../templates/main.c");

/// C99 source of the executable of a model with embedded weights; it includes `<m>.h`.
pub fn main_c(program: &Program) -> String {
    let m = &program.name;
    let no_memory = ErrorKind::Memory.exit_code();
    format!(
        "#include \"{m}.h\"\n#define MODEL_NAME \"{m}\"\n#define MODEL_INFO {m}_info\n#define MODEL_BIND_CALL(w) {m}_bind((w), NULL, 0)\n#define MODEL_RUN {m}_run\n#define MODEL_PLAN {m}_plan\n#define MODEL_SHAPE {m}_shape\n#define EXIT_NO_MEMORY {no_memory}\n\n{MAIN}"
    )
}
