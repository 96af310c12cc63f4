//! The look of an app: its colours, as a style sheet that sets variables and nothing else, and its logo.
//!
//! Invariant: whatever colours an operator chose, text on them and of them is readable (4.5:1) in both themes.

use std::fmt::Write as _;

use axum::body::Body;
use grantd_wire::api::Branding;
use grantd_wire::sign::{hex, sha256};
use http::{HeaderValue, header};

use crate::answer::{Answer, raw};

/// The least contrast of text, by WCAG 2.2 AA.
const CONTRAST_MIN: f64 = 4.5;

/// Steps from a colour to the one it is moved towards.
const STEPS: u8 = 50;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Rgb(pub(super) [u8; 3]);

/// What the brand stands beside, as in `tokens.css`; a test compares them.
pub(super) struct Theme {
    pub(super) surface: Rgb,
    pub(super) bg: Rgb,
    /// The faintest text.
    pub(super) ink_3: Rgb,
    /// Where colours move to stand out.
    away: Rgb,
}

pub(super) const LIGHT: Theme =
    Theme { surface: Rgb([255; 3]), bg: Rgb([0xfa, 0xfa, 0xf8]), ink_3: Rgb([0x67, 0x6c, 0x69]), away: BLACK };
pub(super) const DARK: Theme = Theme {
    surface: Rgb([0x15, 0x19, 0x18]),
    bg: Rgb([0x0f, 0x12, 0x11]),
    ink_3: Rgb([0x8d, 0x95, 0x90]),
    away: WHITE,
};

const BLACK: Rgb = Rgb([0; 3]);
const WHITE: Rgb = Rgb([255; 3]);

/// The answer to `GET /brand/{app_id}.css`.
pub fn brand_answer(branding: &Branding) -> Answer {
    kept(raw(200, "text/css; charset=utf-8", Body::from(brand_css(branding))))
}

/// The answer to `GET /brand/{app_id}.png`.
pub fn logo_answer(png: Vec<u8>) -> Answer {
    kept(raw(200, "image/png", Body::from(png)))
}

/// Its address changes with its content, so it may be kept.
fn kept(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    answer
}

/// The address of an app's style sheet, under the base; `None`: the app has no colours of its own.
pub fn brand_href(app_id: &str, branding: &Branding) -> Option<String> {
    if branding.accent_color.is_none() && branding.background_color.is_none() {
        return None;
    }
    let hash = hex(&sha256(brand_css(branding).as_bytes())[..8]);
    Some(format!("/brand/{app_id}.css?v={hash}"))
}

/// The style sheet of an app: `--brand-*` variables for both themes.
pub fn brand_css(branding: &Branding) -> String {
    let accent = branding.accent_color.as_deref().and_then(Rgb::parse);
    let background = branding.background_color.as_deref().and_then(Rgb::parse);
    let light = block(accent, background, &LIGHT);
    let dark = block(accent, background, &DARK);
    format!(
        ":root {{ {light}}}\n@media (prefers-color-scheme: dark) {{ :root:not([data-theme=\"light\"]) {{ {dark}}} }}\n\
         :root[data-theme=\"dark\"] {{ {dark}}}\n"
    )
}

fn block(accent: Option<Rgb>, background: Option<Rgb>, theme: &Theme) -> String {
    let mut css = String::new();
    let mut set = |name: &str, color: Rgb| {
        let _ = write!(css, "--brand-{name}: {color}; ");
    };
    let page = background.map_or(theme.bg, |background| page_of(background, theme));
    if background.is_some() {
        set("page", page);
    }
    if let Some(accent) = accent {
        let on = on(accent);
        set("solid", accent);
        // Away from its text, so that the text stays readable.
        set("solid-hover", mix(accent, if on == WHITE { BLACK } else { WHITE }, 8));
        set("on-solid", on);
        set("accent", moved(accent, theme.away, |c| is_readable(c, theme.surface) && is_readable(c, page)));
    }
    css
}

/// The page's colour, where the faintest text on it is readable; else the theme's own with a trace of it: it was chosen for the other.
fn page_of(background: Rgb, theme: &Theme) -> Rgb {
    let traced = mix(theme.bg, background, 2);
    [background, traced].into_iter().find(|c| is_readable(theme.ink_3, *c)).unwrap_or(theme.bg)
}

/// White or black, whichever is readable on the colour. One of them always is.
fn on(color: Rgb) -> Rgb {
    if is_readable(WHITE, color) { WHITE } else { BLACK }
}

/// The first colour on the way that is good. The end of the way is.
fn moved(from: Rgb, to: Rgb, is_good: impl Fn(Rgb) -> bool) -> Rgb {
    (0..=STEPS).map(|step| mix(from, to, step)).find(|c| is_good(*c)).unwrap_or(to)
}

fn mix(from: Rgb, to: Rgb, step: u8) -> Rgb {
    let part = |i: usize| {
        let (a, b) = (u32::from(from.0[i]), u32::from(to.0[i]));
        let (step, steps) = (u32::from(step), u32::from(STEPS));
        u8::try_from((a * (steps - step) + b * step + steps / 2) / steps).unwrap_or(u8::MAX)
    };
    Rgb([part(0), part(1), part(2)])
}

fn is_readable(text: Rgb, ground: Rgb) -> bool {
    contrast(text, ground) >= CONTRAST_MIN
}

/// Contrast of two colours, by WCAG.
pub(super) fn contrast(a: Rgb, b: Rgb) -> f64 {
    let (a, b) = (a.luminance(), b.luminance());
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

impl Rgb {
    /// Reads `#rrggbb`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('#').filter(|d| d.len() == 6 && d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let part = |i: usize| u8::from_str_radix(&digits[i..i + 2], 16).ok();
        Some(Self([part(0)?, part(2)?, part(4)?]))
    }

    fn luminance(self) -> f64 {
        let [r, g, b] = self.0.map(|part| {
            let part = f64::from(part) / 255.0;
            if part <= 0.040_45 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }
}

impl std::fmt::Display for Rgb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [r, g, b] = self.0;
        write!(f, "#{r:02x}{g:02x}{b:02x}")
    }
}
