//! The local component of spec/02: metadata block, dirty bitmap, provider.

pub mod create;
pub mod invalidate;
pub mod layout;
pub mod metadata;
pub mod provider;
