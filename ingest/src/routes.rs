//! The route table. A route comes with its documentation and with the operation that is authorised before its handler
//! runs; one without them cannot be written down.
//! It must not know what handlers do.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use clarion_auth::operation::{Effect, Operation};
use http::{Method, Request};
use utoipa::Path;
use utoipa::openapi::path::HttpMethod;

use crate::answer::Answer;
use crate::app::App;
use crate::authenticate::{self, Authenticator};
use crate::call::{Asked, Call, TenantCall};
use crate::envelope::Template;
use crate::error::ApiError;
use crate::face::Face;

/// An optional prefix of every documented path.
pub(crate) const VERSION_PREFIX: &str = "/v1";

/// A line of the table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) method: Method,
    /// The documented path.
    pub(crate) path: Arc<str>,
    /// The same under other names, with the same handler.
    pub(crate) aliases: &'static [&'static str],
    /// What is authorised; `None` only for the routes that everybody may ask.
    pub(crate) operation: Option<Operation>,
}

/// Builds a router and its table.
pub(crate) struct Routes {
    /// Nobody answers without it: only the table is built.
    app: Option<App>,
    router: Router,
    table: Vec<Line>,
    /// Whether authenticated paths also exist below [`VERSION_PREFIX`].
    versioned: bool,
    /// Finds out who calls the routes that are added from now on.
    authenticator: Authenticator,
}

impl Routes {
    pub(crate) fn new(app: App, versioned: bool) -> Self {
        Self {
            app: Some(app),
            versioned,
            ..Self::unmounted()
        }
    }

    /// Only the table, for the documentation.
    pub(crate) fn unmounted() -> Self {
        Self {
            app: None,
            router: Router::new(),
            table: Vec::new(),
            versioned: false,
            authenticator: authenticate::by_headers,
        }
    }

    /// Has the routes that follow know their callers in another way than by an API key or an access token.
    pub(crate) fn authenticated_by(mut self, authenticator: Authenticator) -> Self {
        self.authenticator = authenticator;
        self
    }

    /// A route about one tenant; the handler runs only for a caller who may do `operation` to it.
    pub(crate) fn tenant<D, H, F>(
        self,
        operation: Operation,
        aliases: &'static [&'static str],
        handler: H,
    ) -> Self
    where
        D: Path,
        H: Fn(TenantCall) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Answer, ApiError>> + Send + 'static,
    {
        let answer = move |call: Call| {
            let handler = handler.clone();
            async move { handler(TenantCall::allow(call).await?).await }
        };
        self.organisation::<D, _, _>(operation, aliases, answer)
    }

    /// A route whose organisation is in the request: the caller is authenticated, and its handler authorises.
    pub(crate) fn organisation<D, H, F>(
        mut self,
        operation: Operation,
        aliases: &'static [&'static str],
        handler: H,
    ) -> Self
    where
        D: Path,
        H: Fn(Call) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Answer, ApiError>> + Send + 'static,
    {
        let line = line::<D>(aliases, Some(operation));
        let Some(app) = self.app.clone() else {
            self.table.push(line);
            return self;
        };
        let template = Arc::clone(&line.path);
        let authenticator = self.authenticator;
        let run = move |request: Request<Body>| {
            let (handler, app, template) = (handler.clone(), app.clone(), Arc::clone(&template));
            async move {
                let asked = Asked {
                    operation,
                    route: Arc::clone(&template),
                    authenticator,
                };
                let answer = match Call::admit(app, asked, request).await {
                    Ok(call) if operation.effect() == Effect::Administers => {
                        let trace = call.trace();
                        let answer = handler(call).await;
                        let noted = trace.answered(&answer);
                        noted.append().await;
                        answer
                    }
                    Ok(call) => handler(call).await,
                    Err(error) => Err(error),
                };
                Template(template).on(answer.into_response())
            }
        };
        let method = on(filter(&line.method), run);
        self.mount(line, &method);
        self
    }

    /// A route whose body is the credential: its handler finds out who calls.
    pub(crate) fn open<D, H, F>(mut self, handler: H) -> Self
    where
        D: Path,
        H: Fn(App, Request<Body>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Answer, ApiError>> + Send + 'static,
    {
        let line = line::<D>(&[], None);
        let Some(app) = self.app.clone() else {
            self.table.push(line);
            return self;
        };
        let template = Arc::clone(&line.path);
        let run = move |request: Request<Body>| {
            let (answer, template) = (handler(app.clone(), request), Arc::clone(&template));
            async move { Template(template).on(answer.await.into_response()) }
        };
        let method = on(filter(&line.method), run);
        self.mount(line, &method);
        self
    }

    /// A route that everybody may ask: health and documents, never data.
    pub(crate) fn public<D, H, F>(mut self, handler: H) -> Self
    where
        D: Path,
        H: Fn(App) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let line = line::<D>(&[], None);
        let Some(app) = self.app.clone() else {
            self.table.push(line);
            return self;
        };
        let template = Arc::clone(&line.path);
        let run = move || {
            let (answer, template) = (handler(app.clone()), Arc::clone(&template));
            async move { Template(template).on(answer.await) }
        };
        let method = on(filter(&line.method), run);
        self.mount(line, &method);
        self
    }

    /// The router and its table.
    pub(crate) fn finish(self) -> (Router, Vec<Line>) {
        (self.router, self.table)
    }

    fn mount(&mut self, line: Line, method: &MethodRouter) {
        let paths = std::iter::once(&*line.path).chain(line.aliases.iter().copied());
        for path in paths {
            let face = Face::of(path);
            let mut router = std::mem::take(&mut self.router).route(path, method.clone());
            if face.is_versioned() && self.versioned && line.operation.is_some() {
                router = router.route(&format!("{VERSION_PREFIX}{path}"), method.clone());
            }
            if face.takes_trailing_slash() {
                router = router.route(&format!("{path}/"), method.clone());
            }
            self.router = router;
        }
        self.table.push(line);
    }
}

fn line<D: Path>(aliases: &'static [&'static str], operation: Option<Operation>) -> Line {
    Line {
        // The macro that documents a handler always names one method.
        method: D::methods().first().map_or(Method::GET, method_of),
        path: D::path().into(),
        aliases,
        operation,
    }
}

fn filter(method: &Method) -> MethodFilter {
    // All of the methods above have a filter.
    MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET)
}

fn method_of(documented: &HttpMethod) -> Method {
    match documented {
        HttpMethod::Get => Method::GET,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Delete => Method::DELETE,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Options => Method::OPTIONS,
        HttpMethod::Trace => Method::TRACE,
    }
}
