//! Which words may leave the house: those that are known to say nothing of a machine or its users.
//!
//! The list says what stays, never what goes: words that kernels use (`vocabulary.txt`), drivers
//! with a unit (`drivers.txt`), functions of the kernel, names of source files, releases, and small
//! numbers. Everything else becomes `…`, whatever it is: an address of memory or a network, a name,
//! a path, a serial number.

use std::collections::HashSet;

/// What takes the place of what was left out.
pub(super) const GONE: &str = "…";
/// The largest number in hexadecimal: an offset, an error code, a vendor.
const SMALL: u64 = 0x1_0000;
/// Digits of the largest decimal number: of a thread id.
const DIGITS: usize = 6;
/// Where a line has one of these, its numbers may be what they name.
const NAMING: [&str; 12] = [
    "account", "bssid", "guid", "hostname", "login", "password", "serial", "sn", "ssid", "token",
    "uuid", "wwn",
];
/// Registers whose value is a cause or a state of the processor, never an address.
const STATUS: [&str; 7] = ["dsisr", "esr", "msr", "scause", "spsr", "srr1", "sstatus"];
const UNITS: [&str; 31] = [
    "b", "bit", "bits", "bytes", "c", "d", "g", "gb", "ghz", "gib", "h", "hz", "k", "kb", "khz",
    "kib", "m", "ma", "mb", "mbps", "gbps", "mhz", "mib", "ms", "ns", "s", "sec", "tb", "us", "v",
    "x",
];
const SOURCES: [&str; 7] = ["S", "c", "cc", "cpp", "h", "m", "rs"];

/// Judges words.
pub(super) struct Words<'a> {
    known: HashSet<&'static str>,
    drivers: HashSet<&'static str>,
    /// The machine's names in lower case: never harmless, whatever they mean elsewhere.
    names: Vec<String>,
    is_function: &'a dyn Fn(&str) -> bool,
}

impl<'a> Words<'a> {
    /// For a machine of this name; `is_function` says what is one of its kernel.
    pub(super) fn new(host: Option<&str>, is_function: &'a dyn Fn(&str) -> bool) -> Self {
        let host = host.map(str::to_lowercase).unwrap_or_default();
        let labels = host.split('.').map(str::to_owned);
        let mut names: Vec<String> = labels.chain([host.clone()]).collect();
        names.retain(|name| !name.is_empty());
        Self {
            known: include_str!("words/vocabulary.txt")
                .split_whitespace()
                .collect(),
            drivers: include_str!("words/drivers.txt")
                .split_whitespace()
                .collect(),
            names,
            is_function,
        }
    }

    /// A line of which only harmless words are left.
    pub(super) fn line(&self, text: &str) -> String {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let has_numbers = !text
            .split(|c| !is_word(c))
            .any(|word| NAMING.contains(&word.to_lowercase().as_str()));
        let mut line = String::with_capacity(text.len());
        let mut before = [""; 2];
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let is_gap = is_blank(first);
            let end = rest.find(|c| is_blank(c) != is_gap).unwrap_or(rest.len());
            let (cluster, tail) = rest.split_at(end);
            rest = tail;
            if is_gap {
                line.extend(cluster.chars().map(|c| if c == '\t' { c } else { ' ' }));
                continue;
            }
            let is_time = is_time_of_day(cluster) && is_date(before);
            let is_known = is_time || is_status(before) && is_status_value(cluster);
            let cluster_left = match is_known {
                true => cluster.to_owned(),
                false => self.cluster(cluster, has_numbers),
            };
            // How many words are gone says nothing to a reader.
            if cluster_left == GONE && line.trim_end().ends_with(GONE) {
                line.truncate(line.trim_end().len());
            } else {
                line += &cluster_left;
            }
            before = [before[1], cluster];
        }
        line
    }

    /// What stands between two blanks.
    fn cluster(&self, cluster: &str, has_numbers: bool) -> String {
        if cluster.contains(['@', '\\', '%', '~', '$', '^']) && cluster.len() > 1
            || cluster.contains("://")
        {
            let percent = cluster.trim_end_matches(['%', ',', '.', ')']);
            if !(cluster.contains('%') && is_decimal(percent)) {
                return GONE.to_owned();
            }
        }
        let mut pieces: Vec<(String, bool)> = Vec::new();
        let mut is_gone = false;
        let mut rest = cluster;
        while let Some(first) = rest.chars().next() {
            let is_mark = |c: char| "()[]{}<>\"'`;,=|!?*&%".contains(c);
            // Numbers with commas between them may be one address.
            let end = if is_mark(first) {
                first.len_utf8()
            } else {
                rest.char_indices()
                    .find(|(at, c)| is_mark(*c) && !(*c == ',' && between_digits(rest, *at)))
                    .map_or(rest.len(), |(at, _)| at)
            };
            let (piece, tail) = rest.split_at(end);
            rest = tail;
            if is_mark(first) {
                pieces.push((piece.to_owned(), false));
                continue;
            }
            let (lead, core, trail) = match (piece.contains("::"), piece.ends_with("::")) {
                (true, false) => ("", piece.trim_end_matches(':'), ":"),
                (true, true) => ("", piece, ""),
                (false, _) => trimmed(piece),
            };
            let trail = if piece.ends_with(trail) { trail } else { "" };
            let left = match core {
                "" => String::new(),
                core => self.core(core, has_numbers),
            };
            is_gone |= left == GONE;
            let has_digit = core.contains(|c: char| c.is_ascii_digit());
            pieces.push((format!("{lead}{left}{trail}"), has_digit));
        }
        // `[2001:db8::1]:22`: what is left of an address goes with it.
        pieces
            .into_iter()
            .map(|(piece, has_digit)| match is_gone && has_digit {
                true if piece.contains(GONE) => piece,
                true => GONE.to_owned(),
                false => piece,
            })
            .collect()
    }

    /// A word, or words with signs between them.
    fn core(&self, core: &str, has_numbers: bool) -> String {
        let is_harmless = match core.contains('/') {
            false => self.is_harmless(core, has_numbers),
            true => {
                let mut parts = core.split('/');
                let first = parts.next().unwrap_or_default();
                let is_all =
                    |part: &str| !part.contains('.') && self.is_harmless(part, has_numbers);
                is_all(first) && parts.all(is_all)
            }
        };
        if is_harmless && !self.names_the_machine(core) {
            return core.to_owned();
        }
        // Of a path, the name of the source file; of a segment and an offset, the segment.
        if let Some((_, file)) = core.rsplit_once('/')
            && self.is_source(file)
            && !self.names_the_machine(file)
        {
            return format!("{GONE}/{file}");
        }
        match core.split_once(':') {
            Some((segment, offset))
                if has_numbers && is_small_hex(segment) && offset.starts_with("0x") =>
            {
                format!("{segment}:{GONE}")
            }
            _ => GONE.to_owned(),
        }
    }

    fn is_harmless(&self, core: &str, has_numbers: bool) -> bool {
        if core.is_empty() {
            return false;
        }
        if core.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && core.starts_with(|c: char| !c.is_ascii_digit())
        {
            return self.is_word(core);
        }
        (has_numbers && is_number(core))
            || self.is_source(core)
            || self.is_release(core)
            || self.is_place(core)
            || self.is_device_path(core)
            || self.is_compound(core, '-')
            || self.is_compound(core, '.')
            || core.len() < 8 && has_numbers && is_range(core)
    }

    /// A word of the kernel, a driver with a unit, a function.
    fn is_word(&self, word: &str) -> bool {
        let lower = word.to_lowercase();
        if self.names.contains(&lower) {
            return false;
        }
        let is_part = |part: &str| self.known.contains(part) || self.is_device(part);
        if is_part(&lower) || is_repeated_fill(&lower) {
            return true;
        }
        let parts = lower.trim_start_matches('_').split('_');
        let mut parts = parts.peekable();
        let is_compound = lower.contains('_')
            && parts.peek().is_some()
            && parts.all(|part| is_part(part) && !self.names.iter().any(|name| name == part));
        is_compound || (word.contains('_') || word.len() >= 6) && (self.is_function)(word)
    }

    /// `em0`, `ada0p2`, `cpu3`.
    fn is_device(&self, word: &str) -> bool {
        let Some(at) = word.find(|c: char| c.is_ascii_digit()) else {
            return self.drivers.contains(word);
        };
        let (driver, unit) = word.split_at(at);
        let mut numbers = unit.split(['p', 's']);
        self.drivers.contains(driver)
            && numbers.clone().count() <= 3
            && numbers.all(|number| is_decimal(number) && number.len() <= 3)
    }

    /// `kern_mutex.c`, `if_em.c:212`.
    fn is_source(&self, core: &str) -> bool {
        let (file, line) = core.split_once(':').unwrap_or((core, "1"));
        let Some((stem, extension)) = file.rsplit_once('.') else {
            return false;
        };
        let first = stem.split('_').next().unwrap_or_default();
        SOURCES.contains(&extension)
            && (is_decimal(line) || line == "N")
            && stem.len() <= 32
            && stem.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && (self.is_word(stem) || stem.contains('_') && self.is_word(first))
    }

    /// `15.1-RELEASE-p2`, `main-n288439-95867ce26ab8`.
    fn is_release(&self, core: &str) -> bool {
        let is_hash = |part: &str| {
            (9..=12).contains(&part.len()) && part.chars().all(|c| c.is_ascii_hexdigit())
        };
        let is_count = |part: &str| {
            part.strip_prefix('n')
                .is_some_and(|count| count.len() == 6 && is_decimal(count))
        };
        let parts: Vec<&str> = core.split('-').collect();
        let has_count = parts.windows(2).any(|pair| match pair {
            [count, hash] => is_count(count) && is_hash(hash),
            _ => false,
        });
        let is_patch = |part: &str| {
            let digits = part.trim_start_matches(|c: char| c.is_ascii_alphabetic());
            let word = part.strip_suffix(digits).unwrap_or_default().to_lowercase();
            digits.len() <= 2
                && (word == "p" || self.known.contains(word.as_str()))
                && (digits.is_empty() || is_decimal(digits))
        };
        parts.iter().enumerate().all(|(at, part)| {
            at == 0 && is_dotted(part)
                || has_count && (is_count(part) || is_hash(part))
                || is_patch(part)
        })
    }

    /// `vm_fault+0x64`, `vm_fault:842`.
    fn is_place(&self, core: &str) -> bool {
        match core.split_once('+') {
            Some((function, offset)) => self.is_word(function) && is_small_hex(offset),
            None => core
                .split_once(':')
                .is_some_and(|(function, line)| self.is_word(function) && is_decimal(line)),
        }
    }

    /// `da0:umass-sim0:0:0:0`.
    fn is_device_path(&self, core: &str) -> bool {
        let mut parts = core.split(':');
        let first = parts.next().unwrap_or_default();
        let has_unit = first.ends_with(|c: char| c.is_ascii_digit()) && self.is_device(first);
        has_unit
            && parts.all(|part| match part.as_bytes() {
                [digit] => digit.is_ascii_digit(),
                _ => self.is_compound(part, '-') || self.is_word(part),
            })
    }

    /// `non-maskable`, `kernel.debug`, `ugen0.2`.
    fn is_compound(&self, core: &str, by: char) -> bool {
        let mut parts = core.split(by);
        let first = parts.next().unwrap_or_default();
        let is_known = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && self.is_word(part)
        };
        // One number: `rl192.0.2.17` would be an address after a driver's name.
        let mut numbers = 0;
        core.contains(by)
            && is_known(first)
            && parts.all(|part| {
                numbers += usize::from(is_decimal(part));
                is_known(part) || is_decimal(part) && part.len() <= 3 && numbers == 1
            })
    }

    /// Whether one of the machine's names is in it, as a word.
    pub(super) fn names_the_machine(&self, core: &str) -> bool {
        let core = core.to_lowercase();
        let is_inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        self.names.iter().any(|name| {
            core.match_indices(name.as_str()).any(|(at, found)| {
                let before = core.get(..at).and_then(|text| text.chars().next_back());
                let after = core
                    .get(at + found.len()..)
                    .and_then(|text| text.chars().next());
                !is_inside(before) && !is_inside(after)
            })
        })
    }
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

fn between_digits(text: &str, at: usize) -> bool {
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let before = text.get(..at).and_then(|text| text.chars().next_back());
    let after = text.get(at + 1..).and_then(|text| text.chars().next());
    is_digit(before) && is_digit(after)
}

/// Signs in front, the word, signs behind. A slash in front makes a path.
fn trimmed(piece: &str) -> (&str, &str, &str) {
    let core = piece.trim_start_matches([':', '#', '-', '+', '.']);
    let lead = piece.strip_suffix(core).unwrap_or_default();
    let trail = core.trim_end_matches([':', '-', '+', '.']);
    let (core, trail) = core.split_at(trail.len());
    (lead, core, trail)
}

/// Without zeros in front, of few digits.
fn is_decimal(text: &str) -> bool {
    let is_padded = text.len() > 1 && text.starts_with('0');
    !text.is_empty()
        && text.len() <= DIGITS
        && !is_padded
        && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `15.1`, `3.25`: too short for an address.
fn is_dotted(text: &str) -> bool {
    let is_short = |part: &str| part.len() <= 2 && !part.is_empty() && is_digits(part);
    text.split_once('.')
        .is_some_and(|(whole, rest)| is_short(whole) && is_short(rest))
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_range(text: &str) -> bool {
    text.split_once('-').is_some_and(|(first, last)| {
        [first, last]
            .iter()
            .all(|end| is_decimal(end) && end.len() <= 3)
    })
}

fn is_small_hex(text: &str) -> bool {
    let value = text
        .strip_prefix("0x")
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|digits| u64::from_str_radix(digits, 16).ok());
    value.is_some_and(is_harmless_value)
}

/// A number that is no address: small, or what memory is filled with.
pub(super) const fn is_harmless_value(value: u64) -> bool {
    let (high, low) = (value >> 32, value & 0xffff_ffff);
    let is_fill = matches!(low & !0xff, 0xdead_c000 | 0xdead_be00);
    value < SMALL || is_fill && (high == 0 || high == 0xdead_c0de) || value == u64::MAX
}

/// `deadc0de` without `0x`.
fn is_repeated_fill(word: &str) -> bool {
    matches!(word, "deadc0de" | "deadbeef" | "0xdeadc0de")
}

/// `12`, `0x18`, `3.5`, `65536MB`, `41d2h3m4s`.
fn is_number(core: &str) -> bool {
    if is_decimal(core) || is_count(core) || is_small_hex(core) || is_dotted(core) {
        return true;
    }
    let mut rest = core;
    let mut groups = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, tail) = rest.split_at(digits.unwrap_or(rest.len()));
        let unit = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit);
        let is_unit = UNITS.contains(&unit.to_lowercase().as_str());
        if !(is_decimal(number) || is_dotted(number)) || !is_unit {
            return false;
        }
        groups += 1;
        rest = next;
    }
    // More than one of days, hours, minutes, seconds only.
    groups == 1 || groups <= 4 && core.bytes().all(|byte| b"0123456789dhms".contains(&byte))
}

/// Whether `esr:` or `esr =` stands before a word.
fn is_status(before: [&str; 2]) -> bool {
    let name = match before {
        [name, "=" | "=="] => Some(name),
        [_, name] => name.strip_suffix(':'),
    };
    name.is_some_and(|name| STATUS.contains(&name))
}

/// A number in hexadecimal without bits 37 to 62, which are an address's.
fn is_status_value(word: &str) -> bool {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && u64::from_str_radix(digits, 16).is_ok_and(|value| value << 1 >> 38 == 0)
}

/// `1,234,567`: a count of ours. Four numbers may be an address of a network.
fn is_count(text: &str) -> bool {
    let mut groups = text.split(',');
    let first = groups.next().unwrap_or_default();
    let rest: Vec<&str> = groups.collect();
    first.len() <= 3
        && is_decimal(first)
        && first != "0"
        && (1..=2).contains(&rest.len())
        && rest
            .iter()
            .all(|group| group.len() == 3 && is_digits(group))
}

fn is_time_of_day(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    parts.len() == 3 && parts.iter().all(|part| part.len() == 2 && is_digits(part))
}

/// `Jan 18`, `2026-03-02`.
fn is_date(before: [&str; 2]) -> bool {
    const MONTHS: &str = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec";
    let [month, day] = before;
    day.len() <= 2 && is_digits(day) && month.len() == 3 && MONTHS.contains(month)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        let is_function = |name: &str| matches!(name, "flow_lookup" | "db_trace_self_wrapper");
        Words::new(Some("Zeb.Storage7.example.org"), &is_function).line(text)
    }

    #[test]
    fn what_kernels_print_stays() {
        let mut wrong = Vec::new();
        for text in [
            "Fatal trap 12: page fault while in kernel mode",
            "fault code\t\t= supervisor read data, page not present",
            "fault virtual address\t= 0x18",
            "cpuid = 3; apic id = 3",
            "current process\t\t= 77 (sh)",
            "processor eflags\t= interrupt enabled, resume, IOPL = 0",
            "trap number\t\t= 12",
            "panic: page fault",
            "panic: mutex flow not owned at …/kern_mutex.c:212",
            "panic: Memory modified after free 0xdeadc0de, size 256",
            "KDB: stack backtrace:",
            "#1 … at flow_lookup+0x64",
            "db_trace_self_wrapper() at db_trace_self_wrapper+0x2b/frame …",
            "--- trap 0xc, rip = …, rsp = …, rbp = … ---",
            "Uptime: 41d2h3m4s",
            "da0: 512 bytes at flow.c:212",
            "em0: link state changed to UP",
            "(da0:umass-sim0:0:0:0): Retrying command",
            "vtblk0: 65536MB (… 512 byte sectors)",
            "FreeBSD 15.1-RELEASE-p2 #0 main-n288439-95867ce26ab8: Sun Jan 18 09:00:00 UTC 2026",
            "Dumping 512 out of 4096 MB: 10%, 20%",
            "kernel read of 0x18 (NULL + 0x18)",
            "spin lock … (sched lock) held by … (tid 100123) too long",
            "exclusive sleep mutex",
            "Sleeping thread (tid 100051, pid 0) owns a non-sleepable lock",
            "   esr: 0x0000000096000006",
            "  spsr: 0x00000000604000c5",
            "   dsisr           = 0x42000000",
            "   srr1            = 0x8000000000009032",
            "scause == 0x000000000000000d",
            "2,138 mapped kernel pages are not in the dump (device memory or no-dump)",
            "the file is truncated: 44,777,472 bytes (10,932 pages) missing",
            "the kernel's variables cannot be read (dumptid, allproc)",
            "the kernel file has no types: no wait messages, locks, lines (-k kernel.debug)",
        ] {
            if line(text) != text {
                wrong.push((text, line(text)));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    proptest::proptest! {
        /// Whatever stands around it, and in whatever case it is written.
        #[test]
        fn no_secret_is_left(
            secret in 0..SECRETS.len(),
            upper in proptest::bool::ANY,
            before in "[ a-z0-9:=/\"'(\\[<,.#@|_-]{0,3}",
            after in "[ a-z0-9:=/\"')\\]>,.#@|%_-]{0,3}",
            other in 0..SECRETS.len(),
            sign in "[ :,/=-]",
        ) {
            let (secret, other) = (SECRETS[secret], SECRETS[other]);
            let text = format!("vm: {before}{secret}{after} {secret}{sign}{other} {secret}");
            let text = if upper { text.to_uppercase() } else { text };
            let left = line(&text).to_lowercase();
            for secret in [secret, other] {
                let secret = secret.to_lowercase();
                proptest::prop_assert!(!left.contains(&secret), "{text} -> {left}");
            }
        }
    }

    const SECRETS: [&str; 20] = [
        "zeb",
        "storage7",
        "alice",
        "bob@example.org",
        "192.0.2.17",
        "10.20.30.40",
        "2001:db8::17",
        "fe80::1c2d:3e4f",
        "02:00:5e:00:53:02",
        "02-00-5e-00-53-02",
        "WD-WCC4E1234567",
        "S2RBNX0H123456",
        "0xffffffff8023cd49",
        "fffffe0001e48de0",
        "c0a81234",
        "/home/alice",
        "/dev/gptid",
        "5f3ab2c4-1111-11e9-b2a3-0050569a1b2c",
        "HomeNet",
        "vault42",
    ];

    #[test]
    fn everything_else_is_gone() {
        let mut wrong = Vec::new();
        for (text, left) in [
            (
                "arp: 192.0.2.17 moved to 02:00:5e:00:53:02",
                "arp: … moved to …",
            ),
            (
                "Setting hostname: zeb.storage7.example.org.",
                "Setting hostname: ….",
            ),
            ("login from ZEB by root", "login from … by root"),
            ("zeb-1 zeb_pool ZEB's", "… …'s"),
            ("build@builder.example.org:/usr/obj", "…"),
            (
                "fault at 0xfffff80001a34000, offset 0x18",
                "fault at …, offset 0x18",
            ),
            (
                "instruction pointer\t= 0x20:0xffffffff8023cd49",
                "instruction pointer\t= 0x20:…",
            ),
            ("stack pointer = 0x28:fffffe0001e48de0", "stack pointer = …"),
            ("fffffe0001e48de0 c0123456 12345678", "…"),
            (
                "nfs server 2001:db8::1: not responding",
                "nfs server …: not responding",
            ),
            ("from 192.0.2.17:22 10.0.0.0/8 nfs://10.0.0.5/x", "from …"),
            ("10.0.0.1-10.0.0.9 [2001:db8::1]:22 2001:db8::/32", "… […]…"),
            (
                "192,0,2,17 fe80::1%em0 02-00-5e-00-53-02 0200.5e00.5302",
                "…",
            ),
            ("::1 02005e005302 10.0/16 192.168 dead:beef::", "…"),
            ("user=alice name: bob", "user=… name: …"),
            ("/home/alice/secret /dev/gptid/5f3a /etc", "…"),
            ("da0: Serial Number 123456", "da0: Serial Number …"),
            ("ssid HomeNet7 wlan0", "ssid … wlan0"),
            ("   far: 0xffff000084602c80", "   far: …"),
            ("   esr: 0xffff000084602c80", "   esr: …"),
            ("esr: home srr1 = 0xc000000000412345", "esr: … srr1 = …"),
            ("192,168,100,200 010,000 1234,567 1,23", "…"),
            ("5f3ab2c4-1111-11e9-b2a3-0050569a1b2c", "…"),
            ("alice@example.org, mail", "…"),
            ("acme_flow_lookup.ko é 日本", "…"),
        ] {
            if line(text) != left {
                wrong.push((text, line(text), left));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
