//! Each peer as it was run: its version, its command and its configuration.

use analysis::model::PeerView;

use super::{comparison::layer, peer_name};
use crate::{html::Html, palette::Paint};

pub(super) fn write(html: &mut Html, peer: &PeerView<'_>) {
    html.tag("details", &[("data-peer", &peer.name)], |html| {
        html.tag("summary", &[], |html| {
            peer_name(html, &peer.name, Paint::of(peer.mark));
            html.text(&format!(" · {} · layer {}", peer.title, layer(peer)));
        });
        let Some(setup) = peer.setup else {
            html.paragraph("Its setup is not in the record.");
            return;
        };
        if setup.command.is_empty() {
            html.paragraph("It has no process of its own.");
        } else {
            let version = setup.version.as_deref().unwrap_or("version unknown");
            html.paragraph(version.trim());
            if setup.in_kernel {
                let text = "The command configured the kernel in the balancer's network namespace and \
                            exited. No process balances, so no process can be billed for it.";
                html.paragraph(text);
            }
            html.tag("pre", &[("tabindex", "0")], |html| {
                html.leaf("code", &[], &command_line(&setup.command));
            });
        }
        for (name, text) in &setup.config_files {
            html.leaf("h4", &[], name);
            html.tag("pre", &[("tabindex", "0")], |html| html.leaf("code", &[], text));
        }
    });
}

/// A command line as a shell would take it, an option a line.
fn command_line(command: &[String]) -> String {
    let quoted = |argument: &String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+{}".contains(c);
        if !argument.is_empty() && argument.chars().all(plain) {
            argument.clone()
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    };
    let mut text = String::new();
    for (index, argument) in command.iter().enumerate() {
        if index > 0 {
            text.push_str(if argument.starts_with("--") { " \\\n    " } else { " " });
        }
        text.push_str(&quoted(argument));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_can_be_pasted() {
        let command = ["proxy", "--listen", "[::1]:0", "it's"].map(str::to_owned);
        assert_eq!(command_line(&command), "proxy \\\n    --listen '[::1]:0' 'it'\\''s'");
    }
}
