//! Containers by an engine that keeps images, volumes and networks of its own.

pub mod docker;
pub mod nerdctl;
pub mod podman;
