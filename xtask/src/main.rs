//! `cargo xtask`: the project's chores, one file per subcommand. Everything it runs is printed, so it can be run by hand.

mod bench;
mod ci;
mod demo;
mod doctor;
mod libtorch;
mod model;
mod pipeline;
mod plan;
mod process;
mod setup;
mod test;
mod watch;
mod wheel;
mod workspace;

use clap::{Parser, Subcommand};

/// The project's chores. Each command prints what it runs, so that every step can be repeated by hand.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Start here:\n  cargo xtask demo      the main experiment, from nothing to a report\n  \
                  cargo xtask test      every test\n  cargo xtask doctor    what this machine has and what it lacks"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Setup(setup::Setup),
    Doctor(doctor::Doctor),
    Model(model::Model),
    Pipeline(pipeline::Pipeline),
    Plan(plan::Plan),
    Demo(demo::Demo),
    Test(test::Test),
    Bench(bench::Bench),
    Watch(watch::Watch),
    Ci(ci::Ci),
}

fn main() -> std::process::ExitCode {
    let done = workspace::Workspace::find().and_then(|workspace| match Cli::parse().command {
        Command::Setup(command) => command.run(&workspace),
        Command::Doctor(command) => command.run(&workspace),
        Command::Model(command) => command.run(&workspace),
        Command::Pipeline(command) => command.run(&workspace),
        Command::Plan(command) => command.run(&workspace),
        Command::Demo(command) => command.run(&workspace),
        Command::Test(command) => command.run(&workspace),
        Command::Bench(command) => command.run(&workspace),
        Command::Watch(command) => command.run(),
        Command::Ci(command) => command.run(&workspace),
    });
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
