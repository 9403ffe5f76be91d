//! Amounts as a file spells them: bytes, times, counts.

/// What a figure is counted in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Pieces.
    Count,
    /// Nanoseconds.
    Nanoseconds,
}

const BYTES: [(&str, u64); 7] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

const TIMES: [(&str, u64); 5] =
    [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("min", 60_000_000_000)];

/// Beyond it a product of decimals is not exact.
const MOST: f64 = (1_u64 << 53) as f64;

impl Unit {
    /// How the unit is called in reports.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Bytes => "bytes",
            Unit::Count => "count",
            Unit::Nanoseconds => "ns",
        }
    }

    /// What an amount looks like, for messages.
    pub fn example(self) -> &'static str {
        match self {
            Unit::Bytes => "bytes as a number, or with a unit (B, KB, MB, GB, KiB, MiB, GiB), e.g. \"2MB\"",
            Unit::Count => "a whole number, e.g. 60",
            Unit::Nanoseconds => "a time with its unit (ns, us, ms, s, min), e.g. \"3ms\"",
        }
    }

    /// An amount of this unit; `None` if the text is none.
    pub fn parse(self, text: &str) -> Option<u64> {
        let text = text.trim();
        let units: &[(&str, u64)] = match self {
            Unit::Bytes => &BYTES,
            Unit::Nanoseconds => &TIMES,
            Unit::Count => &[],
        };
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = (&text[..digits], text[digits..].trim_start());
        if unit.is_empty() && self != Unit::Nanoseconds {
            return number.parse().ok();
        }
        let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
        let amount = number.parse::<f64>().ok()? * *factor as f64;
        (amount < MOST).then_some(amount.round() as u64)
    }

    /// An amount for people.
    pub fn text(self, amount: u64) -> String {
        let scaled = |units: &[(&str, u64)]| {
            let (name, factor) = units.iter().rfind(|(_, f)| amount >= *f).unwrap_or(&units[0]);
            match factor {
                1 => format!("{amount} {name}"),
                _ => format!("{:.2} {name}", amount as f64 / *factor as f64),
            }
        };
        match self {
            Unit::Bytes => scaled(&BYTES[..4]),
            Unit::Nanoseconds => scaled(&TIMES[..4]),
            Unit::Count => amount.to_string(),
        }
    }

    /// An amount to the last byte, for messages about a difference.
    pub fn exact(self, amount: u64) -> String {
        match self {
            Unit::Bytes => format!("{amount} bytes"),
            _ => self.text(amount),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Unit;

    #[test]
    fn amounts_have_units() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("2MB", Some(2_000_000)),
            ("1.5 MiB", Some(3 << 19)),
            (" 7B ", Some(7)),
            ("0.001KB", Some(1)),
            ("2M", None),
            ("2mb", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("MB", None),
            ("1.2.3MB", None),
            ("9999999999GB", None),
            ("99999999999999999999", None),
            ("１MB", None),
        ] {
            assert_eq!(Unit::Bytes.parse(text), bytes, "{text}");
        }
        for (text, ns) in [
            ("3ms", Some(3_000_000)),
            ("0.5 s", Some(500_000_000)),
            ("2min", Some(120_000_000_000)),
            ("0s", Some(0)),
            ("3", None),
            ("3h", None),
        ] {
            assert_eq!(Unit::Nanoseconds.parse(text), ns, "{text}");
        }
        assert_eq!([Unit::Count.parse("60"), Unit::Count.parse("60B")], [Some(60), None]);
    }

    #[test]
    fn amounts_are_told_in_their_largest_unit() {
        assert_eq!(Unit::Bytes.text(999), "999 B");
        assert_eq!(Unit::Bytes.text(1_500_000), "1.50 MB");
        assert_eq!(Unit::Nanoseconds.text(61_000_000_000), "61.00 s");
        assert_eq!(Unit::Bytes.text(0), "0 B");
    }
}
