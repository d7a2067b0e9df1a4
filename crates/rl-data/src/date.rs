//! A calendar moment for templates that print today's date. There is no clock here: the moment is given.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A moment of the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Date {
    /// Year, 1 to 9999.
    pub year: u16,
    /// Month, 1 to 12.
    pub month: u8,
    /// Day of the month, from 1.
    pub day: u8,
    /// Hour, 0 to 23.
    pub hour: u8,
    /// Minute, 0 to 59.
    pub minute: u8,
    /// Second, 0 to 59.
    pub second: u8,
}

impl Default for Date {
    /// 26 July 2024, midnight: the date that Llama 3.1's own template falls back to.
    fn default() -> Self {
        Date { year: 2024, month: 7, day: 26, hour: 0, minute: 0, second: 0 }
    }
}

impl Date {
    /// A day at midnight; the day must exist.
    pub fn new(year: u16, month: u8, day: u8) -> Result<Self> {
        let date = Date { year, month, day, hour: 0, minute: 0, second: 0 };
        date.validate().map(|()| date)
    }

    /// Whether the moment exists.
    pub fn validate(&self) -> Result<()> {
        let leap = (self.year.is_multiple_of(4) && !self.year.is_multiple_of(100)) || self.year.is_multiple_of(400);
        let days = match self.month {
            2 => 28 + u8::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let exists = (1..=9999).contains(&self.year)
            && (1..=12).contains(&self.month)
            && (1..=days).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second < 60;
        if exists {
            return Ok(());
        }
        Err(Error::Setting { name: "date", value: format!("{self:?}"), rule: "is not a moment of the calendar" })
    }

    /// The moment as C's `strftime` writes it; an unknown directive is returned as the error.
    pub(crate) fn format(&self, pattern: &str) -> std::result::Result<String, String> {
        let mut out = String::new();
        let mut chars = pattern.chars();
        while let Some(char) = chars.next() {
            if char != '%' {
                out.push(char);
                continue;
            }
            let hour12 = (self.hour + 11) % 12 + 1;
            let (month, day) = (MONTHS[usize::from(self.month - 1)], DAYS[self.weekday()]);
            out += &match chars.next() {
                Some('Y') => self.year.to_string(),
                Some('y') => format!("{:02}", self.year % 100),
                Some('m') => format!("{:02}", self.month),
                Some('d') => format!("{:02}", self.day),
                Some('B') => month.to_string(),
                Some('b') => month[..3].to_string(),
                Some('A') => day.to_string(),
                Some('a') => day[..3].to_string(),
                Some('H') => format!("{:02}", self.hour),
                Some('I') => format!("{hour12:02}"),
                Some('M') => format!("{:02}", self.minute),
                Some('S') => format!("{:02}", self.second),
                Some('p') => if self.hour < 12 { "AM" } else { "PM" }.to_string(),
                Some('%') => "%".to_string(),
                other => return Err(format!("%{}", other.map(String::from).unwrap_or_default())),
            };
        }
        Ok(out)
    }

    /// Days since Sunday, by Sakamoto's method.
    fn weekday(&self) -> usize {
        const SHIFT: [u32; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        let year = u32::from(self.year) - u32::from(self.month < 3);
        let days = year + year / 4 - year / 100 + year / 400;
        ((days + SHIFT[usize::from(self.month - 1)] + u32::from(self.day)) % 7) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_print_as_the_calendar_says() {
        assert_eq!(Date::default().format("%d %b %Y, %A").unwrap(), "26 Jul 2024, Friday");
        // 29 February 2000 was a Tuesday, 1 January 1900 a Monday.
        assert_eq!(Date::new(2000, 2, 29).unwrap().format("%a %y %B 100%%").unwrap(), "Tue 00 February 100%");
        assert_eq!(Date::new(1900, 1, 1).unwrap().format("%A").unwrap(), "Monday");
        let evening = Date { hour: 21, minute: 5, second: 9, ..Date::default() };
        assert_eq!(evening.format("%H:%M:%S %I%p").unwrap(), "21:05:09 09PM");
        assert_eq!(Date::default().format("%I%p").unwrap(), "12AM");
        assert_eq!(Date::default().format("%Q").unwrap_err(), "%Q");
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for (year, month, day) in [(1900, 2, 29), (2023, 13, 1), (2023, 4, 31), (2023, 1, 0), (0, 1, 1)] {
            assert!(Date::new(year, month, day).is_err(), "{year}-{month}-{day}");
        }
    }
}
