//! A link as a code that the camera of a phone reads, drawn with half blocks: a character is two modules, one above the other.

use qrcode::{Color, EcLevel, QrCode};

/// Light modules around the code, without which readers do not find it.
const QUIET: usize = 4;
/// Black on white, whatever the colors of the terminal are.
const ON: &str = "\x1b[38;5;16;48;5;231m";
const OFF: &str = "\x1b[0m";

/// The code of `link`, in lines of at most `width` columns; none where it does not fit. Without colors it is drawn for a dark
/// background: on a light one it is inverted, which most readers take, too.
pub fn draw(link: &str, width: usize, is_colored: bool) -> Option<String> {
    // A screen is clean and lit: the smallest code is the easiest to read.
    let code = QrCode::with_error_correction_level(link, EcLevel::L).ok()?;
    let (size, modules) = (code.width(), code.to_colors());
    let side = size + 2 * QUIET;
    if side > width {
        return None;
    }
    let is_dark = |x: usize, y: usize| {
        let within = (QUIET..QUIET + size).contains(&x) && (QUIET..QUIET + size).contains(&y);
        within && modules[(y - QUIET) * size + x - QUIET] == Color::Dark
    };
    let mut text = String::new();
    for y in (0..side).step_by(2) {
        text.push_str(if is_colored { ON } else { "" });
        for x in 0..side {
            // With colors dark is what is drawn, without them light is.
            let (above, below) = (is_dark(x, y) == is_colored, is_dark(x, y + 1) == is_colored);
            text.push(match (above, below) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        text.push_str(if is_colored { OFF } else { "" });
        text.push('\n');
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str =
        "https://grantd.example.com/sdk/oauth/connect#session=sess_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    /// Dark modules, as drawn: what a camera sees.
    fn seen(text: &str, is_colored: bool) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in text.lines() {
            let line = line.trim_start_matches(ON).trim_end_matches(OFF);
            let halves = line.chars().map(|c| match c {
                '█' => (true, true),
                '▀' => (true, false),
                '▄' => (false, true),
                ' ' => (false, false),
                other => panic!("{other:?}"),
            });
            let halves: Vec<(bool, bool)> = halves.collect();
            rows.push(halves.iter().map(|(above, _)| *above == is_colored).collect());
            rows.push(halves.iter().map(|(_, below)| *below == is_colored).collect());
        }
        rows
    }

    #[test]
    fn what_is_drawn_is_the_code_in_a_light_frame() {
        let code = QrCode::with_error_correction_level(LINK, EcLevel::L).unwrap();
        let (size, side) = (code.width(), code.width() + 2 * QUIET);
        for is_colored in [true, false] {
            let rows = seen(&draw(LINK, side, is_colored).unwrap(), is_colored);
            // An odd number of rows ends in half a line, which is light.
            assert!(rows.len() == side + 1 && rows.iter().all(|row| row.len() == side), "{is_colored}");
            for (y, row) in rows.iter().enumerate() {
                for (x, dark) in row.iter().enumerate() {
                    let within = (QUIET..QUIET + size).contains(&x) && (QUIET..QUIET + size).contains(&y);
                    let meant = within && code[(x - QUIET, y - QUIET)] == Color::Dark;
                    assert_eq!(*dark, meant, "{x} {y} {is_colored}");
                }
            }
        }
    }

    #[test]
    fn one_that_does_not_fit_is_not_drawn() {
        let side = QrCode::with_error_correction_level(LINK, EcLevel::L).unwrap().width() + 2 * QUIET;
        assert!(side <= 80, "a link fits on a terminal of 80 columns");
        assert!(draw(LINK, side, true).is_some() && draw(LINK, side - 1, true).is_none());
        assert!(draw(&"x".repeat(3_000), 1_000, true).is_none(), "more than a code holds");
    }

    #[test]
    fn without_colors_nothing_is_escaped() {
        assert!(!draw(LINK, 80, false).unwrap().contains('\x1b'));
        assert!(draw(LINK, 80, true).unwrap().lines().all(|line| line.starts_with(ON) && line.ends_with(OFF)));
    }
}
