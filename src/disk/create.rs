//! Making a component: what `hastctl create` writes.

use super::layout::{METADATA_BYTES, METADATA_LEN, Metadata};
use super::metadata;
use super::provider::{IoError, Provider};

/// Writes an all-clean bitmap and the metadata, each on stable storage before the next step.
///
/// The old metadata goes first: a crash in the middle leaves a provider without metadata, never
/// old counters beside a bitmap that says that nothing differs.
///
/// # Errors
/// The system's. What was on the provider before counts as lost then.
pub fn create(provider: &Provider, metadata: &Metadata) -> Result<(), IoError> {
    provider.write("metadata", 0, &[0; METADATA_LEN])?;
    provider.flush("metadata")?;
    provider.zero("bitmap", METADATA_BYTES, metadata.mapsize())?;
    provider.flush("bitmap")?;
    metadata::write(provider, metadata)?;
    provider.flush("metadata")
}
