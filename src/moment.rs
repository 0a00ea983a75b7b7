//! Points in time as people and programs write them: RFC 3339, always UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY_S: u64 = 86_400;

/// Milliseconds since 1970, by this machine's clock.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// `2026-11-24T23:28:14.123Z`.
pub fn rfc3339(ms: u64) -> String {
    let seconds = ms / 1000;
    let (year, month, day) = date(seconds / DAY_S);
    let rest = seconds % DAY_S;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
        ms % 1000
    )
}

/// Year, month and day of a day since 1970, by the proleptic Gregorian calendar: counted in years
/// that begin in March, so that the leap day is the last, from 1 March of the year 0.
fn date(days: u64) -> (u64, u64, u64) {
    /// Days of 400 years.
    const ERA: u64 = 146_097;
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / ERA, shifted % ERA);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / (ERA - 1)) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Days since 1970 of a date that exists.
fn day(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let shifted_year = year - u64::from(month <= 2);
    let era = shifted_year / 400;
    let year_of_era = shifted_year % 400;
    let march_month = (month + 9) % 12;
    let of_year = (153 * march_month + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    let days = days.checked_sub(719_468)?;
    // The 31st of a month of 30 days is the first of the next.
    (date(days) == (year, month, day)).then_some(days)
}

/// Milliseconds since 1970 of a time that is written as `2026-11-24T23:28:14Z` (with or without
/// `Z`, seconds or time), as `@1795562894`, or as one that lies `90s`, `10m`, `2h` or `3d` back.
///
/// # Errors
/// It is none of these.
pub fn parse(text: &str, now_ms: u64) -> Result<u64, &'static str> {
    const WRONG: &str = "not a time";
    if let Some(seconds) = text.strip_prefix('@') {
        let seconds: u64 = seconds.parse().map_err(|_| WRONG)?;
        return seconds.checked_mul(1000).ok_or(WRONG);
    }
    if let Some((at, unit)) = text.char_indices().next_back()
        && let Some(scale) = match unit {
            's' => Some(1000),
            'm' => Some(60_000),
            'h' => Some(3_600_000),
            'd' => Some(DAY_S * 1000),
            _ => None,
        }
    {
        let number: u64 = text[..at].parse().map_err(|_| WRONG)?;
        let back = number.checked_mul(scale).ok_or(WRONG)?;
        return Ok(now_ms.saturating_sub(back));
    }
    absolute(text).ok_or(WRONG)
}

fn absolute(text: &str) -> Option<u64> {
    let (text, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, time.strip_suffix('Z').unwrap_or(time)),
        None => (text, "00:00:00"),
    };
    let number = |text: &str, digits: usize| {
        let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u64>().ok()).flatten()
    };
    let mut parts = text.split('-');
    let (year, month, of_month) = (parts.next()?, parts.next()?, parts.next()?);
    let days = day(number(year, 4)?, number(month, 2)?, number(of_month, 2)?)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "000"));
    let mut clock = time.split(':');
    let (hour, minute) = (number(clock.next()?, 2)?, number(clock.next()?, 2)?);
    let second = number(clock.next().unwrap_or("00"), 2)?;
    let fits = hour < 24 && minute < 60 && second < 60;
    if !fits || parts.next().is_some() || clock.next().is_some() {
        return None;
    }
    let seconds = days * DAY_S + hour * 3600 + minute * 60 + second;
    Some(seconds * 1000 + number(fraction, 3)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
            assert_eq!(parse(text, 0), Ok(ms));
        }
    }

    #[test]
    fn times_that_are_not_are_refused() {
        for text in [
            "",
            "m",
            "-5m",
            "5",
            "5w",
            "@",
            "@x",
            "2026-02-29",
            "2026-13-01",
            "2026-11-31",
            "1969-12-31",
            "2026-11-24T24:00:00Z",
            "2026-11-24T23",
            "2026-11-24T1:2:3",
            "µ",
            "2026-11-24T23:28:14.1Z",
            "99999999999999999999d",
            "@99999999999999999999",
        ] {
            assert!(parse(text, 0).is_err(), "{text:?}");
        }
    }

    #[test]
    fn times_may_be_short_or_relative() {
        let now = 1_000_000_000;
        assert_eq!(parse("90s", now), Ok(now - 90_000));
        assert_eq!(parse("2h", now), Ok(now - 7_200_000));
        assert_eq!(parse("9999d", now), Ok(0));
        assert_eq!(parse("@12", now), Ok(12_000));
        assert_eq!(parse("2026-11-24", now), parse("2026-11-24T00:00Z", now));
        assert_eq!(
            parse("2026-11-24 23:28:14", now),
            parse("2026-11-24T23:28:14.000Z", now)
        );
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(ms in 0..253_402_300_800_000_u64) {
            prop_assert_eq!(parse(&rfc3339(ms), 0), Ok(ms));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse(&text, 7);
        }
    }
}
