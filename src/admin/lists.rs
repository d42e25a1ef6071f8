//! What all lists have in common: pages with a cursor, and entity tags.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, EntityTag, Header, IfNoneMatch},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use utoipa::ToSchema;
use xxhash_rust::xxh3::xxh3_64;

use super::problem::Problem;

/// How many items a page has unless the client says.
pub(crate) const LIMIT: usize = 100;
/// The most items of a page.
pub(crate) const MOST: usize = 1_000;

/// One page of a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct Page<T: ToSchema> {
    /// The items of this page.
    pub(crate) items: Vec<T>,
    /// How many items the filters match.
    pub(crate) total: usize,
    /// Where the next page begins; null on the last.
    pub(crate) next_cursor: Option<String>,
}

/// How many items are wanted.
pub(crate) fn limit(given: Option<usize>) -> Result<usize, Problem> {
    match given {
        None => Ok(LIMIT),
        Some(limit @ 1..=MOST) => Ok(limit),
        Some(limit) => {
            Err(Problem::bad_request(format!("limit is {limit}, allowed is 1 to {MOST}")))
        }
    }
}

/// A cursor behind the item with this key.
pub(crate) fn cursor(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// The cursor is none that this list gave.
pub(crate) fn no_cursor() -> Problem {
    Problem::bad_request("the cursor is none of this list's")
}

/// The key of the item behind which a page begins.
pub(crate) fn key(cursor: Option<&str>) -> Result<Option<String>, Problem> {
    let Some(cursor) = cursor.filter(|cursor| !cursor.is_empty()) else { return Ok(None) };
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| no_cursor())?;
    String::from_utf8(bytes).map(Some).map_err(|_| no_cursor())
}

/// The entity tag of a list: two that tell the same have the same. It is weak, as it may leave out
/// what is no change to anybody.
pub(crate) fn tag(content: &impl Serialize) -> EntityTag {
    // What cannot be written is not served either.
    let bytes = serde_json::to_vec(content).unwrap_or_default();
    EntityTag::new_weak(format!("{:016x}", xxh3_64(&bytes)))
}

/// A JSON response with its entity tag, or 304 if the client has it.
pub(crate) fn tagged(request: &HttpRequest, body: &impl Serialize, tag: EntityTag) -> HttpResponse {
    let Ok(body) = serde_json::to_vec(body) else {
        return HttpResponse::InternalServerError().finish();
    };
    let known = match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => request.headers().contains_key(header::IF_NONE_MATCH),
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        Err(_) => false,
    };
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header((header::ETAG, tag.to_string()));
    response.insert_header((header::CACHE_CONTROL, "no-cache"));
    if known { response.finish() } else { response.content_type("application/json").body(body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_a_wrong_one_is_told() {
        let key_of = |cursor: &str| key(Some(cursor)).ok().flatten();
        assert_eq!(key_of(&cursor("room/löbby")).as_deref(), Some("room/löbby"));
        assert_eq!(key(Some("")).ok(), Some(None), "as if there were none");
        assert!(key(Some("%%%")).is_err());
        assert!(key(Some("_w")).is_err(), "bytes that are no text");
        assert!(limit(Some(0)).is_err() && limit(Some(1_001)).is_err());
    }
}
