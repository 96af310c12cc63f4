//! Style sheets, scripts, colours.

use grantd_wire::api::Branding;

use super::super::brand::{DARK, LIGHT, Rgb, contrast};
use super::super::*;

const TOKENS: &str = include_str!("../../../assets/tokens.css");
const SHEETS: &[&str] = &[
    TOKENS,
    include_str!("../../../assets/base.css"),
    include_str!("../../../assets/parts.css"),
    include_str!("../../../assets/sheet.css"),
    include_str!("../../../assets/portal.css"),
];

/// The declarations of the first block behind `start`, without comments.
fn block(css: &str, start: &str) -> Vec<(String, String)> {
    let mut plain = String::new();
    for (i, part) in css.split("/*").enumerate() {
        plain.push_str(if i == 0 { part } else { part.split_once("*/").unwrap().1 });
    }
    let body = plain.split_once(start).unwrap().1.split_once('{').unwrap().1.split_once('}').unwrap().0;
    let lines = body.split(';').filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

fn color(block: &[(String, String)], name: &str) -> Rgb {
    Rgb::parse(&block.iter().find(|(n, _)| n == name).unwrap().1).unwrap()
}

#[test]
fn the_dark_theme_is_one() {
    let by_system = block(TOKENS, ":root:not([data-theme=\"light\"])");
    let by_choice = block(TOKENS, ":root[data-theme=\"dark\"]");
    assert!(by_system.len() > 30, "{by_system:?}");
    assert_eq!(by_system, by_choice);
}

#[test]
fn colours_of_apps_are_measured_against_the_ones_that_are_served() {
    // The light values are those of the second block of the file.
    let light = block(TOKENS.split_once("--brand-page").unwrap().1, ":root");
    let dark = block(TOKENS, ":root[data-theme=\"dark\"]");
    for (values, theme) in [(light, &LIGHT), (dark, &DARK)] {
        assert_eq!(color(&values, "--surface"), theme.surface);
        assert_eq!(color(&values, "--bg"), theme.bg);
        assert_eq!(color(&values, "--ink-3"), theme.ink_3);
    }
}

fn branding(accent: Option<&str>, background: Option<&str>) -> Branding {
    Branding {
        accent_color: accent.map(str::to_owned),
        background_color: background.map(str::to_owned),
        ..Branding::default()
    }
}

#[test]
fn any_colours_of_an_app_stay_readable() {
    let steps = [0u8, 51, 102, 153, 204, 255];
    let colors: Vec<String> = steps
        .iter()
        .flat_map(|r| steps.iter().flat_map(move |g| steps.map(|b| Rgb([*r, *g, b]).to_string())))
        .collect();
    for (i, accent) in colors.iter().enumerate() {
        let background = &colors[(i * 37) % colors.len()];
        let css = brand_css(&branding(Some(accent), Some(background)));
        for (start, theme) in [(":root", &LIGHT), (":root[data-theme=\"dark\"]", &DARK)] {
            let values = block(&css, start);
            let value = |name: &str| color(&values, name);
            let (page, solid, on) = (value("--brand-page"), value("--brand-solid"), value("--brand-on-solid"));
            let readable = |text, ground, what: &str| {
                let found = contrast(text, ground);
                assert!(found >= 4.5, "{what} of {accent} and {background}: {found}");
            };
            assert_eq!(solid.to_string(), *accent, "the button has the colour that was chosen");
            readable(on, solid, "the button");
            readable(on, value("--brand-solid-hover"), "the button under the pointer");
            readable(value("--brand-accent"), theme.surface, "links");
            readable(value("--brand-accent"), page, "links on the page");
            readable(theme.ink_3, page, "the footer");
        }
    }
}

#[test]
fn an_app_sets_its_colours_and_nothing_else() {
    let css = brand_css(&branding(Some("#7a2d4f"), Some("#faf7f5")));
    let known = ["page", "solid", "solid-hover", "on-solid", "accent"].map(|n| format!("--brand-{n}"));
    for start in [":root", "not([data-theme=\"light\"])", "[data-theme=\"dark\"]"] {
        let names: Vec<String> = block(&css, start).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, known, "{css}");
    }
    assert_eq!(css.matches('{').count(), css.matches('}').count());
    let none = brand_css(&Branding::default());
    for bad in ["red", "#12345", "#1234567", "#12345g", "#fff;}body{display:none", "url(x)", "+1234", "#+12345"] {
        assert_eq!(brand_css(&branding(Some(bad), Some(bad))), none, "{bad}");
    }
}

#[test]
fn the_address_of_a_brand_changes_with_it() {
    let href = |accent| brand_href("app_1", &branding(accent, None));
    assert_eq!(href(None), None);
    let (one, two) = (href(Some("#7a2d4f")).unwrap(), href(Some("#7a2d50")).unwrap());
    assert!(one.starts_with("/brand/app_1.css?v=") && one != two, "{one} {two}");
    let answer = brand_answer(&branding(Some("#7a2d4f"), None));
    assert_eq!(answer.headers()["content-type"], "text/css; charset=utf-8");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
}

#[test]
fn assets_are_kept_for_ever_under_the_hash_of_their_content() {
    let path = super::super::assets::path("connect.js").unwrap();
    let answer = asset(path).unwrap();
    assert_eq!(answer.headers()["cache-control"], "public, max-age=31536000, immutable");
    assert_eq!(answer.headers()["content-type"], "text/javascript; charset=utf-8");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    let hash = path.split('.').nth(1).unwrap();
    assert_eq!(hash.len(), 16);
    for other in [
        path.replace(hash, "0000000000000000"),
        path.replace(&format!(".{hash}"), ""),
        format!("{path}/"),
        "/assets/".to_owned(),
    ] {
        assert!(asset(&other).is_none(), "{other}");
    }
}

#[test]
fn style_sheets_load_nothing_and_move_nothing_for_who_does_not_want_it() {
    for sheet in SHEETS {
        assert!(!sheet.contains("url(") && !sheet.contains("@import"), "{sheet}");
        let moves = sheet.contains("animation:") || sheet.contains("transition:");
        let stills = sheet.contains("prefers-reduced-motion");
        assert!(!moves || stills, "{sheet}");
    }
}

#[test]
fn every_variable_of_the_style_sheets_is_a_token() {
    for sheet in SHEETS {
        for (_, rest) in sheet.match_indices("var(").map(|(at, found)| sheet.split_at(at + found.len())) {
            let name = rest.split([')', ',']).next().unwrap();
            assert!(TOKENS.contains(&format!("{name}:")), "{name} is not in tokens.css");
        }
    }
}
