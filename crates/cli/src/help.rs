//! What the helps of commands have in common.

/// What the help of a command says about its files, before `more`.
pub(crate) fn with_files(more: &str) -> String {
    format!(
        "FILE is the dump, optionally with its kernel file, in either order; - is standard input.\n\
         Default: the newest dump in /var/crash.\n\n{more}"
    )
}
