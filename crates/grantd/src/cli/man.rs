//! `grantd man`: manual pages, from the same tree as `--help`.

use std::path::PathBuf;

use clap::{Args, Command};

use super::failure::{Failure, WRITABLE};
use super::term::Term;

#[derive(Args)]
pub struct ManArgs {
    /// Directory for a page of every command; it is made if it is missing [default: stdout, the page of grantd itself]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(args: &ManArgs, root: Command, term: &mut Term) -> Result<(), Failure> {
    let cannot =
        |what: String, error: std::io::Error| Failure::local(format!("cannot write {what}: {error}")).hint(WRITABLE);
    let Some(directory) = &args.out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(root).render(&mut page).map_err(|e| cannot("the page".to_owned(), e))?;
        return term.print(&String::from_utf8_lossy(&page));
    };
    let shown = directory.display().to_string();
    std::fs::create_dir_all(directory).map_err(|e| cannot(shown.clone(), e))?;
    clap_mangen::generate_to(root, directory).map_err(|e| cannot(shown.clone(), e))?;
    term.note(&format!("{shown}: try `man -l {shown}/grantd.1`"));
    Ok(())
}
