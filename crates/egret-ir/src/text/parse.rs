//! Parsing graphs and their statements.

use super::lex::{self, Token};
use super::syntax::{Cursor, Parsed};
use super::{ParseError, Resolver};
use crate::attr::{AT_MOST, DECLARED};
use crate::{Attr, AttrInfo, AttrKind, Attrs, Dim, Graph, Op, Tensor, Type, ValueId, infer};
use std::collections::{BTreeSet, HashMap};

/// A whole text: one graph.
pub(super) fn graph(text: &str, resolve: &Resolver) -> Result<Graph, ParseError> {
    whole(text, resolve, Cursor::graph)
}

/// A whole text: one constant.
pub(super) fn tensor(text: &str, resolve: &Resolver) -> Result<Tensor, ParseError> {
    whole(text, resolve, Cursor::tensor)
}

/// A dim alone.
pub(super) fn dim(text: &str) -> Parsed<Dim> {
    whole(text, &|_| None, Cursor::dim)
}

fn whole<'a, T>(
    text: &str,
    resolve: &'a Resolver<'a>,
    read: impl FnOnce(&mut Cursor<'a>) -> Parsed<T>,
) -> Parsed<T> {
    let mut cursor = Cursor { tokens: lex::tokens(text)?, at: 0, depth: 0, resolve };
    let result = read(&mut cursor)?;
    match cursor.peek() {
        Token::End => Ok(result),
        _ => cursor.expected("the end of the text"),
    }
}

/// Values by their numbers in the text.
#[derive(Default)]
struct Scope(HashMap<u32, ValueId>);

/// A value where it is defined: its number, the place, and its name.
struct Definition {
    number: u32,
    at: usize,
    name: String,
}

impl Cursor<'_> {
    fn graph(&mut self) -> Parsed<Graph> {
        if !self.eat_word("graph") {
            return self.expected("`graph`");
        }
        self.expect("@")?;
        let name = match self.optional_string()? {
            Some(name) => name,
            None => self.word("the name of the graph")?,
        };
        let mut graph = Graph::new(&name);
        let mut scope = Scope::default();
        let inputs = self.list("(", ")", |c| {
            let definition = c.definition()?;
            c.expect(":")?;
            Ok((definition, c.ty()?))
        })?;
        for (definition, ty) in inputs {
            let id = graph.add_input(&definition.name, ty);
            self.define(&mut scope, &definition, id)?;
        }
        self.expect("->")?;
        let outputs = self.list("(", ")", |c| {
            let at = c.at;
            Ok((at, c.value()?, c.optional_string()?.unwrap_or_default()))
        })?;
        self.expect("{")?;
        while !self.eat("}") {
            self.statement(&mut graph, &mut scope)?;
        }
        for (at, number, name) in outputs {
            let id = self.lookup(&scope, number, at)?;
            graph.add_output(&name, id);
        }
        Ok(graph)
    }

    fn value(&mut self) -> Parsed<u32> {
        match *self.peek() {
            Token::Value(n) => {
                self.advance();
                Ok(n)
            }
            _ => self.expected("a value such as `%0`"),
        }
    }

    fn definition(&mut self) -> Parsed<Definition> {
        let at = self.at;
        Ok(Definition { number: self.value()?, at, name: self.optional_string()?.unwrap_or_default() })
    }

    fn define(&self, scope: &mut Scope, definition: &Definition, id: ValueId) -> Parsed<()> {
        match scope.0.insert(definition.number, id) {
            None => Ok(()),
            Some(_) => self.fail_at(definition.at, format!("%{} is defined twice", definition.number)),
        }
    }

    fn lookup(&self, scope: &Scope, number: u32, at: usize) -> Parsed<ValueId> {
        match scope.0.get(&number) {
            Some(&id) => Ok(id),
            None => self.fail_at(at, format!("%{number} is not defined before its use")),
        }
    }

    fn statement(&mut self, graph: &mut Graph, scope: &mut Scope) -> Parsed<()> {
        let mut results = vec![];
        if matches!(self.peek(), Token::Value(_)) {
            loop {
                results.push(self.definition()?);
                if !self.eat(",") {
                    break;
                }
            }
            self.expect("=")?;
        }
        let at = self.at;
        let name = self.word("a value, an operation or `}`")?;
        if name == "const" {
            let [definition] = results.as_slice() else {
                return self.fail_at(at, "`const` defines one value");
            };
            let tensor = self.tensor()?;
            // Constants of two names are two, however equal.
            let named = graph.equal_const(&tensor).map(|v| graph.value(v).name.as_str());
            let two = |name: &str| ![name, &definition.name].contains(&"") && name != definition.name;
            let id = match named.is_some_and(two) {
                true => graph.add_const_apart(tensor),
                false => graph.add_const(tensor),
            };
            if !definition.name.is_empty() {
                graph.set_value_name(id, &definition.name);
            }
            return self.define(scope, definition, id);
        }
        if name == "require" && results.is_empty() {
            let dim = self.dim()?;
            graph.require(dim);
            return Ok(());
        }
        let Some(op) = Op::from_name(&name) else {
            return self.fail_at(at, format!("there is no operation `{name}`"));
        };
        self.node(graph, scope, op, at, &results)
    }

    fn node(
        &mut self,
        graph: &mut Graph,
        scope: &mut Scope,
        op: Op,
        at: usize,
        results: &[Definition],
    ) -> Parsed<()> {
        let operands = self.list("(", ")", |c| {
            let at = c.at;
            if c.eat_word("_") { Ok(None) } else { c.value().map(|n| Some((n, at))) }
        })?;
        let mut values = vec![];
        for operand in operands {
            values.push(operand.map(|(n, at)| self.lookup(scope, n, at)).transpose()?);
        }
        let mut attrs = self.attrs(op)?;
        let types = self.types()?;
        let sources = self.sources()?;
        let mut regions = vec![];
        for region in op.info().regions {
            if !self.eat_word(region) {
                return self.expected(&format!("the region `{region}` of `{op}`"));
            }
            regions.push(self.nested(Self::graph)?);
        }
        let operands: Vec<Option<&Type>> = values.iter().map(|v| v.map(|v| graph.ty(v))).collect();
        let types = match types {
            Some(types) => {
                declare(op, &mut attrs, &operands, &regions, &types);
                types
            }
            None if results.is_empty() => vec![],
            None => match infer::infer(op, &attrs, &operands, &regions) {
                Ok(types) => types,
                Err(message) => return self.fail_at(at, format!("{op}: {message}")),
            },
        };
        if types.len() != results.len() {
            return self
                .fail_at(at, format!("`{op}` defines {} values of {} types", results.len(), types.len()));
        }
        let node = graph.add_node(op, attrs, values, regions, types, sources);
        for (definition, id) in results.iter().zip(graph.node(node).results.clone()) {
            if !definition.name.is_empty() {
                graph.set_value_name(id, &definition.name);
            }
            self.define(scope, definition, id)?;
        }
        Ok(())
    }

    fn attrs(&mut self, op: Op) -> Parsed<Attrs> {
        let mut attrs = Attrs::default();
        if *self.peek() != Token::Mark("{") {
            return Ok(attrs);
        }
        self.list("{", "}", |c| {
            let at = c.at;
            let name = c.word("the name of an attribute")?;
            let declared = AttrInfo { name: DECLARED, kind: AttrKind::Symbols };
            let limits = AttrInfo { name: AT_MOST, kind: AttrKind::Dims };
            let row = op.info().attrs.iter().copied();
            let Some(AttrInfo { name, kind }) = row.chain([declared, limits]).find(|a| a.name == name)
            else {
                return c.fail_at(at, format!("`{op}` has no attribute `{name}`"));
            };
            c.expect("=")?;
            match attrs.0.insert(name, c.attr(kind)?) {
                None => Ok(()),
                Some(_) => c.fail_at(at, format!("the attribute `{name}` is given twice")),
            }
        })?;
        Ok(attrs)
    }

    /// `: type, type`; `None` where left out, to be inferred.
    fn types(&mut self) -> Parsed<Option<Vec<Type>>> {
        if !self.eat(":") {
            return Ok(None);
        }
        let mut types = vec![self.ty()?];
        while self.eat(",") {
            types.push(self.ty()?);
        }
        Ok(Some(types))
    }

    fn sources(&mut self) -> Parsed<BTreeSet<String>> {
        let mut sources = BTreeSet::new();
        if self.eat_word("from") {
            sources.insert(self.string()?);
            while self.eat(",") {
                sources.insert(self.string()?);
            }
        }
        Ok(sources)
    }
}

/// Where a declaration is left out the symbols that the types have in its places are it.
fn declare(op: Op, attrs: &mut Attrs, operands: &[Option<&Type>], regions: &[Graph], types: &[Type]) {
    if attrs.get(DECLARED).is_some() {
        return;
    }
    // What does not fit is for the verifier to say.
    let Ok(open) = infer::infer_open(op, attrs, operands, regions) else { return };
    let fits = |(a, b): (&Type, &Type)| a.fixed_dims().len() == b.fixed_dims().len();
    if open.len() != types.len() || !open.iter().zip(types).all(fits) {
        return;
    }
    let dims =
        |types: &[Type]| -> Vec<Dim> { types.iter().flat_map(|t| t.fixed_dims().to_vec()).collect() };
    let name =
        |(place, dim): (Dim, &Dim)| place.is_unnamed().then(|| dim.as_symbol().map(str::to_owned))?;
    let mut names: Vec<Option<String>> = dims(&open).into_iter().zip(&dims(types)).map(name).collect();
    names.truncate(names.iter().rposition(Option::is_some).map_or(0, |last| last + 1));
    if !names.is_empty() {
        attrs.0.insert(DECLARED, Attr::Symbols(names));
    }
}
