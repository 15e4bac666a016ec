//! The command `sparse`: compress, reconstruct, verify, quality, info, estimate.
//!
//! Everything is done by the library crate `sparse`; here is what only a program has: arguments, progress, reports
//! for people and for programs, exit codes.

#![forbid(unsafe_code)]

mod aliases;
mod args;
mod commands;
mod failure;
mod human;
mod panic;
mod policy;
mod progress;
mod session;

use args::Cli;
use clap::Parser;
use clap::error::ErrorKind as Clap;
use failure::Failure;
use session::{Session, print, print_error};
use std::process::ExitCode;

fn main() -> ExitCode {
    let (args, note) = aliases::expand(std::env::args_os().collect());
    if let Some(note) = note {
        progress::eprint(&note);
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(not_run(&error)),
    };
    let (command, common) = (cli.command, cli.common);
    let (name, json) = (command.name(), common.json);
    panic::install_hook(json);
    let result = panic::catch(|| Session::new(name, common).and_then(|session| session.run(command)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        // The panic was told when it happened.
        Err(failure @ Failure::Fault(_)) if !json => ExitCode::from(failure.exit_code()),
        Err(failure) => {
            print_error(Some(name), json, &failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Print what clap found: help, the version, or what is wrong with the arguments.
fn not_run(error: &clap::Error) -> u8 {
    if matches!(error.kind(), Clap::DisplayHelp | Clap::DisplayVersion) {
        let failure = print(&error.to_string()).err().filter(|f| !f.is_broken_pipe());
        return failure.map_or(0, |f| f.exit_code());
    }
    // The arguments could not be parsed, so look for the one that matters here by hand.
    if std::env::args_os().skip(1).take_while(|a| a != "--").any(|a| a == "--json") {
        let text = error.to_string();
        // The first paragraph is the message; usage and hints follow.
        let message = text.split("\n\n").next().unwrap_or_default();
        let message: Vec<&str> = message.split_whitespace().collect();
        let message = message.join(" ");
        let message = message.strip_prefix("error: ").unwrap_or(&message).to_owned();
        print_error(command_name().as_deref(), true, &Failure::Usage(message));
    } else {
        progress::eprint(&error.to_string());
    }
    2
}

/// The command among the arguments, if there is one that exists.
fn command_name() -> Option<String> {
    let known = <Cli as clap::CommandFactory>::command();
    std::env::args()
        .skip(1)
        .find(|a| !a.starts_with('-'))
        .filter(|a| known.get_subcommands().any(|c| c.get_name() == a))
}
