//! The figures with their aims, and the table that sets the gateway beside nginx.

/// What a figure of the gateway should reach.
#[derive(Clone, Copy)]
pub enum Aim {
    /// At most this many times nginx's.
    TimesAtMost(f64),
    /// At least this many times nginx's.
    TimesAtLeast(f64),
    /// At most this, in the figure's own unit.
    AtMost(f64),
    /// No aim: a ratio to look at.
    Shown,
}

/// One row of the table.
pub struct Row {
    pub name: &'static str,
    pub unit: &'static str,
    pub aim: Aim,
    /// One value a round, in `unit`.
    pub nginx: Vec<f64>,
    pub gateway: Vec<f64>,
}

impl Row {
    /// What each round says about the aim: its ratio to nginx, so that what drifts touches both, or the plain value.
    fn judged(&self) -> Vec<f64> {
        if let Aim::AtMost(_) = self.aim {
            return self.gateway.clone();
        }
        let rounds = self.gateway.iter().zip(&self.nginx);
        rounds.map(|(gateway, nginx)| gateway / nginx).collect()
    }

    fn ratio(&self) -> f64 {
        match self.aim {
            Aim::AtMost(_) => median(&self.gateway) / median(&self.nginx),
            _ => median(&self.judged()),
        }
    }

    fn reached(&self) -> bool {
        let judged = median(&self.judged());
        match self.aim {
            Aim::TimesAtMost(most) | Aim::AtMost(most) => judged <= most,
            Aim::TimesAtLeast(least) => judged >= least,
            Aim::Shown => true,
        }
    }

    fn aim(&self) -> String {
        match self.aim {
            Aim::TimesAtMost(most) => format!("at most {most} x"),
            Aim::TimesAtLeast(least) => format!("at least {least} x"),
            Aim::AtMost(most) => format!("at most {most} {}", self.unit),
            Aim::Shown => "none".to_owned(),
        }
    }
}

/// The rows as a Markdown table: medians, ratio, aim and verdict. `rounds` is the smallest and
/// the largest of what is held against the aim: the ratio, or the plain value where the aim is one.
pub fn table(subject: &str, rows: &[Row]) -> String {
    let head = ["figure", "nginx", subject, "ratio", "rounds", "aim", ""];
    let mut lines = vec![head.map(String::from)];
    lines.push(["-"; 7].map(String::from));
    lines.extend(rows.iter().map(cells));
    let widths: [usize; 7] = std::array::from_fn(|column| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or_default()
    });
    let mut text = String::new();
    for line in &lines {
        for (cell, width) in line.iter().zip(widths) {
            let fill = if cell == "-" { '-' } else { ' ' };
            let rest = width - cell.chars().count();
            text.push_str("| ");
            text.push_str(cell);
            text.extend(std::iter::repeat_n(fill, rest));
            text.push(' ');
        }
        text.push_str("|\n");
    }
    text
}

fn cells(row: &Row) -> [String; 7] {
    let judged = sorted(&row.judged());
    let (least, most) = (judged.first(), judged.last());
    let spread = least.zip(most).filter(|(least, most)| least < most);
    [
        row.name.to_owned(),
        amount(median(&row.nginx), row.unit),
        amount(median(&row.gateway), row.unit),
        format!("{:.2}", row.ratio()),
        spread.map_or_else(String::new, |(least, most)| format!("{least:.2}-{most:.2}")),
        row.aim(),
        String::from(if row.reached() { "pass" } else { "OVER" }),
    ]
}

/// Three digits are all that such a measurement is good for.
fn amount(value: f64, unit: &str) -> String {
    let decimals = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        small if small >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$} {unit}")
}

/// The value below which `share` of all lie; 0 if there are none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let sorted = sorted(values);
    let at = (sorted.len() as f64 * share) as usize;
    let last = sorted.len().saturating_sub(1);
    sorted.get(at.min(last)).copied().unwrap_or_default()
}

fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}
