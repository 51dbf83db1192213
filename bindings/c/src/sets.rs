//! Variables of which there is one for each CPU or for each network stack. Their symbols lead into a
//! linker set, of which every CPU and every stack has a copy (`sys/sys/pcpu.h`, `sys/net/vnet.h`);
//! as in kvm_nlist(3), the copies that are meant are those of CPU 0 and of the first stack.

use crate::handle::Kvm;
use vmcore::kernel::KernelFile;
use vmcore_debug::{DebugFiles, Target};
use vmcore_format::addr::VirtAddr;
use vmcore_format::endian::Width;

/// `vnet_magic_n` and the places of it and of `vnet_data_base` in `struct vnet`, up to February 2020.
const OLD_MAGIC: u32 = 0x3e0d_8f29;
const OLD_MAGIC_AT: u64 = 16;
const OLD_DATA_BASE_AT: u64 = 40;

/// The address of the variable `name` in the copy that is meant.
pub(crate) fn find(kvm: &Kvm, kernel: &KernelFile, name: &str) -> Option<u64> {
    vnet(kvm, kernel, name).or_else(|| pcpu(kvm, kernel, name))
}

/// The place of a variable in a linker set.
fn in_set(kernel: &KernelFile, set: &str, name: &str) -> Option<u64> {
    let address = |name: &str| Some(kernel.symbols().find(name)?.address.0);
    let place = address(&format!("{set}_entry_{name}"))?;
    let start = address(&format!("__start_set_{set}"))?;
    let stop = address(&format!("__stop_set_{set}"))?;
    (start..stop).contains(&place).then_some(place)
}

fn vnet(kvm: &Kvm, kernel: &KernelFile, name: &str) -> Option<u64> {
    let place = in_set(kernel, "vnet", name)?;
    let space = kvm.session.space().ok()?;
    let pointer = kernel.symbols().find("vnet0")?.address;
    let vnet = space.read_pointer(pointer).ok()?;
    let at = data_base(kvm).or_else(|| {
        let magic = space.read_u32(vnet.checked_add(OLD_MAGIC_AT)?).ok()?;
        let is_old = magic == OLD_MAGIC && kvm.session.dump().arch().word() == Width::W64;
        is_old.then_some(OLD_DATA_BASE_AT)
    })?;
    let base = space.read_word(vnet.checked_add(at)?).ok()?;
    Some(place.wrapping_add(base))
}

/// Where `struct vnet` has `vnet_data_base`, by the kernel's types.
fn data_base(kvm: &Kvm) -> Option<u64> {
    let files = DebugFiles::of(&kvm.session).ok()?;
    let target = Target::new(&kvm.session, &files).ok()?;
    target.types().offset_of("vnet", "vnet_data_base")
}

fn pcpu(kvm: &Kvm, kernel: &KernelFile, name: &str) -> Option<u64> {
    let place = in_set(kernel, "pcpu", name)?;
    let offsets: VirtAddr = kernel.symbols().find("dpcpu_off")?.address;
    let offset = kvm.session.space().ok()?.read_word(offsets).ok()?;
    Some(place.wrapping_add(offset) & kvm.session.dump().arch().va_max())
}
