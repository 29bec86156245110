//! HTML that escapes by default.
//!
//! Text and attribute values of any origin go through [`escape`]; only what the
//! compiler sees as a constant, or what this crate drew itself ([`Svg`]), is
//! written as it is. So no name from a run folder can become markup.

use crate::{escape::escape, render::Svg};

/// A page or a part of one under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Html(String);

/// Attributes of an element, by name.
pub(crate) type Attributes<'a> = &'a [(&'static str, &'a str)];

impl Html {
    /// Writes markup that is part of the program.
    pub(crate) fn raw(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// Writes text. What stands between backticks is set as code, as people mean it, and no
    /// line ends between a number and its unit.
    pub(crate) fn text(&mut self, text: &str) {
        let pieces: Vec<&str> = text.split('`').collect();
        if pieces.len().is_multiple_of(2) {
            // One backtick without another is a character like any other.
            self.0.push_str(&escape(&with_units(text)));
            return;
        }
        for (index, piece) in pieces.into_iter().enumerate() {
            let escaped = escape(&with_units(piece));
            let is_code = !index.is_multiple_of(2);
            self.0.push_str(if is_code { "<code>" } else { "" });
            self.0.push_str(&escaped);
            self.0.push_str(if is_code { "</code>" } else { "" });
        }
    }

    /// Writes an element, with what `inner` writes inside.
    pub(crate) fn tag(
        &mut self,
        name: &'static str,
        attributes: Attributes<'_>,
        inner: impl FnOnce(&mut Self),
    ) {
        self.begin(name, attributes);
        inner(self);
        self.end(name);
    }

    fn begin(&mut self, name: &'static str, attributes: Attributes<'_>) {
        self.0.push('<');
        self.0.push_str(name);
        for (key, value) in attributes {
            self.0.push(' ');
            self.0.push_str(key);
            self.0.push_str("=\"");
            self.0.push_str(&escape(value));
            self.0.push('"');
        }
        self.0.push('>');
    }

    fn end(&mut self, name: &'static str) {
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
        if BLOCKS.contains(&name) {
            self.0.push('\n');
        }
    }

    /// Writes an attribute into an element that was begun as markup.
    pub(crate) fn attribute(&mut self, name: &'static str, value: &str) {
        self.0.push_str(name);
        self.0.push_str("=\"");
        self.0.push_str(&escape(value));
        self.0.push_str("\" ");
    }

    /// Writes an element that holds text only.
    pub(crate) fn leaf(&mut self, name: &'static str, attributes: Attributes<'_>, text: &str) {
        self.tag(name, attributes, |html| html.text(text));
    }

    /// Writes a paragraph.
    pub(crate) fn paragraph(&mut self, text: &str) {
        self.leaf("p", &[], text);
    }

    /// Writes a paragraph of what is only worth knowing.
    pub(crate) fn fine_print(&mut self, text: &str) {
        self.leaf("p", &[("class", "fine")], text);
    }

    /// Writes what was written elsewhere.
    pub(crate) fn append(&mut self, part: &Self) {
        self.0.push_str(&part.0);
    }

    /// Links to the sections in a part of the page, by their headings.
    pub(crate) fn contents(&mut self, part: &Self) {
        self.0.push_str("<nav class=\"contents\" aria-label=\"Contents\"><ul>");
        for section in part.0.split("<section id=\"").skip(1) {
            let id = section.split('"').next();
            let heading = section.split("<h2>").nth(1).and_then(|rest| rest.split("</h2>").next());
            // Both are markup of this page, escaped already.
            if let (Some(id), Some(heading)) = (id, heading) {
                self.0.push_str(&format!("<li><a href=\"#{id}\">{heading}</a></li>"));
            }
        }
        self.0.push_str("</ul></nav>\n");
    }

    /// Writes a drawing.
    pub(crate) fn svg(&mut self, svg: &Svg) {
        self.0.push_str(svg.as_str());
    }

    /// Writes a style sheet. `css` is made by this crate; a record's text never
    /// gets into it.
    pub(crate) fn style(&mut self, css: &str) {
        self.0.push_str("<style>\n");
        self.0.push_str(css);
        self.0.push_str("</style>\n");
    }

    /// What was written so far.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The finished text.
    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

/// Elements after which a line ends, so that the page's source can be read.
const BLOCKS: [&str; 20] = [
    "section",
    "p",
    "h1",
    "h2",
    "h3",
    "table",
    "thead",
    "tbody",
    "tr",
    "figure",
    "figcaption",
    "details",
    "ul",
    "li",
    "div",
    "dl",
    "header",
    "footer",
    "testsuite",
    "testcase",
];

/// Units that numbers on a page have.
const UNITS: [&str; 12] = ["ns", "µs", "ms", "s", "min", "h", "%", "B", "KiB", "MiB", "GiB", "TiB"];

/// The text with no-break spaces between numbers and their units.
fn with_units(text: &str) -> String {
    let mut bound = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(' ') {
        bound.push_str(before);
        let is_number = before.ends_with(|c: char| c.is_ascii_digit());
        let end = after.find(|c: char| !c.is_alphanumeric() && c != '%').unwrap_or(after.len());
        let is_unit = UNITS.contains(&&after[..end]);
        bound.push(if is_number && is_unit { '\u{a0}' } else { ' ' });
        rest = after;
    }
    bound.push_str(rest);
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let mut html = Html::default();
        let hostile = "\"><script>alert('x')</script>\u{0}&amp;";
        html.tag("p", &[("title", hostile)], |html| html.text(hostile));
        let text = html.into_string();
        assert_eq!(text.matches('<').count(), 2, "{text}");
        assert_eq!(text.matches('"').count(), 2, "{text}");
        assert!(!text.contains('\u{0}') && text.contains("&amp;amp;"));
    }

    #[test]
    fn a_unit_stays_with_its_number_and_code_is_set_as_code() {
        let written = |text: &str| {
            let mut html = Html::default();
            html.text(text);
            html.into_string()
        };
        assert_eq!(
            written("40 ms, 25.0 % of 3 backends in 2 min 5 s (13.8–14.5 µs)"),
            "40\u{a0}ms, 25.0\u{a0}% of 3 backends in 2\u{a0}min 5\u{a0}s (13.8–14.5\u{a0}µs)"
        );
        assert_eq!(
            written("set `tls = \"<x>\"` or"),
            "set <code>tls = &quot;&lt;x&gt;&quot;</code> or"
        );
        assert_eq!(written("`a` and `b`"), "<code>a</code> and <code>b</code>");
        assert_eq!(written("one ` alone"), "one ` alone");
    }
}
