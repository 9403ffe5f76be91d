//! `egret diff`.

use crate::args::DiffArgs;
use crate::common::{progress, with_rules};
use egret::{Error, ImportOptions, Result, diff::diff, source};

/// `egret diff`
pub fn run(args: &DiffArgs) -> Result<()> {
    let import = ImportOptions { dims: args.dims.iter().cloned().collect(), ..ImportOptions::default() };
    let read = |path| progress("importing", || source::graph(path, &import));
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    let found = progress("comparing", || diff(&a, &b, &with_rules(&args.rules)?))?;
    print!("{found}");
    if found.differs() { Err(Error::differs("")) } else { Ok(()) }
}
