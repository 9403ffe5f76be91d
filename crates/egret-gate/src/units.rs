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

    /// An amount as a file spells it, rounded up to three digits.
    pub fn above(self, amount: u64) -> String {
        let units: &[(&str, u64)] = match self {
            Unit::Bytes => &BYTES[..4],
            Unit::Nanoseconds => &TIMES[..4],
            Unit::Count => return amount.to_string(),
        };
        let (name, factor) = units.iter().rfind(|(_, f)| amount >= *f).unwrap_or(&units[0]);
        // Decimals that there is room for.
        let parts = match amount / factor {
            _ if *factor == 1 => 1,
            0..10 => 100,
            10..100 => 10,
            _ => 1,
        };
        let n = amount.div_ceil(factor / parts);
        let decimals = match parts {
            1 => String::new(),
            _ => format!("{:0width$}", n % parts, width = parts.ilog10() as usize),
        };
        match decimals.trim_end_matches('0') {
            "" => format!("{}{name}", n / parts),
            decimals => format!("{}.{decimals}{name}", n / parts),
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
    fn amounts_are_rounded_up_to_three_digits() {
        for (amount, text) in [
            (0, "0B"),
            (999, "999B"),
            (1_000, "1KB"),
            (1_001, "1.01KB"),
            (12_340, "12.4KB"),
            (215_001, "216KB"),
            (999_001, "1000KB"),
            (9_999_999, "10MB"),
            (1_050_000, "1.05MB"),
        ] {
            assert_eq!(Unit::Bytes.above(amount), text);
        }
        assert_eq!(
            (Unit::Nanoseconds.above(1_500_001), Unit::Count.above(1_234)),
            ("1.51ms".into(), "1234".into())
        );
        for unit in [Unit::Bytes, Unit::Nanoseconds, Unit::Count] {
            let mut amount = 1_u64;
            while amount < 1 << 50 {
                for near in [amount - 1, amount, amount + 1] {
                    let read = unit.parse(&unit.above(near)).expect("an amount");
                    assert!(near <= read && read <= near + near / 100 + 1, "{near} {read}");
                }
                amount += amount / 7 + 1;
            }
        }
    }

    #[test]
    fn amounts_are_told_in_their_largest_unit() {
        assert_eq!(Unit::Bytes.text(999), "999 B");
        assert_eq!(Unit::Bytes.text(1_500_000), "1.50 MB");
        assert_eq!(Unit::Nanoseconds.text(61_000_000_000), "61.00 s");
        assert_eq!(Unit::Bytes.text(0), "0 B");
    }
}
