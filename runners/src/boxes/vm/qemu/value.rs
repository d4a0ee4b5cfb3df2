//! A path in one of QEMU's options.

use std::path::Path;

/// A path as the value of an option. A comma is doubled, or QEMU takes it for the end of the value.
pub fn value(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_does_not_end_the_value() {
        assert_eq!(value(Path::new("/a,b/c")), "/a,,b/c");
    }
}
