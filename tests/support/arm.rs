//! Code for AArch64, run by an emulator: a program in C that links an object for each case. Where the tools are not there, a line says so.

use egret::ir::Value;
use egret::{Options, pipeline};
use egret_loop::Program;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// A compiler that links for AArch64, and what runs its programs.
const TOOLS: [&str; 2] = ["aarch64-linux-gnu-gcc", "qemu-aarch64"];

/// What the header of an artifact says of tensors and weights, and a case's memory.
const C: &str = r#"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct { void *data; const int64_t *dims; uint32_t rank, dtype; } tensor;
typedef struct { const void *data; uint64_t len, check; const void *info; } weights;

static void *room(size_t bytes) { return aligned_alloc(64, bytes / 64 * 64 + 64); }

static void *input(size_t bytes) {
    void *data = room(bytes);
    if (fread(data, 1, bytes, stdin) != bytes) exit(3);
    return data;
}
"#;

/// Programs of one output of f32, and what they are to give.
#[derive(Default)]
pub struct Emulated {
    objects: Vec<Vec<u8>>,
    /// A function of C for each.
    code: String,
    stdin: Vec<u8>,
    want: Vec<Vec<u64>>,
}

impl Emulated {
    /// How many programs there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// One more program, which was lowered for AArch64; `want` are the bits of its output's elements as f64, one zero for both.
    ///
    /// # Panics
    /// Where it has no object, or an input is no tensor.
    pub fn add(&mut self, program: &Program, inputs: &[Value], (shape, want): (&[usize], &[u64])) {
        let i = self.len();
        let program = Program { name: format!("m{i}"), ..program.clone() };
        let options = Options { target: "aarch64".into(), threads: 1, ..Options::default() };
        let object = pipeline::object(&program, &options, &pipeline::ObjectOptions::default());
        self.objects.push(object.expect("an object"));
        let (mut dims, mut tensors) = (String::new(), String::new());
        for (n, value) in inputs.iter().enumerate() {
            let tensor = value.as_tensor().expect("a tensor");
            let (shape, bytes) = (tensor.shape(), tensor.bytes());
            dims += &array(&format!("d{n}"), shape);
            let _ = write!(tensors, "{{input({}), d{n}, {}, 1}}, ", bytes.len(), shape.len());
            self.stdin.extend(bytes);
        }
        let (arena, bytes, out) = (program.arena_bytes, 4 * want.len(), array("d", shape));
        let _ = write!(
            self.code,
            "int32_t m{i}_bind(weights *, const void *, size_t);\n\
             int32_t m{i}_run(const weights *, const tensor *, tensor *, void *, size_t, const void *);\n\
             static int case{i}(void) {{\n{dims}{out}    tensor in[] = {{{tensors}}};\n    \
             tensor out[] = {{{{room({bytes}), d, {}, 1}}}};\n    weights w;\n    \
             if (m{i}_bind(&w, NULL, 0) || m{i}_run(&w, in, out, room({arena}), {arena}, NULL)) return 1;\n    \
             return fwrite(out[0].data, 1, {bytes}, stdout) != {bytes};\n}}\n\n",
            shape.len()
        );
        self.want.push(want.to_vec());
    }

    /// Run all, unless the tools are missing.
    ///
    /// # Panics
    /// Where one gives something else.
    pub fn check(self) {
        let missing =
            |t: &&&str| !Command::new(**t).arg("--version").output().is_ok_and(|o| o.status.success());
        if let Some(tool) = TOOLS.iter().find(missing) {
            eprintln!("left out: {} programs on AArch64 ({tool} is not there)", self.len());
            return;
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        let calls: Vec<String> = (0..self.len()).map(|i| format!("case{i}()")).collect();
        let main = format!("{C}\n{}int main(void) {{ return {}; }}\n", self.code, calls.join(" || "));
        let mut files = vec!["main.c".to_owned()];
        std::fs::write(dir.path().join("main.c"), main).expect("a file");
        for (i, object) in self.objects.iter().enumerate() {
            files.push(format!("m{i}.o"));
            std::fs::write(dir.path().join(format!("m{i}.o")), object).expect("a file");
        }
        std::fs::write(dir.path().join("inputs"), &self.stdin).expect("a file");
        let linked = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-static", "-o", "program"];
        output(dir.path(), Command::new(TOOLS[0]).args(linked).args(&files));
        let inputs = std::fs::File::open(dir.path().join("inputs")).expect("the file");
        let got = output(dir.path(), Command::new(TOOLS[1]).arg("program").stdin(inputs));
        let numbers = got.as_chunks().0.iter().map(|b| (f64::from(f32::from_le_bytes(*b)) + 0.0).to_bits());
        let numbers: Vec<u64> = numbers.collect();
        let mut at = 0;
        for (i, want) in self.want.iter().enumerate() {
            let got = numbers.get(at..at + want.len()).expect("its whole output");
            if let Some(n) = (0..want.len()).find(|&n| want[n] != got[n]) {
                panic!(
                    "program {i} on AArch64, element {n} of {}: {:x}, not {:x}",
                    want.len(),
                    got[n],
                    want[n]
                );
            }
            at += want.len();
        }
    }
}

/// Dims as an array of C.
fn array(name: &str, dims: &[usize]) -> String {
    let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
    format!("    static const int64_t {name}[] = {{{}}};\n", dims.join(", "))
}

/// What a command prints that must succeed.
fn output(dir: &Path, command: &mut Command) -> Vec<u8> {
    let out = command.current_dir(dir).output().expect("it starts");
    assert!(out.status.success(), "{command:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    out.stdout
}
