//! The local component of spec/02: metadata block, dirty bitmap, provider.

pub mod layout;
pub mod provider;
