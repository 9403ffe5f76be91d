//! Dims of a program in its artifacts: as people read them, and as code that computes them.

use egret_loop::{Extent, Port, Program, Size, SizeId, SizeOp, sizes};

/// Dims as people read them: `1, 28, 28`, `batch, 28 * seq`, or `at most 24, 3` where data decides.
pub fn dims(program: &Program, port: &Port) -> String {
    spelt_dims(program, port).join(", ")
}

/// Each dim as people read it.
pub fn spelt_dims(program: &Program, port: &Port) -> Vec<String> {
    let mut spelt = dims_by(program, port, &|i| program.symbols[i].name.clone());
    for (dim, found) in spelt.iter_mut().zip(port.found.iter().flatten()) {
        // What is made of lengths has no expression.
        if sizes::expression(&program.sizes, *found, &|_| String::new()).is_none() {
            *dim = format!("at most {dim}");
        }
    }
    spelt
}

/// Each dim as people read it; symbols are spelt by `symbol`.
pub fn dims_by(program: &Program, port: &Port, symbol: &dyn Fn(usize) -> String) -> Vec<String> {
    // A port's dims are not made of lengths.
    let spelt = |d: &Extent| sizes::expression(&program.sizes, *d, symbol).unwrap_or_else(|| "?".into());
    port.dims.iter().map(spelt).collect()
}

/// A language whose code computes dims.
#[derive(Copy, Clone, PartialEq, Eq)]
pub enum Language {
    /// C, C++
    C,
    /// Rust
    Rust,
}

/// The dims of a program's ports as code.
pub struct Code<'p> {
    program: &'p Program,
    language: Language,
    /// How a symbol is spelt.
    symbol: &'p dyn Fn(usize) -> String,
}

impl<'p> Code<'p> {
    pub fn new(program: &'p Program, language: Language, symbol: &'p dyn Fn(usize) -> String) -> Code<'p> {
        Code { program, language, symbol }
    }

    /// Names and values of what the dims of some ports are made of, each once and behind what it is made of itself: as many as there
    /// are operations, where an expression could be as long as a power of two of them.
    pub fn locals<'a>(&self, ports: impl Iterator<Item = &'a Port>) -> Vec<(String, String)> {
        let dims = ports.flat_map(|p| p.dims.iter().copied());
        let sizes = &self.program.sizes;
        let value = |id: SizeId| match *sizes.get(id.0 as usize)? {
            Size::Op(op, a, b) => {
                let [a, b] = [a, b].map(|s| self.dim(Extent::Size(s)));
                Some((self.dim(Extent::Size(id)), self.operation(op, &a, &b)))
            }
            _ => None,
        };
        sizes::made_of(sizes, dims).into_iter().filter_map(value).collect()
    }

    /// The dims of a port, which are constants, symbols and locals.
    pub fn dims(&self, port: &Port) -> Vec<String> {
        port.dims.iter().map(|&d| self.dim(d)).collect()
    }

    fn dim(&self, e: Extent) -> String {
        match e {
            Extent::Const(c) => c.to_string(),
            Extent::Size(id) => match self.program.sizes.get(id.0 as usize) {
                Some(Size::Const(c)) => c.to_string(),
                Some(Size::Symbol(i)) => (self.symbol)(*i),
                _ => format!("size{}", id.0),
            },
        }
    }

    /// An operation on two names or numbers; any number where it has no value, for which the run itself is refused.
    fn operation(&self, op: SizeOp, a: &str, b: &str) -> String {
        let choice = |cond: String, then: &str, otherwise: &str| match self.language {
            Language::C => format!("{cond} ? {then} : {otherwise}"),
            Language::Rust => format!("if {cond} {{ {then} }} else {{ {otherwise} }}"),
        };
        let value = match (op, op.operator()) {
            (_, Some(operator)) => format!("{a} {operator} {b}"),
            (SizeOp::Min, _) => return choice(format!("{a} < {b}"), a, b),
            (SizeOp::Max, _) => return choice(format!("{a} > {b}"), a, b),
            (SizeOp::CeilDiv, _) => {
                let more = choice(format!("{a} % {b} == 0"), "0", "1");
                format!("{a} / {b} + ({more})")
            }
            _ => return choice(format!("{a} == 1"), b, a),
        };
        let divides = matches!(op, SizeOp::FloorDiv | SizeOp::CeilDiv | SizeOp::Mod);
        match divides && b.parse::<i64>().is_err() {
            true => choice(format!("{b} == 0"), "0", &value),
            false => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(sizes: Vec<Size>, dims: &[u32]) -> (Program, Port) {
        let dims = dims.iter().map(|&i| Extent::Size(SizeId(i))).collect();
        let port = Port { name: "y".into(), onnx_dtype: 1, dims, found: None, elem_size: 4, bound: None };
        (Program { sizes, ..Program::default() }, port)
    }

    #[test]
    fn dims_without_an_operator_are_spelt() {
        let s = SizeId;
        let (program, port) = program(
            vec![
                Size::Symbol(0),
                Size::Const(100),
                Size::Op(SizeOp::Min, s(0), s(1)),
                Size::Op(SizeOp::Add, s(0), s(1)),
                Size::Op(SizeOp::CeilDiv, s(3), s(1)),
                Size::Op(SizeOp::Mod, s(4), s(0)),
                Size::Op(SizeOp::Broadcast, s(3), s(0)),
            ],
            &[0, 2, 5, 1],
        );
        assert_eq!(
            dims_by(&program, &port, &|_| "n".into()),
            ["n", "min(n, 100)", "(ceildiv((n + 100), 100)) % n", "100"]
        );
        let code = |language| {
            let symbol = |_| "n".to_owned();
            let code = Code::new(&program, language, &symbol);
            assert_eq!(code.dims(&port), ["n", "size2", "size5", "100"]);
            let of = |(name, value)| format!("{name} = {value}");
            code.locals([&port].into_iter()).into_iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(
            code(Language::C),
            [
                "size2 = n < 100 ? n : 100",
                "size3 = n + 100",
                "size4 = size3 / 100 + (size3 % 100 == 0 ? 0 : 1)",
                "size5 = n == 0 ? 0 : size4 % n"
            ]
        );
        assert_eq!(code(Language::Rust)[3], "size5 = if n == 0 { 0 } else { size4 % n }");
    }

    /// `x0[N0] + x1[N1] + ...`
    #[test]
    fn code_is_as_long_as_there_are_operations() {
        let count = 30;
        let mut sizes: Vec<Size> = (0..count).map(Size::Symbol).collect();
        for i in 1..count as u32 {
            let all = if i == 1 { 0 } else { count as u32 + i - 2 };
            sizes.push(Size::Op(SizeOp::Broadcast, SizeId(all), SizeId(i)));
        }
        let last = sizes.len() as u32 - 1;
        let (program, port) = program(sizes, &[last]);
        for language in [Language::C, Language::Rust] {
            let symbol = |i| format!("n{i}");
            let locals = Code::new(&program, language, &symbol).locals([&port].into_iter());
            assert_eq!(locals.len(), count - 1);
            assert!(locals.iter().all(|(_, value)| value.len() < 60), "{locals:?}");
        }
    }
}
