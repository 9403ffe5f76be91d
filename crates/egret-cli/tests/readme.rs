//! The commands of `README.md` and the pages of `docs/` below: each ```` ```sh ```` block behind a line `<!-- run -->` is run, and prints what the ```` ```text ```` block
//! behind it shows, where there is one. `...` in what is shown stands for anything, as a line of its own for any lines.

mod kit;

use std::path::Path;
use std::process::Command;

/// Commands that a reader can run, and what they print.
struct Block {
    line: usize,
    commands: String,
    shown: Option<String>,
}

/// Every fenced block: where it begins, its language, its text, and the line of text before it.
fn fences(page: &str) -> Vec<(usize, &str, String, &str)> {
    let (mut out, mut before) = (vec![], "");
    let mut lines = page.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text = lines.by_ref().map(|(_, l)| l).take_while(|l| *l != "```");
            out.push((at + 1, language, text.map(|l| format!("{l}\n")).collect(), before));
            before = "```";
        } else if !line.is_empty() {
            before = line;
        }
    }
    out
}

fn blocks(page: &str) -> Vec<Block> {
    let fences = fences(page);
    let mut out = vec![];
    for (i, (line, language, commands, before)) in fences.iter().enumerate() {
        if (*language, *before) == ("sh", "<!-- run -->") {
            let next = fences.get(i + 1).filter(|f| f.1 == "text" && f.3 != "<!-- run -->");
            // Output stands right behind its commands, or behind a line that leads over to it.
            let shown = next.map(|f| f.2.clone());
            out.push(Block { line: *line, commands: commands.clone(), shown });
        }
    }
    out
}

/// Whether a text is what is shown, `...` standing for any characters of a line.
fn line_is(shown: &str, line: &str) -> bool {
    let mut parts = shown.split("...");
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Whether a line has the words that are shown, but for numbers with an exponent, such as `1.841e-4`: their last digits depend on the order in which a
/// CPU's vectors add.
fn numbers_are(shown: &str, line: &str) -> bool {
    let near = |(shown, word): (&str, &str)| {
        let number = |w: &str| w.parse::<f64>().ok().filter(|_| w.contains('e'));
        let both = number(shown).zip(number(word));
        shown == word || both.is_some_and(|(a, b)| (a - b).abs() <= 0.01 * a.abs())
    };
    let (shown, words) = (shown.split_whitespace(), line.split_whitespace());
    shown.clone().count() == words.clone().count() && shown.zip(words).all(near)
}

/// Whether lines are what is shown, a line `...` standing for any lines.
fn lines_are(shown: &[&str], lines: &[&str]) -> bool {
    match shown {
        [] => lines.is_empty(),
        ["..."] => true,
        ["...", rest @ ..] => (0..=lines.len()).any(|skip| lines_are(rest, &lines[skip..])),
        [first, rest @ ..] => lines.split_first().is_some_and(|(l, more)| {
            (line_is(first, l.trim_end()) || numbers_are(first, l)) && lines_are(rest, more)
        }),
    }
}

/// A folder in which a reader of the README is: the fixtures, and files of their own called as there.
fn reader(dir: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the checkout");
    for (from, to) in
        [("parallel_cnn", "model.onnx"), ("parallel_cnn", "a.onnx"), ("parallel_cnn", "b.onnx")]
    {
        std::fs::copy(root.join("fixtures/models").join(format!("{from}.onnx")), dir.join(to)).expect(to);
    }
    // The first digit, as the file of one image.
    let digits = std::fs::read(root.join("fixtures/digits/images.npy")).expect("digits");
    let (head, data) = digits.split_at(128);
    let head = String::from_utf8_lossy(&head[10..]).replace("(1000, ", "(1,    ");
    let image = [&digits[..10], head.as_bytes(), &data[..28 * 28 * 4]].concat();
    std::fs::write(dir.join("image.npy"), image).expect("image.npy");
    #[cfg(unix)]
    std::os::unix::fs::symlink(root.join("fixtures"), dir.join("fixtures")).expect("a link");
}

/// Run the blocks of a page, of which at least so many are run and so many show what is printed.
#[cfg(unix)]
fn does_what_it_shows(name: &str, run: usize, shown: usize) {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name));
    let blocks = blocks(&page.expect(name));
    let showing = blocks.iter().filter(|b| b.shown.is_some()).count();
    assert!(blocks.len() >= run && showing >= shown, "{name}: {} blocks, {showing} shown", blocks.len());
    let dir = kit::temp();
    reader(dir.path());
    let egret = Path::new(env!("CARGO_BIN_EXE_egret"));
    let path = format!(
        "{}:{}",
        egret.parent().expect("a folder").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    for block in blocks {
        // What was built is what `cargo run` would build.
        let commands = block.commands.replace("cargo run -p egret-cli --", "egret");
        let out = Command::new("sh")
            .args(["-e", "-c", &commands])
            .current_dir(dir.path())
            .env("PATH", &path)
            .output()
            .expect("sh starts");
        let (said, told) = (kit::text(&out.stdout), kit::text(&out.stderr));
        assert!(out.status.success(), "{name}:{}: {}\n{said}{told}", block.line, block.commands);
        if let Some(shown) = &block.shown {
            let (shown, lines): (Vec<&str>, Vec<&str>) = (shown.lines().collect(), said.lines().collect());
            assert!(
                lines_are(&shown, &lines),
                "{name}:{}: what is shown is not what is printed:\n{said}",
                block.line
            );
        }
    }
}

#[test]
#[cfg(unix)]
fn commands_do_what_the_readme_shows() {
    does_what_it_shows("README.md", 4, 3);
}

#[test]
#[cfg(unix)]
fn commands_do_what_the_page_of_attributions_shows() {
    does_what_it_shows("docs/INTERPRET.md", 12, 12);
}

#[test]
#[cfg(unix)]
fn commands_do_what_the_page_of_compression_shows() {
    does_what_it_shows("docs/COMPRESS.md", 1, 1);
}

#[test]
#[cfg(unix)]
fn commands_do_what_the_page_of_export_shows() {
    does_what_it_shows("docs/EXPORT.md", 1, 1);
}

#[test]
#[cfg(unix)]
fn commands_do_what_the_page_of_joining_shows() {
    does_what_it_shows("docs/JOIN.md", 4, 4);
}

#[test]
#[cfg(unix)]
fn commands_do_what_the_page_of_stages_shows() {
    does_what_it_shows("docs/PARALLEL.md", 7, 5);
}

#[test]
#[cfg(unix)]
fn commands_do_what_the_page_of_tuning_shows() {
    does_what_it_shows("docs/TUNE.md", 3, 3);
}

#[test]
#[cfg(unix)]
fn commands_do_what_the_page_of_signals_shows() {
    does_what_it_shows("docs/SIGNALS.md", 1, 1);
}

#[test]
fn what_is_shown_may_leave_out() {
    assert!(line_is("a ... c", "a b c") && !line_is("a ... c", "a b d") && !line_is("a", "a b"));
    assert!(line_is("...", "") && line_is("a...b...c", "axbybc") && !line_is("a...b...c", "axc"));
    assert!(lines_are(&["...", "b"], &["a", "b"]) && !lines_are(&["...", "b"], &["a", "b", "c"]));
    assert!(lines_are(&["a", "..."], &["a"]) && !lines_are(&["a"], &[]) && !lines_are(&[], &["a"]));
}
