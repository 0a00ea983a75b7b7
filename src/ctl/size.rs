//! Sizes as people write and read them: `expand_number(3)` and `humanize_number(3)` of FreeBSD.

/// The number of a size on the command line: decimal, 0x hexadecimal or 0 octal, then perhaps one
/// of the suffixes k, M, G, T, P, E (in either case; powers of 1024) or B.
///
/// Stricter than the original, which reads `-1` as 2^64 - 1 and ignores what follows the suffix.
///
/// # Errors
/// What is wrong, in words; the original says no more than that it is invalid.
pub fn expand(text: &str) -> Result<u64, &'static str> {
    const SUFFIXES: &str = "bkmgtpe";
    let (number, shift) = match text.char_indices().next_back() {
        // In hexadecimal, B and E are digits, as strtoumax(3) takes them.
        Some((at, last)) if !(hexadecimal(text) && last.is_ascii_hexdigit()) => {
            match SUFFIXES.find(last.to_ascii_lowercase()) {
                Some(steps) => (&text[..at], steps * 10),
                None => (text, 0),
            }
        }
        _ => (text, 0),
    };
    let (digits, radix) = if hexadecimal(number) {
        (&number[2..], 16)
    } else if number.len() > 1 && number.starts_with('0') {
        (&number[1..], 8)
    } else {
        (number, 10)
    };
    // from_str_radix would take a sign.
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err("not a number");
    }
    let number = u64::from_str_radix(digits, radix).map_err(|_| "too large")?;
    number.checked_mul(1_u64 << shift).ok_or("too large")
}

fn hexadecimal(text: &str) -> bool {
    text.starts_with("0x") || text.starts_with("0X")
}

/// A size in at most four characters, as the original prints it before a "B": 512 is `512`, 2 MiB
/// is `2.0M`, 64 MiB is `64M`.
///
/// What `humanize_number(buf, 5, bytes, "", HN_AUTOSCALE, HN_NOSPACE | HN_DECIMAL)` gives.
pub fn humanize(bytes: u64) -> String {
    const PREFIXES: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];
    /// Numbers must be below, to have room for their prefix.
    const MAX: u64 = 1000;
    /// A remainder from which on one digit behind the point would round up to the next integer.
    const ROUNDS_UP: u64 = 973;

    let (mut quotient, mut remainder, mut scale) = (bytes, 0, 0);
    while quotient >= MAX || (quotient == MAX - 1 && remainder >= ROUNDS_UP) {
        remainder = quotient % 1024;
        quotient /= 1024;
        scale += 1;
    }
    // 2^64 / 1024^6 is 16: the loop ends at "E" at the latest.
    let prefix = PREFIXES[scale];
    if scale > 0 && (quotient < 9 || (quotient == 9 && remainder < ROUNDS_UP)) {
        let tenths = (remainder * 10 + 512) / 1024;
        format!("{}.{}{prefix}", quotient + tenths / 10, tenths % 10)
    } else {
        format!("{}{prefix}", quotient + (remainder + 512) / 1024)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "", "k", "foo", "-1", "+1", " 1", "1 ", "1kk", "1kb", "1.5k", "0x", "08", "1z", "1µ",
            "µ", "--", "0xfg0",
        ] {
            assert!(expand(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_beyond_64_bits_are_refused() {
        for text in [
            "18446744073709551616",
            "16E",
            "18014398509481984k",
            "99999999T",
        ] {
            assert_eq!(expand(text), Err("too large"), "{text}");
        }
        assert_eq!(expand("15e"), Ok(15 << 60));
        assert_eq!(expand("18446744073709551615"), Ok(u64::MAX));
    }

    #[test]
    fn suffixes_are_powers_of_1024_in_either_case() {
        let sizes = [
            ("0", 0),
            ("512", 512),
            ("512b", 512),
            ("4k", 4096),
            ("1K", 1024),
            ("3m", 3 << 20),
            ("2G", 2 << 30),
            ("1t", 1 << 40),
            ("1P", 1 << 50),
            ("0x10", 16),
            ("0x10k", 16384),
            ("0x1e", 30),
            ("010", 8),
        ];
        for (text, size) in sizes {
            assert_eq!(expand(text), Ok(size), "{text}");
        }
    }

    #[test]
    fn sizes_read_as_the_original_prints_them() {
        let sizes = [
            (0, "0"),
            (512, "512"),
            (999, "999"),
            (1000, "1.0K"),
            (1023, "1.0K"),
            (1024, "1.0K"),
            (10_188, "9.9K"),
            (10_189, "10K"),
            (1_048_576, "1.0M"),
            (2_097_152, "2.0M"),
            (33_549_824, "32M"),
            (67_104_256, "64M"),
            (1023 << 20, "1.0G"),
            (10_995_115_618_304, "10T"),
            (u64::MAX, "16E"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(humanize(bytes), text, "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = expand(&text);
        }

        #[test]
        fn every_size_reads_in_four_characters(bytes in any::<u64>(), shift in 0..64_u32) {
            prop_assert!(humanize(bytes >> shift).len() <= 4);
        }

        #[test]
        fn plain_numbers_are_themselves(number in any::<u64>()) {
            prop_assert_eq!(expand(&number.to_string()), Ok(number));
        }
    }
}
