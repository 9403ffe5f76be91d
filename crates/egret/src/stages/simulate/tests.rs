//! Laws of the simulator, and cases that are worked out by hand.

use super::*;
use std::time::Instant;

const FAST: Link = Link { latency: 0, bandwidth: None };

/// A chain of stages: each gives the next so many bytes, from the source to the sink.
fn load(stages: &[u64], carried: &[u64]) -> Load {
    let last = stages.len();
    let value = |(k, &bytes): (usize, &u64)| Carried {
        bytes,
        made: k.checked_sub(1),
        used: if k < last { vec![k] } else { vec![] },
        output: k == last,
    };
    let values = carried.iter().enumerate().map(value).collect();
    Load { stages: stages.to_vec(), copies: vec![1; last], values }
}

fn predicted(load: &Load, machines: &Machines) -> Predicted {
    predict(load, machines).unwrap()
}

/// Rates are quotients of the same whole numbers, in another order.
#[track_caller]
fn near(a: f64, b: f64) {
    assert!((a / b - 1.0).abs() < 1e-12, "{a} {b}");
}

/// Loads and machines of many kinds.
fn some() -> Vec<(Load, Machines)> {
    let mut out = vec![];
    let mut seed = 7u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..60 {
        let stages = 1 + next(5) as usize;
        let times: Vec<u64> = (0..stages).map(|_| 1 + next(5000)).collect();
        let mut load = load(&times, &(0..=stages).map(|_| next(5000)).collect::<Vec<_>>());
        // Values that stages further on use, and outputs of those before the last.
        for _ in 0..next(3) {
            let (made, used) = (next(stages as u64) as usize, next(stages as u64) as usize);
            let further = (made < used).then_some(used);
            load.values.push(Carried {
                bytes: next(5000),
                made: Some(made),
                used: further.into_iter().collect(),
                output: further.is_none(),
            });
        }
        let link = Link { latency: next(4000), bandwidth: Some(1_000_000_000 + next(4_000_000_000)) };
        let mut machines = Machines::even(stages, 1 + next(9) as usize, link);
        let slow = Link { latency: next(20_000), bandwidth: Some(1_000_000_000) };
        if machines.workers > 2 {
            machines.between.extend([((0, 2), slow), ((2, 0), slow)]);
        }
        out.push((load, machines));
    }
    out
}

#[test]
fn one_worker_takes_the_sum_of_all_stages() {
    let load = load(&[300, 500, 200], &[8, 8, 8, 8]);
    let slow = Link { latency: 1_000_000, bandwidth: Some(1) };
    let p = predicted(&load, &Machines::even(3, 1, slow));
    assert_eq!((p.throughput, p.one_worker), (1e6, 1e6));
    // Another sample waits before the one that is computed.
    assert_eq!((p.alone, p.streaming), (Duration::from_nanos(1000), Duration::from_nanos(2000)));
    assert_eq!((p.bottleneck, p.busiest), (Bottleneck::Computing(0), 1.0));
    assert_eq!(p.helps.len(), 0, "a second worker is far away: {:?}", p.helps);
}

#[test]
fn equal_stages_behind_fast_links_are_as_many_times_as_fast() {
    for stages in 1..=8 {
        let load = load(&vec![1000; stages], &vec![1 << 20; stages + 1]);
        let p = predicted(&load, &Machines::even(stages, stages, FAST));
        near(p.throughput, p.one_worker * stages as f64);
        assert!(p.workers.iter().all(|w| w.computing == 1.0), "{p:?}");
        // And so are workers that each have all stages, or two of each stage.
        for workers in [2 * stages, 3 * stages] {
            let more = predicted(&load, &Machines::even(stages, workers, FAST));
            near(more.throughput, p.one_worker * workers as f64);
        }
    }
}

/// By hand: two stages of 100 and 60 ns, 40 bytes between them, 10 behind, 1 ns a byte, 5 ns on the way.
#[test]
fn two_workers_by_hand() {
    let load = load(&[100, 60], &[10, 40, 10]);
    let link = Link { latency: 5, bandwidth: Some(1_000_000_000) };
    let p = predicted(&load, &Machines::even(2, 2, link));
    assert_eq!(p.alone, Duration::from_nanos(100 + 40 + 5 + 60 + 10 + 5));
    assert_eq!(p.throughput, 1e9 / 100.0);
    let shares: Vec<_> = p.workers.iter().map(|w| (w.computing, w.sending, w.receiving)).collect();
    assert_eq!(shares, [(1.0, 0.4, 0.0), (0.6, 0.1, 0.4)]);
    // Inputs are read where the first worker is; only results are received there.
    assert_eq!((p.reading, p.writing), (0.0, 0.1));
    assert_eq!(p.bottleneck, Bottleneck::Computing(0));
    // Then the second stage decides.
    assert_eq!(p.helps, [(Change::Worker(0), 1e9 / 60.0)]);
    // The link decides where it carries 400 bytes: 400 ns a sample.
    let p = predicted(&self::load(&[100, 60], &[10, 400, 10]), &Machines::even(2, 2, link));
    assert_eq!((p.throughput, p.bottleneck), (2.5e6, Bottleneck::Sending(0)));
    assert_eq!(p.helps, [(Change::Bandwidth, 5e6)]);
    // Four samples are in flight, and a way of 10 us back and forth takes longer than four times 100 ns.
    let far = Link { latency: 5000, bandwidth: None };
    let p = predicted(&load, &Machines::even(2, 2, far));
    assert_eq!(p.bottleneck, Bottleneck::Latency);
    assert_eq!(p.alone, Duration::from_nanos(10_160));
    // A round: the first is back after 10 160 ns, the next three each 100 ns later, and the first of the next round can begin with the first.
    assert_eq!(p.throughput, 4e9 / 10_160.0);
    assert_eq!(p.helps[0].0, Change::Latency);
}

/// By hand: two workers of a stage of 100 ns behind a first of 50 ns on its own.
#[test]
fn workers_of_one_stage_take_turns() {
    let load = load(&[50, 100], &[0, 20, 0]);
    let link = Link { latency: 0, bandwidth: Some(1_000_000_000) };
    let mut machines = Machines::even(2, 2, link);
    assert_eq!(predicted(&load, &machines).throughput, 1e7);
    machines.groups[1].workers.push(2);
    machines.workers = 3;
    let p = predicted(&load, &machines);
    assert_eq!(p.throughput, 2e7);
    let shares: Vec<_> = p.workers.iter().map(|w| (w.computing, w.sending, w.receiving)).collect();
    assert_eq!(shares, [(1.0, 0.4, 0.0), (1.0, 0.0, 0.2), (1.0, 0.0, 0.2)]);
}

#[test]
fn a_time_that_grows_never_makes_more_samples() {
    for (load, machines) in some() {
        let before = predicted(&load, &machines);
        assert!(before.throughput <= before.one_worker * machines.workers as f64 * 1.000_001);
        assert!(before.busiest <= 1.000_001, "{before:?}");
        let slower = |change: &dyn Fn(&mut Load, &mut Machines)| {
            let (mut load, mut machines) = (load.clone(), machines.clone());
            change(&mut load, &mut machines);
            let after = predicted(&load, &machines);
            assert!(after.alone >= before.alone, "{load:?} {machines:?}");
            assert!(
                after.throughput <= before.throughput * 1.000_001,
                "{load:?} {machines:?} {before:?} {after:?}"
            );
        };
        slower(&|_, m| m.link.latency += 700);
        slower(&|_, m| m.link.bandwidth = m.link.bandwidth.map(|b| b / 2));
        slower(&|_, m| m.between.values_mut().for_each(|l| l.latency *= 3));
        slower(&|l, _| l.values.iter_mut().for_each(|v| v.bytes += 999));
        slower(&|l, _| l.stages[0] += 250);
    }
}

#[test]
fn a_thousand_workers_take_no_time() {
    let link = Link { latency: 2000, bandwidth: Some(10_000_000_000) };
    for stages in [1, 3, 7, 1000] {
        let load = load(&vec![1_000_000; stages], &vec![100_000; stages + 1]);
        let began = Instant::now();
        let p = predicted(&load, &Machines::even(stages, 1000, link));
        let took = began.elapsed();
        assert!(p.throughput > 0.0 && p.workers.len() == 1000);
        assert!(took.as_secs_f64() < 2.0, "{stages} stages: {took:?}, unoptimised");
    }
}

#[test]
fn what_takes_too_long_is_refused() {
    let link = Link { latency: 0, bandwidth: Some(1) };
    let e = predict(&load(&[1], &[1 << 40, 0]), &Machines::even(1, 2, link)).unwrap_err();
    assert!(e.message.contains("longer than an hour"), "{e}");
    let nothing = predict(&load(&[0, 0], &[0; 3]), &Machines::even(2, 2, link)).unwrap_err();
    assert!(nothing.message.contains("take no time"), "{nothing}");
    let hour = load(&[1], &[0, 0]).with_times(&[Duration::from_secs(3601)]).unwrap_err();
    assert!(hour.message.contains("an hour"), "{hour}");
}

/// By hand: two stages of 100 and 70 ns on one sample, 40 and 30 bytes from them to a third of 50 ns, at 1 ns a byte.
#[test]
fn stages_of_one_step_work_on_one_sample() {
    let value =
        |bytes, made, used: &[usize]| Carried { bytes, made, used: used.to_vec(), output: used.is_empty() };
    let values = vec![
        value(8, None, &[0, 1]),
        value(40, Some(0), &[2]),
        value(30, Some(1), &[2]),
        value(10, Some(2), &[]),
    ];
    let load = Load { stages: vec![100, 70, 50], copies: vec![1; 3], values };
    let link = Link { latency: 0, bandwidth: Some(1_000_000_000) };
    let p = predicted(&load, &Machines::even(3, 3, link));
    // Worker 2 has what the second made after 8 + 70 + 30, and then, as it is longer about it than the 100 of the first, what that made.
    assert_eq!(p.alone, Duration::from_nanos(8 + 70 + 30 + 40 + 50 + 10));
    assert_eq!((p.throughput, p.bottleneck.clone()), (1e7, Bottleneck::Computing(0)));
    let shares: Vec<_> = p.workers.iter().map(|w| (w.computing, w.sending, w.receiving)).collect();
    assert_eq!(shares, [(1.0, 0.4, 0.0), (0.7, 0.3, 0.08), (0.5, 0.1, 0.7)]);
    assert_eq!((p.reading, p.writing), (0.08, 0.1));
    assert_eq!((load.takes(2), load.gives(2), load.takes(0)), (70, 10, 8));
    // One worker has no links: the sum of all.
    assert_eq!(predicted(&load, &Machines::even(3, 1, link)).alone, Duration::from_nanos(220));
}
