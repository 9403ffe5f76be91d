//! What a report tells of the values between layers.

use crate::quantize::Activations;
use crate::quantize::histogram::Range;
use crate::report::{self, Quantiser};

impl Activations {
    /// The ranges, by value.
    pub fn report(&self) -> Vec<report::Range> {
        let of = |(name, range): (&String, &Range)| report::Range {
            name: name.clone(),
            low: range.grids().iter().map(|g| g.value(g.low)).fold(0.0, f64::min),
            high: range.grids().iter().map(|g| g.value(g.high)).fold(0.0, f64::max),
            method: range.method,
        };
        self.ranges.iter().map(of).collect()
    }

    /// What became of each value that could be bytes, and why.
    pub fn quantisers(&self) -> Vec<Quantiser> {
        let mut out: Vec<Quantiser> = vec![];
        for (value, why) in &self.places.why {
            let range = self.ranges.get(value);
            let placed = range.is_some();
            let more = match range.map(|r| r.channels.len()) {
                None => "; but samples gave it no range: it holds no f32, or what is no finite number"
                    .to_owned(),
                Some(0) => String::new(),
                Some(count) => {
                    format!("; a scale for each of {count} channels, which depthwise layers alone read")
                }
            };
            let why = format!("{why}{more}");
            out.push(Quantiser { value: value.clone(), placed, why });
        }
        for (value, why) in &self.places.why_not {
            out.push(Quantiser { value: value.clone(), placed: false, why: why.clone() });
        }
        out
    }
}
