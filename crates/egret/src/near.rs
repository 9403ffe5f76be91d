//! Names that are nearly the one asked for.

/// At most so many are named.
const SHOWN: usize = 5;

/// Edits that turn one text into the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

/// The names nearest to `wanted`, as a whole or in one of their parts (between `/`, `:` and `.`), the nearest first.
pub fn near<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = wanted.to_lowercase();
    let score = |name: &str| {
        let name = name.to_lowercase();
        let parts = name.split(['/', ':', '.']).filter(|p| !p.is_empty());
        parts.chain([name.as_str()]).map(|p| distance(&wanted, p)).min().unwrap_or(usize::MAX)
    };
    let mut scored: Vec<(usize, &str)> = names.into_iter().map(|n| (score(n), n)).collect();
    scored.sort_unstable();
    scored.dedup();
    scored.into_iter().take(SHOWN).map(|(_, n)| n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first() {
        let names = ["Conv:/features/conv1/Conv", "Conv:/features/conv2/Conv", "Gemm:/classifier/Gemm"];
        assert_eq!(near("clasifier", names)[0], "Gemm:/classifier/Gemm");
        assert_eq!(near("conv3", names)[..2], names[..2]);
        assert_eq!(near("x", []), Vec::<&str>::new());
    }
}
