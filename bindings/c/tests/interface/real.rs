//! C programs on dumps of real machines: the same bytes as the Rust library gives.

use crate::built::run;
use std::sync::OnceLock;
use vmcore::format::addr::VirtAddr;
use vmcore::session::KernelChoice;
use vmcore::{OpenOptions, Session};
use vmcore_testkit::corpus::{self, Real};

/// Symbols of each kernel, spread over all of it, and bytes read at each.
const SYMBOLS: usize = 400;
const LEN: usize = 48;

/// The real dumps; none if there is no corpus.
fn dumps() -> &'static [Real] {
    static DUMPS: OnceLock<Vec<Real>> = OnceLock::new();
    DUMPS.get_or_init(|| corpus::unpacked().unwrap_or_default())
}

#[test]
fn every_real_dump_reads_as_through_the_library() {
    for real in dumps() {
        let (dump, kernel) = (real.folder.join(&real.dump), real.folder.join(&real.kernel));
        let options = OpenOptions::default();
        let session = Session::open(&dump, KernelChoice::Given(&kernel), &options).unwrap();
        let space = session.space().unwrap();
        let symbols = session.matching_kernel().unwrap().symbols();
        let step = symbols.len() / SYMBOLS;
        let mut words = vec![kernel.display().to_string(), dump.display().to_string()];
        let mut expected = Vec::new();
        let mut read_bytes = 0;
        for symbol in symbols.iter().step_by(step.max(1)) {
            words.extend([format!("{:#x}", symbol.address.0), LEN.to_string()]);
            let mut bytes = vec![0; LEN];
            let part = space.read(VirtAddr(symbol.address.0), &mut bytes);
            let hex: String = bytes[..part.len]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let len = match (part.len, part.error) {
                (0, Some(_)) => "-1".to_owned(),
                (len, _) => len.to_string(),
            };
            let why = part
                .error
                .map(|error| format!(" {error}"))
                .unwrap_or_default();
            expected.push(format!("{:#x} {len} {hex}{why}", symbol.address.0));
            read_bytes += part.len;
        }
        assert!(read_bytes > 500, "{} {read_bytes}", real.name);
        let (status, out, err) = run("reads", &words);
        assert_eq!((status, err.as_str()), (Some(0), ""), "{}", real.name);
        let lines: Vec<&str> = out.lines().skip(1).collect();
        assert_eq!(lines, expected, "{}", real.name);
    }
}

#[test]
fn every_real_dump_has_its_processes_and_pages() {
    for real in dumps() {
        let (dump, kernel) = (real.folder.join(&real.dump), real.folder.join(&real.kernel));
        let session =
            Session::open(&dump, KernelChoice::Given(&kernel), &OpenOptions::default()).unwrap();
        let list = vmcore::process::list(&session).unwrap();
        let words = [kernel, dump].map(|path| path.display().to_string());
        let ask = |name: &str, more: &[&str]| {
            let mut words = words.to_vec();
            words.extend(more.iter().map(|word| (*word).to_owned()));
            run(name, &words)
        };
        let (status, out, _) = ask("procs", &["0", "0"]);
        assert_eq!(status, Some(0), "{}", real.name);
        let count = out.lines().next().unwrap();
        assert_eq!(count, list.processes.len().to_string(), "{}", real.name);
        let (_, out, _) = ask("pages", &[]);
        let pages = vmcore::pages::PageMap::build(session.space().unwrap()).unwrap();
        let mappings: usize = pages
            .pages()
            .map(|page| page.mappings().count().max(usize::from(!page.is_mapped)))
            .sum();
        let shown = out.lines().filter(|line| !line.starts_with("walk"));
        let there = shown.filter(|line| line.split(' ').nth(4) != Some("-1"));
        // Pages past the end of a cut file have places, but no list of addresses.
        let there = there.count();
        assert!(there >= mappings, "{}: {there} {mappings}", real.name);
        assert!(out.ends_with("walk 1\n"), "{}", real.name);
    }
}
