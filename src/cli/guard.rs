//! `truename guard eval`: recorded cases through the production code, and how well they were judged.

use super::args::{EvalArguments, GuardArguments, GuardCommand};
use super::exit::{Failed, Outcome};
use super::render;
use crate::pipeline::guard::replay::{Recorded, Scope, Served, Slip, replay};
use crate::pipeline::guard::score::{Count, Ratio, Score};
use crate::pipeline::guard::verdict::{Decision, Verdict};
use serde_json::json;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Octets of one line; a case with a hundred replies of a hundred records stays below.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// Mistakes of a file that are told one by one; of further ones only their number.
const MAX_SLIPS: usize = 100;

/// Runs the command.
pub(super) fn run(arguments: &GuardArguments) -> Result<Outcome, Failed> {
    match &arguments.what {
        GuardCommand::Eval(arguments) => eval(arguments),
    }
}

/// What became of a file.
#[derive(Debug, Default)]
struct Evaluated {
    score: Score,
    slips: Vec<String>,
    /// Lines that could not be used.
    bad_lines: usize,
    /// Mistakes beyond those told.
    untold: usize,
}

fn eval(arguments: &EvalArguments) -> Result<Outcome, Failed> {
    let scope = if arguments.wire_only { Scope::WireOnly } else { Scope::All };
    let input: Box<dyn BufRead> = if arguments.file == Path::new("-") {
        Box::new(BufReader::new(io::stdin()))
    } else {
        Box::new(BufReader::new(File::open(&arguments.file).map_err(|error| file("read", &arguments.file, error))?))
    };
    let create = |path: &PathBuf| File::create(path).map(BufWriter::new).map_err(|error| file("write", path, error));
    let mut out = arguments.verdicts.as_ref().map(create).transpose()?;
    let mut evaluated = Evaluated::default();
    evaluated.lines(input, scope, &mut out, arguments)?;
    if let (Some(writer), Some(path)) = (&mut out, &arguments.verdicts) {
        writer.flush().map_err(|error| file("write", path, error))?;
    }
    let count = if arguments.strict { Count::Strict } else { Count::Lenient };
    let text = if arguments.json { evaluated.as_json(scope) } else { evaluated.as_text(scope, count) };
    render::result(&text)?;
    Ok(evaluated.complain(&arguments.file))
}

fn file(verb: &'static str, path: &Path, error: io::Error) -> Failed {
    Failed::File { verb, path: path.to_owned(), error }
}

impl Evaluated {
    /// Takes one line after the other; none is kept.
    fn lines(
        &mut self,
        mut input: impl BufRead,
        scope: Scope,
        out: &mut Option<BufWriter<File>>,
        arguments: &EvalArguments,
    ) -> Result<(), Failed> {
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = (&mut input).take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
            if read.map_err(|error| file("read", &arguments.file, error))? == 0 {
                break;
            }
            if line.last() != Some(&b'\n') && line.len() as u64 == MAX_LINE_BYTES {
                self.too_long(number);
                input.skip_until(b'\n').map_err(|error| file("read", &arguments.file, error))?;
                continue;
            }
            let text = String::from_utf8_lossy(&line);
            if text.trim().is_empty() {
                continue;
            }
            match Recorded::read(&text) {
                Ok(case) => {
                    let decision = replay(&case, scope);
                    self.score.add(&case, &decision);
                    if let (Some(writer), Some(path)) = (out.as_mut(), &arguments.verdicts) {
                        writeln!(writer, "{}", verdict_line(&case, &decision))
                            .map_err(|error| file("write", path, error))?;
                    }
                }
                Err(slips) => self.slipped(number, &slips),
            }
        }
        Ok(())
    }

    fn too_long(&mut self, number: usize) {
        let found = format!("more than {MAX_LINE_BYTES} octets");
        self.slipped(number, &[Slip { at: "the line".to_owned(), found, expected: "one case" }]);
    }

    fn slipped(&mut self, number: usize, slips: &[Slip]) {
        self.bad_lines += 1;
        for slip in slips {
            if self.slips.len() == MAX_SLIPS {
                self.untold += 1;
                continue;
            }
            let Slip { at, found, expected } = slip;
            let found = found.escape_debug();
            self.slips.push(format!("line {number}: {at}\n  found     {found}\n  expected  {expected}\n"));
        }
    }

    /// Tells what could not be used, and how the command ends.
    fn complain(&self, path: &Path) -> Outcome {
        if self.bad_lines == 0 {
            return Outcome::Fine;
        }
        let mut text: String = self.slips.iter().map(|slip| format!("error: {}: {slip}", path.display())).collect();
        if self.untold > 0 {
            text += &format!("and {} more mistakes\n", self.untold);
        }
        text += &format!("{} lines were left out of the figures; mend or remove them\n", self.bad_lines);
        render::complain(&text);
        Outcome::Negative
    }

    fn as_json(&self, scope: Scope) -> String {
        let mut value = self.score.as_json();
        value["scope"] = json!(scope_word(scope));
        value["lines_left_out"] = json!(self.bad_lines);
        format!("{value:#}")
    }

    fn as_text(&self, scope: Scope, count: Count) -> String {
        let number = |value: f64| format!("{value:.4}");
        let ratio_row = |word: &str, ratio: Ratio| {
            vec![
                word.to_owned(),
                number(ratio.precision()),
                number(ratio.recall()),
                number(ratio.f1()),
                ratio.cases().to_string(),
            ]
        };
        let mut rows = vec![["class", "precision", "recall", "F1", "cases"].map(str::to_owned).to_vec()];
        rows.extend(Verdict::ALL.map(|verdict| ratio_row(verdict.as_str(), self.score.class(verdict, count))));
        rows.push(ratio_row("manipulated", self.score.manipulated(count)));
        let figures = self.score.figures().map(|(label, value, of)| vec![label.to_owned(), number(value), of]);
        let counted = match count {
            Count::Lenient => "every acceptable verdict counts as right",
            Count::Strict => "only a case's class counts as right",
        };
        format!(
            "{} cases, {}, {counted}\n\n{}\n{}",
            self.score.cases(),
            scope_word(scope),
            render::columns(&figures),
            render::columns(&rows)
        )
    }
}

fn scope_word(scope: Scope) -> &'static str {
    match scope {
        Scope::All => "all evidence",
        Scope::WireOnly => "wire only",
    }
}

fn verdict_line(case: &Recorded, decision: &Decision) -> String {
    let signs: Vec<_> = decision.assessment.signs.iter().map(|sign| sign.as_str()).collect();
    json!({
        "id": case.id,
        "verdict": decision.verdict.as_str(),
        "serve": Served::of(decision).as_str(),
        "score": decision.assessment.score,
        "signs": signs,
    })
    .to_string()
}
