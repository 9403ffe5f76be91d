//! `egret generate`.

mod stream;
#[cfg_attr(not(feature = "tokenizer"), path = "generate/without.rs")]
mod tokenizer;

use self::stream::Stream;
use self::tokenizer::Tokenizer;
use crate::args::{CompileOptions, ModelArgs, count, seed};
use crate::common::{import, note, options, output_error, progress};
use crate::{say, say_text};
use egret::frontend::ModelFile;
use egret::generate::{BRANCH, Choice, Decoder, Settings};
use egret::inputs::Given;
use egret::literal::Literal;
use egret::source::{Request, is_text, locate};
use egret::{Engine, Error, Executable, Result};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How the command is used.
pub const EXAMPLE: &str = "Example:
  egret generate decoder.onnx --tokens 1,504,338 --count 20
goes on with three tokens by twenty, each the one with the highest score.
  egret generate smollm2/model.onnx --prompt 'The capital of France is' --stop '.'
goes on with a text, by the tokenizer.json beside the model, until a full stop comes.

An input beside tokens, mask, positions and cache gets its value by --input, which holds for all steps; token_type_ids are 0, and
use_cache_branch is false in the first step and true then: where that is the condition of two branches, each is compiled.

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
        required_unless_present_any = ["tokens_from", "prompt"],
        allow_negative_numbers = true
    )]
    pub tokens: Vec<i64>,
    /// The tokens to go on with, from a file of numbers between spaces, commas or ends of lines
    #[arg(long, value_name = "FILE", conflicts_with = "tokens")]
    pub tokens_from: Option<PathBuf>,
    /// The text to go on with, by a tokenizer; special tokens are written as it writes them
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["tokens", "tokens_from"], allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// Hugging Face's tokenizer.json, which makes tokens of text and text of tokens [default: with --prompt the tokenizer.json beside the
    /// model, else none]
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// How many tokens come at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = count, allow_negative_numbers = true)]
    pub count: usize,
    /// What ends the text: a token (a whole number, or a special token as the tokenizer writes it), or with a tokenizer other text, which is
    /// left out. May be repeated
    #[arg(long, value_name = "TOKEN|TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// The token that the model ends a text by, as a number or as the tokenizer writes it; `none`: it ends by none. May be repeated
    /// (by itself: the special tokens of the tokenizer of such a name, e.g. `</s>`, `<|endoftext|>` or `<|im_end|>`)
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    pub eos: Vec<String>,
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
    let choice = choice(args)?;
    // The inputs of a test case are those of one step.
    let model = locate(&args.model.model)?.0;
    let tokenizer = tokenizer(args, &model)?;
    let tokens = tokens(args, tokenizer.as_ref())?;
    let (mut stop, stops) = stops(args, tokenizer.as_ref())?;
    let mut ends = ends(args, tokenizer.as_ref())?;
    let options = options(&args.options, args.threads)?;
    let request = Request { model, ..args.model.request()? };
    let made = |request: &Request| {
        let imported = import(request)?;
        progress("compiling", || {
            Decoder::new(imported.graph, &imported.inputs, |graph| {
                Executable::new(graph, args.engine, &options, &imported.bound)
            })
        })
    };
    let decoder = match branches(&request)? {
        None => made(&request)?,
        Some([first, later]) => made(&later)?.begun_by(made(&first)?),
    };
    // Checkpoints have tokens added to their tokenizer alone, such as one to fill batches up with.
    if let (Some(have), Some(known)) = (tokenizer.as_ref().map(Tokenizer::size), decoder.known())
        && have > known
    {
        note(format_args!(
            "note: the tokenizer has tokens up to {}, and the model knows {known}, from 0 on: tokens were added, or it is another model's",
            have - 1
        ));
        if args.eos.is_empty() {
            ends.retain(|token| usize::try_from(*token).is_ok_and(|token| token < known));
        }
    }
    stop.extend(ends);
    let settings = Settings { count: args.count, stop, choice };
    let show = |text: &str| -> Result<()> {
        if args.format == "text" && !text.is_empty() {
            say_text!("{text}");
            // Whoever reads sees it now.
            std::io::stdout().flush().map_err(|e| output_error(&e))?;
        }
        Ok(())
    };
    let decode = |tokens: &[i64]| tokenizer.as_ref().map_or(Ok(String::new()), |t| t.text(tokens));
    let mut stream = tokenizer.as_ref().map(|_| Stream::new(&tokens, &stops, &decode));
    let began = Instant::now();
    let mut times = vec![];
    let all = decoder.generate(&tokens, &settings, &mut |token| {
        times.push(began.elapsed().as_secs_f64());
        let Some(stream) = &mut stream else {
            show(&if times.len() > 1 { format!(" {token}") } else { token.to_string() })?;
            return Ok(ControlFlow::Continue(()));
        };
        show(&stream.push(token)?)?;
        Ok(if stream.ended() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    if let Some(stream) = &mut stream {
        show(&stream.finish()?)?;
    }
    match (args.format.as_str(), &stream) {
        ("text", _) => say!(""),
        (_, None) => say!("{:#}", serde_json::json!({ "prompt": tokens, "tokens": all })),
        (_, Some(stream)) => {
            let text = stream.text();
            say!("{:#}", serde_json::json!({ "prompt": tokens, "tokens": all, "text": text }));
        }
    }
    let unknown = |t: &&i64| tokenizer.as_ref().is_some_and(|tokenizer| !tokenizer.knows(**t));
    if let Some(token) = all.iter().find(unknown) {
        note(format_args!("note: the tokenizer has no text for the token {token}, nor for others like it"));
    }
    if let [first, .., last] = times[..] {
        let rate = (times.len() - 1) as f64 / (last - first);
        note(format_args!("the first token after {first:.3} s, then {rate:.1} tokens a second"));
    }
    Ok(())
}

/// A decoder with a cache and one without it may be the branches of one model: as what each is imported, the one that makes the first step, and the one
/// that makes the others. Of text IR, or where a value is given, the model is one for all steps.
fn branches(request: &Request) -> Result<Option<[Request; 2]>> {
    let given = request.inputs.named.iter().chain(&request.bind).any(|(name, _)| name == BRANCH);
    if given || is_text(&request.model) {
        return Ok(None);
    }
    let declared = ModelFile::open_lean(&request.model)?.declared()?.inputs;
    let Some(input) = declared.iter().find(|input| input.name == BRANCH) else { return Ok(None) };
    let of = |is: bool| {
        let mut request = request.clone();
        let value = (0..input.rank.unwrap_or(0))
            .fold(Literal::One(is.into()), |value, _| Literal::List(vec![value]));
        request.bind.push((BRANCH.to_owned(), Given::Literal(value)));
        request
    };
    Ok(Some([of(false), of(true)]))
}

/// The tokenizer that is given, or the one beside the model for a prompt.
fn tokenizer(args: &Args, model: &Path) -> Result<Option<Tokenizer>> {
    match (&args.tokenizer, &args.prompt) {
        (Some(path), _) => Tokenizer::open(path).map(Some),
        (None, None) => Ok(None),
        (None, Some(_)) => {
            let path = model.with_file_name("tokenizer.json");
            if !path.is_file() {
                return Err(Error::user(format!(
                    "no tokenizer for --prompt: there is no {}; give --tokenizer FILE, or the tokens by --tokens",
                    path.display()
                )));
            }
            note(format_args!("note: the tokenizer is {}", path.display()));
            Tokenizer::open(&path).map(Some)
        }
    }
}

/// Tokens and texts that end the text.
fn stops(args: &Args, tokenizer: Option<&Tokenizer>) -> Result<(Vec<i64>, Vec<String>)> {
    let (mut tokens, mut texts) = (vec![], vec![]);
    for stop in &args.stop {
        match (stop.parse(), tokenizer) {
            (Ok(token), _) => tokens.push(token),
            _ if stop.is_empty() => {
                return Err(Error::user("--stop '': a token, or a text that is not empty"));
            }
            (Err(_), None) => {
                return Err(Error::user(format!(
                    "--stop {stop}: without a tokenizer (--tokenizer FILE) a token is a whole number"
                )));
            }
            (Err(_), Some(tokenizer)) => match tokenizer.special(stop) {
                Some(token) => tokens.push(token),
                None => texts.push(stop.clone()),
            },
        }
    }
    Ok((tokens, texts))
}

/// Tokens that the model ends a text by.
fn ends(args: &Args, tokenizer: Option<&Tokenizer>) -> Result<Vec<i64>> {
    if args.eos.is_empty() {
        let found: Vec<(&str, i64)> = tokenizer.into_iter().flat_map(Tokenizer::ends).collect();
        if !found.is_empty() {
            let list: Vec<String> = found.iter().map(|(text, token)| format!("{text} ({token})")).collect();
            note(format_args!("note: the text ends by {}; --eos names others", list.join(" or ")));
        }
        return Ok(found.into_iter().map(|(_, token)| token).collect());
    }
    let named = args.eos.iter().filter(|eos| *eos != "none");
    let token = |eos: &String| match (eos.parse(), tokenizer) {
        (Ok(token), _) => Ok(token),
        (Err(_), None) => Err(Error::user(format!(
            "--eos {eos}: without a tokenizer (--tokenizer FILE) a token is a whole number"
        ))),
        (Err(_), Some(tokenizer)) => tokenizer
            .special(eos)
            .ok_or_else(|| Error::user(format!("--eos {eos}: the tokenizer has no such special token"))),
    };
    named.map(token).collect()
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

/// The tokens to go on with.
fn tokens(args: &Args, tokenizer: Option<&Tokenizer>) -> Result<Vec<i64>> {
    if let (Some(prompt), Some(tokenizer)) = (&args.prompt, tokenizer) {
        let tokens = tokenizer.tokens(prompt)?;
        return match tokens.is_empty() {
            true => Err(Error::user("the prompt gives no tokens; write some text, e.g. --prompt 'Once'")),
            false => Ok(tokens),
        };
    }
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
