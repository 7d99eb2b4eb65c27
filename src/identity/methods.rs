//! What each method takes: the one table. A method that is not in it is nobody's.

use super::Role;

/// What a method takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// `grpc.health.v1`: open unless configured otherwise, since probes carry no token.
    Health,
    /// Reflection: as configured, and where callers are known the role [`Role::Reader`].
    Reflection,
    /// A role.
    Role(Role),
}

/// What `path` takes; absent when there is no such method.
pub fn need(path: &str) -> Option<Need> {
    use Role::{Admin, Observer, Reader, Writer};
    Some(match path {
        "/grpc.health.v1.Health/Check" | "/grpc.health.v1.Health/List" | "/grpc.health.v1.Health/Watch" => Need::Health,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => Need::Reflection,
        "/inference.GRPCInferenceService/ModelInfer"
        | "/inference.GRPCInferenceService/ModelStreamInfer"
        | "/inference.GRPCInferenceService/ServerLive"
        | "/inference.GRPCInferenceService/ServerReady"
        | "/inference.GRPCInferenceService/ModelReady"
        | "/inference.GRPCInferenceService/ServerMetadata"
        | "/inference.GRPCInferenceService/ModelMetadata"
        | "/inference.GRPCInferenceService/ModelConfig"
        | "/inference.GRPCInferenceService/ModelStatistics"
        | "/inference.GRPCInferenceService/RepositoryIndex"
        | "/understudy.v1.PredictionService/Predict" => Need::Role(Reader),
        "/understudy.v1.FeedbackService/SubmitFeedback" | "/understudy.v1.FeedbackService/StreamFeedback" => {
            Need::Role(Writer)
        }
        "/understudy.v1.TapService/Subscribe"
        | "/understudy.v1.ShadowService/GetReport"
        | "/understudy.v1.ShadowService/WatchReport"
        | "/understudy.v1.ShadowService/ListDisagreements"
        | "/understudy.v1.ShadowService/ListCandidates"
        | "/understudy.v1.DriftService/GetDrift"
        | "/understudy.v1.DriftService/WatchDrift"
        | "/understudy.v1.FeedbackService/GetPerformance"
        | "/understudy.v1.FeedbackService/GetRetrainSignal"
        | "/understudy.v1.FeedbackService/SelectForLabeling" => Need::Role(Observer),
        "/inference.GRPCInferenceService/RepositoryModelLoad"
        | "/inference.GRPCInferenceService/RepositoryModelUnload"
        | "/understudy.v1.ShadowService/StartEpoch" => Need::Role(Admin),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_method_of_the_descriptors_is_in_the_table() {
        let sets = [
            crate::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut methods = 0;
        for set in sets {
            for file in FileDescriptorSet::decode(set).expect("descriptors").file {
                for service in &file.service {
                    for method in &service.method {
                        let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                        assert!(need(&path).is_some(), "{path} is not in the table of identity/methods.rs");
                        methods += 1;
                    }
                }
            }
        }
        assert!(methods >= 28, "the descriptors hold {methods} methods only");
        assert_eq!(need("/understudy.v1.ShadowService/Unknown"), None);
    }
}
