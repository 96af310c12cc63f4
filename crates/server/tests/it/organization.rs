//! The organization, and how its apps look.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use grantd_domain::env::Clock as _;
use grantd_store::operators::Role;
use grantd_wire::ids::AppId;
use grantd_wire::{Code, TimeMs, limits};
use serde_json::{Value, json};

use crate::harness::{Answer, Raw, Server};

on_kept_engines! {
    an_organization_is_called_something_else,
    an_organization_bounds_how_long_new_tokens_live,
    branding_is_set_field_by_field_and_reset,
    a_logo_is_drawn_anew_served_and_removed,
}

in_memory! {
    branding_keeps_its_bounds,
    a_logo_keeps_its_bounds,
}

async fn an_organization_is_called_something_else(server: Server) {
    let path = "/api/v1/organization";
    let before = server.api("GET", path, Value::Null).await.ok(200);
    let renamed = server.api("PATCH", path, json!({"name": "Example Ltd"})).await.ok(200);
    assert_eq!((&renamed["name"], &renamed["id"]), (&json!("Example Ltd"), &before["id"]));
    assert_eq!(server.api("GET", path, Value::Null).await.ok(200), renamed);
    server.api("PATCH", path, json!({"name": "Example Ltd"})).await.ok(200);
    let told = server.api("GET", "/api/v1/audit/events?kind=organization.updated", Value::Null).await.ok(200);
    let told = told["items"].as_array().unwrap();
    assert_eq!((told.len(), &told[0]["changed"]["name"]), (1, &json!([before["name"], "Example Ltd"])));
    for name in [String::new(), "n".repeat(limits::NAME_CHARS_MAX + 1)] {
        server.api("PATCH", path, json!({"name": name})).await.names(Code::InvalidValue, "name");
    }
    server.api("PATCH", path, json!({"name": "n".repeat(limits::NAME_CHARS_MAX)})).await.ok(200);
    let world = server.world().await;
    let pat = server.new_pat(Role::Admin, Some(vec![AppId::parse(&world.app).unwrap()]), None).await;
    server.api_as(&pat, "GET", path, Value::Null).await.refused(Code::RoleRequired);
    server.api_as(&pat, "PATCH", path, json!({"name": "n"})).await.refused(Code::RoleRequired);
}

async fn an_organization_bounds_how_long_new_tokens_live(server: Server) {
    let path = "/api/v1/organization";
    let make = |body: Value| {
        let server = server.clone();
        async move { server.api("POST", "/api/v1/tokens", crate::harness::world::merged(json!({"name": "t"}), body)).await }
    };
    let before = server.api("GET", path, Value::Null).await.ok(200);
    assert_eq!(before["token_days_max"], Value::Null);
    let old = make(json!({"expires_in_seconds": 100 * 86_400})).await.ok(201);
    let set = server.api("PATCH", path, json!({"token_days_max": 30})).await.ok(200);
    assert_eq!((&set["token_days_max"], &set["name"]), (&json!(30), &before["name"]));
    make(json!({"expires_in_seconds": 30 * 86_400})).await.ok(201);
    make(json!({"expires_in_seconds": 30 * 86_400 + 1})).await.names(Code::InvalidValue, "expires_in_seconds");
    let usual = make(json!({})).await.ok(201);
    let end = |token: &Value| TimeMs::parse(token["expires_at"].as_str().unwrap()).unwrap();
    assert_eq!(end(&usual), server.env.now().plus_seconds(30 * 86_400));
    // What was made before lives on.
    let shown =
        server.api("GET", &format!("/api/v1/tokens/{}", old["id"].as_str().unwrap()), Value::Null).await.ok(200);
    assert_eq!(shown["expires_at"], old["expires_at"]);
    for bad in [-1, limits::PAT_DAYS_MAX + 1] {
        server.api("PATCH", path, json!({"token_days_max": bad})).await.names(Code::InvalidValue, "token_days_max");
    }
    server.api("PATCH", path, json!({"token_days_max": limits::PAT_DAYS_MAX})).await.ok(200);
    make(json!({"expires_in_seconds": limits::LIFETIME_SECONDS_MAX})).await.ok(201);
    server.api("PATCH", path, json!({"token_days_max": 0})).await.ok(200);
    server.api("PATCH", path, json!({})).await.ok(200);
    assert_eq!(server.api("GET", path, Value::Null).await.ok(200), before);
    let told = server.api("GET", "/api/v1/audit/events?kind=organization.updated", Value::Null).await.ok(200);
    let told: Vec<&Value> =
        told["items"].as_array().unwrap().iter().map(|event| &event["changed"]["token_days_max"]).collect();
    assert_eq!(told.len(), 3, "what changes nothing is no event");
    assert!(
        [json!([null, 30]), json!([30, 3660]), json!([3660, null])].iter().all(|change| told.contains(&change)),
        "{told:?}"
    );
}

async fn branding_is_set_field_by_field_and_reset(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let path = world.path("branding");
    let none =
        json!({"display_name": null, "accent_color": null, "background_color": null, "logo": null, "updated_at": null});
    assert_eq!(server.api("GET", &path, Value::Null).await.ok(200), none);
    server.api("PATCH", &path, json!({"display_name": "Shop", "accent_color": "#0A7CFF"})).await.ok(200);
    let set = server.api("PATCH", &path, json!({"background_color": "#ffffff"})).await.ok(200);
    assert_eq!((&set["display_name"], &set["accent_color"]), (&json!("Shop"), &json!("#0a7cff")));
    assert_eq!(server.api("GET", &path, Value::Null).await.ok(200), set);
    assert_eq!(server.api("GET", &other.path("branding"), Value::Null).await.ok(200), none);
    let cleared = server.api("PATCH", &path, json!({"accent_color": ""})).await.ok(200);
    assert_eq!((&cleared["accent_color"], &cleared["display_name"]), (&Value::Null, &json!("Shop")));
    server.api("PATCH", &path, json!({"accent_color": ""})).await.ok(200);
    for _ in 0..2 {
        assert_eq!(server.api("DELETE", &path, Value::Null).await.ok(200), none);
    }
    assert_eq!(server.api("GET", &path, Value::Null).await.ok(200), none);
    let told = server.told(&world, "branding.updated").await;
    assert_eq!(told.len(), 4, "what changes nothing is no event");
    assert_eq!(told[2]["changed"], json!({"accent_color": ["#0a7cff", null]}));
    assert_eq!(told[3]["changed"], json!({"display_name": ["Shop", null], "background_color": ["#ffffff", null]}));
    server.token(&world).await.ok(200);
}

async fn branding_keeps_its_bounds(server: Server) {
    let world = server.world().await;
    let path = world.path("branding");
    for bad in ["0a7cff", "#0a7cf", "#0a7cfff", "#0a7cfg", "red", "#0a7cff;", "url(x)"] {
        for field in ["accent_color", "background_color"] {
            server.api("PATCH", &path, json!({field: bad})).await.names(Code::InvalidValue, field);
        }
    }
    let name = "é".repeat(limits::NAME_CHARS_MAX);
    server.api("PATCH", &path, json!({"display_name": name})).await.ok(200);
    for bad in [format!("{name}é"), " a".to_owned(), "a\u{1b}[31m".to_owned()] {
        server.api("PATCH", &path, json!({"display_name": bad})).await.names(Code::InvalidValue, "display_name");
    }
}

/// A picture of one colour, as a file.
pub fn picture(side: u32) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    let picture = image::RgbaImage::from_pixel(side, side, image::Rgba([10, 124, 255, 255]));
    picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
    file.into_inner()
}

/// One that no encoding makes smaller.
pub fn noise(side: u32) -> Vec<u8> {
    let mut state = 1u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    let picture = image::RgbImage::from_fn(side, side, |_, _| image::Rgb([byte(), byte(), byte()]));
    let mut file = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
    file.into_inner()
}

/// What a browser gets.
async fn got(server: &Server, path: &str) -> Answer {
    server.send(Raw::new("GET", path, "")).await
}

async fn a_logo_is_drawn_anew_served_and_removed(server: Server) {
    let (world, other) = (server.world().await, server.world_named("Other").await);
    let path = world.path("branding");
    let mut file = picture(8);
    file.extend_from_slice(b"<script>alert(1)</script>");
    let set = server.api("PATCH", &path, json!({"logo": BASE64_STANDARD.encode(&file)})).await.ok(200);
    let logo = set["logo"].as_str().unwrap().to_owned();
    assert!(logo.starts_with(&format!("/brand/{}.png?v=", world.app)), "{logo}");
    let served = got(&server, &logo).await;
    assert_eq!((served.status, served.header("content-type")), (200, "image/png"));
    assert!(!served.text.contains("<script"), "only what is seen in it is kept");
    assert_eq!(got(&server, &format!("/brand/{}.png", other.app)).await.status, 404);
    // Other fields leave it; the same picture changes nothing.
    let named = server.api("PATCH", &path, json!({"display_name": "Shop"})).await.ok(200);
    assert_eq!(named["logo"], logo);
    server.api("PATCH", &path, json!({"logo": BASE64_STANDARD.encode(&file)})).await.ok(200);
    let another = server.api("PATCH", &path, json!({"logo": BASE64_STANDARD.encode(picture(9))})).await.ok(200);
    assert_ne!(another["logo"], logo);
    let none = server.api("PATCH", &path, json!({"logo": ""})).await.ok(200);
    assert_eq!((&none["logo"], &none["display_name"]), (&Value::Null, &json!("Shop")));
    assert_eq!(got(&server, &logo).await.status, 404);
    let told = server.told(&world, "branding.updated").await;
    let logos: Vec<&Value> = told.iter().map(|event| &event["changed"]["logo"]).collect();
    assert_eq!(
        logos,
        [&json!([null, logo]), &Value::Null, &json!([logo, another["logo"]]), &json!([another["logo"], null])]
    );
    server.api("PATCH", &path, json!({"logo": BASE64_STANDARD.encode(picture(9))})).await.ok(200);
    assert_eq!(server.api("DELETE", &path, Value::Null).await.ok(200)["logo"], Value::Null);
    assert_eq!(got(&server, another["logo"].as_str().unwrap()).await.status, 404);
}

async fn a_logo_keeps_its_bounds(server: Server) {
    let path = server.world().await.path("branding");
    // What follows a picture is not read, so that it can be of any length.
    let padded = |bytes: usize| {
        let mut file = picture(8);
        file.resize(bytes, 0);
        json!({"logo": BASE64_STANDARD.encode(file)})
    };
    server.api("PATCH", &path, padded(limits::LOGO_BYTES_MAX)).await.ok(200);
    server.api("PATCH", &path, padded(limits::LOGO_BYTES_MAX + 1)).await.names(Code::InvalidValue, "logo");
    server.api("PATCH", &path, padded(limits::LOGO_BYTES_MAX + 3)).await.names(Code::InvalidValue, "logo");
    // Whatever is in it, what is served has a bound, too.
    let set = server.api("PATCH", &path, json!({"logo": BASE64_STANDARD.encode(noise(280))})).await.ok(200);
    let served = got(&server, set["logo"].as_str().unwrap()).await.bytes;
    assert!((20_000..=limits::LOGO_KEPT_BYTES_MAX).contains(&served), "{served}");
    for bad in ["no base64!", "aGVsbG8=", "PHN2Zy8+"] {
        server.api("PATCH", &path, json!({"logo": bad})).await.names(Code::InvalidValue, "logo");
    }
}
