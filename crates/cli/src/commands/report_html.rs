//! The report as one page of HTML that needs nothing else: no network, no scripts.

use vmcore_debug::report::Report;

/// How it looks; it prints well, too.
const STYLE: &str = "\
body{font:15px/1.45 system-ui,sans-serif;max-width:70rem;margin:1.5rem auto;padding:0 1rem;\
color:#1b1f24;background:#fff}\
h1{font-size:1.3rem;color:#a11;margin:.2rem 0}h2{font-size:1.05rem;margin:1.6rem 0 .4rem;\
border-bottom:1px solid #ccd}\
pre,code{font:13px/1.4 ui-monospace,monospace}pre{background:#f5f6f8;padding:.6rem .8rem;\
overflow-x:auto}\
table{border-collapse:collapse}td,th{text-align:left;vertical-align:top;padding:.1rem .9rem .1rem 0}\
th{font-weight:600;color:#456}\
details{margin:.3rem 0}summary{cursor:pointer}.faint{color:#667}svg{max-width:100%;height:auto}\
@media(prefers-color-scheme:dark){body{background:#14171a;color:#dde1e6}pre{background:#1e2328}\
h1{color:#f77}th{color:#9ab}}";

/// The page. `map` is a picture of the memory, as SVG.
pub(crate) fn page(report: &Report, map: &str) -> String {
    let title = escape(&format!(
        "{} {}",
        report.signature.text, report.crash.summary
    ));
    let mut body = format!("<h1>{}</h1>\n", escape(&report.crash.summary));
    if let Some(place) = &report.crash.place {
        body += &format!("<p>in <code>{}</code></p>\n", escape(place));
    }
    body += &facts(report);
    if let Some(fault) = &report.crash.fault {
        body += &heading("Fault");
        body += &format!(
            "<p>{}, at <code>{}</code>: <code>{}</code></p>\n",
            escape(&fault.what),
            escape(&fault.at),
            escape(&fault.code)
        );
        let rows = fault.registers.chunks(4).map(|row| {
            let words = row.iter().map(|(name, value)| format!("{name:<6} {value}"));
            words.collect::<Vec<_>>().join("  ")
        });
        body += &folded("Registers", &rows.collect::<Vec<_>>().join("\n"), false);
    }
    body += &stack(report);
    body += &cpus(report);
    if !report.log.is_empty() {
        body += &heading("Log around the trap");
        body += &format!("<pre>{}</pre>\n", escape(&report.log.join("\n")));
    }
    body += &threads(report);
    body += &heading("Memory in the dump");
    body += map;
    if !report.missing.is_empty() {
        body += &heading("What is missing");
        body += &list(&report.missing);
    }
    if !report.left_out.is_empty() {
        body += &heading("Left out to be shared");
        body += &list(&report.left_out);
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

fn heading(words: &str) -> String {
    format!("<h2>{words}</h2>\n")
}

fn folded(summary: &str, text: &str, open: bool) -> String {
    let open = if open { " open" } else { "" };
    format!(
        "<details{open}><summary>{}</summary><pre>{}</pre></details>\n",
        escape(summary),
        escape(text)
    )
}

fn list(lines: &[String]) -> String {
    let items = lines
        .iter()
        .map(|line| format!("<li>{}</li>\n", escape(line)));
    format!("<ul>\n{}</ul>\n", items.collect::<String>())
}

/// What the dump is of.
fn facts(report: &Report) -> String {
    let info = &report.info;
    let known = |fact: &Option<vmcore::info::Known>| fact.as_ref().map(|fact| fact.value.clone());
    let thread = report.thread.as_ref().map(|thread| {
        let cpu = thread
            .cpu
            .map_or_else(String::new, |cpu| format!(", CPU {cpu}"));
        format!(
            "{}, process {} ({}){cpu}",
            thread.tid, thread.pid, thread.name
        )
    });
    let modules = report
        .modules
        .iter()
        .map(|module| format!("{} ({})", module.name, module.file));
    let modules = modules.collect::<Vec<_>>().join(", ");
    let rows = [
        ("thread", thread),
        ("system", known(&info.kernel_version)),
        ("machine", Some(info.arch.to_string())),
        ("host", known(&info.host)),
        ("when", known(&info.crashed)),
        ("up", known(&info.uptime)),
        ("signature", Some(report.signature.text.clone())),
        ("dump", Some(format!("{}, {}", info.file, info.kind))),
        (
            "kernel",
            info.kernel.as_ref().map(|kernel| kernel.file.clone()),
        ),
        (
            "modules",
            Some(modules).filter(|modules| !modules.is_empty()),
        ),
    ];
    let rows = rows.into_iter().filter_map(|(label, value)| {
        let value = escape(&value?);
        Some(format!("<tr><th>{label}</th><td>{value}</td></tr>\n"))
    });
    format!("<table>\n{}</table>\n", rows.collect::<String>())
}

fn stack(report: &Report) -> String {
    let frames = report.own_frames();
    let mut text = String::new();
    for (number, frame) in frames.iter().enumerate() {
        for place in &frame.places {
            let line = place
                .line
                .map_or_else(String::new, |line| format!(":{line}"));
            let file = place.file.as_deref().unwrap_or_default();
            if place.inlined {
                text += &format!("#{number:<2} {:<34} {file}{line} inlined\n", place.function);
            }
        }
        let name = frame.frame.name.clone();
        let name = name.unwrap_or_else(|| frame.frame.pc.to_string());
        let outermost = frame.places.iter().find(|place| !place.inlined);
        let source = outermost.map_or_else(String::new, |place| {
            let line = place
                .line
                .map_or_else(String::new, |line| format!(":{line}"));
            format!("{}{line}", place.file.as_deref().unwrap_or_default())
        });
        text += &format!("#{number:<2} {name:<34} {source}\n");
    }
    if text.is_empty() {
        return String::new();
    }
    format!("{}<pre>{}</pre>\n", heading("Stack"), escape(&text))
}

fn cpus(report: &Report) -> String {
    if report.cpus.is_empty() {
        return String::new();
    }
    let rows = report.cpus.iter().map(|cpu| {
        format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td></tr>\n",
            cpu.cpu,
            cpu.tid,
            escape(&cpu.name),
            cpu.state,
            escape(cpu.function.as_deref().unwrap_or_default())
        )
    });
    format!(
        "{}<table><tr><th>CPU</th><th>thread</th><th>name</th><th>state</th><th>in</th></tr>\n{}</table>\n",
        heading("The other CPUs"),
        rows.collect::<String>()
    )
}

fn threads(report: &Report) -> String {
    let threads = &report.threads;
    let mut text = heading("Threads");
    text += &format!(
        "<p>{} threads in {} processes, {} different stacks</p>\n",
        threads.threads, threads.processes, threads.stacks
    );
    for group in &threads.groups {
        let waits = group.group.waits.iter().take(4);
        let waits: Vec<String> = waits
            .map(|wait| format!("{} ({})", wait.message, wait.threads))
            .collect();
        let summary = format!(
            "{} like {} {}",
            group.group.tids.len(),
            group.name,
            waits.join(", ")
        );
        text += &folded(&summary, &group.functions.join("\n"), false);
    }
    for cycle in &report.locks.cycles {
        let words: Vec<String> = cycle.iter().map(i32::to_string).collect();
        text += &format!("<p><strong>Deadlock</strong>: {}</p>\n", words.join(" → "));
    }
    text
}

/// Text that ends no element and no attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            '\n' | '\t' => escaped.push(c),
            c if crate::text::is_unsafe(c) => escaped += &format!("\\u{{{:x}}}", u32::from(c)),
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
            escape("<script>alert('x')</script>&\"\u{1b}\u{202e}"),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;\\u{1b}\\u{202e}"
        );
    }
}
