//! What the server says about itself: reflection and metadata.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::FileDescriptorProto;
use support::{Primary, adult};
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use understudy::inference::{ModelMetadataRequest, ServerMetadataRequest};

async fn ask(primary: &Primary, request: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { message_request: Some(request), ..Default::default() };
    let mut client = ServerReflectionClient::new(primary.channel());
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    answers.next().await.unwrap().unwrap().message_response.unwrap()
}

async fn services(primary: &Primary) -> BTreeSet<String> {
    match ask(primary, MessageRequest::ListServices(String::new())).await {
        MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|service| service.name).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn reflection_tells_the_services_that_are_served_and_no_other() {
    let on = Primary::start().await;
    let always = ["grpc.health.v1.Health", "inference.GRPCInferenceService", "understudy.v1.PredictionService"];
    let mut expected: BTreeSet<String> = always.iter().map(ToString::to_string).collect();
    let off = Primary::with(|settings| settings.tap = Some("off".into())).await;
    assert_eq!(services(&off).await, expected);
    expected.insert("understudy.v1.TapService".into());
    assert_eq!(services(&on).await, expected);
    for name in expected {
        let symbol = MessageRequest::FileContainingSymbol(name.clone());
        let MessageResponse::FileDescriptorResponse(files) = ask(&on, symbol).await else { panic!("no file: {name}") };
        let (_, service) = name.rsplit_once('.').unwrap();
        let defines = |file: &Vec<u8>| {
            let file = FileDescriptorProto::decode(file.as_slice()).unwrap();
            file.service.iter().any(|defined| defined.name() == service)
        };
        assert!(files.file_descriptor_proto.iter().any(defines), "{name}");
    }
}

#[tokio::test]
async fn metadata_is_the_schema_of_the_model() {
    let primary = Primary::start().await;
    let mut client = primary.inference();
    let server = client.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!((server.name.as_str(), server.version.as_str()), ("understudy", understudy::VERSION));
    let request = ModelMetadataRequest { name: "adult".into(), ..ModelMetadataRequest::default() };
    let model = client.model_metadata(request.clone()).await.unwrap().into_inner();
    assert_eq!((model.name.as_str(), model.versions.as_slice()), ("adult", &["1".to_owned()][..]));
    let inputs: Vec<_> =
        model.inputs.iter().map(|it| (it.name.as_str(), it.datatype.as_str(), &it.shape[..])).collect();
    let datatype = |feature: &adult::Feature| if feature.categories.is_some() { "BYTES" } else { "INT64" };
    let features = adult::test_set().features.iter();
    let expected: Vec<_> = features.map(|feature| (feature.name.as_str(), datatype(feature), &[-1][..])).collect();
    assert_eq!(inputs, expected);
    let outputs: Vec<_> =
        model.outputs.iter().map(|it| (it.name.as_str(), it.datatype.as_str(), &it.shape[..])).collect();
    let expected = [
        ("label", "BYTES", &[-1][..]),
        ("probabilities", "FP64", &[-1, 2]),
        ("prediction_id", "BYTES", &[-1]),
        ("warnings", "BYTES", &[-1]),
    ];
    assert_eq!(outputs, expected);
    for (name, version, code) in
        [("nobody", "", Code::NotFound), ("adult", "2", Code::NotFound), ("adult", "x", Code::InvalidArgument)]
    {
        let request = ModelMetadataRequest { name: name.into(), version: version.into() };
        assert_eq!(client.model_metadata(request).await.unwrap_err().code(), code, "{name} {version}");
    }
}
