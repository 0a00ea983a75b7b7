//! hastctl(8)

fn main() {}
