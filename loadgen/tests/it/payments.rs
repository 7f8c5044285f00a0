//! The payment sandbox over a real connection.

use hyper::Method;
use loadgen::{
    client::{Answer, Ask, HttpClient, Service},
    payments::{self, Faults},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

async fn charge(http: &HttpClient, sandbox: &Service, key: &str) -> Answer {
    let body = format!(
        r#"{{"idempotency_key":"{key}","reference":"trip:fare","amount_minor":100,"currency":"SEK"}}"#
    );
    let ask =
        Ask { method: Method::POST, path: "/v1/charges".to_owned(), key: None, body: body.into() };
    http.send(sandbox, &ask, None).await.unwrap()
}

#[tokio::test]
async fn the_sandbox_charges_a_key_once_and_stops_when_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sandbox: Service = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let shutdown = CancellationToken::new();
    let serving = payments::serve(listener, Faults::default(), shutdown.clone());
    let using = async {
        let http = HttpClient::new(1);
        let (first, again) =
            (charge(&http, &sandbox, "k").await, charge(&http, &sandbox, "k").await);
        assert_eq!((first.status, again.status), (201, 200));
        assert_eq!(first.body, again.body);
        let list = http.send(&sandbox, &Ask::get("/v1/charges"), None).await.unwrap();
        assert_eq!(list.json()["charges"].as_array().unwrap().len(), 1);
        drop(http);
        shutdown.cancel();
    };
    let (served, ()) = tokio::join!(serving, using);
    served.unwrap();
}
