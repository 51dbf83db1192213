//! What the helps of commands have in common.

/// What the help of a command says about its files, before `more`.
pub(crate) fn with_files(more: &str) -> String {
    format!(
        "FILE is the dump, optionally with its kernel file, in either order; - is standard input.\n\
         Default: the newest dump in /var/crash.\n\n{more}"
    )
}

/// A text whose lines were broken in the source, for a terminal of any width: a line that begins with spaces
/// stands for itself, all others of a paragraph are one.
pub(crate) fn unbroken(text: &str) -> String {
    let mut whole = String::new();
    let mut is_open = false;
    for line in text.lines() {
        let is_own = line.is_empty() || line.starts_with(' ');
        if !whole.is_empty() {
            whole.push(if is_open && !is_own { ' ' } else { '\n' });
        }
        whole += line;
        is_open = !is_own;
    }
    whole
}
