//! A report to be shared: without what tells who and where.

use super::{Report, paths};

/// What takes the place of what was left out.
pub(super) const GONE: &str = "…";

impl Report {
    /// Leaves out the host name, directories of files, and addresses and names of machines in log
    /// lines and messages; the report says so.
    ///
    /// A report never holds arguments or the environment of processes.
    #[must_use]
    pub fn share(mut self) -> Self {
        let host = self.info.host.take().map(|host| host.value);
        let host = host.filter(|host| host.len() > 1);
        let clean = |text: &str| redacted(text, host.as_deref());
        for line in &mut self.log {
            *line = clean(line);
        }
        self.crash.message = self.crash.message.as_deref().map(clean);
        self.crash.summary = clean(&self.crash.summary);
        for known in [&mut self.info.panic, &mut self.info.kernel_version]
            .into_iter()
            .flatten()
        {
            known.value = clean(&known.value);
        }
        self.info.file = file_name(&self.info.file);
        if let Some(kernel) = &mut self.info.kernel {
            kernel.file = file_name(&kernel.file);
        }
        self.drop_directories();
        for line in &mut self.missing {
            *line = clean(line);
        }
        self.left_out = [
            "host name",
            "directories of files, sources too",
            "addresses and machine names in log lines and messages",
        ]
        .map(str::to_owned)
        .to_vec();
        self
    }
}

impl Report {
    /// Source files stay, below the directory that all have in common; other absolute names lose
    /// their directories.
    fn drop_directories(&mut self) {
        let root = self.source_root.take();
        let shorten = |file: &str| match paths::below(file, root.as_deref()) {
            file if file.starts_with('/') => file_name(file),
            file => file.to_owned(),
        };
        if let Some(place) = &mut self.crash.place
            && let Some((function, file)) = place.split_once(", ")
        {
            *place = format!("{function}, {}", shorten(file));
        }
        let frames = self
            .thread
            .iter_mut()
            .flat_map(|thread| &mut thread.stack.frames);
        for place in frames.flat_map(|frame| &mut frame.places) {
            place.file = place.file.as_deref().map(shorten);
        }
    }
}

fn file_name(path: &str) -> String {
    let name = path.rsplit(['/', '\\']).next();
    name.unwrap_or_default().to_owned()
}

/// A line without addresses of memory and networks, `user@host` and the host's name.
pub(super) fn redacted(text: &str, host: Option<&str>) -> String {
    let text = match host {
        Some(host) => {
            let short = host.split('.').next().filter(|short| short.len() > 3);
            let text = text.replace(host, GONE);
            match short {
                Some(short) => text.replace(short, GONE),
                None => text,
            }
        }
        None => text.to_owned(),
    };
    let mut words = String::with_capacity(text.len());
    let is_part = |c: char| c.is_alphanumeric() || ".:@_-/".contains(c);
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let end = if is_part(first) {
            rest.find(|c: char| !is_part(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (word, tail) = rest.split_at(end);
        words += &redacted_word(word);
        rest = tail;
    }
    words
}

fn redacted_word(word: &str) -> String {
    let trimmed = word.trim_end_matches([':', '.']);
    let end = word.get(trimmed.len()..).unwrap_or_default();
    let is_memory = trimmed
        .strip_prefix("0x")
        .is_some_and(|digits| digits.len() > 5 && digits.chars().all(|c| c.is_ascii_hexdigit()));
    let parts = |by: char| trimmed.split(by).collect::<Vec<_>>();
    let is_ipv4 = {
        let address = trimmed.split(['/', ':']).next().unwrap_or_default();
        address.parse::<std::net::Ipv4Addr>().is_ok()
    };
    let is_ipv6 = trimmed.contains("::") && trimmed.len() > 3
        || parts(':').len() == 8 && trimmed.parse::<std::net::Ipv6Addr>().is_ok();
    let is_ethernet = parts(':').len() == 6
        && parts(':')
            .iter()
            .all(|part| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit()));
    let is_account = trimmed.contains('@');
    if is_memory || is_ipv4 || is_ipv6 || is_ethernet || is_account {
        format!("{GONE}{end}")
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_of_machines_are_gone() {
        for (line, expected) in [
            (
                "arp: 192.0.2.17 moved to 02:00:5e:00:53:02",
                "arp: … moved to …",
            ),
            (
                "Setting hostname: storage7.example.org.",
                "Setting hostname: ….",
            ),
            ("login from storage7 by root", "login from … by root"),
            ("build@builder.example.org:/usr/obj", "…"),
            (
                "fault at 0xfffff80001a34000, offset 0x18",
                "fault at …, offset 0x18",
            ),
            (
                "nfs server 2001:db8::1: not responding",
                "nfs server …: not responding",
            ),
            (
                "da0: 512 bytes at flow.c:212",
                "da0: 512 bytes at flow.c:212",
            ),
        ] {
            assert_eq!(redacted(line, Some("storage7.example.org")), expected);
        }
    }
}
