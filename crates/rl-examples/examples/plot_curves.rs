//! Draws the training curves of one or several runs.
//!
//! `cargo run --release -p rl-examples --example plot_curves -- --run runs/a --run runs/b --smooth 0.9 --out figures`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use rl_track::Error;
use rl_track::curves::{PlotOptions, XAxis, plot, read_runs};

/// Writes one picture per curve with all runs in it, a contact sheet of all, and one table per curve.
///
/// Reads run folders and any folder with TensorBoard files. Training and evaluation share a picture where their names match.
/// Ends with code 2 if something is asked that is not there, with 7 if a file cannot be read.
#[derive(Parser)]
struct Arguments {
    /// A run's folder; may be given often.
    #[arg(long, value_name = "DIR", required = true)]
    run: Vec<PathBuf>,
    /// Only tags of this form, with `*` for any letters and `?` for one; may be given often.
    #[arg(long, value_name = "GLOB")]
    tags: Vec<String>,
    /// Weight of the debiased exponential average, from 0 (none) to below 1.
    #[arg(long, value_name = "WEIGHT", default_value_t = 0.0)]
    smooth: f64,
    /// What the x axis counts.
    #[arg(long, value_enum, default_value_t = X::Step)]
    x: X,
    /// Logarithmic y axes.
    #[arg(long)]
    log_y: bool,
    /// Also writes PNG files, with so many pixels per CSS pixel.
    #[arg(long, value_name = "SCALE", num_args = 0..=1, default_missing_value = "2")]
    png: Option<u32>,
    /// The folder to write to.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum X {
    Step,
    Wall,
    Samples,
}

fn main() -> ExitCode {
    let Arguments { run, tags, smooth, x, log_y, png, out } = Arguments::parse();
    let x = match x {
        X::Step => XAxis::Step,
        X::Wall => XAxis::Wall,
        X::Samples => XAxis::Samples,
    };
    let options = PlotOptions { tags, smooth, x, log_y, png_scale: png };
    match read_runs(&run).and_then(|runs| plot(&runs, &options, &out)) {
        Ok(files) => {
            println!("{} files, see {}", files.len(), out.join("contact_sheet.svg").display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            let is_unreadable = matches!(error, Error::Io { .. } | Error::Event { .. } | Error::BadLine { .. });
            ExitCode::from(if is_unreadable { 7 } else { 2 })
        }
    }
}
