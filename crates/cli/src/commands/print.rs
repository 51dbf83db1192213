//! `vmcore print`: kernel structures by their types.

use crate::advice::{Advice, Result, Run};
use crate::context::{Context, KernelUse};
use crate::debug_files::{ModulePlaces, no_types};
use crate::help;
use crate::outcome::{Failure, Status};
use crate::text;
use clap::Args;
use serde::Serialize;
use std::ffi::OsString;
use std::io::Write as _;
use vmcore::OpenOptions;
use vmcore_debug::Target;
use vmcore_debug::expr::EvalError;
use vmcore_debug::report::frame_at_fault;
use vmcore_debug::show::{ListEnd, Options, Shown};
use vmcore_debug::stack::Stack;

/// Kernel variables and structures, by type
#[derive(Debug, Args)]
#[command(
    override_usage = "vmcore print [FILE] EXPR [OPTIONS]",
    after_help = help::with_files("\
Needs the kernel file with its debug information, or with CTF. EXPR is as in C: allproc,
'*(struct proc *)0xfffff80002f13528', 'allproc.lh_first->p_comm', 'sizeof(struct thread)'.
--list p_list.le_next prints every element of a list. With --thread or --frame, names are variables of
that frame first: vmcore print --frame 12 'so->so_rcv'.")
)]
pub(crate) struct Print {
    /// The dump, and its kernel file; then an expression
    #[arg(hide = true)]
    words: Vec<OsString>,
    /// Follow a list by this member
    #[arg(long, value_name = "MEMBER")]
    list: Option<String>,
    /// Elements of a list [default: 1000]
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1000,
        hide_default_value = true
    )]
    limit: usize,
    /// Structures in structures [default: 4]
    #[arg(long, value_name = "N", default_value_t = 4, hide_default_value = true)]
    depth: usize,
    /// In a frame of this thread [else of the thread that crashed]
    #[arg(long, value_name = "TID")]
    thread: Option<i32>,
    /// In frame N of the thread, as bt numbers them: its variables come first
    #[arg(long, value_name = "N")]
    frame: Option<usize>,
    #[command(flatten)]
    places: ModulePlaces,
}

/// The answer in JSON.
#[derive(Serialize)]
struct Answer<'a> {
    expression: &'a str,
    types: Option<&'static str>,
    /// One, or the elements of the list.
    values: Vec<Shown>,
    #[serde(flatten)]
    end: Option<ListEnd>,
}

/// The stack of a thread, or of the one that crashed.
fn stack_of(context: &Context, target: &Target<'_>, tid: Option<i32>) -> Result<Stack> {
    let list = target.processes()?;
    let thread = super::bt::thread_of(context, &list, tid)?;
    Ok(target.stack(thread))
}

impl Run for Print {
    fn run(&self, context: &Context) -> Result<Status> {
        let word = context.choose_with(&self.words, "EXPR")?;
        let expression = word.to_str();
        let expression = expression.ok_or_else(|| Failure::usage("EXPR is not UTF-8"))?;
        let session = context.open(KernelUse::Symbols, &OpenOptions::default())?;
        let files = self.places.open(&session)?;
        let target = Target::new(&session, &files)?;
        if target.types().is_empty() {
            return Err(no_types(&files, context).into());
        }
        let options = Options {
            depth: self.depth,
            ..Options::default()
        };
        let value = match (self.thread, self.frame) {
            (None, None) => target.evaluate(expression),
            (thread, frame) => {
                let stack = stack_of(context, &target, thread)?;
                let number = frame.unwrap_or_else(|| frame_at_fault(&stack.frames).unwrap_or(0));
                if number >= stack.frames.len() {
                    let sentence = format!("there is no frame {number}");
                    return Err(Failure::new(sentence).next(context.suggest("bt")).into());
                }
                target.evaluate_in(expression, &stack.frames, number, 0)
            }
        };
        let value = value.inspect_err(|_| context.note_debug(&files))?;
        let (values, end) = match &self.list {
            None => (vec![value], None),
            Some(link) => {
                let walked = target.walk(&value, link, self.limit)?;
                (walked.elements, Some(walked.end))
            }
        };
        let shown: Vec<Shown> = values
            .iter()
            .map(|value| target.print(value, &options))
            .collect();
        let status = match end {
            Some(ListEnd::Loop { .. } | ListEnd::Unreadable { .. }) => Status::Incomplete,
            _ => Status::Done,
        };
        if context.common().json {
            let answer = Answer {
                expression,
                types: target.types().origin(),
                values: shown,
                end,
            };
            context.json(Some(session.dump()), answer)?;
            context.note_debug(&files);
            return Ok(status);
        }
        let mut out = context.out();
        for value in &shown {
            let address = value
                .address
                .filter(|_| self.list.is_some())
                .map_or_else(String::new, |address| format!("{address}: "));
            let text = format!("{address}({}) {value}", value.type_);
            for line in text.lines() {
                writeln!(out, "{}", text::escape(line.as_bytes()))?;
            }
        }
        out.finish()?;
        match end {
            Some(ListEnd::Limit) => context.note(&format!(
                "vmcore: the list goes on after {} elements (--limit)",
                shown.len()
            )),
            Some(ListEnd::Loop { at }) => context.note(&format!(
                "vmcore: the list is damaged: it comes back to {at}, which is not its first element"
            )),
            Some(ListEnd::Unreadable { reason }) => context.note(&format!(
                "vmcore: the list breaks off: {}",
                text::escape(reason.as_bytes())
            )),
            Some(ListEnd::Complete) | None => {}
        }
        context.note_debug(&files);
        Ok(status)
    }
}

impl Advice for EvalError {
    fn advice(&self, context: &Context) -> Failure {
        match self {
            Self::Unreadable(error) => error.advice(context),
            _ => Failure::new(self.to_string()).next(context.suggest("sym NAME")),
        }
    }
}
