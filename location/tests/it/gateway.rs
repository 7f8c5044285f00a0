//! What is served over HTTP.

use common::testing::http::HttpClient;

use crate::fixture::Town;

async fn get(town: &Town, path: &str) -> (u16, String) {
    let answer = HttpClient::new(&format!("http://{}", town.http), String::new()).get(path).await;
    (answer.status.as_u16(), answer.text)
}

#[tokio::test]
async fn the_roads_come_with_the_name_of_those_who_drew_them() {
    let town = Town::start().await;
    assert_eq!(get(&town, "/healthz").await, (200, "ok".to_owned()));
    assert_eq!(get(&town, "/readyz").await, (200, "ready".to_owned()));
    let (status, body) = get(&town, "/v1/roads").await;
    let drawing: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert!(drawing["attribution"].as_str().unwrap().contains("OpenStreetMap"));
    let roads = drawing["roads"].as_array().unwrap();
    assert!(roads.iter().any(|layer| layer["lines"].as_array().unwrap().len() > 1000));
    let (status, document) = get(&town, "/openapi.json").await;
    assert!(status == 200 && document.contains("/v1/roads"));
    let (status, problem) = get(&town, "/v1/rivers").await;
    assert!(status == 404 && problem.contains("not_found"), "{problem}");
}

#[tokio::test]
async fn a_gateway_shows_what_it_counted_by_route_and_never_by_path() {
    let town = Town::start().await;
    get(&town, "/v1/roads").await;
    get(&town, "/v1/drivers/8a6f").await;
    let (status, shown) = get(&town, "/metrics").await;
    assert_eq!(status, 200);
    let counted = "http_requests_total{service=\"location\",route=\"/v1/roads\",status=\"200\"}";
    assert!(shown.contains(counted), "{shown}");
    assert!(shown.contains("route=\"none\",status=\"404\"") && !shown.contains("8a6f"), "{shown}");
    assert!(shown.contains("# TYPE http_request_seconds histogram"), "{shown}");
}
