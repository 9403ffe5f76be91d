//! Tells which digit a picture shows: digits PICTURE.png...
#![deny(warnings)]

mod digits {
    include!(concat!(env!("OUT_DIR"), "/digits.rs"));
}

mod picture;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut paths = std::env::args_os().skip(1).peekable();
    if paths.peek().is_none() {
        eprintln!("digits PICTURE.png...");
        return ExitCode::from(2);
    }
    let mut code = ExitCode::SUCCESS;
    for path in paths {
        let path = Path::new(&path);
        match digit(path) {
            Ok((digit, probability)) => {
                println!("{}: {digit} ({:.1} %)", path.display(), 100.0 * probability)
            }
            Err(e) => {
                eprintln!("{}: {e}", path.display());
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// The digit of a picture, and how probable it is.
fn digit(path: &Path) -> Result<(usize, f32), Box<dyn Error>> {
    let image = picture::read(path)?;
    let mut logits = [0.0; 10];
    digits::Model::bind()?.run(&mut digits::Arena::new(), &image, &mut logits)?;
    let largest = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f32 = logits.iter().map(|v| (v - largest).exp()).sum();
    let best = logits.iter().position(|v| *v == largest).ok_or("the network gave no numbers")?;
    Ok((best, 1.0 / sum))
}
