//! The writer: one dump, from the choice of pages to the headers that make it valid.
//!
//! See `docs/adopting.md` for a panic path around it.

use crate::arch::KernelPaging;
use crate::damage::DamageList;
use crate::emit;
use crate::error::{DumpError, PlanError};
use crate::extension::extension;
use crate::full;
use crate::latch::{Owner, Stage};
use crate::machine::{Machine, Text};
use crate::map::DumpMap;
use crate::plan::{self, Described};
use crate::reserve::{ReserveError, Workspace};
use crate::select::{Selection, select};
use crate::settings::Settings;
use crate::sink::{Durability, Sink, SinkError};
use crate::stream::Stream;
use vmcore_format::checksum::Checksum;
use vmcore_format::identity::{IDENTITY_LEN, Identity};
use vmcore_format::kerneldump::{Compression, DumpHeader, HeaderKind};

/// Which kind of dump was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpKind {
    /// A minidump of this version.
    Mini {
        /// Version of its header.
        version: u32,
    },
    /// A full dump.
    Full {
        /// In place of a minidump, because the page tables were damaged beyond use.
        fallback: bool,
    },
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Which kind.
    pub kind: DumpKind,
    /// Its bytes, without the headers around it.
    pub len_bytes: u64,
    /// Its pages.
    pub pages: u64,
    /// Its identity.
    pub dump_id: [u8; 16],
    /// How often something could not be read, or was damaged.
    pub damage: u64,
    /// Whether it is known to be on the media.
    pub durability: Durability,
}

/// Room for a host name, a version string and a panic message, as dump headers have it.
#[derive(Debug)]
struct Texts {
    hostname: [u8; 64],
    version: [u8; 192],
    panic: [u8; 192],
}

/// The writer, and the memory that it was given at boot.
#[derive(Debug)]
pub struct Writer<'a> {
    map: &'a DumpMap<'a>,
    settings: Settings,
    space: Workspace<'a>,
    damage: DamageList,
    texts: Texts,
}

impl<'a> Writer<'a> {
    /// A writer for the machine whose RAM `map` covers, in memory of [`crate::reserve::reserve_size`].
    ///
    /// # Errors
    /// Returns an error if the memory is too small or not aligned.
    pub fn new(
        map: &'a DumpMap<'a>,
        settings: Settings,
        memory: &'a mut [u8],
    ) -> Result<Self, ReserveError> {
        Ok(Self {
            map,
            settings,
            space: Workspace::carve(map, memory)?,
            damage: DamageList::new(),
            texts: Texts {
                hostname: [0; 64],
                version: [0; 192],
                panic: [0; 192],
            },
        })
    }

    /// The settings, which may change at any time before the crash.
    pub const fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// Writes a dump of `machine` to `sink`. Who has an [`Owner`] may try one sink after the other,
    /// and stops after [`DumpError::Aborted`]; every attempt starts afresh.
    ///
    /// # Errors
    /// Returns an error if there is no valid dump in the sink.
    pub fn dump<M: Machine, S: Sink>(
        &mut self,
        owner: &Owner<'_>,
        machine: &M,
        sink: &mut S,
    ) -> Result<Summary, DumpError> {
        let result = self.attempt(owner, machine, sink);
        if result.is_err() {
            sink.cancel();
        }
        result
    }

    fn attempt<M: Machine, S: Sink>(
        &mut self,
        owner: &Owner<'_>,
        machine: &M,
        sink: &mut S,
    ) -> Result<Summary, DumpError> {
        self.damage.clear();
        machine.pat_watchdog();
        if self.map.page_size() != M::Paging::PAGE_SIZE {
            return Err(PlanError::PageSize.into());
        }
        if !self.settings.minidump {
            return self.full(owner, machine, sink, false);
        }
        owner.reach(Stage::Select);
        let format = plan::format::<M::Paging>(self.settings.version)?;
        let selection = select(
            machine,
            self.map,
            format,
            self.space.bits,
            self.space.tables,
            &mut self.damage,
        )?;
        let can_fall_back = <M::Paging as KernelPaging>::HAS_FULL_DUMPS;
        if selection.tables_useless && self.settings.fall_back_to_full && can_fall_back {
            match self.full(owner, machine, sink, true) {
                // It does not fit: what the map has is better than nothing.
                Err(
                    DumpError::Plan(_)
                    | DumpError::Sink(SinkError::NoRoom { .. } | SinkError::Outgrown { .. }),
                ) => {}
                other => return other,
            }
        }
        self.mini(owner, machine, sink, selection, format)
    }

    // The parts of a dump are functions of their own, so that they share their stack.
    #[inline(never)]
    fn mini<M: Machine, S: Sink>(
        &mut self,
        owner: &Owner<'_>,
        machine: &M,
        sink: &mut S,
        selection: Selection,
        format: crate::arch::MinidumpFormat,
    ) -> Result<Summary, DumpError> {
        owner.reach(Stage::Plan);
        let sums = self.space.sums.len();
        let described = self.described(machine, machine.window(0).is_some());
        let bits = selection.set_bits;
        let plan = plan::minidump(machine, self.map, format, bits, sums, described)?;
        let identity = self.identity(owner, machine, false, described);
        let block = identity.encode();
        let len_bytes = plan.extension.end.0;
        self.begin::<M, S>(machine, sink, &identity, len_bytes)?;
        let mut stream = stream(&mut self.space.staging, machine, sink, owner, len_bytes);
        emit::minidump(
            &mut stream,
            self.map,
            &plan,
            &block,
            self.space.bits,
            self.space.sums,
            &mut self.damage,
        )?;
        extension(
            &mut stream,
            &plan.extension,
            &block,
            identity.dump_id,
            &self.damage,
        )?;
        Ok(Summary {
            kind: DumpKind::Mini {
                version: format.version,
            },
            len_bytes,
            pages: selection.set_bits,
            dump_id: identity.dump_id,
            damage: self.damage.found(),
            durability: stream.finish()?,
        })
    }

    #[inline(never)]
    fn full<M: Machine, S: Sink>(
        &mut self,
        owner: &Owner<'_>,
        machine: &M,
        sink: &mut S,
        fallback: bool,
    ) -> Result<Summary, DumpError> {
        owner.reach(Stage::Plan);
        let described = self.described(machine, true);
        let plan = full::plan(machine, self.map, self.space.sums.len(), described)?;
        let identity = self.identity(owner, machine, fallback, described);
        let block = identity.encode();
        let len_bytes = plan.extension.end.0;
        self.begin::<M, S>(machine, sink, &identity, len_bytes)?;
        let mut stream = stream(&mut self.space.staging, machine, sink, owner, len_bytes);
        full::emit(
            &mut stream,
            self.map,
            &plan,
            &block,
            self.space.sums,
            &mut self.damage,
        )?;
        extension(
            &mut stream,
            &plan.extension,
            &block,
            identity.dump_id,
            &self.damage,
        )?;
        Ok(Summary {
            kind: DumpKind::Full { fallback },
            len_bytes,
            pages: plan.extension.len_bytes() >> M::Paging::PAGE_SIZE.shift(),
            dump_id: identity.dump_id,
            damage: self.damage.found(),
            durability: stream.finish()?,
        })
    }

    /// What the records tell of, if there are such records.
    fn described<M: Machine>(&self, machine: &M, tables_are_pages: bool) -> Option<Described> {
        machine.pat_watchdog();
        let wanted = self.settings.self_describing;
        wanted.then(|| Described::count(machine, tables_are_pages))
    }

    /// Begins the sink with the dump's header.
    #[inline(never)]
    fn begin<M: Machine, S: Sink>(
        &mut self,
        machine: &M,
        sink: &mut S,
        identity: &Identity,
        len_bytes: u64,
    ) -> Result<(), DumpError> {
        let arch = <M::Paging as KernelPaging>::ARCH;
        let Texts {
            hostname,
            version,
            panic,
        } = &mut self.texts;
        let header = DumpHeader {
            kind: HeaderKind::Kernel,
            architecture: arch
                .machine_arch(<M::Paging as KernelPaging>::ENDIAN)
                .as_bytes(),
            version: 4,
            architectureversion: arch.dump_arch_version(),
            dumplength: len_bytes,
            dumptime: u64::try_from(identity.time_seconds).unwrap_or(0),
            dumpkeysize: 0,
            blocksize: 0,
            hostname: text(machine, Text::Hostname, hostname),
            versionstring: text(machine, Text::Version, version),
            panicstring: text(machine, Text::Panic, panic),
            compression: Compression::None,
            dumpextent: len_bytes,
        };
        Ok(sink.begin(&header, &[])?)
    }

    /// The machine's identity, with a name for the dump if it has none yet.
    #[inline(never)]
    fn identity<M: Machine>(
        &self,
        owner: &Owner<'_>,
        machine: &M,
        fallback: bool,
        described: Option<Described>,
    ) -> Identity {
        let mut identity = machine.identity();
        identity.walkable = described.is_some_and(|described| described.tables_are_pages);
        identity.damaged = self.damage.found() > 0;
        identity.fallback = fallback;
        if identity.dump_id == [0; 16] {
            let facts = identity.encode();
            let half = |number: u8| -> [u8; 8] { name_half(number, &facts, owner.sequence()) };
            let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = (half(0), half(1));
            identity.dump_id = [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p];
        }
        identity
    }
}

/// Half of a dump's name: a hash of who, when, why and how many dumps there were since boot.
fn name_half(number: u8, facts: &[u8; IDENTITY_LEN], sequence: u32) -> [u8; 8] {
    let mut sum = Checksum::new();
    sum.update(&[number]);
    sum.update(facts);
    sum.update(&sequence.to_le_bytes());
    sum.value().to_le_bytes()
}

fn stream<'w, M: Machine, S: Sink>(
    staging: &'w mut (&mut [u8], &mut [u8]),
    machine: &'w M,
    sink: &'w mut S,
    owner: &'w Owner<'w>,
    len_bytes: u64,
) -> Stream<'w, M, S> {
    let staging = (&mut *staging.0, &mut *staging.1);
    Stream::new(
        machine,
        sink,
        owner,
        staging,
        M::Paging::PAGE_SIZE,
        len_bytes,
    )
}

/// A text of the kernel. A machine that claims more than fits is cut.
fn text<'t, M: Machine>(machine: &M, which: Text, field: &'t mut [u8]) -> &'t [u8] {
    let len = machine.text(which, field).min(field.len());
    let text = field.get(..len).unwrap_or_default();
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}
