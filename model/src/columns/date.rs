//! Parts of a date: pandas' `.dt.year`, `.month`, `.day` and `.dayofweek`, UTC.

use serde::Deserialize;

const NANOSECONDS_OF_DAY: f64 = 86_400e9;
/// Days beyond which pandas has no timestamps (1677 to 2262): the rest is not worth an answer.
const MAX_DAYS: f64 = 200_000.0;

/// A part of a date.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    Year,
    Month,
    Day,
    DayOfWeek,
}

impl Part {
    /// The part of nanoseconds since 1970; NaN of NaN and of what is beyond pandas' years.
    pub(crate) fn of(self, nanoseconds: f64) -> f64 {
        let day = (nanoseconds / NANOSECONDS_OF_DAY).floor();
        if day.is_nan() || day.abs() > MAX_DAYS {
            return f64::NAN;
        }
        let day = day as i64;
        let (year, month, of_month) = civil(day);
        match self {
            Self::Year => year as f64,
            Self::Month => month as f64,
            Self::Day => of_month as f64,
            // 1970-01-01 was a Thursday.
            Self::DayOfWeek => (day + 3).rem_euclid(7) as f64,
        }
    }
}

/// Year, month and day of a number of days since 1970, in the proleptic Gregorian calendar. Years are taken to begin in
/// March, so that the leap day is a year's last; 400 years have 146,097 days.
fn civil(day: i64) -> (i64, i64, i64) {
    // 719,468 days from 0000-03-01 to 1970-01-01.
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March on have 153 days in five.
    let from_march = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // Computed with Python's datetime.
        let cases = [
            (0.0, [1970.0, 1.0, 1.0, 3.0]),
            (-1e9, [1969.0, 12.0, 31.0, 2.0]),
            (951_782_400e9, [2000.0, 2.0, 29.0, 1.0]),
            (951_868_800e9, [2000.0, 3.0, 1.0, 2.0]),
            (1_709_164_800e9, [2024.0, 2.0, 29.0, 3.0]),
            (1_735_689_599e9, [2024.0, 12.0, 31.0, 1.0]),
            (4_102_444_800e9, [2100.0, 1.0, 1.0, 4.0]),
            (-2_208_988_800e9, [1900.0, 1.0, 1.0, 0.0]),
        ];
        for (nanoseconds, expected) in cases {
            let got = [Part::Year, Part::Month, Part::Day, Part::DayOfWeek].map(|part| part.of(nanoseconds));
            assert_eq!(got, expected, "{nanoseconds}");
        }
        assert!(Part::Year.of(f64::NAN).is_nan());
        assert!(Part::Day.of(f64::INFINITY).is_nan());
    }
}
