//! Tasks are independent: the interpreter finds a task that touches what another task of the call writes.

use egret_loop::interp::{Arithmetic, InterpError, Pointer, run_kernel};
use egret_loop::text::parse_kernel;
use egret_loop::{Arg, Buffer, BufferId, Call, Elem, KernelId, Port, Program, Storage, interp};

/// Runs a kernel of two parameters, four elements of i32 each, whose tasks do this; `apart` bytes lie between the begins of the two.
fn run(tasks: i64, body: &str, apart: usize) -> Result<(), InterpError> {
    let text =
        format!("kernel k(p0: i32[4] read, p1: i32[4] readwrite) tasks v0 in {tasks} {{\n{body}\n}}");
    let kernel = parse_kernel(&text).unwrap();
    let args = [Pointer { memory: 0, offset: 0 }, Pointer { memory: 0, offset: apart }];
    run_kernel(&kernel, &mut [vec![0; 64]], &args, Arithmetic::IEEE)
}

/// What is broken, in words.
fn broken(tasks: i64, body: &str, apart: usize) -> String {
    match run(tasks, body, apart) {
        Err(InterpError::Broken(m)) => m,
        other => panic!("{other:?} of {body}"),
    }
}

#[test]
fn no_two_tasks_write_one_byte_not_even_equal_bytes() {
    let same = "v1 = const 0 : i64\nv2 = const 7 : i32\nstore p1[v1], v2";
    assert_eq!(broken(2, same, 16), "task 1 writes what task 0 has written: tasks are independent");
    assert_eq!(run(1, same, 16), Ok(()), "a task alone");
    let twice = "v1 = const 7 : i32\nstore p1[v0], v1\nstore p1[v0], v1";
    assert_eq!(run(4, twice, 16), Ok(()), "one task may write an element twice");
    // The last vector of a task begins in the next task's elements.
    let beyond = "v1 = affine 1*v0 : i64\nv2 = const 7 : i32x2\nstore p1[v1], v2";
    assert!(broken(3, beyond, 16).starts_with("task 1 writes what task 0 has written"));
}

#[test]
fn no_task_reads_what_another_writes() {
    let before = "v1 = affine 1*v0 : i64\nv2 = load p0[v1] : i32\nstore p1[v0], v2";
    assert_eq!(run(4, before, 16), Ok(()));
    assert_eq!(run(4, before, 0), Ok(()), "in place, each task its own");
    assert_eq!(broken(4, before, 4), "task 1 reads what task 0 has written: tasks are independent");
    let after = "v1 = affine v0 + 1 : i64\nv2 = load p0[v1] : i32\nstore p1[v0], v2";
    assert_eq!(broken(3, after, 0), "task 1 writes what task 0 has read: tasks are independent");
    let all = "v1 = const 3 : i64\nv2 = load p0[v1] : i32\nstore p1[v0], v2";
    assert_eq!(broken(4, all, 0), "task 3 writes what several tasks have read: tasks are independent");
}

/// Calls follow one another: a later one may touch all that an earlier one has written.
#[test]
fn tasks_of_different_calls_share_what_they_like() {
    let text = "kernel k(p0: i32[4] read, p1: i32[4] write) tasks v0 in 4 {\nv1 = load p0[v0] : i32\nstore p1[v0], v1\n}";
    let backwards = "kernel b(p0: i32[4] read, p1: i32[4] write) tasks v0 in 4 {\nv1 = affine -1*v0 + 3 : i64\nv2 = load p0[v1] : i32\nstore p1[v0], v2\n}";
    let port = |name: &str| Port {
        name: name.into(),
        onnx_dtype: 6,
        dims: vec![4.into()],
        elem_size: 4,
        found: None,
        bound: None,
    };
    let arg = |b| Arg { buffer: BufferId(b), offset: 0 };
    let program = Program {
        name: "two".into(),
        inputs: vec![port("x")],
        outputs: vec![port("y")],
        buffers: [Storage::Input(0), Storage::Arena(0), Storage::Output(0)]
            .map(|s| Buffer::new(Elem::I32, 4, s))
            .into(),
        kernels: vec![parse_kernel(text).unwrap(), parse_kernel(backwards).unwrap()],
        calls: vec![
            Call::new(KernelId(0), vec![arg(0), arg(1)]),
            Call::new(KernelId(1), vec![arg(1), arg(2)]),
        ],
        arena_bytes: 64,
        ..Program::default()
    };
    let x: Vec<u8> = [1i32, 2, 3, 4].iter().flat_map(|v| v.to_le_bytes()).collect();
    let want: Vec<u8> = [4i32, 3, 2, 1].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(interp::run(&program, &[&x]), Ok(vec![want]));
}
