//! What surrounds every page: who visits, in which language, and the page that says what went wrong.

use askama::Template;
use axum::extract::FromRequestParts;
use axum::response::{Html, IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};

use super::assets;
use super::text::{Lang, Text};
use crate::domain::ids::new_id;
use crate::domain::rights::Right;
use crate::web::access::Reader;
use crate::web::problem::ApiError;
use crate::web::state::WebState;

/// One request for a page.
#[derive(Debug)]
pub struct Visit {
    pub reader: Reader,
    pub lang: Lang,
    /// Path and query, for forms that lead back.
    pub here: String,
}

impl FromRequestParts<WebState> for Visit {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &WebState) -> Result<Self, ApiError> {
        // Whoever came past the door has one.
        let reader = parts.extensions.get::<Reader>().cloned();
        let reader = reader.ok_or_else(ApiError::token_required)?;
        Ok(Self {
            lang: Lang::of(&parts.headers, reader.language.as_deref()),
            reader,
            here: parts
                .uri
                .path_and_query()
                .map_or("/", |here| here.as_str())
                .to_owned(),
        })
    }
}

/// The parts of the house that the navigation names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Search,
    Operations,
    Trail,
    Accounts,
    Tokens,
    Sources,
    Schedule,
    Configuration,
    Account,
    /// A page that belongs to none.
    Other,
}

impl Section {
    /// Of those who look after the house.
    pub const fn is_administration(self) -> bool {
        matches!(
            self,
            Self::Accounts | Self::Tokens | Self::Sources | Self::Schedule | Self::Configuration
        )
    }
}

#[derive(Debug)]
pub struct Frame {
    /// The folder of style and script.
    pub assets: &'static str,
    pub banner: Option<&'static str>,
    /// Let in: strangers see no way to anything.
    pub known: bool,
    pub zone: &'static str,
    pub version: &'static str,
    pub lang: Lang,
    pub t: &'static Text,
    pub section: Section,
    pub here: String,
    /// What each form carries, so that it is known to be one of ours; empty where there is no session.
    pub word: String,
    /// The name of who has signed in.
    pub account: Option<String>,
    pub may_annotate: bool,
    pub may_download: bool,
    pub may_watch: bool,
    pub may_operate: bool,
    pub may_administer: bool,
    pub may_read_trail: bool,
}

impl Frame {
    pub fn of(state: &WebState, visit: &Visit, section: Section) -> Self {
        let reader = &visit.reader;
        // Until then there is nothing to lead to.
        let must_change = reader.signed_in.as_ref().is_some_and(|s| s.must_change);
        let may = |right| reader.may(right) && !must_change;
        Self {
            known: !must_change,
            section,
            here: visit.here.clone(),
            word: reader.form_word().to_owned(),
            account: reader
                .signed_in
                .as_ref()
                .map(|session| session.name.clone()),
            may_annotate: may(Right::Annotate),
            may_download: may(Right::Download),
            may_watch: may(Right::Watch),
            may_operate: may(Right::Operate),
            may_administer: may(Right::Administer),
            may_read_trail: may(Right::Trail),
            ..Self::outside(state, visit.lang)
        }
    }

    /// For somebody who is not let in yet.
    pub fn outside(state: &WebState, lang: Lang) -> Self {
        Self {
            assets: assets::version(),
            banner: state.settings.banner.map(|(en, zh)| lang.pick(en, zh)),
            known: false,
            zone: state.settings.time_zone.name(),
            version: env!("CARGO_PKG_VERSION"),
            lang,
            t: lang.text(),
            section: Section::Other,
            here: String::new(),
            word: String::new(),
            account: None,
            may_annotate: false,
            may_download: false,
            may_watch: false,
            may_operate: false,
            may_administer: false,
            may_read_trail: false,
        }
    }

    fn is(&self, section: Section) -> bool {
        self.section == section
    }

    pub fn in_trail(&self) -> bool {
        self.is(Section::Trail)
    }

    pub fn in_administration(&self) -> bool {
        self.section.is_administration()
    }

    /// Beneath the administration: the page's name in the templates.
    pub fn on(&self, page: &str) -> bool {
        let at = match self.section {
            Section::Accounts => "accounts",
            Section::Tokens => "tokens",
            Section::Sources => "sources",
            Section::Schedule => "schedule",
            Section::Configuration => "configuration",
            Section::Account => "account",
            _ => "",
        };
        at == page
    }

    pub fn in_search(&self) -> bool {
        self.is(Section::Search)
    }

    pub fn in_operations(&self) -> bool {
        self.is(Section::Operations)
    }

    /// For tests of templates alone.
    #[cfg(test)]
    pub fn sample(lang: Lang) -> Self {
        Self {
            assets: "v",
            banner: Some("Simulated calls <only>"),
            known: true,
            zone: "UTC",
            version: "0",
            lang,
            t: lang.text(),
            section: Section::Search,
            here: "/".into(),
            word: String::new(),
            account: Some("<b>ann</b>".into()),
            may_annotate: true,
            may_download: true,
            may_watch: true,
            may_operate: true,
            may_administer: true,
            may_read_trail: true,
        }
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    frame: Frame,
    title: &'static str,
    words: Option<&'static str>,
    detail: String,
}

/// The same status and headers as the API's answer, in words.
pub fn problem(state: &WebState, visit: &Visit, error: &ApiError) -> Response {
    let (title, words) = said(error.code(), visit.lang);
    let page = ProblemPage {
        frame: Frame::of(state, visit, Section::Other),
        title,
        words,
        detail: error.detail().to_owned(),
    };
    let mut response = render(state, &page);
    if response.status() == StatusCode::OK {
        *response.status_mut() = error.status();
        for (name, value) in error.headers() {
            if name != CONTENT_TYPE {
                response.headers_mut().insert(name, value.clone());
            }
        }
    }
    response
}

/// A title for an error's code, and more where there is more to say.
pub fn said(code: &str, lang: Lang) -> (&'static str, Option<&'static str>) {
    let t = lang.text();
    match code {
        "not_found" => (t.p_not_found, Some(t.p_not_found_more)),
        "bad_request" | "bad_cursor" => (t.p_bad_request, None),
        "unavailable" => (t.p_unavailable, Some(t.p_unavailable_more)),
        "not_retryable" => (t.p_other, Some(t.not_retried)),
        "not_allowed" => (t.p_forbidden, Some(t.p_not_allowed)),
        "stale_form" => (t.p_other, Some(t.p_stale_form)),
        "session_ended" => (t.p_session_ended, Some(t.p_session_ended_more)),
        "rate_limited" => (t.p_too_often, Some(t.p_too_often_more)),
        "token_required" | "cross_site" => (t.p_forbidden, None),
        _ => (t.p_other, None),
    }
}

pub fn render(state: &WebState, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            let id = new_id(state.clock.now()).to_string();
            tracing::error!(id, %error, "a page could not be rendered");
            ApiError::internal(&id).into_response()
        }
    }
}

/// On to another page after a form.
pub fn see(place: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(place) = HeaderValue::from_str(place) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}
