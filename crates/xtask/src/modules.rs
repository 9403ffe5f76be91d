//! Modules of a crate form no circle: in every folder, the files and folders in it can be put in an order in which each uses only
//! earlier ones. A folder's own `mod.rs` (and a crate's `lib.rs`) stands above what is in it and does not count.

use crate::paths::{Import, imports, references, tokens_without_tests};
use crate::source::Source;
use std::collections::{BTreeMap, BTreeSet};

/// What a module must not use, nor what it uses: the crate, the user, the modules and the foreign crates, and why.
struct Forbidden {
    krate: &'static str,
    user: &'static str,
    modules: &'static [&'static str],
    foreign: &'static [&'static str],
    why: &'static str,
}

const FORBIDDEN: [Forbidden; 1] = [Forbidden {
    krate: "egret-opt",
    user: "proof",
    modules: &["eqsat"],
    foreign: &["egg"],
    why: "the proof checker shares nothing with the e-graph whose work it checks",
}];

/// A file of a crate: its module's path, and its tokens without those of tests.
struct File<'a> {
    path: &'a str,
    module: Vec<String>,
    tokens: Vec<String>,
}

/// A use of one module by another: the path of the file, and where it points, from the crate's root. The root itself, `lib.rs`,
/// is the empty path.
struct Use<'a> {
    file: &'a str,
    from: Vec<String>,
    to: Vec<String>,
}

/// Module -> modules that it uses, each with a file that does.
type Edges<'a> = BTreeMap<String, BTreeMap<String, &'a str>>;

/// One line per fault.
pub fn check(sources: &[Source]) -> Vec<String> {
    let mut crates: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for s in sources {
        if let Some((name, _)) = s.in_crate() {
            crates.entry(name).or_default().push(s);
        }
    }
    let mut out = vec![];
    for (name, sources) in crates {
        let files = files(&sources);
        let uses = uses(&files);
        out.extend(circles(name, &uses));
        for rule in FORBIDDEN.iter().filter(|r| r.krate == name) {
            out.extend(forbidden(rule, &files, &uses));
        }
    }
    out.sort();
    out.dedup();
    out
}

/// The module path of a file in `src`.
fn module(path: &str) -> Vec<String> {
    let path = path.trim_end_matches(".rs");
    let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// The files of a crate, without those of tests.
fn files<'a>(sources: &[&'a Source]) -> Vec<File<'a>> {
    let (mut out, mut tests) = (vec![], vec![]);
    for source in sources {
        let Some((_, path)) = source.in_crate() else { continue };
        let module = module(path);
        let (tokens, of_tests) = tokens_without_tests(&source.code());
        tests.extend(of_tests.into_iter().map(|name| [&module[..], &[name]].concat()));
        out.push(File { path: &source.path, module, tokens });
    }
    out.retain(|f| !tests.iter().any(|t| f.module.starts_with(t)));
    out
}

/// References by paths of the crate, in `use` and elsewhere; not those of macros.
fn uses<'a>(files: &[File<'a>]) -> Vec<Use<'a>> {
    let names = Names::new(files);
    let mut out = vec![];
    for f in files {
        for target in references(&f.tokens, &f.module, &|path| names.modules.contains(path)) {
            let mut found = BTreeSet::new();
            names.resolve(&target, &mut BTreeSet::new(), &mut found);
            let found = found.into_iter().filter(|to| *to != f.module);
            out.extend(found.map(|to| Use { file: f.path, from: f.module.clone(), to }));
        }
    }
    out
}

/// The modules of a crate, and what each imports: a module below may name it as if it were defined there.
struct Names {
    modules: BTreeSet<Vec<String>>,
    imports: BTreeMap<Vec<String>, Vec<Import>>,
}

impl Names {
    fn new(files: &[File]) -> Names {
        let modules: BTreeSet<Vec<String>> = files.iter().map(|f| f.module.clone()).collect();
        let mut all: BTreeMap<Vec<String>, Vec<Import>> = BTreeMap::new();
        for f in files {
            let found = imports(&f.tokens, &f.module, &|path| modules.contains(path));
            all.entry(f.module.clone()).or_default().extend(found);
        }
        Names { modules, imports: all }
    }

    /// The modules behind a path: the longest prefix that is a module, and if that has what follows by `use`, the module where it
    /// comes from. `crate::X` with `pub use a::X` in `lib.rs` is `a`'s; with `pub use a::*` it may be.
    fn resolve(
        &self,
        target: &[String],
        seen: &mut BTreeSet<Vec<String>>,
        out: &mut BTreeSet<Vec<String>>,
    ) {
        if !seen.insert(target.to_vec()) {
            return;
        }
        let module = (0..=target.len()).rev().map(|n| &target[..n]).find(|t| self.modules.contains(*t));
        let Some(module) = module else { return };
        let Some(name) = target.get(module.len()) else {
            out.insert(module.to_vec());
            return;
        };
        let imports = self.imports.get(module).map_or(&[][..], Vec::as_slice);
        let named: Vec<&Import> = imports.iter().filter(|i| i.name == *name).collect();
        let rest = &target[module.len()..];
        for import in &named {
            self.resolve(&[&import.path, &rest[1..]].concat(), seen, out);
        }
        let mut by_glob = false;
        for import in imports.iter().filter(|i| named.is_empty() && i.name == "*") {
            by_glob = true;
            self.resolve(&[&import.path, rest].concat(), seen, out);
        }
        // The root only hands on what it imports; every other module on the way is used itself.
        if !module.is_empty() || (named.is_empty() && !by_glob) {
            out.insert(module.to_vec());
        }
    }
}

/// Ways from a module to what it must not use. Who uses an item of `lib.rs` itself uses all that `lib.rs` does.
fn forbidden(rule: &Forbidden, files: &[File], uses: &[Use]) -> Vec<String> {
    let top = |path: &[String]| path.first().cloned().unwrap_or_else(|| "lib.rs".into());
    let mut edges = Edges::new();
    for u in uses {
        edges.entry(top(&u.from)).or_default().entry(top(&u.to)).or_insert(u.file);
    }
    for f in files {
        for foreign in rule.foreign.iter().filter(|c| f.tokens.iter().any(|t| t == *c)) {
            edges.entry(top(&f.module)).or_default().entry(format!("crate {foreign}")).or_insert(f.path);
        }
    }
    let modules = rule.modules.iter().map(|m| (*m).to_owned());
    let targets = modules.chain(rule.foreign.iter().map(|c| format!("crate {c}")));
    targets
        .filter_map(|to| {
            let way = way(rule.user, &to, &edges)?;
            let file = edges.get(rule.user)?.get(way.get(1)?)?;
            Some(format!("{file}: `{}` uses `{to}` ({}): {}", rule.user, way.join(" -> "), rule.why))
        })
        .collect()
}

/// Circles among the members of every folder of a crate.
fn circles(name: &str, uses: &[Use]) -> Vec<String> {
    let mut folders: BTreeMap<Vec<String>, Edges> = BTreeMap::new();
    for u in uses {
        let shared = u.from.iter().zip(&u.to).take_while(|(a, b)| a == b).count();
        if let (Some(a), Some(b)) = (u.from.get(shared), u.to.get(shared)) {
            let members = folders.entry(u.from[..shared].to_vec()).or_default();
            members.entry(a.clone()).or_default().entry(b.clone()).or_insert(u.file);
        }
    }
    let mut out = vec![];
    for (folder, edges) in folders {
        let circle = edges.keys().find_map(|start| way(start, start, &edges));
        if let Some(circle) = circle {
            let place: String = folder.iter().map(|f| format!("{f}/")).collect();
            let closed = circle.iter().rev().nth(1).and_then(|last| edges.get(last)?.get(&circle[0]));
            out.push(format!(
                "crates/{name}/src/{place}: a circle of modules: {} (closed in {})",
                circle.join(" -> "),
                closed.copied().unwrap_or_default()
            ));
        }
    }
    out
}

/// The shortest way from a module to another, or back to it.
fn way(start: &str, goal: &str, edges: &Edges) -> Option<Vec<String>> {
    let mut ways = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut next = vec![];
        for way in ways {
            for to in edges.get(way.last()?).into_iter().flat_map(|m| m.keys()) {
                let longer = [&way[..], std::slice::from_ref(to)].concat();
                if to == goal {
                    return Some(longer);
                }
                if seen.insert(to.clone()) {
                    next.push(longer);
                }
            }
        }
        ways = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> = files
            .iter()
            .map(|(path, text)| Source {
                path: format!("crates/egret-opt/src/{path}"),
                text: (*text).into(),
            })
            .collect();
        check(&sources)
    }

    #[test]
    fn circles_between_files_and_folders_are_faults() {
        let lib = ("lib.rs", "mod a; mod b;");
        assert!(faults(&[lib, ("a.rs", "use crate::b::B;"), ("b.rs", "")]).is_empty());
        let circle = faults(&[lib, ("a.rs", "use crate::b::B;"), ("b.rs", "fn f() { super::a::g() }")]);
        assert!(circle[0].contains("a -> b -> a"), "{circle:?}");
        let deep =
            [("x/mod.rs", ""), ("x/a.rs", "use super::b::{C, D};"), ("x/b.rs", "use crate::x::{a::E};")];
        assert!(faults(&deep)[0].contains("src/x/: a circle"), "{:?}", faults(&deep));
        // A folder's children may use what the folder itself defines, and unit tests anything.
        assert!(faults(&[("x/mod.rs", "use a::A;"), ("x/a.rs", "use super::F;")]).is_empty());
        assert!(
            faults(&[("a.rs", "use crate::b::B;"), ("b.rs", "#[cfg(test)] mod t { use crate::a::A; }")])
                .is_empty()
        );
    }

    #[test]
    fn the_checker_must_not_see_the_e_graph() {
        let found = faults(&[("proof/check.rs", "use crate::eqsat::EGraph;"), ("eqsat/mod.rs", "")]);
        assert!(found[0].contains("`proof` uses `eqsat`"), "{found:?}");
    }

    #[test]
    fn the_checker_must_not_see_the_crate_of_the_e_graph() {
        let found = faults(&[("proof/check.rs", "use egg::EGraph;"), ("proof/mod.rs", "mod check;")]);
        assert!(found[0].contains("proof/check.rs: `proof` uses `crate egg`"), "{found:?}");
        let other =
            [("eqsat/mod.rs", "use egg::EGraph;"), ("proof/mod.rs", "// egg\nconst A: &str = \"egg\";")];
        assert!(faults(&other).is_empty(), "{:?}", faults(&other));
    }

    #[test]
    fn what_the_root_exports_again_belongs_to_its_module() {
        let uses = |lib: &str, check: &str| {
            faults(&[
                ("lib.rs", lib),
                ("eqsat/mod.rs", "mod deep;"),
                ("eqsat/deep.rs", ""),
                ("rules.rs", ""),
                ("proof/mod.rs", "mod check;"),
                ("proof/check.rs", check),
            ])
        };
        for (lib, check) in [
            ("pub use eqsat::X;", "use crate::X;"),
            ("pub use eqsat::{Y, deep::X};", "use crate::{rules::R, X};"),
            ("pub(crate) use self::eqsat::Y as X;", "fn f() { crate::X::new() }"),
            ("use crate::eqsat as graphs;", "use super::super::graphs::X;"),
            ("pub use eqsat::*;", "use crate::X;"),
            // An item of the root, and all of them.
            ("pub type X = eqsat::X;", "use crate::X;"),
            ("pub use eqsat::X;", "use crate::*;"),
        ] {
            let found = uses(lib, check);
            assert!(found.iter().any(|f| f.contains("`proof` uses `eqsat`")), "{lib} {check}: {found:?}");
        }
        let fine = uses("pub use eqsat::X; pub use rules::R;", "use crate::R;");
        assert!(fine.is_empty(), "{fine:?}");
        // It closes circles, too.
        let circle =
            faults(&[("lib.rs", "pub use a::A;"), ("a.rs", "use crate::b::B;"), ("b.rs", "use crate::A;")]);
        assert!(circle[0].contains("a -> b -> a"), "{circle:?}");
    }

    #[test]
    fn the_checker_must_not_reach_the_e_graph_by_others() {
        let found = faults(&[
            ("proof/check.rs", "use crate::matching::M;"),
            ("matching.rs", "use crate::regions::R;"),
            ("regions.rs", "use crate::eqsat::E;"),
            ("eqsat/mod.rs", ""),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("(proof -> matching -> regions -> eqsat)"), "{found:?}");
    }

    #[test]
    fn code_behind_the_declaration_of_tests_counts() {
        let pool = "mod fork;\n#[cfg(test)]\nmod tests;\nuse crate::model::Model;";
        let files = [
            ("lib.rs", "mod model; mod pool;"),
            ("model.rs", "use crate::pool::Pool;"),
            ("pool/mod.rs", pool),
            ("pool/fork.rs", ""),
            // Code of tests by its declaration.
            ("pool/tests.rs", "use crate::model::Input;"),
        ];
        let found = faults(&files);
        assert!(found[0].contains("model -> pool -> model"), "{found:?}");
        let without = pool.replace("use crate::model::Model;", "");
        let fine = files.map(|(p, t)| if p == "pool/mod.rs" { (p, without.as_str()) } else { (p, t) });
        assert!(faults(&fine).is_empty(), "{:?}", faults(&fine));
    }
}
