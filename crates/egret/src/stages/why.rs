//! Why cuts are where they are and what is in the way of even stages, in sentences.

use super::microseconds;
use egret_opt::partition::{Cause, Kernel, Reason, Uneven, Why};
use std::collections::BTreeSet;

/// How many names of a kernel are spelt.
const SHOWN: usize = 3;

/// Why a cut is where it is.
pub(super) fn cut(why: &Why) -> String {
    match why {
        Why::Even(reason) => even(reason),
        Why::Beside { stages, together, longest } => format!(
            "No value goes between the stages {} to {}: one behind the other they take {} us, at the same time {} us.",
            stages.start,
            stages.end - 1,
            microseconds(*together),
            microseconds(*longest)
        ),
        Why::Parts { split, whole } => format!(
            "Parts are put together behind it: with split tensors the model takes {} us by estimate, on one worker {} us.",
            microseconds(*split),
            microseconds(*whole)
        ),
    }
}

/// Why a cut between stages one behind the other is where it is.
fn even(reason: &Reason) -> String {
    let Reason { tried, fitting, limit, wanted, mean } = reason;
    let best = "and no choice of cuts among those has fewer bytes, summed over what crosses each cut";
    match reason.is_even() {
        true => format!(
            "At {fitting} of {tried} places tried it leaves no stage more than {} us ({:.0} % of their mean, {} us), {best}.",
            microseconds(*limit),
            percent(*limit, *mean),
            microseconds(*mean)
        ),
        false => format!(
            "No choice of cuts among {tried} places tried leaves no stage more than {} us ({:.0} % of their mean, {} us); at {fitting} of them it leaves none more than {} us, the least, {best}.",
            microseconds(*wanted),
            percent(*wanted, *mean),
            microseconds(*mean),
            microseconds(*limit),
        ),
    }
}

/// What is in the way of even stages.
pub(super) fn uneven(uneven: &Uneven) -> String {
    let Uneven { time, mean, whole, kernel, cause, .. } = uneven;
    let begin = format!(
        "{:.0} % above the mean of the stages ({} us)",
        percent(*time, *mean) - 100.0,
        microseconds(*mean)
    );
    let kernel = format!(
        "the kernel of {} takes {} us, {:.1} % of the whole, and no cut parts it",
        name(kernel),
        microseconds(kernel.time),
        percent(kernel.time, *whole)
    );
    match cause {
        Cause::Kernel => format!("{begin}. What stands in the way: {kernel}."),
        Cause::Places(tried) => format!(
            "{begin}, and no choice among {tried} places of cuts is more even. What stands in the way most: {kernel}."
        ),
        Cause::Steps { ends, sample, chain: (longest, in_chain) } => {
            let ends = ends.as_ref().map_or_else(String::new, |ends| {
                format!(" What stands in the way: the kernel of {} is in none of the branches.", name(ends))
            });
            format!(
                "{begin}, so that branches run at the same time: a sample takes {} us through all steps, and in stages one behind the other, the longest of which takes {} us, {} us.{ends} In the longest stage {kernel}.",
                microseconds(*sample),
                microseconds(*longest),
                microseconds(*in_chain),
            )
        }
    }
}

/// A kernel by its ONNX nodes and operations.
fn name(kernel: &Kernel) -> String {
    let ops = some(&kernel.ops);
    match kernel.nodes.is_empty() {
        true => ops,
        false => format!("{} ({ops})", some(&kernel.nodes)),
    }
}

/// The first of some names, and how many more there are.
fn some(names: &BTreeSet<String>) -> String {
    let mut shown: Vec<String> = names.iter().take(SHOWN).cloned().collect();
    if let Some(more) = names.len().checked_sub(SHOWN).filter(|n| *n > 0) {
        shown.push(format!("{more} more"));
    }
    shown.join(", ")
}

fn percent(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64 * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(nodes: &[&str], ops: &[&str], time: u64) -> Kernel {
        let set = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        Kernel { nodes: set(nodes), ops: set(ops), time }
    }

    /// What is wanted is said beside the mean: of a stem it may be less than a quarter above it.
    #[test]
    fn the_mean_is_the_mean_where_no_choice_is_even() {
        let reason = Reason { tried: 9, fitting: 2, limit: 15_000, wanted: 11_000, mean: 10_000 };
        let why = cut(&Why::Even(reason));
        assert!(why.contains("more than 11 us (110 % of their mean, 10 us); at 2 of them"), "{why}");
        assert!(why.contains("none more than 15 us, the least"), "{why}");
        let even = cut(&Why::Even(Reason { limit: 11_000, ..reason }));
        assert!(
            even.contains("At 2 of 9") && even.contains("more than 11 us (110 % of their mean, 10 us)"),
            "{even}"
        );
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        let lstm = kernel(&["LSTM:/rnn"], &["lstm"], 6_000);
        let why = |cause| Uneven {
            stage: 1,
            time: 7_000,
            mean: 4_000,
            whole: 8_000,
            kernel: lstm.clone(),
            cause,
        };
        let begin = "75 % above the mean of the stages (4 us)";
        let named = "the kernel of LSTM:/rnn (lstm) takes 6 us, 75.0 % of the whole, and no cut parts it.";
        assert_eq!(uneven(&why(Cause::Kernel)), format!("{begin}. What stands in the way: {named}"));
        let places = uneven(&why(Cause::Places(12)));
        assert!(places.starts_with(begin) && places.contains("among 12 places") && places.ends_with(named));
        // Without ONNX nodes operations name a kernel.
        let ends = Some(kernel(&[], &["add", "mul", "neg", "relu", "tanh"], 10));
        let steps = uneven(&why(Cause::Steps { ends, sample: 9_000, chain: (5_000, 16_000) }));
        assert!(
            steps.contains("the kernel of add, mul, neg, 2 more is in none of the branches"),
            "{steps}"
        );
        assert!(["takes 9 us", "takes 5 us, 16 us"].iter().all(|part| steps.contains(part)), "{steps}");
    }
}
