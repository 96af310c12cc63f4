//! A text as a picture that the camera of a phone reads.

use std::fmt::Write as _;

use qrcode::{Color, QrCode};

/// Light modules around it, without which readers do not find it.
const QUIET: usize = 4;

/// Modules of a side, and the dark ones as an SVG path; `None`: the text is too long for one.
pub fn draw(text: &str) -> Option<(usize, String)> {
    let code = QrCode::new(text).ok()?;
    let (size, modules) = (code.width(), code.to_colors());
    let mut path = String::new();
    for (y, row) in modules.chunks(size).enumerate() {
        let mut x = 0;
        while x < size {
            let dark = row[x..].iter().take_while(|module| **module == Color::Dark).count();
            if dark > 0 {
                let _ = write!(path, "M{} {}h{dark}v1h-{dark}z", x + QUIET, y + QUIET);
            }
            x += dark.max(1);
        }
    }
    Some((size + 2 * QUIET, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dark_module_is_drawn_once_and_none_in_the_quiet_zone() {
        let (side, path) = draw("otpauth://totp/grantd:ann?secret=GEZDGNBVGY3TQOJQ").unwrap();
        let code = QrCode::new("otpauth://totp/grantd:ann?secret=GEZDGNBVGY3TQOJQ").unwrap();
        let mut drawn = vec![false; side * side];
        for run in path.split('M').skip(1) {
            let (at, rest) = run.split_once('h').unwrap();
            let (x, y) = at.split_once(' ').unwrap();
            let (x, y): (usize, usize) = (x.parse().unwrap(), y.parse().unwrap());
            let len: usize = rest.split('v').next().unwrap().parse().unwrap();
            for x in x..x + len {
                assert!(!std::mem::replace(&mut drawn[y * side + x], true));
            }
        }
        for y in 0..side {
            for x in 0..side {
                let is_inside = (QUIET..side - QUIET).contains(&x) && (QUIET..side - QUIET).contains(&y);
                let is_dark = is_inside && code[(x - QUIET, y - QUIET)] == Color::Dark;
                assert_eq!(drawn[y * side + x], is_dark, "{x} {y}");
            }
        }
        assert!(draw(&"x".repeat(10_000)).is_none());
    }
}
