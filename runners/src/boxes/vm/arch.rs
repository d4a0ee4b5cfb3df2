//! The processor's architecture, as far as machines and their kernels differ by it.

use std::fmt;

/// An architecture that has guests here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// AMD's and Intel's, in 64 bits.
    X86,
    /// Arm's, in 64 bits.
    Arm,
    /// RISC-V, in 64 bits.
    RiscV,
}

impl Arch {
    /// That of this program, so of every guest: it is the init in there.
    pub const HERE: Self = if cfg!(target_arch = "aarch64") {
        Self::Arm
    } else if cfg!(target_arch = "riscv64") {
        Self::RiscV
    } else {
        Self::X86
    };

    /// The first serial line of its machines, as Linux calls it.
    pub fn serial(self) -> &'static str {
        match self {
            Self::X86 | Self::RiscV => "ttyS0",
            Self::Arm => "ttyAMA0",
        }
    }

    /// Debian's package with the kernel for clouds, which boots fastest, and that with all drivers.
    pub const fn kernels(self) -> (&'static str, &'static str) {
        match self {
            Self::X86 => ("linux-image-cloud-amd64", "linux-image-amd64"),
            Self::Arm => ("linux-image-cloud-arm64", "linux-image-arm64"),
            Self::RiscV => ("linux-image-riscv64", "linux-image-riscv64"),
        }
    }

    /// The architecture that a kernel is for, by its first bytes; `None` where they don't say.
    pub fn of_kernel(image: &[u8]) -> Option<Self> {
        if image.get(0x202..0x206) == Some(b"HdrS") {
            return Some(Self::X86);
        }
        // Documentation/arch/arm64/booting.rst and Documentation/arch/riscv/boot-image-header.rst.
        match image.get(0x38..0x3c) {
            Some(b"ARM\x64") => return Some(Self::Arm),
            Some(b"RSC\x05") => return Some(Self::RiscV),
            _ => {}
        }
        // `e_machine` of elf(5): EM_X86_64, EM_AARCH64, EM_RISCV.
        match (image.starts_with(b"\x7fELF"), image.get(18..20)?) {
            (true, [62, 0]) => Some(Self::X86),
            (true, [183, 0]) => Some(Self::Arm),
            (true, [243, 0]) => Some(Self::RiscV),
            _ => None,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::X86 => "x86-64",
            Self::Arm => "64-bit Arm",
            Self::RiscV => "64-bit RISC-V",
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The first bytes of a kernel as it is booted there: for x86 a bzImage, else an Image.
    pub(crate) fn header(arch: Arch) -> Vec<u8> {
        let mut bytes = vec![0; 0x400];
        let (at, magic) = match arch {
            Arch::X86 => (0x202, b"HdrS"),
            Arch::Arm => (0x38, b"ARM\x64"),
            Arch::RiscV => (0x38, b"RSC\x05"),
        };
        bytes[at..at + 4].copy_from_slice(magic);
        bytes
    }

    #[test]
    fn a_kernel_says_what_it_is_for() {
        for (arch, machine) in [(Arch::X86, 62), (Arch::Arm, 183), (Arch::RiscV, 243)] {
            assert_eq!(Arch::of_kernel(&header(arch)), Some(arch));
            let mut elf = vec![0; 64];
            elf[..4].copy_from_slice(b"\x7fELF");
            elf[18] = machine;
            assert_eq!(Arch::of_kernel(&elf), Some(arch));
        }
        assert_eq!(Arch::of_kernel(b"\x7fELF"), None);
        assert_eq!(Arch::of_kernel(&[0; 0x400]), None);
    }
}
