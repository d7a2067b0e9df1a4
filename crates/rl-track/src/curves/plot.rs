//! Curves as pictures and tables: one per panel, one sheet of all, one table per tag.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::atomic::write_atomically;
use crate::config::ensure;
use crate::curves::Curves;
use crate::curves::panel::{Panel, file_names, glob_matches, panels, split_name};
use crate::error::{Error, Result};
use crate::plot::{Drawing, LineChart, NUM_COLORS, Scale, Series, Size, smooth};
use crate::tensorboard::Point;

/// How curves are plotted.
#[derive(Debug, Clone, PartialEq)]
pub struct PlotOptions {
    /// Patterns of the tags to plot ([`super::glob_matches`]); empty for all.
    pub tags: Vec<String>,
    /// Weight of the debiased exponential average ([`crate::plot::smooth`]) in `[0, 1)`; 0 for none.
    pub smooth: f64,
    /// What the x axis counts.
    pub x: XAxis,
    /// Logarithmic y axes.
    pub log_y: bool,
    /// Pixels per CSS pixel of PNG files beside the SVG ones; `None` for SVG alone.
    pub png_scale: Option<u32>,
}

/// What the x axis counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XAxis {
    /// Optimizer steps.
    Step,
    /// Time since the run's first point, pauses included.
    Wall,
    /// Samples trained on.
    Samples,
}

/// A panel on the sheet is smaller than one by itself.
const SHEET_PANEL: Size = Size { width: 480.0, height: 300.0 };
/// Dashes that tell the splits of one run apart.
const NUM_DASHES: usize = 3;
/// The contact sheet's name, without its ending.
const SHEET: &str = "contact_sheet";

/// Draws the runs into `out`, which is created, and returns the files: one picture per panel, `contact_sheet.svg`, one
/// table per tag with the columns `run,step,wall,value,smoothed`, and for several runs `differences.txt`.
///
/// Runs share a panel, each in a colour of its own. So do tags `train/NAME` and `SPLIT/NAME`, each split with another
/// dash. With smoothing, the raw values stand behind in pale. Equal input gives equal bytes.
///
/// # Errors
/// No tag matches, `smooth` is not in `[0, 1)`, or a file cannot be written.
pub fn plot(runs: &[Curves], options: &PlotOptions, out: &Path) -> Result<Vec<PathBuf>> {
    let is_wanted =
        |tag: &&String| options.tags.is_empty() || options.tags.iter().any(|pattern| glob_matches(pattern, tag));
    let tags: BTreeSet<&str> =
        runs.iter().flat_map(|run| run.by_tag.keys()).filter(is_wanted).map(String::as_str).collect();
    if tags.is_empty() {
        let known: BTreeSet<&str> = runs.iter().flat_map(|run| run.by_tag.keys()).map(String::as_str).collect();
        let known: Vec<&str> = known.into_iter().collect();
        let path = runs.first().map(|run| run.folder.clone()).unwrap_or_default();
        let message = format!("no tag matches {}; there are {}", options.tags.join(", "), known.join(", "));
        return Err(Error::NoCurves { path, message });
    }
    ensure((0.0..1.0).contains(&options.smooth), "smooth", options.smooth, "must be at least 0 and less than 1")?;
    let panels = panels(tags.iter().copied());
    let unit = TimeUnit::of(runs);
    let charts = panels.iter().map(|panel| chart(panel, runs, options, unit)).collect::<Result<Vec<_>>>()?;

    fs::create_dir_all(out).map_err(Error::io("create", out))?;
    let mut files = Vec::new();
    let mut write = |name: String, bytes: &[u8]| {
        let path = out.join(name);
        write_atomically(&path, bytes)?;
        files.push(path);
        Ok::<_, Error>(())
    };
    // The sheet's name is taken first, so that no tag can take it.
    let names = file_names(std::iter::once(SHEET).chain(panels.iter().map(|panel| panel.name.as_str())));
    for (name, chart) in names[1..].iter().zip(&charts) {
        let drawing = chart.draw();
        write(format!("{name}.svg"), drawing.to_svg().as_bytes())?;
        if let Some(scale) = options.png_scale {
            write(format!("{name}.png"), &drawing.to_png(scale)?)?;
        }
    }
    let sheet = sheet(charts);
    write(format!("{SHEET}.svg"), sheet.to_svg().as_bytes())?;
    if options.png_scale.is_some() {
        write(format!("{SHEET}.png"), &sheet.to_png(1)?)?;
    }
    for (name, tag) in file_names(tags.iter().copied()).into_iter().zip(&tags) {
        write(format!("{name}.csv"), table(tag, runs, options.smooth)?.as_bytes())?;
    }
    if runs.len() > 1 {
        write("differences.txt".into(), differences(runs).as_bytes())?;
    }
    Ok(files)
}

/// All charts on one page, about as many across as down.
fn sheet(charts: Vec<LineChart>) -> Drawing {
    let columns = (charts.len() as f64).sqrt().ceil() as usize;
    let small = |chart: LineChart| LineChart { size: SHEET_PANEL, ..chart }.draw();
    Drawing::sheet("All curves", charts.into_iter().map(small).collect(), columns)
}

fn chart(panel: &Panel, runs: &[Curves], options: &PlotOptions, unit: TimeUnit) -> Result<LineChart> {
    let mut series = Vec::new();
    for (run_index, run) in runs.iter().enumerate() {
        for (tag_index, tag) in panel.tags.iter().enumerate() {
            let Some(points) = run.by_tag.get(tag) else { continue };
            let xs = xs(run, points, options.x, unit)?;
            let raw: Vec<f64> = points.iter().map(|point| point.value).collect();
            let several = panel.tags.len() > 1;
            let name = match (several, split_name(tag)) {
                (true, "") => format!("{}, {tag}", run.name),
                (true, split) => format!("{}, {split}", run.name),
                (false, _) => run.name.clone(),
            };
            let color =
                if several { run_index % NUM_COLORS + NUM_COLORS * (tag_index % NUM_DASHES) } else { run_index };
            let line = |values: &[f64]| Series {
                points: xs.iter().copied().zip(values.iter().copied()).collect(),
                color: Some(color),
                ..Series::default()
            };
            if options.smooth > 0.0 {
                series.push(Series { is_faint: true, ..line(&raw) });
            }
            series.push(Series { name, ..line(&smooth(&raw, options.smooth)?) });
        }
    }
    let y_label =
        if options.smooth > 0.0 { format!("smoothed, weight {}", options.smooth) } else { "value".to_owned() };
    Ok(LineChart {
        title: panel.name.clone(),
        x_label: match options.x {
            XAxis::Step => "step".to_owned(),
            XAxis::Wall => format!("{} since the run's first record", unit.name),
            XAxis::Samples => "samples".to_owned(),
        },
        y_label,
        series,
        y_scale: if options.log_y { Scale::Log } else { Scale::Linear },
        ..LineChart::default()
    })
}

fn xs(run: &Curves, points: &[Point], x: XAxis, unit: TimeUnit) -> Result<Vec<f64>> {
    let steps: Vec<i64> = points.iter().map(|point| point.step).collect();
    match x {
        XAxis::Step => Ok(steps.iter().map(|step| *step as f64).collect()),
        XAxis::Samples => run.samples(&steps),
        XAxis::Wall => match run.start() {
            Some(start) => Ok(points.iter().map(|point| (point.wall_time - start) / unit.seconds).collect()),
            None => {
                let message = "has no event files, and nothing else says when; choose the x axis `step`".into();
                Err(Error::NoCurves { path: run.folder.clone(), message })
            }
        },
    }
}

/// Seconds, minutes or hours, by the longest run.
#[derive(Clone, Copy)]
struct TimeUnit {
    name: &'static str,
    seconds: f64,
}

impl TimeUnit {
    fn of(runs: &[Curves]) -> Self {
        let length = |run: &Curves| {
            let last = run.by_tag.values().flatten().map(|point| point.wall_time).fold(f64::NAN, f64::max);
            last - run.start().unwrap_or(f64::NAN)
        };
        match runs.iter().map(length).fold(0.0, f64::max) {
            seconds if seconds > 7_200.0 => Self { name: "hours", seconds: 3_600.0 },
            seconds if seconds > 600.0 => Self { name: "minutes", seconds: 60.0 },
            _ => Self { name: "seconds", seconds: 1.0 },
        }
    }
}

fn table(tag: &str, runs: &[Curves], weight: f64) -> Result<String> {
    let mut out = String::from("run,step,wall,value,smoothed\n");
    for run in runs {
        let Some(points) = run.by_tag.get(tag) else { continue };
        let values: Vec<f64> = points.iter().map(|point| point.value).collect();
        for (point, smoothed) in points.iter().zip(smooth(&values, weight)?) {
            let Point { step, wall_time, value } = point;
            out.push_str(&format!("{},{step},{wall_time:?},{value:?},{smoothed:?}\n", csv_field(&run.name)));
        }
    }
    Ok(out)
}

/// A field of a table, in quotation marks where it needs them (RFC 4180).
pub(crate) fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// What tells every further run from the first one, as far as their folders say.
fn differences(runs: &[Curves]) -> String {
    let Some((first, others)) = runs.split_first() else { return String::new() };
    let mut out = String::new();
    for other in others {
        out.push_str(&format!("{} | {}\n", first.name, other.name));
        match crate::run::differences(&first.folder, &other.folder) {
            Ok(found) if found.is_empty() => out.push_str("  no difference is recorded\n"),
            Ok(found) => found.iter().for_each(|difference| out.push_str(&format!("  {difference}\n"))),
            Err(error) => out.push_str(&format!("  not known: {error}\n")),
        }
    }
    out
}
