//! Typed settings: what a workload or a runner lets its user choose, checked before anything is touched.
//!
//! [`crate::settings!`] declares them, and makes of one declaration the table that suites and `list` know and the type that code
//! reads. Suites, wire and store keep [`Settings`], which is text.

mod declare;
mod error;
mod resolved;
mod setting;
mod value;

pub use declare::{count, joined, with_default};
pub use error::{SettingError, did_you_mean, nearest};
pub use resolved::Settings;
pub use setting::{Kind, Setting};
pub use value::{Amount, Bytes, CommandLine, Value};
