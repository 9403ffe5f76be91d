//! The bytes of the code of nonzeros, as a disassembler reads them.

use super::*;
use egret_loop::{Param, Place, Second, V};
use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};

fn text(code: &[u8]) -> Vec<String> {
    let mut formatter = IntelFormatter::new();
    let one = |i: iced_x86::Instruction| {
        let mut out = String::new();
        formatter.format(&i, &mut out);
        out
    };
    Decoder::new(64, code, DecoderOptions::NONE).iter().map(one).collect()
}

fn nonzeros(steps: impl IntoIterator<Item = (i64, u32)>, runs: u32) -> Nonzeros {
    let steps = steps.into_iter().map(|(b, rows)| NonzeroStep { b, rows, mask: None }).collect();
    Nonzeros { steps, runs, second: None, masks: None }
}

/// A disassembler reads the bytes as what they are meant to be.
#[test]
fn bytes_are_these_instructions() {
    let mut sums = Sums::new(WideIsa::Avx512, false, None);
    let steps = [(0, 0b1), (16, 0b1 << 30), (49, 0b1 << 15), (-16, 0b1 << 16)];
    assert_eq!(sums.emit(3, &nonzeros(steps, 1), 0).unwrap(), 3);
    assert_eq!(
        text(&sums.code),
        [
            "lea r8,[7]",
            "mov eax,esi",
            "and eax,0",
            "add r8,rax",
            "vpxord zmm0,zmm0,zmm0",
            "vpxord zmm1,zmm1,zmm1",
            "vpxord zmm2,zmm2,zmm2",
            "vmovups zmm31,[rsi]",
            "vfmadd231ps zmm0,zmm31,[rdi]{1to16}",
            "vmovups zmm31,[rsi+40h]",
            "vfmadd231ps zmm30,zmm31,[rdi+4]{1to16}",
            "vmovups zmm31,[rsi+0C4h]",
            "vfmadd231ps zmm15,zmm31,[rdi+8]{1to16}",
            "prefetcht0 [r8]",
            "vmovups zmm31,[rsi-40h]",
            "vfmadd231ps zmm16,zmm31,[rdi+0Ch]{1to16}",
        ]
    );
    let mut masked = Sums::new(WideIsa::Avx512, false, Some(5));
    masked.emit(0, &nonzeros([], 1), 0).unwrap();
    masked.load_evex(3, None);
    (0..31).for_each(|r| masked.zero(r));
    let read = text(&masked.code);
    assert_eq!(read[4..7], ["mov eax,1Fh", "kmovw k1,eax", "vmovups zmm31{k1}{z},[rsi+0Ch]"]);
    for (r, line) in read[7..].iter().enumerate() {
        assert_eq!(*line, format!("vpxord zmm{r},zmm{r},zmm{r}"));
    }
}

/// Of quads the operation is another one, with the same operands.
#[test]
fn quads_are_dot_products() {
    let mut sums = Sums::new(WideIsa::Avx512, true, None);
    sums.emit(31, &nonzeros([(0, 1 << 30 | 0b1)], 1), 0).unwrap();
    let read = text(&sums.code);
    let wanted =
        ["vmovups zmm31,[rsi]", "vpdpbusd zmm0,zmm31,[rdi]{1to16}", "vpdpbusd zmm30,zmm31,[rdi+4]{1to16}"];
    let sums: Vec<&String> = read.iter().filter(|l| l.contains("zmm31") && !l.contains("xord")).collect();
    assert_eq!(sums, wanted);
}

/// Masks that have no register of their own are loaded where the step before has another one.
#[test]
fn masks_have_registers() {
    let masks = [Some(0), None, Some(5), Some(6), Some(6), Some(9)];
    let step = |mask| NonzeroStep { b: 0, rows: 1, mask };
    let masks_at = Some(Place { param: Param(3), base: V(0) });
    let n = Nonzeros { steps: masks.map(step).to_vec(), runs: 1, second: None, masks: masks_at };
    let mut sums = Sums::new(WideIsa::Avx512, false, None);
    sums.emit(1, &n, 2).unwrap();
    let read: Vec<String> = text(&sums.code)[4..]
        .iter()
        .filter(|l| !l.contains("fma") && !l.contains("prefetch"))
        .cloned()
        .collect();
    assert_eq!(
        read,
        [
            "mov rax,[rcx+10h]",
            "kmovw k1,[rax]",
            "kmovw k6,[rax+14h]",
            "vpxord zmm0,zmm0,zmm0",
            "vmovups zmm31{k1}{z},[rsi]",
            "vmovups zmm31,[rsi]",
            "vmovups zmm31{k6}{z},[rsi]",
            "kmovw k7,[rax+18h]",
            "vmovups zmm31{k7}{z},[rsi]",
            "vmovups zmm31{k7}{z},[rsi]",
            "kmovw k7,[rax+24h]",
            "vmovups zmm31{k7}{z},[rsi]",
        ]
    );
}

/// The last steps read another operand, from its own first row on.
#[test]
fn a_second_operand_has_an_address_of_its_own() {
    let place = |i| Place { param: Param(i), base: V(0) };
    let steps = [0, 16, 8 * 4096, 32].map(|b| NonzeroStep { b, rows: 1, mask: None });
    let mut n = Nonzeros { steps: steps.to_vec(), runs: 1, second: None, masks: None };
    n.second = Some(Second { b: place(3), from: 2 });
    let mut sums = Sums::new(WideIsa::Avx512, false, None);
    sums.emit(1, &n, 2).unwrap();
    let read: Vec<String> = text(&sums.code)[5..]
        .iter()
        .filter(|l| !l.contains("fma") && !l.contains("prefetch"))
        .cloned()
        .collect();
    let wanted = [
        "vmovups zmm31,[rsi]",
        "vmovups zmm31,[rsi+40h]",
        "mov rsi,[rcx+10h]",
        "vmovups zmm31,[rsi+20000h]",
        "vmovups zmm31,[rsi+80h]",
    ];
    assert_eq!(read, wanted);
}

/// Each run fetches as many lines of the next function as this one has, shared out among the runs, and each line is of one share.
#[test]
fn what_is_next_is_fetched_in_shares() {
    for (runs, shares) in [(1, 1), (2, 1), (3, 2), (5, 4), (13, 8), (1000, 8)] {
        let mut sums = Sums::new(WideIsa::Avx512, false, None);
        sums.emit(28, &nonzeros((0..100).map(|b| (16 * b, 0xff)), runs), 0).unwrap();
        let read = text(&sums.code);
        let mask = read[2].strip_prefix("and eax,").map(number);
        assert_eq!(mask, Some(64 * (shares - 1)), "{runs} runs");
        let at = |line: &String| {
            let place = line.strip_prefix("prefetcht0 [r8")?.strip_suffix(']')?;
            Some(place.strip_prefix('+').map_or(0, number))
        };
        let lines: Vec<i64> = read.iter().filter_map(at).collect();
        let wanted: Vec<i64> = (0..lines.len() as i64).map(|i| i * 64 * shares).collect();
        assert_eq!(lines, wanted);
        let fetched = lines.len() as i64 * shares * 64;
        assert!((fetched - sums.code.len() as i64).abs() <= 64 * shares, "{runs} runs: {fetched}");
    }
}

fn number(text: &str) -> i64 {
    match text.strip_suffix('h') {
        Some(digits) => i64::from_str_radix(digits, 16).unwrap(),
        None => text.parse().unwrap(),
    }
}

/// Rows further away than an 8-bit displacement reaches, whole vectors away or not.
#[test]
fn the_rows_pointer_moves_on() {
    for (apart, odd, moves) in [(64, 0, true), (208, 5, true), (3136, 0, false)] {
        let rows: Vec<i64> = (0..300).map(|i| i * apart + if i % 7 == 3 { odd } else { 0 }).collect();
        let mut sums = Sums::new(WideIsa::Avx512, false, None);
        sums.emit(1, &nonzeros(rows.iter().map(|&b| (b, 1)), 1), 0).unwrap();
        let (mut at, mut found, mut moved) = (0, vec![], 0);
        for line in text(&sums.code) {
            if let Some(bytes) = line.strip_prefix("add rsi,") {
                (at, moved) = (at + number(bytes), moved + 1);
            }
            let Some(place) = line.strip_prefix("vmovups zmm31,[rsi") else { continue };
            let place = place.trim_end_matches(']');
            let value = match place.split_at_checked(1) {
                None => 0,
                Some(("-", digits)) => -number(digits),
                Some((_, digits)) => number(digits),
            };
            found.push((at + value) / 4);
        }
        assert_eq!((found, moved > 0), (rows, moves), "{apart} apart");
    }
}

/// Weights further away than a displacement reaches.
#[test]
fn the_pointer_moves_on() {
    let mut sums = Sums::new(WideIsa::Avx512, false, None);
    sums.emit(1, &nonzeros((0..400).map(|b| (b, 1)), 1), 0).unwrap();
    let read = text(&sums.code);
    let (mut at, mut next) = (0i64, 0);
    for line in read {
        if let Some(bytes) = line.strip_prefix("add rdi,") {
            at += number(bytes);
        }
        let Some(place) = line.split("[rdi").nth(1) else { continue };
        let place = place.split(']').next().unwrap();
        let digits = place.trim_start_matches(['+', '-']);
        let value = if digits.is_empty() { 0 } else { number(digits) };
        let value = if place.starts_with('-') { -value } else { value };
        assert_eq!(at + value, 4 * next, "weight {next}");
        next += 1;
    }
    assert_eq!(next, 400);
}

/// AVX2: the text of what follows the sums' zeros.
fn of_avx2(rows: usize, n: &Nonzeros, tail: Option<usize>) -> Vec<String> {
    let mut sums = Sums::new(WideIsa::Avx2, false, tail);
    sums.emit(rows, n, 2).unwrap();
    text(&sums.code).into_iter().filter(|l| !l.contains("prefetch")).collect()
}

/// Rows that are used once are read by their multiply-add, others are loaded; of every register the bytes are right.
#[test]
fn bytes_of_avx2_are_these_instructions() {
    let steps = [(0, 0b1), (8, 0b11 << 7), (49, 0b1 << 13), (-16, 0b11 << 12)];
    let read = of_avx2(2, &nonzeros(steps, 1), None);
    assert_eq!(
        read,
        [
            "lea r8,[7]",
            "mov eax,esi",
            "add eax,eax",
            "and eax,0",
            "add r8,rax",
            "vxorps ymm0,ymm0,ymm0",
            "vxorps ymm1,ymm1,ymm1",
            "vbroadcastss ymm14,[rdi]",
            "vfmadd231ps ymm0,ymm14,[rsi]",
            "vmovups ymm15,[rsi+20h]",
            "vbroadcastss ymm14,[rdi+4]",
            "vfmadd231ps ymm7,ymm14,ymm15",
            "vbroadcastss ymm14,[rdi+8]",
            "vfmadd231ps ymm8,ymm14,ymm15",
            "vbroadcastss ymm14,[rdi+0Ch]",
            "vfmadd231ps ymm13,ymm14,[rsi+0C4h]",
            "vmovups ymm15,[rsi-40h]",
            "vbroadcastss ymm14,[rdi+10h]",
            "vfmadd231ps ymm12,ymm14,ymm15",
            "vbroadcastss ymm14,[rdi+14h]",
            "vfmadd231ps ymm13,ymm14,ymm15",
        ]
    );
    let mut sums = Sums::new(WideIsa::Avx2, false, None);
    (0..14).for_each(|r| sums.zero(r));
    for (r, line) in text(&sums.code).iter().enumerate() {
        assert_eq!(*line, format!("vxorps ymm{r},ymm{r},ymm{r}"));
    }
}

/// Masks become vectors on the stack, those that are used; the columns of half a vector are such a mask.
#[test]
fn masks_of_avx2_are_on_the_stack() {
    let masks = [Some(5), None, Some(1), Some(5)];
    let step = |mask| NonzeroStep { b: 1, rows: 0b11, mask };
    let masks_at = Some(Place { param: Param(3), base: V(0) });
    let n = Nonzeros { steps: masks.map(step).to_vec(), runs: 1, second: None, masks: masks_at };
    let read = of_avx2(1, &n, None);
    let wanted = [
        "mov rax,[rcx+10h]",
        "mov r9,rsp",
        "sub rsp,40h",
        "and rsp,0FFFFFFFFFFFFFFE0h",
        "mov r10,18191A1B1C1D1E1Fh",
        "vmovq xmm15,r10",
        "vpmovzxbd ymm15,xmm15",
        "vpbroadcastd ymm14,[rax+4]",
        "vpsllvd ymm14,ymm14,ymm15",
        "vmovups [rsp],ymm14",
        "vpbroadcastd ymm14,[rax+14h]",
        "vpsllvd ymm14,ymm14,ymm15",
        "vmovups [rsp+20h],ymm14",
        "lea rax,[rsp+80h]",
        "vxorps ymm0,ymm0,ymm0",
    ];
    assert_eq!(read[5..20], wanted);
    let loads: Vec<&str> = read[20..]
        .iter()
        .map(String::as_str)
        .filter(|l| !l.contains("fma") && !l.contains("broad"))
        .collect();
    assert_eq!(
        loads,
        [
            "vmovups ymm15,[rax-60h]",
            "vmaskmovps ymm15,ymm15,[rsi+4]",
            "vmovups ymm15,[rsi+4]",
            "vmovups ymm15,[rax-80h]",
            "vmaskmovps ymm15,ymm15,[rsi+4]",
            "vmovups ymm15,[rax-60h]",
            "vmaskmovps ymm15,ymm15,[rsi+4]",
            "mov rsp,r9",
        ]
    );
    let of_tail = of_avx2(1, &nonzeros([(3, 1)], 1), Some(5));
    assert_eq!(of_tail[8..11], ["mov eax,1Fh", "vmovd xmm15,eax", "vpbroadcastd ymm14,xmm15"]);
    assert_eq!(of_tail[18..20], ["vmovups ymm15,[rax-80h]", "vmaskmovps ymm15,ymm15,[rsi+0Ch]"]);
}

/// Both pointers of AVX2, whose near displacements are bytes, move on to what is far; runs are half a line apart.
#[test]
fn pointers_of_avx2_move_on() {
    for (apart, moves) in [(3, true), (49, false), (3136, false)] {
        let rows: Vec<i64> = (0..300).map(|i| i * apart).collect();
        let read = of_avx2(2, &nonzeros(rows.iter().map(|&b| (b, 0b11)), 5), None);
        assert_eq!(read[2..4], ["add eax,eax", "and eax,0C0h"]);
        let (mut at, mut found) = ([0, 0], [vec![], vec![]]);
        let mut moved = 0;
        for line in &read {
            for (i, register) in ["rsi", "rdi"].iter().enumerate() {
                if let Some(bytes) = line.strip_prefix(&format!("add {register},")) {
                    at[i] += number(bytes);
                    moved += usize::from(i == 0);
                }
                let Some((_, place)) = line.split_once(&format!("[{register}")) else { continue };
                let place = place.trim_end_matches(']');
                let value = match place.split_at_checked(1) {
                    Some(("-", digits)) => -number(digits),
                    Some((_, digits)) => number(digits),
                    None => 0,
                };
                found[i].push((at[i] + value) / 4);
            }
        }
        assert_eq!((&found[0], moved > 0), (&rows, moves), "{apart} apart");
        assert_eq!(found[1], (0..600).collect::<Vec<i64>>());
    }
}
