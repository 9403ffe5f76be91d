//! `egret generate`.

use crate::args::{CompileOptions, ModelArgs, count, seed};
use crate::common::{import, note, options, output_error, progress};
use crate::{say, say_text};
use egret::generate::{Choice, Decoder, Settings};
use egret::{Engine, Error, Executable, Result};
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

/// How the command is used.
pub const EXAMPLE: &str = "Example:
  egret generate decoder.onnx --tokens 1,504,338 --count 20
goes on with three tokens by twenty, each the one with the highest score. Tokens are numbers: a tokenizer makes them of text.

Exit codes: 0 ok, 1 wrong argument, file or model, 2 not supported, or not with free dims, 4 a bug of Egret, 5 not enough memory.";

/// `egret generate`
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The tokens to go on with
    #[arg(
        long,
        value_name = "A,B,C",
        value_delimiter = ',',
        required_unless_present = "tokens_from",
        allow_negative_numbers = true
    )]
    pub tokens: Vec<i64>,
    /// The tokens to go on with, from a file of numbers between spaces, commas or ends of lines
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    pub tokens_from: Option<PathBuf>,
    /// How many tokens come at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = count, allow_negative_numbers = true)]
    pub count: usize,
    /// A token that ends the text. May be repeated
    #[arg(long, value_name = "TOKEN", allow_negative_numbers = true)]
    pub stop: Vec<i64>,
    /// Draw each token by the softmax of the scores divided by this, instead of taking the highest
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Draw of so many of the highest scores only [default: of all]
    #[arg(long, value_name = "K", requires = "temperature", value_parser = count, allow_negative_numbers = true)]
    pub top_k: Option<usize>,
    /// Draw of the highest scores whose shares come to this part
    #[arg(
        long,
        value_name = "P",
        default_value_t = 1.0,
        requires = "temperature",
        allow_negative_numbers = true
    )]
    pub top_p: f64,
    /// What the draws are made from
    #[arg(long, value_name = "SEED", default_value_t = 0, value_parser = seed, requires = "temperature", allow_negative_numbers = true)]
    pub seed: u64,
    /// interp, jit, jit-noopt (jit without passes) or aot
    #[arg(long, default_value = "jit")]
    pub engine: Engine,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// text (the tokens as they come) or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
    /// Options.
    #[command(flatten)]
    pub options: CompileOptions,
}

/// `egret generate`
pub fn run(args: &Args) -> Result<()> {
    let settings = Settings { count: args.count, stop: args.stop.clone(), choice: choice(args)? };
    let tokens = tokens(args)?;
    let options = options(&args.options, args.threads)?;
    let imported = import(&args.model.request())?;
    let decoder = progress("compiling", || {
        Decoder::new(imported.graph, |graph| Executable::new(graph, args.engine, &options, &imported.bound))
    })?;
    let text = args.format == "text";
    let began = Instant::now();
    let mut times = vec![];
    let all = decoder.generate(&tokens, &settings, &mut |token| {
        times.push(began.elapsed().as_secs_f64());
        if text {
            let space = if times.len() > 1 { " " } else { "" };
            say_text!("{space}{token}");
            // Whoever reads sees it now.
            std::io::stdout().flush().map_err(|e| output_error(&e))?;
        }
        Ok(())
    })?;
    match text {
        true => say!(""),
        false => say!("{:#}", serde_json::json!({ "prompt": tokens, "tokens": all })),
    }
    if let [first, .., last] = times[..] {
        let rate = (times.len() - 1) as f64 / (last - first);
        note(format_args!("the first token after {first:.3} s, then {rate:.1} tokens a second"));
    }
    Ok(())
}

fn choice(args: &Args) -> Result<Choice> {
    let Some(temperature) = args.temperature else { return Ok(Choice::Greedy) };
    if !(temperature.is_finite() && temperature > 0.0) {
        return Err(Error::user(format!(
            "--temperature {temperature}: more than 0; without it the highest score is taken"
        )));
    }
    if !(args.top_p > 0.0 && args.top_p <= 1.0) {
        return Err(Error::user(format!("--top-p {}: a part, more than 0 and at most 1", args.top_p)));
    }
    let top_k = args.top_k.unwrap_or(0);
    Ok(Choice::Sample { temperature, top_k, top_p: args.top_p, seed: args.seed })
}

fn tokens(args: &Args) -> Result<Vec<i64>> {
    let Some(path) = &args.tokens_from else { return Ok(args.tokens.clone()) };
    let text = egret::files::read_text(path, "a file of tokens")?;
    let words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|w| !w.is_empty());
    words
        .map(|w| {
            w.parse()
                .map_err(|_| Error::user(format!("{}: `{w}` is no token (a whole number)", path.display())))
        })
        .collect()
}
