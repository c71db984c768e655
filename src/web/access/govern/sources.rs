//! Sources: the exact addresses for each vendor, and the test that `check` makes.

use std::time::Duration;

use serde::Serialize;

use crate::domain::rights::Right;
use crate::jobs::sources::{SourceView, views};
use crate::providers::contract::{Finding, Severity};
use crate::web::access::Reader;
use crate::web::problem::ApiError;
use crate::web::reads::Reads;
use crate::web::state::WebState;

/// A vendor that takes longer is told of as one that does not answer.
const TEST_WITHIN: Duration = Duration::from_secs(30);

/// What a test of a source found.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Tested {
    pub source: String,
    /// Nothing but remarks.
    pub is_well: bool,
    pub findings: Vec<Finding>,
}

/// The sources, in the hands of one administrator.
#[derive(Debug)]
pub struct SourceList<'a> {
    state: &'a WebState,
    reader: &'a Reader,
}

impl<'a> SourceList<'a> {
    pub fn of(state: &'a WebState, reader: &'a Reader) -> Result<Self, ApiError> {
        reader.needs(Right::Administer)?;
        Ok(Self { state, reader })
    }

    /// The addresses hold the vendors' tokens.
    pub async fn list(&self) -> Result<Vec<SourceView>, ApiError> {
        self.reads().note("source_list", "").await?;
        Ok(self.views())
    }

    /// The same beneath the answer of a test, which has its own row in the trail.
    pub fn views(&self) -> Vec<SourceView> {
        views(&self.state.providers, &self.state.settings.public_base())
    }

    pub async fn test(&self, name: &str) -> Result<Tested, ApiError> {
        let sources = self.state.providers.snapshot();
        let provider = sources
            .values()
            .find(|provider| provider.name() == name)
            .ok_or_else(|| ApiError::not_found("source"))?;
        self.reads().note("source_test", name).await?;
        let found = tokio::time::timeout(TEST_WITHIN, provider.check()).await;
        let findings = found.unwrap_or_else(|_| {
            vec![Finding {
                code: "no_answer",
                severity: Severity::Warning,
                what: "the vendor did not answer in time".to_owned(),
                place: name.to_owned(),
                remedy: "is its address right, and can this machine reach it?".to_owned(),
            }]
        });
        Ok(Tested {
            source: name.to_owned(),
            is_well: findings.iter().all(|f| f.severity == Severity::Info),
            findings,
        })
    }

    fn reads(&self) -> Reads<'a> {
        Reads::of(self.state, self.reader)
    }
}
