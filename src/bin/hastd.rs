//! hastd(8)

fn main() {}
