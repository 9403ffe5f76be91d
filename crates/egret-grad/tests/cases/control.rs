//! Branches and loops.

use super::{Case, case, within};

pub fn branches() -> Vec<Case> {
    // Two results, one of them a capture; what a branch does not read; two results that are one value. Which branch is taken the data say.
    let plain = |first: &str, second: &str| {
        format!(
            "graph @g(%0: f64[n, 2], %1: f64[2], %2: f64[n, 2]) -> (%20) {{ %3 = const f64[] [0.0] \
             %4 = reduce(%1) {{axes = [0], keepdims = 0, kind = \"sum\"}} %5 = less({first}, {second}) \
             %10, %11 = if(%5, %0, %1, %2) : f64[n, 2], f64[n, 2] \
             then graph @a(%0: f64[k, 2], %1: f64[2], %2: f64[k, 2]) -> (%0, %4) {{ %3 = mul(%0, %1) %4 = tanh(%3) }} \
             else graph @b(%0: f64[k, 2], %1: f64[2], %2: f64[k, 2]) -> (%3, %3) {{ %3 = sin(%2) }} \
             %12 = mul(%10, %11) %20 = add(%12, %0) }}"
        )
    };
    // A scalar result of whichever number of elements there are.
    let sizes = "graph @g(%0: f64[6], %1: f64[3]) -> (%20) { %3 = const f64[] [0.0] \
        %4 = reduce(%1) {axes = [0], keepdims = 0, kind = \"sum\"} %5 = less(%4, %3) \
        %10 = if(%5, %0, %1) {dims = [some]} : f64[some] \
        then graph @a(%0: f64[6], %1: f64[3]) -> (%2) { %2 = mul(%0, %0) } \
        else graph @b(%0: f64[6], %1: f64[3]) -> (%2) { %2 = exp(%1) } \
        %11 = sin(%10) %12 = mul(%11, %10) %20 = reduce(%12) {axes = [0], keepdims = 0, kind = \"sum\"} }";
    // In rounds: a choice of each.
    let within = "graph @g(%0: f64[2], %1: f64[n, 2], %2: f64[2]) -> (%10) { \
        %10 = scan(%0, %1, %2) {carried = 1, input_axes = [0], input_reverse = [0], output_axes = [], output_reverse = [], scans = 1} : f64[2] \
        body graph @b(%0: f64[2], %1: f64[2], %2: f64[2]) -> (%9) { %3 = const f64[] [0.0] \
        %4 = reduce(%1) {axes = [0], keepdims = 0, kind = \"sum\"} %5 = less(%4, %3) \
        %6 = if(%5, %0, %1, %2) : f64[2] \
        then graph @a(%0: f64[2], %1: f64[2], %2: f64[2]) -> (%3) { %3 = mul(%0, %2) } \
        else graph @b(%0: f64[2], %1: f64[2], %2: f64[2]) -> (%4) { %3 = mul(%0, %1) %4 = sin(%3) } \
        %9 = add(%6, %1) } }";
    let mut all: Vec<Case> = [plain("%4", "%3"), plain("%3", "%4")].into_iter().map(case).collect();
    all.extend([sizes, within].into_iter().map(case));
    all
}

pub fn loops() -> Vec<Case> {
    let attrs = |carried: usize, trips: bool, cond: bool, more: &str| {
        let flag = u8::from;
        format!(
            "{{carried = {carried}, {more}has_cond = {}, has_trip_count = {}}}",
            flag(cond),
            flag(trips)
        )
    };
    let mut all = vec![];
    // Nothing stacked: a count that is known, one that dims say, and none at all.
    for trips in [
        "%3 = const i64[] [4]",
        "%4 = shape(%1) %5 = const i64[] [0] %3 = gather(%4, %5) {axis = 0}",
        "%3 = const i64[] [0]",
    ] {
        all.push(case(format!(
            "graph @g(%0: f64[2], %1: f64[n, 2], %2: f64[2]) -> (%20) {{ {trips} \
             %10 = loop(%3, _, %0, %2) {} : f64[2] \
             body graph @b(%0: i64[], %1: bool[], %2: f64[k], %3: f64[k]) -> (%1, %5) {{ %4 = mul(%2, %3) %5 = sin(%4) }} \
             %20 = add(%1, %10) }}",
            attrs(1, true, false, "")
        )));
    }
    // Two states and a counter; the number of the round, as a vector, is read too; what was stacked is of use.
    all.push(case(format!(
        "graph @g(%0: f64[1, 2], %1: f64[1, 3], %2: f64[3, 2]) -> (%20) {{ %3 = const i64[] [5] %4 = const i64[] [1] \
         %10, %11, %12, %13 = loop(%3, _, %0, %4, %1, %2) {} : f64[1, 2], i64[], f64[1, 3], f64[rounds, 1, 2] \
         body graph @b(%0: i64[1], %1: bool[1], %2: f64[1, 2], %3: i64[], %4: f64[1, 3], %5: f64[3, 2]) -> (%1, %13, %14, %11, %10) {{ \
         %6 = const i64[] [3] %14 = add(%3, %6) %7 = cast(%0) {{round = \"nearest\", saturate = 1, to = f64}} : f64[1] \
         %8 = cast(%3) {{round = \"nearest\", saturate = 1, to = f64}} : f64[] %9 = matmul(%4, %5) %10 = mul(%9, %2) \
         %12 = div(%2, %8) %15 = mul(%12, %7) %16 = tanh(%10) %13 = add(%16, %15) %11 = sin(%4) }} \
         %14 = reduce(%13) {{axes = [0], keepdims = 0, kind = \"sum\"}} %15 = mul(%14, %10) \
         %16 = reduce(%12) {{axes = [0, 1], keepdims = 0, kind = \"sum\"}} %20 = mul(%15, %16) }}",
        attrs(3, true, false, "dims = [_, _, _, _, rounds], ")
    )));
    // Rounds until a sum is large, of which there are eight at most; and the same of a number that only the data say, as the first result.
    for (trips, stacked) in [("%6 = const i64[] [8]", false), ("%6 = const i64[] [8]", true)] {
        let (results, types, more, gives, end) = match stacked {
            false => ("%10", "f64[2]", "", "%7", "%20 = mul(%10, %0)"),
            true => (
                "%10, %11",
                "f64[2], f64[rounds, 2]",
                "dims = [_, rounds], ",
                "%7, %4",
                "%12 = reduce(%11) {axes = [0], keepdims = 0, kind = \"sum\"} %20 = mul(%10, %12)",
            ),
        };
        all.push(within(
            format!(
                "graph @g(%0: f64[2], %1: f64[2]) -> (%20) {{ {trips} %5 = const bool[] [true] \
                 {results} = loop(%6, %5, %0, %1) {} : {types} \
                 body graph @b(%0: i64[], %1: bool[], %2: f64[2], %3: f64[2]) -> (%9, {gives}) {{ \
                 %4 = mul(%2, %3) %7 = add(%4, %2) %5 = reduce(%7) {{axes = [0], keepdims = 0, kind = \"sum\"}} \
                 %8 = const f64[] [9.0] %9 = less(%5, %8) }} {end} }}",
                attrs(1, true, true, more)
            ),
            &[(0.5, 1.5)],
        ));
    }
    // A loop within a loop, and one within a branch.
    all.push(case(format!(
        "graph @g(%0: f64[2], %1: f64[2]) -> (%10) {{ %3 = const i64[] [3] \
         %10 = loop(%3, _, %0, %1) {one} : f64[2] \
         body graph @b(%0: i64[], %1: bool[], %2: f64[2], %3: f64[2]) -> (%1, %6) {{ %4 = const i64[] [2] \
         %5 = loop(%4, _, %2, %3) {one} : f64[2] \
         body graph @c(%0: i64[], %1: bool[], %2: f64[2], %3: f64[2]) -> (%1, %5) {{ %4 = mul(%2, %3) %5 = sin(%4) }} \
         %6 = add(%5, %3) }} }}",
        one = attrs(1, true, false, "")
    )));
    all.push(case(format!(
        "graph @g(%0: f64[2], %1: f64[2]) -> (%10) {{ %3 = const f64[] [0.0] \
         %4 = reduce(%1) {{axes = [0], keepdims = 0, kind = \"sum\"}} %5 = less(%4, %3) \
         %10 = if(%5, %0, %1) : f64[2] \
         then graph @a(%0: f64[2], %1: f64[2]) -> (%3) {{ %2 = const i64[] [3] %3 = loop(%2, _, %0, %1) {} : f64[2] \
         body graph @b(%0: i64[], %1: bool[], %2: f64[2], %3: f64[2]) -> (%1, %5) {{ %4 = mul(%2, %3) %5 = sin(%4) }} }} \
         else graph @e(%0: f64[2], %1: f64[2]) -> (%2) {{ %2 = mul(%0, %1) }} }}",
        attrs(1, true, false, "")
    )));
    all
}
