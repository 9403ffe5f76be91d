//! The files of runtimes: their keys and words, and what is refused. `ir-spec/rules/README.md` describes them.

use super::{Biases, Clamps, Codes, Does, Readers, Row, Rules, Scales};
use crate::movers::MOVERS;
use egret::frontend::operators;
use egret::{Error, Result, near};
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A choice that a file makes by a word.
trait Word: Copy + 'static {
    /// The words, and what they mean.
    const WORDS: &[(&str, Self)];
}

impl Word for Codes {
    const WORDS: &[(&str, Codes)] = &[("uint8", Codes::Unsigned), ("int8", Codes::Symmetric)];
}

impl Word for Scales {
    const WORDS: &[(&str, Scales)] = &[("one", Scales::One), ("channels", Scales::OfChannels)];
}

impl Word for Biases {
    const WORDS: &[(&str, Biases)] = &[("floats", Biases::Floats), ("int32", Biases::Products)];
}

impl Word for Clamps {
    const WORDS: &[(&str, Clamps)] = &[("stay", Clamps::Stay), ("go", Clamps::AreTheCodes)];
}

impl Word for Readers {
    const WORDS: &[(&str, Readers)] = &[("rows", Readers::Rows), ("all", Readers::All)];
}

impl Word for Does {
    const WORDS: &[(&str, Does)] = &[
        ("multiplies", Does::Multiplies),
        ("multiplies to bytes", Does::MultipliesToBytes),
        ("keeps inputs", Does::KeepsInputs),
        ("moves", Does::Moves),
        ("joins", Does::Joins),
        ("shares", Does::Shares),
        ("sums", Does::Sums),
        ("reads", Does::Reads),
    ];
}

/// What stands for all of [`MOVERS`] in a list of operators.
const ALL_MOVERS: &str = "@movers";

/// The operators that multiply by weights which quantisation knows.
const PRODUCTS: [&str; 4] = ["Conv", "ConvTranspose", "Gemm", "MatMul"];

const KEYS: [&str; 7] = ["title", "codes", "scales", "biases", "clamps", "readers", "row"];
const ROW_KEYS: [&str; 4] = ["ops", "but", "does", "why"];

/// A file on its way to rules.
struct Reader<'a> {
    file: &'a str,
    text: &'a str,
}

/// Read the rules of a runtime; `file` is what errors call it.
///
/// # Errors
/// The first line that is wrong, and why.
pub fn read(name: &str, file: &str, text: &str) -> Result<Rules> {
    let r = Reader { file, text };
    let one_line = |text: &str| text.lines().collect::<Vec<_>>().join(" ");
    let parsed =
        DeTable::parse(text).map_err(|e| r.fault(&e.span().unwrap_or(0..0), one_line(e.message())))?;
    let (whole, table) = (r.end(), parsed.into_inner());
    r.known(&table, &KEYS)?;
    let rows = table.get("row").ok_or_else(|| r.fault(&whole, "it has no [[row]]"))?;
    let list = rows.get_ref().as_array();
    let list = list.ok_or_else(|| r.fault(&rows.span(), "rows are written [[row]]"))?;
    let mut rules = Rules {
        name: name.to_owned(),
        title: r.string(&table, &whole, "title")?.0.to_owned(),
        codes: r.word(&table, &whole, "codes")?,
        scales: match table.contains_key("scales") {
            true => r.word(&table, &whole, "scales")?,
            false => Scales::One,
        },
        biases: r.word(&table, &whole, "biases")?,
        clamps: r.word(&table, &whole, "clamps")?,
        readers: r.word(&table, &whole, "readers")?,
        rows: vec![],
    };
    if let (Scales::OfChannels, Biases::Products, Some(scales)) =
        (rules.scales, rules.biases, table.get("scales"))
    {
        return Err(r.fault(&scales.span(), "`scales` of channels go with `biases` that are floats"));
    }
    for row in list {
        let row = r.row(row, &rules)?;
        rules.rows.push(row);
    }
    Ok(rules)
}

impl Reader<'_> {
    fn fault(&self, at: &Range<usize>, message: impl std::fmt::Display) -> Error {
        let before = self.text.get(..at.start.min(self.text.len())).unwrap_or_default();
        let line = 1 + before.bytes().filter(|b| *b == b'\n').count();
        Error::user(format!("{}:{line}: {message}", self.file))
    }

    /// The end of the file, where something is missing.
    fn end(&self) -> Range<usize> {
        let end = self.text.trim_end().len();
        end..end
    }

    /// That a table has these keys alone.
    fn known(&self, table: &DeTable<'_>, keys: &[&str]) -> Result<()> {
        match table.keys().find(|k| !keys.contains(&k.get_ref().as_ref())) {
            None => Ok(()),
            Some(key) => {
                let text = format!("unknown key `{}`; write {}", key.get_ref(), keys.join(", "));
                Err(self.fault(&key.span(), text))
            }
        }
    }

    /// A string of a table that stands at a place, with the string's own place.
    fn string<'t>(
        &self,
        table: &'t DeTable<'_>,
        at: &Range<usize>,
        key: &str,
    ) -> Result<(&'t str, Range<usize>)> {
        let value = table.get(key).ok_or_else(|| self.fault(at, format!("no `{key}`")))?;
        let text = value.get_ref().as_str().filter(|t| !t.trim().is_empty());
        let text = text.ok_or_else(|| self.fault(&value.span(), format!("`{key}` is words in quotes")))?;
        Ok((text, value.span()))
    }

    /// A choice of a table that stands at a place.
    fn word<T: Word>(&self, table: &DeTable<'_>, at: &Range<usize>, key: &str) -> Result<T> {
        let (text, at) = self.string(table, at, key)?;
        T::WORDS.iter().find(|(word, _)| *word == text).map(|(_, means)| *means).ok_or_else(|| {
            let words: Vec<String> = T::WORDS.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.fault(&at, format!("`{key}` is one of {}", words.join(", ")))
        })
    }

    /// A row that comes after others.
    fn row(&self, row: &Spanned<DeValue<'_>>, before: &Rules) -> Result<Row> {
        let at = row.span();
        let table = row.get_ref().as_table().ok_or_else(|| self.fault(&at, "rows are written [[row]]"))?;
        self.known(table, &ROW_KEYS)?;
        let does = self.word(table, &at, "does")?;
        let why = self.string(table, &at, "why")?.0.to_owned();
        let listed = table.get("ops").ok_or_else(|| self.fault(&at, "no `ops`"))?;
        let mut ops = self.ops(listed, "ops")?;
        if let Some(but) = table.get("but") {
            for (op, at) in self.ops(but, "but")? {
                let place = ops.iter().position(|(o, _)| *o == op);
                let place = place.ok_or_else(|| {
                    self.fault(&at, format!("`but` takes `{op}` out, which is not in `ops`"))
                })?;
                ops.remove(place);
            }
        }
        if ops.is_empty() {
            return Err(self.fault(&at, "the row has no operator"));
        }
        for (i, (op, at)) in ops.iter().enumerate() {
            let multiplies = matches!(does, Does::Multiplies | Does::MultipliesToBytes | Does::KeepsInputs);
            let wrong = if before.row(op).is_some() || ops[..i].iter().any(|(o, _)| o == op) {
                Some("is there already: an operator is in one row".to_owned())
            } else if multiplies && !PRODUCTS.contains(&op.as_str()) {
                Some(format!("does not multiply by weights: of these there are {}", PRODUCTS.join(", ")))
            } else if does == Does::Moves && !MOVERS.contains(&op.as_str()) {
                Some(format!("makes numbers: those that move them are {}", MOVERS.join(", ")))
            } else {
                None
            };
            if let Some(wrong) = wrong {
                return Err(self.fault(at, format!("`{op}` {wrong}")));
            }
        }
        Ok(Row { ops: ops.into_iter().map(|(op, _)| op).collect(), does, why })
    }

    /// The operators of a list, each with its place.
    fn ops(&self, list: &Spanned<DeValue<'_>>, key: &str) -> Result<Vec<(String, Range<usize>)>> {
        let wrong =
            |at: Range<usize>| self.fault(&at, format!("`{key}` is a list of operators, as [\"Conv\"]"));
        let mut out = vec![];
        for op in list.get_ref().as_array().ok_or_else(|| wrong(list.span()))? {
            let name = op.get_ref().as_str().ok_or_else(|| wrong(op.span()))?;
            if name == ALL_MOVERS {
                out.extend(MOVERS.map(|m| (m.to_owned(), op.span())));
                continue;
            }
            if !operators().any(|o| o == name) {
                let near = near(name, operators());
                let near = near.first().map_or(String::new(), |n| format!("; the nearest is `{n}`"));
                return Err(
                    self.fault(&op.span(), format!("`{name}` is no operator that Egret knows{near}"))
                );
            }
            out.push((name.to_owned(), op.span()));
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "title = 'X'\ncodes = 'uint8'\nbiases = 'floats'\nclamps = 'stay'\nreaders = 'rows'\n";

    fn told(text: &str) -> String {
        read("mine", "mine.toml", text).expect_err(text).to_string()
    }

    #[test]
    fn a_file_is_read() {
        let rows = "[[row]]\nops = ['@movers']\nbut = ['Tile']\ndoes = 'moves'\nwhy = 'so'\n\
                    [[row]]\nops = ['Conv', 'Gemm']\ndoes = 'multiplies to bytes'\nwhy = 'it does'\n";
        let rules = read("mine", "mine.toml", &format!("{HEAD}{rows}")).expect("rules");
        assert_eq!((rules.name.as_str(), rules.title.as_str()), ("mine", "X"));
        assert_eq!(rules.scales, Scales::One, "where nothing is said");
        let said = read("mine", "mine.toml", &format!("scales = 'channels'\n{HEAD}{rows}")).expect("rules");
        assert_eq!(said.scales, Scales::OfChannels);
        assert_eq!((rules.does("Slice"), rules.does("Tile")), (Some(Does::Moves), None));
        assert_eq!(rules.rows[0].ops.len(), MOVERS.len() - 1);
        assert_eq!(rules.row("Gemm").map(|r| (r.does, r.why.as_str())), {
            Some((Does::MultipliesToBytes, "it does"))
        });
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let row = |text: &str| told(&format!("{HEAD}[[row]]\n{text}"));
        let cases = [
            (
                told("title = 'X'\ncodes = 'uint9'\nrow = []"),
                "mine.toml:2: `codes` is one of \"uint8\", \"int8\"",
            ),
            (
                told(&format!("scales = 'many'\n{HEAD}row = []")),
                "mine.toml:1: `scales` is one of \"one\", \"channels\"",
            ),
            (
                told(&format!("scales = 'channels'\n{}row = []", HEAD.replace("floats", "int32"))),
                "mine.toml:1: `scales` of channels go with `biases` that are floats",
            ),
            (told("title = \n"), "mine.toml:1: "),
            (told("titel = 'X'"), "mine.toml:1: unknown key `titel`; write title, codes,"),
            (told(HEAD), "mine.toml:5: it has no [[row]]"),
            (told("title = 'X'\n\n[[row]]\n"), "mine.toml:3: no `codes`"),
            (told(&format!("{HEAD}row = 'all'\n")), "mine.toml:6: rows are written [[row]]"),
            (row("ops = ['Conv']\ndoes = 'multiplies'"), "mine.toml:6: no `why`"),
            (row("ops = 'Conv'\ndoes = 'joins'\nwhy = 'so'"), "mine.toml:7: `ops` is a list of operators"),
            (
                row("ops = ['Convv']\ndoes = 'joins'\nwhy = 'so'"),
                "mine.toml:7: `Convv` is no operator that Egret knows; the nearest is `Conv`",
            ),
            (row("ops = []\ndoes = 'joins'\nwhy = 'so'"), "mine.toml:6: the row has no operator"),
            (
                row("ops = ['Add', 'Add']\ndoes = 'joins'\nwhy = 'so'"),
                "mine.toml:7: `Add` is there already",
            ),
            (row("ops = ['Add']\ndoes = 'moves'\nwhy = 'so'"), "mine.toml:7: `Add` makes numbers"),
            (
                row("ops = ['Add']\ndoes = 'multiplies'\nwhy = 'so'"),
                "mine.toml:7: `Add` does not multiply by weights",
            ),
            (
                row("ops = ['Add']\nbut = ['Mul']\ndoes = 'joins'\nwhy = 'so'"),
                "mine.toml:8: `but` takes `Mul` out",
            ),
            (
                row("ops = ['Add']\ndo = 'joins'\nwhy = 'so'"),
                "mine.toml:8: unknown key `do`; write ops, but, does, why",
            ),
            (
                row("ops = ['Add']\ndoes = 'join'\nwhy = 'so'"),
                "mine.toml:8: `does` is one of \"multiplies\",",
            ),
            (row("ops = ['Add']\ndoes = 'joins'\nwhy = ''"), "mine.toml:9: `why` is words in quotes"),
        ];
        for (told, wanted) in cases {
            assert!(told.starts_with(wanted), "{told}\n{wanted}");
        }
    }
}
