//! Objects for other operating systems: their symbols and relocations, held against those for Linux; and a network that runs under Wine, where it and MinGW
//! are there.

use super::kit::{model, path, refused, temp, text, works};
use cranelift_object::object::{
    BinaryFormat, File, Object, ObjectSection, ObjectSymbol, RelocationTarget, SymbolKind,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// A network that tells digits, compiled for a target: its object.
fn object(target: &str) -> Vec<u8> {
    let dir = temp();
    works(&[
        "compile",
        &model("simple_cnn"),
        "--target",
        target,
        "--emit",
        "obj",
        "--out-dir",
        &path(&dir, ""),
        "--name",
        "net",
    ]);
    std::fs::read(dir.path().join("net.o")).expect("an object")
}

/// A function: its bytes, with zeros where the linker writes; and what it writes there the distance or the address of, by place.
type Function = (Vec<u8>, Vec<(u64, String)>);

/// The functions of an object by name, without what Mach-O puts before names.
fn functions(file: &File<'_>) -> BTreeMap<String, Function> {
    let plain = |name: &str| match file.format() {
        BinaryFormat::MachO => name.strip_prefix('_').expect("an underscore").to_owned(),
        _ => name.to_owned(),
    };
    let text =
        file.sections().find(|s| s.name().is_ok_and(|n| n.contains("text"))).expect("a section of code");
    let (data, base) = (text.data().expect("code"), text.address());
    let of_code = |s: &cranelift_object::object::Symbol<'_, '_>| {
        s.kind() == SymbolKind::Text && s.section_index() == Some(text.index())
    };
    let mut begins: Vec<(u64, String)> = file
        .symbols()
        .filter(of_code)
        .map(|s| (s.address() - base, plain(s.name().expect("a name"))))
        .collect();
    begins.sort();
    let ends: Vec<u64> = begins.iter().skip(1).map(|b| b.0).chain([data.len() as u64]).collect();
    let mut relocations: Vec<(u64, String, u8)> = vec![];
    for (at, relocation) in text.relocations() {
        let RelocationTarget::Symbol(symbol) = relocation.target() else {
            panic!("a relocation to {:?}", relocation.target())
        };
        let symbol = file.symbol_by_index(symbol).expect("a symbol");
        assert!(
            symbol.is_definition() || symbol.kind() == SymbolKind::Section,
            "{:?} is not defined here",
            symbol.name()
        );
        let size = if relocation.size() == 64 { 8 } else { 4 };
        relocations.push((at, plain(symbol.name().expect("a name")), size));
    }
    relocations.sort();
    let mut found = BTreeMap::new();
    for ((begin, name), end) in begins.into_iter().zip(ends) {
        let mut bytes = data[begin as usize..end as usize].to_vec();
        let within = relocations.iter().filter(|(at, ..)| (begin..end).contains(at));
        let mut places = vec![];
        for (at, symbol, size) in within {
            let at = (at - begin) as usize;
            bytes[at..at + usize::from(*size)].fill(0);
            places.push((at as u64, symbol.clone()));
        }
        // What is between functions is no matter.
        bytes.truncate(bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1));
        found.insert(name, (bytes, places));
    }
    found
}

/// The exported symbols; no symbol may be one of other objects.
fn exported(file: &File<'_>) -> Vec<String> {
    let undefined = |s: &cranelift_object::object::Symbol<'_, '_>| {
        s.is_undefined() && s.name().is_ok_and(|n| !n.is_empty())
    };
    let asked: Vec<String> = file.symbols().filter(undefined).map(|s| format!("{:?}", s.name())).collect();
    assert!(asked.is_empty(), "asks for {asked:?}");
    let global = file.symbols().filter(|s| s.is_global() && s.is_definition());
    let mut names: Vec<String> = global.map(|s| s.name().expect("a name").to_owned()).collect();
    names.sort();
    names
}

/// Between generated functions nothing differs from Linux. On Windows alone those differ that others call or that call others: the convention is another there.
#[test]
fn objects_of_all_systems_have_the_same_code() {
    for (target, format, like, sign) in [
        ("x86-64-v3-macos", BinaryFormat::MachO, "x86-64-v3-linux", "_"),
        ("x86_64-apple-darwin", BinaryFormat::MachO, "x86-64-v2-linux", "_"),
        ("aarch64-apple-darwin", BinaryFormat::MachO, "aarch64-linux", "_"),
        ("x86-64-v3-windows", BinaryFormat::Coff, "x86-64-v3-linux", ""),
        ("x86_64-pc-windows-msvc", BinaryFormat::Coff, "x86-64-v2-linux", ""),
    ] {
        let (bytes, linux) = (object(target), object(like));
        let (file, linux) = (File::parse(&*bytes).expect(target), File::parse(&*linux).expect(like));
        assert_eq!((file.format(), linux.format()), (format, BinaryFormat::Elf), "{target}");
        let want = ["net_bind", "net_info", "net_plan", "net_run", "net_shape"];
        assert_eq!(exported(&linux), want);
        assert_eq!(exported(&file), want.map(|name| format!("{sign}{name}")), "{target}");
        let (mine, theirs) = (functions(&file), functions(&linux));
        assert!(
            mine.keys().eq(theirs.keys()) && mine.keys().any(|k| k.contains("_k0_")),
            "{:?}",
            mine.keys()
        );
        let foreign = |name: &str| {
            ["bind", "plan", "run", "shape", "chunk", "run_body"].iter().any(|f| name == format!("net_{f}"))
        };
        for (name, mine) in mine {
            let same = mine == theirs[&name];
            let other = format == BinaryFormat::Coff && foreign(&name);
            assert!(same || other, "{name} of {target} differs from {like}");
            assert!(
                !(same && other && name != "net_run_body"),
                "{name} of {target} is as on Linux, whose callers call in another way"
            );
        }
        // The weights are there whole.
        let weights = |file: &File<'_>| {
            let section =
                file.sections().find(|s| s.name().is_ok_and(|n| n.contains("weights"))).expect("weights");
            (section.data().expect("bytes").to_vec(), section.align() % 64)
        };
        assert_eq!(weights(&file), weights(&linux), "{target}");
    }
}

#[test]
fn what_cannot_be_linked_here_is_refused() {
    let dir = temp();
    let net = model("simple_cnn");
    let compile = |target: &str, emit: &str, parts: &[&str]| {
        let code = if parts[0] == "no code" { 2 } else { 1 };
        refused(
            &["compile", &net, "--target", target, "--emit", emit, "--out-dir", &path(&dir, "")],
            code,
            parts,
        );
    };
    compile("x86-64-v2-windows", "exe", &["x86_64-pc-windows-msvc", "--emit obj or lib"]);
    compile("aarch64-macos", "so", &["aarch64-apple-darwin"]);
    compile("aarch64-windows", "obj", &["no code", "aarch64-macos"]);
    compile("x86-64-v2-linux,x86-64-v3-windows", "obj", &["different systems"]);
    refused(
        &["run", &net, "--target", "x86-64-v2-windows", "--random", "1"],
        1,
        &["cannot run on this machine"],
    );
}

/// Sets the registers that Windows' functions keep, calls `net_call`'s function, and counts those that it has changed.
const KEPT: &str = r#"
#include "net.h"
#include <stdio.h>
#include <string.h>
static _Alignas(64) unsigned char arena[NET_ARENA_BYTES];
static int kept(const egret_weights *w, const egret_tensor *in, egret_tensor *out, const egret_env *env) {
    double before[10], after[10];
    void *volatile run = (void *)net_run;
    int i, wrong = 0, e = 0;
    uint64_t rsi = 0, rdi = 0;
    void *args[6];
    for (i = 0; i < 10; i++) before[i] = i + 0.5;
    args[0] = (void *)w; args[1] = (void *)in; args[2] = out; args[3] = arena; args[4] = (void *)(uintptr_t)sizeof arena; args[5] = (void *)env;
    __asm__ volatile(
        "movsd 0(%[b]), %%xmm6\n movsd 8(%[b]), %%xmm7\n movsd 16(%[b]), %%xmm8\n movsd 24(%[b]), %%xmm9\n movsd 32(%[b]), %%xmm10\n"
        "movsd 40(%[b]), %%xmm11\n movsd 48(%[b]), %%xmm12\n movsd 56(%[b]), %%xmm13\n movsd 64(%[b]), %%xmm14\n movsd 72(%[b]), %%xmm15\n"
        "mov %%rsp, %%r14\n sub $64, %%rsp\n and $-16, %%rsp\n"
        "mov 0(%[g]), %%rcx\n mov 8(%[g]), %%rdx\n mov 16(%[g]), %%r8\n mov 24(%[g]), %%r9\n"
        "mov 32(%[g]), %%rax\n mov %%rax, 32(%%rsp)\n mov 40(%[g]), %%rax\n mov %%rax, 40(%%rsp)\n"
        "mov $0x1234567, %%rsi\n mov $0x7654321, %%rdi\n mov %[run], %%rax\n call *%%rax\n"
        "mov %%r14, %%rsp\n"
        "movsd %%xmm6, 0(%[a])\n movsd %%xmm7, 8(%[a])\n movsd %%xmm8, 16(%[a])\n movsd %%xmm9, 24(%[a])\n movsd %%xmm10, 32(%[a])\n"
        "movsd %%xmm11, 40(%[a])\n movsd %%xmm12, 48(%[a])\n movsd %%xmm13, 56(%[a])\n movsd %%xmm14, 64(%[a])\n movsd %%xmm15, 72(%[a])\n"
        : "=&a"(e), "=&S"(rsi), "=&D"(rdi)
        : [b] "r"(before), [a] "r"(after), [g] "r"(args), [run] "r"(run)
        : "rcx", "rdx", "r8", "r9", "r10", "r11", "r14", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
          "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    if (e) return -1;
    for (i = 0; i < 10; i++) wrong += memcmp(&before[i], &after[i], 8) != 0;
    return wrong + (rsi != 0x1234567) + (rdi != 0x7654321);
}
static int tasks, kernels;
static void parallel(void *ctx, void (*body)(void *arg, int64_t i), void *arg, int64_t n) {
    int64_t i;
    (void)ctx;
    for (i = n; i-- > 0; tasks++) body(arg, i);
}
static void profile(void *ctx, uint32_t kernel, uint32_t phase) {
    if (ctx != &kernels || kernel >= net_info.n_kernels || phase > 1) tasks = -1000000;
    kernels++;
}
int main(void) {
    egret_weights w;
    egret_env env = {NULL, parallel, &kernels, profile, 4, 0};
    static float image[NET_IN0_ELEMENTS], one[NET_OUT0_ELEMENTS], two[NET_OUT0_ELEMENTS];
    static const int64_t in[] = {1, 1, 28, 28}, outs[] = {1, 10};
    egret_tensor x = {image, in, 4, 1}, y = {one, outs, 2, 1};
    size_t i;
    for (i = 0; i < NET_IN0_ELEMENTS; i++) image[i] = (float)(i % 17) / 17;
    if (net_bind(&w, NULL, 0)) return 1;
    printf("%d changed", kept(&w, &x, &y, NULL));
    y.data = two;
    printf(", %d with callbacks", kept(&w, &x, &y, &env));
    printf(", %s, %s\n", memcmp(one, two, sizeof one) ? "other bits" : "same bits", tasks > 0 && kernels == 2 * (int)net_info.n_kernels ? "called" : "not called");
    return 0;
}
"#;

/// Wine, as Debian names it.
fn wine() -> Option<&'static str> {
    let starts = |c: &&str| Command::new(c).arg("--version").output().is_ok_and(|o| o.status.success());
    ["wine64", "/usr/lib/wine/wine64", "wine"].into_iter().find(starts)
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_network_runs_on_windows() {
    const GCC: &str = "x86_64-w64-mingw32-gcc";
    let gcc = Command::new(GCC).arg("--version").output().is_ok_and(|o| o.status.success());
    let Some(wine) = wine().filter(|_| gcc) else {
        eprintln!("left out: a network on Windows ({GCC} or wine64 is not there)");
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let says = |command: &mut Command| {
        let out = command.env("WINEDEBUG", "-all").output().expect("it starts");
        assert!(out.status.success(), "{command:?}: {}{}", text(&out.stdout), text(&out.stderr));
        text(&out.stdout).replace("\r\n", "\n")
    };
    let prefix = temp();
    for target in ["x86_64-pc-windows-gnu", "x86-64-v2-windows,x86-64-v3-windows"] {
        let dir = temp();
        let at = |name: &str| path(&dir, name);
        let digits = ["images", "labels"].map(|f| root.join(format!("fixtures/digits/{f}.npy")));
        for name in ["simple_cnn", "net"] {
            works(&[
                "compile",
                &model("simple_cnn"),
                "--target",
                target,
                "--out-dir",
                &at(""),
                "--name",
                name,
            ]);
        }
        std::fs::write(at("kept.c"), KEPT).expect("written");
        let link = |main: &str, library: &str, to: &str| {
            says(Command::new(GCC).args([
                "-O2",
                "-std=gnu11",
                "-I",
                &at(""),
                main,
                &at(library),
                "-o",
                &at(to),
            ]))
        };
        link(&root.join("examples/c-make/main.c").display().to_string(), "libsimple_cnn.a", "digits.exe");
        link(&at("kept.c"), "libnet.a", "kept.exe");
        let run = |program: &str, args: &[std::path::PathBuf]| {
            says(Command::new(wine).arg(at(program)).args(args).env("WINEPREFIX", prefix.path()))
        };
        assert_eq!(run("digits.exe", &digits), "980 of 1000 right\n", "{target}");
        let said = run("kept.exe", &[]);
        assert!(said.starts_with("0 changed, 0 with callbacks, same bits, "), "{target}: {said}");
        // Kernels are those of a level where there are several.
        assert!(target.contains(',') || said.ends_with(", called\n"), "{said}");
    }
}
