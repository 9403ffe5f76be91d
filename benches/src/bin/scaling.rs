//! Times the optimiser over graphs of growing size: a table on stdout, a curve in `docs/scaling.svg` (or the file named).

use egret_ir::Graph;
use std::error::Error;
use std::fmt::Write as _;
use std::time::Instant;

/// Runs of each size; the fastest counts.
const RUNS: usize = 3;

/// A point of a curve: nodes, and seconds of the optimiser.
type Point = (usize, f64);

fn measure(graph: &Graph) -> Result<Point, Box<dyn Error>> {
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let input = graph.clone();
        let began = Instant::now();
        // As in a release build, whatever this one is.
        let options = egret_opt::Options { check: false, ..egret_opt::Options::default() };
        egret_opt::optimize(input, &options)?;
        best = best.min(began.elapsed().as_secs_f64());
    }
    Ok((graph.node_count(), best))
}

fn curve(name: &str, graphs: impl Iterator<Item = (usize, Graph)>) -> Result<Vec<Point>, Box<dyn Error>> {
    let mut out = vec![];
    for (size, graph) in graphs {
        let (nodes, seconds) = measure(&graph)?;
        println!("| {name} {size} | {nodes} | {:.1} | {:.1} |", seconds * 1e3, seconds * 1e6 / nodes as f64);
        out.push((nodes, seconds));
    }
    Ok(out)
}

/// Both curves on logarithmic axes, 100 to 10,000 nodes; a straight line of slope 1 is linear growth.
fn svg(curves: &[(&str, &str, Vec<Point>)]) -> Result<String, std::fmt::Error> {
    let x = |nodes: f64| 60.0 + (nodes.log10() - 1.75) * 220.0;
    let y = |seconds: f64| 340.0 - (seconds.log10() + 4.0) * 80.0;
    let mut s = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"620\" height=\"390\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"620\" height=\"390\" fill=\"white\"/>\n",
    );
    for (nodes, label) in [(100.0, "100"), (1e3, "1,000"), (1e4, "10,000")] {
        let at = x(nodes);
        writeln!(s, "<path d=\"M{at:.1} 20V340\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"358\" text-anchor=\"middle\">{label}</text>")?;
    }
    for (seconds, label) in [(1e-4, "0.1 ms"), (1e-3, "1 ms"), (1e-2, "10 ms"), (1e-1, "100 ms"), (1.0, "1 s")] {
        let at = y(seconds);
        writeln!(
            s,
            "<path d=\"M60 {at:.1}H600\" stroke=\"#ddd\"/><text x=\"55\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            at + 4.0
        )?;
    }
    writeln!(s, "<text x=\"330\" y=\"380\" text-anchor=\"middle\">nodes before the optimiser</text>")?;
    for (i, (name, colour, points)) in curves.iter().enumerate() {
        let line: Vec<String> = points.iter().map(|&(n, t)| format!("{:.1},{:.1}", x(n as f64), y(t))).collect();
        writeln!(s, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>", line.join(" "))?;
        writeln!(s, "<text x=\"75\" y=\"{}\" fill=\"{colour}\">{name}</text>", 40 + 18 * i)?;
    }
    s.push_str("</svg>\n");
    Ok(s)
}

fn main() -> Result<(), Box<dyn Error>> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scaling.svg");
    let file = std::env::args().nth(1).unwrap_or_else(|| default.to_owned());
    println!("| graph | nodes | optimiser, ms | us per node |\n|---|---|---|---|");
    let mut graphs = vec![];
    for layers in [2, 4, 8, 12, 24] {
        graphs.push((layers, egret_benches::transformer(layers)?));
    }
    let transformers = curve("transformer layers", graphs.into_iter())?;
    let mut graphs = vec![];
    for nodes in [100, 300, 1000, 3000, 10_000] {
        graphs.push((nodes, egret_benches::chain(nodes)?));
    }
    let chains = curve("chain", graphs.into_iter())?;
    std::fs::write(&file, svg(&[("transformers", "#0a58ca", transformers), ("chains", "#b02a37", chains)])?)?;
    Ok(())
}
