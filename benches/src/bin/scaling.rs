//! Times the optimiser over graphs of growing size, and counts its memory: a table on stdout, curves in `docs/scaling.svg` (or the
//! file named).

use egret_benches::peak;
use egret_ir::Graph;
use egret_opt::{Options, optimize};
use std::error::Error;
use std::fmt::Write as _;
use std::time::Instant;

#[global_allocator]
static HEAP: peak::Counted = peak::Counted;

/// Rounds over all sizes; the fastest counts, so that what else the machine does in between does not.
const ROUNDS: usize = 20;

/// A point of a curve.
struct Point {
    name: String,
    nodes: usize,
    seconds: f64,
    /// Heap above what the graph takes, at most.
    bytes: usize,
}

/// A curve over graphs of these sizes, named.
fn curve<E: Error + 'static>(
    name: &str,
    sizes: &[usize],
    make: fn(usize) -> Result<Graph, E>,
) -> Result<Vec<Point>, Box<dyn Error>> {
    // As in a release build, whatever this one is.
    let options = Options { check: false, ..Options::default() };
    let graphs = sizes.iter().map(|&size| make(size)).collect::<Result<Vec<_>, E>>()?;
    let point = |(graph, size): (&Graph, &usize)| Point {
        name: format!("{name} {size}"),
        nodes: graph.node_count(),
        seconds: f64::INFINITY,
        bytes: 0,
    };
    let mut points: Vec<Point> = graphs.iter().zip(sizes).map(point).collect();
    for _ in 0..ROUNDS {
        for (graph, point) in graphs.iter().zip(&mut points) {
            let input = graph.clone();
            let began = Instant::now();
            let (result, peak) = peak::during(|| optimize(input, &options));
            point.seconds = point.seconds.min(began.elapsed().as_secs_f64());
            point.bytes = point.bytes.max(peak);
            result?;
        }
    }
    let first = points.first().map_or(1.0, |p| p.seconds);
    for p in &points {
        let per_node = p.seconds * 1e6 / p.nodes as f64;
        let (ms, times, megabytes) = (p.seconds * 1e3, p.seconds / first, p.bytes as f64 / 1e6);
        println!("| {} | {} | {ms:.1} | {per_node:.1} | {times:.2} | {megabytes:.2} |", p.name, p.nodes);
    }
    Ok(points)
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
        writeln!(
            s,
            "<path d=\"M{at:.1} 20V340\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"358\" text-anchor=\"middle\">{label}</text>"
        )?;
    }
    for (seconds, label) in
        [(1e-4, "0.1 ms"), (1e-3, "1 ms"), (1e-2, "10 ms"), (1e-1, "100 ms"), (1.0, "1 s")]
    {
        let at = y(seconds);
        writeln!(
            s,
            "<path d=\"M60 {at:.1}H600\" stroke=\"#ddd\"/><text x=\"55\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            at + 4.0
        )?;
    }
    writeln!(s, "<text x=\"330\" y=\"380\" text-anchor=\"middle\">nodes before the optimiser</text>")?;
    for (i, (name, colour, points)) in curves.iter().enumerate() {
        let line: Vec<String> =
            points.iter().map(|p| format!("{:.1},{:.1}", x(p.nodes as f64), y(p.seconds))).collect();
        writeln!(
            s,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        )?;
        writeln!(s, "<text x=\"75\" y=\"{}\" fill=\"{colour}\">{name}</text>", 40 + 18 * i)?;
    }
    s.push_str("</svg>\n");
    Ok(s)
}

fn main() -> Result<(), Box<dyn Error>> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scaling.svg");
    let file = std::env::args().nth(1).unwrap_or_else(|| default.to_owned());
    println!(
        "| graph | nodes | optimiser, ms | us per node | times the first | heap, MB |\n|---|---|---|---|---|---|"
    );
    let transformers = curve("transformer layers", &[2, 4, 8, 12, 24], egret_benches::transformer)?;
    let chains = curve("chain", &[100, 300, 1000, 3000, 10_000], egret_benches::chain)?;
    std::fs::write(
        &file,
        svg(&[("transformers", "#0a58ca", transformers), ("chains", "#b02a37", chains)])?,
    )?;
    Ok(())
}
