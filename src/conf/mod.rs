//! hast.conf (spec/03): grammar, model, diagnostics.

pub mod model;
