//! The face that PNGs are set in, and how wide a text in it is.

use std::sync::OnceLock;

use plotters::style::{FontStyle, IntoFont, register_font};

pub(crate) const FAMILY: &str = "sans-serif";
/// Height of the face's lines over its em, from the `hhea` table: ab_glyph is
/// given the former, and type is set in the latter.
pub(crate) const FACE_HEIGHT: f64 = 1.121;

/// Width of a text in logical pixels, in the face the PNGs are set in.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    // Measured large, because plotters answers in whole pixels.
    const MEASURED_AT: f64 = 200.0;
    prepare_fonts();
    let measured = (FAMILY, MEASURED_AT * FACE_HEIGHT).into_font().layout_box(text);
    match measured {
        Ok(((left, _), (right, _))) => f64::from(right - left) / MEASURED_AT * size,
        // Without the face nothing is drawn as PNG, and half an em a character
        // is what faces come to.
        Err(_) => text.chars().count() as f64 * size * 0.5,
    }
}

/// Registers the face the PNGs are set in; whether that worked.
pub(crate) fn prepare_fonts() -> bool {
    static READY: OnceLock<bool> = OnceLock::new();
    *READY.get_or_init(|| {
        register_font(FAMILY, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_measured_in_the_real_face() {
        assert!(prepare_fonts());
        let (narrow, wide) = (text_width("iii", 10.0), text_width("WWW", 10.0));
        assert!(narrow > 0.0 && narrow * 2.0 < wide, "{narrow} {wide}");
        assert!((text_width("WWW", 20.0) - 2.0 * wide).abs() < 0.01);
    }
}
