//! Every HTTP route: hooks for vendors, the API, the pages.
