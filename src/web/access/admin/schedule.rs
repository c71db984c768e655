//! `/admin/schedule`: what runs by itself, when next, what it came to, and a run now.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::{Extension, Form};
use http::HeaderMap;
use serde::Deserialize;

use super::or_problem;
use crate::db::schedule::RunView;
use crate::web::access::Reader;
use crate::web::access::govern::schedule::{JobView, Schedule};
use crate::web::access::shell::{self, Shell};
use crate::web::access::words::Words;
use crate::web::pages::frame::Section;
use crate::web::problem::ApiError;
use crate::web::state::WebState;

#[derive(Template)]
#[template(path = "access/schedule.html")]
struct SchedulePage {
    shell: Shell,
    done: Option<&'static str>,
    lines: Vec<Line>,
}

struct Line {
    name: String,
    words: String,
    cron: String,
    next: String,
    asked: Option<String>,
    last: Option<Run>,
    earlier: Vec<Run>,
}

struct Run {
    at: String,
    result: String,
    /// In our words, not the server's.
    is_told: bool,
    failed: bool,
}

/// What was done, as the page after it says it.
#[derive(Deserialize)]
pub struct Done {
    done: Option<String>,
}

pub async fn show(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    Query(done): Query<Done>,
    headers: HeaderMap,
) -> Response {
    let page = async {
        let jobs = Schedule::of(&state, &reader)?.list().await?;
        let shell = Shell::of(&state, &reader, &headers).at(Section::Schedule, "/admin/schedule");
        let w = shell.w;
        let page = SchedulePage {
            done: done.done.is_some().then_some(w.asked_done),
            lines: jobs.into_iter().map(|job| line(&state, w, job)).collect(),
            shell,
        };
        Ok::<_, ApiError>(shell::render(&state, &page))
    };
    or_problem(&state, &reader, &headers, page.await)
}

fn line(state: &WebState, w: &Words, job: JobView) -> Line {
    let mut runs = job.runs.iter().map(|run| told(state, w, run));
    Line {
        words: w.job(&job.name).to_owned(),
        next: match job.next_at {
            Some(at) => shell::time(state, at),
            None => w.not_alive.to_owned(),
        },
        asked: job.asked_at.map(|at| {
            let by = job.asked_by.as_deref().unwrap_or_default();
            format!("{} {} {by}", w.asked_for, shell::time(state, at))
        }),
        last: runs.next(),
        earlier: runs.collect(),
        cron: job.cron,
        name: job.name,
    }
}

fn told(state: &WebState, w: &Words, run: &RunView) -> Run {
    let result = run.result.clone();
    Run {
        at: shell::time(state, run.started_at),
        failed: result
            .as_deref()
            .is_some_and(|text| text.starts_with("failed")),
        is_told: result.is_none(),
        result: result.unwrap_or_else(|| w.runs_now.to_owned()),
    }
}

#[derive(Deserialize)]
pub struct Which {
    run: String,
}

pub async fn run(
    State(state): State<WebState>,
    Extension(reader): Extension<Reader>,
    headers: HeaderMap,
    Form(which): Form<Which>,
) -> Response {
    let asked = async {
        Schedule::of(&state, &reader)?.run(&which.run).await?;
        Ok(shell::see("/admin/schedule?done=asked"))
    };
    or_problem(&state, &reader, &headers, asked.await)
}
