//! Code for another architecture, run by an emulator: a program in C that links an object for each program, and runs it for each of its cases. Where the
//! tools are not there, a line says so.

use egret::ir::Denormals;
use egret::{Options, pipeline};
use egret_loop::Program;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// An architecture whose code an emulator runs.
#[derive(Debug)]
pub struct Emulator {
    /// The target.
    pub target: &'static str,
    /// What links for it.
    gcc: &'static str,
    /// What runs its programs, with arguments.
    qemu: &'static [&'static str],
}

/// 64-bit ARM.
pub const AARCH64: Emulator =
    Emulator { target: "aarch64", gcc: "aarch64-linux-gnu-gcc", qemu: &["qemu-aarch64"] };

/// 64-bit RISC-V, of the CPUs that code is for the one with the shortest vectors.
pub const RISCV64: Emulator = Emulator {
    target: "riscv64",
    gcc: "riscv64-linux-gnu-gcc",
    qemu: &["qemu-riscv64", "-cpu", "rv64,v=true,vlen=128"],
};

impl Emulator {
    /// Whether its tools are there, and a line where they are not: what is left out.
    pub fn is_there(&self, what: &str) -> bool {
        let missing =
            |t: &&str| !Command::new(*t).arg("--version").output().is_ok_and(|o| o.status.success());
        match [self.gcc, self.qemu[0]].into_iter().find(missing) {
            Some(tool) => {
                eprintln!("left out: {what} on {} ({tool} is not there)", self.target);
                false
            }
            None => true,
        }
    }

    /// Links files of a folder, C and objects, to `program` there.
    ///
    /// # Panics
    /// Where that fails.
    pub fn link(&self, dir: &Path, files: &[String]) {
        let linked = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-static", "-o", "program"];
        output(dir, Command::new(self.gcc).args(linked).args(files));
    }

    /// What `program` of a folder prints, for what a file there holds.
    ///
    /// # Panics
    /// Where it fails.
    pub fn run(&self, dir: &Path, args: &[&str], stdin: &str) -> Vec<u8> {
        let stdin = std::fs::File::open(dir.join(stdin)).expect("the file");
        let mut qemu = Command::new(self.qemu[0]);
        output(dir, qemu.args(&self.qemu[1..]).arg("./program").args(args).stdin(stdin))
    }
}

/// What the header of an artifact says of tensors and weights, a program's memory, and how a case tells what came of it.
const C: &str = r#"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { void *data; const int64_t *dims; uint32_t rank, dtype; } tensor;
typedef struct { const void *data; uint64_t len, check; const void *info; } weights;

static void *room(size_t bytes) {
    void *data = aligned_alloc(64, bytes / 64 * 64 + 64);
    if (!data) exit(4);
    return memset(data, 0, bytes);
}

static void input(tensor t, size_t bytes) {
    if (bytes && fread(t.data, 1, bytes, stdin) != bytes) exit(3);
}

static void give(const void *data, size_t bytes) {
    if (bytes && fwrite(data, 1, bytes, stdout) != bytes) exit(5);
}
"#;

/// What came of a case: the bytes of each output; or why there are none, a number in the data and the range `[low, high)` that it is not in.
pub type Came = Result<Vec<Vec<u8>>, [i64; 3]>;

/// Programs for an architecture, and cases of them.
pub struct Emulated {
    on: &'static Emulator,
    objects: Vec<Vec<u8>>,
    /// A function of C for each program.
    code: String,
    /// For each case its program, and the bytes of its inputs.
    cases: Vec<(usize, Vec<u8>)>,
    /// For each program the bytes of each output.
    outputs: Vec<Vec<usize>>,
}

impl Emulated {
    /// Without programs.
    pub fn new(on: &'static Emulator) -> Emulated {
        Emulated { on, objects: vec![], code: String::new(), cases: vec![], outputs: vec![] }
    }

    /// How many cases there are.
    pub fn len(&self) -> usize {
        self.cases.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.cases.is_empty()
    }

    /// Whether a program can be one of these: its dims are fixed.
    pub fn takes(program: &Program) -> bool {
        let fixed = program.inputs.iter().chain(&program.outputs).all(|p| p.const_dims().is_some());
        fixed && program.lengths.is_empty() && program.symbols.is_empty() && program.arena_size.is_none()
    }

    /// One more program, which was lowered for the architecture; its cases follow.
    ///
    /// # Panics
    /// Where it has no object, or dims that are not fixed.
    pub fn program(&mut self, program: &Program, denormals: Denormals) {
        let i = self.objects.len();
        let program = Program { name: format!("m{i}"), ..program.clone() };
        let options = Options {
            target: self.on.target.into(),
            threads: 1,
            denormals: Some(denormals),
            ..Options::default()
        };
        let object = pipeline::object(&program, &options, &pipeline::ObjectOptions::default());
        self.objects.push(object.unwrap_or_else(|e| panic!("no object for {}: {e}", self.on.target)));
        let mut code = String::new();
        let mut ports = |name: &str, ports: &[egret_loop::Port]| -> Vec<usize> {
            let (mut tensors, mut sizes) = (String::new(), vec![]);
            for (n, port) in ports.iter().enumerate() {
                let dims = port.const_dims().expect("fixed dims");
                let bytes = dims.iter().product::<i64>() as usize * port.elem_size;
                let list: Vec<String> = dims.iter().chain(&[0]).map(i64::to_string).collect();
                let _ = writeln!(code, "    static const int64_t {name}{n}[] = {{{}}};", list.join(", "));
                let _ =
                    write!(tensors, "{{room({bytes}), {name}{n}, {}, {}}}, ", dims.len(), port.onnx_dtype);
                sizes.push(bytes);
            }
            let _ = writeln!(code, "    tensor {name}[] = {{{tensors}{{0, 0, 0, 0}}}};");
            sizes
        };
        let given = ports("in", &program.inputs);
        let outputs = ports("out", &program.outputs);
        for (n, bytes) in given.iter().enumerate() {
            let _ = writeln!(code, "    input(in[{n}], {bytes});");
        }
        let mut gives = String::new();
        for (n, bytes) in outputs.iter().enumerate() {
            let _ = writeln!(gives, "    give(out[{n}].data, {bytes});");
        }
        let arena = program.arena_bytes;
        let _ = write!(
            self.code,
            "int32_t m{i}_bind(weights *, const void *, size_t);\n\
             int32_t m{i}_run(const weights *, const tensor *, tensor *, void *, size_t, const void *);\n\
             static void case{i}(void) {{\n{code}    weights w;\n    void *arena = room({arena} + 24);\n    \
             int32_t status = m{i}_bind(&w, NULL, 0);\n    if (status) exit(6);\n    \
             status = m{i}_run(&w, in, out, arena, {arena}, NULL);\n    give(&status, 4);\n    \
             if (status) {{\n        give(arena, 24);\n        return;\n    }}\n{gives}}}\n\n"
        );
        self.outputs.push(outputs);
    }

    /// One more case of the last program.
    ///
    /// # Panics
    /// Where there is none.
    pub fn case(&mut self, inputs: &[&[u8]]) {
        let program = self.objects.len().checked_sub(1).expect("a program");
        self.cases.push((program, inputs.concat()));
    }

    /// Run all: what came of each case, unless the tools are missing.
    ///
    /// # Panics
    /// Where the program does not end well.
    pub fn run(self) -> Option<Vec<Came>> {
        if !self.on.is_there(&format!("{} cases", self.len())) {
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).expect("a file");
        let calls: String = self.cases.iter().map(|(i, _)| format!("    case{i}();\n")).collect();
        let main = format!("{C}\n{}int main(void) {{\n{calls}    return 0;\n}}\n", self.code);
        file("main.c", main.as_bytes());
        let mut files = vec!["main.c".to_owned()];
        for (i, object) in self.objects.iter().enumerate() {
            files.push(format!("m{i}.o"));
            file(&format!("m{i}.o"), object);
        }
        let inputs: Vec<&[u8]> = self.cases.iter().map(|(_, inputs)| &inputs[..]).collect();
        file("inputs", &inputs.concat());
        self.on.link(dir.path(), &files);
        let got = self.on.run(dir.path(), &[], "inputs");
        let mut rest = &got[..];
        let mut take = |bytes: usize| -> Vec<u8> {
            let (taken, left) = rest.split_at_checked(bytes).expect("its whole output");
            rest = left;
            taken.to_vec()
        };
        let came = self.cases.iter().map(|(program, _)| {
            if take(4) == [0; 4] {
                return Ok(self.outputs[*program].iter().map(|bytes| take(*bytes)).collect());
            }
            let words = take(24);
            let word = |i: usize| i64::from_le_bytes(*words[8 * i..].first_chunk().expect("a word"));
            Err([word(0), word(1), word(2)])
        });
        Some(came.collect())
    }
}

/// What a command prints that must succeed.
fn output(dir: &Path, command: &mut Command) -> Vec<u8> {
    let out = command.current_dir(dir).output().expect("it starts");
    assert!(out.status.success(), "{command:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    out.stdout
}
