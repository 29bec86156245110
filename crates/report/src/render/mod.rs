//! Drawings onto plotters backends: SVG for the page, PNG for everything else.
//!
//! Both come from one pass over the same marks. They differ in the pen: the SVG
//! is drawn at ten times the logical size, because plotters counts in whole
//! pixels, and in colours that stand for paints; the PNG in the light colours.

mod png;
mod svg;

use plotters::{
    prelude::DrawingBackend,
    style::{
        Color, FontStyle, FontTransform, IntoFont, RGBAColor, ShapeStyle, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

pub use self::{
    png::{DENSITY, PngError, png},
    svg::{Svg, svg},
};
use crate::{
    drawing::{Anchor, Fill, Font, Mark, Point, Stroke},
    fonts::{FACE_HEIGHT, FAMILY},
    palette::{Paint, Rgb},
};

/// How marks are put onto a backend.
struct Pen {
    /// Device pixels per logical pixel.
    scale: f64,
    colour: fn(Paint) -> Rgb,
    text: TextPlacing,
}

/// How a backend places text relative to the point it is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TextPlacing {
    /// SVG: by an offset from the base line which is taken out afterwards.
    Svg,
    /// Bitmap: plotters' ab_glyph code puts the base line half the size below.
    Bitmap,
}

/// Draws marks, from back to front. The error is what the backend said.
fn paint<B: DrawingBackend>(marks: &[Mark], backend: &mut B, pen: &Pen) -> Result<(), String> {
    for mark in marks {
        match mark {
            Mark::Path { points, stroke } => {
                for piece in dashes(points, *stroke) {
                    backend
                        .draw_path(pen.points(&piece), &pen.stroke(*stroke))
                        .map_err(|error| error.to_string())?;
                }
            }
            Mark::Area { points, fill } => backend
                .fill_polygon(pen.points(points), &pen.fill(*fill))
                .map_err(|error| error.to_string())?,
            Mark::Rect { bounds, fill } => {
                let upper_left = pen.point((bounds.x, bounds.y));
                let mut lower_right = pen.point((bounds.right(), bounds.bottom()));
                // A bar of something is never drawn as nothing.
                lower_right.0 = lower_right.0.max(upper_left.0 + 1);
                lower_right.1 = lower_right.1.max(upper_left.1 + 1);
                if pen.text == TextPlacing::Bitmap {
                    // The bitmap backend includes the last pixel.
                    lower_right = (lower_right.0 - 1, lower_right.1 - 1);
                }
                backend
                    .draw_rect(upper_left, lower_right, &pen.fill(*fill), true)
                    .map_err(|error| error.to_string())?;
            }
            Mark::Dot { at, radius, fill } => {
                let radius = (radius * pen.scale).round().max(1.0) as u32;
                backend
                    .draw_circle(pen.point(*at), radius, &pen.fill(*fill), true)
                    .map_err(|error| error.to_string())?;
            }
            Mark::Text { at, text, font } => pen.text(backend, *at, text, font)?,
        }
    }
    Ok(())
}

impl Pen {
    fn point(&self, (x, y): Point) -> (i32, i32) {
        ((x * self.scale).round() as i32, (y * self.scale).round() as i32)
    }

    fn points(&self, points: &[Point]) -> Vec<(i32, i32)> {
        points.iter().map(|point| self.point(*point)).collect()
    }

    fn rgba(&self, paint: Paint, alpha: f64) -> RGBAColor {
        let (red, green, blue) = (self.colour)(paint);
        RGBAColor(red, green, blue, alpha)
    }

    fn stroke(&self, stroke: Stroke) -> ShapeStyle {
        ShapeStyle {
            color: self.rgba(stroke.paint, stroke.alpha),
            filled: false,
            stroke_width: (stroke.width * self.scale).round().max(1.0) as u32,
        }
    }

    fn fill(&self, fill: Fill) -> ShapeStyle {
        ShapeStyle { color: self.rgba(fill.paint, fill.alpha), filled: true, stroke_width: 0 }
    }

    fn text<B: DrawingBackend>(
        &self,
        backend: &mut B,
        at: Point,
        text: &str,
        font: &Font,
    ) -> Result<(), String> {
        let size = font.size * self.scale;
        let horizontal = match font.anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let style = |size: f64, vertical: VPos| -> TextStyle<'static> {
            let weight = if font.bold { FontStyle::Bold } else { FontStyle::Normal };
            let mut desc = (FAMILY, size).into_font().style(weight);
            if font.upwards {
                desc = desc.transform(FontTransform::Rotate270);
            }
            TextStyle {
                font: desc,
                color: self.rgba(font.paint, 1.0).to_backend_color(),
                pos: Pos::new(horizontal, vertical),
            }
        };
        if self.text == TextPlacing::Svg {
            // 1.24 is what plotters divides by.
            return backend
                .draw_text(text, &style(size * 1.24, VPos::Bottom), self.point(at))
                .map_err(|error| error.to_string());
        }
        let set_size = size * FACE_HEIGHT;
        let style = style(set_size, VPos::Top);
        let (x, y) = self.point(at);
        let drop = (set_size / 2.0).round() as i32;
        let (x, y) = if font.upwards { (x - drop, y) } else { (x, y - drop) };
        // The face comes in one weight. A bold one is a thicker one.
        let strokes: &[f64] = if font.bold { &[-0.25, 0.0, 0.25] } else { &[0.0] };
        for offset in strokes {
            let shift = (offset * self.scale * font.size / 13.0).round() as i32;
            backend.draw_text(text, &style, (x + shift, y)).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// A line cut into its dashes; the whole line without.
fn dashes(points: &[Point], stroke: Stroke) -> Vec<Vec<Point>> {
    let Some((on, off)) = stroke.dash else {
        return vec![points.to_vec()];
    };
    let mut pieces = Vec::new();
    let (mut drawing, mut left) = (true, on);
    let mut piece: Vec<Point> = points.first().copied().into_iter().collect();
    for pair in points.windows(2) {
        let (mut from, to) = (pair[0], pair[1]);
        loop {
            let length = (to.0 - from.0).hypot(to.1 - from.1);
            if length <= left {
                left -= length;
                if drawing {
                    piece.push(to);
                }
                break;
            }
            let part = left / length;
            from = (from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part);
            if drawing {
                piece.push(from);
                pieces.push(std::mem::take(&mut piece));
            } else {
                piece = vec![from];
            }
            drawing = !drawing;
            left = if drawing { on } else { off };
        }
    }
    if piece.len() >= 2 {
        pieces.push(piece);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_cover_the_line_and_leave_gaps() {
        let stroke = Stroke::new(Paint::Ink, 1.0).dashed(4.0, 2.0);
        let pieces = dashes(&[(0.0, 0.0), (13.0, 0.0)], stroke);
        assert_eq!(
            pieces,
            [
                vec![(0.0, 0.0), (4.0, 0.0)],
                vec![(6.0, 0.0), (10.0, 0.0)],
                vec![(12.0, 0.0), (13.0, 0.0)],
            ]
        );
        let corner = dashes(&[(0.0, 0.0), (3.0, 0.0), (3.0, 3.0)], stroke);
        assert_eq!(corner, [vec![(0.0, 0.0), (3.0, 0.0), (3.0, 1.0)]]);
    }
}
