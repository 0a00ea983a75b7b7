//! Prints the tables of descriptors and system calls, for the documentation.

fn main() {
    print!("{}", sandbox::policy::markdown());
}
