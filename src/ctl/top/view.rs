//! What is drawn: a line for each resource, one more for its synchronisation, and an explanation of
//! the one that is selected. It fits 80 columns; a narrower terminal cuts it at the right.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use super::model::{Model, Rate, Row};
use crate::ctl::size::humanize;
use crate::explain::{Risk, explain};
use crate::report::Synchronisation;

/// Lines of the explanation below the list.
const EXPLANATION_LINES: u16 = 8;

/// Characters of a synchronisation's bar.
const BAR: usize = 24;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, time: &str) {
    let [head, titles, list, explanation] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(EXPLANATION_LINES),
    ])
    .areas(frame.area());
    let order = if model.reversed { " reversed" } else { "" };
    let text = format!(
        "hastctl top  {}  resources: {}  sorted by {}{order}  q s r arrows",
        time.get(..19).unwrap_or(time),
        model.rows.len(),
        model.column.as_str(),
    );
    frame.render_widget(Line::raw(text), head);
    let text = format!(
        "{:<12} {:<4} {:<8} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>4}",
        "NAME", "ROLE", "STATE", "RD/s", "RDB/s", "RDLAT", "WR/s", "WRB/s", "WRLAT", "DIRTY", "QUE"
    );
    let style = Style::default().add_modifier(Modifier::REVERSED);
    frame.render_widget(Line::styled(text, style), titles);
    draw_list(frame, model, list);
    if let Some(row) = model.rows.get(model.selected) {
        draw_explanation(frame, row, explanation);
    }
}

fn draw_list(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let mut lines: Vec<Line<'_>> = Vec::new();
    let mut selected_line = 0;
    for (index, row) in model.rows.iter().enumerate() {
        let mut style = state_style(row);
        if index == model.selected {
            selected_line = lines.len();
            style = style.add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
        }
        lines.push(Line::styled(row_text(row), style));
        if let Some(sync) = &row.resource.synchronisation {
            lines.push(sync_line(sync));
        }
    }
    // The selected line and the one below it stay in sight.
    let height = usize::from(area.height);
    let above = (selected_line + 2).saturating_sub(height);
    let visible: Vec<Line<'_>> = lines.into_iter().skip(above).take(height).collect();
    frame.render_widget(Paragraph::new(visible), area);
}

fn state_style(row: &Row) -> Style {
    let color = match row.state() {
        "ok" => Color::Green,
        "off" | "alone" => Color::Reset,
        "sync" | "paused" | "waiting" => Color::Yellow,
        _ => Color::Red,
    };
    Style::default().fg(color)
}

fn row_text(row: &Row) -> String {
    let resource = &row.resource;
    let role = match resource.role.as_deref() {
        Some("primary") => "pri",
        Some("secondary") => "sec",
        Some("init") => "init",
        _ => "-",
    };
    let dirty = resource.dirty_bytes.map_or("-".to_owned(), humanize);
    format!(
        "{:<12} {role:<4} {:<8} {} {} {dirty:>6} {:>4}",
        cut(&resource.name, 12),
        cut(row.state(), 8),
        rate_text(row.reads),
        rate_text(row.writes),
        short(row.queue()),
    )
}

/// A text of at most so many characters.
fn cut(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(length - 1).collect();
    short.push('+');
    short
}

fn rate_text(rate: Rate) -> String {
    let latency = rate.mean_us.map_or("-".to_owned(), duration);
    format!(
        "{:>6} {:>6} {latency:>6}",
        short(rate.count),
        humanize(rate.bytes)
    )
}

/// A number in at most five characters.
fn short(number: u64) -> String {
    match number {
        0..100_000 => number.to_string(),
        100_000..10_000_000 => format!("{}k", number / 1000),
        _ => format!("{}M", number / 1_000_000),
    }
}

/// A time in at most six characters.
fn duration(us: u64) -> String {
    match us {
        0..1000 => format!("{us}us"),
        1000..10_000 => format!("{}.{}ms", us / 1000, us % 1000 / 100),
        10_000..1_000_000 => format!("{}ms", us / 1000),
        _ => format!("{}s", us / 1_000_000),
    }
}

fn sync_line(sync: &Synchronisation) -> Line<'static> {
    let done = sync.total_bytes.saturating_sub(sync.left_bytes);
    let share = |of: u64| {
        let part = u128::from(done) * u128::from(of) / u128::from(sync.total_bytes.max(1));
        u64::try_from(part).unwrap_or(of)
    };
    let filled = usize::try_from(share(BAR as u64)).unwrap_or(0).min(BAR);
    let arrow = if sync.direction == "from-peer" {
        "<-"
    } else {
        "->"
    };
    let mut text = format!(
        "  {arrow} peer [{}{}] {:>3}% {}B left",
        "#".repeat(filled),
        ".".repeat(BAR - filled),
        share(100).min(100),
        humanize(sync.left_bytes)
    );
    if sync.paused {
        text.push_str(", paused");
    } else {
        text.push_str(&format!(", {}B/s", humanize(sync.bytes_per_second)));
        if let Some(seconds) = sync.eta_seconds {
            text.push_str(&format!(", {} to go", eta(seconds)));
        }
    }
    Line::styled(text, Style::default().fg(Color::Yellow))
}

fn eta(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

fn draw_explanation(frame: &mut Frame<'_>, row: &Row, area: Rect) {
    let explanation = explain(&row.resource);
    let color = match explanation.risk {
        Risk::None => Color::Green,
        Risk::Reduced => Color::Yellow,
        Risk::High => Color::Red,
        Risk::Unknown => Color::Reset,
    };
    let mut lines = vec![
        Line::raw("-".repeat(area.width.into())),
        Line::from(vec![
            Span::styled(
                format!("{}: ", explanation.resource),
                Style::default().add_modifier(Modifier::BOLD),
            ),
            Span::raw(explanation.state),
        ]),
    ];
    if let Some(why) = explanation.why {
        lines.push(Line::raw(format!("Why: {why}")));
    }
    let risk = format!(
        "Risk: {}. {}",
        explanation.risk.as_str(),
        explanation.risk_details
    );
    lines.push(Line::styled(risk, Style::default().fg(color)));
    let text = Paragraph::new(lines).wrap(Wrap { trim: true });
    frame.render_widget(text, area);
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
