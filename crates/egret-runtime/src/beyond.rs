//! Why a number of the data cannot be an index, or a dim.

use crate::abi::BadIndex;

/// The kernel that makes a number of the data a dim, and the one that stacks what a round of a loop gives.
const COUNTS: &str = "count_rounds";
const STACKS: &str = "scan_put_any";

/// What `egret-onnx` counts of a Range by a step of 0, and of one that has no end.
const NO_STEP: i64 = i64::MIN;
const NO_END: i64 = i64::MIN + 1;

/// Why a kernel, which these nodes are, stopped at a number.
pub(crate) fn why(bad: &BadIndex, kernel: &str, node: Option<&str>) -> String {
    match kernel {
        COUNTS => of_dim(bad.value.to_string(), bad.value, bad.high.wrapping_sub(1), node),
        STACKS => of_dim(format!("{} or more", bad.value.saturating_add(1)), bad.value, bad.high, node),
        _ => bad.to_string(),
    }
}

/// Why a number of the data cannot be a dim.
fn of_dim(dim: String, value: i64, room: i64, node: Option<&str>) -> String {
    match value {
        NO_STEP => format!("data gives a dim of {dim}, as a Range by a step of 0 does"),
        NO_END => format!("data gives a dim of {dim}, as a Range does that has no end"),
        _ if value < 0 => format!("data gives a dim of {dim}"),
        _ => format!(
            "data gives a dim of {dim}, and there is room for {room}, as --at-most or the model itself says{}",
            node.map_or_else(String::new, more_room)
        ),
    }
}

/// The option that makes more room for what a node decides, which has its operator, a colon and its name; nothing for several.
fn more_room(node: &str) -> String {
    if node.contains(", ") || !node.contains(':') {
        return String::new();
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:".contains(c);
    let option = match node.chars().all(plain) {
        true => format!("{node}=N"),
        false => format!("'{}=N'", node.replace('\'', r"'\''")),
    };
    format!("; compile with more, --at-most {option}")
}

#[cfg(test)]
mod tests {
    use super::{BadIndex, COUNTS, why};

    #[test]
    fn more_room_is_asked_for_by_the_node() {
        let bad = |value| BadIndex { value, low: 0, high: 11 };
        let said = |value, node| why(&bad(value), COUNTS, node);
        let room =
            "data gives a dim of 12, and there is room for 10, as --at-most or the model itself says";
        assert_eq!(said(12, Some("Loop:L")), format!("{room}; compile with more, --at-most Loop:L=N"));
        assert_eq!(
            said(12, Some("Loop:a b")),
            format!("{room}; compile with more, --at-most 'Loop:a b=N'")
        );
        assert_eq!(said(12, Some("Range:a, Add:b")), room);
        assert_eq!(said(12, None), room);
        assert_eq!(said(-1, Some("Pad:p")), "data gives a dim of -1");
        assert!(said(i64::MIN, None).ends_with("by a step of 0 does"));
    }
}
