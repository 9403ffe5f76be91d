//! Recurrent cells in all their spellings, and scans.

use super::{Case, case, within};

/// A cell's attributes that all three have, and those of its own.
fn attributes(direction: &str, hidden: usize, activations: &[&str], clip: f64, own: &str) -> String {
    let names: Vec<String> = activations.iter().map(|a| format!("{a:?}")).collect();
    format!(
        "{{activations = [{}], alphas = [], betas = [], clip = {clip:?}, direction = \"{direction}\", hidden = {hidden}{own}}}",
        names.join(", ")
    )
}

/// The cell, and all that it gives as one value: its results have an axis of time or not.
fn cell(inputs: &str, constants: &str, op: &str, operands: &str, attrs: &str) -> Case {
    let (results, more) =
        if op == "lstm" { ("%10, %11, %12", "%14 = mul(%12, %12) ") } else { ("%10, %11", "") };
    let last = if op == "lstm" { "%15 = add(%13, %14) " } else { "%15 = neg(%13) " };
    let text = format!(
        "graph @g({inputs}) -> (%16) {{ {constants} {results} = {op}({operands}) {attrs} \
         %13 = exp(%11) {more}{last}%16 = add(%10, %15) }}"
    );
    within(text, &[(-1.0, 1.0)])
}

pub fn recurrent() -> Vec<Case> {
    let mut all = vec![];
    for direction in ["forward", "reverse", "bidirectional"] {
        let d = if direction == "bidirectional" { 2 } else { 1 };
        let lengths = "%8 = const i32[3] [2, 4, 0]";
        for (n, (time, batch, constants, length)) in
            [("m", "n", "", "_"), ("4", "3", lengths, "%8")].into_iter().enumerate()
        {
            // Each combination of what is optional once: with lengths all of it, without them nothing.
            let full = n == 1;
            let own = |gates: usize| {
                format!(
                    "%0: f64[{time}, {batch}, 3], %1: f64[{d}, {}, 3], %2: f64[{d}, {}, 2]",
                    2 * gates,
                    2 * gates
                )
            };
            let more = |gates: usize| {
                format!("{}, %3: f64[{d}, {}], %4: f64[{d}, {batch}, 2]", own(gates), 4 * gates)
            };
            let clip = if full { 0.7 } else { 0.0 };
            let many = |names: &[&'static str]| names.repeat(d);
            let attrs =
                |names: &[&'static str], own: &str| attributes(direction, 2, &many(names), clip, own);

            let lstm = ["Sigmoid", "Tanh", "Tanh"];
            let extra = format!(", input_forget = {n}, rounded_state = 0");
            let (inputs, operands) = if full {
                (
                    format!("{}, %5: f64[{d}, {batch}, 2], %6: f64[{d}, 6]", more(4)),
                    format!("%0, %1, %2, %3, {length}, %4, %5, %6, _"),
                )
            } else {
                (own(4), "%0, %1, %2, _, _, _, _, _, _".to_owned())
            };
            all.push(cell(&inputs, constants, "lstm", &operands, &attrs(&lstm, &extra)));
            for linear in [0, 1] {
                let extra = format!(", linear_before_reset = {linear}");
                let (inputs, operands) = if full {
                    (more(3), format!("%0, %1, %2, %3, {length}, %4"))
                } else {
                    (own(3), "%0, %1, %2, _, _, _".to_owned())
                };
                all.push(cell(&inputs, constants, "gru", &operands, &attrs(&["Sigmoid", "Tanh"], &extra)));
            }
            let (inputs, operands) = if full {
                (more(1), format!("%0, %1, %2, %3, {length}, %4"))
            } else {
                (own(1), "%0, %1, %2, _, _, _".to_owned())
            };
            all.push(cell(&inputs, constants, "rnn", &operands, &attrs(&["Tanh"], "")));
        }
    }
    all.extend(activations());
    // Without weights of the input.
    let attrs = attributes(
        "bidirectional",
        1,
        &["Sigmoid", "Tanh", "Tanh"].repeat(2),
        0.0,
        ", input_forget = 0, rounded_state = 0",
    );
    all.push(cell("%0: f64[3, n, 8], %2: f64[2, 4, 1]", "", "lstm", "%0, _, %2, _, _, _, _, _, _", &attrs));
    // Rows of bytes with a scale.
    let attrs = attributes(
        "forward",
        1,
        &["Sigmoid", "Tanh", "Tanh"],
        0.0,
        ", input_forget = 0, rounded_state = 0",
    );
    let bytes = "%8 = const i8[1, 4, 1] [3, -5, 2, 7]";
    all.push(within(
        format!(
            "graph @g(%0: f64[3, n, 4], %1: f64[1, 4]) -> (%10) {{ {bytes} \
             %10, %11, %12 = lstm(%0, _, %8, _, _, _, _, _, %1) {attrs} }}"
        ),
        &[(-1.0, 1.0), (0.1, 0.3)],
    ));
    all
}

/// Every activation as that of a simple cell.
fn activations() -> Vec<Case> {
    let names = [
        ("Relu", "", ""),
        ("Affine", "0.5", "0.1"),
        ("LeakyRelu", "0.2", ""),
        ("ThresholdedRelu", "0.3", ""),
        ("ScaledTanh", "1.2", "0.7"),
        ("HardSigmoid", "0.4", "0.45"),
        ("Elu", "0.8", ""),
        ("Softsign", "", ""),
        ("Softplus", "", ""),
        ("Sigmoid", "", ""),
    ];
    names
        .into_iter()
        .map(|(name, alpha, beta)| {
            within(
                format!(
                    "graph @g(%0: f64[3, 4, 2], %1: f64[1, 3, 2], %2: f64[1, 3, 3], %3: f64[1, 6]) -> (%10) {{ \
                     %10, %11 = rnn(%0, %1, %2, %3, _, _) {{activations = [\"{name}\"], alphas = [{alpha}], \
                     betas = [{beta}], clip = 0.0, direction = \"forward\", hidden = 3}} }}"
                ),
                &[(-2.0, 2.0), (-1.0, 1.0)],
            )
        })
        .collect()
}

pub fn scans() -> Vec<Case> {
    let plain = "graph @g(%0: f64[2], %1: f64[n, 2], %2: f64[2]) -> (%20) { \
        %10, %11 = scan(%0, %1, %2) {carried = 1, input_axes = [0], input_reverse = [0], output_axes = [0], output_reverse = [0], scans = 1} : f64[2], f64[n, 2] \
        body graph @b(%0: f64[2], %1: f64[2], %2: f64[2]) -> (%5, %6) { %3 = mul(%0, %2) %4 = add(%3, %1) %5 = tanh(%4) %6 = mul(%5, %1) } \
        %20 = add(%11, %10) }";
    // A counter beside the state, sequences in both directions, a state that is given on as it is, and one that only a wanted one reaches.
    let mixed = "graph @g(%0: f64[2], %1: f64[2, n], %2: f64[n], %3: f64[2], %4: f64[2]) -> (%20) { \
        %8 = const i64[] [1] \
        %10, %11, %12, %13, %14 = scan(%0, %8, %3, %1, %2, %4) {carried = 3, input_axes = [1, 0], input_reverse = [1, 0], \
        output_axes = [1, 0], output_reverse = [0, 1], scans = 2} : f64[2], i64[], f64[2], f64[2, n], f64[n, 2] \
        body graph @b(%0: f64[2], %1: i64[], %2: f64[2], %3: f64[2], %4: f64[], %5: f64[2]) -> (%10, %11, %2, %12, %10) { \
        %6 = const i64[] [2] %11 = mul(%1, %6) %7 = cast(%1) {round = \"nearest\", saturate = 1, to = f64} : f64[] %8 = mul(%3, %4) %9 = div(%8, %7) \
        %13 = sin(%0) %14 = add(%13, %9) %10 = mul(%14, %5) %12 = mul(%10, %2) } \
        %15 = transpose(%13) {perm = [1, 0]} %16 = add(%15, %14) %17 = mul(%16, %10) %20 = add(%17, %12) }";
    let nested = "graph @g(%0: f64[2], %1: f64[3, 2, 2], %2: f64[2]) -> (%10) { \
        %10 = scan(%0, %1, %2) {carried = 1, input_axes = [0], input_reverse = [0], output_axes = [], output_reverse = [], scans = 1} : f64[2] \
        body graph @b(%0: f64[2], %1: f64[2, 2], %2: f64[2]) -> (%6) { \
        %5 = scan(%0, %1, %2) {carried = 1, input_axes = [1], input_reverse = [1], output_axes = [], output_reverse = [], scans = 1} : f64[2] \
        body graph @c(%0: f64[2], %1: f64[2], %2: f64[2]) -> (%4) { %3 = mul(%0, %1) %4 = add(%3, %2) } \
        %6 = tanh(%5) } }";
    [plain, mixed, nested].into_iter().map(case).collect()
}
