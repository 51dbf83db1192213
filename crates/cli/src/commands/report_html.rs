//! The report as one page of HTML that needs nothing else: no network, no scripts.
//!
//! All text of the dump goes through [`escape`]; what is not escaped is ours.

use vmcore::session::KernelMatch;
use vmcore_debug::arch::Machine;
use vmcore_debug::locks::Locks;
use vmcore_debug::report::recursion;
use vmcore_debug::report::text::{end_of, how_of, words_of_holder, words_of_lock, words_of_match};
use vmcore_debug::report::{CpuReport, Report};
use vmcore_debug::stack::NamedFrame;
use vmcore_debug::usage::Usage;

/// How it looks.
const STYLE: &str = include_str!("report.css");
/// Nothing is fetched, run or sent, whatever a browser finds in the page.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// A section: what links call it, its heading, its contents.
struct Section {
    id: &'static str,
    heading: String,
    body: String,
}

/// The page. `map` is a picture of the memory, as SVG.
pub(crate) fn page(report: &Report, map: &str) -> String {
    let title = escape(&report.crash.summary);
    let mut sections = Vec::new();
    let mut add = |id, heading: &str, body: String| {
        if !body.is_empty() {
            let heading = heading.to_owned();
            sections.push(Section { id, heading, body });
        }
    };
    add("fault", "Fault", fault(report));
    add("stack", "Stack", stack(report));
    add("log", "Log around the trap", log(report));
    add("cpus", "The other CPUs", cpus(&report.cpus));
    add("threads", "Threads", threads(report));
    add("locks", "Locks", locks(&report.locks));
    add("modules", "Modules", modules(report));
    add("memory", "Memory by zone and type", memory(&report.memory));
    add("map", "Memory in the dump", map.to_owned());
    add("missing", "What is missing", list(&report.missing));
    add("shared", "Left out to be shared", list(&report.left_out));
    let links = sections
        .iter()
        .map(|section| format!("<a href=\"#{}\">{}</a>\n", section.id, section.heading));
    let nav = format!("<nav>\n{}</nav>\n", links.collect::<String>());
    let contents = sections.iter().map(|section| {
        let Section { id, heading, body } = section;
        format!("<section id=\"{id}\">\n<h2>{heading}</h2>\n{body}</section>\n")
    });
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         {}{nav}{}{}{}</body>\n</html>\n",
        header(report),
        facts(report),
        contents.collect::<String>(),
        footer(report)
    )
}

fn header(report: &Report) -> String {
    let crash = &report.crash;
    let mut text = format!("<header>\n<h1>{}</h1>\n", escape(&crash.summary));
    if let Some(place) = &crash.place {
        let place = escape(&report.short_place(place));
        text += &format!("<p>in <code>{place}</code></p>\n");
    }
    if let Some(message) = &crash.message
        && !crash.summary.starts_with(message.as_str())
    {
        text += &format!("<p class=\"faint\">panic: {}</p>\n", escape(message));
    }
    text + "</header>\n"
}

fn footer(report: &Report) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let private = if report.left_out.is_empty() {
        "It holds host data: names, paths and lines of the log. <code>vmcore report --share</code> \
         leaves them out."
    } else {
        "Made to be shared."
    };
    let next = report.next.iter();
    let next: Vec<String> = next
        .map(|next| format!("<code>vmcore {}</code>", escape(next)))
        .collect();
    format!(
        "<footer>\n<p>Next: {}</p>\n<p>Written by vmcore {version}. {private} This file asks nobody \
         for anything.</p>\n</footer>\n",
        next.join(" &#160; ")
    )
}

fn folded(summary: &str, body: &str) -> String {
    format!("<details><summary>{summary}</summary>\n{body}</details>\n")
}

fn list(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let items = lines
        .iter()
        .map(|line| format!("<li>{}</li>\n", escape(line)));
    format!("<ul>\n{}</ul>\n", items.collect::<String>())
}

/// A table; cells are HTML already.
fn table(heads: &[&str], rows: impl Iterator<Item = String>) -> String {
    let heads = heads.iter().map(|head| format!("<th>{head}</th>"));
    format!(
        "<div class=\"scroll\"><table class=\"lines\">\n<tr>{}</tr>\n{}</table></div>\n",
        heads.collect::<String>(),
        rows.collect::<String>()
    )
}

/// What the dump is of.
fn facts(report: &Report) -> String {
    let info = &report.info;
    let known = |fact: &Option<vmcore::info::Known>| fact.as_ref().map(|fact| escape(&fact.value));
    let thread = report.thread.as_ref().map(|thread| {
        let (tid, pid, name) = (thread.tid, thread.pid, escape(&thread.name));
        let cpu = thread
            .cpu
            .map_or_else(String::new, |cpu| format!(", CPU {cpu}"));
        format!("{tid}, process {pid} (<code>{name}</code>){cpu}")
    });
    let version = info.kernel_version.as_ref();
    let version = version.map_or("FreeBSD, version unknown", |version| &version.value);
    let cpus = report
        .cpu_count
        .and_then(|count| u64::try_from(count).ok())
        .map_or_else(String::new, |count| {
            format!(", {}", crate::text::counted(count, "CPU", "CPUs"))
        });
    let kernel = info.kernel.as_ref().map(|kernel| {
        let words = kernel.comparison.as_ref().map_or("", words_of_match);
        let class = match &kernel.comparison {
            Some(KernelMatch::BuildId | KernelMatch::Version | KernelMatch::Contents { .. }) => {
                "good"
            }
            Some(how) if how.is_mismatch() => "bad",
            _ => "warn",
        };
        let file = escape(&kernel.file);
        format!("{file} <span class=\"{class}\">{words}</span>")
    });
    let size = crate::text::size(info.size_bytes);
    let rows = [
        ("thread", thread),
        (
            "system",
            Some(format!("{}, {}{cpus}", escape(version), info.arch)),
        ),
        ("host", known(&info.host)),
        ("when", known(&info.crashed)),
        ("up", known(&info.uptime)),
        (
            "signature",
            Some(format!(
                "<code>{}</code> <code>{}</code>",
                report.signature.text, report.signature.v2
            )),
        ),
        (
            "dump",
            Some(format!("{}: {}, {size}", escape(&info.file), info.kind)),
        ),
        ("kernel", kernel),
    ];
    let rows = rows.into_iter().filter_map(|(label, value)| {
        Some(format!("<tr><th>{label}</th><td>{}</td></tr>\n", value?))
    });
    format!("<table>\n{}</table>\n", rows.collect::<String>())
}

fn fault(report: &Report) -> String {
    let Some(fault) = &report.crash.fault else {
        return String::new();
    };
    let words = fault.trap.in_words(Machine::of(report.info.arch));
    let mut body = String::new();
    if let Some(reason) = &report.reason {
        let headline = escape(&report.short_reason(&reason.headline));
        body += &format!("<p><strong>{headline}</strong></p>\n<ul>\n");
        for line in &reason.evidence {
            body += &format!("<li>{}</li>\n", escape(&report.short_reason(line)));
        }
        body += "</ul>\n";
    }
    body += &format!("<p>{}: {}</p>\n", escape(&fault.what), escape(&words));
    body += &format!(
        "<p>at <code>{}</code>, whose code begins with <code>{}</code></p>\n",
        escape(&fault.at),
        escape(&fault.code)
    );
    let address = fault.trap.fault_address.map(|address| address.0);
    let registers = fault.registers.chunks(4).map(|row| {
        let words = row.iter().map(|(name, value)| {
            let word = format!("{name:<6} {value}");
            let digits = value.trim_start_matches("0x");
            // What the access went through stands out.
            match u64::from_str_radix(digits, 16) {
                Ok(number) if Some(number) == address => {
                    format!("<mark>{}</mark>", escape(&word))
                }
                _ => escape(&word),
            }
        });
        words.collect::<Vec<_>>().join("   ")
    });
    let registers: Vec<String> = registers.collect();
    body += &format!("<pre>{}</pre>\n", registers.join("\n"));
    body
}

/// The frames; those above the culprit are folded.
fn stack(report: &Report) -> String {
    let Some(thread) = &report.thread else {
        return String::new();
    };
    let frames = &thread.stack.frames;
    let hidden = frames.get(..thread.hidden_frames).unwrap_or_default();
    let own = frames.get(thread.hidden_frames..).unwrap_or_default();
    let mut body = String::new();
    if let Some(root) = &report.source_root {
        body += &format!(
            "<p class=\"faint\">sources below <code>{}</code></p>\n",
            escape(root)
        );
    }
    if thread.stack.stale {
        body += "<p class=\"bad\">stale: its CPU did not stop</p>\n";
    }
    if !hidden.is_empty() {
        let count = crate::text::counted(hidden.len() as u64, "frame", "frames");
        let summary = format!("{count} of the panic, the debugger or the dump in front");
        body += &folded(&summary, &frame_table(report, hidden, 0));
    }
    body += &frame_table(report, own, thread.hidden_frames);
    if let Some(end) = end_of(&thread.stack.end) {
        body += &format!("<p class=\"faint\">— {}</p>\n", escape(&end));
    }
    body
}

fn frame_table(report: &Report, frames: &[NamedFrame], from: usize) -> String {
    let mut rows = String::new();
    // After a jump to what is not code it is the first that is code.
    let culprit = report.thread.as_ref().and_then(|thread| {
        let mut frames = thread.stack.frames.iter().skip(thread.hidden_frames);
        Some(thread.hidden_frames + frames.position(|frame| frame.frame.name.is_some())?)
    });
    let parts = recursion::fold(frames);
    let shown = parts.iter().flat_map(|part| {
        let numbers = part.start..part.start + part.shown;
        numbers.map(move |at| {
            (
                at,
                part.in_words(from)
                    .filter(|_| at + 1 == part.start + part.shown),
            )
        })
    });
    for (at, repeats) in shown {
        let Some(frame) = frames.get(at) else { break };
        let number = from + at;
        let row = |class: &str, number: &str, name: &str, place: Option<_>, how: &str| {
            let source = place.map_or_else(String::new, |place| report.short_source(place));
            format!(
                "<tr class=\"{class}\"><td>{number}</td><td><code>{}</code></td>\
                 <td><code>{}</code></td><td class=\"faint\">{how}</td></tr>\n",
                escape(name),
                escape(&source)
            )
        };
        let label = format!("#{number}");
        for place in frame.places.iter().filter(|place| place.inlined) {
            rows += &row("inlined", "", &place.function, Some(place), "inlined");
        }
        let name = frame.frame.name.clone();
        let name = name.unwrap_or_else(|| frame.frame.pc.to_string());
        let place = frame.places.iter().find(|place| !place.inlined);
        let is_culprit = Some(number) == culprit;
        let class = if is_culprit { "culprit" } else { "frame" };
        rows += &row(class, &label, &name, place, how_of(frame.frame.how));
        if let Some(words) = repeats {
            rows += &row("inlined", "", &words, None, "");
        }
    }
    format!("<div class=\"scroll\"><table class=\"stack\">\n{rows}</table></div>\n")
}

fn log(report: &Report) -> String {
    if report.log.is_empty() {
        return String::new();
    }
    let lines = report.log.iter().map(|line| {
        let text = escape(line.trim_end());
        match line.starts_with("panic: ") || line.starts_with("Fatal ") {
            true => format!("<mark>{text}</mark>\n"),
            false => format!("{text}\n"),
        }
    });
    format!("<pre>{}</pre>\n", lines.collect::<String>())
}

fn cpus(cpus: &[CpuReport]) -> String {
    if cpus.is_empty() {
        return String::new();
    }
    let rows = cpus.iter().map(|cpu| {
        let class = match cpu.state {
            "idle" => "faint",
            "spinning" => "bad",
            "unknown" => "warn",
            _ => "good",
        };
        let function = cpu.function.as_deref().unwrap_or_default();
        let lock = cpu.lock.as_ref().map_or_else(String::new, |lock| {
            format!(" on {}", escape(&words_of_lock(lock)))
        });
        format!(
            "<tr><td class=\"number\">{}</td><td class=\"number\">{}</td><td>{}</td>\
             <td class=\"{class}\">{}{lock}</td><td><code>{}</code></td></tr>\n",
            cpu.cpu,
            cpu.tid,
            escape(&cpu.name),
            cpu.state,
            escape(function)
        )
    });
    table(&["CPU", "thread", "name", "state", "in"], rows)
}

fn threads(report: &Report) -> String {
    let threads = &report.threads;
    let mut text = format!(
        "<p>{} in {}, {}, each folded up here</p>\n",
        crate::text::counted(threads.threads as u64, "thread", "threads"),
        crate::text::counted(threads.processes as u64, "process", "processes"),
        crate::text::counted(threads.stacks as u64, "different stack", "different stacks"),
    );
    for group in &threads.groups {
        let waits = group.group.waits.iter().take(6);
        let waits: Vec<String> = waits
            .map(|wait| format!("{} ({})", escape(&wait.message), wait.threads))
            .collect();
        let waits = match waits.is_empty() {
            true => String::new(),
            false => format!(" <span class=\"faint\">waits: {}</span>", waits.join(", ")),
        };
        let count = group.group.tids.len();
        let name = escape(&group.name);
        let like = if count > 1 { " like" } else { "" };
        let summary = format!("<b>{count}</b>{like} <code>{name}</code>{waits}");
        let tids = group.group.tids.iter().map(i32::to_string);
        let tids = tids.collect::<Vec<_>>().join(" ");
        let functions = group.functions.iter().map(|function| escape(function));
        let functions = match group.functions.is_empty() {
            true => "no registers in the dump".to_owned(),
            false => functions.collect::<Vec<_>>().join("\n"),
        };
        let body = format!("<p class=\"faint\">threads {tids}</p>\n<pre>{functions}</pre>\n");
        text += &folded(&summary, &body);
    }
    text
}

fn locks(locks: &Locks) -> String {
    if locks.waits.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    for cycle in &locks.cycles {
        let mut words: Vec<String> = cycle.iter().map(i32::to_string).collect();
        words.extend(words.first().cloned());
        text += &format!("<p class=\"bad\">Deadlock: {}</p>\n", words.join(" → "));
    }
    let rows = locks.waits.iter().filter_map(|wait| {
        let lock = locks.locks.iter().find(|lock| lock.address == wait.lock)?;
        Some(format!(
            "<tr><td class=\"number\">{}</td><td>{}</td><td><code>{}</code></td><td>{}</td></tr>\n",
            wait.tid,
            escape(&lock.class),
            escape(&lock.name),
            escape(&words_of_holder(&lock.holder))
        ))
    });
    text + &table(&["thread waits for", "class", "lock", "held by"], rows)
}

fn modules(report: &Report) -> String {
    if report.modules.is_empty() {
        return String::new();
    }
    let rows = report.modules.iter().map(|module| {
        let unproven = match module.file.starts_with("found") && !module.proven {
            true => ", identity unproven",
            false => "",
        };
        format!(
            "<tr><td><code>{}</code></td><td>{}{unproven}</td></tr>\n",
            escape(&module.name),
            module.file
        )
    });
    table(&["module", "its file"], rows)
}

fn memory(memory: &Usage) -> String {
    if memory.is_empty() {
        return String::new();
    }
    let count = crate::text::count;
    let zones = memory.zones.iter().map(|zone| {
        (
            "zone",
            &zone.name,
            count(zone.item_bytes),
            zone.in_use,
            zone.bytes,
        )
    });
    let types = memory
        .malloc
        .iter()
        .map(|kind| ("malloc", &kind.name, String::new(), kind.in_use, kind.bytes));
    let rows = zones.chain(types).map(|(sort, name, item, in_use, bytes)| {
        format!(
            "<tr><td>{sort}</td><td><code>{}</code></td><td class=\"number\">{item}</td>\
             <td class=\"number\">{}</td><td class=\"number\">{}</td></tr>\n",
            escape(name),
            count(in_use),
            count(bytes)
        )
    });
    table(&["", "name", "item bytes", "in use", "bytes"], rows)
}

/// Text of the dump on one line, that ends no element and no attribute.
fn escape(text: &str) -> String {
    let text = crate::text::escape(text.as_bytes());
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn text_stays_text() {
        assert_eq!(
            escape("<script>alert('x')</script>&\"\u{1b}\u{202e}\n"),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;\\x1b\\u{202e}\\x0a"
        );
    }
}
