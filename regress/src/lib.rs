//! The regression suite.
