//! Goals: the bytes, the time and the loss that a compressed model may have.

use crate::joint::judge::Metric;
use egret::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// A size of a file.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Size {
    /// So many bytes.
    Bytes(u64),
    /// This part of the original.
    Part(f64),
}

impl Size {
    /// In bytes, of a file that had so many.
    pub fn bytes(self, before: usize) -> usize {
        match self {
            Size::Bytes(n) => usize::try_from(n).unwrap_or(usize::MAX),
            Size::Part(part) => (part * before as f64) as usize,
        }
    }
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Size> {
        const UNITS: [(&str, f64); 7] = [
            ("KiB", 1024.0),
            ("MiB", 1_048_576.0),
            ("GiB", 1_073_741_824.0),
            ("KB", 1e3),
            ("MB", 1e6),
            ("GB", 1e9),
            ("B", 1.0),
        ];
        let bad = || {
            Error::user(format!("no size `{text}`; write 4MB, 500KB, 70000 (bytes) or 40% (of the file)"))
        };
        let number =
            |t: &str| t.trim().parse::<f64>().ok().filter(|v| v.is_finite() && *v > 0.0).ok_or_else(bad);
        if let Some(part) = text.strip_suffix('%') {
            return Ok(Size::Part(number(part)? / 100.0));
        }
        let (digits, unit) = UNITS
            .iter()
            .find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))
            .unwrap_or((text, 1.0));
        Ok(Size::Bytes((number(digits)? * unit) as u64))
    }
}

/// How many times as fast as the original a model is to be, by the compiler's estimates.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Speed(f64);

impl Speed {
    /// The time that is left of so many nanoseconds.
    pub fn of(self, before: u64) -> u64 {
        (before as f64 / self.0) as u64
    }
}

impl FromStr for Speed {
    type Err = Error;

    fn from_str(text: &str) -> Result<Speed> {
        let times = text.strip_suffix('x').and_then(|t| t.trim().parse::<f64>().ok());
        let times = times.filter(|v| v.is_finite() && *v > 1.0);
        times
            .map(Speed)
            .ok_or_else(|| Error::user(format!("no speed `{text}`; write 2x or 1.3x: more than 1x")))
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x", self.0)
    }
}

/// The part of the weights that becomes zero, of the layers that can have zeros.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Zeros(f64);

impl Zeros {
    /// How many of so many weights may stay.
    pub fn kept(self, weights: usize) -> usize {
        weights - (self.0 * weights as f64).ceil() as usize
    }
}

impl FromStr for Zeros {
    type Err = Error;

    fn from_str(text: &str) -> Result<Zeros> {
        let part = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().map(|v| v / 100.0),
            None => text.trim().parse(),
        };
        let part = part.ok().filter(|v| *v > 0.0 && *v < 1.0).map(Zeros);
        part.ok_or_else(|| {
            Error::user(format!("no part `{text}`; write 40% or 0.4: more than none and less than all"))
        })
    }
}

impl fmt::Display for Zeros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} %", 100.0 * self.0)
    }
}

/// What a model may lose.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Allowed {
    /// Points: hundredths of the samples.
    Points(f64),
    /// A part of the variance of the outputs.
    Part(f64),
}

impl FromStr for Allowed {
    type Err = Error;

    fn from_str(text: &str) -> Result<Allowed> {
        let bad = || {
            Error::user(format!("no budget `{text}`; write 0.5pt (points of top1), or 1% or 0.01 (of mse)"))
        };
        let number =
            |t: &str| t.trim().parse::<f64>().ok().filter(|v| v.is_finite() && *v >= 0.0).ok_or_else(bad);
        if let Some(points) = text.strip_suffix("pt") {
            return Ok(Allowed::Points(number(points)?));
        }
        match text.strip_suffix('%') {
            Some(part) => Ok(Allowed::Part(number(part)? / 100.0)),
            None => Ok(Allowed::Part(number(text)?)),
        }
    }
}

impl Allowed {
    /// The loss by a metric.
    ///
    /// # Errors
    /// The metric has another unit.
    pub fn loss(self, metric: Metric) -> Result<f64> {
        match (self, metric) {
            (Allowed::Points(points), Metric::Top1) => Ok(points / 100.0),
            (Allowed::Part(part), Metric::Mse) => Ok(part),
            (Allowed::Points(_), Metric::Mse) => Err(Error::user(format!(
                "--budget {self} is of top1, which needs labels: an array `labels` beside the inputs in the .npz file of samples; \
                 without them the metric is mse, whose budget is 1% or 0.01"
            ))),
            (Allowed::Part(_), Metric::Top1) => {
                Err(Error::user("--metric top1 has a budget in points, as 0.5pt".to_owned()))
            }
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allowed::Points(points) => write!(f, "{points}pt"),
            Allowed::Part(part) => write!(f, "{part}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_budgets_have_units() {
        for (text, size) in [
            ("4MB", Size::Bytes(4_000_000)),
            ("1.5KiB", Size::Bytes(1536)),
            ("700", Size::Bytes(700)),
            ("700B", Size::Bytes(700)),
            ("40%", Size::Part(0.4)),
        ] {
            assert_eq!(text.parse::<Size>().expect("a size"), size);
        }
        assert_eq!(Size::Part(0.25).bytes(1000), 250);
        for text in ["", "MB", "-1", "0", "4TB", "nan%"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert_eq!(
            "0.5pt".parse::<Allowed>().expect("a budget").loss(Metric::Top1).expect("points"),
            0.005
        );
        assert_eq!("2%".parse::<Allowed>().expect("a budget").loss(Metric::Mse).expect("a part"), 0.02);
        for (text, metric) in [("0.5pt", Metric::Mse), ("0.5", Metric::Top1)] {
            assert!(text.parse::<Allowed>().expect("a budget").loss(metric).is_err(), "{text}");
        }
        assert_eq!("2x".parse::<Speed>().expect("a speed").of(1000), 500);
        for text in ["", "x", "2", "1x", "0.5x", "-2x", "nanx", "infx"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
        assert_eq!("40%".parse::<Zeros>().expect("a part"), "0.4".parse().expect("a part"));
        // Of 10 weights at least 3.5 go: 4.
        assert_eq!("35%".parse::<Zeros>().expect("a part").kept(10), 6);
        for text in ["", "%", "0", "100%", "1", "40", "-1%", "nan"] {
            assert!(text.parse::<Zeros>().is_err(), "{text}");
        }
        assert!("-1pt".parse::<Allowed>().is_err() && "much".parse::<Allowed>().is_err());
    }
}
