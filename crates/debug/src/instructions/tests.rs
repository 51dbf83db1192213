//! One load and one call of every architecture, assembled by hand.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::operands::Memory;
use super::{Decoder, Flow, Instruction, Operand};
use vmcore_format::addr::VirtAddr;
use vmcore_format::arch::Arch;
use vmcore_format::endian::Endian;

const START: u64 = 0x8020_0000;

fn decode(arch: Arch, order: Endian, words: &[u32]) -> Vec<Instruction> {
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|word| match order {
            Endian::Little => word.to_le_bytes(),
            Endian::Big => word.to_be_bytes(),
        })
        .collect();
    decode_bytes(arch, order, &bytes)
}

fn decode_bytes(arch: Arch, order: Endian, bytes: &[u8]) -> Vec<Instruction> {
    let decoder = Decoder::new(arch, order).unwrap();
    decoder.decode(bytes, VirtAddr(START), &|address| {
        (address.0 == START + 8).then(|| "target".to_owned())
    })
}

fn memory(instruction: &Instruction) -> &Memory {
    let mut operands = instruction.operands.iter();
    let found = operands.find_map(|operand| match operand {
        Operand::Memory(memory) => Some(memory),
        _ => None,
    });
    found.expect("an operand in memory")
}

#[test]
fn a_load_names_its_base_register_and_its_displacement() {
    use Endian::{Big, Little};
    for (arch, order, word, base, number) in [
        (Arch::Arm, Little, 0xe591_0004, "r1", 1),
        (Arch::Arm, Big, 0xe591_0004, "r1", 1),
        (Arch::Arm64, Little, 0xf940_0420, "x1", 1),
        (Arch::Mips, Little, 0x8c82_0004, "a0", 4),
        (Arch::Mips, Big, 0x8c82_0004, "a0", 4),
        (Arch::Mips64, Big, 0xdc82_0004, "a0", 4),
        (Arch::Powerpc, Big, 0x8064_0004, "r4", 4),
        (Arch::Powerpc64, Big, 0xe864_0004, "r4", 4),
        (Arch::Powerpc64, Little, 0xe864_0004, "r4", 4),
        (Arch::Riscv64, Little, 0x0045_b503, "a1", 11),
        (Arch::Sparc64, Big, 0xd25a_2004, "o0", 8),
    ] {
        let list = decode(arch, order, &[word]);
        let [one] = list.as_slice() else {
            panic!("{arch:?}: {list:?}");
        };
        let found = memory(one);
        let offset = if arch == Arch::Arm64 { 8 } else { 4 };
        assert_eq!(found.displacement, offset, "{arch:?}: {one:?}");
        assert_eq!(found.base.as_deref(), Some(base), "{arch:?}: {one:?}");
        if vmcore::registers::PcbLayout::of(arch, None).is_known() {
            assert_eq!(found.base_number, Some(number), "{arch:?}: {one:?}");
        }
        assert_eq!((one.flow, &one.refers_to), (Flow::Next, &None), "{arch:?}");
    }
    let list = decode_bytes(Arch::Amd64, Little, &[0x48, 0x8b, 0x44, 0x8b, 0x18]);
    assert_eq!(list[0].text, "movq 0x18(%rbx, %rcx, 4), %rax");
    let found = memory(&list[0]);
    assert_eq!(
        (
            found.base_number,
            found.index.as_deref(),
            found.scale,
            found.displacement
        ),
        (Some(3), Some("rcx"), 4, 0x18)
    );
    let list = decode_bytes(Arch::I386, Little, &[0x8b, 0x43, 0x18]);
    assert_eq!(list[0].text, "movl 0x18(%ebx), %eax");
}

#[test]
fn a_call_names_the_function_that_it_calls() {
    use Endian::{Big, Little};
    for (arch, order, word) in [
        (Arch::Arm, Little, 0xeb00_0000),
        (Arch::Arm, Big, 0xeb00_0000),
        (Arch::Arm64, Little, 0x9400_0002),
        (Arch::Mips, Big, 0x0c08_0002),
        (Arch::Mips64, Little, 0x0c08_0002),
        (Arch::Powerpc, Big, 0x4800_0009),
        (Arch::Powerpc64, Big, 0x4800_0009),
        (Arch::Powerpc64, Little, 0x4800_0009),
        (Arch::Riscv64, Little, 0x0080_00ef),
        (Arch::Sparc64, Big, 0x4000_0002),
    ] {
        let list = decode(arch, order, &[word]);
        let target = list[0].refers_to.as_ref();
        let target = target.unwrap_or_else(|| panic!("{arch:?}: {list:?}"));
        assert_eq!(target.address, VirtAddr(START + 8), "{arch:?}: {list:?}");
        assert_eq!(target.symbol.as_deref(), Some("target"), "{arch:?}");
    }
    let list = decode_bytes(Arch::Amd64, Little, &[0xe8, 3, 0, 0, 0, 0xc3]);
    assert_eq!(
        list[0].refers_to.as_ref().unwrap().address,
        VirtAddr(START + 8)
    );
    assert_eq!((list[0].flow, list[1].flow), (Flow::Call, Flow::Return));
    let list = decode_bytes(Arch::Amd64, Little, &[0x48, 0x8b, 0x05, 1, 0, 0, 0]);
    assert_eq!(
        list[0].refers_to.as_ref().unwrap().address,
        VirtAddr(START + 8)
    );
}

#[test]
fn what_is_no_instruction_is_passed_over() {
    let list = decode_bytes(Arch::Amd64, Endian::Little, &[0x06, 0x90, 0x0f]);
    let texts: Vec<&str> = list.iter().map(|one| one.text.as_str()).collect();
    assert_eq!(texts, [".byte 06", "nop", ".byte 0f"]);
    let addresses: Vec<u64> = list.iter().map(|one| one.address.0 - START).collect();
    assert_eq!(addresses, [0, 1, 2]);
    let list = decode_bytes(Arch::Arm64, Endian::Little, &[0xff; 7]);
    assert_eq!(list.iter().map(|one| one.bytes.len()).sum::<usize>(), 7);
}

/// Registers of the system that the library has no name for, operations on them, hints for memory.
#[test]
fn instructions_of_arm64_for_the_system_have_any_operand() {
    for base in [0xd500_0000, 0xd520_0000, 0xf980_0000] {
        let words: Vec<u32> = (0..1 << 21).step_by(97).map(|low| base | low).collect();
        let list = decode(Arch::Arm64, Endian::Little, &words);
        assert_eq!(list.len(), words.len());
    }
    // mrs x3, S3_1_C9_C15_7
    let list = decode(Arch::Arm64, Endian::Little, &[0xd539_9fe3]);
    let is_x3 = |one: &Operand| {
        matches!(
            one,
            Operand::Register {
                number: Some(3),
                ..
            }
        )
    };
    assert!(list[0].text.starts_with("mrs x3"), "{list:?}");
    assert!(list[0].operands.iter().any(is_x3), "{list:?}");
}
