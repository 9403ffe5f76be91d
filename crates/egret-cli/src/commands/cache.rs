//! `egret cache`.

use crate::say;
use egret::Result;
use egret::artifact::{Cache, Kept};
use egret::ir::interp::size_text;

/// `egret cache`
#[derive(clap::Args)]
pub struct Args {
    /// Say where the cache is, what it holds and how much it may hold (the default)
    #[arg(long)]
    pub stats: bool,
    /// Remove what killed compilations left, and the entries that were used least recently until the rest is within
    /// EGRET_CACHE_SIZE
    #[arg(long)]
    pub prune: bool,
    /// Remove every entry
    #[arg(long, requires = "prune")]
    pub all: bool,
}

/// Show or shorten the cache.
pub fn run(args: &Args) -> Result<()> {
    let cache = Cache::of_environment()?;
    cache.check()?;
    if args.prune {
        let pruned = cache.prune(if args.all { 0 } else { cache.limit() })?;
        say!("removed {}, left {}", words(pruned.removed), words(pruned.left));
    }
    if args.stats || !args.prune {
        say!("folder     {}", cache.dir().display());
        say!("holds      {}", words(cache.kept()));
        say!("at most    {}", size_text(cache.limit()));
    }
    Ok(())
}

fn words(kept: Kept) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let (entries, functions) = (count(kept.entries, "compilation"), count(kept.functions, "function"));
    format!("{entries} and {functions} of {}", size_text(kept.bytes))
}
