//! Pictures that operators give: what is served is never their file, but what was seen in it, drawn anew.

use std::io::Cursor;

use grantd_wire::limits;
use image::codecs::png::{CompressionType, FilterType as PngFilter, PngEncoder};
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits};

/// Memory that reading one picture may take: all pixels of the largest one, and as much again to work in.
const MEMORY_MAX: u64 = 2 * 4 * (limits::LOGO_GIVEN_PX_MAX as u64).pow(2);

/// Why a picture is none that can be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// Of another kind, or broken.
    NotAPicture,
    /// Too many pixels.
    TooLarge,
}

impl Refused {
    /// In words that follow the name of a field.
    pub fn says(self) -> &'static str {
        match self {
            Self::NotAPicture => "must be a whole PNG, JPEG or WebP picture",
            Self::TooLarge => "must be a picture of at most 4096 pixels a side",
        }
    }
}

/// Pixels of the longer side that are tried, until the picture has no more than [`limits::LOGO_KEPT_BYTES_MAX`]. Of the last size it
/// has not, whatever is to be seen: a pixel takes four bytes.
const SIDES: [u32; 7] = [limits::LOGO_KEPT_PX_MAX, 192, 160, 128, 112, 96, 80];
const _: () = assert!(4 * SIDES[SIDES.len() - 1].pow(2) as usize + 2_048 <= limits::LOGO_KEPT_BYTES_MAX);

/// The picture as a PNG of at most [`limits::LOGO_KEPT_PX_MAX`] a side and [`limits::LOGO_KEPT_BYTES_MAX`], the way up that its camera
/// said, without anything else that was in the file.
pub fn drawn_anew(file: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut reader = ImageReader::new(Cursor::new(file)).with_guessed_format().map_err(|_| Refused::NotAPicture)?;
    if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) {
        return Err(Refused::NotAPicture);
    }
    let mut bounds = Limits::no_limits();
    bounds.max_image_width = Some(limits::LOGO_GIVEN_PX_MAX);
    bounds.max_image_height = Some(limits::LOGO_GIVEN_PX_MAX);
    bounds.max_alloc = Some(MEMORY_MAX);
    reader.limits(bounds);
    let refused = |error| match error {
        image::ImageError::Limits(_) => Refused::TooLarge,
        _ => Refused::NotAPicture,
    };
    let mut decoder = reader.into_decoder().map_err(refused)?;
    let orientation = decoder.orientation().map_err(refused)?;
    let mut seen = DynamicImage::from_decoder(decoder).map_err(refused)?;
    seen.apply_orientation(orientation);
    let fitting = |picture: &DynamicImage, side: u32| match picture.width() > side || picture.height() > side {
        true => picture.resize(side, side, FilterType::Lanczos3),
        false => picture.clone(),
    };
    let seen = fitting(&seen, limits::LOGO_KEPT_PX_MAX);
    for side in SIDES {
        let png = written(&fitting(&seen, side)).map_err(refused)?;
        if png.len() <= limits::LOGO_KEPT_BYTES_MAX {
            return Ok(png);
        }
    }
    Err(Refused::TooLarge)
}

/// As a PNG, without a channel for what can be seen through it if there is nothing of that kind.
fn written(picture: &DynamicImage) -> image::ImageResult<Vec<u8>> {
    let rgba = picture.to_rgba8();
    let is_opaque = rgba.pixels().all(|pixel| pixel.0[3] == u8::MAX);
    let mut png = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut png, CompressionType::Best, PngFilter::Adaptive);
    match is_opaque {
        true => DynamicImage::from(rgba).to_rgb8().write_with_encoder(encoder)?,
        false => rgba.write_with_encoder(encoder)?,
    }
    Ok(png)
}

#[cfg(test)]
mod tests {
    use image::{Rgba, RgbaImage};

    use super::*;

    fn file(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
        let mut picture = RgbaImage::from_pixel(width, height, Rgba([10, 124, 255, 255]));
        picture.put_pixel(0, 0, Rgba([255, 0, 0, 255]));
        let mut file = Cursor::new(Vec::new());
        let picture = DynamicImage::from(picture);
        let picture = if format == ImageFormat::Jpeg { picture.into_rgb8().into() } else { picture };
        picture.write_to(&mut file, format).unwrap();
        file.into_inner()
    }

    fn seen(png: &[u8]) -> RgbaImage {
        image::load_from_memory_with_format(png, ImageFormat::Png).unwrap().into_rgba8()
    }

    #[test]
    fn every_known_kind_becomes_a_png() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
            let drawn = seen(&drawn_anew(&file(64, 32, format)).unwrap());
            assert_eq!(drawn.dimensions(), (64, 32), "{format:?}");
            assert!(drawn.get_pixel(40, 20).0[2] > 240, "{format:?}");
        }
    }

    #[test]
    fn what_is_larger_than_it_is_shown_is_made_smaller() {
        let side = limits::LOGO_KEPT_PX_MAX;
        assert_eq!(seen(&drawn_anew(&file(side, side, ImageFormat::Png)).unwrap()).dimensions(), (side, side));
        let drawn = seen(&drawn_anew(&file(side * 2, side + 2, ImageFormat::Png)).unwrap());
        assert_eq!(drawn.dimensions(), (side, side / 2 + 1));
    }

    /// A picture that no encoding makes smaller, and that light shines through or not.
    fn noise(side: u32, is_opaque: bool) -> Vec<u8> {
        let mut state = 1u64;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        };
        let pixel = |_, _| Rgba([byte(), byte(), byte(), if is_opaque { 255 } else { byte() }]);
        let mut file = Cursor::new(Vec::new());
        RgbaImage::from_fn(side, side, pixel).write_to(&mut file, ImageFormat::Png).unwrap();
        file.into_inner()
    }

    #[test]
    fn what_stays_large_is_kept_with_fewer_pixels() {
        for (is_opaque, least) in [(true, 96), (false, 80)] {
            for side in [81, 97, 256, 300] {
                let drawn = drawn_anew(&noise(side, is_opaque)).unwrap();
                assert!(drawn.len() <= limits::LOGO_KEPT_BYTES_MAX, "{side} {is_opaque}: {} bytes", drawn.len());
                assert!(seen(&drawn).width() >= least.min(side), "{side} {is_opaque}: {}", seen(&drawn).width());
            }
        }
        // One whose bytes are within the bound stays as it is.
        let drawn = drawn_anew(&file(256, 256, ImageFormat::Png)).unwrap();
        assert_eq!(seen(&drawn).dimensions(), (256, 256));
    }

    #[test]
    fn pixels_have_a_bound() {
        let most = limits::LOGO_GIVEN_PX_MAX;
        assert!(drawn_anew(&file(most, 1, ImageFormat::Png)).is_ok());
        assert!(drawn_anew(&file(1, most, ImageFormat::Png)).is_ok());
        for (width, height) in [(most + 1, 1), (1, most + 1)] {
            for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
                assert_eq!(drawn_anew(&file(width, height, format)), Err(Refused::TooLarge), "{format:?}");
            }
        }
    }

    #[test]
    fn nothing_else_of_the_file_is_kept() {
        let mut file = file(8, 8, ImageFormat::Png);
        file.extend_from_slice(b"<script>alert(1)</script>");
        let drawn = drawn_anew(&file).unwrap();
        assert!(!drawn.windows(7).any(|bytes| bytes == b"<script"));
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let whole = file(64, 64, ImageFormat::Png);
        let svg = br#"<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>"#;
        let gif = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!";
        for bad in [&b""[..], b"\x89PNG\r\n\x1a\n", svg, gif, &whole[..whole.len() / 2], &[0xff; 64]] {
            assert_eq!(drawn_anew(bad), Err(Refused::NotAPicture), "{:?}", &bad[..bad.len().min(8)]);
        }
    }
}
