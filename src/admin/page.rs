//! The dashboard, embedded: one page with its style and its script, no build step, no other host.

use actix_web::{HttpResponse, http::header};

fn file(kind: &'static str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, kind))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(text)
}

pub(crate) async fn index() -> HttpResponse {
    file("text/html; charset=utf-8", include_str!("page/index.html"))
}

pub(crate) async fn style() -> HttpResponse {
    file("text/css; charset=utf-8", include_str!("page/dashboard.css"))
}

pub(crate) async fn script() -> HttpResponse {
    file("text/javascript; charset=utf-8", include_str!("page/dashboard.js"))
}
