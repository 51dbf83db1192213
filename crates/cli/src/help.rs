//! The help of the whole command, grouped by what a person wants. Each command has its own.

/// What `vmcore`, `vmcore help` and `vmcore --help` print.
pub(crate) const TOP: &str = "\
Reads FreeBSD kernel crash dumps, anywhere.

usage: vmcore COMMAND [FILE] [ARGUMENTS] [OPTIONS]

FILE is a vmcore, compressed or encrypted too, a dump device, or a disk; its
kernel file may stand beside it. Without FILE: the newest in /var/crash.

What happened?
  report      what crashed, where, and what else went on: on one page
  why         which variable was bad, and how that is known
  list        the dumps in a directory
  info        what the dump is: panic, version, host, time, what is missing
  log         the kernel's last words (also: dmesg)
  ps          who was running, and which thread crashed
  bt          where threads were: functions, files and lines
  locks       who waits for whom: owners, chains, deadlocks
  mods        the kernel's modules, and which of their files are here
  dis         machine code with lines: where it crashed, or a function
  gdb         gdb or lldb on the dump, with all its threads

Memory
  read        bytes at an address or symbol
  translate   the page walk of an address, to its place in the file (also: vtop)
  sym         symbol to address, address to symbol
  search      where bytes, a string or a pointer stand
  print       kernel structures by their types
  whatis      what an address is: symbol, module, process, stack

The file
  map         which memory is in the dump: a table or a picture
  verify      reads everything, checks everything
  convert     to an ELF core, to a minidump or a full dump, compressed, plain
  save        from the dump device, or an image of it, to vmcore.N and info.N
  decrypt     an encrypted dump as a plain one
  serve       receives the dumps of dying kernels over the network
  redact      a small dump of stacks, threads, log and modules, to be shared
  check       is this host ready to dump?

Example: vmcore report vmcore.0 -k kernel.debug

Options of every command
  -k FILE    the kernel file [else found by the dump's build id]
  -n N       dump N of the directory      -d DIR    another directory
  --key PEM  of an encrypted dump         --partition NAME   of a disk
  --json     answer in JSON               --force   accept any kernel, overwrite
  -q, -v     say less, more               --color   auto, always, never

vmcore COMMAND --help says more. Exit status: 0 done, 1 failed, 2 wrong
arguments, 3 answered, but the dump is incomplete for this answer.
";

/// What the help of a command says about its files, in front of `more`.
pub(crate) fn with_files(more: &str) -> String {
    format!(
        "FILE is the dump, and its kernel file too if you like, in either order.\n\
         Without it: the newest dump in /var/crash. - is standard input.\n\n{more}"
    )
}
