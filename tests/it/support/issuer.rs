//! A provider of OpenID Connect that says whatever a test wants, signed by keys that the test makes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use callvault::domain::digest::Sha256;
use http::{HeaderMap, StatusCode};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Map, Value, json};

pub const CLIENT: &str = "callvault";
pub const CLIENT_SECRET: &str = "secret: with + and %";

/// A key pair with its id.
#[derive(Clone)]
pub struct Key {
    pub id: String,
    pair: Arc<EcdsaKeyPair>,
}

impl Key {
    pub fn new(id: &str) -> Self {
        let rng = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &rng)
            .unwrap();
        Self {
            id: id.into(),
            pair: Arc::new(pair),
        }
    }

    fn published(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id,
            "x": part(&point[1..33]), "y": part(&point[33..65]),
        })
    }

    fn sign(&self, text: &str) -> String {
        let signed = self
            .pair
            .sign(&SystemRandom::new(), text.as_bytes())
            .unwrap();
        URL_SAFE_NO_PAD.encode(signed.as_ref())
    }
}

/// What it does next.
#[derive(Clone)]
pub struct Mood {
    /// Of the token; a null takes a claim away.
    pub claims: Map<String, Value>,
    /// What userinfo tells.
    pub userinfo: Value,
    /// What discovery says otherwise.
    pub discovery: Map<String, Value>,
    /// Signs; not always what is published.
    pub key: Key,
    pub published: Vec<Key>,
    /// Of the token's head.
    pub alg: &'static str,
    /// Of the token endpoint.
    pub status: u16,
    /// Which code challenge and nonce a sign-in came with.
    pub challenge: String,
    pub nonce: String,
    /// Seconds since 1970, by its clock.
    pub now_s: i64,
}

pub struct Issuer {
    pub url: String,
    mood: Arc<Mutex<Mood>>,
    server: tokio::task::JoinHandle<()>,
}

impl Issuer {
    pub async fn open(now_s: i64) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at: SocketAddr = listener.local_addr().unwrap();
        let key = Key::new("key-1");
        let mood = Mood {
            claims: Map::new(),
            userinfo: json!({ "sub": "s-1" }),
            discovery: Map::new(),
            published: vec![key.clone()],
            key,
            alg: "ES256",
            status: 200,
            challenge: String::new(),
            nonce: String::new(),
            now_s,
        };
        let url = format!("http://{at}");
        let mood = Arc::new(Mutex::new(mood));
        let app = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .route("/me", get(me))
            .with_state((url.clone(), mood.clone()));
        let server = tokio::spawn(async move { axum_serve(listener, app).await });
        Self { url, mood, server }
    }

    pub fn mood(&self) -> MutexGuard<'_, Mood> {
        self.mood.lock().unwrap()
    }

    /// From now on nobody answers there.
    pub async fn go_away(self) {
        self.server.abort();
        let _ = self.server.await;
    }
}

/// Without axum's own server, which this project's features leave out.
async fn axum_serve(listener: tokio::net::TcpListener, app: Router) {
    use hyper_util::rt::TokioIo;
    use hyper_util::service::TowerToHyperService;
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let service = TowerToHyperService::new(app.clone());
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service),
        );
    }
}

type Shared = State<(String, Arc<Mutex<Mood>>)>;

async fn discovery(State((url, mood)): Shared) -> Json<Value> {
    let mut document = json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "jwks_uri": format!("{url}/keys"),
        "userinfo_endpoint": format!("{url}/me"),
        "end_session_endpoint": format!("{url}/end"),
        "response_types_supported": ["code"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    });
    for (name, value) in &mood.lock().unwrap().discovery {
        document[name] = value.clone();
    }
    Json(document)
}

async fn keys(State((_, mood)): Shared) -> Json<Value> {
    let keys: Vec<Value> = mood
        .lock()
        .unwrap()
        .published
        .iter()
        .map(Key::published)
        .collect();
    // Providers publish kinds that nobody here knows; they are passed over.
    let mut all = vec![json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "x" })];
    all.extend(keys);
    Json(json!({ "keys": all }))
}

async fn token(State((url, mood)): Shared, headers: HeaderMap, body: String) -> Response {
    let mood = mood.lock().unwrap().clone();
    let field = |name: &str| {
        let mut fields = form_urlencoded::parse(body.as_bytes());
        fields
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.into_owned())
    };
    // A client is held to the protocol.
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(CLIENT), encoded(CLIENT_SECRET));
    assert_eq!(
        headers["authorization"],
        format!("Basic {}", STANDARD.encode(pair))
    );
    assert_eq!(field("grant_type").as_deref(), Some("authorization_code"));
    let verifier = field("code_verifier").unwrap();
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::of(verifier.as_bytes()).as_bytes());
    if mood.status != 200 || challenge != mood.challenge {
        let told = json!({ "error": "invalid_grant", "error_description": "<script>" });
        let status = StatusCode::from_u16(mood.status.max(400)).unwrap();
        return (status, Json(told)).into_response();
    }
    let mut claims = json!({
        "iss": url, "aud": CLIENT, "sub": "s-1", "nonce": mood.nonce,
        "iat": mood.now_s, "exp": mood.now_s + 300, "groups": ["call-desk"],
    });
    let object = claims.as_object_mut().unwrap();
    object.extend(mood.claims.clone());
    object.retain(|_, value| !value.is_null());
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = json!({ "alg": mood.alg, "typ": "JWT", "kid": mood.key.id });
    let text = format!("{}.{}", part(&head), part(&claims));
    let signed = match mood.alg {
        "none" => String::new(),
        "HS256" => {
            use hmac::{KeyInit as _, Mac as _};
            let mut mac =
                hmac::Hmac::<sha2::Sha256>::new_from_slice(CLIENT_SECRET.as_bytes()).unwrap();
            mac.update(text.as_bytes());
            URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
        }
        _ => mood.key.sign(&text),
    };
    Json(json!({
        "access_token": "opaque", "token_type": "Bearer", "id_token": format!("{text}.{signed}"),
    }))
    .into_response()
}

async fn me(State((_, mood)): Shared, headers: HeaderMap) -> Json<Value> {
    assert_eq!(headers["authorization"], "Bearer opaque");
    Json(mood.lock().unwrap().userinfo.clone())
}
