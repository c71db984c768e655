//! Passwords on the command line: from a prompt that does not show them, from stdin, or made here and printed once.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use clap::Args;

use crate::domain::secret::Secret;
use crate::domain::{password, token};

use super::Failure;

#[derive(Debug, Args)]
pub struct PasswordArgs {
    /// Reads the password from the first line of stdin
    #[arg(long)]
    password_stdin: bool,
    /// Makes a password, prints it once, and wants it changed at the first sign-in
    #[arg(long, conflicts_with = "password_stdin")]
    generate: bool,
}

impl PasswordArgs {
    /// The password, and whether it was made here.
    pub fn read(&self, name: &str) -> Result<(Secret, bool), Failure> {
        if self.generate {
            return Ok((token::new_token().ok_or_else(no_randomness)?, true));
        }
        let secret = if self.password_stdin {
            first_line().map_err(|error| cannot_read(&error))?
        } else if std::io::stdin().is_terminal() {
            let first = ask("Password: ").map_err(|error| cannot_read(&error))?;
            let again = ask("Again: ").map_err(|error| cannot_read(&error))?;
            if first != again {
                return Err(Failure::usage(
                    "usage",
                    "the two passwords differ",
                    "the prompt",
                    "try again",
                ));
            }
            first
        } else {
            return Err(Failure::usage(
                "usage",
                "there is no terminal to ask for a password",
                "stdin",
                "write --password-stdin or --generate",
            ));
        };
        match password::problem(secret.expose(), name) {
            None => Ok((secret, false)),
            Some(problem) => Err(Failure::usage(
                "weak_password",
                problem,
                "the password",
                "take a sentence that nobody else would think of, or --generate",
            )),
        }
    }
}

fn first_line() -> std::io::Result<Secret> {
    let mut text = String::new();
    std::io::stdin().lock().read_line(&mut text)?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

/// One line from the terminal, which does not show it.
fn ask(prompt: &str) -> std::io::Result<Secret> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let mut terminal = std::io::stderr().lock();
    write!(terminal, "{prompt}")?;
    terminal.flush()?;
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin)?;
    let mut silent = before.clone();
    silent.local_modes -= LocalModes::ECHO;
    tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
    let line = first_line();
    tcsetattr(&stdin, OptionalActions::Flush, &before)?;
    writeln!(terminal)?;
    line
}

fn cannot_read(error: &std::io::Error) -> Failure {
    Failure::failed(
        "read",
        format!("cannot read the password: {error}"),
        "stdin",
        "write it as one line of UTF-8",
    )
}

pub fn no_randomness() -> Failure {
    Failure::failed(
        "randomness",
        "the system gives no random bytes",
        "this machine",
        "is /dev/urandom there?",
    )
}
