//! The charts, each twice: wide and narrow, of which one shows.

use analysis::model::Model;

use super::section;
use crate::{
    charts::{self, Frame},
    html::Html,
    palette::Paint,
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
            let [wide, narrow] = [Frame::wide(), Frame::narrow()].map(|room| kind.of(model, room));
            super::figure(html, kind.name, &wide, &narrow);
        }
    });
}
