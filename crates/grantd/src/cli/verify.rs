//! `grantd audit verify`: offline, needs nothing but the file.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use grantd_domain::audit::{self, Trust};
use serde_json::Value;

use super::context::{Context, Format};
use super::failure::{Exit, Failure};
use super::node::Node;
use super::progress::{Progress, Watched};
use super::table::escape;

/// Bytes of a JWK, and of a checkpoint line.
const TRUST_BYTES_MAX: u64 = 1024 * 1024;

const EXPORT_HINT: &str = "Name an export in JSON lines.";
const KEY_HINT: &str = "--trust takes a key of the header line of an export, such as {\"kty\":\"OKP\",…}, or the name of a file that holds it.";
const CHECKPOINT_HINT: &str =
    "--checkpoint takes a file with a line of \"type\":\"checkpoint\" of an export, or a whole export.";

#[derive(Args)]
pub struct VerifyArgs {
    /// An export in JSON lines; - for stdin
    file: PathBuf,
    /// Only signatures of this key count: a JWK, or a file that holds one
    #[arg(long, value_name = "JWK|FILE")]
    trust: Option<String>,
    /// A checkpoint kept elsewhere, or an earlier export: the file must hold its last checkpoint unchanged
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

/// Prints the report; fails, without a further word, when something is wrong with the file.
pub fn run(args: &VerifyArgs, context: &mut Context) -> Result<(), Failure> {
    let trust = Trust {
        key: args.trust.as_deref().map(read_key).transpose()?,
        checkpoint: args.checkpoint.as_deref().map(read_checkpoint).transpose()?,
    };
    let stdin = args.file == Path::new("-");
    let input: Box<dyn Read + '_> =
        if stdin { Box::new(&mut context.term.input) } else { Box::new(open(&args.file, EXPORT_HINT)?) };
    let length = std::fs::metadata(&args.file).ok().filter(|_| !stdin).map(|metadata| metadata.len());
    let mut progress = Progress::new(context.term.stderr_is_terminal, length);
    let report = audit::verify(BufReader::new(Watched { reader: input, progress: &mut progress }), &trust);
    progress.finish();
    let report = report.map_err(|error| cannot_read(&args.file, &error, EXPORT_HINT))?;

    let node = Node::of(&report);
    if context.format() == Format::Table && context.globals.fields.is_none() {
        if !report.is_export {
            let message = format!("{} is no export of grantd, or its beginning is missing", args.file.display());
            return Err(Failure::local(message)
                .hint("Name one in JSON lines; one in CSV cannot be verified: `grantd audit export --format jsonl`."));
        }
        let counts = ["ok", "events", "chains", "checkpoints", "erased", "trust", "partial"].map(str::to_owned);
        context.show(&node.select(&counts))?;
        let lines = report.problems.iter().map(|problem| match problem.line {
            0 => format!("{}\n", escape(&problem.what)),
            line => format!("line {line}: {}\n", escape(&problem.what)),
        });
        let lines: String = lines.collect();
        context.term.print(&lines)?;
    } else {
        context.show(&node)?;
    }
    if report.ok { Ok(()) } else { Err(Failure::silent(Exit::Error)) }
}

fn read_key(text: &str) -> Result<Value, Failure> {
    let wrong = || Failure::usage("--trust: this is no JWK").hint(KEY_HINT);
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|_| wrong());
    }
    let mut json = String::new();
    let path = Path::new(text);
    let file = open(path, KEY_HINT)?;
    file.take(TRUST_BYTES_MAX).read_to_string(&mut json).map_err(|error| cannot_read(path, &error, KEY_HINT))?;
    serde_json::from_str(&json).map_err(|_| wrong())
}

/// The last checkpoint line.
fn read_checkpoint(path: &Path) -> Result<Value, Failure> {
    let mut reader = BufReader::new(open(path, CHECKPOINT_HINT)?);
    let (mut line, mut last) = (Vec::new(), None);
    loop {
        line.clear();
        let read = (&mut reader).take(4 * TRUST_BYTES_MAX).read_until(b'\n', &mut line);
        if read.map_err(|error| cannot_read(path, &error, CHECKPOINT_HINT))? == 0 {
            break;
        }
        if let Ok(value) = serde_json::from_slice::<Value>(&line)
            && value["type"] == "checkpoint"
        {
            last = Some(value);
        }
    }
    last.ok_or_else(|| {
        Failure::usage(format!("--checkpoint: {} holds no checkpoint", path.display())).hint(CHECKPOINT_HINT)
    })
}

fn open(path: &Path, hint: &str) -> Result<File, Failure> {
    File::open(path).map_err(|error| cannot_read(path, &error, hint))
}

fn cannot_read(path: &Path, error: &std::io::Error, hint: &str) -> Failure {
    Failure::local(format!("cannot read {}: {error}", path.display())).hint(hint)
}
