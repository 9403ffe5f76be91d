//! Placement: which values a runtime wants to be bytes, so that it finds its integer kernels. Each runtime has one table here; what the
//! rows mean for a graph is found by [`super::places`].

use egret::Error;
use std::fmt;
use std::str::FromStr;

/// What will run a copy.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Runtime {
    /// Egret.
    #[default]
    Egret,
    /// ONNX Runtime.
    Ort,
    /// OpenVINO.
    OpenVino,
    /// TensorRT.
    TensorRt,
}

impl Runtime {
    /// All of them.
    pub const ALL: [Runtime; 4] = [Runtime::Egret, Runtime::Ort, Runtime::OpenVino, Runtime::TensorRt];

    /// Its name in commands.
    pub fn name(self) -> &'static str {
        match self {
            Runtime::Egret => "egret",
            Runtime::Ort => "ort",
            Runtime::OpenVino => "openvino",
            Runtime::TensorRt => "tensorrt",
        }
    }

    /// Its table.
    pub fn rules(self) -> &'static Rules {
        match self {
            Runtime::Egret => &EGRET,
            Runtime::Ort => &ORT,
            Runtime::OpenVino => &OPENVINO,
            Runtime::TensorRt => &TENSORRT,
        }
    }
}

impl FromStr for Runtime {
    type Err = Error;

    fn from_str(text: &str) -> Result<Runtime, Error> {
        Runtime::ALL.into_iter().find(|r| r.name() == text).ok_or_else(|| {
            Error::user(format!(
                "no runtime `{text}`; write {}",
                Runtime::ALL.map(Runtime::name).join(", ")
            ))
        })
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The bytes of values between layers. Weights are `int8` with zero point 0 and a scale for each output, whichever these are.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Codes {
    /// `uint8` with any zero point.
    Unsigned,
    /// `int8` with zero point 0.
    Symmetric,
}

/// How the biases of quantised layers are stored.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Biases {
    /// As floats.
    Floats,
    /// As `int32`, with the scale of the products: that of the input times those of the weights.
    Products,
}

/// What becomes of `Relu` and `Clip` behind an operator whose result is bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Clamps {
    /// They stay.
    Stay,
    /// They go where the range of the bytes is the clamp.
    AreTheCodes,
}

/// Which readers of a value that is bytes read the bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Those that a row names; others read the floats.
    Rows,
    /// All, where an operator of integers makes the value: none may read its floats.
    All,
}

/// What an operator does with bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Does {
    /// It multiplies bytes by weights, or bytes by bytes: its inputs become bytes.
    Multiplies,
    /// As [`Does::Multiplies`], and its result becomes bytes too, unless the model ends there.
    MultipliesToBytes,
    /// Its weights alone become bytes.
    KeepsInputs,
    /// Its result has numbers of its first input only. Where the result is bytes, so is the input, with the same scale and zero point.
    Moves,
    /// Where its result is bytes, all of its operands become bytes.
    Joins,
    /// Where its result is bytes, its operands become bytes with the same scale and zero point.
    Shares,
    /// Operands that are bytes are read so. Where its result is bytes, its operands become bytes, but the one that a layer has just
    /// summed up and nothing else reads.
    Sums,
    /// Operands that are bytes for others are read so.
    Reads,
}

/// What some operators do.
#[derive(Debug)]
pub struct Row {
    /// The operators.
    pub ops: &'static [&'static str],
    /// What they do.
    pub does: Does,
    /// Why: what the runtime makes of it.
    pub why: &'static str,
}

/// What a runtime wants.
#[derive(Debug)]
pub struct Rules {
    /// The bytes of values.
    pub codes: Codes,
    /// Biases.
    pub biases: Biases,
    /// Clamps.
    pub clamps: Clamps,
    /// Readers.
    pub readers: Readers,
    /// Operators; those without a row work on floats.
    pub rows: &'static [Row],
}

impl Rules {
    /// The row of an operator.
    pub fn row(&self, op: &str) -> Option<&'static Row> {
        self.rows.iter().find(|row| row.ops.contains(&op))
    }

    /// What an operator does.
    pub fn does(&self, op: &str) -> Option<Does> {
        self.row(op).map(|row| row.does)
    }
}

/// Operators that move numbers or choose among them, in every runtime but ONNX Runtime.
const MOVES: &[&str] = &[
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Slice",
    "Gather",
    "Tile",
    "Expand",
    "Split",
    "MaxPool",
    "Identity",
    "DepthToSpace",
    "SpaceToDepth",
];

/// Contractions.
const PRODUCTS: &[&str] = &["Conv", "ConvTranspose", "Gemm", "MatMul"];

const fn row(ops: &'static [&'static str], does: Does, why: &'static str) -> Row {
    Row { ops, does, why }
}

/// Source: decision 41 (docs/adr/0041-quantised-layers-have-one-form.md): what lies between two layers is joined to the first.
static EGRET: Rules = Rules {
    codes: Codes::Unsigned,
    biases: Biases::Floats,
    clamps: Clamps::Stay,
    readers: Readers::Rows,
    rows: &[
        row(PRODUCTS, Does::Multiplies, "it multiplies bytes"),
        row(MOVES, Does::Moves, "it moves bytes"),
        row(
            &["Add"],
            Does::Reads,
            "what a layer has summed up stays in its accumulators, the other side is bytes",
        ),
        row(&["Mul", "GlobalAveragePool", "AveragePool"], Does::Reads, "it reads bytes that are there"),
    ],
};

/// Source: onnxruntime/core/optimizer/qdq_transformer/selectors_actions/qdq_selector_action_transformer.cc and qdq_selectors.cc. A unit is
/// an operator with a `DequantizeLinear` at each input and, for most, a `QuantizeLinear` behind the result, or behind the clamp of the
/// result if it changes nothing; nothing else may read the result, nor may it be an output of the model.
static ORT: Rules = Rules {
    // S8S8 takes 1.7 times as long on x86.
    codes: Codes::Unsigned,
    // A bias is an input of the unit. ONNX Runtime takes its integers as sums of products, whatever scale is written.
    biases: Biases::Products,
    clamps: Clamps::AreTheCodes,
    readers: Readers::All,
    rows: &[
        row(&["Conv"], Does::MultipliesToBytes, "QLinearConv has bytes as its result"),
        row(&["Gemm"], Does::Multiplies, "QGemm, whose result may be floats"),
        row(&["MatMul"], Does::Multiplies, "MatMulIntegerToFloat, whose result is floats"),
        row(&["ConvTranspose"], Does::KeepsInputs, "ONNX Runtime has no kernel of bytes for it"),
        row(&["Add"], Does::Joins, "QLinearAdd has bytes as both operands and as its result"),
        row(&["Mul"], Does::Joins, "QLinearMul has bytes as both operands and as its result"),
        row(
            &["Concat"],
            Does::Joins,
            "QLinearConcat has bytes as operands and as its result, each with its own scale",
        ),
        row(
            &["GlobalAveragePool", "AveragePool", "LeakyRelu"],
            Does::Joins,
            "QLinearGlobalAveragePool, QLinearAveragePool and QLinearLeakyRelu have bytes as operand and as result",
        ),
        // DepthToSpace and SpaceToDepth have no kernels of bytes (onnxruntime#21287).
        row(
            &[
                "Reshape",
                "Transpose",
                "Squeeze",
                "Unsqueeze",
                "Flatten",
                "Slice",
                "Gather",
                "Tile",
                "Expand",
                "Split",
                "MaxPool",
                "Identity",
            ],
            Does::Moves,
            "it moves bytes where scale and zero point stay",
        ),
    ],
};

/// Source: OpenVINO's low precision transformations (docs: *OpenVINO Low Precision Transformations*): `FakeQuantize` at the inputs of
/// layers; the CPU plugin joins a sum to the layer behind whose products it stands (`fuse_conv_sum`), if that side is not quantised again.
/// Operands of `Concat` have one scale (NNCF: `unify_scales`).
static OPENVINO: Rules = Rules {
    codes: Codes::Unsigned,
    biases: Biases::Floats,
    clamps: Clamps::Stay,
    readers: Readers::Rows,
    rows: &[
        row(PRODUCTS, Does::Multiplies, "layers of bytes have bytes as inputs"),
        row(MOVES, Does::Moves, "it moves bytes"),
        row(&["Add"], Does::Sums, "the sum is joined to a layer, the other side is bytes"),
        row(&["Concat"], Does::Shares, "bytes are joined where their scales are the same"),
        row(&["Mul", "GlobalAveragePool", "AveragePool"], Does::Reads, "it reads bytes that are there"),
    ],
};

/// Source: TensorRT documentation, *Working with Quantized Types*, *Q/DQ placement recommendations*: inputs of weighted layers, the skip
/// side of a sum, no results of layers; `int8` with zero point 0; biases as floats (quantised ones are refused). Operands of `Concat` have
/// one scale (TensorRT#3861).
static TENSORRT: Rules = Rules {
    codes: Codes::Symmetric,
    biases: Biases::Floats,
    clamps: Clamps::Stay,
    readers: Readers::Rows,
    rows: &[
        row(PRODUCTS, Does::Multiplies, "layers of bytes have bytes as inputs"),
        row(MOVES, Does::Moves, "bytes are moved where scale and zero point stay"),
        row(&["Add"], Does::Sums, "the sum is joined to a layer, the other side is bytes"),
        row(&["Concat"], Does::Shares, "bytes are joined where their scales are the same"),
        row(&["GlobalAveragePool", "AveragePool"], Does::Reads, "it reads bytes that are there"),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_has_one_row_at_most() {
        for runtime in Runtime::ALL {
            let mut ops: Vec<&str> = runtime.rules().rows.iter().flat_map(|r| r.ops).copied().collect();
            let count = ops.len();
            ops.sort_unstable();
            ops.dedup();
            assert_eq!(ops.len(), count, "{runtime}");
            assert_eq!(runtime.name().parse::<Runtime>().expect("a runtime"), runtime);
        }
        assert!("onnx".parse::<Runtime>().expect_err("refused").to_string().contains("openvino"));
    }
}
