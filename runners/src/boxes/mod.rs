//! The runners, by kind: what makes a box and how it is entered.

pub mod bare;
pub mod jail;
#[cfg(target_os = "linux")]
pub mod managed;
#[cfg(target_os = "linux")]
pub mod oci;
#[cfg(target_os = "linux")]
pub mod own;
#[cfg(target_os = "linux")]
pub mod sandbox;
pub mod there;
#[cfg(target_os = "linux")]
pub mod vm;

#[cfg(not(target_os = "linux"))]
pub use crate::elsewhere::enter;
#[cfg(target_os = "linux")]
pub use own::enter::enter;
