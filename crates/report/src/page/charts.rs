//! The charts, each twice: wide and narrow, of which one shows.

use analysis::model::Model;

use super::section;
use crate::{
    charts::{self, Frame},
    html::Html,
    palette::Paint,
    render::svg,
};

pub(super) fn write(html: &mut Html, model: &Model<'_>) {
    section(html, "charts", "The charts", |html| {
        // The script puts a button a peer here.
        html.tag("div", &[("class", "toggles"), ("hidden", "")], |html| {
            for peer in &model.peers {
                let class = format!("c-{}", Paint::of(peer.mark).name());
                html.leaf("span", &[("data-toggle", &peer.name), ("class", &class)], &peer.name);
            }
        });
        for kind in charts::of(model) {
            let wide = kind.of(model, Frame::wide());
            let narrow = kind.of(model, Frame::narrow());
            html.tag("figure", &[("id", kind.name)], |html| {
                html.tag("figcaption", &[], |html| {
                    html.leaf("h3", &[], &wide.title);
                    html.leaf("p", &[], &wide.note);
                });
                html.svg(&svg(&wide.drawing, &wide.alternative, "wide"));
                html.svg(&svg(&narrow.drawing, &narrow.alternative, "narrow"));
            });
        }
    });
}
