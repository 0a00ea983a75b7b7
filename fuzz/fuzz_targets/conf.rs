//! Any text as a configuration in this format: answered with a configuration or with errors, and
//! what is accepted prints to something that means the same.
#![no_main]

use hast::conf::{Format, Identity, parse_str, print};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let node = Identity::Explicit("nodea".to_owned());
    match parse_str(&text, "fuzz", Format::Conf, &node) {
        Ok(config) => {
            let printed = print::conf(&config, "nodea");
            assert_eq!(
                parse_str(&printed, "printed", Format::Conf, &node),
                Ok(config)
            );
        }
        Err(error) => assert!(!error.render().is_empty()),
    }
});
