//! The picture of `vmcore map`: one file of SVG that needs nothing else.
//!
//! RAM lies in rows, from left to right and from top to bottom; each cell is filled from below with
//! what the dump has of it, kind by kind.

use crate::text::{self, count};
use vmcore::map::{Kinds, MemoryMap};

/// Cells in a row, and their size in user units.
const COLUMNS: usize = 120;
const CELL_WIDTH: usize = 8;
const CELL_HEIGHT: usize = 24;
/// Space around all, between rows, and for a line of words.
const MARGIN: usize = 20;
const GAP: usize = 2;
const WORDS: usize = 22;

/// A kind of page: its name, its colour, its count.
type Kind = (&'static str, &'static str, fn(&Kinds) -> u64);

/// From below to above. The colours differ in brightness too.
const KINDS: [Kind; 5] = [
    ("kernel map", "#1f5fa8", |kinds| kinds.kernel_map),
    ("page tables", "#e08a1e", |kinds| kinds.page_tables),
    ("direct map only", "#6bb36b", |kinds| kinds.direct_map_only),
    ("not classified", "#8c7fb5", |kinds| kinds.unclassified),
    ("cut off: the file ends before", "#d03030", |kinds| {
        kinds.truncated
    }),
];
/// What is not in the dump: a shade of the colour of the words, on light paper and on dark.
const ABSENT: &str = "currentColor\" fill-opacity=\"0.13";

/// Draws the map on white paper.
pub(crate) fn draw(title: &str, map: &MemoryMap) -> String {
    let mut body = "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n".to_owned();
    let y = MARGIN + WORDS;
    words(&mut body, MARGIN, y - 6, "bold", title);
    picture(title, map, body, y)
}

/// Draws the map for embedding in a page, in the colours of the page.
pub(crate) fn embedded(title: &str, map: &MemoryMap) -> String {
    picture(title, map, String::new(), 0)
}

/// Draws the map below `y`.
fn picture(title: &str, map: &MemoryMap, mut body: String, mut y: usize) -> String {
    words(&mut body, MARGIN, y + WORDS - 6, "normal", &summary(map));
    y += WORDS;
    legend(&mut body, &map.total, &mut y);
    for range in &map.ranges {
        y += WORDS;
        let label = format!(
            "{}: {}, {} of {} pages in the dump",
            range.range,
            text::size(range.range.len_bytes()),
            count(range.pages.in_dump()),
            count(range.pages.ram)
        );
        words(&mut body, MARGIN, y - 6, "normal", &label);
        for row in range.cells.chunks(COLUMNS) {
            cells(&mut body, y, row, map.cell_pages);
            y += CELL_HEIGHT + GAP;
        }
    }
    let (width, height) = (2 * MARGIN + COLUMNS * CELL_WIDTH, y + MARGIN);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>{}</title>\n{body}</svg>\n",
        xml(title)
    )
}

fn summary(map: &MemoryMap) -> String {
    format!(
        "{} of {} pages of RAM are in the dump; a cell is {}",
        count(map.total.in_dump()),
        count(map.total.ram),
        text::size(map.cell_pages.saturating_mul(map.page_size_bytes))
    )
}

/// The kinds that occur, and the rest.
fn legend(body: &mut String, total: &Kinds, y: &mut usize) {
    let absent = total.ram.saturating_sub(total.in_dump() + total.truncated);
    let used = KINDS
        .iter()
        .map(|(name, color, count)| (*name, *color, count(total)));
    for (name, color, pages) in used.chain([("not in the dump", ABSENT, absent)]) {
        if pages > 0 {
            *y += WORDS;
            rect(body, MARGIN, *y - 16, 14, 12, color);
            words(
                body,
                MARGIN + WORDS,
                *y - 6,
                "normal",
                &format!("{name}: {}", text::counted(pages, "page", "pages")),
            );
        }
    }
}

/// A row of cells: what is there, from below; neighbours that look the same become one.
fn cells(body: &mut String, y: usize, row: &[Kinds], cell_pages: u64) {
    // The last cell of a range may be smaller: it is drawn narrower.
    let width = |cell: &Kinds| scaled(cell.ram, cell_pages, CELL_WIDTH).max(1);
    let total: usize = row.iter().map(width).sum();
    rect(body, MARGIN, y, total, CELL_HEIGHT, ABSENT);
    let mut x = MARGIN;
    let mut run: Option<(usize, usize, [usize; KINDS.len()])> = None;
    for cell in row {
        let heights = KINDS.map(|(_, _, count)| {
            let pages = count(cell);
            scaled(pages, cell.ram, CELL_HEIGHT).max(usize::from(pages > 0))
        });
        let cell_width = width(cell);
        run = match run {
            Some((start, run_width, known)) if known == heights => {
                Some((start, run_width + cell_width, known))
            }
            other => {
                stack(body, y, other);
                Some((x, cell_width, heights))
            }
        };
        x += cell_width;
    }
    stack(body, y, run);
}

fn stack(body: &mut String, y: usize, run: Option<(usize, usize, [usize; KINDS.len()])>) {
    let Some((x, width, heights)) = run else {
        return;
    };
    let mut left = CELL_HEIGHT;
    for ((_, color, _), height) in KINDS.iter().zip(heights) {
        let height = height.min(left);
        if height > 0 {
            left -= height;
            rect(body, x, y + left, width, height, color);
        }
    }
}

/// `part` of `whole` of a length.
fn scaled(part: u64, whole: u64, length: usize) -> usize {
    let exact = u128::from(part) * length as u128 / u128::from(whole.max(1));
    usize::try_from(exact).unwrap_or(length).min(length)
}

fn rect(body: &mut String, x: usize, y: usize, width: usize, height: usize, color: &str) {
    *body += &format!(
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{color}\"/>\n"
    );
}

fn words(body: &mut String, x: usize, y: usize, weight: &str, words: &str) {
    *body += &format!(
        "<text x=\"{x}\" y=\"{y}\" font-weight=\"{weight}\" fill=\"currentColor\">{}</text>\n",
        xml(words)
    );
}

/// Text between tags.
fn xml(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmcore::format::addr::{PhysAddr, PhysRange};
    use vmcore::map::RangeMap;

    fn map() -> MemoryMap {
        let cell = Kinds {
            ram: 4,
            kernel_map: 2,
            ..Kinds::default()
        };
        MemoryMap {
            page_size_bytes: 4096,
            cell_pages: 4,
            total: Kinds {
                ram: 10,
                kernel_map: 5,
                ..Kinds::default()
            },
            ranges: vec![RangeMap {
                range: PhysRange {
                    start: PhysAddr(0),
                    end: PhysAddr(0xa000),
                },
                pages: Kinds {
                    ram: 10,
                    kernel_map: 5,
                    ..Kinds::default()
                },
                cells: vec![
                    cell,
                    cell,
                    Kinds {
                        ram: 2,
                        kernel_map: 1,
                        ..Kinds::default()
                    },
                ],
            }],
            padding_pages: 0,
            mapped_but_absent: None,
            is_cut_short: false,
        }
    }

    #[test]
    fn names_cannot_end_a_tag() {
        let svg = draw("<script>&\"", &map());
        assert!(
            svg.contains("<title>&lt;script&gt;&amp;&quot;</title>"),
            "{svg}"
        );
        assert!(!svg.contains("<script"));
    }

    #[test]
    fn equal_cells_are_one_rectangle() {
        let svg = draw("t", &map());
        let blue = format!(
            "width=\"{}\" height=\"12\" fill=\"#1f5fa8\"",
            2 * CELL_WIDTH + CELL_WIDTH / 2
        );
        assert!(svg.contains(&blue), "{svg}");
    }

    #[test]
    fn one_page_is_seen() {
        let mut map = map();
        map.ranges[0].cells = vec![Kinds {
            ram: 1_000_000,
            truncated: 1,
            ..Kinds::default()
        }];
        assert!(draw("t", &map).contains("height=\"1\" fill=\"#d03030\""));
    }
}
