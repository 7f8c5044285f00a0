//! What rides there are and what one would cost.

use axum::{extract::State, http::StatusCode};
use common::{
    auth::AsRider,
    clock::Timestamp,
    contract::v1,
    geo::{Point, RawPoint},
    http::{Json, Query},
    id::RiderId,
    money::Money,
    problem::{Problem, ProblemBody},
};
use serde::{Deserialize, Serialize};

use super::{Gateway, fresh};
use crate::{
    domain::{
        tariff::{Line, Product, Way},
        trip::Quote,
    },
    fare::{FARE_TTL, Fare},
};

/// A ride shorter than this is none.
const RIDE_MIN_M: f64 = 25.0;
const PRODUCT_DEFAULT: &str = "standard";

/// The products at a place.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Products {
    products: Vec<ProductResource>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Product)]
struct ProductResource {
    product: String,
    name: String,
    capacity: u8,
    base_fare: Money,
    per_km: Money,
    per_minute: Money,
    minimum_fare: Money,
    /// Nothing when there is no car now.
    pickup_eta_in_ms: Option<u64>,
}

/// From where to where.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct QuoteRequest {
    pickup: Point,
    dropoff: Point,
    #[serde(default = "default_product")]
    #[schema(default = "standard")]
    product: String,
}

fn default_product() -> String {
    PRODUCT_DEFAULT.to_owned()
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Quotes {
    quotes: Vec<QuoteResource>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Quote)]
struct QuoteResource {
    /// Buys the ride at this price until it expires.
    fare_id: String,
    product: String,
    fare: Money,
    breakdown: Vec<Line>,
    /// A factor; 1 = none.
    #[schema(example = 1.0)]
    surge: f64,
    distance_m: u32,
    duration_in_ms: u64,
    /// Nothing when there is no car now.
    pickup_eta_in_ms: Option<u64>,
    cancellation_fee: Money,
    expires_at: Timestamp,
    expires_in_ms: u64,
}

/// What rides there are at a place.
#[utoipa::path(
    get,
    path = "/v1/products",
    tag = "quotes",
    params(("lat" = f64, Query), ("lng" = f64, Query)),
    responses(
        (status = 200, body = Products),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn products(
    State(gateway): State<Gateway>,
    AsRider(_rider): AsRider,
    Query(place): Query<RawPoint>,
) -> Result<Json<Products>, Problem> {
    let place = Point::try_from(place).map_err(|err| Problem::invalid("/lat", err.to_string()))?;
    let supply = served(&gateway, place, "/lat").await?;
    let tariff = &gateway.tariff;
    let resource = |product: &Product| ProductResource {
        product: product.product.clone(),
        name: product.name.clone(),
        capacity: product.capacity,
        base_fare: tariff.money(product.base),
        per_km: tariff.money(product.per_km),
        per_minute: tariff.money(product.per_minute),
        minimum_fare: tariff.money(product.minimum),
        pickup_eta_in_ms: eta_in_ms(&supply),
    };
    Ok(Json(Products { products: tariff.products.iter().map(resource).collect() }))
}

/// What a ride costs now. The price holds for two minutes.
#[utoipa::path(
    post,
    path = "/v1/quotes",
    tag = "quotes",
    request_body = QuoteRequest,
    responses(
        (status = 201, body = Quotes),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn quote(
    State(gateway): State<Gateway>,
    AsRider(rider): AsRider,
    Json(request): Json<QuoteRequest>,
) -> Result<(StatusCode, Json<Quotes>), Problem> {
    let product = gateway
        .tariff
        .product(&request.product)
        .ok_or_else(|| Problem::invalid("/product", "there is no such product"))?;
    if request.pickup.distance_m(request.dropoff) < RIDE_MIN_M {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return Err(Problem::new(status, "pickup_is_dropoff", "the ride would go nowhere"));
    }
    let (supply, route) = tokio::try_join!(served(&gateway, request.pickup, "/pickup"), async {
        Ok(gateway.location.route(request.pickup, request.dropoff).await?)
    },)?;
    if !route.found {
        served(&gateway, request.dropoff, "/dropoff").await?;
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "no_route",
            "no road leads from the pickup to the dropoff",
        ));
    }
    let quote = priced(&gateway, rider, &request, product, &supply, &route)?;
    Ok((StatusCode::CREATED, Json(Quotes { quotes: vec![quote] })))
}

fn priced(
    gateway: &Gateway,
    rider: RiderId,
    request: &QuoteRequest,
    product: &Product,
    supply: &v1::SupplyReply,
    route: &v1::RouteReply,
) -> Result<QuoteResource, Problem> {
    let now = gateway.now();
    let way = Way { distance_m: route.distance_m, duration_s: route.duration_s };
    let price = gateway.tariff.price(product, way, supply.surge_percent);
    let cancellation_fee = gateway.tariff.money(product.cancellation_fee);
    let expires_at = now.plus(FARE_TTL);
    let fare = Fare {
        rider,
        expires_at,
        pickup: request.pickup,
        dropoff: request.dropoff,
        quote: Quote {
            fare_id: fresh(),
            product: product.product.clone(),
            fare: price.fare,
            distance_m: way.distance_m,
            duration_s: way.duration_s,
            surge_percent: price.surge_percent,
            cancellation_fee,
        },
    };
    let fare_id = gateway.fares.sign(&fare).map_err(|err| Problem::unavailable(err.to_string()))?;
    Ok(QuoteResource {
        fare_id,
        product: product.product.clone(),
        fare: price.fare,
        breakdown: price.breakdown,
        surge: f64::from(price.surge_percent) / 100.0,
        distance_m: way.distance_m,
        duration_in_ms: u64::from(way.duration_s) * 1000,
        pickup_eta_in_ms: eta_in_ms(supply),
        cancellation_fee,
        expires_at,
        expires_in_ms: expires_at.in_ms(now),
    })
}

/// Cars and surge at a place that is served.
async fn served(
    gateway: &Gateway,
    place: Point,
    pointer: &str,
) -> Result<v1::SupplyReply, Problem> {
    let supply = gateway.location.supply(place).await?;
    if supply.in_service_area {
        return Ok(supply);
    }
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    Err(Problem::new(status, "outside_service_area", "there is no service at this place")
        .with("pointer", pointer))
}

fn eta_in_ms(supply: &v1::SupplyReply) -> Option<u64> {
    supply.has_driver.then(|| u64::from(supply.nearest_eta_s) * 1000)
}
