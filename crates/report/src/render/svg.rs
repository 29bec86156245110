//! The SVG that stands in the page.
//!
//! plotters draws each group into a document of its own, whose frame is taken
//! off; the frame around all groups is ours, so that groups can carry the peer
//! they belong to and a text for the pointer. plotters can only write fixed
//! colours, so it is given ones that stand for paints, and they are replaced by
//! classes: the page's style sheet gives those their colour, light or dark.

use std::fmt::Write as _;

use plotters::prelude::{DrawingBackend, SVGBackend};

use super::{Pen, TextPlacing, paint};
use crate::{
    drawing::Drawing,
    escape::escape,
    palette::{Paint, Rgb},
};

/// Units per logical pixel. plotters has whole coordinates only, and lines a
/// pixel and a half wide.
const SCALE: f64 = 10.0;

/// An SVG element that was made here, and so may stand in a page as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Svg(String);

impl Svg {
    /// The element's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Draws as SVG. `label` is what a reader is told who doesn't see it, `class`
/// the element's class.
pub fn svg(drawing: &Drawing, label: &str, class: &'static str) -> Svg {
    let (width, height) = (drawing.width, drawing.height);
    let mut text = format!(
        "<svg class=\"{class}\" viewBox=\"0 0 {:.0} {:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-label=\"{}\">\n",
        width * SCALE,
        height * SCALE,
        escape(label),
    );
    for group in &drawing.groups {
        let inner = marks(drawing, group);
        match (&group.peer, &group.tip) {
            (None, None) => text.push_str(&inner),
            (peer, tip) => {
                text.push_str("<g");
                if let Some(peer) = peer {
                    let _ = write!(text, " data-peer=\"{}\"", escape(peer));
                }
                if tip.is_some() {
                    text.push_str(" class=\"tip\"");
                }
                text.push('>');
                if let Some(tip) = tip {
                    let _ = write!(text, "<title>{}</title>", escape(tip));
                }
                text.push('\n');
                text.push_str(&inner);
                text.push_str("</g>\n");
            }
        }
    }
    text.push_str("</svg>\n");
    Svg(text)
}

/// A group's elements, with classes for colours.
fn marks(drawing: &Drawing, group: &crate::drawing::Group) -> String {
    let size = ((drawing.width * SCALE) as u32, (drawing.height * SCALE) as u32);
    let mut document = String::new();
    {
        let mut backend = SVGBackend::with_string(&mut document, size);
        let pen = Pen { scale: SCALE, colour: stand_in, text: TextPlacing::Svg };
        // Writing to a string can't fail.
        let _ = paint(&group.marks, &mut backend, &pen);
        let _ = backend.present();
    }
    let start = document.find(">\n").map_or(0, |end| end + 2);
    let end = document.rfind("</svg>").unwrap_or(document.len());
    let mut inner = document.get(start..end).unwrap_or_default().to_owned();
    for paint in Paint::all() {
        let (red, green, blue) = stand_in(paint);
        let (hex, name) = (format!("#{red:02X}{green:02X}{blue:02X}"), paint.name());
        inner = inner
            .replace(&format!("fill=\"{hex}\""), &format!("class=\"f-{name}\""))
            .replace(&format!("stroke=\"{hex}\""), &format!("class=\"s-{name}\""));
    }
    for (long, short) in SHORTER {
        inner = inner.replace(long, short);
    }
    with_segments_joined(&inner)
}

/// Segments that follow each other in the same pen, as dashes and grid lines do, in one
/// element: it takes a quarter of the bytes.
fn with_segments_joined(marks: &str) -> String {
    let mut text = String::new();
    let mut open = None;
    for line in marks.lines() {
        let segment = segment(line);
        let pen = segment.map(|(pen, ..)| pen);
        if open.is_some() && open != pen {
            text.push_str("\"/>\n");
        }
        match segment {
            Some((pen, from, to)) => {
                if open != Some(pen) {
                    let _ = write!(text, "<path {pen} d=\"");
                }
                let _ = write!(text, "M{from}L{to}");
            }
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
        open = pen;
    }
    if open.is_some() {
        text.push_str("\"/>\n");
    }
    text
}

/// The pen of a line of two points, and these.
fn segment(line: &str) -> Option<(&str, &str, &str)> {
    let (pen, points) = line.strip_prefix("<polyline ")?.split_once(" points=\"")?;
    let (from, to) = points.strip_suffix("\"/>")?.split_once(' ')?;
    (!to.contains(' ')).then_some((pen, from, to))
}

/// What plotters writes and a browser assumes, or what our placing undoes.
const SHORTER: [(&str, &str); 7] = [
    (" opacity=\"1\"", ""),
    (" stroke=\"none\"", ""),
    (" font-family=\"sans-serif\"", ""),
    (" text-anchor=\"start\"", ""),
    // Text is given by its base line.
    (" dy=\"-0.5ex\"", ""),
    (" \"/>", "\"/>"),
    ("\n</text>", "</text>"),
];

/// The colour that stands for a paint until classes replace it.
fn stand_in(paint: Paint) -> Rgb {
    let index = Paint::all().iter().position(|other| *other == paint).unwrap_or(0);
    (0xa0, 0x5e, index as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawing::{Fill, Font, Group, Stroke};

    #[test]
    fn a_dashed_line_is_one_element() {
        let mut drawing = Drawing::new(100.0, 50.0);
        drawing.group(Group::default(), |group| {
            let [grid, ink] = [Paint::all()[0], Paint::all()[1]];
            group.line((0.0, 1.0), (40.0, 1.0), Stroke::new(grid, 1.0).dashed(3.0, 2.0));
            group.line((0.0, 9.0), (40.0, 9.0), Stroke::new(ink, 1.0));
        });
        let text = svg(&drawing, "", "wide").0;
        assert_eq!(text.matches("<path").count(), 2, "{text}");
        assert_eq!(text.matches('M').count(), 8 + 1, "{text}");
        assert!(text.contains("\"M0,90L400,90\"") && !text.contains("polyline"), "{text}");
    }

    #[test]
    fn no_colour_is_fixed_and_no_text_is_markup() {
        let mut drawing = Drawing::new(100.0, 50.0);
        for (index, paint) in Paint::all().into_iter().enumerate() {
            let x = index as f64;
            drawing.group(Group::of("<b>\"").tip("a & b"), |group| {
                group.line((x, 0.0), (x, 9.0), Stroke::new(paint, 1.5));
                group.area(vec![(x, 0.0), (x, 9.0), (9.0, 9.0)], Fill::new(paint));
                group.text((x, 5.0), "<script>", Font::new(12.0).paint(paint));
            });
        }
        let text = svg(&drawing, "a \"label\"", "wide").0;
        assert!(!text.contains('#'), "{text}");
        assert!(!text.contains("<script>") && !text.contains("<b>"), "{text}");
        assert!(text.contains("&lt;script&gt;") && text.contains("a &amp; b"));
        assert!(text.contains("aria-label=\"a &quot;label&quot;\""));
        for paint in Paint::all() {
            assert!(text.contains(&format!("class=\"f-{}\"", paint.name())));
            assert!(text.contains(&format!("class=\"s-{}\"", paint.name())));
        }
    }
}
