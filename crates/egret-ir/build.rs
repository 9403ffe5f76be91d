//! Generates the enums `Op` and `Family` and the op table's rows from `ir-spec/ops/FAMILY.toml`, so that table and code
//! cannot disagree.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::{env, fs, path::Path};

/// A table of columns for all rows of its file that do not have them.
const DEFAULTS: &str = "defaults";

/// What a row may have. An unknown column is an error, so that none is misspelt.
const COLUMNS: &[&str] = &[
    "operands",
    "results",
    "regions",
    "traits",
    "types",
    "result",
    "cost",
    "fusion",
    "aliases",
    "rounding",
    "range",
    "derivative",
    "attrs",
    "doc",
];

fn main() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ir-spec/ops");
    println!("cargo::rerun-if-changed={}", dir.display());
    let mut files: Vec<_> =
        fs::read_dir(&dir).expect("ir-spec/ops").map(|e| e.expect("dir entry").path()).collect();
    files.sort();
    let (mut families, mut members) = (String::new(), String::new());
    let (mut kinds, mut arms) = (String::new(), String::new());
    let mut names = vec![];
    // By name, whichever the family: an operation that changes its family keeps its place.
    let mut ops: BTreeMap<String, (String, String)> = BTreeMap::new();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "toml")) {
        println!("cargo::rerun-if-changed={}", file.display());
        let text = fs::read_to_string(file).expect("op table");
        let table: toml::Table = text.parse().unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let family = file.file_stem().and_then(|s| s.to_str()).expect("a family's name").to_owned();
        let head = text.lines().next().and_then(|l| l.strip_prefix("# "));
        let head = head.unwrap_or_else(|| panic!("{}: the first line says what it is", file.display()));
        let kind = camel(&family);
        writeln!(families, "    /// {head}\n    {kind},").expect("write");
        writeln!(kinds, "    /// {head}\n    {kind}(families::{kind}),").expect("write");
        let (mut variants, mut ops_of) = (String::new(), String::new());
        let nothing = toml::Table::new();
        let defaults = table.get(DEFAULTS).map_or(&nothing, |d| d.as_table().expect("a table of defaults"));
        for name in table.keys().filter(|name| *name != DEFAULTS) {
            let mut row = defaults.clone();
            row.extend(table[name].as_table().expect("a row is a table").clone());
            if let Some(column) = row.keys().find(|k| !COLUMNS.contains(&k.as_str())) {
                panic!("{}: `{name}` has the unknown column `{column}`", file.display());
            }
            let before = ops.insert(name.clone(), op(name, &family, &row));
            assert!(before.is_none(), "{}: there is another `{name}`", file.display());
            let op = camel(name);
            write!(variants, "        /// [`Op::{op}`].\n        {op},\n").expect("write");
            writeln!(ops_of, "                {kind}::{op} => Op::{op},").expect("write");
            writeln!(arms, "            Op::{op} => Member::{kind}(families::{kind}::{op}),")
                .expect("write");
        }
        write!(
            members,
            "    /// {head}
    #[derive(Copy, Clone, Debug, PartialEq, Eq)]
    pub enum {kind} {{
{variants}    }}

    impl From<{kind}> for Op {{
        fn from(op: {kind}) -> Op {{
            match op {{
{ops_of}            }}
        }}
    }}

"
        )
        .expect("write");
        names.push(family);
    }
    let (variants, rows): (String, String) = ops.into_values().unzip();
    let all: String = names.iter().map(|f| format!("Family::{}, ", camel(f))).collect();
    let code = format!(
        "/// A primitive operation. Generated from `ir-spec/ops`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {{
{variants}}}

/// Operations of one kind: a file of `ir-spec/ops`, and the files of the same name in inference, interpreter, importer and
/// lowering.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {{
{families}}}

/// The operations of each family, so that a match over one family names all of its operations.
pub mod families {{
    use super::Op;

{members}}}

/// An operation as a member of its family.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Member {{
{kinds}}}

impl Op {{
    /// The operation as a member of its family: a match over it is held by the compiler to name every operation of
    /// the families that it looks into.
    pub fn member(self) -> Member {{
        match self {{
{arms}        }}
    }}
}}

pub(crate) static TABLE: &[OpInfo] = &[
{rows}];

static FAMILIES: &[Family] = &[{all}];
static FAMILY_NAMES: &[&str] = &{names:?};
"
    );
    fs::write(Path::new(&env::var("OUT_DIR").expect("OUT_DIR")).join("op_table.rs"), code)
        .expect("write op_table.rs");
}

/// `layer_norm` as `LayerNorm`.
fn camel(name: &str) -> String {
    name.split('_')
        .map(|w| {
            let mut c = w.chars();
            c.next().map(|f| f.to_uppercase().collect::<String>() + c.as_str()).unwrap_or_default()
        })
        .collect()
}

/// The member of `Op` and the row of the table.
fn op(name: &str, family: &str, row: &toml::Table) -> (String, String) {
    let strings = |key: &str| -> Vec<String> {
        let text = |s: &toml::Value| s.as_str().expect("string").to_owned();
        row.get(key).map(|v| v.as_array().expect("array").iter().map(text).collect()).unwrap_or_default()
    };
    let text_of =
        |key: &str, default: &str| row.get(key).map_or(default, |v| v.as_str().expect("string")).to_owned();
    let attrs: String = row
        .get("attrs")
        .map(|v| v.as_table().expect("a table of attributes").iter().map(attr).collect())
        .unwrap_or_default();
    let traits: String = strings("traits").iter().map(|t| format!("Trait::{}, ", camel(t))).collect();
    let cost = row.get("cost").and_then(|c| c.as_str()).unwrap_or_else(|| panic!("`{name}` has no cost"));
    let fusion = strings("fusion");
    let known = ["epilogue", "prologue", "strided"];
    assert!(
        fusion.iter().all(|f| known.contains(&f.as_str())),
        "`{name}`: `fusion` has more than {known:?}"
    );
    let [epilogue, prologue, strided] = known.map(|role| fusion.iter().any(|f| f == role));
    let aliases = camel(&text_of("aliases", "never"));
    let rounding = camel(&text_of("rounding", "steps"));
    let range = row.get("range").map(|r| {
        let bound = |i: usize| {
            r.get(i).and_then(|v| v.as_float()).unwrap_or_else(|| panic!("`{name}`: two floats"))
        };
        [bound(0), bound(1)].map(literal)
    });
    let range = range.map_or("None".into(), |[low, high]| format!("Some(({low}, {high}))"));
    let derivative = derivative(name, row.get("derivative"));
    let (variant, doc) = (camel(name), text_of("doc", ""));
    (
        format!("    /// `{name}`: {}\n    {variant},\n", doc.replace('[', "\\[").replace(']', "\\]")),
        format!(
            "    OpInfo {{ op: Op::{variant}, name: {name:?}, family: Family::{}, operands: &{:?}, results: {}, regions: &{:?}, traits: &[{traits}], types: {:?}, result: {:?}, cost: CostClass::{}, fusion: FusionRoles {{ epilogue: {epilogue}, prologue: {prologue}, strided: {strided} }}, aliases: Aliases::{aliases}, rounding: Rounding::{rounding}, range: {range}, derivative: {derivative}, attrs: &[{attrs}], doc: {doc:?} }},\n",
            camel(family),
            strings("operands"),
            row.get("results").map_or(1, |v| v.as_integer().expect("integer")),
            strings("regions"),
            text_of("types", "any"),
            text_of("result", "same"),
            camel(cost),
        ),
    )
}

/// What the derivative is: `"rule"`, or a table of one of `slope`, `zero` and `none`.
fn derivative(name: &str, column: Option<&toml::Value>) -> String {
    match column {
        Some(toml::Value::String(rule)) if rule == "rule" => return "Derivative::Rule".into(),
        Some(toml::Value::Table(one)) if one.len() == 1 => {
            let (key, text) = one.iter().next().expect("an entry");
            let text = text.as_str().unwrap_or_else(|| panic!("`{name}`: `{key}` is no string"));
            match key.as_str() {
                "slope" => return format!("Derivative::Slope(Op::{})", camel(text)),
                "zero" | "none" => return format!("Derivative::{}({text:?})", camel(key)),
                _ => {}
            }
        }
        _ => {}
    }
    panic!(
        "`{name}`: `derivative` is \"rule\", {{ slope = operation }}, {{ zero = reason }} or {{ none = reason }}"
    )
}

/// A float in Rust.
fn literal(v: f64) -> String {
    match v {
        f64::INFINITY => "f64::INFINITY".into(),
        f64::NEG_INFINITY => "f64::NEG_INFINITY".into(),
        v => format!("{v:?}"),
    }
}

/// The row of an attribute: its kind, or the words that it may be.
fn attr((name, kind): (&String, &toml::Value)) -> String {
    let kind = match kind {
        toml::Value::String(kind) if kind == "dtype" => "DType".into(),
        toml::Value::String(kind) => camel(kind),
        toml::Value::Array(words) => {
            let words: Vec<&str> = words.iter().map(|w| w.as_str().expect("a word")).collect();
            format!("Word(&{words:?})")
        }
        other => panic!("`{name}` is neither a kind nor a list of words: {other}"),
    };
    format!("AttrInfo {{ name: {name:?}, kind: AttrKind::{kind} }}, ")
}
