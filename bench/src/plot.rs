// SPDX-License-Identifier: Apache-2.0
//! Plots as plain SVG: bars, groups of bars, and latencies over percentiles. Knows no proxies but by
//! the colour that each has in every plot.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const LABELS: f64 = 130.0;
const BAR: f64 = 20.0;
const TAKES: &str = "a String takes everything";

/// One bar: its name, how long, and what is written at its end.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) text: String,
}

/// Horizontal bars, the longest as wide as there is room.
pub(crate) fn bars(title: &str, bars: &[Bar]) -> String {
    groups(title, &[(String::new(), bars.to_vec())])
}

/// Horizontal bars below a heading each; the longest of each group is as wide as there is room.
pub(crate) fn groups(title: &str, groups: &[(String, Vec<Bar>)]) -> String {
    let room = WIDTH - LABELS - 130.0;
    let mut body = String::new();
    let mut y = 44.0;
    for (heading, bars) in groups {
        if !heading.is_empty() {
            text(&mut body, (10.0, y + 14.0), "start", "b", heading);
            y += BAR + 4.0;
        }
        let most = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
        for bar in bars {
            let width = if most > 0.0 { (bar.value / most * room).max(1.0) } else { 1.0 };
            text(&mut body, (LABELS - 8.0, y + 14.0), "end", "", &bar.name);
            let (fill, height) = (colour(&bar.name), BAR - 4.0);
            writeln!(
                body,
                "<rect x=\"{LABELS}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{fill}\"/>"
            )
            .expect(TAKES);
            text(&mut body, (LABELS + width + 6.0, y + 14.0), "start", "", &bar.text);
            y += BAR;
        }
        y += 10.0;
    }
    document(title, y + 6.0, &body)
}

/// One line of a percentile plot: a name, and a value above zero for each place on the axis.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) values: Vec<f64>,
}

/// Values over named places, the vertical axis logarithmic in decades.
pub(crate) fn percentiles(title: &str, unit: &str, places: &[&str], lines: &[Line]) -> String {
    let (top, bottom, left, right) = (50.0, 350.0, 70.0, WIDTH - LABELS);
    let all = || lines.iter().flat_map(|line| line.values.iter().copied()).filter(|&v| v > 0.0);
    let low = all().fold(f64::INFINITY, f64::min).min(1e9).log10().floor();
    let high = all().fold(0.0, f64::max).max(1.0).log10().ceil().max(low + 1.0);
    let x = |index: usize| left + (right - left) * index as f64 / (places.len() - 1).max(1) as f64;
    let y = |value: f64| {
        let share = (value.max(1e-9).log10() - low) / (high - low);
        bottom - (bottom - top) * share.clamp(0.0, 1.0)
    };
    let mut body = String::new();
    for decade in low as i32..=high as i32 {
        let value = 10f64.powi(decade);
        let at = y(value);
        writeln!(
            body,
            "<line x1=\"{left}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>"
        )
        .expect(TAKES);
        text(&mut body, (left - 8.0, at + 4.0), "end", "", &format!("{value} {unit}"));
    }
    for (index, place) in places.iter().enumerate() {
        text(&mut body, (x(index), bottom + 20.0), "middle", "", place);
    }
    for (index, line) in lines.iter().enumerate() {
        let points: Vec<_> = line
            .values
            .iter()
            .enumerate()
            .map(|(index, &value)| format!("{:.1},{:.1}", x(index), y(value)))
            .collect();
        let colour = colour(&line.name);
        writeln!(
            body,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            points.join(" ")
        )
        .expect(TAKES);
        let at = top + 10.0 + 20.0 * index as f64;
        writeln!(
            body,
            "<rect x=\"{}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>",
            right + 16.0,
            at - 10.0
        )
        .expect(TAKES);
        text(&mut body, (right + 34.0, at), "start", "", &line.name);
    }
    document(title, bottom + 36.0, &body)
}

fn document(title: &str, height: f64, body: &str) -> String {
    let mut heading = String::new();
    text(&mut heading, (10.0, 24.0), "start", "b", title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
         width=\"{WIDTH}\" height=\"{height:.0}\">\n\
         <style>text{{font:13px sans-serif;fill:#222}}.b{{font-weight:bold}}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{heading}{body}</svg>\n"
    )
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, class: &str, what: &str) {
    let what = what.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{what}</text>"
    )
    .expect(TAKES);
}

fn colour(name: &str) -> &'static str {
    match name {
        "ringway" => "#0b7a4b",
        "ringway-1-route" => "#8fc7ae",
        "nginx" => "#4269d0",
        "nginx-debian" => "#97a9e8",
        "haproxy" => "#e08f2c",
        "envoy" => "#a463f2",
        _ => "#9a9a9a",
    }
}

#[cfg(test)]
mod tests;
