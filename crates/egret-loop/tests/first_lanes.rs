//! The first lanes of vectors in memory: no element beyond them is touched, in whole vectors and in parts of them.

use egret_loop::interp::{Arithmetic, InterpError, Pointer, run_kernel};
use egret_loop::text::{parse_kernel, print};
use egret_loop::{Kernel, narrow};

/// The first 5 of 8 elements, and what they are where a mask of as many holds.
fn first(count: usize) -> Kernel {
    let text = format!(
        "kernel k(p0: f32[5] read, p1: f32[5] write, p2: f32[8] write) tasks v0 in 1 {{
           v1 = load p0[v0] first {count} : f32x8
           v2 = first {count} : boolx8
           v3 = const 7.0 : f32x8
           v4 = select v2, v1, v3 : f32x8
           store p1[v0], v3 first {count}
           store p2[v0], v4
         }}"
    );
    parse_kernel(&text).unwrap()
}

fn run(kernel: &Kernel) -> Result<[Vec<f32>; 2], InterpError> {
    let bytes = |v: &[f32]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let mut memories = vec![bytes(&[1.0, 2.0, 3.0, 4.0, 5.0]), bytes(&[-1.0; 5]), bytes(&[-1.0; 8])];
    let args = [0, 1, 2].map(|memory| Pointer { memory, offset: 0 });
    run_kernel(kernel, &mut memories, &args, Arithmetic::IEEE)?;
    let floats = |m: &[u8]| m.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    Ok([floats(&memories[1]), floats(&memories[2])])
}

#[test]
fn no_element_beyond_the_first_is_touched() {
    for count in 1..=5 {
        let kernel = first(count);
        assert_eq!(parse_kernel(&print(&kernel)).unwrap(), kernel);
        let written = [vec![7.0; count], vec![-1.0; 5 - count]].concat();
        let read: Vec<f32> = (1..=8).map(|i| if i <= count { i as f32 } else { 7.0 }).collect();
        for bytes in [64, 32, 16] {
            let kernel = narrow::narrow(&kernel, bytes).unwrap();
            assert_eq!(run(&kernel).unwrap(), [written.clone(), read.clone()], "{count} in {bytes} bytes");
        }
    }
}

#[test]
fn what_is_left_over_of_a_whole_vector_is_narrowed_to_vectors_and_a_rest() {
    let narrower = print(&narrow::narrow(&first(5), 16).unwrap());
    for part in [": f32x4\n", "first 1 : f32x4", "first 1 : boolx4", "const true : boolx4"] {
        assert!(narrower.contains(part), "{part} in {narrower}");
    }
    let within_one = print(&narrow::narrow(&first(3), 16).unwrap());
    assert!(
        within_one.contains("first 3 : f32x4") && within_one.contains("const 0.0 : f32x4"),
        "{within_one}"
    );
}

#[test]
fn counts_are_of_the_lanes() {
    for (count, message) in [(0, "the first 0 of 8 lanes"), (9, "the first 9 of 8 lanes")] {
        match run(&first(count)) {
            Err(InterpError::Broken(m)) => assert!(m.contains(message), "{m}"),
            other => panic!("{count}: {other:?}"),
        }
    }
    assert!(matches!(run(&first(6)), Err(InterpError::Broken(_))), "an element beyond the buffer");
}
