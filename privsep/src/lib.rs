//! Processes and what passes between them: start, channel, descriptors, privileges.
