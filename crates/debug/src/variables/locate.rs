//! The value of a variable: its location is evaluated over the registers and the memory of its frame.
//!
//! gimli runs the expressions; what they ask for is answered here.

use super::bits::{bits_of, copy_bits};
use super::call_site::{self, Passed};
use super::scope::{Declared, Function};
use super::{Storage, Variable};
use crate::arch::machine::Machine;
use crate::dwarf::{ReadError, Slice};
use crate::expr::{Location, NoValue, Pieces, Value};
use crate::lines::Lines;
use crate::stack::NamedFrame;
use crate::target::{Target, linked_address};
use crate::types::TypeRef;
use gimli::{
    AttributeValue, DieReference, EvaluationResult, Expression, Piece, Reader as _, Register,
    UnitOffset, ValueType,
};
use std::cell::Cell;
use std::sync::Arc;
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;
use vmcore_format::endian::Endian;

/// Operations of an expression.
const MAX_OPERATIONS: u32 = 4096;
/// Frames that values are followed out to, and expressions in expressions.
const MAX_NESTED: usize = 16;
/// Bytes of a variable that is not in memory.
const MAX_BYTES: u64 = 1 << 16;
/// Entries of a location list.
const MAX_ENTRIES: usize = 1 << 16;

/// A frame in which variables are located.
pub(super) struct Locator<'c, 'a> {
    target: &'c Target<'a>,
    frames: &'c [NamedFrame],
    number: usize,
    pub(super) function: Function<'c, 'a>,
    /// Where the frame is, as an address of the file.
    pub(super) address: u64,
    bias: u64,
    /// Expressions and frames around this one.
    nested: usize,
    /// Whether a value came from the caller.
    used_entry: Cell<bool>,
    /// Whether the location that is evaluated still holds after the call that the frame waits for.
    survives_call: Cell<bool>,
}

type Located<'a> = Vec<Piece<Slice<'a>>>;

fn damaged(error: impl std::fmt::Display) -> NoValue {
    NoValue::Unknown(error.to_string())
}

impl From<gimli::Error> for NoValue {
    fn from(error: gimli::Error) -> Self {
        damaged(error)
    }
}

impl From<ReadError> for NoValue {
    fn from(error: ReadError) -> Self {
        damaged(error)
    }
}

impl<'c, 'a> Locator<'c, 'a> {
    /// That of a frame; `None` if no debug information describes its function.
    pub(super) fn new(
        target: &'c Target<'a>,
        frames: &'c [NamedFrame],
        number: usize,
    ) -> Option<Self> {
        let frame = &frames.get(number)?.frame;
        let lookup = linked_address(target.session, frame.lookup());
        let loaded = target.loaded(lookup)?;
        let lines = loaded.lines.get_or_init(|| Lines::of(loaded.object));
        let (unit, entry) = lines.function(lookup)?;
        let bias = loaded.object.bias();
        Some(Self {
            target,
            frames,
            number,
            function: Function {
                debug: lines.debug(),
                unit,
                entry,
            },
            address: lookup.0.wrapping_sub(bias),
            bias,
            nested: 0,
            used_entry: Cell::new(false),
            survives_call: Cell::new(false),
        })
    }

    fn machine(&self) -> &'static Machine {
        self.target.machine()
    }

    /// A variable with its value; `None` without a type.
    pub(super) fn variable(&self, declared: Declared<'a>) -> Option<Variable> {
        let file = self.function.debug.file;
        let type_ = self.target.types.at(file, declared.type_?)?;
        self.used_entry.set(false);
        // A register is known even if what it held is lost.
        let mut storage = None;
        let value = self.value(&declared, &type_, &mut storage);
        let storage = match storage {
            Some(Storage::Computed) if self.used_entry.get() => Some(Storage::EntryValue),
            other => other,
        };
        Some(Variable {
            name: declared.name,
            is_parameter: declared.is_parameter,
            depth: declared.depth,
            type_,
            value,
            storage,
        })
    }

    fn value(
        &self,
        declared: &Declared<'a>,
        type_: &TypeRef,
        storage: &mut Option<Storage>,
    ) -> Result<Value, NoValue> {
        let size = self.target.types.size_of(type_).map_err(damaged)?;
        let of_bytes = |bytes: Vec<u8>| Value {
            type_: type_.clone(),
            location: Location::Pieces {
                of: Arc::new(Pieces {
                    bytes,
                    gaps: Vec::new(),
                }),
                bit_offset: 0,
                bits: None,
            },
        };
        if let Some(constant) = &declared.constant {
            let bytes = self.constant(constant, size)?;
            *storage = Some(Storage::Computed);
            return Ok(of_bytes(bytes));
        }
        let location = declared.location.as_ref().ok_or(NoValue::OptimizedOut)?;
        let expression = self.expression(location)?.ok_or(NoValue::OptimizedOut)?;
        let pieces = self.evaluate(expression, None)?;
        let [piece] = pieces.as_slice() else {
            if pieces.is_empty() {
                return Err(NoValue::OptimizedOut);
            }
            *storage = Some(Storage::Pieces);
            return self.assembled(&pieces, type_, size);
        };
        *storage = Some(match &piece.location {
            gimli::Location::Empty => return Err(NoValue::OptimizedOut),
            gimli::Location::ImplicitPointer { value, byte_offset } => {
                *storage = Some(Storage::Computed);
                let to = self
                    .pointed_at(value.0, type_)
                    .map_err(|_| NoValue::Synthetic)?;
                return Ok(Value {
                    type_: type_.clone(),
                    location: Location::Synthetic {
                        to: Arc::new(to.location),
                        offset: *byte_offset,
                    },
                });
            }
            gimli::Location::Address { address } => {
                if piece.size_in_bits.is_none() {
                    let location = Location::Memory(VirtAddr(self.machine().cut(*address)));
                    let type_ = type_.clone();
                    *storage = Some(Storage::Memory);
                    return Ok(Value { type_, location });
                }
                Storage::Pieces
            }
            gimli::Location::Register { register } => Storage::Register(self.name_of(*register)),
            gimli::Location::Value { .. } | gimli::Location::Bytes { .. } => Storage::Computed,
        });
        self.assembled(&pieces, type_, size)
    }

    /// The object that a pointer without a value points to: debug information says where that object's own
    /// value is.
    fn pointed_at(&self, place: usize, pointer: &TypeRef) -> Result<Value, NoValue> {
        let Function { debug, unit, .. } = &self.function;
        let (of, inside) = debug.unit_at(place)?;
        if of.header.offset() != unit.header.offset() {
            return Err(NoValue::Synthetic);
        }
        let entry = debug.entry(&of, inside)?;
        let declared = Declared {
            name: String::new(),
            is_parameter: false,
            depth: 0,
            type_: None,
            location: entry.value(gimli::DW_AT_location),
            constant: entry.value(gimli::DW_AT_const_value),
        };
        let type_ = entry.value(gimli::DW_AT_type);
        let place = type_.and_then(|type_| debug.referred(unit, &type_));
        let type_ = match place.and_then(|place| self.target.types.at(debug.file, place)) {
            Some(type_) => type_,
            None => self
                .target
                .types
                .pointee(pointer)
                .ok_or(NoValue::Synthetic)?,
        };
        self.nested()?.value(&declared, &type_, &mut None)
    }

    /// The expression of a location that holds at the program counter.
    fn expression(
        &self,
        location: &AttributeValue<Slice<'a>>,
    ) -> Result<Option<Expression<Slice<'a>>>, NoValue> {
        self.survives_call.set(true);
        if let Some(expression) = call_site::expression(*location) {
            return Ok(Some(expression));
        }
        let Function { debug, unit, .. } = &self.function;
        let Some(mut list) = debug.sections.attr_locations(unit, *location)? else {
            return Ok(None);
        };
        let mut steps = debug.budget().steps();
        for _ in 0..MAX_ENTRIES {
            steps.spend(4).map_err(damaged)?;
            let Some(entry) = list.next()? else {
                return Ok(None);
            };
            let range = entry.range.begin..entry.range.end;
            if range.contains(&self.address) {
                let after = self.address.wrapping_add(1);
                self.survives_call.set(range.contains(&after));
                return Ok(Some(entry.data));
            }
        }
        Ok(None)
    }

    /// What an expression gives in this frame.
    fn evaluate(
        &self,
        expression: Expression<Slice<'a>>,
        initial: Option<u64>,
    ) -> Result<Located<'a>, NoValue> {
        if self.nested >= MAX_NESTED {
            return Err(NoValue::Unknown("expressions without end".to_owned()));
        }
        let Function { debug, unit, .. } = &self.function;
        // One that jumps may go round until it is stopped.
        let jumps = [gimli::DW_OP_skip.0, gimli::DW_OP_bra.0];
        let may_loop = expression.0.slice().iter().any(|byte| jumps.contains(byte));
        let rounds = if may_loop {
            u64::from(MAX_OPERATIONS)
        } else {
            0
        };
        let cost = expression.0.len() as u64 + rounds + 8;
        debug.budget().work(cost).map_err(damaged)?;
        let mut evaluation = expression.evaluation(unit.encoding());
        evaluation.set_max_iterations(MAX_OPERATIONS);
        if let Some(initial) = initial {
            evaluation.set_initial_value(initial);
        }
        let mut asked = evaluation.evaluate()?;
        loop {
            asked = match asked {
                EvaluationResult::Complete => return Ok(evaluation.result()),
                EvaluationResult::RequiresMemory {
                    address,
                    size,
                    base_type,
                    ..
                } => {
                    let bits = self.memory(address, u64::from(size))?;
                    let value = gimli::Value::from_u64(self.value_type(base_type)?, bits)?;
                    evaluation.resume_with_memory(value)?
                }
                EvaluationResult::RequiresRegister {
                    register,
                    base_type,
                } => {
                    let bits = self.register(register)?;
                    let value = gimli::Value::from_u64(self.value_type(base_type)?, bits)?;
                    evaluation.resume_with_register(value)?
                }
                EvaluationResult::RequiresFrameBase => {
                    evaluation.resume_with_frame_base(self.frame_base()?)?
                }
                EvaluationResult::RequiresCallFrameCfa => {
                    evaluation.resume_with_call_frame_cfa(self.cfa()?)?
                }
                EvaluationResult::RequiresAtLocation(reference) => {
                    evaluation.resume_with_at_location(self.called(reference)?)?
                }
                EvaluationResult::RequiresEntryValue(expression) => {
                    let register = call_site::register_of(expression, unit.encoding());
                    let register = register.ok_or(NoValue::OptimizedOut)?;
                    let value = self.passed(Passed::In(register))?;
                    evaluation.resume_with_entry_value(gimli::Value::Generic(value))?
                }
                EvaluationResult::RequiresParameterRef(offset) => {
                    let place = debug.place(&unit.header, offset);
                    evaluation.resume_with_parameter_ref(self.passed(Passed::As(place))?)?
                }
                EvaluationResult::RequiresRelocatedAddress(address) => {
                    evaluation.resume_with_relocated_address(address.wrapping_add(self.bias))?
                }
                EvaluationResult::RequiresIndexedAddress { index, relocate } => {
                    let address = debug.sections.address(unit, index)?;
                    let bias = if relocate { self.bias } else { 0 };
                    evaluation.resume_with_indexed_address(address.wrapping_add(bias))?
                }
                EvaluationResult::RequiresBaseType(offset) => {
                    evaluation.resume_with_base_type(self.value_type(offset)?)?
                }
                EvaluationResult::RequiresTls(_) => {
                    return Err(NoValue::Unknown("thread-local storage".to_owned()));
                }
                _ => return Err(NoValue::Unknown("an operation of WebAssembly".to_owned())),
            };
        }
    }

    /// The number that an expression gives: the contents of a register, an address, a value.
    pub(super) fn number(&self, expression: Expression<Slice<'a>>) -> Result<u64, NoValue> {
        let pieces = self.evaluate(expression, None)?;
        let [piece] = pieces.as_slice() else {
            return Err(NoValue::OptimizedOut);
        };
        match &piece.location {
            gimli::Location::Register { register } => self.register(*register),
            gimli::Location::Address { address } => Ok(*address),
            gimli::Location::Value { value } => bits_of(*value),
            _ => Err(NoValue::OptimizedOut),
        }
    }

    fn register(&self, register: Register) -> Result<u64, NoValue> {
        let machine = self.machine();
        let number = self.number_of(register);
        let lost = || NoValue::NeedsRegister(self.name_of(register));
        let frame = self.frames.get(self.number).ok_or_else(lost)?;
        let value = match number == machine.sp {
            true => frame.frame.stack_pointer(machine, self.number == 0),
            false => frame.frame.registers.get(number),
        };
        value.or_else(|| self.left_alone(number)).ok_or_else(lost)
    }

    /// A register that calls may change: the compiler knows that this one did not, if the variable is
    /// still in it afterwards. It is as the innermost frame of the call has it.
    fn left_alone(&self, register: usize) -> Option<u64> {
        let is_register = register < self.machine().names.len() && register != self.machine().pc;
        if !is_register || !self.survives_call.get() {
            return None;
        }
        let inner = self.frames.get(..self.number)?.iter().rev();
        for frame in inner {
            if let Some(value) = frame.frame.registers.get(register) {
                return Some(value);
            }
            if frame.frame.exact {
                return None;
            }
        }
        None
    }

    fn name_of(&self, register: Register) -> String {
        let name = self.machine().names.get(self.number_of(register));
        name.map_or_else(|| register.0.to_string(), |name| (*name).to_owned())
    }

    /// The number of a register, whatever the compiler calls it: to LLVM the lower half of a general
    /// register of powerpc64 has no number but that of a vector unit which such processors do not have.
    fn number_of(&self, register: Register) -> usize {
        const SPE: usize = 1200;
        let number = usize::from(register.0);
        match self.machine().arch {
            Arch::Powerpc64 if (SPE..SPE + 32).contains(&number) => number - SPE,
            _ => number,
        }
    }

    /// A number in memory.
    fn memory(&self, address: u64, len: u64) -> Result<u64, NoValue> {
        let mut bytes = [0; 8];
        let len = usize::try_from(len).unwrap_or(8).min(8);
        let wanted = bytes.get_mut(..len).unwrap_or_default();
        self.read(address, wanted)?;
        if self.target.space.endian() == Endian::Big {
            wanted.reverse();
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), NoValue> {
        let at = VirtAddr(self.machine().cut(address));
        let read = self.target.space.read_exact(at, to);
        read.map_err(|error| NoValue::NotInDump(error.to_string()))
    }

    /// The type of a value on the stack of an expression.
    fn value_type(&self, offset: UnitOffset) -> Result<ValueType, NoValue> {
        if offset == UnitOffset(0) {
            return Ok(ValueType::Generic);
        }
        let Function { debug, unit, .. } = &self.function;
        let entry = debug.entry(unit, offset)?;
        let (Some(AttributeValue::Encoding(encoding)), Some(size)) = (
            entry.value(gimli::DW_AT_encoding),
            entry.number(gimli::DW_AT_byte_size),
        ) else {
            return Err(NoValue::Unknown("a value without a type".to_owned()));
        };
        let known = ValueType::from_encoding(encoding, size);
        known.ok_or_else(|| NoValue::Unknown(format!("a value of {size} bytes")))
    }

    fn frame_base(&self) -> Result<u64, NoValue> {
        let Function { debug, unit, entry } = &self.function;
        let function = debug.entry(unit, *entry)?;
        let location = function.value(gimli::DW_AT_frame_base);
        let location = location.ok_or_else(|| damaged("no frame base"))?;
        let expression = self.expression(&location)?.ok_or(NoValue::OptimizedOut)?;
        self.nested()?.number(expression)
    }

    /// The canonical frame address: the stack pointer of the caller.
    fn cfa(&self) -> Result<u64, NoValue> {
        let machine = self.machine();
        let unknown = || damaged("no call frame information");
        let frame = &self.frames.get(self.number).ok_or_else(unknown)?.frame;
        let mut registers = frame.registers.clone();
        registers.set(machine.sp, frame.stack_pointer(machine, self.number == 0));
        let pc = linked_address(self.target.session, frame.lookup());
        let loaded = self.target.loaded(pc).ok_or_else(unknown)?;
        let frames = loaded
            .call_frames
            .get_or_init(|| crate::unwind::CallFrames::new(loaded.object));
        let cfa = frames.cfa(machine, self.target.space, pc, &registers);
        cfa.ok_or_else(unknown)
    }

    /// The location of another entry, which an expression calls.
    fn called(&self, reference: DieReference) -> Result<Slice<'a>, NoValue> {
        let Function { debug, unit, .. } = &self.function;
        let place = match reference {
            DieReference::UnitRef(offset) => debug.place(&unit.header, offset),
            DieReference::DebugInfoRef(offset) => offset.0,
        };
        let (unit, inside) = debug.unit_at(place)?;
        let entry = debug.entry(&unit, inside)?;
        let location = entry.value(gimli::DW_AT_location);
        let location = location.and_then(call_site::expression);
        Ok(location.map_or_else(Slice::default, |location| location.0))
    }

    /// What the caller passed: as its call site says it, over its own registers.
    fn passed(&self, wanted: Passed) -> Result<u64, NoValue> {
        let caller = self.number + 1;
        let is_called = self.frames.get(caller).is_some_and(|one| !one.frame.exact);
        if !is_called || self.nested >= MAX_NESTED {
            return Err(NoValue::OptimizedOut);
        }
        let caller = Self::new(self.target, self.frames, caller).ok_or(NoValue::OptimizedOut)?;
        // A call site names only registers that the call leaves alone, some of them because the compiler
        // knows what the function that is called does.
        let caller = Self {
            nested: self.nested + 1,
            survives_call: Cell::new(true),
            ..caller
        };
        let expression = call_site::passed(self, &caller, wanted)?;
        let value = caller.number(expression.ok_or(NoValue::OptimizedOut)?)?;
        self.used_entry.set(true);
        Ok(value)
    }

    /// The same frame, one expression deeper.
    fn nested(&self) -> Result<Self, NoValue> {
        let inner = Self::new(self.target, self.frames, self.number);
        let inner = inner.ok_or(NoValue::OptimizedOut)?;
        Ok(Self {
            nested: self.nested + 1,
            ..inner
        })
    }

    /// The bytes of a constant.
    fn constant(&self, value: &AttributeValue<Slice<'a>>, size: u64) -> Result<Vec<u8>, NoValue> {
        let len = usize::try_from(size.min(MAX_BYTES)).unwrap_or(0);
        if let AttributeValue::Block(bytes) = value {
            return Ok(bytes.slice().iter().copied().take(len).collect());
        }
        if let AttributeValue::String(text) = value {
            return Ok(text.slice().iter().copied().take(len).collect());
        }
        let number = value.udata_value().map(i128::from);
        let number = number.or_else(|| value.sdata_value().map(i128::from));
        let number = number.ok_or_else(|| damaged("a constant of an unknown form"))?;
        Ok(self.image(number, len))
    }

    /// A number as an object of so many bytes has it.
    fn image(&self, number: i128, len: usize) -> Vec<u8> {
        let sign = if number < 0 { 0xff } else { 0 };
        let mut bytes = number.to_le_bytes().to_vec();
        bytes.resize(len, sign);
        if self.target.space.endian() == Endian::Big {
            bytes.reverse();
        }
        bytes
    }

    /// An object of its pieces.
    fn assembled(
        &self,
        pieces: &Located<'a>,
        type_: &TypeRef,
        size: u64,
    ) -> Result<Value, NoValue> {
        if size > MAX_BYTES {
            return Err(NoValue::Unknown(format!("{size} bytes in pieces")));
        }
        let len = usize::try_from(size).unwrap_or(0);
        let mut object = Pieces {
            bytes: vec![0; len],
            gaps: Vec::new(),
        };
        let total = 8 * size;
        let mut at = 0;
        for piece in pieces {
            let bits = piece.size_in_bits.unwrap_or(total - at).min(total - at);
            let is_whole = piece.size_in_bits.is_none();
            match self.piece(piece, bits, is_whole) {
                Ok((bytes, first)) => {
                    copy_bits(&bytes, first, &mut object.bytes, at, bits, self.is_big());
                }
                Err(why) if is_whole => return Err(why),
                Err(why) => object.gaps.push((at..at + bits, why)),
            }
            at += bits;
        }
        if at < total {
            object.gaps.push((at..total, NoValue::OptimizedOut));
        }
        Ok(Value {
            type_: type_.clone(),
            location: Location::Pieces {
                of: Arc::new(object),
                bit_offset: 0,
                bits: None,
            },
        })
    }

    fn is_big(&self) -> bool {
        self.target.space.endian() == Endian::Big
    }

    /// The bytes of a piece, and its first bit in them.
    fn piece(
        &self,
        piece: &Piece<Slice<'a>>,
        bits: u64,
        is_whole: bool,
    ) -> Result<(Vec<u8>, u64), NoValue> {
        let shift = piece.bit_offset.unwrap_or(0);
        let bytes_of = |bits: u64| usize::try_from(bits.div_ceil(8)).unwrap_or(0);
        let number = match &piece.location {
            gimli::Location::Empty => return Err(NoValue::OptimizedOut),
            gimli::Location::ImplicitPointer { .. } => return Err(NoValue::Synthetic),
            gimli::Location::Address { address } => {
                let mut bytes = vec![0; bytes_of(shift % 8 + bits)];
                self.read(address.wrapping_add(shift / 8), &mut bytes)?;
                return Ok((bytes, shift % 8));
            }
            gimli::Location::Bytes { value } => {
                let start = usize::try_from(shift / 8).unwrap_or(usize::MAX);
                let bytes = value.slice().get(start..).unwrap_or_default();
                let len = bytes_of(shift % 8 + bits);
                return match bytes.get(..len) {
                    Some(bytes) => Ok((bytes.to_vec(), shift % 8)),
                    None if is_whole => Ok((bytes.iter().copied().take(len).collect(), 0)),
                    None => Err(NoValue::OptimizedOut),
                };
            }
            gimli::Location::Register { register } => self.register(*register)?,
            gimli::Location::Value { value } => bits_of(*value)?,
        };
        let number = number.checked_shr(u32::try_from(shift).unwrap_or(64));
        let number = number.unwrap_or(0);
        let len = bytes_of(bits);
        // Bits that are not whole bytes stand at the end that the machine stores first.
        let above = u32::try_from((8 * len as u64).saturating_sub(bits)).unwrap_or(0);
        let bytes = match self.is_big() {
            true => self.image(i128::from(number.wrapping_shl(above)), len),
            false => self.image(i128::from(number), len),
        };
        Ok((bytes, 0))
    }
}
