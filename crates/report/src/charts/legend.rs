//! A row of swatches with names, for what can't be labelled where it lies.

use super::fit;
use crate::{
    drawing::{Bounds, Drawing, Fill, Font},
    palette::Paint,
};

const SWATCH: f64 = 11.0;
const LINE: f64 = 18.0;

/// Draws a legend from `at` on, breaking lines at `width`; its height.
pub(super) fn draw(
    drawing: &mut Drawing,
    at: (f64, f64),
    width: f64,
    entries: &[(Paint, String)],
) -> f64 {
    let font = Font::new(12.0).paint(Paint::Soft);
    let (mut x, mut y) = at;
    for (paint, name) in entries {
        let name = fit(name, font, width - SWATCH - 6.0);
        let needed = SWATCH + 6.0 + font.width(&name);
        if x > at.0 && x + needed > at.0 + width {
            x = at.0;
            y += LINE;
        }
        let swatch = Bounds { x, y, width: SWATCH, height: SWATCH };
        drawing.ground().rect(swatch, Fill::new(*paint));
        drawing.ground().text((x + SWATCH + 6.0, y + 10.0), name, font);
        x += needed + 16.0;
    }
    y - at.1 + LINE
}

/// Height that [`draw`] will need.
pub(super) fn height(width: f64, entries: &[(Paint, String)]) -> f64 {
    draw(&mut Drawing::new(width, 0.0), (0.0, 0.0), width, entries)
}
