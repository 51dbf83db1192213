//! A message without addresses and names of machines, which differ between equal crashes.
//!
//! A signature is made of it and stays for ever, so this does, too. What may be given away is decided
//! elsewhere, by what is known to be harmless.

/// What takes the place of what was left out.
pub(super) const GONE: &str = "…";

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
