//! Neural networks and linear models.

use serde_json::json;

use super::Cases;
use super::forest::container;

pub(crate) fn mlp() -> Cases {
    let mut cases = Cases::new("mlp");
    let c = &mut cases;
    c.refused(8, "an embedding of a feature that is not there", "graph.json", |p| {
        p.node(|node| node["embeddings"][0]["feature"] = json!("nobody"));
    });
    c.refused(8, "a layer of other inputs", "first.weight", |p| p.node(|node| node["features"] = json!(["a", "c"])));
    for name in ["first.weight", "first.bias", "table", "norm.mean"] {
        c.refused(11, "a weight NaN", "weights.safetensors", move |p| {
            p.tensors(|tensors| {
                tensors.set(name, 0, f32::NAN.to_le_bytes());
            });
        });
        c.refused(11, "a weight Inf", "weights.safetensors", move |p| {
            p.tensors(|tensors| {
                tensors.set(name, 0, f32::INFINITY.to_le_bytes());
            });
        });
    }
    c.refused(9, "a negative variance", "variance: expected numbers greater than 0", |p| {
        p.tensors(|tensors| tensors.set("norm.variance", 0, (-1_f32).to_le_bytes()));
    });
    c.refused(9, "epsilon NaN", "invalid type: string", |p| {
        p.node(|node| node["layers"][1]["batch_norm"]["epsilon"] = json!("nan"));
    });
    c.refused(13, "100,000 layers", "expected a list of at most 65536 elements", |p| {
        p.node(|node| node["layers"].as_array_mut().unwrap().extend(vec![json!("relu"); 100_000]));
    });
    c.refused(13, "the same layer 1,000 times", "used before", |p| {
        p.node(|node| {
            let last = node["layers"][3].clone();
            node["layers"].as_array_mut().unwrap().extend(vec![last; 1_000]);
        });
    });
    c.refused(13, "the same embedding 1,000 times", "used before", |p| {
        p.node(|node| {
            let embedding = node["embeddings"][0].clone();
            node["embeddings"].as_array_mut().unwrap().extend(vec![embedding; 1_000]);
        });
    });
    c.refused(15, "a bias one short", "first.bias", |p| {
        p.tensors(|tensors| {
            let content = tensors.array("first.bias")[4..].to_vec();
            tensors.put("first.bias", "F32", &[content.len() as u64 / 4], &content);
        });
    });
    c.refused(17, "a layer less", "only those that the node names", |p| {
        p.node(|node| {
            node["layers"].as_array_mut().unwrap().pop();
        });
    });
    c.refused(20, "layer unknown", "unknown variant `magic`", |p| p.node(|node| node["layers"][2] = json!("magic")));
    c.refused(20, "link unknown", "unknown variant `magic`", |p| p.node(|node| node["link"] = json!("magic")));
    c.refused(18, "no layers", "only those that the node names", |p| p.node(|node| node["layers"] = json!([])));
    container(c, "first.weight", "weights.safetensors");
    cases
}

pub(crate) fn linear() -> Cases {
    let mut cases = Cases::new("linear");
    let c = &mut cases;
    c.refused(8, "more coefficients than features", "coefficients", |p| {
        p.node(|node| node["coefficients"][0].as_array_mut().unwrap().push(json!(1)));
    });
    for number in ["nan", "inf"] {
        c.refused(11, "a coefficient that is not finite", "coefficients", move |p| {
            p.node(|node| node["coefficients"][0][0] = json!(number));
        });
        c.refused(19, "an intercept that is not finite", "intercepts", move |p| {
            p.node(|node| node["intercepts"][0] = json!(number));
        });
    }
    c.refused(15, "more intercepts than outputs", "intercepts", |p| {
        p.node(|node| node["intercepts"].as_array_mut().unwrap().push(json!(1)));
    });
    c.refused(15, "rows of unequal length", "coefficients", |p| {
        p.node(|node| {
            node["coefficients"].as_array_mut().unwrap().push(json!([1]));
            node["intercepts"].as_array_mut().unwrap().push(json!(1));
        });
    });
    c.refused(18, "0 outputs", "graph.json", |p| {
        p.node(|node| {
            node["coefficients"] = json!([]);
            node["intercepts"] = json!([]);
        });
    });
    c.refused(18, "2^20 outputs", "graph.json", |p| {
        p.node(|node| {
            node["coefficients"] = json!(vec![json!([0, 0, 0]); 1 << 19]);
            node["intercepts"] = json!(vec![0; 1 << 19]);
        });
    });
    c.refused(20, "link unknown", "unknown variant `magic`", |p| p.node(|node| node["link"] = json!("magic")));
    c.refused(22, "a number of 1e999", "number out of range", |p| {
        p.replace("graph.json", "\"intercepts\": [", "\"intercepts\": [1e999,");
    });
    cases
}
