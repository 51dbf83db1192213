//! A kernel file of any bytes: its symbols, their contents and its build id.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vmcore::container;
use vmcore::format::addr::VirtAddr;
use vmcore::kernel::{KernelFile, SymbolsOf};
use vmcore_fuzz::file::InputFile;
use vmcore_fuzz::limit;

/// Symbols that are looked at one by one.
const LOOKED_AT: usize = 64;
/// Symbols that others are compared with.
const COMPARED: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let file = InputFile::new(data);
    let len_bytes = match container::is_compressed(data) {
        // It is expanded into memory: gzip makes a thousand bytes of one.
        true => 1100 * data.len(),
        false => data.len(),
    };
    limit::memory(len_bytes, || {
        let Ok(kernel) = KernelFile::open(file.path()) else {
            return;
        };
        if let Some(id) = kernel.build_id() {
            assert!((1..=32).contains(&id.as_bytes().len()));
        }
        let symbols = kernel.symbols();
        assert_eq!(symbols.is_empty(), symbols.iter().next().is_none());
        check(&symbols);
        for symbol in symbols.iter().take(LOOKED_AT) {
            for len in [0, 1, 4, symbol.size, u64::MAX] {
                if let Some(bytes) = kernel.contents(symbol.address, len) {
                    assert_eq!(bytes.len() as u64, len);
                }
            }
        }
    });
});

/// Names and addresses lead to the symbols that a plain search finds.
fn check(symbols: &SymbolsOf<'_>) {
    let is_small = symbols.len() <= COMPARED;
    let mut last = VirtAddr(0);
    for symbol in symbols.iter() {
        assert!(last <= symbol.address);
        last = symbol.address;
    }
    for symbol in symbols.iter().take(LOOKED_AT) {
        if let Ok(name) = str::from_utf8(symbol.name) {
            let found = symbols.find(name).expect("the symbol itself at least");
            assert_eq!(found.name, symbol.name);
        }
        for va in [symbol.address.0, symbol.address.0.wrapping_sub(1)] {
            let nearest = symbols.nearest(VirtAddr(va));
            let naive = symbols.iter().map(|symbol| symbol.address.0);
            let naive = is_small.then(|| naive.filter(|address| *address <= va).max());
            if let Some(naive) = naive {
                assert_eq!(nearest.map(|found| found.symbol.address.0), naive);
            }
            if let Some(found) = nearest {
                assert_eq!(found.symbol.address.0 + found.offset, va);
                assert_eq!(found.inside, found.offset < found.symbol.size);
            }
        }
    }
    assert!(symbols.find("no symbol has this name").is_none());
}
