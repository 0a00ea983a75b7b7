//! Bars as SVG: a task's main number of each contestant, from least to greatest of the rounds.

use std::fmt::Write;

use super::number;
use crate::profile::Task;
use crate::statistics::{Samples, Spread};

const ROW: f64 = 24.0;
const LABELS: f64 = 260.0;
const BARS: f64 = 460.0;
const VALUES: f64 = 140.0;
const HEAD: f64 = 44.0;

/// The picture; `None` if nothing was measured.
pub(super) fn bars(task: &Task, samples: &Samples) -> Option<String> {
    let rows: Vec<(String, bool, Spread, Option<f64>)> = task
        .contestants
        .iter()
        .filter_map(|contestant| {
            let name = contestant.name();
            let spread = samples.spread(&task.name, &name, task.headline)?;
            let ratio = samples.ratio(&task.name, &name, &task.baseline, task.headline);
            Some((name, contestant.is_ours(), spread, ratio))
        })
        .collect();
    let most = rows.iter().map(|row| row.2.max).fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let height = rows.iter().fold(HEAD + 8.0, |height, _| height + ROW);
    let width = LABELS + BARS + VALUES;
    let mut svg = String::new();
    // Writing to a string does not fail, here and below.
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"24\" font-size=\"15\">{}, {}</text>",
        escaped(&task.title),
        task.headline.title(),
    );
    let mut y = HEAD;
    for (name, ours, spread, ratio) in rows {
        let x = |value: f64| LABELS + BARS * value / most;
        let middle = y + ROW / 2.0 - 2.0;
        let colour = if ours { "#2f6f9f" } else { "#b0b0b0" };
        let compared = ratio
            .map(|ratio| format!(" ({ratio:.2})"))
            .unwrap_or_default();
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{LABELS}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\" fill=\"{colour}\"/>\n\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"black\"/>\n\
             <text x=\"{:.1}\" y=\"{}\">{}{compared}</text>",
            LABELS - 8.0,
            middle + 4.0,
            escaped(&name),
            x(spread.median) - LABELS,
            ROW - 4.0,
            x(spread.min),
            x(spread.max),
            x(spread.max) + 6.0,
            middle + 4.0,
            number(spread.median),
        );
        y += ROW;
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
